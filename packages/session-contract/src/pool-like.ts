import type { Deadline } from './deadline.js'

/** A statement, as node-postgres takes it. */
export interface StatementConfig {
  readonly text: string
  /** Prepared once per connection under this name. */
  readonly name?: string
  // node-postgres wants a mutable list, and does not change it.
  readonly values?: unknown[]
  /** The time after which the driver gives the statement up, in milliseconds. */
  readonly query_timeout?: number
  /**
   * By when it must have been answered: a pool that knows deadlines does not queue the statement for longer; others
   * ignore it.
   */
  readonly deadline?: Deadline
  /**
   * Whether a second execution does no harm: a pool that knows of it sends the statement again when its connection is
   * cut in flight; others ignore it.
   */
  readonly idempotent?: boolean
  /** The way in which values are read; see asSent. */
  readonly types?: { getTypeParser (...type: never[]): (value: never) => unknown }
}

/** A pool or a connection, which runs statements. */
export interface Queryable {
  query (statement: StatementConfig): Promise<{ readonly rows: ReadonlyArray<Readonly<Record<string, unknown>>> }>
}

/** One connection on loan. */
export interface ClientLike extends Queryable {
  /** Gives the connection back; with true it is closed. */
  release (destroy?: boolean): void
  on (event: 'error', listener: (error: Error) => void): unknown
  off (event: 'error', listener: (error: Error) => void): unknown
}

/** The part of a `pg` pool that is used. */
export interface PoolLike extends Queryable {
  connect (): Promise<ClientLike>
  /**
   * The pool of one connection beside this one, for statements that must not wait behind those of the app; left out: it
   * has none.
   */
  readonly reserved?: PoolLike
}
