import type pg from 'pg'
import {
  asSent, systemClock, withdrawalOf, type Clock, type Component, type Health
} from '@orientor/session-contract/core'
import { askedPassword } from './asked-password.js'
import { clientConfig, connectionTarget, type ConnectionTarget } from './connection-target.js'
import { errors } from './errors.js'
import { firstCause } from './first-cause.js'
import { markUnsent } from './mark-unsent.js'
import { resolveOptions, type Origin, type PoolTuningOptions, type ResolvedPoolOptions } from './options.js'
import { announcedProcessId, connectionParameters } from './pg-pool-seam.js'
import { poolComponent } from './pool-component.js'
import { SettingsDelivery } from './session-settings.js'
import { transact } from './transaction.js'
import { TunedPool, type TunedPoolPorts } from './tuned-pool.js'

/** The log that messages go to; Fastify's logger fits. */
export interface PoolLogger {
  info (details: object, message: string): void
  warn (details: object, message: string): void
  error (details: object, message: string): void
}

/** The parts that the optimizer takes from outside; each has a default: no log, the system's clock, Math.random(). */
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
  readonly settings: readonly ExplainedSetting[]
  readonly advice: string | null
}

/** A session setting, and how it reaches the server, in words. */
export interface ExplainedSetting {
  readonly setting: string
  readonly value: unknown
  readonly delivery: string
}

const silentLogger: PoolLogger = { info: () => {}, warn: () => {}, error: () => {} }
const healthLimitMs = 1000
const startLimitMs = 2000
const roomSql = "SELECT current_setting('max_connections') AS most, " +
  "current_setting('superuser_reserved_connections') AS superusers, " +
  "coalesce(current_setting('reserved_connections', true), '0') AS roles"
/** The error of a connection that has to be made anew with other parameters, which only it has shown. */
const makeAnew = markUnsent(new Error('The connection is made anew with the settings of the session'))

/** A pool with presets, session settings, health and an explanation of itself; works without Fastify. */
export class DatabaseConnectionOptimizer {
  readonly pool: TunedPool
  /** One connection outside of the pool's limit, open while it is needed: a full pool cannot starve a health check. */
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
  constructor (
    options: PoolTuningOptions = {},
    { logger = silentLogger, clock = systemClock, random = Math.random }: OptimizerPorts = {}
  ) {
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
    const {
      size, overflow, timeoutMs, connectTimeoutMs, recycleMs, pingAfterIdleMs, pingTimeoutMs, resetTimeoutMs,
      overflowIdleMs, minConnections, connectRamp, resetOnReturn, drainMs, tries
    } = this.#options
    const common = {
      connectTimeoutMs,
      recycleMs,
      pingAfterIdleMs,
      pingTimeoutMs,
      resetTimeoutMs,
      overflowIdleMs,
      connectRamp,
      resetOnReturn,
      drainMs,
      retry: { tries, firstPauseMs: 25, mostPauseMs: 400 }
    }
    const onlyWhenNeeded = {
      size: 0,
      overflow: 1,
      timeoutMs: healthLimitMs,
      minConnections: 0,
      connectTimeoutMs: Math.min(connectTimeoutMs, healthLimitMs),
      drainMs: 0
    }
    this.#lane = new TunedPool({ ...common, ...onlyWhenNeeded }, { ...ports, leakTraceAfterMs: 0 })
    this.pool = new TunedPool({ ...common, size, overflow, timeoutMs, minConnections }, { ...ports, reserved: this.#lane })
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
   * Opens the first connections, checks the settings and that the server has room for the pool. An unreachable server
   * is logged, not an error, and takes 2 s at most.
   *
   * @throws ORI_POOL_LARGER_THAN_SERVER; ORI_POOL_UNREACHABLE with `failFast`
   */
  async start (): Promise<void> {
    if (this.#target.advice !== null) this.#logger.warn({}, `pool: ${this.#target.advice}`)
    this.pool.start()
    let room: { readonly most: number, readonly reserved: number }
    try {
      const atMs = this.#clock.monotonic() + startLimitMs
      const { rows: [row] } = await this.#onLane<Record<'most' | 'superusers' | 'roles', string>>(roomSql, atMs)
      room = { most: Number(row!.most), reserved: Number(row!.superusers) + Number(row!.roles) }
    } catch (error) {
      const message = this.#whyNot(error)
      if (this.#options.failFast) {
        const rule = `with failFast it must answer within ${startLimitMs} ms at the start`
        const whole = `${message} The rule: ${rule}. Mend that first, or leave failFast out.`
        throw new errors.Unreachable(whole, { cause: error })
      }
      const level = withdrawalOf(error) === null ? 'warn' : 'error'
      this.#logger[level]({ err: error }, `pool: ${message} The pool connects when it can`)
      return
    }
    const wanted = this.pool.limit + 1
    if (this.#pooler !== true && wanted > room.most - room.reserved) {
      const { size, overflow } = this.#options
      throw new errors.LargerThanServer(
        `The pool may open ${size} + ${overflow} connections, and one for health checks: ${wanted} in all. ` +
        `The rule: no more than the server has, which is ${room.most} (max_connections) less ${room.reserved} ` +
        'reserved, over all instances. Lower size or overflow, or raise max_connections.')
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
    return Object.freeze({
      preset: this.#options.preset,
      maxConnections: this.pool.limit + 1,
      pooler: this.#pooler,
      values: Object.freeze(Object.entries(values).map(([option, value]) => {
        return Object.freeze({ option, value, origin: origins[option] ?? 'default' })
      })),
      settings: Object.freeze(Object.entries(settings).map(([setting, value]) => {
        return Object.freeze({ setting, value, delivery: this.#deliveryOf(setting, value) })
      })),
      advice: this.#advice()
    })
  }

  #deliveryOf (setting: string, value: unknown): string {
    const { mode, own, wanted, kept } = this.#delivery
    if (own.has(setting)) return 'set by the app'
    if (value === null) return 'left to the server'
    if (kept.has(setting)) return `left to the server, which has its own (${kept.get(setting)})`
    if (this.#notApplied.includes(setting)) return `${mode}, not applied`
    return wanted.has(setting) ? mode : 'none'
  }

  /**
   * Starts `drainMs`, when the app begins to close. When it is over, connections that are still lent are cut and none
   * is lent any more, so that requests in flight end; close() then takes what is left of it.
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
    const leftMs = Math.max(0, this.#drainBy! - this.#clock.monotonic())
    this.#closed ??= Promise.all([this.pool.drain(leftMs), this.#lane.drain(0)]).then(() => {})
    return this.#closed
  }

  /** The reason why the first connection could not be made, as one or two sentences with the words of the server. */
  #whyNot (error: unknown): string {
    const { host, port } = this.#target
    const withdrawal = withdrawalOf(error)
    if (withdrawal === null) return `The database at ${host}:${port} cannot be reached yet: ${firstCause(error)}.`
    const { reason, code, remedy } = withdrawal
    return `PostgreSQL at ${host}:${port} refuses: ${reason} (${code}: ${firstCause(error)}). ${remedy}.`
  }

  async #check (): Promise<Health> {
    const { total, idle, waiting } = this.pool.stats()
    try {
      await this.#onLane('SELECT 1', this.#clock.monotonic() + healthLimitMs)
    } catch (error) {
      const withdrawal = withdrawalOf(error)
      if (withdrawal === null) return this.#verdict('unhealthy', 'The database does not answer')
      return this.#verdict('unhealthy', `PostgreSQL refuses: ${withdrawal.reason} (${withdrawal.code})`)
    }
    const isFull = waiting > 0 && idle === 0 && total >= this.pool.limit
    if (isFull) return this.#verdict('degraded', `Every connection is lent and ${waiting} requests wait`)
    return this.#verdict('healthy', 'The database answers')
  }

  #verdict (status: Health['status'], reason: string): Health {
    return { status, reason, checkedAtMs: this.#clock.now() }
  }

  #onLane<R extends pg.QueryResultRow> (text: string, atMs: number): Promise<pg.QueryResult<R>> {
    const deadline = { atMs, signal: new AbortController().signal }
    return this.#lane.query<R>({ text, types: asSent as pg.CustomTypesConfig, idempotent: true, deadline })
  }

  #clientConfig (): pg.PoolConfig {
    const { settings, connectTimeoutMs } = this.#options
    const config = this.#readClient()
    const { password } = config
    // With those of the environment.
    const { options } = this.#target.parameters
    const { statement_timeout: limitMs } = settings
    const own = Number(config.statement_timeout)
    // The server answers after statement_timeout; when not even that comes, the connection is dead.
    const isUnlimited = limitMs === null || limitMs === 0 || Number(config.query_timeout) > 0
    const answerMs = isUnlimited ? null : (own > 0 ? own : limitMs) + 1000
    return {
      keepAlive: true,
      application_name: 'orientor',
      connectionTimeoutMillis: connectTimeoutMs,
      ...config,
      ...typeof password === 'function' && { password: askedPassword(password) },
      ...answerMs !== null && { query_timeout: answerMs },
      ...this.#delivery.startupConfig(typeof options === 'string' ? options : undefined)
    }
  }

  /** The configuration as it is now: a file of a certificate may be gone for a moment, while it is renewed. */
  #readClient (): pg.ClientConfig {
    try {
      return clientConfig(this.#options.client).config
    } catch (error) {
      throw markUnsent(error as Error)
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
      if (pooled) this.#warn('a pooler sits in front of the database')
      else if (notApplied.size > 0) this.#warn('the server did not take the session settings')
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

  /** Warns once: connections that open together find the same. */
  #warn (what: string): void {
    if (this.#warned) return
    this.#warned = true
    const { mode } = this.#delivery
    const details = { delivery: mode, notApplied: this.#notApplied }
    this.#logger.warn(details, `pool: ${what}; session settings are delivered by "${mode}". ` +
      `To have them everywhere: ${this.#delivery.advice(this.#target.role)}`)
  }

  #advice (): string | null {
    const isMissing = this.#delivery.mode === 'role' || this.#pooler === true || this.#notApplied.length > 0
    return isMissing ? this.#delivery.advice(this.#target.role) : null
  }
}
