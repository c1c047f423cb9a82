import {
  asSent, databaseFailureOf, pause, sourceFailureOf, SourceUnavailable, StatementNames, withinDeadline, Withdrawals, type Clock, type Deadline, type PoolLike,
  type SessionKey, type WatchedTable, type Withdrawal
} from '@orientor/session-contract/core'
import { errors } from './errors.js'
import type { Observation } from './observation.js'
import { findUsers, findValues } from './sql/find-users.js'
import { needsTypes, readTypes, typesOf, typesValues, type ColumnTypes } from './sql/column-types.js'
import { statement, type Statement } from './sql/statement.js'
import { factsValues, tableFactsOf, tableFactsSql } from './sql/table-facts.js'
import { touchUsers, touchValues } from './sql/touch-users.js'
import { upsertUsers, upsertValues } from './sql/upsert-users.js'
import { updateUsers } from './sql/update-users.js'
import { userOfRow, watchedUsers, type UserRow } from './sql/user-row.js'
import type { StoredUser, UserKey, UserStore, WriteResult, WrittenUser } from './user-store.js'
import { resolveUsersTable, type UsersTable, type UsersTableOptions } from './users-table.js'
import { longValues } from './long-values.js'
import { isUnholdable, unholdableText, type ProfileText } from './unholdable-text.js'

/** What a store over Postgres needs; of the users table the same as the plugin is told. */
export interface PostgresUserStoreOptions extends UsersTableOptions {
  /** The pool, asked for at each statement; may throw SourceUnavailable while there is none. */
  readonly pool: () => PoolLike
  readonly clock: Clock
  /** From 0 to below 1, as Math.random(). */
  readonly random: () => number
  /** Called before each write; may throw SourceUnavailable while users cannot be written. Default: they can. */
  readonly beforeWrite?: () => void
  /** Takes note of what PostgreSQL refuses. Default: tells no log. */
  readonly withdrawals?: Withdrawals
  /** Told of each text that was left out because it holds a letter that the encoding of the database lacks; `key`: the user cannot be there at all. */
  readonly onUnholdable?: (text: 'key' | ProfileText) => void
}

const what = 'The users table'
// What may be refused.
const reading = 'to read users'
const writing = 'to write users'
const noting = 'to note when users were compared'
const silent = { error: (): void => {}, info: (): void => {} }
const mostRetries = 5
const firstBackoffMs = 10
const factsStatement = statement('facts', tableFactsSql)

/**
 * The users table in PostgreSQL (14 or later). A statement that lost against another transaction (serialization failure, deadlock, lock
 * timeout) is sent again, at most five times with full jitter, as long as the deadline allows: each is a transaction of its own, and idempotent.
 *
 * Statements are prepared once per connection, and anew when a table changed; see StatementNames.
 */
export class PostgresUserStore implements UserStore {
  readonly maxWrites: number = 200
  readonly watches: readonly WatchedTable[]
  readonly #table: UsersTable
  readonly #pool: () => PoolLike
  readonly #clock: Clock
  readonly #random: () => number
  readonly #beforeWrite: () => void
  readonly #withdrawals: Withdrawals
  readonly #onUnholdable: (text: 'key' | ProfileText) => void
  readonly #names = new StatementNames()
  #prepared: Statements | null
  #statements = 0

  constructor ({ pool, clock, random, beforeWrite = () => {}, withdrawals = new Withdrawals('', silent, clock), onUnholdable = () => {}, ...table }: PostgresUserStoreOptions) {
    this.#table = resolveUsersTable(table)
    this.#pool = pool
    this.#clock = clock
    this.#random = random
    this.#beforeWrite = beforeWrite
    this.#withdrawals = withdrawals
    this.#onUnholdable = onUnholdable
    this.#prepared = needsTypes(this.#table) ? null : statementsOf(this.#table, new Map())
    this.watches = Object.freeze([watchedUsers(this.#table)])
  }

  /** Statements sent since the start, those that were sent again included; health checks do not count. */
  get statements (): number {
    return this.#statements
  }

  /** What PostgreSQL refuses now of what is written; null when nothing is, as far as is known. */
  get refusedWrites (): Withdrawal | null {
    return this.#withdrawals.of(writing) ?? this.#withdrawals.of(noting)
  }

  /** Whether a user without a row may get one: not where the app makes the rows, nor for a user of another issuer than that of all rows. */
  mayCreate ({ issuer }: UserKey): boolean {
    return this.#table.createUsers && this.#isOurs(issuer)
  }

  async find (keys: readonly UserKey[], deadline: Deadline): Promise<ReadonlyMap<SessionKey, StoredUser>> {
    const ours = keys.filter(({ issuer }) => this.#isOurs(issuer))
    if (ours.length === 0 && keys.length > 0) return new Map()
    const rows = await this.#rowsOf(ours, deadline)
    return new Map(rows.map(row => userOfRow(row, this.#table)).map(user => [user.key, user]))
  }

  /** A key with a letter that the encoding of the database lacks fails the whole statement: then each half is read by itself, until that one stands alone. */
  async #rowsOf (keys: readonly UserKey[], deadline: Deadline): Promise<readonly UserRow[]> {
    try {
      return await this.#ask(reading, 'find', findValues(keys), deadline)
    } catch (error) {
      if (!isUnholdable((error as Error).cause)) throw error
      if (keys.length === 1) return []
      const middle = Math.ceil(keys.length / 2)
      return [...await this.#rowsOf(keys.slice(0, middle), deadline), ...await this.#rowsOf(keys.slice(middle), deadline)]
    }
  }

  async write (observations: readonly Observation[], syncedAtMs: number | null, deadline: Deadline): Promise<WriteResult> {
    this.#beforeWrite()
    try {
      const rows = await this.#ask(writing, 'write', upsertValues(this.#table, observations, syncedAtMs), deadline)
      const written = rows.map((row): WrittenUser => ({ user: userOfRow(row, this.#table), created: row['created'] === 'true' }))
      return { kind: 'done', written: new Map(written.map(one => [one.user.key, one])) }
    } catch (error) {
      // Nothing was sent.
      if (error instanceof errors.InsertRefused) return { kind: 'refused', duplicate: false, error }
      const { cause } = error as { cause?: unknown }
      if (!isRowRefusal(cause)) throw error
      const state = sqlStateOf(cause)
      const [only, ...others] = observations
      const unholdable = isUnholdable(cause) && others.length === 0 ? unholdableText(cause, only!.profile) : null
      if (unholdable !== null) return await this.#writeWithout(unholdable, only!, syncedAtMs, cause, deadline)
      const isTooLong = (state === '22001' || state === '54000') && others.length === 0
      const refused = isTooLong ? await this.#tooLong(only!, cause, deadline) : new errors.RowRefused(placeOf(cause), { cause })
      return { kind: 'refused', duplicate: state === '23505', error: refused }
    }
  }

  /** Leaves out what cannot be held: a user without a name is better than none. */
  async #writeWithout (text: 'key' | ProfileText, observation: Observation, syncedAtMs: number | null, cause: unknown, deadline: Deadline): Promise<WriteResult> {
    this.#onUnholdable(text)
    if (text === 'key') return { kind: 'refused', duplicate: false, isNobody: true, error: new errors.RowRefused(placeOf(cause), { cause }) }
    return await this.write([{ ...observation, profile: { ...observation.profile, [text]: null } }], syncedAtMs, deadline)
  }

  async touch (keys: readonly UserKey[], syncedAtMs: number, dueBeforeMs: number, deadline: Deadline): Promise<ReadonlySet<SessionKey>> {
    this.#beforeWrite()
    try {
      await this.#ask(noting, 'touch', touchValues(keys, syncedAtMs, dueBeforeMs), deadline)
      return new Set()
    } catch (error) {
      // Such as a row that was there before a constraint: it spoils nobody else's note.
      if (!isRowRefusal((error as Error).cause)) throw error
      if (keys.length === 1) return new Set(keys.map(({ key }) => key))
      const middle = Math.ceil(keys.length / 2)
      const halves = [keys.slice(0, middle), keys.slice(middle)]
      const refused: SessionKey[] = []
      for (const half of halves) refused.push(...await this.touch(half, syncedAtMs, dueBeforeMs, deadline))
      return new Set(refused)
    }
  }

  /** Reads nobody, but all the same: whoever may not read the table, or finds another one, is told. */
  async ping (deadline: Deadline): Promise<void> {
    const { ping } = await this.#ready(deadline)
    await this.#run(reading, ping, findValues([]), deadline)
  }

  #isOurs (issuer: string): boolean {
    const { issuer: ours } = this.#table
    return typeof ours === 'string' || ours.always === issuer
  }

  /** The statements; where they depend on the types of columns, those are read first, and anew after a statement was refused. */
  async #ready (deadline: Deadline): Promise<Statements> {
    if (this.#prepared !== null) return this.#prepared
    const rows = await this.#run(reading, readTypes(this.#table), typesValues(this.#table), deadline)
    const statements = statementsOf(this.#table, typesOf(rows))
    // Of a table that is not there the statements tell.
    if (rows.length > 0) this.#prepared = statements
    return statements
  }

  /** Sends a statement; where it depends on the types of columns and was refused after those changed, once more as they are now. */
  async #ask (tried: string, which: keyof Statements, values: unknown[], deadline: Deadline): Promise<readonly UserRow[]> {
    const { [which]: prepared } = await this.#ready(deadline)
    try {
      return await this.#run(tried, prepared, values, deadline)
    } catch (error) {
      if (!(error instanceof errors.StatementRefused) || !needsTypes(this.#table) || isRowRefusal(error.cause)) throw error
      // Unless another request has read the types since.
      if (this.#prepared?.[which] === prepared) this.#prepared = null
      const { [which]: anew } = await this.#ready(deadline)
      if (anew.text === prepared.text) throw error
      return await this.#run(tried, anew, values, deadline)
    }
  }

  /** The error for a user of whom a value is too long; with the columns that it is too long for, where those are known. */
  async #tooLong (observation: Observation, cause: unknown, deadline: Deadline): Promise<Error> {
    const rows = await this.#run(reading, factsStatement, factsValues(this.#table), deadline).catch(() => [])
    const places = longValues(this.#table, tableFactsOf(rows), observation)
    const where = sqlStateOf(cause) === '54000' ? `a value is too long for an index (${placeOf(cause)})` : placeOf(cause)
    return new errors.ValueTooLong(places.length > 0 ? places.join('; ') : where, { cause })
  }

  /** @param tried - what is, for the log when it is refused */
  async #run (tried: string, prepared: Statement, values: unknown[], deadline: Deadline): Promise<readonly UserRow[]> {
    for (let retries = 0; ; retries++) {
      try {
        const rows = await this.#names.send(prepared.name, named => this.#send(named, prepared, values, deadline))
        this.#withdrawals.answered(tried)
        return rows
      } catch (error) {
        const unavailable = sourceFailureOf(error)
        if (unavailable !== null) {
          this.#withdrawals.failed(tried, unavailable)
          throw unavailable
        }
        if (databaseFailureOf(error, 'own') !== 'aborted') {
          throw new errors.StatementRefused(placeOf(error), { cause: error })
        }
        // 57014: the statement was cancelled, most often by statement_timeout; the next one would be as slow.
        if (sqlStateOf(error) === '57014' || retries === mostRetries) throw new SourceUnavailable('The database did not complete a statement', { cause: error })
        await pause(this.#clock, this.#random() * firstBackoffMs * 2 ** retries, deadline.signal)
      }
    }
  }

  async #send (named: { readonly name?: string }, prepared: Statement, values: unknown[], deadline: Deadline): Promise<readonly UserRow[]> {
    const leftMs = Math.ceil(deadline.atMs - this.#clock.monotonic())
    if (leftMs <= 0 || deadline.signal.aborted) throw new SourceUnavailable(`${what} was not asked: no time is left`)
    const pool = this.#pool()
    if (prepared !== this.#prepared?.ping) this.#statements++
    const sent = pool.query({ ...named, text: prepared.text, values, types: asSent, query_timeout: leftMs, deadline, idempotent: true })
    return (await withinDeadline(sent, deadline, what)).rows as readonly UserRow[]
  }
}

/** The statements of a store. */
interface Statements {
  readonly find: Statement
  readonly write: Statement
  readonly touch: Statement
  /** The same as find, but not counted. */
  readonly ping: Statement
}

function statementsOf (table: UsersTable, types: ColumnTypes): Statements {
  const find = findUsers(table, types)
  const write = table.createUsers ? upsertUsers(table, types) : updateUsers(table, types)
  return { find, write, touch: touchUsers(table), ping: { ...find } }
}

function sqlStateOf (error: unknown): string {
  const { code } = (error ?? {}) as { code?: unknown }
  return typeof code === 'string' ? code : ''
}

/**
 * Whether a row was refused for what is in it. 22: a value that does not fit; 23, 27, 44: a constraint; 54: too long for an index; P0: a trigger of the
 * app says no.
 */
function isRowRefusal (error: unknown): boolean {
  return /^(?:2[237]|44|54|P0)/.test(sqlStateOf(error))
}

/** Where a statement failed, without any value: SQLSTATE, table, column, constraint. */
function placeOf (error: unknown): string {
  const { table, column, constraint } = (error ?? {}) as { table?: unknown, column?: unknown, constraint?: unknown }
  const parts = [['SQLSTATE', sqlStateOf(error)], ['table', table], ['column', column], ['constraint', constraint]] as const
  return parts.filter(([, value]) => typeof value === 'string' && value !== '').map(([name, value]) => `${name} ${String(value)}`).join(', ') || 'no SQLSTATE'
}
