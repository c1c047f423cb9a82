import type { ClerkSimulatorApp } from '@orientor/clerk-simulator'
import type { PostgresServer } from '@orientor/test-kit'
import pg from 'pg'
import { summarise, type LatencySummary } from '../measure/latencies.js'
import type { Contender } from '../source/stack.js'
import { askAtOnce } from './at-once.js'
import { providerCalls } from './newcomers.js'
import { countedOf, kindsOf, type SentKinds } from './sent-kinds.js'

/** The measurement of new users who all come at once. */
export interface Rush extends LatencySummary {
  /** Answers with status 200. */
  readonly served: number
  /** All answers, as `200: 10000`. */
  readonly answers: string
  /** Rows in the users table afterwards. */
  readonly rows: number
  readonly statements: number
  readonly kinds: SentKinds
  /** The statements that smart-sync counted itself; null: the app has none. */
  readonly ownStatements: number | null
  readonly providerCalls: number
  readonly deadlocks: number
  /** From the sending of the first request to the last answer, in milliseconds. */
  readonly elapsedMs: number
}

/** The circumstances of a rush. */
export interface RushScene {
  readonly server: PostgresServer
  readonly clerk: ClerkSimulatorApp
  readonly start: (databaseUrl: string, clerk: ClerkSimulatorApp) => Promise<Contender>
  readonly tokens: readonly string[]
  /** The token of another user, who asks before, so that the app has the provider's keys; null: it has nothing. */
  readonly first: string | null
}

/** Starts an app on an empty database, and has all users ask it at the same time. */
export async function rush ({ server, clerk, start, tokens, first }: RushScene): Promise<Rush> {
  const databaseUrl = await server.createDatabase()
  const app = await start(databaseUrl, clerk)
  let measured: Omit<Rush, 'deadlocks' | 'rows'>
  try {
    if (first !== null) await askAtOnce([{ port: portOf(app), tokens: [first] }])
    const [callsBefore, own] = [providerCalls(clerk), await app.counters()]
    await app.statements.reset()
    const { statuses, times } = await askAtOnce([{ port: portOf(app), tokens }])
    const kinds = kindsOf(await app.statements.list())
    const ownAfter = await app.counters()
    measured = {
      ...summarise(times),
      elapsedMs: Math.max(...times),
      served: statuses.get(200) ?? 0,
      answers: [...statuses].map(([status, count]) => `${status}: ${count}`).join(', '),
      kinds,
      statements: countedOf(kinds),
      ownStatements: own === null || ownAfter === null ? null : ownAfter.statements - own.statements,
      providerCalls: providerCalls(clerk) - callsBefore
    }
  } finally {
    await app.stop()
  }
  return { ...measured, ...await aftermath(databaseUrl) }
}

/** The port of an app. */
export function portOf ({ url }: Contender): number {
  return Number(new URL(url).port)
}

/** Reads what is left once all sessions of the app have ended: until then each may keep a deadlock to itself. */
async function aftermath (databaseUrl: string): Promise<Pick<Rush, 'deadlocks' | 'rows'>> {
  const client = new pg.Client({ connectionString: databaseUrl })
  await client.connect()
  try {
    const { rows: [row] } = await client.query<{ deadlocks: string, users: string }>(
      `SELECT (SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()) AS deadlocks,
        (SELECT count(*) FROM users) AS users`)
    return { deadlocks: Number(row!.deadlocks), rows: Number(row!.users) }
  } finally {
    await client.end()
  }
}
