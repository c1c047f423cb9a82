import { count, plus, ratioOf, type Stats } from './component-stats.js'
import { databaseLoadOf, type DatabaseLoad } from './database-load.js'
import { poolLoad, type PoolLoad } from './pool-load.js'
import { ratingBasisOf, ratingOf, targetsOf, type Rating, type RatingBasis, type Target } from './rating.js'
import type { ResponseTimeSummary } from './response-times.js'
import type { TrendPoint } from './trend.js'

/** One layer of caching. Every number is null where it is not known. */
export interface CacheLayer {
  readonly hits: number | null
  readonly misses: number | null
  readonly hitRatio: number | null
  readonly entries: number | null
  readonly evictions: number | null
  readonly invalidations: number | null
}

/** Synchronisation with the provider; counts of users. */
export interface SyncLoad {
  readonly attempts: number | null
  readonly performed: number | null
  readonly skipped: number | null
  readonly errors: number | null
  readonly profileCreates: number | null
  /** skipped / attempts */
  readonly skipRatio: number | null
}

/** How the service performs since it started. Times are in milliseconds, ratios from 0 to 1, null is "not known". */
export interface PerformanceReport {
  readonly generatedAtMs: number
  readonly observedForMs: number
  /** null as long as fewer than three targets are judged, each from 100 samples on. */
  readonly rating: Rating | null
  readonly ratingBasis: RatingBasis
  readonly targets: readonly Target[]
  readonly databaseLoad: DatabaseLoad
  /** null: no such plugin in scope. */
  readonly cacheLayers: { readonly verifiedTokens: CacheLayer | null, readonly sessions: CacheLayer | null }
  readonly databaseSync: SyncLoad | null
  readonly connectionPool: PoolLoad | null
  readonly responses: Responses
  /** Requests to these routes that were refused. */
  readonly refusedAccesses: number
  /** What each component counts, in its own words. */
  readonly components: Readonly<Record<string, Stats>>
  /** One point a minute, oldest first, of the last hour. */
  readonly history: readonly TrendPoint[]
}

/** The responses of the scope, the ones of these routes apart. */
export interface Responses {
  readonly count: number
  readonly serverErrors: number
  /** Share of responses without a server error (5xx). */
  readonly reliabilityRatio: number | null
  readonly times: ResponseTimeSummary
  /** Those whose user came from the cache. */
  readonly cacheHitTimes: ResponseTimeSummary
}

/** What a report is made of. */
export interface Observations {
  readonly generatedAtMs: number
  readonly observedForMs: number
  readonly stats: ReadonlyMap<string, Stats>
  readonly responses: Responses
  readonly refusedAccesses: number
  readonly history: readonly TrendPoint[]
}

/** Makes the report of what was observed. */
export function performanceReport (observed: Observations): PerformanceReport {
  const { stats, responses } = observed
  const sessions = sessionLayer(stats.get('sessionCache'))
  const databaseSync = syncLoad(stats.get('databaseSync'))
  const databaseLoad = databaseLoadOf(stats)
  const connectionPool = poolLoad(stats.get('connectionPool'))
  const targets = targetsOf({
    databaseLoadReductionRatio: { value: databaseLoad.reductionRatio, samples: databaseLoad.authentications },
    cacheHitRatio: { value: sessions?.hitRatio ?? null, samples: plus(sessions?.hits ?? null, sessions?.misses ?? null) },
    cacheHitResponseMs: { value: responses.cacheHitTimes.averageMs, samples: responses.cacheHitTimes.count },
    syncSkipRatio: { value: databaseSync?.skipRatio ?? null, samples: databaseSync?.attempts ?? null },
    poolEfficiencyRatio: { value: connectionPool?.efficiencyRatio ?? null, samples: connectionPool?.checkouts ?? null },
    reliabilityRatio: { value: responses.reliabilityRatio, samples: responses.count }
  })
  return {
    generatedAtMs: observed.generatedAtMs,
    observedForMs: observed.observedForMs,
    rating: ratingOf(targets),
    ratingBasis: ratingBasisOf(targets),
    targets,
    databaseLoad,
    cacheLayers: { verifiedTokens: tokenLayer(stats.get('sessionIdentity')), sessions },
    databaseSync,
    connectionPool,
    responses,
    refusedAccesses: observed.refusedAccesses,
    components: Object.fromEntries(stats),
    history: observed.history
  }
}

function sessionLayer (stats: Stats | undefined): CacheLayer | null {
  return stats === undefined ? null : cacheLayer(stats, 'cacheHits', 'cacheMisses', 'entries')
}

function tokenLayer (stats: Stats | undefined): CacheLayer | null {
  return stats === undefined ? null : cacheLayer(stats, 'hits', 'verified', 'cachedTokens')
}

function cacheLayer (stats: Stats, hitsKey: string, missesKey: string, entriesKey: string): CacheLayer {
  const hits = count(stats, hitsKey)
  const misses = count(stats, missesKey)
  return {
    hits,
    misses,
    hitRatio: ratioOf(hits, plus(hits, misses)),
    entries: count(stats, entriesKey),
    evictions: count(stats, 'evictions'),
    invalidations: count(stats, 'invalidations')
  }
}

function syncLoad (stats: Stats | undefined): SyncLoad | null {
  if (stats === undefined) return null
  const attempts = count(stats, 'attempts')
  const skipped = count(stats, 'skipped')
  return {
    attempts,
    performed: count(stats, 'performed'),
    skipped,
    errors: count(stats, 'errors'),
    profileCreates: count(stats, 'profileCreates'),
    skipRatio: ratioOf(skipped, attempts)
  }
}
