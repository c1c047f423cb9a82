import { count, plus, ratioOf, type Stats } from './component-stats.js'

/** What authentication costs the database. */
export interface DatabaseLoad {
  readonly authentications: number | null
  readonly statements: number | null
  /** `counted` by the component itself, or `estimated`: one read per user looked at and one write per user written, which batches undercut. */
  readonly statementsFrom: 'counted' | 'estimated' | null
  readonly statementsPerAuthentication: number | null
  readonly baselineStatementsPerAuthentication: number
  /** 1 − statements per authentication / baseline. Negative when more is sent than the baseline. */
  readonly reductionRatio: number | null
}

/** Statements per authentication of a service that looks its user up on every request: two or three, 2.1 on average. */
export const baselineStatementsPerAuthentication = 2.1

/** Authentications and the statements that they took. Without a cache every sync attempt is one authentication. */
export function databaseLoadOf (stats: ReadonlyMap<string, Stats>): DatabaseLoad {
  const sync = stats.get('databaseSync')
  const cache = stats.get('sessionCache')
  const authentications = count(cache, 'lookups') ?? plus(count(cache, 'cacheHits'), count(cache, 'cacheMisses')) ?? count(sync, 'attempts')
  const counted = count(sync, 'statements')
  const statements = counted ?? plus(count(sync, 'attempts'), count(sync, 'performed'))
  const statementsPerAuthentication = ratioOf(statements, authentications)
  return {
    authentications,
    statements,
    statementsFrom: statements === null ? null : counted === null ? 'estimated' : 'counted',
    statementsPerAuthentication,
    baselineStatementsPerAuthentication,
    reductionRatio: statementsPerAuthentication === null ? null : 1 - statementsPerAuthentication / baselineStatementsPerAuthentication
  }
}
