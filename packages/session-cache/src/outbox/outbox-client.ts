import { createHash } from 'node:crypto'
import {
  asSent, databaseFailureOf, isOutage, quotedName, sendStatement, sqlLiteral, startDeadline, StatementNames, withdrawalOf, withinDeadline,
  type Clock, type PoolLike, type Queryable, type TextRow, type UserChange
} from '@orientor/session-contract/core'
import type { Tail } from '../bell/relay.js'
import { changeOf } from '../coherence/announcement.js'
import { PollFailure, type PollAnswer } from '../coherence/polled-trust.js'
import { gapBetween, seesAllOf, snapshotOf } from '../coherence/snapshot.js'
import { installSql } from './install-outbox.js'
import { aloneSql } from './locked-transaction.js'
import { flawOfOutbox } from './judge-outbox.js'
import { missingColumns } from './missing-columns.js'
import type { TableTriggers } from './noting-triggers.js'
import { outboxFactsSql, type OutboxFacts } from './outbox-facts.js'
import { ownOperators } from './own-operators.js'
import { outboxFunctions } from './outbox-functions.js'
import { retireSql } from './retired-triggers.js'
import { soughtTables, tableFactsOf, tableFactsSql } from '../table/table-facts.js'

/** The dependencies of a client of an outbox. */
export interface OutboxClientParts {
  /** The pool for polls; may throw while there is none. */
  readonly pool: PoolLike
  readonly triggers: readonly TableTriggers[]
  /** The schema of the outbox; null: that of the first watched table. */
  readonly schema: string | null
  readonly clock: Clock
  /** The time that a statement may take, in milliseconds. */
  readonly timeoutMs: number
  /** The id of the instance, a UUID. */
  readonly instance: string
}

/** The result of an attempt to install: `later` passes by itself, `refused` needs an operator who may. */
export type Installed = { readonly kind: 'done' } | { readonly kind: 'later' | 'refused', readonly code: string }

/** The number of changes that one answer holds; where more were noted since the last poll a new epoch begins. */
export const maxChanges = 5000
/**
 * The number of tables (those that are read with a watched one included), and of instances, up to which each poll makes
 * the digest itself; beyond either a survey makes it for all instances.
 */
const maxInline = 8
/** The age of a survey from which on an instance has another one made, in milliseconds. */
export const surveyAgeMs = 500

/** The time that installing may take, in milliseconds. */
const installTimeoutMs = 10_000
/** The time that installing waits for a lock, in milliseconds: other writers wait behind it. */
const installLockTimeoutMs = 100

const what = 'The outbox'
const standby = 'The server is a standby, or the session is read-only and the server has no mark yet, so that nothing can be proven'
const forbidden = 'The role may not call the functions of the outbox (42501). Every role may that may read the watched ' +
  'table when what outboxSql() returns is run: GRANT SELECT on it, and run that again, as its owner'
const isolated = 'A poll was answered in a transaction that is not READ COMMITTED, whose snapshot may be old: one ' +
  'that was left open, or the role has another default_transaction_isolation'
const flaws: Readonly<Record<string, string>> = {
  standby,
  isolation: isolated,
  writing: 'A poll was answered in a transaction that was left open and has written',
  'row security': 'Row-level security is active on the outbox for its own owner'
}

/** The statements of an outbox, over a pool. Those that only read are single statements, so that any pooler will do. */
export class OutboxClient {
  readonly #parts: OutboxClientParts
  readonly #names: readonly string[]
  readonly #harmless: string
  #schema: string | null
  /** Whether polls are sent in a transaction of their own, READ COMMITTED, since the role has another default. */
  #isWrapped = false
  /** The mark of the server on which it was made sure that the mark is its own. */
  #begun: string | null = null
  /**
   * The digest of what was found in order last. What mends a flaw may be outside of the digest, so that flaws are
   * looked for at each poll.
   */
  #inOrder: string | null = null
  #isSurveyed = false
  #instances = 1
  readonly #statements = new StatementNames()
  /** Whether what is watched was there once, and in order: what becomes of its columns later the triggers tell. */
  #wasThere = false
  #missing: string | null = null

  constructor (parts: OutboxClientParts) {
    this.#parts = parts
    this.#schema = parts.schema
    this.#names = parts.triggers.map(({ table }) => table)
    this.#harmless = JSON.stringify(parts.triggers.map(({ harmless }) => harmless))
  }

  /**
   * The watched columns that their table does not have, in one sentence, as of the last question before all was in
   * order; null: none.
   */
  get missing (): string | null {
    return this.#missing
  }

  /**
   * Asks for what was committed after a position.
   *
   * @throws PollFailure when the answer proves nothing; else what the driver throws
   */
  async ask (position: string | null): Promise<PollAnswer> {
    try {
      const answer = await this.#ask(position).catch(async (error: unknown) => {
        if (!isMissing(error)) throw error
        return flawed(await this.#flaw() ?? 'The outbox was not there')
      })
      // Another table may be the first of its name on the search path now, with an outbox in its schema.
      if ('flaw' in answer.finding) this.#schema = this.#parts.schema
      return answer
    } catch (error) {
      throw failureOf(error)
    }
  }

  /** Puts the outbox and its triggers in place. Never rejects. */
  async install (): Promise<Installed> {
    return await this.#run(installSql(this.#parts.triggers, this.#parts.schema, installLockTimeoutMs))
  }

  /** Removes triggers that no instance needs any more. What is left over costs CPU, and does no harm. Never rejects. */
  async retire (): Promise<void> {
    await this.#run(retireSql(this.#parts.triggers, this.#parts.schema))
  }

  /**
   * Notes that this instance is there, and removes what every instance has read; resolves with the number of instances,
   * and whether there is more to be removed.
   */
  async checkIn (): Promise<{ readonly instances: number, readonly more: boolean }> {
    const { instance, triggers } = this.#parts
    const text = `SELECT c.instances::text, c.more::text
FROM ${this.#function('checkIn')}($1::pg_catalog.uuid, $2::pg_catalog.text[]) AS c`
    const [row] = await this.#send(text, [instance, triggers.map(({ name }) => name)])
    this.#instances = Number(row?.['instances'])
    return { instances: this.#instances, more: row?.['more'] === 'true' }
  }

  /** Notes that this instance is gone. */
  async checkOut (): Promise<void> {
    await this.#send(`SELECT ${this.#function('checkOut')}($1::pg_catalog.uuid)::text AS gone`, [this.#parts.instance])
  }

  /** Notes a change that no trigger noted. */
  async note (change: UserChange): Promise<void> {
    const [keyHash, revision] = change.kind === 'all' ? [null, null] : [`\\x${change.keyHash}`, change.revision]
    const text = `SELECT ${this.#function('note')}($1::pg_catalog.bytea, $2::pg_catalog.int8)::text AS noted`
    await this.#send(text, [keyHash, revision])
  }

  /** Takes or renews the lease of the relay; resolves with whether this instance holds it. */
  async lead (): Promise<boolean> {
    const [row] = await this.#send(`SELECT ${this.#function('lead')}($1::pg_catalog.uuid)::text AS leads`, [this.#parts.instance])
    return row?.['leads'] === 'true'
  }

  /** Asks for what was committed after a position, without what proves it. */
  async tail (position: string | null): Promise<Tail> {
    const text = `SELECT t.flaw, t.snapshot, t.total::text, t.announced
FROM ${this.#function('tail')}($1::pg_catalog.pg_snapshot, $2::pg_catalog.int4) AS t`
    const [row] = await this.#sendNamed(text, [position, maxChanges])
    if (row?.['flaw'] != null) throw new PollFailure(flaws[row['flaw']] ?? row['flaw'])
    return {
      position: row?.['snapshot'] ?? '',
      changes: changesOf(row?.['announced']),
      isCut: Number(row?.['total'] ?? 0) > maxChanges
    }
  }

  async #ask (position: string | null): Promise<PollAnswer> {
    if (!this.#wasThere) this.#missing = await this.#look()
    if (this.#missing !== null) return flawed(this.#missing)
    if (this.#schema === null) this.#schema = await this.#locate()
    if (this.#schema === null) return flawed(`The table ${this.#names[0]!} does not exist`)
    if (this.#inOrder === null) {
      // Before a function is called: another role may have put one of that name there.
      const flaw = await this.#flaw()
      if (flaw !== null) return flawed(flaw)
    }
    let examined = null as Examined | null
    for (let polls = 0; ; polls++) {
      const row = await this.#poll(position)
      const { mark, digest, oids } = row
      if (oids.includes('-')) return flawed(`The table ${this.#names[oids.indexOf('-')]!} does not exist`)
      if (polls === 5) throw new PollFailure('What announces changes all the time')
      if (mark === null || mark !== this.#begun) {
        await this.#send(`SELECT ${this.#function('begin')}()::text AS began`, [])
        this.#begun = mark
        continue
      }
      if (this.#isSurveyed && (digest === null || row.surveyedMs > surveyAgeMs)) {
        const survey = `${this.#function('survey')}($1::pg_catalog.oid[], $2::pg_catalog.interval)`
        await this.#send(`SELECT ${survey}::text AS made`, [oids, `${surveyAgeMs} ms`])
        if (digest === null) continue
      }
      if (digest === null) continue
      const found = `${oids.join(' ')} ${digest}`
      const isExamined = examined?.digest === found
      if (!isExamined && found !== this.#inOrder) {
        // The same digest before and after it: this is what it is of.
        examined = { digest: found, facts: await this.#facts(oids) }
        continue
      }
      this.#isSurveyed = row.members > maxInline || this.#instances > maxInline
      const flaw = isExamined ? flawOfOutbox(this.#parts.triggers, this.#schema, examined!.facts) : null
      if (isExamined) this.#inOrder = flaw === null ? found : null
      if (flaw === null) this.#wasThere = true
      return this.#answer(position, row, found, flaw)
    }
  }

  #answer (position: string | null, row: PollRow, found: string, flaw: string | null): PollAnswer {
    const { snapshot, removed, mark, server, oids, surveyed, total, changes } = row
    const marks = new Set(oids.map(oid => `${server} ${oid}`))
    const finding = flaw === null ? { signature: `${mark!} ${server} ${found}` } : { flaw }
    const seen = surveyed === null ? null : snapshotOf(surveyed)
    return {
      position: snapshot,
      changes,
      gap: position === null ? null : gapOf(position, snapshot, removed, total),
      finding,
      ...(seen === null ? {} : { isFoundAfter: (of: string) => seesAllOf(seen, snapshotOf(of)!) }),
      marks
    }
  }

  async #poll (position: string | null): Promise<PollRow> {
    const wasWrapped = this.#isWrapped
    const usual = wasWrapped ? ", pg_catalog.current_setting('default_transaction_isolation') AS usual" : ''
    const text = `SELECT p.flaw, p.snapshot, p.removed, p.server, p.mark, p.members::text, p.digest, p.surveyed,
  p.surveyed_ms::text, p.total::text, p.announced, pg_catalog.array_to_string(w.oids, ' ', '-') AS oids${usual}
FROM (SELECT ${oidsOfNames} AS oids OFFSET 0) AS w,
  LATERAL ${this.#function('poll')}($2::pg_catalog.pg_snapshot, w.oids, ${this.#isSurveyed}, ${maxChanges}) AS p`
    const values: [readonly string[], string | null] = [this.#names, position]
    const [row] = wasWrapped ? await this.#sendWrapped(text, values) : await this.#sendNamed(text, values)
    const flaw = row?.['flaw'] ?? null
    if ((flaw === 'isolation' || flaw === 'writing') && !wasWrapped) {
      this.#isWrapped = true
      return await this.#poll(position)
    }
    // Where a transaction was left open on another connection, the next poll goes on as before, too.
    if (wasWrapped) this.#isWrapped = row?.['usual'] !== 'read committed'
    if (flaw !== null) throw new PollFailure(flaws[flaw] ?? flaw)
    return {
      snapshot: row?.['snapshot'] ?? '',
      removed: row?.['removed'] ?? null,
      server: row?.['server'] ?? '',
      mark: row?.['mark'] ?? null,
      members: Number(row?.['members'] ?? 0),
      digest: row?.['digest'] ?? null,
      surveyed: row?.['surveyed'] ?? null,
      surveyedMs: Number(row?.['surveyed_ms'] ?? Infinity),
      total: Number(row?.['total'] ?? 0),
      changes: changesOf(row?.['announced']),
      oids: (row?.['oids'] ?? '').split(' ')
    }
  }

  async #facts (oids: readonly string[]): Promise<OutboxFacts> {
    const [row] = await this.#send(outboxFactsSql, [this.#schema, oids, this.#harmless])
    return JSON.parse(row?.['facts'] ?? 'null') as OutboxFacts
  }

  /** Looks for what is watched; answers with the columns that are not there, in one sentence. */
  async #look (): Promise<string | null> {
    const { triggers } = this.#parts
    const sought = triggers.map(({ schema, bareName }) => {
      return { schemas: schema === null ? null : [schema], name: bareName }
    })
    const [row] = await this.#send(tableFactsSql, [soughtTables(sought)])
    return missingColumns(triggers, tableFactsOf(row?.['facts']))
  }

  /** Asks for the schema of the first watched table; null: it is not there. */
  async #locate (): Promise<string | null> {
    const [row] = await this.#send(schemaSql, [this.#names[0]!])
    return row?.['schema'] ?? null
  }

  /** Looks at the outbox and the triggers, and calls no function of it; answers with what is not in order; null: all is. */
  async #flaw (): Promise<string | null> {
    const [row] = await this.#send(`SELECT pg_catalog.array_to_string(${oidsOfNames}, ' ', '0') AS oids`, [this.#names])
    const facts = await this.#facts((row?.['oids'] ?? '').split(' '))
    return flawOfOutbox(this.#parts.triggers, this.#schema!, facts)
  }

  #function (which: keyof typeof outboxFunctions): string {
    return `${quotedName(this.#schema!)}.${outboxFunctions[which].name}`
  }

  async #send (
    text: string, values: unknown[], pool: Queryable = this.#parts.pool, named: { readonly name?: string } = {}
  ): Promise<readonly TextRow[]> {
    const { clock, timeoutMs } = this.#parts
    const deadline = startDeadline(clock, timeoutMs)
    try {
      return await sendStatement(() => pool, { text, values, ...named }, deadline, clock, what)
    } catch (error) {
      // The next poll finds out what else is not there.
      if (isMissing(error)) this.#inOrder = null
      throw error
    } finally {
      deadline.release()
    }
  }

  /**
   * Sends a statement that is sent all the time: prepared once per connection, where no pooler gives out another
   * session for each.
   */
  async #sendNamed (text: string, values: unknown[]): Promise<readonly TextRow[]> {
    const { pool } = this.#parts
    return await this.#statements.send(statementName(text), async named => await this.#send(text, values, pool, named))
  }

  /**
   * Sends a poll in a transaction of its own, as one simple query: in order where the role has another default. A
   * transaction that was left open is rolled back by it, and the next poll goes on as before.
   */
  async #sendWrapped (text: string, [names, position]: readonly [readonly string[], string | null]): Promise<readonly TextRow[]> {
    const { clock, pool, timeoutMs } = this.#parts
    // One simple query takes no parameters.
    const literals = text
      .replace('$1', () => `ARRAY[${names.map(sqlLiteral).join(', ')}]`)
      .replace('$2', () => position === null ? 'NULL' : sqlLiteral(position))
    const deadline = startDeadline(clock, timeoutMs)
    try {
      const sent = pool.query({
        text: `BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY; ${literals}; ROLLBACK`,
        types: asSent,
        query_timeout: timeoutMs,
        deadline,
        idempotent: true
      })
      // node-postgres answers several statements with a list of results.
      const results = [await withinDeadline(sent, deadline, what)].flat()
      return results.flatMap(({ rows }) => rows as readonly TextRow[])
    } finally {
      deadline.release()
    }
  }

  /** Runs statements as one simple query, and so as one transaction. */
  async #run (text: string): Promise<Installed> {
    try {
      await this.#parts.pool.query({ text: aloneSql(text), types: asSent, query_timeout: installTimeoutMs })
      return { kind: 'done' }
    } catch (error) {
      const { code = 'unknown' } = error as { code?: string }
      const failure = databaseFailureOf(error)
      // 42P01: the table is not there yet. XX000: a concurrent change of the catalogue. 25001: see aloneSql().
      const passes = isOutage(failure) || failure === 'aborted' || failure === 'unknown' ||
        ['42P01', 'XX000', '25001'].includes(code)
      return { kind: passes ? 'later' : 'refused', code }
    }
  }
}

const schemaSql = ownOperators(`SELECT n.nspname::text AS schema
FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.oid = pg_catalog.to_regclass($1)`)

/** SQL for the ids of the tables that $1 names, an array; null for one that is not there. */
const oidsOfNames = `ARRAY(SELECT pg_catalog.to_regclass(n.name)::pg_catalog.oid
  FROM pg_catalog.unnest($1::pg_catalog.text[]) WITH ORDINALITY AS n(name, place) ORDER BY n.place)`

/** A digest, and the facts that were read behind it. */
interface Examined {
  readonly digest: string
  readonly facts: OutboxFacts
}

interface PollRow {
  readonly snapshot: string
  readonly removed: string | null
  readonly server: string
  readonly mark: string | null
  readonly members: number
  readonly digest: string | null
  readonly surveyed: string | null
  readonly surveyedMs: number
  readonly total: number
  readonly changes: readonly UserChange[]
  readonly oids: readonly string[]
}

function statementName (text: string): string {
  return `orientor_${createHash('sha256').update(text).digest('hex').slice(0, 16)}`
}

/** The answer of an outbox that is not in order, or not there. */
function flawed (flaw: string): PollAnswer {
  return { position: '', changes: [], gap: null, finding: { flaw }, marks: null }
}

function changesOf (announced: string | null | undefined): readonly UserChange[] {
  if (announced === null || announced === undefined) return []
  return announced.split(',').map(text => changeOf(text) ?? { kind: 'all' })
}

function gapOf (position: string, snapshot: string, removed: string | null, total: number): string | null {
  if (total > maxChanges) return `There were more than ${maxChanges} changes since the last poll`
  const [asked, read, gone] = [snapshotOf(position), snapshotOf(snapshot), snapshotOf(removed ?? '')]
  if (asked === null || read === null || gone === null) return 'The answer does not say what it was read from'
  return gapBetween(asked, read, gone)
}

/** Whether a part of the outbox is not there: a function, a table or the schema. */
function isMissing (error: unknown): boolean {
  return ['42883', '42P01', '3F000'].includes((error as { readonly code?: string }).code ?? '')
}

/** The failure of a poll, in words that hold no secret: a driver's message can name hosts, and a server's can quote. */
function failureOf (error: unknown): PollFailure {
  if (error instanceof PollFailure) return error
  const cause = error instanceof Error && error.cause !== undefined ? error.cause : error
  if (databaseFailureOf(cause) === 'demoted') return new PollFailure(standby)
  if ((cause as { readonly code?: unknown } | null)?.code === '42501') return new PollFailure(forbidden)
  const withdrawal = withdrawalOf(cause, 'own')
  if (withdrawal !== null) {
    const { reason, code, remedy } = withdrawal
    return new PollFailure(`PostgreSQL refuses polls: ${reason} (${code}). ${remedy}`)
  }
  const { code } = (cause ?? {}) as { code?: unknown }
  const told = typeof code === 'string' && /^\w{1,40}$/.test(code) ? ` (${code})` : ''
  return new PollFailure(`The database could not be asked${told}`)
}
