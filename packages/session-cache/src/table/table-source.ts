import {
  databaseFailureOf, sendStatement, sourceFailureOf, SourceUnavailable, startDeadline, StatementNames, untoldMark, Withdrawals,
  type Deadline, type LoadRequest, type PoolLike, type SessionKey, type SourceLog, type SourceScope,
  type TextRow, type UserRecord, type UserSource, type WatchedTable
} from '@orientor/session-contract/core'
import { errors } from '../errors.js'
import { soughtTables, tableFactsOf, tableFactsSql } from './table-facts.js'
import { planOf, readColumns, type TablePlan } from './table-plan.js'
import { markOfRow, recordOfRow } from './table-row.js'
import { resolveTableOptions, type TableSourceConfig, type TableSourceOptions } from './table-source-options.js'

/** The longest that a start waits for the database, in milliseconds: below the 10 s that Fastify gives a hook. */
const startPatienceMs = 3000
const what = 'The table of users'
const reading = 'to read users'
const unknownUser: UserRecord = Object.freeze({ kind: 'unknown', revision: 0 })

/**
 * A table of one's own as the source of users: reads only, changes nothing, and needs no migration. The options are
 * held against the table when the server becomes ready.
 *
 * A batch is one prepared statement. A row is the user whom it names byte by byte, also where the database takes other
 * spellings for equal (citext, a collation that ignores case); a text that the column of the subject cannot hold is an
 * unknown user. While the database cannot be reached, or refuses, loads reject with SourceUnavailable.
 *
 * @throws ORI_CONTRACT_INVALID_OPTION naming the option, the rule and what was received
 */
export function tableSource (options: TableSourceOptions): UserSource {
  return new TableSource(resolveTableOptions(options))
}

/** The records of those who were asked for, by key; an error for a user whose own row failed the statement. */
type Found = ReadonlyMap<SessionKey, UserRecord | Error>

class TableSource implements UserSource {
  readonly watches: readonly WatchedTable[]
  readonly #config: TableSourceConfig
  #pool: PoolLike | null
  #log: SourceLog | null = null
  #withdrawals: Withdrawals | null = null
  #plan: TablePlan | null = null
  /** The sentence, as it was logged, about a table that fitted once and does not now; null: it fits. */
  #misfit: string | null = null
  readonly #names = new StatementNames()
  #hasWarned = false

  constructor (config: TableSourceConfig) {
    this.#config = config
    this.#pool = config.pool
    const { schema, table, issuer, subject, columns: { revision }, harmlessTriggers } = config
    const columns = readColumns(config).filter(column => column !== subject && column !== issuer && column !== revision)
    const named = schema === null ? { table } : { schema, table }
    this.watches = Object.freeze([Object.freeze({ ...named, issuer, subject, revision, columns, harmlessTriggers })])
  }

  attach ({ pool, log }: SourceScope): void {
    this.#log = log
    this.#withdrawals = new Withdrawals('tableSource()', log, this.#config.clock)
    this.#pool ??= pool
    if (this.#pool === null) throw new errors.NoPool()
  }

  async ready (): Promise<void> {
    const deadline = startDeadline(this.#config.clock, startPatienceMs)
    try {
      // Asks for no user: a role that may not read the table is told before a user is kept out.
      await this.#ask(this.#plan ?? await this.#look(deadline), [], deadline)
    } catch (error) {
      // Then the first load looks at the table.
      if (!(error instanceof SourceUnavailable)) throw error
    } finally {
      deadline.release()
    }
  }

  load (batch: readonly LoadRequest[], deadline: Deadline): ReadonlyArray<Promise<UserRecord>> {
    const records = this.#read(batch, deadline)
    return batch.map(async ({ key }) => {
      const found = (await records).get(key) ?? unknownUser
      if (found instanceof Error) throw found
      return found
    })
  }

  async #read (batch: readonly LoadRequest[], deadline: Deadline): Promise<Found> {
    const plan = this.#plan ?? await this.#look(deadline)
    try {
      return await this.#select(plan, batch, deadline)
    } catch (error) {
      if (error instanceof SourceUnavailable) throw error
      // The table may have changed since it was looked at.
      const renewed = await this.#look(deadline)
      if (renewed.text === plan.text) throw error
      return await this.#select(renewed, batch, deadline)
    }
  }

  /**
   * Looks at the table as it is now. One that fitted before and does not fit any more, since it is being put in another's
   * place or was altered, is unavailable, and what was planned stays for when it is back.
   */
  async #look (deadline: Deadline): Promise<TablePlan> {
    const { schema, table } = this.#config
    const sought = soughtTables([{ schemas: schema === null ? null : [schema], name: table }])
    const [row] = await this.#send(tableFactsSql, [sought], deadline)
    try {
      return (this.#plan = planOf(this.#config, tableFactsOf(row?.['facts'])[0]))
    } catch (error) {
      if (this.#plan === null) throw error
      const { message } = error as Error
      if (this.#misfit !== message) {
        this.#log?.error({ err: error }, 'tableSource(): the table does not fit any more. A cache in front serves the ' +
          `users it knows, marked stale. ${message}`)
      }
      this.#misfit = message
      throw new SourceUnavailable('The table does not fit any more', { cause: error })
    }
  }

  async #select (plan: TablePlan, batch: readonly LoadRequest[], deadline: Deadline): Promise<Found> {
    const asked = batch.filter(({ issuer, subject }) => this.#isOurs(issuer) && plan.accepts(subject))
    if (asked.length === 0) return new Map()
    const found = await this.#ask(plan, asked, deadline)
    this.#misfit = null
    return found
  }

  /**
   * Sends the statement. Data of one user may fail it (SQLSTATE class 22): then each half is asked for by itself, until
   * that one stands alone.
   */
  async #ask (plan: TablePlan, asked: readonly LoadRequest[], deadline: Deadline): Promise<Found> {
    const subjects = asked.map(({ subject }) => subject)
    const issuers = asked.map(({ issuer }) => issuer)
    try {
      const values = typeof this.#config.issuer === 'string' ? [subjects, issuers] : [subjects]
      return this.#found(asked, await this.#send(plan.text, values, deadline, plan.name))
    } catch (error) {
      const [first] = asked
      if (!isOfData(error) || first === undefined) throw error
      if (asked.length === 1) {
        return new Map([[first.key, await this.#isHeld(first, deadline) ? error : { ...unknownUser, readMark: untoldMark }]])
      }
      const middle = Math.ceil(asked.length / 2)
      const before = await this.#ask(plan, asked.slice(0, middle), deadline)
      return new Map([...before, ...await this.#ask(plan, asked.slice(middle), deadline)])
    }
  }

  #found (asked: readonly LoadRequest[], rows: readonly TextRow[]): Found {
    const { issuer } = this.#config
    // Where there is no user one row tells the mark.
    const found = rows.filter(row => row['subject'] !== null)
    const byKey = new Map(found.map(row => [`${row['issuer'] ?? ''}\0${row['subject']}`, row]))
    // By the texts of the rows: what the database takes for equal need not be the same.
    const unknown: UserRecord = Object.freeze({ ...unknownUser, ...markOfRow(rows[0]) })
    return new Map(asked.map(request => {
      const row = byKey.get(`${typeof issuer === 'string' ? request.issuer : ''}\0${request.subject}`)
      return [request.key, row === undefined ? unknown : recordOfRow(row, request, this.#config)]
    }))
  }

  /** Whether the database can hold the texts that name a user; one with a letter that its encoding lacks names no user. */
  async #isHeld ({ subject, issuer }: LoadRequest, deadline: Deadline): Promise<boolean> {
    try {
      await this.#send('SELECT $1::text, $2::text', [subject, issuer], deadline)
      return true
    } catch (error) {
      if (!isOfData(error)) throw error
      return false
    }
  }

  #isOurs (issuer: string): boolean {
    const { issuer: ours, table } = this.#config
    if (typeof ours === 'string' || ours.always === issuer) return true
    if (!this.#hasWarned) {
      this.#hasWarned = true
      this.#log?.warn({ issuer, expected: ours.always, table }, 'tableSource(): a token of another issuer than the ' +
        'table has, whose users are unknown here. Compare the option "issuer" with the iss of your tokens')
    }
    return false
  }

  async #send (text: string, values: unknown[], deadline: Deadline, name?: string): Promise<readonly TextRow[]> {
    const pool = this.#pool
    if (pool === null) throw new errors.NoPool()
    const send = async (named: { readonly name?: string }): Promise<readonly TextRow[]> => {
      return await sendStatement(() => pool, { ...named, text, values }, deadline, this.#config.clock, what)
    }
    try {
      const rows = await (name === undefined ? send({}) : this.#names.send(name, send))
      if (name !== undefined) this.#withdrawals?.answered(reading)
      return rows
    } catch (error) {
      const unavailable = sourceFailureOf(error)
      this.#withdrawals?.failed(reading, unavailable)
      if (unavailable !== null) throw unavailable
      const isAborted = databaseFailureOf(error) === 'aborted'
      if (isAborted) throw new SourceUnavailable('A statement was aborted', { cause: error })
      throw new errors.StatementRefused({ cause: error })
    }
  }
}

/** Whether it was for what a value or a row holds (SQLSTATE class 22, data exception). */
function isOfData (error: unknown): error is Error {
  const { code } = ((error as Error).cause ?? {}) as { readonly code?: unknown }
  return error instanceof errors.StatementRefused && typeof code === 'string' && code.startsWith('22')
}
