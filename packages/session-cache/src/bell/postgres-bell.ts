import { Socket } from 'node:net'
import {
  asSent, databaseFailureOf, invalidOption, objectWith, optional, quotedName, readOptions, secretText, withdrawalOf,
  type OptionRules
} from '@orientor/session-contract/core'
import pg from 'pg'
import { clientConfig, readClientConfig } from './client-config.js'
import { UnusableConnection } from './unusable-connection.js'
import { bellOptionRules, type BellOptions } from './bell-options.js'
import type { Bell } from './bell.js'
import { ReconnectingBell, type BellConnection, type ConnectionReports } from './reconnecting-bell.js'

/** Options of a bell over PostgreSQL. */
export interface PostgresBellOptions extends BellOptions {
  /** Connection string of a direct connection, past any pooler, to the primary. This or `connection`. */
  readonly listenUrl?: string
  /** The same as the `Client` of node-postgres takes it; what stands beside a connection string in it counts. */
  readonly connection?: object
}

const owner = '@orientor/session-cache/postgres: postgresBell'

type Input = { readonly [K in keyof PostgresBellOptions]-?: PostgresBellOptions[K] | undefined }
type Config = Required<BellOptions> & { readonly connection: pg.ClientConfig }

const rules: OptionRules<Input> = {
  ...bellOptionRules,
  listenUrl: optional(secretText),
  connection: optional(objectWith<object>('the configuration of a client of node-postgres', []))
}

/**
 * A bell over NOTIFY of PostgreSQL: one direct connection per instance, which listens and rings. Each ring costs
 * PostgreSQL about 60 µs of CPU per instance. It works on the primary only, and not through a pooler in transaction
 * mode, which is reported.
 *
 * @throws ORI_CONTRACT_INVALID_OPTION naming the option, the rule and what was received
 */
export function postgresBell (options: PostgresBellOptions): Bell {
  const config = configOf(options)
  const { checkIntervalMs, timeoutMs, clock, random } = config
  return new ReconnectingBell({
    name: 'postgres',
    connect: reports => new PostgresConnection(config, reports),
    reasonOf,
    checkIntervalMs,
    timeoutMs,
    clock,
    random
  })
}

function configOf (options: PostgresBellOptions): Config {
  const { listenUrl, connection, ...rest } = readOptions<Input>(owner, options, rules)
  if ((listenUrl === undefined) === (connection === undefined)) {
    throw invalidOption(owner, 'give either "listenUrl" or "connection".')
  }
  const config = connection ?? { connectionString: listenUrl! }
  const reading = readClientConfig(config)
  if (reading.kind === 'refused') {
    const name = listenUrl === undefined ? 'connection' : 'listenUrl'
    throw invalidOption(owner, `the connection string given as "${name}" ${reading.flaw}`)
  }
  return { ...rest as Required<BellOptions>, connection: config }
}

const poolerInTheWay = 'A connection pooler is between this instance and PostgreSQL. In transaction mode rings get ' +
  'lost there, and changes are seen by polling only. Give a direct connection as listenUrl, or a bell of another ' +
  'kind, or none'
const standby = 'The server is a standby, where nothing is heard. Let listenUrl lead to the primary'

/**
 * One direct connection that listens. It never opens a transaction, so that the queue of notifications cannot fill up
 * because of it.
 */
class PostgresConnection implements BellConnection {
  readonly #config: Config
  readonly #socket = new Socket()
  readonly #client: pg.Client & { readonly processID?: number | null }
  /** The statement before the next one: node-postgres wants one at a time. */
  #last: Promise<unknown> = Promise.resolve()

  constructor (config: Config, { heard, down }: ConnectionReports) {
    this.#config = config
    const named = { fallback_application_name: 'orientor-bell', ...clientConfig(config.connection) }
    const alive = { keepAlive: true, keepAliveInitialDelayMillis: config.checkIntervalMs }
    this.#client = new pg.Client({ ...named, ...alive, stream: () => this.#socket })
    // An error without a listener ends the process.
    this.#client.on('error', down)
    this.#client.on('notification', ({ channel, payload }) => { if (channel === config.channel) heard(payload ?? '') })
  }

  async open (): Promise<string | null> {
    const { channel, timeoutMs } = this.#config
    await this.#client.connect()
    const text = 'SELECT pg_catalog.pg_backend_pid()::pg_catalog.text AS pid'
    const { rows: [row] } = await this.#client.query<{ pid: string }>({ text, types: asSent })
    // A pooler hands out process ids of its own; the server's function tells the real one.
    const isDirect = Number(row?.pid) === this.#client.processID
    // Transactions that notify commit one after another, and a session that waits for one that hangs does not notice
    // that its client has gone: it must not wait for ever. Not set where a pooler would hand the setting on to others.
    await this.#client.query(`${isDirect ? `SET lock_timeout = ${timeoutMs}; ` : ''}LISTEN ${quotedName(channel)}`)
    return isDirect ? null : poolerInTheWay
  }

  async ring (message: string): Promise<void> {
    await this.#inTurn(() => this.#client.query('SELECT pg_catalog.pg_notify($1, $2)', [this.#config.channel, message]))
  }

  async check (): Promise<void> {
    await this.#inTurn(() => this.#client.query('SELECT'))
  }

  async close (): Promise<void> {
    await this.#client.end()
  }

  cut (): void {
    this.#socket.destroy()
  }

  async #inTurn (send: () => Promise<unknown>): Promise<void> {
    const sent = this.#last.then(send)
    this.#last = sent.catch(() => {})
    await sent
  }
}

/** A failure in words that hold no secret: a driver's message can name hosts, and a server's can quote. */
function reasonOf (error: unknown): string {
  if (error instanceof UnusableConnection) return error.message.replace(/\.$/, '')
  const failure = databaseFailureOf(error)
  if (failure === 'demoted') return standby
  const withdrawal = withdrawalOf(error)
  if (withdrawal !== null) {
    return `PostgreSQL refuses the connection: ${withdrawal.reason} (${withdrawal.code}). ${withdrawal.remedy}`
  }
  const { code } = (error ?? {}) as { code?: unknown }
  const told = typeof code === 'string' && /^\w{1,40}$/.test(code) ? ` (${code})` : ''
  return `The connection ${failure === 'unsent' ? 'could not be made' : 'failed'}${told}`
}
