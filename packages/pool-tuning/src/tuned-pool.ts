import pg from 'pg'
import { databaseFailureOf, type Clock, type Deadline } from '@orientor/session-contract/core'
import { errors } from './errors.js'
import { markPool, newClient, PgConnection, showCounts } from './pg-pool-seam.js'
import { PoolCore, type Acquisition, type GoneReason, type Member, type PoolCoreOptions, type PoolStats } from './pool-core.js'
import { verdictOf, type ReleaseVerdict } from './release-verdict.js'
import { Retry, type RetryOptions } from './retry.js'
import { isSubmittable, submit, type QueryCallback } from './submittable.js'
import { throwLater } from './throw-later.js'

/** What a statement may say beside its text; understood by `TunedPool.query()`. */
export interface TunedQueryConfig extends pg.QueryConfig {
  /** Whether a second execution does no harm: only then is a statement that was cut in flight sent again. Default is false. */
  readonly idempotent?: boolean
  /** By when the answer must be there, waiting and retries included. Default: the pool's `timeoutMs` for the connection. */
  readonly deadline?: Deadline
}

/** How a pool behaves; all durations in milliseconds. */
export interface TunedPoolOptions extends Omit<PoolCoreOptions, 'alwaysReset'> {
  readonly drainMs: number
  readonly retry: RetryOptions
  readonly resetOnReturn: 'rollback' | 'commit' | 'discard'
}

/** What the pool needs from outside. */
export interface TunedPoolPorts {
  readonly clock: Clock
  readonly random: () => number
  /** Configuration of the next client; may change between connections. */
  readonly config: () => pg.PoolConfig
  /** Work on a new connection before it is lent, inside the limit of the connection. */
  readonly onConnect: (client: pg.Client) => Promise<void>
  /** Whether to try once more at once with the configuration of now. */
  readonly onRefused: (error: unknown) => boolean
  /** Whether a pooler may sit in front of the server, which gives out another session for each transaction. */
  readonly mayBePooled: () => boolean
  readonly onStatement?: (text: string) => void
  readonly onLeak?: (trace: string) => void
  /** After how long a lent connection is reported with the place that took it; 0 for never. */
  readonly leakTraceAfterMs: number
}

type Done = (release?: Error | boolean) => void
type ConnectCallback = (error: Error | undefined, client: pg.PoolClient | undefined, done: Done) => void
type Lent = Member<PgConnection>

/** A prepared statement that is not there, or is there already: the session is not the one that this client thinks. */
const misnamed: ReadonlySet<unknown> = new Set(['26000', '42P05'])
/** A connection is made anew when its parameters are refused, and when the first one showed what they have to be. */
const mostAttempts = 3
const resetTexts = { rollback: 'ROLLBACK', commit: 'COMMIT', discard: 'DISCARD ALL' } as const
const noop = (): void => {}

/**
 * A pool with the face of pg-pool and another heart: a drop-in for `pg.Pool` that lends only proven connections, keeps them through refused statements,
 * survives every end of a connection, always serves its waiters, and ends within its deadline. Emits pg-pool's events.
 */
export class TunedPool extends pg.Pool {
  readonly #core: PoolCore<PgConnection>
  readonly #retry: Retry
  readonly #ports: TunedPoolPorts
  readonly #drainMs: number
  readonly #timeoutMs: number
  #namesStatements = true

  constructor (options: TunedPoolOptions, ports: TunedPoolPorts) {
    super({ max: options.size + options.overflow })
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
    this.checkout().then(client => { callback(undefined, client, client.release) }, (error: Error) => { callback(error, undefined, noop) }).catch(throwLater)
  }

  /**
   * A connection, to be given back with `client.release()`. Failures to connect are retried inside the deadline.
   *
   * @throws ORI_POOL_CHECKOUT_TIMEOUT at the deadline, ORI_POOL_CLOSED after end(), or what the last attempt to connect failed with
   */
  async checkout (request: Acquisition = {}): Promise<pg.PoolClient> {
    const member = this.#core.tryAcquire() ?? await this.#acquire(request)
    return this.#lend(member)
  }

  override query<T extends pg.Submittable> (statement: T): T
  override query<R extends unknown[] = unknown[]> (statement: pg.QueryArrayConfig, values?: unknown[]): Promise<pg.QueryArrayResult<R>>
  override query<R extends pg.QueryResultRow = pg.QueryResultRow> (statement: string | TunedQueryConfig | pg.QueryConfig, values?: unknown[]): Promise<pg.QueryResult<R>>
  override query (statement: string | TunedQueryConfig | pg.QueryConfig | pg.QueryArrayConfig, values: unknown[] | undefined | QueryCallback, callback?: QueryCallback): void
  override query (statement: unknown, values?: unknown, callback?: unknown): never {
    const given = (typeof values === 'function' ? values : callback) as QueryCallback | undefined
    if (isSubmittable(statement)) {
      submit(() => this.checkout(), statement, given)
      return statement as never
    }
    const answer = this.#query(statement as string | TunedQueryConfig, typeof values === 'function' ? undefined : values as unknown[] | undefined)
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

  /** Ends the pool: what is lent has so long to come back, then it is cut. Called again, the shorter time counts. */
  async drain (graceMs: number): Promise<void> {
    markPool(this, 'ending')
    await this.#core.drain(graceMs)
    markPool(this, 'ended')
  }

  /** Cuts every connection now, so that statements without an answer fail instead of hanging. */
  cut (): void {
    this.#core.cut()
  }

  async #open (lost: (connection: PgConnection) => void, signal: AbortSignal, resetText: string): Promise<PgConnection> {
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
        if (attempt < mostAttempts && this.#ports.onRefused(error)) continue
        throw unsent(error)
      } finally {
        signal.removeEventListener('abort', cut)
      }
    }
  }

  /** A statement of some connection does not fit any more: those of the others neither, or names are of no use here. */
  #outdated (error: Error): void {
    if (!misnamed.has((error as { code?: unknown }).code)) this.#core.outdate()
    else if (this.#ports.mayBePooled()) this.#namesStatements = false
  }

  #gone (client: pg.PoolClient, reason: GoneReason): void {
    if (reason === 'lost') this.#tell('error', new Error('A connection of the pool ended by itself.'), client)
    this.#tell('remove', client)
  }

  /** A listener that throws disturbs nobody but the process, as everywhere. */
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
      this.#giveBack(member, error === undefined || error === false ? 'keep' : error === true ? 'broken' : verdictOf(error), error)
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

  /** The usual case, an idle connection and an answer, costs one promise; everything else goes the long way. */
  #query (statement: string | TunedQueryConfig, values: unknown[] | undefined): Promise<unknown> {
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

  async #queryAgain (statement: string | TunedQueryConfig, values: unknown[] | undefined, deadline: Deadline | undefined, untilMs: number, tries: number): Promise<unknown> {
    const member = this.#core.tryAcquire() ?? await this.#acquire(deadline === undefined ? { atMs: untilMs } : { atMs: deadline.atMs, signal: deadline.signal })
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

  async #recover (error: unknown, statement: string | TunedQueryConfig, values: unknown[] | undefined, deadline: Deadline | undefined, untilMs: number, tries: number): Promise<unknown> {
    const nameless = databaseFailureOf(error) === 'outdated' ? withoutName(statement) : statement
    if (nameless === statement) {
      const idempotent = (statement as TunedQueryConfig | null)?.idempotent === true
      await this.#pauseOrThrow(error, tries, idempotent, untilMs)
    } else if (!this.#retry.prepareAgain(tries)) throw error
    return await this.#queryAgain(nameless, values, deadline, untilMs, tries + 1)
  }

  #send (member: Lent, statement: string | TunedQueryConfig, values: unknown[] | undefined, deadline: Deadline | undefined, done: QueryCallback): void {
    const { client } = member.connection
    if (this.listenerCount('acquire') > 0) this.#tell('acquire', client)
    this.#ports.onStatement?.(typeof statement === 'string' ? statement : statement?.text)
    const timed = deadline === undefined ? statement : { ...(statement as TunedQueryConfig), query_timeout: Math.max(1, Math.ceil(deadline.atMs - this.#ports.clock.monotonic())) }
    try {
      (client.query as (...input: unknown[]) => void)(timed, values, (error: Error | null | undefined, result: unknown) => {
        if (error === null || error === undefined) {
          this.#giveBack(member, 'keep')
          this.#retry.succeeded()
          done(null, result)
        } else {
          this.#giveBack(member, this.#verdictOnStatement(member, error), error)
          done(error)
        }
      })
    } catch (error) {
      this.#giveBack(member, 'keep', error)
      done(error as Error)
    }
  }

  /** A complaint of the client library, such as values that are no list, left the connection as it was. */
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

/** The same statement, to be prepared anew; itself where it has no name, or nothing but one. */
function withoutName (statement: string | TunedQueryConfig): string | TunedQueryConfig {
  if (typeof (statement as TunedQueryConfig | null)?.name !== 'string' || typeof (statement as TunedQueryConfig).text !== 'string') return statement
  // As pg does, with the getters of its class, where it has one.
  return Object.assign(Object.create(Object.getPrototypeOf(statement) as object | null) as TunedQueryConfig, statement, { name: undefined })
}

/** The clock's timers do not keep a process alive; somebody who waits for a connection does. */
async function stayAwake<T> (work: Promise<T>): Promise<T> {
  const hold = setInterval(noop, 2 ** 30)
  try {
    return await work
  } finally {
    clearInterval(hold)
  }
}

/** While a connection is opened, nothing of anybody was sent on it, however it breaks. */
function unsent (error: unknown): unknown {
  if (error instanceof Error && (databaseFailureOf(error) === 'severed' || error.message === 'timeout expired')) Object.assign(error, { databaseFailure: 'unsent' })
  return error
}
