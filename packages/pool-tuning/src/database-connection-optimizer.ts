import type pg from 'pg'
import { asSent, describe, systemClock, withdrawalOf, type Clock, type Component, type Health } from '@orientor/session-contract/core'
import { clientConfig, connectionTarget, type ConnectionTarget } from './connection-target.js'
import { errors } from './errors.js'
import { resolveOptions, type Origin, type PoolTuningOptions, type ResolvedPoolOptions } from './options.js'
import { announcedProcessId, connectionParameters } from './pg-pool-seam.js'
import { poolComponent } from './pool-component.js'
import { SettingsDelivery } from './session-settings.js'
import { transact } from './transaction.js'
import { TunedPool, type TunedPoolPorts } from './tuned-pool.js'

/** Where messages go; Fastify's logger fits. */
export interface PoolLogger {
  info (details: object, message: string): void
  warn (details: object, message: string): void
  error (details: object, message: string): void
}

/** What the optimizer needs from outside; every part has a default. */
export interface OptimizerPorts {
  readonly logger?: PoolLogger
  readonly clock?: Clock
  readonly random?: () => number
}

/** Every value in force and where it comes from. */
export interface Explanation {
  readonly preset: string
  readonly maxConnections: number
  readonly pooler: boolean | null
  readonly values: ReadonlyArray<{ readonly option: string, readonly value: unknown, readonly origin: Origin }>
  readonly settings: ReadonlyArray<{ readonly setting: string, readonly value: unknown, readonly delivery: string }>
  readonly advice: string | null
}

const silentLogger: PoolLogger = { info: () => {}, warn: () => {}, error: () => {} }
const healthLimitMs = 1000
const startLimitMs = 2000
/** Thrown while a connection is prepared that has to begin with other parameters, which are known now. */
const makeAnew = Object.assign(new Error('The connection is made anew with the settings of the session'), { databaseFailure: 'unsent' })

/**
 * A pool with presets, session settings, health and an explanation of itself; works without Fastify.
 */
export class DatabaseConnectionOptimizer {
  readonly pool: TunedPool
  /** One connection outside of the pool's limit, opened while it is needed: a full pool cannot starve a health check. */
  readonly #lane: TunedPool
  readonly #options: ResolvedPoolOptions
  readonly #target: ConnectionTarget
  readonly #delivery: SettingsDelivery
  readonly #logger: PoolLogger
  readonly #clock: Clock
  #pooler: boolean | null = null
  #notApplied: readonly string[] = []
  #warned = false
  #checking: Promise<Health> | null = null
  #drainBy: number | null = null
  #closed: Promise<void> | null = null

  /** @throws ORI_CONTRACT_INVALID_OPTION, ORI_POOL_INVALID_CONNECTION_STRING */
  constructor (options: PoolTuningOptions = {}, { logger = silentLogger, clock = systemClock, random = Math.random }: OptimizerPorts = {}) {
    this.#options = resolveOptions(options)
    this.#target = connectionTarget(this.#options.client)
    this.#logger = logger
    this.#clock = clock
    this.#delivery = new SettingsDelivery(this.#options.settings, this.#options.delivery, this.#target.parameters)
    const { echoSql, leakTraceAfterMs } = this.#options
    const ports: TunedPoolPorts = {
      clock,
      random,
      leakTraceAfterMs,
      config: () => this.#clientConfig(),
      onConnect: client => this.#prepare(client),
      onRefused: error => this.#refused(error),
      mayBePooled: () => this.#pooler !== false,
      onLeak: trace => { logger.warn({ trace }, `pool: a connection is lent for more than ${leakTraceAfterMs} ms`) },
      ...(echoSql ? { onStatement: (text: string) => { logger.info({ sql: text }, 'pool: statement') } } : {})
    }
    const { size, overflow, timeoutMs, connectTimeoutMs, recycleMs, pingAfterIdleMs, pingTimeoutMs, resetTimeoutMs, overflowIdleMs, minConnections, connectRamp, resetOnReturn, drainMs, tries } = this.#options
    const common = { connectTimeoutMs, recycleMs, pingAfterIdleMs, pingTimeoutMs, resetTimeoutMs, overflowIdleMs, connectRamp, resetOnReturn, drainMs, retry: { tries, firstPauseMs: 25, mostPauseMs: 400 } }
    this.pool = new TunedPool({ ...common, size, overflow, timeoutMs, minConnections }, ports)
    this.#lane = new TunedPool({ ...common, size: 0, overflow: 1, timeoutMs: healthLimitMs, minConnections: 0, connectTimeoutMs: Math.min(connectTimeoutMs, healthLimitMs), drainMs: 0 }, { ...ports, leakTraceAfterMs: 0 })
  }

  /** Connections that the pool keeps. */
  get size (): number {
    return this.#options.size
  }

  /** Connections that it may open above its size, while they are lent. */
  get maxOverflow (): number {
    return this.#options.overflow
  }

  /** Statement that every transaction begins with behind a transaction pooler; null for none. */
  get onBegin (): string | null {
    return this.#delivery.onBegin
  }

  get component (): Component {
    return poolComponent(this)
  }

  /**
   * Opens the first connections, checks the settings and that the server has room for the pool. An unreachable server is logged, not an error,
   * and takes 2 s at most.
   *
   * @throws ORI_POOL_LARGER_THAN_SERVER; ORI_POOL_UNREACHABLE with `failFast`
   */
  async start (): Promise<void> {
    if (this.#target.advice !== null) this.#logger.warn({}, `pool: ${this.#target.advice}`)
    this.pool.start()
    let room: { readonly most: number, readonly reserved: number }
    try {
      const atMs = this.#clock.monotonic() + startLimitMs
      const { rows: [row] } = await this.#onLane<Record<'most' | 'superusers' | 'roles', string>>(
        "SELECT current_setting('max_connections') AS most, current_setting('superuser_reserved_connections') AS superusers, coalesce(current_setting('reserved_connections', true), '0') AS roles", atMs)
      room = { most: Number(row!.most), reserved: Number(row!.superusers) + Number(row!.roles) }
    } catch (error) {
      const message = this.#whyNot(error)
      if (this.#options.failFast) throw new errors.Unreachable(`${message} The rule: with failFast it must answer within ${startLimitMs} ms at the start. Mend that first, or leave failFast out.`, { cause: error })
      const withdrawal = withdrawalOf(error)
      this.#logger[withdrawal === null ? 'warn' : 'error']({ err: error }, `pool: ${message} The pool connects when it can`)
      return
    }
    const wanted = this.pool.limit + 1
    if (this.#pooler !== true && wanted > room.most - room.reserved) {
      throw new errors.LargerThanServer(`The pool may open ${this.#options.size} + ${this.#options.overflow} connections, and one for health checks: ${wanted} in all. The rule: no more than the server has, which is ${room.most} (max_connections) less ${room.reserved} reserved, over all instances. Lower size or overflow, or raise max_connections.`)
    }
  }

  /** Runs work in a transaction; see transact(). */
  transact<T> (work: (client: pg.PoolClient) => Promise<T> | T): Promise<T> {
    return transact(this.pool, this.onBegin, work)
  }

  /** Asks the server on a connection of its own; never takes longer than 1 s, whatever the pool or the server do. */
  health (): Promise<Health> {
    this.#checking ??= this.#check().finally(() => { this.#checking = null })
    return this.#checking
  }

  /** Every value, where it comes from, and what the first connection showed. Holds no secret. */
  explain (): Explanation {
    const { origins, settings, client, environment, onConnect, ...values } = this.#options
    const { mode, own, wanted, kept } = this.#delivery
    return Object.freeze({
      preset: this.#options.preset,
      maxConnections: this.pool.limit + 1,
      pooler: this.#pooler,
      values: Object.freeze(Object.entries(values).map(([option, value]) => Object.freeze({ option, value, origin: origins[option] ?? 'default' }))),
      settings: Object.freeze(Object.entries(settings).map(([setting, value]) => Object.freeze({
        setting, value, delivery: own.has(setting) ? 'set by the app' : value === null ? 'left to the server' : kept.has(setting) ? `left to the server, which has its own (${kept.get(setting)})` : this.#notApplied.includes(setting) ? `${mode}, not applied` : wanted.has(setting) ? mode : 'none'
      }))),
      advice: this.#advice()
    })
  }

  /**
   * To be called when the app begins to close: from now on `drainMs` runs. When it is over, connections that are still lent are cut and nobody gets one
   * any more, so that requests in flight end; what has ended before shortens close().
   */
  beginDrain (): void {
    if (this.#drainBy !== null) return
    const { drainMs } = this.#options
    this.#drainBy = this.#clock.monotonic() + drainMs
    this.#clock.setTimer(() => { this.close().catch(() => {}) }, drainMs)
  }

  /** Ends both pools; takes at most what is left of `drainMs`. */
  close (): Promise<void> {
    this.beginDrain()
    this.#closed ??= Promise.all([this.pool.drain(Math.max(0, this.#drainBy! - this.#clock.monotonic())), this.#lane.drain(0)]).then(() => {})
    return this.#closed
  }

  /** Why the first connection could not be had, as one or two sentences with the words of whoever said so. */
  #whyNot (error: unknown): string {
    const { host, port } = this.#target
    const withdrawal = withdrawalOf(error)
    return withdrawal === null
      ? `The database at ${host}:${port} cannot be reached yet: ${firstCause(error)}.`
      : `PostgreSQL at ${host}:${port} refuses: ${withdrawal.reason} (${withdrawal.code}: ${firstCause(error)}). ${withdrawal.remedy}.`
  }

  async #check (): Promise<Health> {
    const { total, idle, waiting } = this.pool.stats()
    try {
      await this.#onLane('SELECT 1', this.#clock.monotonic() + healthLimitMs)
    } catch (error) {
      const withdrawal = withdrawalOf(error)
      return { status: 'unhealthy', reason: withdrawal === null ? 'The database does not answer' : `PostgreSQL refuses: ${withdrawal.reason} (${withdrawal.code})`, checkedAtMs: this.#clock.now() }
    }
    const full = waiting > 0 && idle === 0 && total >= this.pool.limit
    return { status: full ? 'degraded' : 'healthy', reason: full ? `Every connection is lent and ${waiting} requests wait` : 'The database answers', checkedAtMs: this.#clock.now() }
  }

  #onLane<R extends pg.QueryResultRow> (text: string, atMs: number): Promise<pg.QueryResult<R>> {
    const controller = new AbortController()
    return this.#lane.query<R>({ text, types: asSent as pg.CustomTypesConfig, idempotent: true, deadline: { atMs, signal: controller.signal } })
  }

  #clientConfig (): pg.PoolConfig {
    const { settings, connectTimeoutMs } = this.#options
    const config = this.#readClient()
    const { password } = config
    // Those of the environment, too.
    const { options } = this.#target.parameters
    const { statement_timeout: limitMs } = settings
    const own = Number(config.statement_timeout)
    // The server answers after statement_timeout; when not even that comes, the connection is dead.
    const answerMs = limitMs === null || limitMs === 0 || Number(config.query_timeout) > 0 ? null : (own > 0 ? own : limitMs) + 1000
    return {
      keepAlive: true,
      application_name: 'orientor',
      connectionTimeoutMillis: connectTimeoutMs,
      ...config,
      ...typeof password === 'function' && { password: passwordOf(password) },
      ...answerMs !== null && { query_timeout: answerMs },
      ...this.#delivery.startupConfig(typeof options === 'string' ? options : undefined)
    }
  }

  /** A file of a certificate may be gone for a moment, while it is renewed. */
  #readClient (): pg.ClientConfig {
    try {
      return clientConfig(this.#options.client).config
    } catch (error) {
      throw unsent(error as Error)
    }
  }

  async #prepare (client: pg.Client): Promise<void> {
    if (await this.#delivery.decide(client, String(connectionParameters(client)['options'] ?? ''))) throw makeAnew
    const { onConnect } = this.#delivery
    if (onConnect !== null) await client.query(onConnect)
    if (this.#pooler === null) {
      const { pooled, notApplied } = await this.#delivery.verify(client, announcedProcessId(client))
      this.#pooler ??= pooled
      this.#notApplied = [...notApplied.keys()]
      if (pooled || notApplied.size > 0) this.#warn(pooled ? 'a pooler sits in front of the database' : 'the server did not take the session settings')
    }
    await this.#options.onConnect?.(client)
  }

  #refused (error: unknown): boolean {
    if (error === makeAnew) return true
    if (!this.#delivery.refused(error)) return false
    this.#pooler = true
    this.#warn('a pooler refused the startup parameters')
    return true
  }

  /** Once: connections that open together find the same. */
  #warn (what: string): void {
    if (this.#warned) return
    this.#warned = true
    this.#logger.warn({ delivery: this.#delivery.mode, notApplied: this.#notApplied }, `pool: ${what}; session settings are delivered by "${this.#delivery.mode}". To have them everywhere: ${this.#delivery.advice(this.#target.role)}`)
  }

  #advice (): string | null {
    return this.#delivery.mode === 'role' || this.#pooler === true || this.#notApplied.length > 0 ? this.#delivery.advice(this.#target.role) : null
  }
}

/** What the error that caused all others says. */
function firstCause (error: unknown): string {
  let first = error
  for (let depth = 0; depth < 5; depth++) {
    const { cause, errors: several } = first as { readonly cause?: unknown, readonly errors?: readonly unknown[] }
    const next = cause ?? several?.[0]
    if (!(next instanceof Error)) break
    first = next
  }
  return (first as Error).message.replace(/\.$/, '')
}

type Password = Extract<pg.ClientConfig['password'], (...input: never[]) => unknown>

/** The app's function for a password. While it fails, nothing was sent yet. */
function passwordOf (ask: Password): Password {
  return async (...parameters) => {
    let password: unknown
    try {
      password = await ask(...parameters)
    } catch (cause) {
      throw unsent(new errors.PasswordFailed('failed', { cause }))
    }
    if (typeof password !== 'string') throw unsent(new errors.PasswordFailed(`answered with ${describe(password, true)}`, {}))
    return password
  }
}

function unsent (error: Error): Error {
  return Object.assign(error, { databaseFailure: 'unsent' })
}
