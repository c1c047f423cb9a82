import type { Identity, Sync, Unresolved } from '@orientor/session-contract/core'
import type { Identify } from './identify.js'
import { outcomeOfJwtError } from './jwt-error.js'
import type { TokenVerifierStats } from './token-verifier.js'

/**
 * The application's own way to identify requests, with its results counted by the rules of TokenVerifierStats: each request that names
 * a user is `verified`, as nothing is remembered here; one without credentials, and a defect, is not counted. What it throws or
 * rejects with becomes the outcome that outcomeOfJwtError() says.
 */
export class AppIdentifier {
  readonly #identify: Identify
  readonly #counts = { verified: 0, refused: 0, unavailable: 0 }

  constructor (identify: Identify) {
    this.#identify = identify
  }

  /** Synchronous when the application is. */
  identify (...request: Parameters<Identify>): Sync<Identity | Unresolved> {
    let found: Sync<Identity | Unresolved> | undefined
    try {
      found = this.#identify(...request)
    } catch (error) {
      return this.#count(outcomeOfJwtError(error))
    }
    if (typeof (found as Promise<unknown> | undefined)?.then !== 'function') return this.#count(found as Identity | Unresolved)
    return (found as Promise<Identity | Unresolved>).then(settled => this.#count(settled), (error: unknown) => this.#count(outcomeOfJwtError(error)))
  }

  stats (): TokenVerifierStats {
    return Object.freeze({ ...this.#counts, hits: 0, pending: 0, cachedTokens: 0 })
  }

  /** @param found - what is neither identity nor outcome is for the hub to refuse */
  #count (found: Identity | Unresolved): Identity | Unresolved {
    const kind = (found as Identity | Unresolved | undefined)?.kind
    if (kind === 'identity') this.#counts.verified++
    else if (kind === 'refused' || kind === 'unavailable') this.#counts[kind]++
    return found
  }
}
