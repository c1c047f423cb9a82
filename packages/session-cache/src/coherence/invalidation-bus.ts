import type { Instrument, UserChange, WatchedTable } from '@orientor/session-contract/core'
import type { Trust } from './trust.js'

/** How a bus is, for a log line, a health check and an administrator. */
export interface BusStatus {
  readonly trusted: boolean
  /** Why it is or is not, in one plain sentence; holds no secret. */
  readonly reason: string
  /** The step by which an operator can mend it, where the bus is not trusted and the reason does not say. */
  readonly remedy?: string
  /** Instances that listen now, this one included; null when nobody can tell. */
  readonly instances: number | null
}

/** Something that an operator should read. */
export interface BusNews {
  readonly level: 'info' | 'warn'
  /** What happened, and what to do about it; holds no secret. */
  readonly message: string
  /** SQL that has to be run by somebody who may. */
  readonly sql?: string
}

/** What a bus is told at its start. */
export interface BusStart {
  /** The tables whose changes have to be announced. */
  readonly watches: readonly WatchedTable[]
  readonly report: (news: BusNews) => void
}

/**
 * Carries changes between the instances of a service, in the order of their commits, and proves how far it has come.
 * Every adapter passes the conformance suite.
 */
export interface InvalidationBus {
  /** What the start line calls it: "postgres", "memory". */
  readonly name: string
  readonly trust: Trust
  /** How old the last proof may become while all is well, in milliseconds. What is left of B is the time that a load may take. */
  readonly leaseMs: number
  /** Whether it hears of changes in the database by itself; else only of those that are published. */
  readonly hearsWrites: boolean
  readonly instruments?: readonly Instrument[]
  /**
   * Begins to listen. Resolves when it is known whether the bus can be trusted, after a bounded time in any case; not being able to
   * connect is no failure. Rejects when what it is told to watch can never be announced.
   */
  start (options: BusStart): Promise<void>
  /**
   * Subscribes to changes, which are applied synchronously, before any later proof; returns the function that ends the subscription.
   * To be called before start().
   */
  subscribe (listener: (change: UserChange) => void): () => void
  /** Calls back when trust ends, and when it begins, anew with each epoch; returns the function that ends that. */
  onTrust (listener: (status: BusStatus) => void): () => void
  /** Announces a change to all instances, this one included. Rejects when it cannot be sent. */
  publish (change: UserChange): Promise<void>
  status (): BusStatus
  /** Stops listening, within a bounded time, whatever the other side does. */
  close (): Promise<void>
}
