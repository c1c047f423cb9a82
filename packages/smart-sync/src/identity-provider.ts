import type { Deadline } from '@orientor/session-contract/core'
import type { ObservedProfile } from './observation.js'

/** What a provider answered about one subject. */
export type ProviderAnswer =
  | { readonly kind: 'found', readonly profile: ObservedProfile, /** Milliseconds since the epoch; null when it does not say. */ readonly version: number | null }
  | { readonly kind: 'unknown' }
  /** It could not be asked. `retryAfterMs` is when asking again makes sense, if it said. */
  | { readonly kind: 'failed', readonly error: Error, readonly retryAfterMs?: number }

/** Where profiles come from: the identity provider's own API. */
export interface IdentityProvider {
  /** Whether this provider answers for the users of the issuer. For others the claims of the token are taken. */
  serves (issuer: string): boolean
  /**
   * Looks users up, all at once. Answers for every subject and rejects never: what fails is an answer too. A subject that the answer
   * leaves out counts as failed.
   */
  lookUp (issuer: string, subjects: readonly string[], deadline: Deadline): Promise<ReadonlyMap<string, ProviderAnswer>>
}
