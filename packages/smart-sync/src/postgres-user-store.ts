import {
  databaseFailureOf, pause, sourceFailureOf, SourceUnavailable, StatementNames, withinDeadline, Withdrawals, type Clock, type Deadline, type PoolLike,
  type SessionKey, type WatchedTable, type Withdrawal
} from '@orientor/session-contract/core'
import { errors } from './errors.js'
import type { Observation } from './observation.js'
import { findUsers, findValues } from './sql/find-users.js'
import type { Statement } from './sql/statement.js'
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
  /** Takes note of what PostgreSQL refuses. Default: tells no log. */
  readonly withdrawals?: Withdrawals
}

const table = 'The users table'
// What may be refused.
const reading = 'to read users'
const writing = 'to write users'
const noting = 'to note when users were compared'
const silent = { error: (): void => {}, info: (): void => {} }
const mostRetries = 5
const firstBackoffMs = 10
const asSent = { getTypeParser: () => (text: string): string => text }

/**
 * The users table in PostgreSQL (14 or later). A statement that lost against another transaction (serialization failure, deadlock, lock
 * timeout) is sent again, at most five times with full jitter, as long as the deadline allows: each is a transaction of its own, and idempotent.
 *
 * Statements are prepared once per connection, and anew when a table changed; see StatementNames.
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
  /** The same, but not counted. */
  readonly #ping: Statement
  readonly #withdrawals: Withdrawals
  #statements = 0
  readonly #names = new StatementNames()

  constructor ({ pool, tables, harmlessTriggers = [], clock, random, withdrawals = new Withdrawals('', silent, clock) }: PostgresUserStoreOptions) {
    this.#pool = pool
    this.#clock = clock
    this.#random = random
    this.#withdrawals = withdrawals
    this.#find = findUsers(tables.users)
    this.#upsert = upsertUsers(tables)
    this.#touch = touchUsers(tables.users)
    this.#ping = { ...this.#find }
    this.watches = Object.freeze([watchedUsers(tables.users, harmlessTriggers)])
  }

  /** Statements sent since the start, those that were sent again included; health checks do not count. */
  get statements (): number {
    return this.#statements
  }

  /** What PostgreSQL refuses now of what is written; null when nothing is, as far as is known. */
  get refusedWrites (): Withdrawal | null {
    return this.#withdrawals.of(writing) ?? this.#withdrawals.of(noting)
  }

  async find (keys: readonly UserKey[], deadline: Deadline): Promise<ReadonlyMap<SessionKey, StoredUser>> {
    const rows = await this.#run(reading, this.#find, findValues(keys), deadline)
    return new Map(rows.map(row => userOfRow(row)).map(user => [user.key, user]))
  }

  async write (observations: readonly Observation[], syncedAtMs: number | null, deadline: Deadline): Promise<WriteResult> {
    try {
      const rows = await this.#run(writing, this.#upsert, upsertValues(observations, syncedAtMs), deadline)
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
    await this.#run(noting, this.#touch, touchValues(keys, syncedAtMs, dueBeforeMs), deadline)
  }

  /** Reads nobody, but all the same: whoever may not read the table, or finds another one, is told. */
  async ping (deadline: Deadline): Promise<void> {
    await this.#run(reading, this.#ping, findValues([]), deadline)
  }

  /** @param what - is tried, for the log when it is refused */
  async #run (what: string, prepared: Statement, values: unknown[], deadline: Deadline): Promise<readonly UserRow[]> {
    for (let retries = 0; ; retries++) {
      try {
        const rows = await this.#names.send(prepared.name, named => this.#send(named, prepared, values, deadline))
        this.#withdrawals.answered(what)
        return rows
      } catch (error) {
        const unavailable = sourceFailureOf(error)
        if (unavailable !== null) {
          this.#withdrawals.failed(what, unavailable)
          throw unavailable
        }
        if (databaseFailureOf(error, 'own') !== 'aborted') throw new errors.StatementRefused(placeOf(error), { cause: error })
        // 57014: the statement was cancelled, most often by statement_timeout; the next one would be as slow.
        if (sqlStateOf(error) === '57014' || retries === mostRetries) throw new SourceUnavailable('The database did not complete a statement', { cause: error })
        await pause(this.#clock, this.#random() * firstBackoffMs * 2 ** retries, deadline.signal)
      }
    }
  }

  async #send (named: { readonly name?: string }, prepared: Statement, values: unknown[], deadline: Deadline): Promise<readonly UserRow[]> {
    const leftMs = Math.ceil(deadline.atMs - this.#clock.monotonic())
    if (leftMs <= 0 || deadline.signal.aborted) throw new SourceUnavailable(`${table} was not asked: no time is left`)
    const pool = this.#pool()
    if (prepared !== this.#ping) this.#statements++
    const sent = pool.query({ ...named, text: prepared.text, values, types: asSent, query_timeout: leftMs, deadline, idempotent: true })
    return (await withinDeadline(sent, deadline, table)).rows as readonly UserRow[]
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
