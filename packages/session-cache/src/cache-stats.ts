import type { StoreCounts } from './session-store.js'
import type { GateStats } from './source-gate.js'

/** Why a lookup found nothing to serve. */
export type MissReason = 'cold' | 'expired' | 'evicted' | 'invalidated' | 'epoch' | 'staleness' | 'hint'

/**
 * A snapshot of what the cache counted since it was made. Rules of counting, true at every instant:
 *
 * - Every lookup that was answered is exactly one of hit, stale, negative, miss:
 *   `lookups = cacheHits + staleHits + negativeHits + cacheMisses`. It counts when it is answered. A lookup that ends in an error, or
 *   for which the source could not be asked, is a miss.
 * - Every miss has one reason: `cacheMisses` is the sum of the seven `misses…`.
 * - `entries = stored − evictions − expired − invalidations`. Entries of users who must not pass are kept and counted apart.
 * - Waiters share loads: `loads` may be far below `cacheMisses`. Preloads and loads behind a hit are loads without a lookup.
 */
export type CacheStats = Readonly<{
  /** Lookups answered by a fresh entry, without waiting. */
  cacheHits: number
  /** Lookups answered by a load, or by its failure. */
  cacheMisses: number
  /** Loads whose record says that the provider's data was taken over. */
  databaseSyncs: number
  /** Loads whose record says that there was nothing to take over. */
  syncSkips: number
  /** Entries that made room for others. */
  evictions: number
  /** Entries dropped because somebody said that they are out of date, or a load did (the user must not pass any more). */
  invalidations: number

  lookups: number
  /** Lookups answered by an expired entry, marked stale, because the source could not be asked. */
  staleHits: number
  /** Lookups answered by a remembered "must not pass". */
  negativeHits: number
  /** Misses by reason: never seen, or not known any more why. */
  missesCold: number
  /** Older than `expireAfterMs`. */
  missesExpired: number
  /** Evicted; known only for a token that was served from the entry before, as in the next two. */
  missesEvicted: number
  /** Invalidated by name. */
  missesInvalidated: number
  /** Dropped with everything else, or loaded in an epoch of the bus that has ended, and not proven since for longer than the bound. */
  missesEpoch: number
  /** Younger than `expireAfterMs`, but not known to be within the bound of the bus or of the route. */
  missesStaleness: number
  /** Older than a claim of the token says that the user is. */
  missesHint: number

  /** Loads begun. */
  loads: number
  /** Loads that failed: the source was not to be had, or it is broken. */
  loadFailures: number
  /** Loads that were overtaken by an invalidation: their waiters were answered, their records not stored. */
  loadsOvertaken: number
  /** Loads that read where what the bus proves does not hold: their waiters were answered, their records not stored. */
  loadsElsewhere: number
  /** Loads whose record says that the sync with the provider failed. */
  syncFailures: number
  /** Loads begun behind a hit. */
  refreshes: number

  stored: number
  /** Entries that took the place of an older one of the same user. */
  replaced: number
  /** Entries dropped because they were too old even to be served stale. */
  expired: number
  entries: number
  negativeEntries: number
  /** Loads on their way. */
  inFlight: number
  /** Lookups that wait for one. */
  waiting: number
}>

/** What a cache and the gate to its source counted. */
export type SessionCacheStats = CacheStats & GateStats

/** The counters of one cache that are not the store's. */
export class CacheCounters {
  hits = 0
  stale = 0
  negative = 0
  loads = 0
  loadFailures = 0
  lastLoadFailed = false
  /** Whether the last load that could have been stored was not, since it read elsewhere than the bus polls. */
  isLastElsewhere = false
  loadsOvertaken = 0
  loadsElsewhere = 0
  refreshes = 0
  readonly syncs = { performed: 0, skipped: 0, failed: 0 }
  readonly misses: { [R in MissReason]: number } = { cold: 0, expired: 0, evicted: 0, invalidated: 0, epoch: 0, staleness: 0, hint: 0 }

  get missed (): number {
    return Object.values(this.misses).reduce((sum, count) => sum + count, 0)
  }
}

/** What a cache holds right now. */
export type CacheGauges = Pick<CacheStats, 'entries' | 'negativeEntries' | 'inFlight' | 'waiting'>

/** A snapshot from the counters of a cache and of its store of users. */
export function statsOf (counters: CacheCounters, counts: StoreCounts, gauges: CacheGauges): CacheStats {
  const cacheMisses = counters.missed
  return Object.freeze({
    cacheHits: counters.hits,
    cacheMisses,
    databaseSyncs: counters.syncs.performed,
    syncSkips: counters.syncs.skipped,
    evictions: counts.evicted,
    invalidations: counts.invalidated,
    lookups: counters.hits + counters.stale + counters.negative + cacheMisses,
    staleHits: counters.stale,
    negativeHits: counters.negative,
    missesCold: counters.misses.cold,
    missesExpired: counters.misses.expired,
    missesEvicted: counters.misses.evicted,
    missesInvalidated: counters.misses.invalidated,
    missesEpoch: counters.misses.epoch,
    missesStaleness: counters.misses.staleness,
    missesHint: counters.misses.hint,
    loads: counters.loads,
    loadFailures: counters.loadFailures,
    loadsOvertaken: counters.loadsOvertaken,
    loadsElsewhere: counters.loadsElsewhere,
    syncFailures: counters.syncs.failed,
    refreshes: counters.refreshes,
    stored: counts.stored,
    replaced: counts.replaced,
    expired: counts.expired,
    ...gauges
  })
}
