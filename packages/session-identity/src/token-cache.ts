import type { Identity } from '@orientor/session-contract/core'
import QuickLRU from 'quick-lru'
import type { VerifyingKey } from './verifying-key.js'

/** What is kept of a verified token. */
export interface VerifiedToken {
  readonly identity: Identity
  /** The span in which the entry counts, wall clock, milliseconds since the epoch; the end is exclusive. */
  readonly fromMs: number
  readonly untilMs: number
  /** The entry counts only while its key is trusted. */
  readonly key: VerifyingKey
}

interface Entry extends VerifiedToken {
  readonly token: string
}

/** As many characters of a signature as fill the 32 bits of a tag. */
const tagLength = 6

/**
 * Verified tokens and their identities. Looked up by a tag of 32 bits, then compared whole: a token that shares only its tag with a
 * verified one is not found. Synchronous; a hit allocates nothing.
 *
 * A number is the key, as it is hashed ten times quicker than the end of the signature, and no copy of that has to be kept. Two tokens with
 * one tag take turns in one entry, which costs a verification each time: of 100,000 tokens one or two pairs do.
 */
export class TokenCache {
  readonly #entries: QuickLRU<number, Entry>

  /** @param maxTokens - most tokens in use that are kept; up to twice as many are held, since quick-lru keeps two generations of this size */
  constructor (maxTokens: number) {
    this.#entries = new QuickLRU({ maxSize: maxTokens })
  }

  /** Tokens in use, as quick-lru counts them: those of the older generation that nobody has asked for are left out when it is full. */
  get size (): number {
    return this.#entries.size
  }

  /** The identity of exactly this token, or null when it was not verified or does not count at this instant. */
  get (token: string, nowMs: number): Identity | null {
    const tag = tagOf(token)
    const entry = this.#entries.get(tag)
    if (entry === undefined || entry.token !== token) return null
    if (nowMs < entry.fromMs) return null
    if (nowMs < entry.untilMs && entry.key.trusted) return entry.identity
    this.#entries.delete(tag)
    return null
  }

  set (token: string, { identity, fromMs, untilMs, key }: VerifiedToken): void {
    this.#entries.set(tagOf(token), { token: flat(token), identity, fromMs, untilMs, key })
  }
}

/**
 * 32 bits of the signature: six characters of it, mixed. Only the holder of the key can make them, and they are as good as random. The very last
 * character is left out, as some of its bits are always 0.
 */
function tagOf (token: string): number {
  const end = token.length - 1
  let mixed = 0
  for (let at = end - tagLength; at < end; at++) mixed = Math.imul(mixed, 65_599) + token.charCodeAt(at)
  return (mixed ^ (mixed >>> 15)) | 0
}

/** A copy on its own: V8 makes a slice a view that would keep the whole header line in memory. Tokens are ASCII. */
function flat (text: string): string {
  return Buffer.from(text, 'latin1').toString('latin1')
}
