import type { Identity } from '@orientor/session-contract/core'
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
  /** Whether the token came again since the hand of its set last passed. */
  visited: boolean
}

/** Places in a set: wide enough that a table with half its places taken turns away one token in a hundred. */
const waysPerSet = 8
/** No signed token is shorter; what is cannot have been verified. */
const minTokenLength = 16

/**
 * Verified tokens and their identities, in a table of fixed size that is organised like a processor's cache: a few characters of the
 * signature, as good as random, name a set of eight places; tags tell which place to look at; and the whole token is compared, so that one
 * that only looks like a verified one is not found. A hit hashes no string, copies nothing and allocates nothing, and the table never
 * grows and never rehashes.
 *
 * A full set gives up what does not count any more, else the first token that nobody brought since the set's hand last came by.
 */
export class TokenCache {
  readonly #ways: number
  readonly #sets: number
  readonly #tags: Int32Array
  readonly #entries: Array<Entry | null>
  readonly #hands: Uint8Array
  #size = 0

  /** @param maxTokens - most tokens held, at least 1; the table has so many places, rounded down to a multiple of eight */
  constructor (maxTokens: number) {
    this.#ways = Math.min(waysPerSet, maxTokens)
    this.#sets = Math.floor(maxTokens / this.#ways)
    const places = this.#sets * this.#ways
    this.#tags = new Int32Array(places)
    this.#entries = new Array<Entry | null>(places).fill(null)
    this.#hands = new Uint8Array(this.#sets)
  }

  /** Tokens held. One that does not count any more is held until it is asked for, or its place is needed. */
  get size (): number {
    return this.#size
  }

  /** The identity of exactly this token, or null when it was not verified or does not count at this instant. */
  get (token: string, nowMs: number): Identity | null {
    if (token.length < minTokenLength) return null
    const tag = tagOf(token)
    const first = this.#firstPlaceOf(tag)
    for (let place = first; place < first + this.#ways; place++) {
      if (this.#tags[place] !== tag) continue
      const entry = this.#entries[place]!
      if (entry === null || entry.token !== token) continue
      if (nowMs < entry.fromMs) return null
      if (counts(entry, nowMs)) {
        if (!entry.visited) entry.visited = true
        return entry.identity
      }
      this.#entries[place] = null
      this.#size--
      return null
    }
    return null
  }

  /** Remembers a token, in the place of an older entry of the same token if there is one. */
  set (token: string, { identity, fromMs, untilMs, key }: VerifiedToken, nowMs: number): void {
    if (token.length < minTokenLength) return
    const tag = tagOf(token)
    const place = this.#placeFor(token, tag, nowMs)
    if (this.#entries[place] === null) this.#size++
    this.#tags[place] = tag
    this.#entries[place] = { token: flat(token), identity, fromMs, untilMs, key, visited: false }
  }

  #firstPlaceOf (tag: number): number {
    return ((tag >>> 0) % this.#sets) * this.#ways
  }

  #placeFor (token: string, tag: number, nowMs: number): number {
    const first = this.#firstPlaceOf(tag)
    let free = -1
    for (let place = first; place < first + this.#ways; place++) {
      const entry = this.#entries[place]!
      if (entry !== null && entry.token === token) return place
      if (free < 0 && (entry === null || !counts(entry, nowMs))) free = place
    }
    return free < 0 ? this.#victimIn(first) : free
  }

  #victimIn (first: number): number {
    const set = first / this.#ways
    for (;;) {
      const place = first + this.#hands[set]!
      this.#hands[set] = (this.#hands[set]! + 1) % this.#ways
      const entry = this.#entries[place]!
      if (!entry!.visited) return place
      entry!.visited = false
    }
  }
}

function counts (entry: Entry, nowMs: number): boolean {
  return nowMs < entry.untilMs && entry.key.trusted
}

/**
 * 32 bits of a token: five characters of its signature, mixed. The very last character is left out, as some of its bits are always 0.
 * Collisions cost a comparison, no more.
 */
function tagOf (token: string): number {
  const last = token.length - 1
  let mixed = token.charCodeAt(last - 1)
  for (let back = 2; back <= 5; back++) mixed = Math.imul(mixed, 65_599) + token.charCodeAt(last - back)
  return (mixed ^ (mixed >>> 15)) | 0
}

/** A copy on its own: V8 makes a slice a view that would keep the whole header line in memory. Tokens are ASCII. */
function flat (text: string): string {
  return Buffer.from(text, 'latin1').toString('latin1')
}
