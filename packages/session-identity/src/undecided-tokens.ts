import { createHash } from 'node:crypto'
import QuickLRU from 'quick-lru'
import type { Arrival } from './jwks-source.js'

/** Most tokens remembered. Any client can send tokens of unknown keys; beyond that the oldest are forgotten. */
const maxTokens = 1000

/**
 * When tokens that no key at hand had signed came first. A client that sends one again when it is told to would otherwise always come just after the
 * fetch that its last try asked for, and never learn that the token is bad. Kept by the SHA-256 of the token, not by the token.
 */
export class UndecidedTokens {
  readonly #arrivals = new QuickLRU<string, Arrival>({ maxSize: maxTokens })

  /** The first arrival; undefined when this is the first, or it is forgotten. */
  firstArrivalOf (token: string): Arrival | undefined {
    return this.#arrivals.get(digestOf(token))
  }

  /** Remembers an arrival, unless an earlier one is known. */
  add (token: string, arrival: Arrival): void {
    const digest = digestOf(token)
    if (!this.#arrivals.has(digest)) this.#arrivals.set(digest, arrival)
  }
}

function digestOf (token: string): string {
  return createHash('sha256').update(token).digest('base64')
}
