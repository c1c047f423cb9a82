import { count, plus, ratioOf, type Stats } from './component-stats.js'
import { databaseLoadOf } from './database-load.js'
import { poolUtilisationOf } from './pool-load.js'

/** Counters at one instant, as totals since the start. */
export interface Reading {
  readonly atMs: number
  readonly responses: number
  readonly responseMs: number
  readonly serverErrors: number
  readonly stats: ReadonlyMap<string, Stats>
}

/** What happened between two readings. null where nothing happened or it is not known. */
export interface TrendPoint {
  /** End of the interval, wall clock. */
  readonly atMs: number
  readonly responses: number
  readonly averageMs: number | null
  readonly serverErrors: number
  readonly cacheHitRatio: number | null
  readonly syncSkipRatio: number | null
  readonly statementsPerAuthentication: number | null
  /** At the end of the interval. */
  readonly poolUtilisationRatio: number | null
}

/** The point of the interval between two readings. */
export function trendPoint (from: Reading, to: Reading): TrendPoint {
  const counted = (component: string, key: string): number | null => grown(count(from.stats.get(component), key), count(to.stats.get(component), key))
  const hits = counted('sessionCache', 'cacheHits')
  const [before, after] = [databaseLoadOf(from.stats), databaseLoadOf(to.stats)]
  const responses = to.responses - from.responses
  return Object.freeze({
    atMs: to.atMs,
    responses,
    averageMs: ratioOf(to.responseMs - from.responseMs, responses),
    serverErrors: to.serverErrors - from.serverErrors,
    cacheHitRatio: ratioOf(hits, plus(hits, counted('sessionCache', 'cacheMisses'))),
    syncSkipRatio: ratioOf(counted('databaseSync', 'skipped'), counted('databaseSync', 'attempts')),
    statementsPerAuthentication: ratioOf(grown(before.statements, after.statements), grown(before.authentications, after.authentications)),
    poolUtilisationRatio: poolUtilisationOf(to.stats.get('connectionPool'))
  })
}

/** How much a counter grew; null where that is not known, or where it began again. */
function grown (from: number | null, to: number | null): number | null {
  return from === null || to === null || to < from ? null : to - from
}
