import {
  databaseFailureOf, pause, sendStatement, sourceFailureOf, SourceUnavailable, StatementNames, untoldMark,
  Withdrawals, type Clock, type Deadline, type PoolLike, type SessionKey, type TextRow, type WatchedTable,
  type Withdrawal
} from '@orientor/session-contract/core'
import { errors } from './errors.js'
import { longValues } from './long-values.js'
import { readInHalves } from './read-in-halves.js'
import type { Observation } from './observation.js'
import { needsTypes, typesOf, type ColumnTypes } from './sql/column-types.js'
import { findUsers, findValues } from './sql/find-users.js'
import { statement, type Statement } from './sql/statement.js'
import { factsValues, tableFactsOf, tableFactsSql, type TableFacts } from './sql/table-facts.js'
import { touchUsers, touchValues } from './sql/touch-users.js'
import { updateUsers } from './sql/update-users.js'
import { upsertUsers, upsertValues } from './sql/upsert-users.js'
import { userOfRow, watchedUsers } from './sql/user-row.js'
import { isUnholdable, unholdableText, type ProfileText } from './unholdable-text.js'
import type { FoundUsers, UserKey, UserStore, WriteResult, WrittenUser } from './user-store.js'
import { resolveUsersTable, type UsersTable, type UsersTableOptions } from './users-table.js'

/** Options of PostgresUserStore; of the users table the same as the plugin is given. */
export interface PostgresUserStoreOptions extends UsersTableOptions {
  /** The pool, asked for at each statement; may throw SourceUnavailable while there is none. */
  readonly pool: () => PoolLike
  readonly clock: Clock
  /** Randomness from 0 to below 1, as Math.random(). */
  readonly random: () => number
  /** Called before each write; may throw SourceUnavailable while users cannot be written. Default: they can. */
  readonly beforeWrite?: () => void
  /** Takes note of refusals of PostgreSQL. Default: tells no log. */
  readonly withdrawals?: Withdrawals
  /**
   * Called with each text that was left out because it holds a letter that the encoding of the database lacks; `key`:
   * the user cannot be there at all. Default: does nothing.
   */
  readonly onUnholdable?: (text: 'key' | ProfileText) => void
}

const what = 'The users table'
// The actions that PostgreSQL may refuse.
const reading = 'to read users'
const writing = 'to write users'
const noting = 'to note when users were compared'
const silent = { error: (): void => {}, info: (): void => {} }
const maxRetries = 5
const firstBackoffMs = 10
const factsStatement = statement('facts', tableFactsSql)

/**
 * The users table in PostgreSQL (14 or later). A statement that lost against another transaction (serialization
 * failure, deadlock, lock timeout) is sent again, at most five times with full jitter, as long as the deadline allows:
 * each is a transaction of its own, and idempotent.
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

  constructor ({
    pool, clock, random, beforeWrite = () => {}, withdrawals = new Withdrawals('', silent, clock),
    onUnholdable = () => {}, ...table
  }: PostgresUserStoreOptions) {
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

  /** The number of statements sent since the start, with those that were sent again, and without health checks. */
  get statements (): number {
    return this.#statements
  }

  /** The refusal of PostgreSQL to write users that lasts now; null when none is known. */
  get refusedWrites (): Withdrawal | null {
    return this.#withdrawals.of(writing) ?? this.#withdrawals.of(noting)
  }

  /**
   * Whether a user without a row may get one: not where the app makes the rows, nor for a user of another issuer than
   * that of all rows.
   */
  mayCreate ({ issuer }: UserKey): boolean {
    return this.#table.createUsers && this.#isOurs(issuer)
  }

  async find (keys: readonly UserKey[], deadline: Deadline): Promise<FoundUsers> {
    const ours = keys.filter(({ issuer }) => this.#isOurs(issuer))
    // A user whose key the database cannot hold has no row.
    const absentMarks = new Map(ours.map(({ key }) => [key, untoldMark]))
    const read = async (some: readonly UserKey[]): Promise<readonly TextRow[]> => {
      const rows = await this.#ask(reading, 'find', findValues(some), deadline)
      const mark = rows[0]?.['readMark'] ?? untoldMark
      for (const { key } of some) absentMarks.set(key, mark)
      return rows
    }
    const isEmpty = ours.length === 0 && keys.length > 0
    const rows = isEmpty ? [] : await readInHalves(ours, read, error => isUnholdable((error as Error).cause))
    const found = rows.filter(row => row['subject'] !== null).map(row => userOfRow(row, this.#table))
    for (const { key } of found) absentMarks.delete(key)
    return { users: new Map(found.map(user => [user.key, user])), absentMarks }
  }

  async write (
    observations: readonly Observation[], syncedAtMs: number | null, deadline: Deadline
  ): Promise<WriteResult> {
    this.#beforeWrite()
    const write = observations.some(({ subject }) => subject.endsWith(' ')) ? 'writeBlanks' : 'write'
    try {
      const rows = await this.#ask(writing, write, upsertValues(this.#table, observations, syncedAtMs), deadline)
      const written = rows.map((row): WrittenUser => {
        return { user: userOfRow(row, this.#table), created: row['created'] === 'true' }
      })
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
      const refused = isTooLong ? await this.#tooLong(only!, cause, deadline) : rowRefused(cause)
      return { kind: 'refused', duplicate: state === '23505', error: refused }
    }
  }

  /** Writes a user without a text that cannot be held: a user without a name is better than none. */
  async #writeWithout (
    text: 'key' | ProfileText, observation: Observation, syncedAtMs: number | null, cause: unknown, deadline: Deadline
  ): Promise<WriteResult> {
    this.#onUnholdable(text)
    if (text === 'key') return { kind: 'refused', duplicate: false, isKeyRefused: true, error: rowRefused(cause) }
    const profile = { ...observation.profile, [text]: null }
    return await this.write([{ ...observation, profile }], syncedAtMs, deadline)
  }

  async touch (
    keys: readonly UserKey[], syncedAtMs: number, dueBeforeMs: number, deadline: Deadline
  ): Promise<ReadonlySet<SessionKey>> {
    this.#beforeWrite()
    try {
      await this.#ask(noting, 'touch', touchValues(keys, syncedAtMs, dueBeforeMs), deadline)
      return new Set()
    } catch (error) {
      // Such as a row that was there before a constraint: the other users are noted all the same.
      if (!isRowRefusal((error as Error).cause)) throw error
      if (keys.length === 1) return new Set(keys.map(({ key }) => key))
      const middle = Math.ceil(keys.length / 2)
      const halves = [keys.slice(0, middle), keys.slice(middle)]
      const refused: SessionKey[] = []
      for (const half of halves) refused.push(...await this.touch(half, syncedAtMs, dueBeforeMs, deadline))
      return new Set(refused)
    }
  }

  /** Reads no user, from the table all the same: it fails where the role may not read it, or it is another one. */
  async ping (deadline: Deadline): Promise<void> {
    const { ping } = await this.#ready(deadline)
    await this.#run(reading, ping, findValues([]), deadline)
  }

  #isOurs (issuer: string): boolean {
    const { issuer: ours } = this.#table
    return typeof ours === 'string' || ours.always === issuer
  }

  /**
   * The statements; where they depend on the types of columns, those are read first, and anew after a statement was
   * refused.
   */
  async #ready (deadline: Deadline): Promise<Statements> {
    if (this.#prepared !== null) return this.#prepared
    const facts = await this.#facts(deadline)
    const statements = statementsOf(this.#table, typesOf(facts))
    // Where the table is not there the statements fail, and say so.
    if (facts !== null) this.#prepared = statements
    return statements
  }

  async #facts (deadline: Deadline): Promise<TableFacts | null> {
    return tableFactsOf(await this.#run(reading, factsStatement, factsValues(this.#table), deadline))
  }

  /**
   * Sends a statement; where it depends on the types of columns and was refused after those changed, once more as they
   * are now.
   */
  async #ask (
    action: string, which: keyof Statements, values: unknown[], deadline: Deadline
  ): Promise<readonly TextRow[]> {
    const { [which]: prepared } = await this.#ready(deadline)
    try {
      return await this.#run(action, prepared, values, deadline)
    } catch (error) {
      const isForTypes = error instanceof errors.StatementRefused && needsTypes(this.#table) && !isRowRefusal(error.cause)
      if (!isForTypes) throw error
      // Unless another request has read the types since.
      if (this.#prepared?.[which] === prepared) this.#prepared = null
      const { [which]: anew } = await this.#ready(deadline)
      if (anew.text === prepared.text) throw error
      return await this.#run(action, anew, values, deadline)
    }
  }

  /**
   * The error for a user of whom a value is too long; with the columns that it is too long for, where those are known.
   */
  async #tooLong (observation: Observation, cause: unknown, deadline: Deadline): Promise<Error> {
    const facts = await this.#facts(deadline).catch(() => null)
    const places = longValues(this.#table, facts, observation)
    const isIndexed = sqlStateOf(cause) === '54000'
    const where = isIndexed ? `a value is too long for an index (${placeOf(cause)})` : placeOf(cause)
    return new errors.ValueTooLong(places.length > 0 ? places.join('; ') : where, { cause })
  }

  /** @param action - one of those above, for the log when it is refused */
  async #run (
    action: string, prepared: Statement, values: unknown[], deadline: Deadline
  ): Promise<readonly TextRow[]> {
    for (let retries = 0; ; retries++) {
      try {
        const rows = await this.#names.send(prepared.name, named => this.#send(named, prepared, values, deadline))
        this.#withdrawals.answered(action)
        return rows
      } catch (error) {
        const unavailable = sourceFailureOf(error)
        if (unavailable !== null) {
          this.#withdrawals.failed(action, unavailable)
          throw unavailable
        }
        if (databaseFailureOf(error, 'own') !== 'aborted') {
          throw new errors.StatementRefused(placeOf(error), { cause: error })
        }
        // 57014: the statement was cancelled, most often by statement_timeout; the next one would be as slow.
        if (sqlStateOf(error) === '57014' || retries === maxRetries) {
          throw new SourceUnavailable('The database did not complete a statement', { cause: error })
        }
        await pause(this.#clock, this.#random() * firstBackoffMs * 2 ** retries, deadline.signal)
      }
    }
  }

  async #send (
    named: { readonly name?: string }, prepared: Statement, values: unknown[], deadline: Deadline
  ): Promise<readonly TextRow[]> {
    const countedPool = (): PoolLike => {
      const pool = this.#pool()
      if (prepared !== this.#prepared?.ping) this.#statements++
      return pool
    }
    return await sendStatement(countedPool, { ...named, text: prepared.text, values }, deadline, this.#clock, what)
  }
}

/** The statements of a store. */
interface Statements {
  readonly find: Statement
  readonly write: Statement
  /** The same, where a subject ends in a blank. */
  readonly writeBlanks: Statement
  readonly touch: Statement
  /** The same as find, but not counted. */
  readonly ping: Statement
}

function statementsOf (table: UsersTable, types: ColumnTypes): Statements {
  const find = findUsers(table, types)
  const [write, writeBlanks] = table.createUsers
    ? [upsertUsers(table, types, false), upsertUsers(table, types, true)]
    : [updateUsers(table, types), updateUsers(table, types)]
  return { find, write, writeBlanks, touch: touchUsers(table), ping: { ...find } }
}

function rowRefused (cause: unknown): Error {
  return new errors.RowRefused(placeOf(cause), { cause })
}

function sqlStateOf (error: unknown): string {
  const { code } = (error ?? {}) as { code?: unknown }
  return typeof code === 'string' ? code : ''
}

/**
 * Whether a row was refused for what is in it. 22: a value does not fit; 23, 27, 44: a constraint; 54: too long for an
 * index; P0: a trigger refuses.
 */
function isRowRefusal (error: unknown): boolean {
  return /^(?:2[237]|44|54|P0)/.test(sqlStateOf(error))
}

/** The place where a statement failed, without any value: SQLSTATE, table, column, constraint. */
function placeOf (error: unknown): string {
  const { table, column, constraint } = (error ?? {}) as { table?: unknown, column?: unknown, constraint?: unknown }
  const parts = Object.entries({ SQLSTATE: sqlStateOf(error), table, column, constraint })
  const told = parts.filter(([, value]) => typeof value === 'string' && value !== '')
  return told.map(([name, value]) => `${name} ${String(value)}`).join(', ') || 'no SQLSTATE'
}
