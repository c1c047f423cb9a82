import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { chownSync, closeSync, existsSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import { freePort } from '../free-port.js'
import { endLeftover } from './leftover-server.js'
import { canReach, serverAccount, type ServerAccount } from './server-account.js'
import { serverBinaries, type ServerBinaries } from './server-binaries.js'
import { childrenOf, signal } from './server-processes.js'
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

/**
 * One PostgreSQL cluster of our own on 127.0.0.1, which ends with this process at the latest, and neither keeps the process alive
 * nor hears the terminal's Ctrl-C.
 */
export class PostgresServer {
  readonly port: number
  readonly folder: string
  readonly dataDir: string
  readonly #account: ServerAccount | null
  readonly #binaries: ServerBinaries
  readonly #parameters: Readonly<Record<string, string>>
  readonly #temporary: boolean
  readonly #password: string
  #process: ChildProcess | null = null
  #watchdog: Watchdog | null = null

  /** Use startPostgres(). */
  constructor (folder: string, temporary: boolean, port: number, parameters: Readonly<Record<string, string>>) {
    this.folder = folder
    this.dataDir = join(folder, 'data')
    this.port = port
    this.#temporary = temporary
    this.#parameters = parameters
    this.#account = serverAccount()
    this.#binaries = serverBinaries(this.#account)
    const passwordFile = join(folder, 'password')
    if (existsSync(passwordFile)) {
      this.#password = readFileSync(passwordFile, 'utf8').trim()
    } else {
      this.#password = randomBytes(18).toString('base64url')
      writeFileSync(passwordFile, `${this.#password}\n`, { mode: 0o600 })
      this.#own(passwordFile)
    }
  }

  /** Connection string of the superuser. */
  url (database = 'postgres'): string {
    return `postgres://postgres:${this.#password}@127.0.0.1:${this.port}/${database}`
  }

  /** Process id of the postmaster, or null when the server does not run. */
  get pid (): number | null {
    return this.#process?.pid ?? null
  }

  /** Starts the server (again), creating the cluster the first time; resolves when it takes connections. */
  async start (): Promise<void> {
    if (this.#process !== null) return
    if (!existsSync(join(this.dataDir, 'PG_VERSION'))) this.#initialise()
    await endLeftover(this.dataDir)
    const log = openSync(join(this.folder, 'server.log'), 'a', 0o600)
    const settings = { listen_addresses: '127.0.0.1', port: String(this.port), unix_socket_directories: '', ...this.#parameters }
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

  /** Sends a signal to the postmaster; resolves when it has ended, for signals that end it. */
  async kill (signal: NodeJS.Signals): Promise<void> {
    const child = this.#process
    if (child === null) return
    const gone = exited(child)
    child.kill(signal)
    if (signal === 'SIGSTOP' || signal === 'SIGCONT' || signal === 'SIGHUP') return
    child.ref()
    await gone
  }

  /** Creates an empty database and answers its connection string. */
  async createDatabase (name: string = `test_${randomBytes(6).toString('hex')}`): Promise<string> {
    await this.#asSuperuser(client => client.query(`CREATE DATABASE ${pg.escapeIdentifier(name)}`))
    return this.url(name)
  }

  /** Drops a database, with whoever is connected to it. */
  async dropDatabase (name: string): Promise<void> {
    await this.#asSuperuser(client => client.query(`DROP DATABASE IF EXISTS ${pg.escapeIdentifier(name)} WITH (FORCE)`))
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

  #initialise (): void {
    mkdirSync(this.dataDir, { recursive: true, mode: 0o700 })
    this.#own(this.folder)
    this.#own(this.dataDir)
    const { status, error, stderr } = spawnSync(this.#binaries.initdb, [
      `--pgdata=${this.dataDir}`, '--username=postgres', '--auth=password', `--pwfile=${join(this.folder, 'password')}`,
      '--encoding=UTF8', '--locale=C', '--no-sync', '--no-instructions'
    ], { ...this.#account, cwd: '/', encoding: 'utf8', env: { ...process.env, LC_MESSAGES: 'C' } })
    if (status !== 0) throw new Error(`The PostgreSQL cluster could not be created in ${this.dataDir}: ${error?.message ?? stderr.trim()}`)
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

  #own (path: string): void {
    if (this.#account !== null) chownSync(path, this.#account.uid, this.#account.gid)
  }
}

/**
 * Starts a PostgreSQL of our own.
 *
 * @throws when the folder is in use by a living process, cannot be reached by the server's account, or the server does not start within 30 s
 */
export async function startPostgres ({ folder, parameters = {}, port }: PostgresOptions = {}): Promise<PostgresServer> {
  const server = new PostgresServer(folder ?? temporaryFolder(), folder === undefined, port ?? await freePort(), parameters)
  await server.start()
  return server
}

function temporaryFolder (): string {
  const parent = canReach(serverAccount(), join(tmpdir(), 'x')) ? tmpdir() : '/tmp'
  return mkdtempSync(join(parent, 'orientor-postgres-'))
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
