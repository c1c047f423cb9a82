import { randomBytes } from 'node:crypto'
import { Socket } from 'node:net'
import { asSent, databaseFailureOf, quotedName, withdrawalOf, type UserChange } from '@orientor/session-contract/core'
import pg from 'pg'
import { errors } from '../errors.js'
import { heartbeatSql, watchedOf } from '../sql/heartbeat.js'
import { soughtTables, tableFactsOf, tableFactsSql } from '../sql/table-facts.js'
import type { TriggerSet } from '../sql/trigger-set.js'
import { changeOf } from './announcement.js'
import { clientConfig } from './client-config.js'
import type { Line, LineReports } from './leased-trust.js'
import { missingColumns } from './missing-columns.js'
import { judgeTriggers } from './trigger-check.js'

/** What a line is made of. */
export interface PostgresLineOptions {
  readonly connection: pg.ClientConfig
  readonly channel: string
  readonly triggers: TriggerSet
  readonly applicationName: string
  /** How long a statement may wait for a lock, in milliseconds: as long as whoever commands the line waits for its answer. */
  readonly lockTimeoutMs: number
  readonly reports: LineReports
  /** Takes an announcement; null: one that cannot be read. */
  readonly announced: (change: UserChange | null) => void
  /** Takes what a heartbeat found out beside. */
  readonly observed: (reading: Reading) => void
  /**
   * Takes that a table lacks a column that is watched, in one sentence; the line is down then. Null: that is not looked for. A column that was there once may be gone by
   * now (every change is then announced as one of all users), one that never was is a mistake.
   */
  readonly misdescribed: ((what: string) => void) | null
}

/** What a heartbeat finds out beside. */
export interface Reading {
  /** Share of the queue of notifications that is in use, from 0 to 1. */
  readonly queueUsage: number
  readonly instances: number
}

/** Why a line is of no use where a pooler is in the way, and what to do. */
export const poolerInTheWay = 'A connection pooler is between this instance and PostgreSQL, where announcements get lost. Give a direct connection as listenUrl'

/** How long a line rests that can be of no use until somebody has mended something. */
const longPauseMs = 30_000
const farewellMs = 500
/** How many turns of the event loop the reading of what has arrived may take. */
const mostTurns = 1000

type Row = Readonly<Record<string, string | null>>

/**
 * One direct connection that listens. It never opens a transaction, so that the queue of notifications cannot fill up because of it.
 *
 * A pooler is recognised by the process id: it hands out its own at the start of a connection, the server's functions tell the real one. The echo alone
 * would not do: a pooler that shares connections passes on what arrives during a statement of ours, the echo among it, and drops the rest.
 */
export class PostgresLine implements Line {
  readonly #options: PostgresLineOptions
  readonly #socket = new Socket()
  readonly #client: pg.Client
  readonly #pulse = `orientor_pulse_${randomBytes(12).toString('hex')}`
  #pid = 0
  #searchPath: readonly string[] = []
  #listens = false
  #leaves = false

  constructor (options: PostgresLineOptions) {
    this.#options = options
    this.#client = new pg.Client({ ...clientConfig(options.connection), keepAlive: true, stream: () => this.#socket })
    // The app may have binary results for all of its process (pg.defaults).
    Object.assign(this.#client, { binary: false })
  }

  open (): void {
    const client = this.#client
    // Before anything can happen; an error without a listener ends the process.
    client.on('error', error => { this.#down(reasonOf(error)) })
    client.on('end', () => { this.#down('The connection was closed') })
    client.on('notification', message => { this.#hear(message) })
    this.#begin().then(useless => {
      if (useless === null) {
        this.#listens = true
        this.#options.reports.up()
      } else {
        this.#down(useless, useless === standby ? undefined : longPauseMs)
      }
    }).catch((error: unknown) => { this.#down(reasonOf(error)) })
  }

  beat (n: number): void {
    const { triggers, applicationName, reports, observed } = this.#options
    this.#query(heartbeatSql, [this.#pulse, String(n), watchedOf(triggers, this.#searchPath), `${applicationName}/`, `orientor_${triggers.id}_`], 'orientor_heartbeat').then(([row]) => {
      observed({ queueUsage: Number(row?.['queue']), instances: Number(row?.['instances']) })
      reports.taken(n, judgeTriggers(triggers, row?.['tables'] ?? null))
    }).catch((error: unknown) => { this.#down(reasonOf(error)) })
  }

  /** Announces on the channel of changes. Rejects when the line does not listen, or is cut before the server has answered. */
  async announce (announcement: string): Promise<void> {
    if (!this.#listens) throw new errors.BusUnavailable()
    try {
      await this.#query('SELECT pg_catalog.pg_notify($1, $2)', [this.#options.channel, announcement])
    } catch (cause) {
      throw new errors.BusUnavailable({ cause })
    }
  }

  whenRead (callback: () => void): void {
    let readBytes = this.#socket.bytesRead
    let turns = 0
    // Sockets are read between a timer and an immediate.
    const look = (): void => {
      setImmediate(() => {
        if (this.#socket.bytesRead === readBytes || ++turns === mostTurns) {
          callback()
          return
        }
        readBytes = this.#socket.bytesRead
        look()
      })
    }
    look()
  }

  cut (): void {
    this.#listens = false
    this.#socket.destroy()
  }

  /** Takes leave, and cuts when that is not answered in time; reports nothing of it. */
  async close (): Promise<void> {
    this.#listens = false
    this.#leaves = true
    if (this.#socket.readyState === 'open') {
      await new Promise<void>(resolve => {
        const impatience = setTimeout(resolve, farewellMs)
        this.#socket.once('close', () => {
          clearTimeout(impatience)
          resolve()
        })
        this.#client.end().catch(() => {})
      })
    }
    this.#socket.destroy()
  }

  /** Answers why the line is of no use; null when it listens. */
  async #begin (): Promise<string | null> {
    const { channel, triggers, applicationName, lockTimeoutMs } = this.#options
    await this.#client.connect()
    const [row] = await this.#query("SELECT pg_catalog.pg_backend_pid() AS pid, pg_catalog.pg_is_in_recovery() AS standby, pg_catalog.set_config('application_name', $1, false), pg_catalog.array_to_json(pg_catalog.current_schemas(false)) AS path", [`${applicationName}/${triggers.id}`])
    this.#pid = Number(row?.['pid'])
    if (this.#pid !== (this.#client as pg.Client & { readonly processID?: number | null }).processID) return poolerInTheWay
    if (row?.['standby'] === 't') return standby
    this.#searchPath = JSON.parse(row?.['path'] ?? '[]') as string[]
    // A session that waits for a lock does not notice that its client has gone. Transactions that notify commit one after another: while one of them
    // hangs, a line that is dialled again and again would leave one such session behind each time. Not set before a pooler is ruled out, which would hand
    // the setting on to others. The search path: see heartbeatSql.
    await this.#client.query(`SET lock_timeout = ${lockTimeoutMs}; SET search_path = pg_catalog, pg_temp; LISTEN ${quotedName(channel)}; LISTEN ${quotedName(this.#pulse)}`)
    return await this.#misdescribed()
  }

  /** Answers which column is watched that is not there; null when none is. */
  async #misdescribed (): Promise<string | null> {
    const { misdescribed, triggers } = this.#options
    if (misdescribed === null) return null
    const sought = triggers.tables.map(({ schema, bareName }) => ({ schemas: schema === null ? this.#searchPath : [schema], name: bareName }))
    const [row] = await this.#query(tableFactsSql, [soughtTables(sought)])
    const missing = missingColumns(triggers, tableFactsOf(row?.['facts']))
    if (missing !== null) misdescribed(missing)
    return missing
  }

  #down (reason: string, retryAfterMs?: number): void {
    if (!this.#leaves) this.#options.reports.down(reason, retryAfterMs)
  }

  #hear ({ channel, payload, processId }: pg.Notification): void {
    if (channel === this.#options.channel) this.#options.announced(changeOf(payload ?? ''))
    // Nobody else can send an echo: the server says who sent it.
    else if (channel === this.#pulse && processId === this.#pid) this.#options.reports.echo(Number(payload))
  }

  async #query (text: string, values: unknown[], name?: string): Promise<readonly Row[]> {
    const { rows } = await this.#client.query<Record<string, string | null>>({ text, values, types: asSent, ...(name === undefined ? {} : { name }) })
    return rows
  }
}

const standby = 'The server is a standby, where nothing is announced'

/** What went wrong, in words that hold no secret: a driver's message can name hosts, and a server's can quote. */
function reasonOf (error: unknown): string {
  const failure = databaseFailureOf(error)
  if (failure === 'demoted') return standby
  const withdrawal = withdrawalOf(error)
  if (withdrawal !== null) return `PostgreSQL refuses the connection that listens: ${withdrawal.reason} (${withdrawal.code}). ${withdrawal.remedy}`
  const { code } = (error ?? {}) as { code?: unknown }
  return `The connection ${failure === 'unsent' ? 'could not be made' : 'failed'}${typeof code === 'string' && /^\w{1,40}$/.test(code) ? ` (${code})` : ''}`
}
