import { fileURLToPath } from 'node:url'
import { databaseFailureOf, isOutage, pause, SourceUnavailable, systemClock, type ClientLike, type Clock, type PoolLike } from '@orientor/session-contract/core'
import Postgrator from 'postgrator'
import { errors } from './errors.js'
import { bareTable, defaultTableNames, quotedTable, type TableNames } from './table-names.js'

/** What a migration needs. */
export interface MigrateOptions {
  readonly pool: PoolLike
  readonly tables?: TableNames
  /** `latest`, or 0 to take everything back: an existing table is then left with its own columns. Default is `latest`. */
  readonly to?: 'latest' | 0
  /** How long to wait for another instance that is migrating, in milliseconds. Default is 60000 (one minute). */
  readonly lockWaitMs?: number
  /** How often to look whether it is done, in milliseconds. Default is 100. */
  readonly lockPollMs?: number
  readonly clock?: Clock
  /** Ends the wait early. */
  readonly signal?: AbortSignal
}

/**
 * Brings the tables to a version, in one transaction on one connection, while an advisory lock keeps other instances waiting: any number
 * of instances may call it at once. Does nothing when the tables are there, or newer than this package knows: then it only reads, so that it needs
 * no right but SELECT on the table of versions, and a server that is read-only will do.
 *
 * @returns the names of the migrations that were run
 * @throws SourceUnavailable when the database cannot be had, ORI_SYNC_MIGRATION_LOCKED when another instance holds the lock for too long,
 *   ORI_SYNC_MIGRATION_FAILED when the tables cannot be made
 */
export async function migrate (options: MigrateOptions): Promise<readonly string[]> {
  const { pool, tables = defaultTableNames, to = 'latest' } = options
  try {
    const client = await pool.connect()
    // A connection on loan that dies between two statements must not end the process.
    client.on('error', ignore)
    let broken = false
    try {
      if (await isDone(client, tables, to)) return []
      await lock(client, tables, options)
      try {
        return await inTransaction(client, () => run(client, tables, to))
      } finally {
        await unlock(client, tables)
      }
    } catch (error) {
      broken = databaseFailureOf(error) !== 'rejected' && !isOwn(error)
      throw error
    } finally {
      client.off('error', ignore)
      client.release(broken)
    }
  } catch (error) {
    if (isOwn(error)) throw error
    const failure = databaseFailureOf(error)
    if (isOutage(failure) || failure === 'aborted') throw new SourceUnavailable('The database could not be migrated yet', { cause: error })
    throw new errors.MigrationFailed((error as Error).message, { cause: error })
  }
}

async function lock (client: ClientLike, tables: TableNames, { lockWaitMs = 60_000, lockPollMs = 100, clock = systemClock, signal = new AbortController().signal }: MigrateOptions): Promise<void> {
  const until = clock.monotonic() + lockWaitMs
  for (;;) {
    const { rows } = await client.query({ text: 'SELECT pg_try_advisory_lock(hashtextextended($1, 0)) AS locked', values: [lockName(tables)] })
    if (rows[0]?.['locked'] === true) return
    if (signal.aborted) throw new SourceUnavailable('The migration was called off')
    if (clock.monotonic() >= until) throw new errors.MigrationLocked(String(lockWaitMs))
    await pause(clock, lockPollMs, signal)
  }
}

async function unlock (client: ClientLike, tables: TableNames): Promise<void> {
  await client.query({ text: 'SELECT pg_advisory_unlock(hashtextextended($1, 0))', values: [lockName(tables)] })
}

function lockName ({ migrations }: TableNames): string {
  return `@orientor/smart-sync ${migrations}`
}

async function inTransaction<T> (client: ClientLike, work: () => Promise<T>): Promise<T> {
  await client.query({ text: 'BEGIN' })
  try {
    // Whoever holds the users table for long must not make all its readers queue behind this; a large table may take its time.
    await client.query({ text: "SET LOCAL lock_timeout = '5s'; SET LOCAL statement_timeout = '10min'" })
    const result = await work()
    await client.query({ text: 'COMMIT' })
    return result
  } catch (error) {
    await client.query({ text: 'ROLLBACK' })
    throw error
  }
}

/** Whether there is nothing to do. Reads only. */
async function isDone (client: ClientLike, tables: TableNames, to: 'latest' | 0): Promise<boolean> {
  const { migrations } = tables
  const { rows: places } = await client.query({ text: 'SELECT WHERE to_regclass($1) IS NOT NULL', values: [quotedTable(migrations)] })
  if (places.length === 0) return to === 0
  if (to === 0) return false
  const { rows: [last] } = await client.query({ text: `SELECT max(version)::int AS version FROM ${quotedTable(migrations)}` })
  if (Number(last?.['version'] ?? 0) < await migratorOn(client, tables, migrations).getMaxVersion()) return false
  await insist(client, tables)
  return true
}

async function run (client: ClientLike, tables: TableNames, to: 'latest' | 0): Promise<readonly string[]> {
  const migrator = migratorOn(client, tables, await versionTable(client, tables))
  // Another instance may have been faster, and a newer version of this package may be running elsewhere: what it made stays.
  if (to === 'latest' && await migrator.getDatabaseVersion() > await migrator.getMaxVersion()) return []
  const applied = await migrator.migrate(to === 'latest' ? 'max' : '0')
  if (to === 0) await client.query({ text: `DROP TABLE ${quotedTable(tables.migrations)}` })
  else await insist(client, tables)
  return applied.map(({ version, action, name }) => `${version}.${action}.${name}`)
}

function migratorOn (client: ClientLike, tables: TableNames, schemaTable: string): Postgrator {
  const execute = async (text: string): Promise<{ rows: unknown[] }> => ({ rows: [...(await client.query({ text })).rows ?? []] }) // a script answers with a list of results
  return new Postgrator({
    driver: 'pg',
    migrationPattern: migrationPattern(),
    schemaTable,
    newline: 'LF',
    execQuery: execute,
    execSqlScript: async script => { await execute(fill(script, tables)) }
  })
}

/**
 * The table of versions, made here: postgrator looks for it in one named schema only, and to make it would need the right to make schemas.
 */
async function versionTable (client: ClientLike, { migrations }: TableNames): Promise<string> {
  const quoted = quotedTable(migrations)
  await client.query({ text: `CREATE TABLE IF NOT EXISTS ${quoted} (version bigint PRIMARY KEY, name text, md5 text, run_at timestamptz)` })
  const { rows } = await client.query({ text: 'SELECT n.nspname AS schema FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.oid = to_regclass($1)', values: [quoted] })
  return `${String(rows[0]?.['schema'])}.${bareTable(migrations)}`
}

/** Two users tables cannot share one table of versions: the second would never be made. */
async function insist (client: ClientLike, { users, migrations }: TableNames): Promise<void> {
  const { rows } = await client.query({ text: 'SELECT to_regclass($1) IS NOT NULL AS there', values: [quotedTable(users)] })
  if (rows[0]?.['there'] !== true) throw new Error(`the table "${migrations}" says that all is done, but there is no table "${users}"; name a "migrations" table of its own in the option "tables"`)
}

function fill (script: string, tables: TableNames): string {
  return script.replaceAll(/\{\{(\w+)(?::(\w+))?\}\}/g, (_whole, name: keyof TableNames, form?: string) => {
    const table = tables[name]
    if (form === 'bare') return bareTable(table)
    return form === 'prefix' ? table.includes('.') ? `${quotedTable(table.split('.')[0]!)}.` : '' : quotedTable(table)
  })
}

/** The folder beside src and dist, as a glob: what is special there is taken literally. */
function migrationPattern (): string {
  const folder = fileURLToPath(new URL('../migrations/', import.meta.url))
  return `${folder.replaceAll('\\', '/').replaceAll(/[?*()[\]{}]/g, '[$&]')}*.sql`
}

/** Decided here, on a connection that is well. */
function isOwn (error: unknown): boolean {
  return error instanceof errors.MigrationLocked || error instanceof SourceUnavailable
}

function ignore (): void {}
