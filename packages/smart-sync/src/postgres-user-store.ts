import {
  pause, sessionKey, untoldMark, Withdrawals, type Clock, type Deadline, type PoolLike, type SessionKey, type TextRow,
  type WatchedTable, type Withdrawal
} from '@orientor/session-contract/core'
import { errors } from './errors.js'
import { longValues } from './long-values.js'
import { readInHalves } from './read-in-halves.js'
import type { ProfileObserved } from './observation.js'
import { droppedSilently, isRowRefusal, placeOf, refusedFor, sqlStateOf } from './row-refusal.js'
import { findValues } from './sql/find-users.js'
import { letterValues } from './sql/keep-letters.js'
import { keyValues } from './sql/keys.js'
import { touchValues } from './sql/touch-users.js'
import { updateValues } from './sql/update-users.js'
import { upsertValues } from './sql/upsert-users.js'
import { userOfRow, watchedUsers } from './sql/user-row.js'
import { StatementRunner } from './statement-runner.js'
import { isUnholdable, unholdableText, type ProfileText } from './unholdable-text.js'
import type {
  DeadLetter, FoundUsers, UserKey, UserStore, WriteMode, WriteResult, WrittenUser
} from './user-store.js'
import type { UserUpdate } from './user-update.js'
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
const creating = 'to make rows of new users'
const deleting = 'to mark users as deleted'
const noting = 'to note when users were compared'
const keeping = 'to keep dead letters'
const silent = { error: (): void => {}, info: (): void => {} }
/** The pauses between two looks at the transactions that a deletion waits for, in milliseconds. */
const firstLookMs = 20
const longestLookMs = 320

/**
 * The users table in PostgreSQL (14 or later): what the rows, tombstones and dead letters are asked and told, by one
 * statement each, and what a refusal of their data means. How statements are sent, and sent again: StatementRunner.
 */
export class PostgresUserStore implements UserStore {
  readonly maxWrites: number = 200
  readonly watches: readonly WatchedTable[]
  readonly #table: UsersTable
  readonly #runner: StatementRunner
  readonly #clock: Clock
  readonly #beforeWrite: () => void
  readonly #withdrawals: Withdrawals
  readonly #onUnholdable: (text: 'key' | ProfileText) => void

  constructor ({
    pool, clock, random, beforeWrite = () => {}, withdrawals = new Withdrawals('', silent, clock),
    onUnholdable = () => {}, ...table
  }: PostgresUserStoreOptions) {
    this.#table = resolveUsersTable(table)
    this.#runner = new StatementRunner({ table: this.#table, pool, clock, random, withdrawals, what, reading })
    this.#clock = clock
    this.#beforeWrite = beforeWrite
    this.#withdrawals = withdrawals
    this.#onUnholdable = onUnholdable
    this.watches = Object.freeze([watchedUsers(this.#table)])
  }

  /** The number of statements sent since the start, with those that were sent again, and without health checks. */
  get statements (): number {
    return this.#runner.sent
  }

  /** The refusal of PostgreSQL to write users that lasts now; null when none is known. */
  get refusedWrites (): Withdrawal | null {
    // Not that of dead letters: only the next one shows that it is over.
    return [writing, creating, noting, deleting].map(action => this.#withdrawals.of(action))
      .find(refusal => refusal !== null) ?? null
  }

  /**
   * Whether a user without a row may get one: not where the app makes the rows, nor for a user of another issuer than
   * that of all rows.
   */
  mayCreate ({ issuer }: UserKey): boolean {
    return this.#table.createUsers && this.#isOurs(issuer)
  }

  /** Whether a user may have a row: not one of another issuer than that of all rows. */
  mayHold ({ issuer }: UserKey): boolean {
    return this.#isOurs(issuer)
  }

  async find (keys: readonly UserKey[], deadline: Deadline): Promise<FoundUsers> {
    const ours = keys.filter(({ issuer }) => this.#isOurs(issuer))
    // A user whose key the database cannot hold has no row.
    const absentMarks = new Map(ours.map(({ key }) => [key, untoldMark]))
    const read = async (some: readonly UserKey[]): Promise<readonly TextRow[]> => {
      const rows = await this.#runner.ask(reading, 'find', findValues(some), deadline)
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

  async write (updates: readonly UserUpdate[], mode: WriteMode, deadline: Deadline): Promise<WriteResult> {
    this.#beforeWrite()
    try {
      return { kind: 'done', written: this.#written(await this.#sendWrite(updates, mode, deadline)) }
    } catch (error) {
      // Nothing was sent.
      if (error instanceof errors.InsertRefused) return { kind: 'refused', duplicate: false, error }
      const { cause } = error as { cause?: unknown }
      if (!isRowRefusal(cause)) throw error
      const [only, ...others] = updates
      const profile = others.length === 0 ? only?.profile ?? null : null
      if (profile === null) return refusedFor(cause)
      const unholdable = isUnholdable(cause) ? unholdableText(cause, profile.profile) : null
      if (unholdable !== null) return await this.#writeWithout(unholdable, only!, profile, mode, cause, deadline)
      const isTooLong = ['22001', '54000'].includes(sqlStateOf(cause))
      return refusedFor(cause, isTooLong ? await this.#tooLong(profile, cause, deadline) : undefined)
    }
  }

  async #sendWrite (
    updates: readonly UserUpdate[], { syncedAtMs, creates }: WriteMode, deadline: Deadline
  ): Promise<readonly TextRow[]> {
    const endsSessions = updates.some(({ endedSessions }) => endedSessions !== null)
    if (!creates || !this.#table.createUsers) {
      const values = updateValues(updates, syncedAtMs, { endsSessions })
      return await this.#runner.ask(writing, endsSessions ? 'updateEnding' : 'update', values, deadline)
    }
    const hasBlanks = updates.some(({ subject }) => subject.endsWith(' '))
    const values = upsertValues(this.#table, updates, syncedAtMs, { endsSessions })
    const create = endsSessions ? 'createEnding' : hasBlanks ? 'createBlanks' : 'create'
    return await this.#runner.ask(creating, create, values, deadline)
  }

  #written (rows: readonly TextRow[]): ReadonlyMap<SessionKey, WrittenUser> {
    return new Map(rows.map(row => {
      const user = userOfRow(row, this.#table)
      return [user.key, { user, created: row['created'] === 'true' }] as const
    }))
  }

  /** Writes a user without a text that cannot be held: a user without a name is better than none. */
  async #writeWithout (
    text: 'key' | ProfileText, update: UserUpdate, observed: ProfileObserved, mode: WriteMode, cause: unknown,
    deadline: Deadline
  ): Promise<WriteResult> {
    this.#onUnholdable(text)
    if (text === 'key') return { ...refusedFor(cause), isKeyRefused: true }
    const profile = { ...observed, profile: { ...observed.profile, [text]: null } }
    return await this.write([{ ...update, profile }], mode, deadline)
  }

  async markDeleted (keys: readonly UserKey[], deadline: Deadline): Promise<WriteResult> {
    this.#beforeWrite()
    const mark = async (some: readonly UserKey[]): Promise<ReadonlyMap<SessionKey, WrittenUser>> => {
      return this.#written(await this.#runner.ask(deleting, 'markDeleted', keyValues(some), deadline))
    }
    const unmarkedOf = async (some: readonly UserKey[]): Promise<readonly UserKey[]> => {
      if (some.length === 0) return []
      const { users } = await this.find(some, deadline)
      return some.filter(({ key }) => users.get(key)?.deleted === false)
    }
    return await this.#unlessRefused(async () => {
      const marked = new Map(await mark(keys))
      const silent = keys.filter(({ key }) => !marked.has(key))
      if (silent.length > 0 && this.#table.createUsers) {
        const { users } = await this.find(silent, deadline)
        const unmarked = silent.filter(({ key }) => users.get(key)?.deleted !== true)
        if (unmarked.length > 0) {
          // A row may be in the making, or made since, by a transaction that does not see the tombstone: it is looked
          // for again.
          await this.#awaitCreations(deadline)
          for (const [key, user] of await mark(unmarked)) marked.set(key, user)
        }
      }
      const left = await unmarkedOf(silent.filter(({ key }) => !marked.has(key)))
      if (left.length > 0) throw new errors.LeftAsItWas()
      return marked
    })
  }

  async deleteMarked (keys: readonly UserKey[], deadline: Deadline): Promise<WriteResult> {
    this.#beforeWrite()
    return await this.#unlessRefused(async () => {
      // One that began before the tombstone must meet the row, by which it sees that the user is deleted.
      await this.#awaitCreations(deadline)
      await this.#runner.ask(deleting, 'deleteMarked', keyValues(keys), deadline)
      return new Map()
    })
  }

  /**
   * Waits until every transaction that may be making rows now has ended. Those that begin later see the tombstones.
   *
   * @throws SourceUnavailable when one is still there at the deadline
   */
  async #awaitCreations (deadline: Deadline): Promise<void> {
    if (!this.#table.createUsers) return
    const underWay = async (): Promise<ReadonlyArray<string | null | undefined>> => {
      return (await this.#runner.ask(deleting, 'creationsUnderWay', [], deadline)).map(row => row['holder'])
    }
    const awaited = new Set(await underWay())
    let pauseMs = firstLookMs
    for (let left = [...awaited]; left.length > 0; left = (await underWay()).filter(holder => awaited.has(holder))) {
      await pause(this.#clock, pauseMs, deadline.signal)
      pauseMs = Math.min(2 * pauseMs, longestLookMs)
    }
  }

  async #unlessRefused (work: () => Promise<ReadonlyMap<SessionKey, WrittenUser>>): Promise<WriteResult> {
    try {
      return { kind: 'done', written: await work() }
    } catch (error) {
      if (error instanceof errors.LeftAsItWas) return droppedSilently()
      const { cause } = error as { cause?: unknown }
      if (!isRowRefusal(cause)) throw error
      return { ...refusedFor(cause), isKeyRefused: isUnholdable(cause) }
    }
  }

  async tombstonesOf (keys: readonly UserKey[], deadline: Deadline): Promise<ReadonlySet<SessionKey>> {
    // It is asked on the way to a write.
    this.#beforeWrite()
    const read = async (some: readonly UserKey[]): Promise<readonly TextRow[]> => {
      return await this.#runner.ask(reading, 'findTombstones', keyValues(some), deadline)
    }
    const rows = await readInHalves(keys, read, error => isUnholdable((error as Error).cause))
    return new Set(rows.map(row => sessionKey(row['issuer'] ?? '', row['subject'] ?? '')))
  }

  async keepDeadLetters (letters: readonly DeadLetter[], deadline: Deadline): Promise<void> {
    try {
      await this.#runner.ask(keeping, 'keep', letterValues(letters), deadline)
    } catch (error) {
      // Where a key cannot be held either, the bytes tell.
      const isLast = letters.every(({ subject }) => subject === null)
      if (isLast || !isUnholdable((error as Error).cause)) throw error
      await this.keepDeadLetters(letters.map(letter => ({ ...letter, subject: null })), deadline)
    }
  }

  async touch (
    keys: readonly UserKey[], syncedAtMs: number, dueBeforeMs: number, deadline: Deadline
  ): Promise<ReadonlySet<SessionKey>> {
    this.#beforeWrite()
    try {
      await this.#runner.ask(noting, 'touch', touchValues(keys, syncedAtMs, dueBeforeMs), deadline)
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
    await this.#runner.ping(findValues([]), deadline)
  }

  #isOurs (issuer: string): boolean {
    const { issuer: ours } = this.#table
    return typeof ours === 'string' || ours.always === issuer
  }

  /**
   * The error for a user of whom a value is too long; with the columns that it is too long for, where those are known.
   */
  async #tooLong (observation: ProfileObserved, cause: unknown, deadline: Deadline): Promise<Error> {
    const facts = await this.#runner.facts(deadline).catch(() => null)
    const places = longValues(this.#table, facts, observation)
    const isIndexed = sqlStateOf(cause) === '54000'
    const where = isIndexed ? `a value is too long for an index (${placeOf(cause)})` : placeOf(cause)
    return new errors.ValueTooLong(places.length > 0 ? places.join('; ') : where, { cause })
  }
}
