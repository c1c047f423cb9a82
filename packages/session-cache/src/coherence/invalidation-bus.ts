import type { UserChange } from '@orientor/session-contract/core'
import type { Trust } from './trust.js'

/** How a bus is, for a log line, a health check and an administrator. */
export interface BusStatus {
  readonly trusted: boolean
  /** Why it is or is not; holds no secret. */
  readonly reason: string
  /** Instances that listen now, this one included; null when nobody can tell. */
  readonly instances: number | null
}

/**
 * Carries changes between the instances of a service, in the order of their commits, and proves how far it has come.
 * Every adapter passes the conformance suite.
 */
export interface InvalidationBus {
  /** What the start line calls it: "postgres", "memory". */
  readonly name: string
  readonly trust: Trust
  /**
   * Begins to listen. Resolves when it is known whether the bus can be trusted, after a bounded time in any case; not being able to
   * connect is no failure.
   *
   * @param watches - tables whose changes have to be announced
   */
  start (watches: readonly string[]): Promise<void>
  /** Subscribes to changes, which are applied synchronously, before any later proof; returns the function that ends the subscription. */
  subscribe (listener: (change: UserChange) => void): () => void
  /** Announces a change to all instances, this one included. Rejects when it cannot be sent. */
  publish (change: UserChange): Promise<void>
  status (): BusStatus
  /** Stops listening, within a bounded time, whatever the other side does. */
  close (): Promise<void>
}
