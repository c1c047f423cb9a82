import type { LoadRequest, SessionKeyHash, UserRecord } from '@orientor/session-contract/core'
import { ageOf, type Loaded } from './freshness.js'
import type { SessionEntry } from './session-entry.js'

/** What a load brought home. */
export interface Landing extends Loaded {
  readonly record: UserRecord
  /** The entry that was stored; null when the load was overtaken or read elsewhere, or what it brought is not kept. */
  readonly entry: SessionEntry | null
  /** The newest provider timestamp that the load took notice of; -Infinity when there was none. */
  readonly hintMs: number
  /** False: a preload, which does not create users; "unknown" is then no last word. */
  readonly byIdentity: boolean
  /** Whether the provider was asked whatever the timestamps said. */
  readonly forced: boolean
}

/** What a waiter demands of the load that answers it. */
export interface Demand {
  /** When the waiter came, on both clocks. */
  readonly monotonicMs: number
  readonly wallMs: number
  /** The load must have been younger than this at that instant, in milliseconds. */
  readonly maxAgeMs: number
  readonly hintMs: number
  readonly byIdentity: boolean
  readonly forced: boolean
}

/**
 * One load on its way. It counts from its departure, the instant before the source is asked: what is announced from then on raises its
 * floor, and its record is stored only if the revision is not below the floor, nothing was flushed and no epoch of the bus ended meanwhile.
 * What was announced before the departure will be read, and does not matter to it.
 */
export class Flight implements Loaded {
  readonly keyHash: SessionKeyHash
  readonly request: LoadRequest
  readonly landing: Promise<Landing>
  #generation: number | null = null
  #epoch = 0
  #floor = -Infinity
  #loadedAtMs = NaN
  #loadedWallMs = NaN

  /** @param fly - makes the journey; called at once, and not before the flight can be told of its departure */
  constructor (keyHash: SessionKeyHash, request: LoadRequest, fly: (flight: Flight) => Promise<Landing>) {
    this.keyHash = keyHash
    this.request = request
    this.landing = fly(this)
    // A flight whose waiters all lost patience, or that nobody waits for, may fail without anybody being told.
    this.landing.catch(() => {})
  }

  get departed (): boolean {
    return this.#generation !== null
  }

  get floor (): number {
    return this.#floor
  }

  /** The epoch of the bus at its departure; 0 without a bus. */
  get epoch (): number {
    return this.#epoch
  }

  get loadedAtMs (): number {
    return this.#loadedAtMs
  }

  get loadedWallMs (): number {
    return this.#loadedWallMs
  }

  get hintMs (): number {
    return this.request.identity?.providerUpdatedAt ?? -Infinity
  }

  /** The source is asked now. */
  depart (generation: number, epoch: number, monotonicMs: number, wallMs: number): void {
    this.#generation = generation
    this.#epoch = epoch
    this.#loadedAtMs = monotonicMs
    this.#loadedWallMs = wallMs
  }

  /** Raises the floor to the revision announced, or to infinity (null) when it is not known. */
  announce (revision: number | null): void {
    if (this.departed) this.#floor = Math.max(this.#floor, revision ?? Infinity)
  }

  /** Whether it was overtaken whatever it brings: nobody who comes now may share it. */
  isOutrun (generation: number, epoch: number): boolean {
    return this.departed && (this.#floor === Infinity || this.#generation !== generation || this.#epoch !== epoch)
  }

  /** Whether what was loaded may be stored. */
  mayStore (record: UserRecord, generation: number, epoch: number): boolean {
    return !this.isOutrun(generation, epoch) && record.revision >= this.#floor
  }
}

/** How a flight was when a waiter joined it. */
export interface Boarding {
  /** What the flight had been told by then, the waiter must be shown. */
  readonly floor: number
  /** False: it reads after the waiter came, so it cannot be too old for it, whatever the clocks say. */
  readonly departed: boolean
}

/** Whether a landing answers a waiter; else the waiter needs another load. */
export function answers (landing: Landing, demand: Demand, boarding: Boarding): boolean {
  if (landing.record.revision < boarding.floor) return false
  if (boarding.departed && ageOf(landing, demand.monotonicMs, demand.wallMs) >= demand.maxAgeMs) return false
  if (demand.byIdentity && !landing.byIdentity && landing.record.kind === 'unknown') return false
  if (demand.forced && !landing.forced) return false
  return landing.hintMs >= demand.hintMs
}
