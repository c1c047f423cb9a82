import {
  databaseFailureOf, isOutage, pause, SourceUnavailable, withinDeadline, type Clock, type Deadline, type PoolLike, type SessionKey, type WatchedTable
} from '@orientor/session-contract/core'
import { errors } from './errors.js'
import type { Observation } from './observation.js'
import { findUsers, findValues } from './sql/find-users.js'
import { statement, type Statement } from './sql/statement.js'
import { touchUsers, touchValues } from './sql/touch-users.js'
import { upsertUsers, upsertValues } from './sql/upsert-users.js'
import { userOfRow, watchedUsers, type UserRow } from './sql/user-row.js'
import type { TableNames } from './table-names.js'
import type { StoredUser, UserKey, UserStore, WriteResult, WrittenUser } from './user-store.js'

/** What a store over Postgres needs. */
export interface PostgresUserStoreOptions {
  /** The pool, asked for at each statement; may throw SourceUnavailable while there is none. */
  readonly pool: () => PoolLike
  readonly tables: TableNames
  /** Triggers BEFORE UPDATE FOR EACH ROW of the users table that change nothing of what is read unless the update sets it. Default is none. */
  readonly harmlessTriggers?: readonly string[]
  readonly clock: Clock
  /** From 0 to below 1, as Math.random(). */
  readonly random: () => number
}

const what = 'The users table'
const mostRetries = 5
const firstBackoffMs = 10
// A prepared statement that is there already, or is not there: its name was used on another connection than this client thinks.
const misnamed: readonly string[] = ['42P05', '26000']
const asSent = { getTypeParser: () => (text: string): string => text }

/**
 * The users table in PostgreSQL (14 or later). A statement that lost against another transaction (serialization failure, deadlock, lock
 * timeout) is sent again, at most five times with full jitter, as long as the deadline allows: each is a transaction of its own, and idempotent.
 *
 * Statements are prepared once per connection. Behind a pooler that gives out another connection for each transaction that cannot be kept up: with
 * the first sign of one, statements are sent without a name from then on.
 */
export class PostgresUserStore implements UserStore {
  readonly maxWrites: number = 200
  readonly watches: readonly WatchedTable[]
  readonly #pool: () => PoolLike
  readonly #clock: Clock
  readonly #random: () => number
  readonly #find: Statement
  readonly #upsert: Statement
  readonly #touch: Statement
  readonly #ping: Statement = statement('ping', 'SELECT 1')
  #statements = 0
  #namesStatements = true

  constructor ({ pool, tables, harmlessTriggers = [], clock, random }: PostgresUserStoreOptions) {
    this.#pool = pool
    this.#clock = clock
    this.#random = random
    this.#find = findUsers(tables.users)
    this.#upsert = upsertUsers(tables)
    this.#touch = touchUsers(tables.users)
    this.watches = Object.freeze([watchedUsers(tables.users, harmlessTriggers)])
  }

  /** Statements sent since the start, those that were sent again included; health checks do not count. */
  get statements (): number {
    return this.#statements
  }

  async find (keys: readonly UserKey[], deadline: Deadline): Promise<ReadonlyMap<SessionKey, StoredUser>> {
    const rows = await this.#run(this.#find, findValues(keys), deadline)
    return new Map(rows.map(row => userOfRow(row)).map(user => [user.key, user]))
  }

  async write (observations: readonly Observation[], syncedAtMs: number | null, deadline: Deadline): Promise<WriteResult> {
    try {
      const rows = await this.#run(this.#upsert, upsertValues(observations, syncedAtMs), deadline)
      const written = rows.map((row): WrittenUser => ({ user: userOfRow(row), created: row['created'] === 't' }))
      return { kind: 'done', written: new Map(written.map(one => [one.user.key, one])) }
    } catch (error) {
      const { cause } = error as { cause?: unknown }
      const state = sqlStateOf(cause)
      // 22: a value that does not fit; 23, 27, 44: a constraint; 54: too long for an index; P0: a trigger of the app says no.
      if (!/^(?:2[237]|44|54|P0)/.test(state)) throw error
      return { kind: 'refused', duplicate: state === '23505', error: new errors.RowRefused(placeOf(cause), { cause }) }
    }
  }

  async touch (keys: readonly UserKey[], syncedAtMs: number, dueBeforeMs: number, deadline: Deadline): Promise<void> {
    await this.#run(this.#touch, touchValues(keys, syncedAtMs, dueBeforeMs), deadline)
  }

  async ping (deadline: Deadline): Promise<void> {
    await this.#run(this.#ping, [], deadline)
  }

  async #run (prepared: Statement, values: unknown[], deadline: Deadline): Promise<readonly UserRow[]> {
    for (let retries = 0; ; retries++) {
      try {
        return await this.#send(prepared, values, deadline)
      } catch (error) {
        if (error instanceof SourceUnavailable) throw error
        // It was not even looked at, so it can be sent again whatever it does.
        if (misnamed.includes(sqlStateOf(error)) && retries < mostRetries) {
          this.#namesStatements = false
          continue
        }
        const failure = databaseFailureOf(error)
        if (isOutage(failure)) throw new SourceUnavailable('The database cannot be reached', { cause: error })
        if (failure !== 'aborted') throw new errors.StatementRefused(placeOf(error), { cause: error })
        // 57014: the statement was cancelled, most often by statement_timeout; the next one would be as slow.
        if (sqlStateOf(error) === '57014' || retries === mostRetries) throw new SourceUnavailable('The database did not complete a statement', { cause: error })
        await pause(this.#clock, this.#random() * firstBackoffMs * 2 ** retries, deadline.signal)
      }
    }
  }

  async #send (prepared: Statement, values: unknown[], deadline: Deadline): Promise<readonly UserRow[]> {
    const leftMs = Math.ceil(deadline.atMs - this.#clock.monotonic())
    if (leftMs <= 0 || deadline.signal.aborted) throw new SourceUnavailable(`${what} was not asked: no time is left`)
    const pool = this.#pool()
    if (prepared !== this.#ping) this.#statements++
    const sent = pool.query({ ...this.#namesStatements && { name: prepared.name }, text: prepared.text, values, types: asSent, query_timeout: leftMs, deadline })
    return (await withinDeadline(sent, deadline, what)).rows as readonly UserRow[]
  }
}

function sqlStateOf (error: unknown): string {
  const { code } = (error ?? {}) as { code?: unknown }
  return typeof code === 'string' ? code : ''
}

/** Where a statement failed, without any value: SQLSTATE, table, column, constraint. */
function placeOf (error: unknown): string {
  const { table, column, constraint } = (error ?? {}) as { table?: unknown, column?: unknown, constraint?: unknown }
  const parts = [['SQLSTATE', sqlStateOf(error)], ['table', table], ['column', column], ['constraint', constraint]] as const
  return parts.filter(([, value]) => typeof value === 'string' && value !== '').map(([name, value]) => `${name} ${String(value)}`).join(', ') || 'no SQLSTATE'
}
