import { randomBytes } from 'node:crypto'
import pg from 'pg'
import { until } from '../until.js'
import type { PostgresServer } from './postgres-server.js'
import { childrenOf, isAlive, signal } from './server-processes.js'
import type { Teardown, TestDatabase } from './test-database.js'
import { troubleSql, type Trouble } from './write-trouble.js'

/** A fault that lasts until it is healed; at the latest when its test ends. */
export interface Fault {
  /** Undoes the fault. Again does nothing. */
  heal (): Promise<void>
}

/** A fault of which it is known how often it struck. */
export interface CountedFault extends Fault {
  /** How often it struck so far. */
  struck (): Promise<number>
}

/** A session of the database, as PostgreSQL shows it. */
export interface Backend { readonly pid: number, readonly applicationName: string, readonly state: string | null, readonly query: string }

/** Which sessions are meant; left out: all of the database but those of the faults. */
export interface BackendFilter { readonly applicationName?: string, readonly pid?: number }

const ownName = 'faults'
const readyWithinMs = 30_000

/**
 * Makes a PostgreSQL of our own fail, in every way that a test asks for. Its own sessions are called `faults`, are spared, and are dialled again when
 * they are lost. Faults of processes strike the whole cluster, the others only the database of the test.
 */
export class PostgresFaults {
  readonly #server: PostgresServer
  readonly #url: string
  readonly #database: string
  readonly #lasting = new Set<Fault>()
  #session: pg.Client | null = null

  /** Use postgresFaults(). */
  constructor ({ server, url }: TestDatabase) {
    this.#server = server
    this.#url = url
    this.#database = new URL(url).pathname.slice(1)
  }

  /** Sessions of the database, oldest first. */
  async backends ({ applicationName, pid }: BackendFilter = {}): Promise<Backend[]> {
    const { rows } = await this.sql<Backend>(`SELECT pid, application_name AS "applicationName", state, query FROM pg_stat_activity
      WHERE datname = current_database() AND backend_type = 'client backend' AND application_name <> $1
        AND ($2::text IS NULL OR application_name = $2) AND ($3::int IS NULL OR pid = $3) ORDER BY backend_start`, [ownName, applicationName ?? null, pid ?? null])
    return rows
  }

  /** Ends sessions politely (57P01), as an administrator or a restart does. Answers how many. */
  async terminate (filter: BackendFilter = {}): Promise<number> {
    const backends = await this.backends(filter)
    if (backends.length > 0) await this.sql('SELECT pg_terminate_backend(pid) FROM unnest($1::int[]) AS pid', [backends.map(({ pid }) => pid)])
    return backends.length
  }

  /** Ends sessions again and again, the first time at once. `struck()` is how many. */
  terminateEvery (everyMs: number, filter: BackendFilter = {}): CountedFault {
    let struck = 0
    let isOver = false
    let round = Promise.resolve()
    const strike = (): void => {
      round = round.then(async () => { if (!isOver) struck += await this.terminate(filter) }).catch(() => {})
    }
    strike()
    const timer = setInterval(strike, everyMs)
    return this.#last({ struck: async () => struck }, async () => {
      isOver = true
      clearInterval(timer)
      await round
    })
  }

  /** Kills one session with SIGKILL: PostgreSQL then ends all others (57P02) and recovers. */
  killBackend (pid: number): void {
    signal(pid, 'SIGKILL')
  }

  /** Kills every process of the cluster with SIGKILL, as a power cut does. `heal()` starts it again and resolves when it takes connections. */
  async killCluster (): Promise<Fault> {
    const pid = this.#postmaster()
    // First so that it forks no more, and none of its children outlives it.
    signal(pid, 'SIGSTOP')
    const children = childrenOf(pid)
    for (const child of children) signal(child, 'SIGKILL')
    await this.#server.kill('SIGKILL')
    await until('every process of the cluster is gone', () => !children.some(isAlive))
    return this.#last({}, () => this.#server.start())
  }

  /** Ends the cluster by its own means and starts it again: `smart` waits for sessions to end, `fast` ends them, `immediate` recovers afterwards. */
  async restart (mode: 'smart' | 'fast' | 'immediate' = 'fast'): Promise<void> {
    await this.#server.kill(({ smart: 'SIGTERM', fast: 'SIGINT', immediate: 'SIGQUIT' } as const)[mode])
    await this.#server.start()
  }

  /**
   * Stops processes with SIGSTOP: they keep their sockets and say nothing.
   *
   * @param what - `cluster`: all of it; `postmaster`: nobody new is let in, sessions go on; a process id: that session
   */
  freeze (what: 'cluster' | 'postmaster' | number): Fault {
    const postmaster = this.#postmaster()
    const pids = typeof what === 'number' ? [what] : [postmaster]
    for (const pid of pids) signal(pid, 'SIGSTOP')
    if (what === 'cluster') {
      for (const child of childrenOf(postmaster)) {
        pids.push(child)
        signal(child, 'SIGSTOP')
      }
    }
    return this.#last({}, async () => { for (const pid of pids.reverse()) signal(pid, 'SIGCONT') })
  }

  /** Resolves when a new session is answered; with how long that took, in milliseconds. */
  async ready (): Promise<number> {
    const sinceMs = performance.now()
    await until('the server answers', async () => {
      const client = this.#client({ connectionTimeoutMillis: 500, query_timeout: 500 })
      try {
        await client.connect()
        await client.query('SELECT 1')
        return true
      } catch {
        return false
      } finally {
        client.end().catch(() => {})
      }
    }, readyWithinMs)
    return performance.now() - sinceMs
  }

  /**
   * Makes an ordinary role that may do everything in the database, and answers its connection string: limits do not hold for the superuser.
   *
   * @param connectionLimit - how many sessions it may have; more are refused with 53300
   */
  async createRole (connectionLimit: number = -1): Promise<string> {
    const name = `role_${randomBytes(6).toString('hex')}`
    await this.sql(`CREATE ROLE ${name} LOGIN PASSWORD '${name}' CONNECTION LIMIT ${connectionLimit}; GRANT ALL ON DATABASE ${this.#quoted()} TO ${name}; GRANT ALL ON SCHEMA public TO ${name}`)
    this.#last({}, async () => { await this.sql(`DROP OWNED BY ${name}; DROP ROLE ${name}`) })
    const url = new URL(this.#url)
    url.username = name
    url.password = name
    return url.href
  }

  /** Changes how many sessions the role of a connection string may have. */
  async limitRole (url: string, connectionLimit: number): Promise<void> {
    await this.sql(`ALTER ROLE ${pg.escapeIdentifier(new URL(url).username)} CONNECTION LIMIT ${connectionLimit}`)
  }

  /** Takes connections of the server until ordinary roles find only so many left (53300 beyond). */
  async hogConnections ({ leaving }: { readonly leaving: number }): Promise<Fault> {
    const { rows: [row] } = await this.sql<{ free: number }>(`SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
      - coalesce(current_setting('reserved_connections', true)::int, 0) - count(*)::int AS free FROM pg_stat_activity WHERE backend_type = 'client backend'`)
    const clients = Array.from({ length: Math.max(0, row!.free - leaving) }, () => this.#client())
    await Promise.all(clients.map(client => client.connect()))
    return this.#last({}, async () => { await Promise.all(clients.map(client => client.end())) })
  }

  /**
   * Refuses writes with 25006, as a primary does that has been demoted.
   *
   * @param scope - `cluster`: sessions that are open, too; `database`: only new sessions, as after a failover behind one address
   */
  async readOnly (scope: 'cluster' | 'database'): Promise<Fault> {
    const target = scope === 'cluster' ? 'SYSTEM' : `DATABASE ${this.#quoted()}`
    const turn = async (to: 'on' | 'off'): Promise<void> => {
      await this.sql(to === 'on' ? `ALTER ${target} SET default_transaction_read_only = on` : `ALTER ${target} RESET default_transaction_read_only`)
      if (scope === 'cluster') await this.sql('SELECT pg_reload_conf()')
      await until(`new sessions have default_transaction_read_only = ${to}`, async () => {
        const client = new pg.Client({ connectionString: this.#url, application_name: ownName })
        await client.connect()
        const { rows: [row] } = await client.query('SHOW default_transaction_read_only')
        await client.end()
        return row.default_transaction_read_only === to
      })
    }
    await turn('on')
    return this.#last({}, () => turn('off'))
  }

  /**
   * Makes writing statements on a table fail or slow, by a trigger.
   *
   * @param table - as SQL spells it
   */
  async troubleWrites (table: string, trouble: Trouble): Promise<CountedFault> {
    const id = randomBytes(6).toString('hex')
    const { create, drop, count } = troubleSql(id, table, trouble)
    await this.sql(create)
    const struck = async (): Promise<number> => Number((await this.sql<{ struck: string }>(count)).rows[0]!.struck)
    return this.#last({ struck }, async () => { await this.sql(drop) })
  }

  /** Holds a lock on a table. Default mode is ACCESS EXCLUSIVE, which reading waits for, too. */
  lockTable (table: string, mode: string = 'ACCESS EXCLUSIVE'): Promise<Fault> {
    return this.#hold(`LOCK TABLE ${table} IN ${mode} MODE`)
  }

  /** Holds a lock on the rows of a table that the condition names: who writes them waits. */
  lockRows (table: string, where: string): Promise<Fault> {
    return this.#hold(`SELECT FROM ${table} WHERE ${where} FOR UPDATE`)
  }

  /** Undoes every fault that lasts, the last one first. */
  async healAll (): Promise<void> {
    for (const fault of [...this.#lasting].reverse()) await fault.heal()
  }

  /** Heals everything and leaves. */
  async close (): Promise<void> {
    await this.healAll()
    await this.#session?.end()
    this.#session = null
  }

  /** Asks as superuser, on the session of the faults, whatever the pool under test does. */
  async sql<R extends object = Record<string, unknown>> (text: string, values?: unknown[]): Promise<pg.QueryResult<R>> {
    if (this.#session === null) {
      const client = this.#client()
      const forget = (): void => { if (this.#session === client) this.#session = null }
      client.on('error', forget)
      client.on('end', forget)
      await client.connect()
      this.#session = client
    }
    return await this.#session.query<R>(text, values)
  }

  /** A session that no fault of ours holds back. */
  #client (config: pg.ClientConfig = {}): pg.Client {
    const client = new pg.Client({ connectionString: this.#url, application_name: ownName, options: '-c default_transaction_read_only=off', ...config })
    client.on('error', () => {})
    return client
  }

  async #hold (text: string): Promise<Fault> {
    const client = this.#client()
    await client.connect()
    await client.query('BEGIN')
    await client.query(text)
    return this.#last({}, () => client.end())
  }

  #last<T extends object> (shown: T, undo: () => Promise<void>): T & Fault {
    const fault = {
      ...shown,
      heal: async () => {
        if (this.#lasting.delete(fault)) await undo()
      }
    }
    this.#lasting.add(fault)
    return fault
  }

  #postmaster (): number {
    const { pid } = this.#server
    if (pid === null) throw new Error('The server does not run. Heal what ended it, or call server.start().')
    return pid
  }

  #quoted (): string {
    return pg.escapeIdentifier(this.#database)
  }
}

/** Faults for the database of a test; every one is healed when the test ends. */
export function postgresFaults (t: Teardown, database: TestDatabase): PostgresFaults {
  const faults = new PostgresFaults(database)
  t.teardown(() => faults.close())
  return faults
}
