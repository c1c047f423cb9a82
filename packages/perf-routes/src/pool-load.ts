import { count, plus, ratioOf, type Stats } from './component-stats.js'

/** The connection pool; counts of connections. */
export interface PoolLoad {
  readonly total: number | null
  readonly idle: number | null
  readonly active: number | null
  /** Callers in the queue. */
  readonly waiting: number | null
  readonly size: number | null
  readonly maxOverflow: number | null
  readonly checkouts: number | null
  /** active / (size + maxOverflow) */
  readonly utilisationRatio: number | null
  /** Checkouts served at once by an idle connection / all checkouts. */
  readonly efficiencyRatio: number | null
}

/** The load of the pool; null where there is none. */
export function poolLoad (stats: Stats | undefined): PoolLoad | null {
  if (stats === undefined) return null
  const checkouts = count(stats, 'checkouts')
  return {
    total: count(stats, 'total'),
    idle: count(stats, 'idle'),
    active: count(stats, 'active'),
    waiting: count(stats, 'waiting'),
    size: count(stats, 'size'),
    maxOverflow: count(stats, 'maxOverflow'),
    checkouts,
    utilisationRatio: poolUtilisationOf(stats),
    efficiencyRatio: ratioOf(count(stats, 'immediateCheckouts'), checkouts)
  }
}

/** Connections in use as a share of the most there may be. */
export function poolUtilisationOf (stats: Stats | undefined): number | null {
  return ratioOf(count(stats, 'active'), plus(count(stats, 'size'), count(stats, 'maxOverflow') ?? 0))
}
