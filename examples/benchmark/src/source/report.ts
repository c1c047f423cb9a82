import { figure, table } from '../measure/table.js'
import type { Measured, Part } from './part.js'

/** What one authentication may cost the database, in statements. */
const goals = { cold: 0.12, sustained: 0.001 } as const

/** The parts as a table, and what the two ways of counting say. */
export function report ({ cold, sustained }: { readonly cold: Measured, readonly sustained: Measured }): string {
  const row = (name: string, key: keyof Part, baseline: (measured: Measured) => number | null = () => null): string[] =>
    [name, ...[cold, sustained].flatMap(measured => [figure(measured.part[key]), figure(baseline(measured))])]
  const goal = (name: keyof typeof goals, { part }: Measured): string =>
    `${name}: ${figure(part.statementsPerAuth)} statements per authentication; the goal is at most ${goals[name]}: ${part.statementsPerAuth <= goals[name] ? 'met' : 'MISSED'}`
  const count = (name: string, { counted }: Measured): string =>
    `${name}: ${figure(counted.authentications)} authentications, ${figure(counted.statements)} statements by the database's count, ${figure(counted.ownStatements)} by smart-sync's own (${counted.statements === counted.ownStatements ? 'they agree' : 'THEY DIFFER'}); they served ${figure(counted.loads)} loads of the cache`
  return [
    table([
      ['', 'first 1,000', 'usual way', 'sustained', 'usual way'],
      row('statements per authentication', 'statementsPerAuth', ({ part }) => part.baselineStatementsPerAuth),
      row('reduction', 'reduction'),
      row('cache hit rate', 'hitRate'),
      row('sync skip rate', 'syncSkipRate'),
      row('authentications per second', 'opsPerSecond', ({ baseline }) => baseline.opsPerSecond),
      row('average, ms', 'averageMs', ({ part }) => part.baselineAverageMs),
      row('p50, ms', 'p50Ms', ({ baseline }) => baseline.p50Ms),
      row('p99, ms', 'p99Ms', ({ baseline }) => baseline.p99Ms),
      row('pool utilisation', 'poolUtilisation'),
      row('execution time, ms', 'executionTimeMs', ({ baseline }) => baseline.executionTimeMs)
    ]),
    '',
    goal('cold', cold),
    goal('sustained', sustained),
    '',
    count('first 1,000', cold),
    count('sustained', sustained)
  ].join('\n')
}
