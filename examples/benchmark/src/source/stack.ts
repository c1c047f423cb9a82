import { fileURLToPath } from 'node:url'
import type { ClerkSimulatorApp } from '@orientor/clerk-simulator'
import { startApp } from '../measure/app-process.js'
import { countStatements, type StatementCount } from '../measure/statement-count.js'

const adminKey = 'benchmark-admin-key-of-32-characters'

/** What an app counts of itself, from its start. */
export interface Counters {
  readonly cacheHits: number
  readonly cacheMisses: number
  readonly loads: number
  readonly syncAttempts: number
  readonly syncsSkipped: number
  /** Statements that smart-sync sent, by its own count. */
  readonly statements: number
  /** Connections in use now, as a share of the most there may be. */
  readonly poolUtilisation: number
}

/** An app in its own process, and the count of its statements. */
export interface Contender {
  readonly url: string
  readonly statements: StatementCount
  /** null: it does not count. */
  counters (): Promise<Counters> | null
  stop (): Promise<void>
}

/** The environment of the reference app with everything on. */
export function environmentOf (
  databaseUrl: string, { simulator, listeningOrigin }: ClerkSimulatorApp
): Readonly<Record<string, string>> {
  return {
    DATABASE_URL: databaseUrl,
    ISSUER: simulator.issuer,
    JWKS_URL: simulator.jwksUrl,
    CLERK_API_URL: listeningOrigin,
    CLERK_SECRET_KEY: simulator.secretKey,
    ADMIN_KEY: adminKey,
    LOG_LEVEL: 'error'
  }
}

/** The reference app with everything on. */
export async function startStack (databaseUrl: string, clerk: ClerkSimulatorApp): Promise<Contender> {
  const main = fileURLToPath(import.meta.resolve('@orientor-examples/reference-app/main.js'))
  const app = await startApp(main, environmentOf(databaseUrl, clerk), '/public')
  const statements = await countStatements(databaseUrl, ['users', 'user_tombstones', 'sync_dead_letters', 'sync_checkpoints'])
  return {
    url: `${app.url}/me`,
    statements,
    counters: () => readCounters(app.url),
    stop: async () => { await Promise.all([app.stop(), statements.close()]) }
  }
}

/** The usual way: see baseline-app. */
export async function startBaseline (databaseUrl: string, clerk: ClerkSimulatorApp): Promise<Contender> {
  const { issuer, jwksUrl } = clerk.simulator
  const app = await startApp(fileURLToPath(new URL('baseline-app.js', import.meta.url)), { DATABASE_URL: databaseUrl, ISSUER: issuer, JWKS_URL: jwksUrl }, '/ready')
  const statements = await countStatements(databaseUrl, ['users', 'profiles'])
  return { url: `${app.url}/me`, statements, counters: () => null, stop: async () => { await Promise.all([app.stop(), statements.close()]) } }
}

interface Performance {
  readonly components: Readonly<Record<string, Readonly<Record<string, number>>>>
  readonly connectionPool: { readonly utilisationRatio: number | null } | null
}

async function readCounters (origin: string): Promise<Counters> {
  const response = await fetch(`${origin}/database/performance`, { headers: { 'x-admin-key': adminKey } })
  if (!response.ok) throw new Error(`/database/performance answered ${response.status}`)
  const { components, connectionPool } = await response.json() as Performance
  const cache = components['sessionCache'] ?? {}
  const sync = components['databaseSync'] ?? {}
  return {
    cacheHits: cache['cacheHits']!,
    cacheMisses: cache['cacheMisses']!,
    loads: cache['loads']!,
    syncAttempts: sync['attempts']!,
    syncsSkipped: sync['skipped']!,
    statements: sync['statements']!,
    poolUtilisation: connectionPool?.utilisationRatio ?? 0
  }
}
