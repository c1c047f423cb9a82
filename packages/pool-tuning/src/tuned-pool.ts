import pg from 'pg'
import { databaseFailureOf, isMisnamed, type Clock, type Deadline } from '@orientor/session-contract/core'
import { errors } from './errors.js'
import { markUnsent } from './mark-unsent.js'
import { markPool, newClient, PgConnection, showCounts } from './pg-pool-seam.js'
import {
  PoolCore, type Acquisition, type GoneReason, type Member, type PoolCoreOptions, type PoolStats
} from './pool-core.js'
import { verdictOf, type ReleaseVerdict } from './release-verdict.js'
import { Retry, type RetryOptions } from './retry.js'
import { isSubmittable, submit, type QueryCallback } from './submittable.js'
import { throwLater } from './throw-later.js'

/** A statement with what `TunedPool.query()` understands beside pg's own. */
export interface TunedQueryConfig extends pg.QueryConfig {
  /** Whether a second execution does no harm: only then a statement cut in flight is sent again. Default is false. */
  readonly idempotent?: boolean
  /**
   * The end of the time for the answer, with waiting and retries. Default: the pool's `timeoutMs`, for the connection.
   */
  readonly deadline?: Deadline
}

/** The behaviour of a pool; all durations in milliseconds. */
export interface TunedPoolOptions extends Omit<PoolCoreOptions, 'alwaysReset'> {
  readonly drainMs: number
  readonly retry: RetryOptions
  readonly resetOnReturn: 'rollback' | 'commit' | 'discard'
}

/** The parts that the pool takes from outside. */
export interface TunedPoolPorts {
  readonly clock: Clock
  readonly random: () => number
  /** The configuration of the next client; may change between connections. */
  readonly config: () => pg.PoolConfig
  /** Prepares a new connection before it is lent, within `connectTimeoutMs`. */
  readonly onConnect: (client: pg.Client) => Promise<void>
  /** Whether to connect once more, at once, with the configuration of now. */
  readonly onRefused: (error: unknown) => boolean
  /** Whether a pooler may sit in front of the server, which gives out another session for each transaction. */
  readonly mayBePooled: () => boolean
  readonly onStatement?: (text: string) => void
  readonly onLeak?: (trace: string) => void
  /** The time after which a lent connection is reported with the place that took it, in milliseconds; 0 for never. */
  readonly leakTraceAfterMs: number
  /** The pool that becomes this one's `reserved`. Default is none. */
  readonly reserved?: TunedPool
}

type Done = (release?: Error | boolean) => void
type ConnectCallback = (error: Error | undefined, client: pg.PoolClient | undefined, done: Done) => void
type Lent = Member<PgConnection>
type Sent = string | TunedQueryConfig

/** The most attempts for a connection: it is made anew when its parameters are refused, or turn out to lack some. */
const maxAttempts = 3
const resetTexts = { rollback: 'ROLLBACK', commit: 'COMMIT', discard: 'DISCARD ALL' } as const
const noop = (): void => {}

/**
 * A drop-in for `pg.Pool` that lends only proven connections, keeps them through refused statements, survives every end
 * of a connection, always serves its waiters, and ends within its deadline. Emits pg-pool's events.
 */
export class TunedPool extends pg.Pool {
  /** The pool of one connection beside this one, for statements that must not wait behind those of the app. */
  readonly reserved?: TunedPool
  readonly #core: PoolCore<PgConnection>
  readonly #retry: Retry
  readonly #ports: TunedPoolPorts
  readonly #drainMs: number
  readonly #timeoutMs: number
  #namesStatements = true

  constructor (options: TunedPoolOptions, ports: TunedPoolPorts) {
    super({ max: options.size + options.overflow })
    if (ports.reserved !== undefined) this.reserved = ports.reserved
    this.#ports = ports
    this.#drainMs = options.drainMs
    this.#timeoutMs = options.timeoutMs
    this.#retry = new Retry(options.retry, ports.clock, ports.random)
    const resetText = resetTexts[options.resetOnReturn]
    // ROLLBACK and COMMIT do nothing outside of a transaction; DISCARD ALL does.
    this.#core = new PoolCore({ ...options, alwaysReset: options.resetOnReturn === 'discard' }, {
      clock: ports.clock,
      random: ports.random,
      open: (lost, signal) => this.#open(lost, signal, resetText),
      onOpen: ({ client }) => { this.#tell('connect', client) },
      onGone: ({ client }, reason) => { this.#gone(client, reason) }
    })
    showCounts(this, () => this.#core.stats())
    // Without a listener an 'error' event ends the process.
    this.on('error', noop)
  }

  /** Opens the connections that are always kept. */
  start (): void {
    this.#core.start()
  }

  stats (): PoolStats & { readonly retries: number } {
    return Object.freeze({ ...this.#core.stats(), retries: this.#retry.retries })
  }

  get limit (): number {
    return this.#core.limit
  }

  get lastOpenError (): Error | null {
    return this.#core.lastOpenError
  }

  override connect (): Promise<pg.PoolClient>
  override connect (callback: ConnectCallback): void
  override connect (callback?: ConnectCallback): Promise<pg.PoolClient> | void {
    if (callback === undefined) return this.checkout()
    this.checkout().then(client => {
      callback(undefined, client, client.release)
    }, (error: Error) => {
      callback(error, undefined, noop)
    }).catch(throwLater)
  }

  /**
   * A connection, to be given back with `client.release()`. Failures to connect are retried within the deadline.
   *
   * @throws ORI_POOL_CHECKOUT_TIMEOUT at the deadline, ORI_POOL_CLOSED after end(), or the error of the last attempt
   */
  async checkout (request: Acquisition = {}): Promise<pg.PoolClient> {
    const member = this.#core.tryAcquire() ?? await this.#acquire(request)
    return this.#lend(member)
  }

  override query<T extends pg.Submittable> (statement: T): T
  override query<R extends unknown[] = unknown[]> (
    statement: pg.QueryArrayConfig, values?: unknown[]
  ): Promise<pg.QueryArrayResult<R>>
  override query<R extends pg.QueryResultRow = pg.QueryResultRow> (
    statement: string | TunedQueryConfig | pg.QueryConfig, values?: unknown[]
  ): Promise<pg.QueryResult<R>>
  override query (
    statement: string | TunedQueryConfig | pg.QueryConfig | pg.QueryArrayConfig,
    values: unknown[] | undefined | QueryCallback,
    callback?: QueryCallback
  ): void
  override query (statement: unknown, values?: unknown, callback?: unknown): never {
    const given = (typeof values === 'function' ? values : callback) as QueryCallback | undefined
    if (isSubmittable(statement)) {
      submit(() => this.checkout(), statement, given)
      return statement as never
    }
    const parameters = typeof values === 'function' ? undefined : values as unknown[] | undefined
    const answer = this.#query(statement as Sent, parameters)
    if (given === undefined) return answer as never
    answer.then(result => { given(null, result) }, (error: Error) => { given(error) }).catch(throwLater)
    return undefined as never
  }

  /** Ends the pool: what is lent has `drainMs` to come back, then it is cut. Never takes longer. */
  override end (): Promise<void>
  override end (callback: () => void): void
  override end (callback?: () => void): Promise<void> | void {
    const ended = this.drain(this.#drainMs)
    if (callback === undefined) return ended
    ended.then(callback).catch(throwLater)
  }

  /** Ends the pool: what is lent has `graceMs` to come back, then it is cut. Called again, the shorter time counts. */
  async drain (graceMs: number): Promise<void> {
    markPool(this, 'ending')
    await this.#core.drain(graceMs)
    markPool(this, 'ended')
  }

  /** Cuts every connection now, so that statements without an answer fail instead of hanging. */
  cut (): void {
    this.#core.cut()
  }

  async #open (
    lost: (connection: PgConnection) => void, signal: AbortSignal, resetText: string
  ): Promise<PgConnection> {
    for (let attempt = 1; ; attempt++) {
      const client = newClient(this, this.#ports.config())
      const connection = new PgConnection(client, resetText, error => { this.#outdated(error) })
      let isGivenUp = false
      const end = (): void => { if (!isGivenUp) lost(connection) }
      // For life, and before the first byte: a backend may die at any moment, lent or not.
      client.on('error', end)
      client.once('end', end)
      const cut = (): void => { connection.destroy() }
      signal.addEventListener('abort', cut, { once: true })
      try {
        await client.connect()
        await this.#ports.onConnect(client)
        signal.throwIfAborted()
        return connection
      } catch (error) {
        isGivenUp = true
        cut()
        if (attempt < maxAttempts && this.#ports.onRefused(error)) continue
        throw whileOpening(error)
      } finally {
        signal.removeEventListener('abort', cut)
      }
    }
  }

  /** Takes note of an outdated statement: those of other connections are as well, or names are of no use here. */
  #outdated (error: Error): void {
    if (!isMisnamed(error)) this.#core.outdate()
    else if (this.#ports.mayBePooled()) this.#namesStatements = false
  }

  #gone (client: pg.PoolClient, reason: GoneReason): void {
    if (reason === 'lost') this.#tell('error', new Error('A connection of the pool ended by itself.'), client)
    this.#tell('remove', client)
  }

  /** Emits an event; a listener that throws disturbs the process alone, as everywhere. */
  #tell (event: string, ...details: unknown[]): void {
    try {
      this.emit(event as 'connect', ...details as [pg.PoolClient])
    } catch (error) {
      throwLater(error)
    }
  }

  async #acquire (request: Acquisition): Promise<Lent> {
    const untilMs = Math.min(request.atMs ?? Infinity, this.#ports.clock.monotonic() + this.#timeoutMs)
    for (let tries = 1; ; tries++) {
      try {
        return await stayAwake(new Promise<Lent>((resolve, reject) => {
          this.#core.acquire({ ...request, atMs: untilMs }, (error, member) => {
            if (error === null) resolve(member!)
            else reject(error)
          })
        }))
      } catch (error) {
        if (error instanceof errors.CheckoutTimeout || error instanceof errors.Closed) throw error
        await this.#pauseOrThrow(error, tries, true, untilMs)
      }
    }
  }

  #lend (member: Lent): pg.PoolClient {
    const { client } = member.connection
    let released = false
    const watch = this.#watchLeak()
    client.release = (error?: Error | boolean) => {
      if (released) throw new Error('Release called on client which has already been released to the pool.')
      released = true
      watch?.cancel()
      const isKept = error === undefined || error === false
      this.#giveBack(member, isKept ? 'keep' : error === true ? 'broken' : verdictOf(error), error)
    }
    if (this.listenerCount('acquire') > 0) this.#tell('acquire', client)
    return client
  }

  #giveBack (member: Lent, verdict: ReleaseVerdict, error?: unknown): void {
    if (this.listenerCount('release') > 0) this.#tell('release', error, member.connection.client)
    this.#core.release(member, verdict)
  }

  #watchLeak (): { cancel: () => void } | null {
    const { leakTraceAfterMs, onLeak, clock } = this.#ports
    if (leakTraceAfterMs === 0) return null
    const trace = new Error('taken here')
    return clock.setTimer(() => { onLeak?.(trace.stack!) }, leakTraceAfterMs)
  }

  /** Sends a statement. The usual case, an idle connection and an answer, costs one promise. */
  #query (statement: Sent, values: unknown[] | undefined): Promise<unknown> {
    if (!this.#namesStatements) statement = withoutName(statement)
    const deadline = (statement as TunedQueryConfig | null)?.deadline
    const untilMs = deadline?.atMs ?? this.#ports.clock.monotonic() + this.#timeoutMs
    const member = this.#core.tryAcquire()
    if (member === null) return this.#queryAgain(statement, values, deadline, untilMs, 1)
    return new Promise((resolve, reject) => {
      this.#send(member, statement, values, deadline, (error, result) => {
        if (error === null) resolve(result)
        else this.#recover(error, statement, values, deadline, untilMs, 1).then(resolve, reject)
      })
    })
  }

  async #queryAgain (
    statement: Sent, values: unknown[] | undefined, deadline: Deadline | undefined, untilMs: number, tries: number
  ): Promise<unknown> {
    const request = deadline === undefined ? { atMs: untilMs } : { atMs: deadline.atMs, signal: deadline.signal }
    const member = this.#core.tryAcquire() ?? await this.#acquire(request)
    try {
      return await new Promise((resolve, reject) => {
        this.#send(member, statement, values, deadline, (error, result) => {
          if (error === null) resolve(result)
          else reject(error)
        })
      })
    } catch (error) {
      return await this.#recover(error, statement, values, deadline, untilMs, tries)
    }
  }

  async #recover (
    error: unknown, statement: Sent, values: unknown[] | undefined, deadline: Deadline | undefined, untilMs: number,
    tries: number
  ): Promise<unknown> {
    const nameless = databaseFailureOf(error) === 'outdated' ? withoutName(statement) : statement
    if (nameless === statement) {
      const idempotent = (statement as TunedQueryConfig | null)?.idempotent === true
      await this.#pauseOrThrow(error, tries, idempotent, untilMs)
    } else if (!this.#retry.prepareAgain(tries)) throw error
    return await this.#queryAgain(nameless, values, deadline, untilMs, tries + 1)
  }

  #send (
    member: Lent, statement: Sent, values: unknown[] | undefined, deadline: Deadline | undefined, done: QueryCallback
  ): void {
    const { client } = member.connection
    if (this.listenerCount('acquire') > 0) this.#tell('acquire', client)
    this.#ports.onStatement?.(typeof statement === 'string' ? statement : statement?.text)
    const timed = deadline === undefined ? statement : this.#timed(statement as TunedQueryConfig, deadline)
    const answer = (error: Error | null | undefined, result: unknown): void => {
      if (error === null || error === undefined) {
        this.#giveBack(member, 'keep')
        this.#retry.succeeded()
        done(null, result)
      } else {
        this.#giveBack(member, this.#verdictOnStatement(member, error), error)
        done(error)
      }
    }
    try {
      (client.query as (...input: unknown[]) => void)(timed, values, answer)
    } catch (error) {
      this.#giveBack(member, 'keep', error)
      done(error as Error)
    }
  }

  #timed (statement: TunedQueryConfig, { atMs }: Deadline): pg.QueryConfig & { readonly query_timeout: number } {
    return { ...statement, query_timeout: Math.max(1, Math.ceil(atMs - this.#ports.clock.monotonic())) }
  }

  /** The verdict on a failed statement. A complaint of the driver, such as values that are no list, harms nothing. */
  #verdictOnStatement (member: Lent, error: Error): ReleaseVerdict {
    const verdict = verdictOf(error)
    return verdict === 'broken' && !('code' in error) && member.connection.settled ? 'keep' : verdict
  }

  async #pauseOrThrow (error: unknown, tries: number, idempotent: boolean, untilMs: number): Promise<void> {
    const pauseMs = this.#retry.pauseMs(error, tries, idempotent, untilMs)
    if (pauseMs === null) {
      if (error instanceof Error) Error.captureStackTrace(error)
      throw error
    }
    await stayAwake(new Promise<void>(resolve => { this.#ports.clock.setTimer(resolve, pauseMs) }))
  }
}

/** The same statement without its name, to be prepared anew; itself where it has no name, or nothing but one. */
function withoutName (statement: Sent): Sent {
  const { name, text } = (statement ?? {}) as Partial<TunedQueryConfig>
  if (typeof name !== 'string' || typeof text !== 'string') return statement
  // As pg does, with the getters of its class, where it has one.
  const nameless = Object.create(Object.getPrototypeOf(statement) as object | null) as TunedQueryConfig
  return Object.assign(nameless, statement, { name: undefined })
}

/** Keeps the process alive until the work is done, which the clock's timers do not. */
async function stayAwake<T> (work: Promise<T>): Promise<T> {
  const hold = setInterval(noop, 2 ** 30)
  try {
    return await work
  } finally {
    clearInterval(hold)
  }
}

/** The error of a connection that broke while it was opened: no statement was sent on it yet. */
function whileOpening (error: unknown): unknown {
  if (!(error instanceof Error)) return error
  return databaseFailureOf(error) === 'severed' || error.message === 'timeout expired' ? markUnsent(error) : error
}
