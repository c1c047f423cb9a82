import type { ClerkSimulatorApp } from '@orientor/clerk-simulator'
import type { PostgresServer } from '@orientor/test-kit'
import pg from 'pg'
import { startStack, type Contender } from '../source/stack.js'
import { askAtOnce } from './at-once.js'
import { providerCalls } from './newcomers.js'
import { portOf } from './rush.js'

/** The measurement of first requests of one user, at once on several instances; the worst of several users. */
export interface OneUser {
  readonly instances: number
  /** Users who came one after another. */
  readonly users: number
  /** Requests of each of them, at once. */
  readonly requests: number
  /** The least answers with status 200. */
  readonly served: number
  /** The most rows of a user. */
  readonly rows: number
  /** The most loads that one instance sent for a user: each asks the provider once at most. */
  readonly loadsPerInstance: number
  /** The most calls of the provider that all instances made for a user. */
  readonly providerCalls: number
}

const instances = 3

/** The circumstances. */
export interface OneUserScene {
  readonly server: PostgresServer
  readonly clerk: ClerkSimulatorApp
  /** One per user. */
  readonly tokens: readonly string[]
  readonly requests: number
}

/** Starts three instances on one empty database, and has each user ask them with all requests at the same time. */
export async function oneUser ({ server, clerk, tokens, requests }: OneUserScene): Promise<OneUser> {
  const databaseUrl = await server.createDatabase()
  const client = new pg.Client({ connectionString: databaseUrl })
  const closers = [async (): Promise<void> => { await client.end() }]
  try {
    await client.connect()
    const apps: Contender[] = []
    for (let instance = 0; instance < instances; instance++) {
      const app = await startStack(databaseUrl, clerk)
      closers.push(() => app.stop())
      apps.push(app)
    }
    const loadsOf = async (): Promise<number[]> => {
      return await Promise.all(apps.map(async app => (await app.counters()!).loads))
    }
    let worst = { served: requests, rows: 0, loadsPerInstance: 0, providerCalls: 0 }
    for (const token of tokens) {
      const [callsBefore, loadsBefore] = [providerCalls(clerk), await loadsOf()]
      const { statuses } = await askAtOnce(apps.map((app, index) => {
        const share = Math.floor((requests + index) / instances)
        return { port: portOf(app), tokens: Array.from({ length: share }, () => token) }
      }))
      const loads = (await loadsOf()).map((count, index) => count - loadsBefore[index]!)
      const { rows: [row] } = await client.query<{ rows: string }>('SELECT count(*) AS rows FROM users')
      await client.query('DELETE FROM users')
      worst = {
        served: Math.min(worst.served, statuses.get(200) ?? 0),
        rows: Math.max(worst.rows, Number(row!.rows)),
        loadsPerInstance: Math.max(worst.loadsPerInstance, ...loads),
        providerCalls: Math.max(worst.providerCalls, providerCalls(clerk) - callsBefore)
      }
    }
    return { instances, users: tokens.length, requests, ...worst }
  } finally {
    for (const close of closers.reverse()) await close()
  }
}
