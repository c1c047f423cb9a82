import { median } from '../measure/median.js'
import { figure, table } from '../measure/table.js'
import type { OneUser } from './one-user.js'
import type { Rush } from './rush.js'

/** The goals for 10,000 users; each is the most there may be. */
const goals = { statements: 150, providerCalls: 110, deadlocks: 0, unserved: 0 } as const
/** The number of users that the goals are for. */
export const judgedUsers = 10_000

/** The runs of each way in. */
export interface ColdRuns {
  readonly users: number
  /** The stack, on an instance that has just started. */
  readonly cold: readonly Rush[]
  /** The stack, on an instance that has the provider's keys already. */
  readonly keyed: readonly Rush[]
  readonly usual: Rush
  readonly one: OneUser
}

/** The result of some runs: of counts the worst, of times the median. */
export interface RushResult {
  readonly statements: number
  readonly providerCalls: number
  readonly deadlocks: number
  readonly unserved: number
  readonly elapsedMs: number
  readonly p50Ms: number
  readonly p99Ms: number
}

/** The figures as one object. */
export interface ColdResult extends RushResult {
  readonly users: number
  readonly runs: number
  readonly keysAtHand: RushResult
  readonly usualWay: RushResult
  readonly oneUser: OneUser
}

/** Computes the figures of some runs. */
export function resultOfRuns (runs: readonly Rush[], users: number): RushResult {
  const worst = (read: (run: Rush) => number): number => Math.max(...runs.map(read))
  const middle = (read: (run: Rush) => number): number => median(runs.map(read))
  return {
    statements: worst(({ statements }) => statements),
    providerCalls: worst(({ providerCalls }) => providerCalls),
    deadlocks: worst(({ deadlocks }) => deadlocks),
    // A user who is answered without a row does not count as served either.
    unserved: worst(({ served, rows }) => users - Math.min(served, rows)),
    elapsedMs: middle(({ elapsedMs }) => elapsedMs),
    p50Ms: middle(({ p50Ms }) => p50Ms),
    p99Ms: middle(({ p99Ms }) => p99Ms)
  }
}

/** Computes all figures. */
export function resultOf ({ users, cold, keyed, usual, one }: ColdRuns): ColdResult {
  return {
    users,
    runs: cold.length,
    ...resultOfRuns(cold, users),
    keysAtHand: resultOfRuns(keyed, users),
    usualWay: resultOfRuns([usual], users),
    oneUser: one
  }
}

/** The figures as a table, what was counted, and whether they meet their goals. */
export function report (runs: ColdRuns): string {
  const { cold, keyed, users, one } = runs
  const result = resultOf(runs)
  const columns = [result, result.keysAtHand, result.usualWay]
  const row = (name: string, key: keyof RushResult): string[] => [name, ...columns.map(column => figure(column[key]))]
  const [{ kinds, ownStatements, statements }] = cold as [Rush]
  const agree = ownStatements === statements ? 'they agree' : 'THEY DIFFER'
  const judgement = (name: keyof typeof goals): string => {
    const judged = result[name] <= goals[name] ? 'met' : 'MISSED'
    const verdict = users === judgedUsers ? judged : `not judged with ${users.toLocaleString('en')} users`
    return `${name}: ${figure(result[name])}; the goal is at most ${goals[name]}: ${verdict}`
  }
  const isOnce = one.rows === 1 && one.loadsPerInstance <= 1 && one.providerCalls <= one.instances
  const isServed = one.served === one.requests
  return [
    table([
      ['', 'cold instance', 'with the keys', 'usual way'],
      row('statements', 'statements'),
      row('calls of the provider', 'providerCalls'),
      row('deadlocks', 'deadlocks'),
      row('not served', 'unserved'),
      row('all served after, ms', 'elapsedMs'),
      row('p50, ms', 'p50Ms'),
      row('p99, ms', 'p99Ms')
    ]),
    '',
    `counted by the database on the cold instance: ${kinds.reads} reads of users, ${kinds.locks} creation locks, ` +
    `${kinds.writes} writes of users, ${kinds.others} others; by smart-sync itself ${String(ownStatements)} ` +
    `(${agree}). Not counted: ${kinds.brackets} BEGIN and COMMIT, ${kinds.bus} of the bus`,
    `answers, run by run: cold ${listOf(cold)}; with the keys ${listOf(keyed)}`,
    '',
    ...(Object.keys(goals) as Array<keyof typeof goals>).map(judgement),
    `one user, ${one.requests.toLocaleString('en')} first requests at once on ${one.instances} instances, the worst ` +
    `of ${one.users} users: ${one.rows} row, ${one.loadsPerInstance} load of an instance, ${one.providerCalls} calls ` +
    `of the provider by all, ${one.served.toLocaleString('en')} served; the goal is 1 row and at most 1 call by ` +
    'each: ' +
    (isOnce && isServed ? 'met' : 'MISSED')
  ].join('\n')
}

function listOf (runs: readonly Rush[]): string {
  return runs.map(({ answers }) => `{ ${answers} }`).join(' ')
}
