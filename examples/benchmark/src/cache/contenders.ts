import type { SessionKeyHash } from '@orientor/session-contract/core'
import { LRUCache } from 'lru-cache'
import { LRUMap } from 'mnemonist'
import QuickLRU from 'quick-lru'
import { SessionEntry } from '@orientor/session-cache/core'
// The store is not exported; the benchmark measures it apart from the cache that it is part of.
import { SessionStore } from '../../../../packages/session-cache/dist/session-store.js'
import { issuer, recordOf, subjectOf } from './population.js'
import { sessionKey } from '@orientor/session-contract/core'

/** A bounded store as the measurements see it. */
export interface Contender {
  /** Looks a key up, as a hit does; false when it is not there. */
  get (keyHash: SessionKeyHash): boolean
  set (keyHash: SessionKeyHash): void
  /** How many entries there are; null where counting them walks through them. */
  readonly size: number | null
  /** Marks everything as hit, where a store keeps marks: then its next eviction is the slowest. */
  markAll (): void
  clear (): void
}

const record = recordOf({ subject: subjectOf(0) })
const key = sessionKey(issuer, subjectOf(0))

/** The store of session-cache, and with each set the making of an entry. */
function sessionStore (maxEntries: number): Contender {
  const store = new SessionStore(maxEntries)
  let loadedAtMs = 0.5
  return {
    get (keyHash) {
      const entry = store.get(keyHash)
      if (entry === undefined) return false
      entry.visited = true
      return true
    },
    set (keyHash) {
      loadedAtMs += 0.25
      store.put(new SessionEntry({
        key, keyHash, record, loadedAtMs, loadedWallMs: 1_760_000_000_000 + loadedAtMs, refreshAfterMs: 700_000.5, expireAfterMs: 900_000.5, staleIfErrorMs: 900_000.5, epoch: 0, hintMs: -Infinity
      }))
    },
    get size () { return store.size },
    markAll () { for (const entry of store.entries()) entry.visited = true },
    clear () { store.clear() }
  }
}

/** A true LRU: a Map keeps the order of insertion, so a hit deletes and adds anew. */
function mapLru (maxEntries: number): Contender {
  const entries = new Map<SessionKeyHash, object>()
  return {
    get (keyHash) {
      const entry = entries.get(keyHash)
      if (entry === undefined) return false
      entries.delete(keyHash)
      entries.set(keyHash, entry)
      return true
    },
    set (keyHash) {
      if (entries.size >= maxEntries && !entries.has(keyHash)) entries.delete(entries.keys().next().value!)
      entries.set(keyHash, record)
    },
    get size () { return entries.size },
    markAll () {},
    clear () { entries.clear() }
  }
}

/** quick-lru keeps two generations of its `maxSize`, so this is half of ours. */
function quickLru (maxEntries: number): Contender {
  const entries = new QuickLRU<SessionKeyHash, object>({ maxSize: Math.max(1, Math.floor(maxEntries / 2)) })
  return { ...ofLibrary(entries, () => { entries.clear() }), size: null }
}

function lruCache (maxEntries: number): Contender {
  const entries = new LRUCache<SessionKeyHash, object>({ max: maxEntries })
  return ofLibrary(entries, () => { entries.clear() })
}

function mnemonistLru (maxEntries: number): Contender {
  const entries = new LRUMap<SessionKeyHash, object>(maxEntries)
  return ofLibrary(entries, () => { entries.clear() })
}

function ofLibrary (entries: { get (key: SessionKeyHash): object | undefined, set (key: SessionKeyHash, value: object): unknown, readonly size: number }, clear: () => void): Contender {
  return {
    get: keyHash => entries.get(keyHash) !== undefined,
    set: keyHash => { entries.set(keyHash, record) },
    get size () { return entries.size },
    markAll () {},
    clear
  }
}

export const contenders = {
  'session-cache': sessionStore,
  'Map as LRU': mapLru,
  'quick-lru': quickLru,
  'lru-cache': lruCache,
  mnemonist: mnemonistLru
} as const

export type ContenderName = keyof typeof contenders
export const contenderNames = Object.keys(contenders) as ContenderName[]
