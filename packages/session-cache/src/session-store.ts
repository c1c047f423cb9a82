import type { SessionKeyHash } from '@orientor/session-contract/core'
import type { Leaving, SessionEntry } from './session-entry.js'

/** What happened to the entries of a store: `size = stored − evicted − expired − invalidated`, at every instant. */
export interface StoreCounts {
  /** Entries put where none was. */
  stored: number
  /** Entries put in the place of one with the same key. */
  replaced: number
  evicted: number
  expired: number
  invalidated: number
}

/** Entries in one shard, from which a Map's own rehash takes longer than an eviction. */
const entriesPerShard = 128
/** As many as three hexadecimal digits tell apart. */
const maxShards = 4096
/** How many entries one eviction may pass over; bounds the pause when all of them were hit since the hand last came by. */
const maxHandSteps = 512
/** How many entries of a cleared store each put takes apart. */
const dismantledPerPut = 64

/** Stands for all that was put between two clears; an entry knows the one that it lives in. */
interface Generation { readonly store: SessionStore }

/**
 * A bounded store of entries that keeps what is asked for again: SIEVE (Zhang et al., NSDI '24). One queue, newest first; a hit only sets
 * a bit; the hand walks from the oldest to the newest, spares what was hit, and evicts the first that was not. So the bound is strict and
 * global, and a scan of keys that are asked for once cannot drive out the others.
 *
 * The index is split over up to 4096 Maps by the key's hash, because a Map rehashes whole, in a pause that grows with its size.
 */
export class SessionStore {
  readonly maxEntries: number
  readonly counts: StoreCounts = { stored: 0, replaced: 0, evicted: 0, expired: 0, invalidated: 0 }
  /** Each is made when it is first needed: to drop all of them at once is to drop the list. */
  #shards: Array<Map<SessionKeyHash, SessionEntry> | undefined>
  readonly #mask: number
  #generation: Generation = { store: this }
  #size = 0
  #newest: SessionEntry | null = null
  #oldest: SessionEntry | null = null
  /** Where the next eviction begins to look; null: at the oldest. */
  #hand: SessionEntry | null = null
  /** What a clear left to be taken apart. */
  #dismantling: SessionEntry | null = null

  /** @param maxEntries - never exceeded, not even between two steps of a put */
  constructor (maxEntries: number) {
    this.maxEntries = maxEntries
    const shards = shardsFor(maxEntries)
    this.#mask = shards - 1
    this.#shards = new Array(shards).fill(undefined)
  }

  get size (): number {
    return this.#size
  }

  get shards (): number {
    return this.#shards.length
  }

  /** The entry under this hash, if any. Does not count as a hit. */
  get (keyHash: SessionKeyHash): SessionEntry | undefined {
    return this.#shards[this.#shardOf(keyHash)]?.get(keyHash)
  }

  /** Whether an entry that somebody remembers is still the one under its key. */
  holds (entry: SessionEntry): boolean {
    return entry.home === this.#generation
  }

  /** Why an entry that somebody remembers is not held; null when it never was in this store. */
  whyLeft (entry: SessionEntry): Leaving | 'cleared' | null {
    if (entry.left !== null) return entry.left
    const home = entry.home as Generation | null
    return home !== null && home.store === this && home !== this.#generation ? 'cleared' : null
  }

  /** Puts an entry. One with the same key gives it its place in the queue; else the store makes room first. Returns what it evicted for that. */
  put (entry: SessionEntry): SessionEntry | null {
    let evicted: SessionEntry | null = null
    this.#dismantle()
    const shard = this.#shards[this.#shardOf(entry.keyHash)] ??= new Map()
    const held = shard.get(entry.keyHash)
    if (held === undefined) {
      if (this.#size >= this.maxEntries) evicted = this.#evict()
      this.#linkNewest(entry)
      this.#size++
      this.counts.stored++
    } else {
      this.#takePlace(held, entry)
      this.counts.replaced++
    }
    entry.home = this.#generation
    shard.set(entry.keyHash, entry)
    return evicted
  }

  /** Takes an entry out; does nothing when it is not held. */
  remove (entry: SessionEntry, why: Exclude<Leaving, 'replaced'>): void {
    if (!this.holds(entry)) return
    this.#shards[this.#shardOf(entry.keyHash)]!.delete(entry.keyHash)
    if (this.#hand === entry) this.#hand = entry.newer
    if (entry.newer === null) this.#newest = entry.older
    else entry.newer.older = entry.older
    if (entry.older === null) this.#oldest = entry.newer
    else entry.older.newer = entry.newer
    leave(entry, why)
    this.#size--
    this.counts[why]++
  }

  /** Drops everything at once and returns how many entries that were. What they hold on to is let go piecemeal by later puts. */
  clear (): number {
    const dropped = this.#size
    this.#shards = new Array(this.#shards.length).fill(undefined)
    this.#generation = { store: this }
    this.#dismantleLater()
    this.#oldest = null
    this.#hand = null
    this.#size = 0
    this.counts.invalidated += dropped
    return dropped
  }

  /** Every entry, in no order. May be interrupted: what is put or removed meanwhile does not disturb it. */
  * entries (): Generator<SessionEntry, void, undefined> {
    for (let shard = 0; shard < this.#shards.length; shard++) {
      // Read anew each time, and asked again: a clear may have come between.
      for (const entry of this.#shards[shard]?.values() ?? []) if (this.holds(entry)) yield entry
    }
  }

  /** The entries that were put last, newest first. */
  newest (limit: number): readonly SessionEntry[] {
    const found: SessionEntry[] = []
    for (let entry = this.#newest; entry !== null && found.length < limit; entry = entry.older) found.push(entry)
    return found
  }

  #shardOf (keyHash: SessionKeyHash): number {
    const prefix = (hexDigit(keyHash.charCodeAt(0)) << 8) | (hexDigit(keyHash.charCodeAt(1)) << 4) | hexDigit(keyHash.charCodeAt(2))
    return prefix & this.#mask
  }

  #evict (): SessionEntry {
    let candidate = this.#hand ?? this.#oldest!
    for (let steps = 0; candidate.visited && steps < maxHandSteps; steps++) {
      candidate.visited = false
      candidate = candidate.newer ?? this.#oldest!
    }
    this.#hand = candidate
    this.remove(candidate, 'evicted')
    return candidate
  }

  #linkNewest (entry: SessionEntry): void {
    entry.older = this.#newest
    if (this.#newest === null) this.#oldest = entry
    else this.#newest.newer = entry
    this.#newest = entry
  }

  #takePlace (held: SessionEntry, entry: SessionEntry): void {
    entry.visited = held.visited
    entry.newer = held.newer
    entry.older = held.older
    if (held.newer === null) this.#newest = entry
    else held.newer.older = entry
    if (held.older === null) this.#oldest = entry
    else held.older.newer = entry
    if (this.#hand === held) this.#hand = entry
    leave(held, 'replaced')
  }

  /** Hangs the queue before what is being taken apart already. */
  #dismantleLater (): void {
    if (this.#oldest !== null) {
      this.#oldest.older = this.#dismantling
      this.#dismantling = this.#newest
    }
    this.#newest = null
  }

  /** One entry that a token remembers would otherwise keep the whole cleared queue in memory. */
  #dismantle (): void {
    for (let step = 0; step < dismantledPerPut && this.#dismantling !== null; step++) {
      const entry: SessionEntry = this.#dismantling
      this.#dismantling = entry.older
      entry.newer = null
      entry.older = null
    }
  }
}

function leave (entry: SessionEntry, why: Leaving): void {
  entry.home = null
  entry.left = why
  entry.newer = null
  entry.older = null
}

function shardsFor (maxEntries: number): number {
  let shards = 1
  while (shards < maxShards && maxEntries / shards > entriesPerShard) shards *= 2
  return shards
}

/** 0 to 15 for a lower-case hexadecimal digit. */
function hexDigit (code: number): number {
  return (code & 15) + (code >> 6) * 9
}
