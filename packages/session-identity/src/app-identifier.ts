import { anonymous, outcomeOfThrown, refused, type Identity, type Sync, type Unresolved } from '@orientor/session-contract/core'
import { isVerdict, isWithoutCredentials } from './jwt-error.js'
import type { Identify } from './identify.js'
import type { TokenVerifierStats } from './token-verifier.js'

/**
 * The application's own way to identify requests, with its results counted by the rules of TokenVerifierStats: each request that names
 * a user is `verified`, as nothing is remembered here; one without credentials, and a defect, is not counted.
 *
 * What it throws or rejects with becomes an outcome: what `@fastify/jwt` throws for want of credentials is anonymous, what its verifier throws of a token a
 * refusal, and anything else what outcomeOfThrown() says: a refusal with the status of the error where that is from 400 to 499.
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
      return this.#count(withoutIdentity(error))
    }
    if (typeof (found as Promise<unknown> | undefined)?.then !== 'function') return this.#count(found as Identity | Unresolved)
    return (found as Promise<Identity | Unresolved>).then(settled => this.#count(settled), (error: unknown) => this.#count(withoutIdentity(error)))
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

const notAccepted = refused('invalid_token', 'The credentials are not accepted')

function withoutIdentity (error: unknown): Unresolved {
  if (isWithoutCredentials(error)) return anonymous
  const outcome = outcomeOfThrown(error)
  return outcome.kind === 'failed' && isVerdict(error) ? notAccepted : outcome
}
