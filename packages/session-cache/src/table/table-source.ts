import {
  databaseFailureOf, readInHalves, sendStatement, sourceFailureOf, SourceUnavailable, startDeadline, StatementNames,
  Withdrawals, type Deadline, type LoadRequest, type PoolLike, type SessionKey, type SourceLog, type SourceScope,
  type TextRow, type UserRecord, type UserSource, type WatchedTable
} from '@orientor/session-contract/core'
import { errors } from '../errors.js'
import { soughtTables, tableFactsOf, tableFactsSql } from '../sql/table-facts.js'
import { planOf, readColumns, type TablePlan } from './table-plan.js'
import { recordOfRow } from './table-row.js'
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

type Found = ReadonlyMap<SessionKey, UserRecord>

class TableSource implements UserSource {
  readonly watches: readonly WatchedTable[]
  readonly #config: TableSourceConfig
  #pool: PoolLike | null
  #log: SourceLog | null = null
  #withdrawals: Withdrawals | null = null
  #plan: TablePlan | null = null
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
      await this.#ask(await this.#planned(deadline), [], deadline)
    } catch (error) {
      // Then the first load looks at the table.
      if (!(error instanceof SourceUnavailable)) throw error
    } finally {
      deadline.release()
    }
  }

  load (batch: readonly LoadRequest[], deadline: Deadline): ReadonlyArray<Promise<UserRecord>> {
    const records = this.#read(batch, deadline)
    return batch.map(async ({ key }) => (await records).get(key) ?? unknownUser)
  }

  async #read (batch: readonly LoadRequest[], deadline: Deadline): Promise<Found> {
    const plan = await this.#planned(deadline)
    try {
      return await this.#select(plan, batch, deadline)
    } catch (error) {
      if (error instanceof SourceUnavailable) throw error
      // The table may have changed since it was looked at.
      this.#plan = null
      const renewed = await this.#planned(deadline)
      if (renewed.text === plan.text) throw error
      return await this.#select(renewed, batch, deadline)
    }
  }

  async #planned (deadline: Deadline): Promise<TablePlan> {
    if (this.#plan !== null) return this.#plan
    const { schema, table } = this.#config
    const sought = soughtTables([{ schemas: schema === null ? null : [schema], name: table }])
    const [row] = await this.#send(tableFactsSql, [sought], deadline)
    return (this.#plan = planOf(this.#config, tableFactsOf(row?.['facts'])[0]))
  }

  async #select (plan: TablePlan, batch: readonly LoadRequest[], deadline: Deadline): Promise<Found> {
    const asked = batch.filter(({ issuer, subject }) => this.#isOurs(issuer) && plan.accepts(subject))
    if (asked.length === 0) return new Map()
    const { issuer } = this.#config
    const rows = await this.#ask(plan, asked, deadline)
    const byKey = new Map(rows.map(row => [`${row['issuer'] ?? ''}\0${row['subject']}`, row]))
    // By the texts of the rows: what the database takes for equal need not be the same.
    return new Map(asked.flatMap(request => {
      const row = byKey.get(`${typeof issuer === 'string' ? request.issuer : ''}\0${request.subject}`)
      return row === undefined ? [] : [[request.key, recordOfRow(row, request, this.#config)]]
    }))
  }

  /** Sends the statement; a user whose key the database cannot hold has no row. */
  async #ask (plan: TablePlan, asked: readonly LoadRequest[], deadline: Deadline): Promise<readonly TextRow[]> {
    const read = async (some: readonly LoadRequest[]): Promise<readonly TextRow[]> => {
      const subjects = some.map(({ subject }) => subject)
      const issuers = some.map(({ issuer }) => issuer)
      const values = typeof this.#config.issuer === 'string' ? [subjects, issuers] : [subjects]
      return await this.#send(plan.text, values, deadline, plan.name)
    }
    return await readInHalves(asked, read, isUnholdable)
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

/** Whether a value could not be taken (SQLSTATE class 22, data exception): one of those that are looked for. */
function isUnholdable (error: unknown): boolean {
  const { code } = ((error as Error).cause ?? {}) as { readonly code?: unknown }
  return error instanceof errors.StatementRefused && typeof code === 'string' && code.startsWith('22')
}
