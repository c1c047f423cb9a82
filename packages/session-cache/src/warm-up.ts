import { splitSessionKey, type Clock, type Deadline, type SessionKey } from '@orientor/session-contract/core'
import { isGood } from './freshness.js'
import type { SessionEntry } from './session-entry.js'
import type { UserSessionCache } from './user-session-cache.js'

/** What a preload or a renewal did. */
export interface WarmedUp {
  /** Users that are in memory now, by this call or from before. */
  readonly loaded: number
  /** Users that could not be loaded, or must not pass. */
  readonly failed: number
}

/** How a renewal goes about it. */
export interface RenewOptions {
  /** Most users to load, those that were asked for again first. Default is 10000. */
  readonly maxUsers?: number
  /** Batches of up to 500 users on their way at once. Default is 2. */
  readonly maxBatches?: number
  /** The renewal begins after a random part of this, in milliseconds, so that instances do not all begin at once. Default is 500. */
  readonly spreadMs?: number
}

/** How many users are asked for at once: one batch. */
const usersPerBatch = 500
/** How many entries are looked at before the event loop has its turn. */
const sliceEntries = 2048

type IsDone = (entry: SessionEntry, monotonicMs: number, wallMs: number) => boolean

/** Loads many users for one cache that nobody waits for: ahead of the requests, or anew. */
export class WarmUp {
  readonly #cache: UserSessionCache
  readonly #clock: Clock
  readonly #random: () => number
  readonly #maxEntries: number

  constructor (cache: UserSessionCache, parts: { readonly clock: Clock, readonly random: () => number, readonly maxEntries: number }) {
    this.#cache = cache
    this.#clock = parts.clock
    this.#random = parts.random
    this.#maxEntries = parts.maxEntries
  }

  async preload (keys: readonly SessionKey[], deadline?: Deadline): Promise<WarmedUp> {
    const wanted = [...new Set(keys)].slice(0, this.#maxEntries)
    let loaded = 0
    for (let start = 0; start < wanted.length && deadline?.signal.aborted !== true; start += usersPerBatch) {
      loaded += await this.#loadBatch(wanted.slice(start, start + usersPerBatch), (entry, monotonicMs, wallMs) => isGood(this.#cache.judge(entry, null, monotonicMs, wallMs)))
    }
    return { loaded, failed: wanted.length - loaded }
  }

  /**
   * @param entries - all that there are, in any order
   * @param isDone - whether an entry need not be loaded anew
   * @param isOver - whether there is no point in going on
   */
  async renew (entries: () => Iterable<SessionEntry>, isDone: (entry: SessionEntry) => boolean, isOver: () => boolean, options: RenewOptions): Promise<WarmedUp> {
    const { maxUsers = 10_000, maxBatches = 2, spreadMs = 500 } = options
    const suspects = hottestFirst(entries, entry => !isDone(entry))
    await this.#pause(spreadMs * this.#random())
    let asked = 0
    let loaded = 0
    let open = true
    const nextBatch = async (): Promise<SessionKey[]> => {
      const keys: SessionKey[] = []
      while (open && keys.length < usersPerBatch && asked < maxUsers) {
        const next = suspects.next()
        if (next.done === true || isOver()) open = false
        else if (next.value === null) await this.#pause(0)
        else {
          asked++
          keys.push(next.value.key)
        }
      }
      return keys
    }
    const lane = async (): Promise<void> => {
      for (let keys = await nextBatch(); keys.length > 0; keys = await nextBatch()) {
        // Not in one expression with the await: another lane adds to it meanwhile.
        const loadedHere = await this.#loadBatch(keys, isDone)
        loaded += loadedHere
      }
    }
    await Promise.all(Array.from({ length: maxBatches }, lane))
    return { loaded, failed: asked - loaded }
  }

  async #loadBatch (keys: readonly SessionKey[], isDone: IsDone): Promise<number> {
    const loaded = await Promise.all(keys.map(key => this.#loadOne(key, isDone)))
    return loaded.filter(Boolean).length
  }

  async #loadOne (key: SessionKey, isDone: IsDone): Promise<boolean> {
    const monotonicMs = this.#clock.monotonic()
    const wallMs = this.#clock.now()
    const known = this.#cache.get(key)
    if (known !== null && isDone(known, monotonicMs, wallMs)) return known.active
    const request = { key, ...splitSessionKey(key), identity: null }
    try {
      const landing = await this.#cache.load(request, { monotonicMs, wallMs, maxAgeMs: Infinity, hintMs: -Infinity, byIdentity: false, forced: false })
      return landing.entry?.active === true
    } catch {
      // Counted by the load; warming up is a convenience.
      return false
    }
  }

  #pause (delayMs: number): Promise<void> {
    return new Promise(resolve => { this.#clock.setTimer(resolve, delayMs) })
  }
}

/** The entries that `isSuspect` names, those that were hit before the others; null after each slice of entries that were looked at. */
function * hottestFirst (entries: () => Iterable<SessionEntry>, isSuspect: (entry: SessionEntry) => boolean): Generator<SessionEntry | null, void> {
  let looked = 0
  for (const visited of [true, false]) {
    for (const entry of entries()) {
      if (entry.visited === visited && isSuspect(entry)) yield entry
      if (++looked % sliceEntries === 0) yield null
    }
  }
}
