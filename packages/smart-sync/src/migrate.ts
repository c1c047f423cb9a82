import {
  asSent, databaseFailureOf, isOutage, pause, SourceUnavailable, systemClock, type ClientLike, type Clock, type PoolLike
} from '@orientor/session-contract/core'
import { acquireClient, forgetErrors } from './acquire-client.js'
import { completionFlaws, isComplete, sentenceOf, type Adoption } from './adoption.js'
import { errors } from './errors.js'
import { inspect, readFacts } from './inspect.js'
import { completingScript, filledScript } from './migration-scripts.js'
import { migratorOn } from './migrator.js'
import { revisionTrigger } from './sql/revision-trigger.js'
import { quotedTable, type TableNames } from './table-names.js'
import { resolveUsersTable, type UsersTable, type UsersTableOptions } from './users-table.js'

/** Options of migrate(); of the users table the same as the plugin is given. */
export interface MigrateOptions extends UsersTableOptions {
  readonly pool: PoolLike
  /**
   * `latest`, or 0 to take everything back: an existing table is then left with its own columns. Default is `latest`.
   */
  readonly to?: 'latest' | 0
  /** The longest wait for another instance that is migrating, in milliseconds. Default is 60000 (one minute). */
  readonly lockWaitMs?: number
  /** The pause between two looks whether it is done, in milliseconds. Default is 100. */
  readonly lockPollMs?: number
  readonly clock?: Clock
  /** Ends the wait early. */
  readonly signal?: AbortSignal
}

/** Options of a run of migrations, beside the table. */
export interface MigrationRun extends Pick<MigrateOptions, 'to' | 'lockWaitMs' | 'lockPollMs' | 'clock' | 'signal'> {
  /** Whether a users table that cannot be written is refused, and left as it was; else it is completed and judged. */
  readonly isStrict: boolean
}

/** The result of a run of migrations. */
export interface Migrated {
  /** The names of those that were run. */
  readonly applied: readonly string[]
  /** The judgement on the users table as it is now; null when everything was taken back. */
  readonly adoption: Adoption | null
}

/**
 * Brings the tables to a version, in one transaction on one connection, while an advisory lock keeps other instances
 * waiting: any number of instances may call it at once. Does nothing when the tables are there, or newer than this
 * package knows: then it only reads, so that it needs no right but SELECT on the tables, and a read-only server will
 * do.
 *
 * @returns the names of the migrations that were run
 * @throws SourceUnavailable when the database cannot be reached, ORI_SYNC_MIGRATION_LOCKED when another instance holds
 *   the lock for too long, ORI_SYNC_MIGRATION_FAILED when the tables cannot be made, or users could not be written into
 *   them: with the column and what to do
 */
export async function migrate (
  { pool, to = 'latest', lockWaitMs, lockPollMs, clock, signal, ...table }: MigrateOptions
): Promise<readonly string[]> {
  const run = { to, isStrict: true, ...given({ lockWaitMs, lockPollMs, clock, signal }) }
  return (await runMigrations(pool, resolveUsersTable(table), run)).applied
}

/** Does what migrate() does, for a table that is described, and judges it. */
export async function runMigrations (pool: PoolLike, table: UsersTable, run: MigrationRun): Promise<Migrated> {
  const { to = 'latest', isStrict } = run
  try {
    return await onClient(pool, async client => {
      if (await isDone(client, table, to)) {
        const adoption = to === 0 ? null : await inspect(client, table)
        if (isStrict) insistOn(adoption)
        return { applied: [], adoption }
      }
      await lock(client, table.tables, run)
      try {
        return await inTransaction(client, async () => {
          const applied = await apply(client, table, to)
          const adoption = to === 0 ? null : await inspect(client, table, true)
          if (isStrict) insistOn(adoption)
          return { applied, adoption }
        })
      } finally {
        await unlock(client, table.tables)
      }
    })
  } catch (error) {
    if (isOwn(error)) throw error
    const failure = databaseFailureOf(error)
    if (isOutage(failure) || failure === 'aborted') {
      throw new SourceUnavailable('The database could not be migrated yet', { cause: error })
    }
    throw new errors.MigrationFailed((error as Error).message.replace(/\.$/, ''), { cause: error })
  }
}

/** Works on a connection of the pool; it is closed when anything failed that is no refusal of the server. */
async function onClient<T> (pool: PoolLike, work: (client: ClientLike) => Promise<T>): Promise<T> {
  const client = await acquireClient(pool)
  let isBroken = false
  try {
    return await work(client)
  } catch (error) {
    isBroken = databaseFailureOf(error) !== 'rejected' && !isOwn(error) && !(error instanceof Unfit)
    throw error
  } finally {
    forgetErrors(client)
    client.release(isBroken)
  }
}

/** A users table that cannot be used as it is. */
class Unfit extends Error {}

function insistOn (adoption: Adoption | null): void {
  if (adoption !== null && adoption.refusals.length > 0) throw new Unfit(sentenceOf(adoption.refusals))
}

type Given<T> = { [K in keyof T]?: Exclude<T[K], undefined> }

/** The options that were given: undefined is none. */
function given<T extends object> (options: T): Given<T> {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as Given<T>
}

async function lock (client: ClientLike, tables: TableNames, run: MigrationRun): Promise<void> {
  const { lockWaitMs = 60_000, lockPollMs = 100, clock = systemClock, signal = new AbortController().signal } = run
  const untilMs = clock.monotonic() + lockWaitMs
  const text = 'SELECT WHERE pg_try_advisory_lock(hashtextextended($1, 0))'
  for (;;) {
    const { rows } = await client.query({ text, values: [lockName(tables)] })
    if (rows.length > 0) return
    if (signal.aborted) throw new SourceUnavailable('The migration was called off')
    if (clock.monotonic() >= untilMs) throw new errors.MigrationLocked(String(lockWaitMs))
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
    // A session that holds the users table for long must not make all its readers queue behind this; a large table may
    // take its time.
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
async function isDone (client: ClientLike, table: UsersTable, to: 'latest' | 0): Promise<boolean> {
  const { migrations } = table.tables
  const versions = quotedTable(migrations)
  const { rows: places } = await client.query({ text: 'SELECT WHERE to_regclass($1) IS NOT NULL', values: [versions] })
  if (places.length === 0) return to === 0
  if (to === 0) return false
  const newestSql = `SELECT max(version) AS version FROM ${versions}`
  const { rows: [last] } = await client.query({ text: newestSql, types: asSent })
  const version = Number(last?.['version'] ?? 0)
  const newest = await migratorOn(client, table).getMaxVersion()
  if (version < newest) return false
  const facts = await readFacts(client, table)
  if (facts === null) throw noTable(table.tables)
  // What a newer version of this package made stays, and what no migration can mend is judged.
  if (version > newest || completionFlaws(table, facts).length > 0) return true
  return isComplete(table, facts) && revisionTrigger(table, facts).isInPlace
}

async function apply (client: ClientLike, table: UsersTable, to: 'latest' | 0): Promise<readonly string[]> {
  const versions = quotedTable(table.tables.migrations)
  const columns = 'version bigint PRIMARY KEY, name text, md5 text, run_at timestamptz'
  await client.query({ text: `CREATE TABLE IF NOT EXISTS ${versions} (${columns})` })
  const migrator = migratorOn(client, table)
  // Another instance may have been faster, and a newer version of this package may be running elsewhere: its tables
  // stay.
  if (to === 'latest' && await migrator.getDatabaseVersion() > await migrator.getMaxVersion()) return []
  if (to === 'latest') await checkCompletion(client, table)
  const applied = await migrator.migrate(to === 'latest' ? 'max' : '0')
  if (to === 0) await client.query({ text: `DROP TABLE ${versions}` })
  else await keepUp(client, table)
  return applied.map(({ version, action, name }) => `${version}.${action}.${name}`)
}

async function checkCompletion (client: ClientLike, table: UsersTable): Promise<void> {
  const facts = await readFacts(client, table)
  const flaws = facts === null ? [] : completionFlaws(table, facts)
  if (flaws.length > 0) throw new Unfit(sentenceOf(flaws))
}

/**
 * Adds columns that are missing, and puts the trigger of the revision in place, where options or other triggers have
 * changed since the migrations ran.
 */
async function keepUp (client: ClientLike, table: UsersTable): Promise<void> {
  const before = await readFacts(client, table)
  // Two users tables cannot share one table of versions: the second would never be made.
  if (before === null) throw noTable(table.tables)
  if (!isComplete(table, before)) await client.query({ text: filledScript(await completingScript(), table, null) })
  const facts = await readFacts(client, table)
  const { isInPlace, sql } = revisionTrigger(table, facts ?? before)
  if (!isInPlace) await client.query({ text: sql })
}

function noTable ({ users, migrations }: TableNames): Error {
  return new Unfit(`the table "${migrations}" says that all is done, but there is no table "${users}"; ` +
    'name a "migrations" table of its own in the option "tables"')
}

/** Whether the error was made here, on a connection that is well. */
function isOwn (error: unknown): boolean {
  return error instanceof errors.MigrationLocked || error instanceof SourceUnavailable
}
