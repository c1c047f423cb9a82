import type { Instrument, PoolLike, UserChange, WatchedTable } from '@orientor/session-contract/core'
import type { Trust } from './trust.js'

/** The state of a bus, for a log line, a health check and an administrator. */
export interface BusStatus {
  readonly trusted: boolean
  /** The reason why it is trusted or not, in one plain sentence; holds no secret. */
  readonly reason: string
  /** The step by which an operator can mend it, where the bus is not trusted and the reason does not say. */
  readonly remedy?: string
  /** The number of instances that are there, this one included; null while that is not known. */
  readonly instances: number | null
}

/** News that an operator should read. */
export interface BusNews {
  readonly level: 'info' | 'warn'
  /** The event, and what to do about it; holds no secret. */
  readonly message: string
  /** SQL that has to be run by a role that may. */
  readonly sql?: string
}

/** The facts that a bus is given at its start. */
export interface BusStart {
  /** The tables whose changes have to be announced. */
  readonly watches: readonly WatchedTable[]
  /** The pool of the scope; null or left out: it has none. */
  readonly pool?: PoolLike | null
  readonly report: (news: BusNews) => void
}

/**
 * Carries changes between the instances of a service, those of one user in the order of their commits or as one, and
 * proves how far it has come. Every adapter passes the conformance suite.
 */
export interface InvalidationBus {
  /** The name that the start line gives it: "postgres", "memory". */
  readonly name: string
  readonly trust: Trust
  /**
   * The age that the last proof may reach while all is well, in milliseconds. The rest of B is the time that a load may
   * take.
   */
  readonly leaseMs: number
  /** Whether it hears of changes in the database by itself; else only of those that are published. */
  readonly hearsWrites: boolean
  readonly instruments?: readonly Instrument[]
  /**
   * Begins to poll, or to hear in another way. Resolves when it is known whether the bus can be trusted, after a
   * bounded time in any case; not being able to connect is no failure. Rejects when what it is told to watch can never
   * be announced, or there is no pool.
   */
  start (options: BusStart): Promise<void>
  /**
   * Subscribes to changes, which are applied synchronously, before any later proof; returns the function that ends the
   * subscription. To be called before start().
   */
  subscribe (listener: (change: UserChange) => void): () => void
  /** Calls back when trust ends, and when it begins, anew with each epoch; returns the function that ends that. */
  onTrust (listener: (status: BusStatus) => void): () => void
  /**
   * Announces a change to all instances, this one included.
   *
   * @throws ORI_CACHE_BUS_UNAVAILABLE when it cannot be sent
   */
  publish (change: UserChange): Promise<void>
  /**
   * Tells the other instances of changes that this one has made and committed, and that they will hear of in any case:
   * a hint, which may be lost. Left out: there is no quicker way.
   */
  hint? (changes: readonly UserChange[]): void
  status (): BusStatus
  /** Ends, within a bounded time, whatever the other side does. What was proven stays proven, and grows old. */
  close (): Promise<void>
}
