import type { Identity, Sync, Unresolved } from '@orientor/session-contract/core'
import type { IdentifiableRequest, Identify } from './identify.js'
import type { TokenVerifierStats } from './token-verifier.js'

/**
 * The application's own way to identify requests, with its results counted by the rules of TokenVerifierStats: each request that names
 * somebody is `verified`, as nothing is remembered here; one without credentials is not counted.
 */
export class AppIdentifier {
  readonly #identify: Identify
  readonly #counts = { verified: 0, refused: 0, unavailable: 0 }

  constructor (identify: Identify) {
    this.#identify = identify
  }

  /** Synchronous when the application is. */
  identify (request: IdentifiableRequest): Sync<Identity | Unresolved> {
    const found = this.#identify(request)
    return 'then' in found ? found.then(settled => this.#count(settled)) : this.#count(found)
  }

  stats (): TokenVerifierStats {
    return Object.freeze({ ...this.#counts, hits: 0, pending: 0, cachedTokens: 0 })
  }

  #count (found: Identity | Unresolved): Identity | Unresolved {
    if (found.kind === 'identity') this.#counts.verified++
    else if (found.kind === 'refused' || found.kind === 'unavailable') this.#counts[found.kind]++
    return found
  }
}
