import type { Deadline } from '@orientor/session-contract/core'
import type { ObservedProfile } from './observation.js'

/** The answer of a provider about one subject. */
export type ProviderAnswer =
  | { readonly kind: 'found', readonly profile: ObservedProfile, /** Milliseconds since the epoch; null when it does not say. */ readonly version: number | null }
  | { readonly kind: 'unknown' }
  /** It could not be asked. `retryAfterMs` is when asking again makes sense, if it said. */
  | { readonly kind: 'failed', readonly error: Error, readonly retryAfterMs?: number }

/**
 * The urgency of a look-up, for a provider that must not be asked as often as one likes: `interactive`, a request waits
 * for it; `webhook`, the sender of an event does, or a user who has a row and is answered as stored meanwhile;
 * `backfill`, no request does (a preload, a reconciliation).
 */
export type LookUpPriority = 'interactive' | 'webhook' | 'backfill'

/**
 * The source of profiles: the identity provider's own API. `identityProviderConformance` of
 * `@orientor/smart-sync/testing` holds the cases that each has to pass.
 */
export interface IdentityProvider {
  /**
   * Whether this provider answers for the users of the issuer. For others the claims of the token are taken. Asked with
   * any text, as often as one likes: throws never, and says the same each time.
   */
  serves (issuer: string): boolean
  /**
   * Looks users up, all at once. Answers for every subject and rejects never: what fails is an answer too. A subject
   * that the answer leaves out counts as failed.
   *
   * @param subjects - any texts, exact to the byte: what only resembles the id of a user is unknown
   * @param deadline - when its signal aborts, the look-up ends with what it has
   * @param priority - default is `interactive`
   */
  lookUp (
    issuer: string, subjects: readonly string[], deadline: Deadline, priority?: LookUpPriority
  ): Promise<ReadonlyMap<string, ProviderAnswer>>
}
