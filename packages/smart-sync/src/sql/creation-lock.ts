import { sqlLiteral } from '@orientor/session-contract/core'
import { quotedTable } from '../table-names.js'
import type { UsersTable } from '../users-table.js'
import { statement, type Statement } from './statement.js'

/**
 * The creation lock: an advisory lock ("Explicit Locking" in PostgreSQL's manual) of the users table, which
 * transactions that make rows share. Nothing takes it alone, so that none of them ever waits for it: a deletion that
 * found no row to mark, or is to remove one, looks which transactions hold it, and waits until those have ended.
 *
 * A transaction takes it before the statement that makes rows, which therefore sees every tombstone that was committed
 * before. So a row is made by a transaction that the deletion waits for, or not at all.
 */
const lockSpace = 1_330_792_793

/** The longest that a transaction may wait for this process between two statements, in milliseconds. */
const maxIdleMs = 5000

/** The limits of a transaction that writes rows, in milliseconds. A setting of the session that is stricter counts. */
export interface WriteLimits {
  /** The longest wait for any one lock. */
  readonly lockTimeoutMs: number
  /** The longest time of the statement: its answer has no reader after it. */
  readonly statementTimeoutMs: number
}

/**
 * SQL that begins a transaction that writes rows, as one message; BEGIN aside one statement.
 *
 * The server gives up when we do: else each write without a reader would keep its session, and a process
 * that hangs its locks. A commit is seen only once its log is on disk, whatever the server, the database or the role is
 * set to: what is found in step, and acknowledged, outlives a crash.
 */
export function beginWrite ({ lockTimeoutMs, statementTimeoutMs }: WriteLimits): string {
  const durable = 'CASE current_setting(\'synchronous_commit\') WHEN \'off\' THEN \'on\' ELSE current_setting(\'synchronous_commit\') END'
  const settings = [
    `set_config('synchronous_commit', ${durable}, true)`,
    atMost('lock_timeout', lockTimeoutMs),
    atMost('statement_timeout', statementTimeoutMs),
    atMost('idle_in_transaction_session_timeout', maxIdleMs)
  ]
  // Under REPEATABLE READ the second statement would see no more than the first.
  return `BEGIN ISOLATION LEVEL READ COMMITTED; SELECT ${settings.join(', ')}`
}

/** The same of a transaction that makes rows: it holds the creation lock. */
export function beginCreation (table: UsersTable, limits: WriteLimits): string {
  return `${beginWrite(limits)}, pg_advisory_xact_lock_shared(${lockSpace}, ${tableOid(table)}::int4)`
}

/** SQL that sets a timeout for the transaction, where it is longer, or off (0). It is told with a unit, as in `30s`. */
function atMost (name: string, ms: number): string {
  const current = `current_setting('${name}')`
  return `set_config('${name}', CASE WHEN ${current} <> '0' AND ${current}::interval <= '${ms} ms' ` +
    `THEN ${current} ELSE '${ms}ms' END, true)`
}

/** Names the transactions that hold the lock: that may be making rows. */
export function creationsUnderWay (table: UsersTable): Statement {
  return statement('creations', `SELECT virtualtransaction AS holder FROM pg_catalog.pg_locks
WHERE locktype = 'advisory' AND objsubid = 2 AND mode = 'ShareLock' AND granted
  AND database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
  AND classid = ${lockSpace} AND objid = ${tableOid(table)}`)
}

/** The table by its oid, which is the same however it is named. */
function tableOid ({ tables }: UsersTable): string {
  return `to_regclass(${sqlLiteral(quotedTable(tables.users))})::oid`
}
