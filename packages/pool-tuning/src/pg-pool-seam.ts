import pg from 'pg'
import { databaseFailureOf, isPlanOutdated } from '@orientor/session-contract/core'
import type { PooledConnection } from './pool-core.js'

// The only file that touches what pg and pg-pool do not document. Tested against the range of the peer dependency.

interface ClientInternals {
  readonly _activeQuery: { readonly name?: string } | null | undefined
  readonly _queryQueue: readonly unknown[]
  /** Sent and not answered, in pipeline mode; not there in older releases. */
  readonly _sentQueryQueue?: readonly unknown[]
  readonly _queryable: boolean
  readonly _ending: boolean
  readonly readyForQuery: boolean
  readonly processID: number | null
  readonly connection: {
    readonly stream: { destroy (): void, readonly destroyed: boolean }
    /** Texts by the names under which they were prepared, and those on their way. */
    parsedStatements: Record<string, string>
    submittedNamedStatements: Record<string, string>
    on (event: 'errorMessage', listener: (error: Error) => void): unknown
  }
}

interface PoolInternals {
  Client: new (config: pg.PoolConfig) => pg.Client
  ending: boolean
  ended: boolean
}

/** How long a goodbye may take before the socket is cut, in milliseconds. */
const goodbyeMs = 1000

/** Process id of the backend as the server (or a pooler in between) said at the start. */
export function announcedProcessId (client: pg.ClientBase): number | null {
  return (client as unknown as ClientInternals).processID
}

/** What pg makes of connection string, options and environment together, once per client. */
export function connectionParameters (client: pg.Client): Readonly<Record<string, unknown>> {
  return (client as unknown as { connectionParameters: Record<string, unknown> }).connectionParameters
}

/** A client by the pool's own configuration, the one that pg-pool would make. */
export function newClient (pool: pg.Pool, config: pg.PoolConfig): pg.Client {
  return new (pool as unknown as PoolInternals).Client(config)
}

/** Marks the pool as ending or ended for those who read pg-pool's public flags. */
export function markPool (pool: pg.Pool, mark: 'ending' | 'ended'): void {
  (pool as unknown as PoolInternals)[mark] = true
}

/** Lets pg-pool's public counts read ours. */
export function showCounts (pool: pg.Pool, read: () => { readonly total: number, readonly idle: number, readonly waiting: number }): void {
  Object.defineProperties(pool, {
    totalCount: { get: () => read().total },
    idleCount: { get: () => read().idle },
    waitingCount: { get: () => read().waiting },
    expiredCount: { get: () => 0 }
  })
}

/** Cuts the socket of a client, whatever it is doing. */
export function cutSocket (client: pg.ClientBase): void {
  (client as unknown as ClientInternals).connection.stream.destroy()
}

/** A client of pg as the core sees it. */
export class PgConnection implements PooledConnection {
  readonly client: pg.PoolClient
  readonly #internals: ClientInternals
  readonly #resetText: string
  #isOutdated = false

  /**
   * @param resetText - what `reset()` sends
   * @param onOutdated - called when a statement that was prepared here does not fit any more, pool or app sent it; the
   *   error says so from then on
   */
  constructor (client: pg.Client, resetText: string, onOutdated: (error: Error) => void) {
    this.client = client as pg.PoolClient
    this.#internals = client as unknown as ClientInternals
    this.#resetText = resetText
    // Before the client hears of it, so while the statement is still known.
    this.#internals.connection.on('errorMessage', error => {
      if (!this.#isOutdatedBy(error)) return
      Object.assign(error, { databaseFailure: 'outdated' })
      this.#isOutdated = true
      onOutdated(error)
    })
  }

  get isOutdated (): boolean {
    return this.#isOutdated
  }

  outdate (): void {
    if (Object.keys(this.#internals.connection.parsedStatements).length > 0) this.#isOutdated = true
  }

  /** Whether it is about what was prepared here. A statement that fails while it is prepared is the app's own fault. */
  #isOutdatedBy (error: Error): boolean {
    const { _activeQuery: query, connection } = this.#internals
    if (typeof query?.name !== 'string') return false
    return connection.parsedStatements[query.name] === undefined ? databaseFailureOf(error) === 'outdated' : isPlanOutdated(error)
  }

  get settled (): boolean {
    const client = this.#internals
    return client.readyForQuery && (client._activeQuery ?? null) === null && client._queryQueue.length === 0 && (client._sentQueryQueue?.length ?? 0) === 0 && client._queryable && !client._ending
  }

  get transactionStatus (): 'I' | 'T' | 'E' | null {
    return this.client.getTransactionStatus()
  }

  settle (done: () => void): void {
    const look = (): void => {
      if (!this.settled) return
      this.client.off('drain', look)
      done()
    }
    this.client.on('drain', look)
  }

  ping (): Promise<unknown> {
    return this.client.query('')
  }

  async reset (): Promise<void> {
    const isDiscarding = this.#resetText === 'DISCARD ALL'
    if (this.transactionStatus !== 'I') await this.client.query(this.transactionStatus === 'E' || isDiscarding ? 'ROLLBACK' : this.#resetText)
    // The client must forget with the server; it would send names that the server does not know.
    if (isDiscarding) await this.client.query('DISCARD ALL')
    else if (this.#isOutdated) await this.client.query('DEALLOCATE ALL')
    else return
    this.#isOutdated = false
    this.#internals.connection.parsedStatements = {}
    this.#internals.connection.submittedNamedStatements = {}
  }

  close (): void {
    const impatience = setTimeout(() => { this.destroy() }, goodbyeMs)
    this.client.end(() => { clearTimeout(impatience) })
  }

  destroy (): void {
    cutSocket(this.client)
  }
}
