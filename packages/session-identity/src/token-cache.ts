import type { Identity } from '@orientor/session-contract/core'
import QuickLRU from 'quick-lru'
import type { VerifyingKey } from './verifying-key.js'

interface Entry {
  readonly token: string
  readonly tail: string
  readonly identity: Identity
  readonly fromMs: number
  readonly untilMs: number
  readonly key: VerifyingKey
}

/** What is kept of a verified token. */
export interface VerifiedToken {
  readonly identity: Identity
  /** The span in which the entry counts, wall clock, milliseconds since the epoch; the end is exclusive. */
  readonly fromMs: number
  readonly untilMs: number
  /** The entry counts only while its key is trusted. */
  readonly key: VerifyingKey
}

/** The end of a signature: 258 bits that only the holder of the key can make, and ten times quicker to hash than a whole token. */
const tailLength = 43

/**
 * Verified tokens and their identities. Looked up by the last 43 characters, then compared whole: a token that shares only its end with
 * a verified one is not found. Synchronous; a hit allocates nothing but the two strings it looks up with.
 */
export class TokenCache {
  readonly #entries: QuickLRU<string, Entry>

  /** @param maxTokens - most tokens held, at least 2 */
  constructor (maxTokens: number) {
    // quick-lru keeps two generations of maxSize each.
    this.#entries = new QuickLRU({ maxSize: Math.floor(maxTokens / 2) })
  }

  /** Tokens in use, as quick-lru counts them: those of the older generation that nobody has asked for are left out when it is full. */
  get size (): number {
    return this.#entries.size
  }

  /** The identity of exactly this token, or null when it was not verified or does not count at this instant. */
  get (token: string, nowMs: number): Identity | null {
    const entry = this.#entries.peek(token.slice(-tailLength))
    if (entry === undefined || entry.token !== token) return null
    if (nowMs < entry.fromMs) return null
    if (nowMs < entry.untilMs && entry.key.trusted) {
      // This use counts under the entry's own tail: quick-lru keeps the key that it is asked with when it renews an old entry.
      this.#entries.get(entry.tail)
      return entry.identity
    }
    this.#entries.delete(entry.tail)
    return null
  }

  set (token: string, { identity, fromMs, untilMs, key }: VerifiedToken): void {
    const tail = flat(token.slice(-tailLength))
    this.#entries.set(tail, { token: flat(token), tail, identity, fromMs, untilMs, key })
  }
}

/** A copy on its own: V8 makes a slice a view that would keep the whole header line in memory. Tokens are ASCII. */
function flat (text: string): string {
  return Buffer.from(text, 'latin1').toString('latin1')
}
