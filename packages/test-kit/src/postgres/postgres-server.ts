import { spawn, type ChildProcess } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { closeSync, openSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import pg from 'pg'
import { freePort } from '../free-port.js'
import { until } from '../until.js'
import { createCluster, dataOf, hasCluster, passwordOf, temporaryFolder } from './cluster-folder.js'
import { endLeftover } from './leftover-server.js'
import { serverAccount, type ServerAccount } from './server-account.js'
import { serverBinaries, type ServerBinaries } from './server-binaries.js'
import { childrenOf, isAlive, signal } from './server-processes.js'
import { Watchdog } from './watchdog.js'

/** How a server is started. */
export interface PostgresOptions {
  /** Folder that keeps the data between runs. Left out: a temporary one, removed at the end. */
  readonly folder?: string
  /** Settings of postgresql.conf by name, such as `{ max_connections: '20' }`. */
  readonly parameters?: Readonly<Record<string, string>>
  /** Port on 127.0.0.1. Default is a free one. */
  readonly port?: number
}

const readyWithinMs = 30_000
const stoppedWithinMs = 10_000
const leftWithinMs = 2000

/**
 * One PostgreSQL cluster of our own on 127.0.0.1, which ends with this process at the latest, and neither keeps the process alive
 * nor hears the terminal's Ctrl-C.
 */
export class PostgresServer {
  readonly port: number
  readonly folder: string
  readonly dataDir: string
  /** Settings that it is started with. */
  readonly parameters: Readonly<Record<string, string>>
  readonly #account: ServerAccount | null
  readonly #binaries: ServerBinaries
  readonly #temporary: boolean
  readonly #password: string
  #process: ChildProcess | null = null
  #watchdog: Watchdog | null = null

  /** Use startPostgres(). */
  constructor (folder: string, temporary: boolean, port: number, parameters: Readonly<Record<string, string>>) {
    this.folder = folder
    this.dataDir = dataOf(folder)
    this.port = port
    this.#temporary = temporary
    this.parameters = parameters
    this.#account = serverAccount()
    this.#binaries = serverBinaries(this.#account)
    this.#password = passwordOf(folder)
  }

  /** Connection string of the superuser. */
  url (database = 'postgres'): string {
    return `postgres://postgres:${this.#password}@127.0.0.1:${this.port}/${database}`
  }

  /** Process id of the postmaster, or null when the server does not run. */
  get pid (): number | null {
    return this.#process?.pid ?? null
  }

  /** Starts the server (again); resolves when it takes connections. */
  async start (): Promise<void> {
    if (this.#process !== null) return
    await endLeftover(this.dataDir)
    const log = openSync(join(this.folder, 'server.log'), 'a', 0o600)
    const settings = { listen_addresses: '127.0.0.1', port: String(this.port), unix_socket_directories: '', ...this.parameters }
    const child = spawn(this.#binaries.postgres, ['-D', this.dataDir, ...Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`])], {
      ...this.#account, cwd: '/', stdio: ['ignore', log, log], detached: true, env: { ...process.env, LC_MESSAGES: 'C' }
    })
    closeSync(log)
    child.unref()
    child.on('error', () => { this.#process = null })
    child.on('exit', () => {
      if (this.#process === child) this.#process = null
    })
    this.#process = child
    this.#watchdog?.dismiss()
    if (child.pid !== undefined) this.#watchdog = new Watchdog(child.pid, this.#temporary ? this.folder : null)
    await this.#ready(child)
  }

  /** Ends the server (`fast` shutdown: connections are cut, data is written) and resolves when it is gone. */
  async stop (): Promise<void> {
    const child = this.#process
    if (child !== null) {
      const gone = exited(child)
      const impatience = setTimeout(() => { child.kill('SIGKILL') }, stoppedWithinMs)
      child.ref()
      // A frozen process hears no other signal.
      child.kill('SIGCONT')
      if (child.pid !== undefined) for (const backend of childrenOf(child.pid)) signal(backend, 'SIGCONT')
      child.kill('SIGINT')
      await gone
      clearTimeout(impatience)
    }
    this.#watchdog?.dismiss()
    if (this.#temporary) rmSync(this.folder, { recursive: true, force: true, maxRetries: 5 })
  }

  /** Sends a signal to the postmaster; resolves, for signals that end it, when it and every session have ended. */
  async kill (signal: NodeJS.Signals): Promise<void> {
    const child = this.#process
    if (child?.pid === undefined) return
    const gone = exited(child)
    const sessions = childrenOf(child.pid)
    child.kill(signal)
    if (signal === 'SIGSTOP' || signal === 'SIGCONT' || signal === 'SIGHUP') return
    child.ref()
    await gone
    // Orphans of SIGKILL notice by themselves, and until then no server starts on their data.
    await until('every session of the server has ended', () => !sessions.some(isAlive))
  }

  /** Creates an empty database and answers its connection string. */
  async createDatabase (name: string = `test_${randomBytes(6).toString('hex')}`): Promise<string> {
    await this.#asSuperuser(client => client.query(`CREATE DATABASE ${pg.escapeIdentifier(name)}`))
    return this.url(name)
  }

  /**
   * Drops a database, and ends the sessions on it. Sessions that are ending have 2 s for it: a client that is cut after its
   * `end()` throws.
   */
  async dropDatabase (name: string): Promise<void> {
    await this.#asSuperuser(async client => {
      const untilMs = performance.now() + leftWithinMs
      const hasSessions = async (): Promise<boolean> => (await client.query("SELECT FROM pg_stat_activity WHERE datname = $1 AND backend_type = 'client backend'", [name])).rowCount !== 0
      while (await hasSessions() && performance.now() < untilMs) await new Promise(resolve => { setTimeout(resolve, 10) })
      await client.query(`DROP DATABASE IF EXISTS ${pg.escapeIdentifier(name)} WITH (FORCE)`)
    })
  }

  async #asSuperuser (work: (client: pg.Client) => Promise<unknown>): Promise<void> {
    const client = new pg.Client({ connectionString: this.url() })
    await client.connect()
    try {
      await work(client)
    } finally {
      await client.end()
    }
  }

  async #ready (child: ChildProcess): Promise<void> {
    const deadline = Date.now() + readyWithinMs
    while (this.#process === child && Date.now() < deadline) {
      const [pid, , , , , , , status] = readPidFile(this.dataDir)
      if (pid === String(child.pid) && status?.trim() === 'ready') return
      await new Promise(resolve => { setTimeout(resolve, 10) })
    }
    const log = readFileSync(join(this.folder, 'server.log'), 'utf8').trim().split('\n').slice(-5).join('\n')
    await this.stop()
    throw new Error(`PostgreSQL did not start in ${this.folder}. Its last words:\n${log}`)
  }
}

/**
 * Starts a PostgreSQL of our own, on a new cluster where the folder holds none. Tests take startTestServer().
 *
 * @throws when the folder is in use by a living process, cannot be reached by the server's account, or the server does not start within 30 s
 */
export async function startPostgres ({ folder, ...options }: PostgresOptions = {}): Promise<PostgresServer> {
  const place = folder ?? temporaryFolder()
  if (!hasCluster(place)) createCluster(place)
  return await serve(place, folder === undefined, options)
}

/** Starts a server on a folder that holds a cluster, and is removed at the end where it is temporary. */
export async function serve (folder: string, temporary: boolean, { port, parameters = {} }: Omit<PostgresOptions, 'folder'>): Promise<PostgresServer> {
  const server = new PostgresServer(folder, temporary, port ?? await freePort(), parameters)
  await server.start()
  return server
}

function readPidFile (dataDir: string): string[] {
  try {
    return readFileSync(join(dataDir, 'postmaster.pid'), 'utf8').split('\n')
  } catch {
    return []
  }
}

function exited (child: ChildProcess): Promise<void> {
  return new Promise(resolve => {
    if (child.exitCode !== null || child.signalCode !== null) resolve()
    else child.once('exit', () => { resolve() })
  })
}
