import type { Deadline } from './deadline.js'
import type { Identity } from './identity.js'
import type { PoolLike } from './pool-like.js'
import type { SessionKey, SessionKeyHash } from './session-key.js'
import type { UserRecord } from './user.js'

/**
 * News that stored users changed. `revision: null` = gone or not known (a DELETE: a re-created row starts again at 1).
 */
export type UserChange =
  | { readonly kind: 'user', readonly keyHash: SessionKeyHash, readonly revision: number | null }
  | { readonly kind: 'all' }

/**
 * A table that a load reads, and what of it: what coherence has to watch. Names are exact; nothing is folded to lower
 * case.
 */
export interface WatchedTable {
  /** Left out: found by the search path. */
  readonly schema?: string
  readonly table: string
  /** The column that holds the issuer, or the one issuer of all rows. */
  readonly issuer: string | { readonly always: string }
  /** The column that holds the subject. */
  readonly subject: string
  /** The column that `UserRecord.revision` comes from, which grows on any change; null: none does. */
  readonly revision: string | null
  /** The columns whose changes matter; issuer and subject always do. */
  readonly columns: readonly string[]
  /**
   * Whether the revision grows with changes of these columns alone: one that grew then tells of a change by itself, and
   * an update that raises it is spared their comparison. Default is false.
   */
  readonly exactRevision?: boolean
  /**
   * Triggers BEFORE UPDATE FOR EACH ROW, by name, of this table and of what is read with it (partitions, tables that
   * inherit), that change none of these columns unless the update sets it: a "changed at", a revision. What is not
   * named here is taken to change any. Default is none.
   */
  readonly harmlessTriggers?: readonly string[]
}

/** One user to load. */
export interface LoadRequest {
  readonly key: SessionKey
  readonly issuer: string
  readonly subject: string
  /** null: preload, which never creates a user that the provider did not confirm. */
  readonly identity: Identity | null
  /** Ask the provider whatever the timestamps say. Default is false. */
  readonly force?: boolean
}

/** The parts of a scope that its source may use, once all plugins are registered. */
export interface SourceScope {
  /**
   * The pool of `fastify.pg`, which `@fastify/postgres` and `@orientor/pool-tuning` decorate; null when neither did.
   */
  readonly pool: PoolLike | null
  /** The log for what an operator should read. */
  readonly log: SourceLog
}

/** The log of a source, for what an operator should read; Fastify's logger fits. */
export interface SourceLog {
  error (details: object, message: string): void
  warn (details: object, message: string): void
  info (details: object, message: string): void
}

/** Where users come from. Calls go up, changes come down. */
export interface UserSource {
  /**
   * Takes what the scope has for it: called when the server becomes ready, before ready() and the first load, once by
   * each scope that has the source. Throws when what it needs is not there.
   */
  attach? (scope: SourceScope): void
  /**
   * Loads users: one promise per request, in the order of the requests, so that a known user does not wait for an
   * unknown one's provider. Each may reject with SourceUnavailable; any other rejection is a defect.
   */
  load (batch: readonly LoadRequest[], deadline: Deadline): ReadonlyArray<Promise<UserRecord>>
  /** Subscribes to changes; returns the function that ends the subscription. */
  onChange? (listener: (change: UserChange) => void): () => void
  /** Tables a load reads: what coherence must watch. */
  readonly watches?: readonly WatchedTable[]
  /**
   * Resolves when loads can be answered, or after a bounded time: to be called when the server becomes ready, as often
   * as one likes. Rejects when they never will be.
   */
  ready? (): Promise<void>
}

const mark = Symbol.for('@orientor/session-contract/source-unavailable')

/**
 * Could not know, for reasons that pass (connection, timeout, provider down). Anything else is a bug and is thrown as
 * such. `instanceof` holds across copies of this package.
 */
export class SourceUnavailable extends Error {
  static override [Symbol.hasInstance] (value: unknown): boolean {
    return typeof value === 'object' && value !== null && mark in value
  }

  readonly code = 'ORI_SOURCE_UNAVAILABLE'
  /** When asking again makes sense, in milliseconds from now. */
  readonly retryAfterMs: number

  /**
   * @param message - what could not be reached
   * @param options - `retryAfterMs` (default 1000) and the `cause`
   */
  constructor (message: string, options: { readonly retryAfterMs?: number, readonly cause?: unknown } = {}) {
    super(message, 'cause' in options ? { cause: options.cause } : {})
    this.name = 'SourceUnavailable'
    this.retryAfterMs = options.retryAfterMs ?? 1000
    Object.defineProperty(this, mark, { value: true })
  }
}
