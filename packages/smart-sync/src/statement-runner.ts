import {
  databaseFailureOf, pause, sendStatement, sourceFailureOf, SourceUnavailable, StatementNames, type Clock,
  type Deadline, type PoolLike, type TextRow, type Withdrawals
} from '@orientor/session-contract/core'
import { errors } from './errors.js'
import { isRowRefusal, placeOf, sqlStateOf } from './row-refusal.js'
import { needsTypes, typesOf } from './sql/column-types.js'
import { beginCreation, beginWrite } from './sql/creation-lock.js'
import { statement, type Statement } from './sql/statement.js'
import { storeStatements, type StoreStatements } from './sql/store-statements.js'
import { factsValues, tableFactsOf, tableFactsSql, type TableFacts } from './sql/table-facts.js'
import { sendInTransaction } from './transaction.js'
import type { UsersTable } from './users-table.js'

/** Options of StatementRunner. */
export interface StatementRunnerOptions {
  readonly table: UsersTable
  /** The pool, asked for at each statement; may throw SourceUnavailable while there is none. */
  readonly pool: () => PoolLike
  readonly clock: Clock
  /** Randomness from 0 to below 1, as Math.random(). */
  readonly random: () => number
  /** Takes note of refusals of PostgreSQL. */
  readonly withdrawals: Withdrawals
  /** Begins the message of an error, such as "The users table". */
  readonly what: string
  /** The action that PostgreSQL may refuse when the types of columns are read. */
  readonly reading: string
}

const maxRetries = 5
const firstBackoffMs = 10
/** The most times that a transaction is begun anew on another connection after its own was cut. */
const maxReconnects = 1
/** The longest wait for a lock of a transaction that makes rows, in milliseconds: deletions wait for it meanwhile. */
const maxLockWaitMs = 2000
const factsStatement = statement('facts', tableFactsSql)

/**
 * The statements of a users table, made for the types that its columns have, and their way to PostgreSQL. One that lost
 * against another transaction (serialization failure, deadlock, lock timeout) is sent again, at most five times with
 * full jitter, as long as the deadline allows: each is a transaction of its own, and idempotent.
 *
 * Statements are prepared once per connection, and anew when a table changed; see StatementNames.
 */
export class StatementRunner {
  readonly #options: StatementRunnerOptions
  readonly #names = new StatementNames()
  #prepared: StoreStatements | null
  #sent = 0

  constructor (options: StatementRunnerOptions) {
    this.#options = options
    this.#prepared = needsTypes(options.table) ? null : storeStatements(options.table, new Map())
  }

  /** The number of statements sent since the start, with those that were sent again, and without pings. */
  get sent (): number {
    return this.#sent
  }

  /**
   * Runs a statement and answers with its rows; where it was refused, once more with the types that the columns have
   * now, if it is another one then.
   *
   * @param action - the action that PostgreSQL may refuse, for the log
   * @throws SourceUnavailable when the database cannot be had by the deadline; ORI_SYNC_STATEMENT_REFUSED, with the
   *   cause
   */
  async ask (
    action: string, which: keyof StoreStatements, values: unknown[], deadline: Deadline
  ): Promise<readonly TextRow[]> {
    const { [which]: prepared } = await this.#ready(deadline)
    try {
      return await this.#run(action, prepared, values, deadline)
    } catch (error) {
      const isForTypes = error instanceof errors.StatementRefused && !isRowRefusal(error.cause)
      if (!isForTypes) throw error
      // Unless another request has read the types since.
      if (this.#prepared?.[which] === prepared) this.#prepared = null
      const { [which]: anew } = await this.#ready(deadline)
      if (anew.text === prepared.text) throw error
      return await this.#run(action, anew, values, deadline)
    }
  }

  /** Runs the ping, as it is: what it is refused for is told. Rejects as ask() does. */
  async ping (values: unknown[], deadline: Deadline): Promise<void> {
    const { ping } = await this.#ready(deadline)
    await this.#run(this.#options.reading, ping, values, deadline)
  }

  /** The facts of the table; null where it is not there. Rejects as ask() does. */
  async facts (deadline: Deadline): Promise<TableFacts | null> {
    const { table, reading } = this.#options
    return tableFactsOf(await this.#run(reading, factsStatement, factsValues(table), deadline))
  }

  /**
   * The statements; where they depend on the types of columns, those are read first, and anew after a statement was
   * refused.
   */
  async #ready (deadline: Deadline): Promise<StoreStatements> {
    if (this.#prepared !== null) return this.#prepared
    const facts = await this.facts(deadline)
    const statements = storeStatements(this.#options.table, typesOf(facts), facts?.kind === 'p')
    // Where the table is not there the statements fail, and say so.
    if (facts !== null) this.#prepared = statements
    return statements
  }

  async #run (
    action: string, prepared: Statement, values: unknown[], deadline: Deadline
  ): Promise<readonly TextRow[]> {
    const { clock, random, withdrawals } = this.#options
    let reconnects = 0
    for (let retries = 0; ; retries++) {
      try {
        const rows = await this.#names.send(prepared.name, named => this.#send(named, prepared, values, deadline))
        withdrawals.answered(action)
        return rows
      } catch (error) {
        const failure = databaseFailureOf(error, 'own')
        // A pool sends a statement again, but not a transaction.
        const isCut = prepared.transaction !== undefined && ['severed', 'unsent'].includes(failure)
        if (isCut && reconnects++ < maxReconnects) continue
        const unavailable = sourceFailureOf(error)
        if (unavailable !== null) {
          withdrawals.failed(action, unavailable)
          throw unavailable
        }
        if (failure !== 'aborted') throw new errors.StatementRefused(placeOf(error), { cause: error })
        // 57014: the statement was cancelled, most often by statement_timeout; the next one would be as slow.
        if (sqlStateOf(error) === '57014' || retries === maxRetries) {
          throw new SourceUnavailable('The database did not complete a statement', { cause: error })
        }
        await pause(clock, random() * firstBackoffMs * 2 ** retries, deadline.signal)
      }
    }
  }

  async #send (
    named: { readonly name?: string }, prepared: Statement, values: unknown[], deadline: Deadline
  ): Promise<readonly TextRow[]> {
    const { table, pool, clock, what } = this.#options
    const countedPool = (count: number): PoolLike => {
      const asked = pool()
      if (prepared !== this.#prepared?.ping) this.#sent += count
      return asked
    }
    const sent = { ...named, text: prepared.text, values }
    if (prepared.transaction === undefined) {
      return await sendStatement(() => countedPool(1), sent, deadline, clock, what)
    }
    const leftMs = Math.ceil(deadline.atMs - clock.monotonic())
    if (leftMs <= 0 || deadline.signal.aborted) throw new SourceUnavailable(`${what} was not asked: no time is left`)
    const limits = { lockTimeoutMs: Math.min(leftMs, maxLockWaitMs), statementTimeoutMs: leftMs }
    const begin = prepared.transaction === 'creation' ? beginCreation(table, limits) : beginWrite(limits)
    // One comes with BEGIN, which is none itself, nor is COMMIT.
    return await sendInTransaction(begin, sent, { pool: countedPool(2), deadline, clock, what })
  }
}
