import { channel, type Channel } from 'node:diagnostics_channel'
import type { SessionKeyHash, UserRecord } from '@orientor/session-contract/core'

/** A load has ended. */
export interface LoadEvent {
  readonly keyHash: SessionKeyHash
  /** What the source says of the user; `unavailable` when it could not be asked, `defect` when it broke its contract or threw. */
  readonly result: UserRecord['kind'] | 'unavailable' | 'defect'
  /** Whether it is in memory now; false when it was overtaken or read elsewhere, or is not kept. */
  readonly stored: boolean
  /** From its beginning, the time in the queue included, in milliseconds. */
  readonly durationMs: number
}

/** Somebody said that users are out of date. */
export interface InvalidateEvent {
  /** Null: all users. */
  readonly keyHash: SessionKeyHash | null
  /** The revision announced; null when it is not known. */
  readonly revision: number | null
  /** Users that left memory for it. */
  readonly dropped: number
}

/** A user left memory to make room. */
export interface EvictEvent { readonly keyHash: SessionKeyHash }

/** A lookup was answered by a user marked stale. */
export interface StaleEvent {
  readonly keyHash: SessionKeyHash
  /** Since the load of that user was sent, in milliseconds. */
  readonly ageMs: number
}

/** The circuit to the source changed: `open` turns everybody away. */
export interface GateEvent { readonly state: 'open' | 'closed' }

interface Published<T> extends Channel {
  publish (event: T): void
}

/**
 * What a cache publishes on `node:diagnostics_channel`. Hits publish nothing, and while nobody listens no event is made.
 * Users appear as hashes of their keys only.
 */
export const channels: {
  readonly load: Published<LoadEvent>
  readonly invalidate: Published<InvalidateEvent>
  readonly evict: Published<EvictEvent>
  readonly stale: Published<StaleEvent>
  readonly gate: Published<GateEvent>
} = Object.freeze({
  load: channel('orientor:session-cache:load'),
  invalidate: channel('orientor:session-cache:invalidate'),
  evict: channel('orientor:session-cache:evict'),
  stale: channel('orientor:session-cache:stale'),
  gate: channel('orientor:session-cache:gate')
})
