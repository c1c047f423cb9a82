import {
  clockObject, objectWith, readOptions, systemClock, withDefault, type Clock, type UserChange
} from '@orientor/session-contract/core'
import { errors } from '../errors.js'
import type { BusStatus, InvalidationBus } from './invalidation-bus.js'
import { checkPollTimes, pollTimeRules } from './poll-times.js'
import { PolledTrust, PollFailure, type PollAnswer } from './polled-trust.js'
import { TrustListeners } from './trust-listeners.js'

const owner = '@orientor/session-cache: memoryBus'

/** Options of a bus in memory. All times are milliseconds. */
export interface MemoryBusOptions {
  /** The hub that the buses which belong together share. */
  readonly hub: MemoryHub
  /** The time between two polls. At least 20. Default is 200. */
  readonly pollIntervalMs?: number
  /** The time that a poll may take. Default is 2000. */
  readonly pollTimeoutMs?: number
  /**
   * B: the age that an unmarked user may have. Above pollIntervalMs + pollTimeoutMs; the rest is for loads. Default is
   * 5000.
   */
  readonly maxStalenessMs?: number
  /** Time; the same as the cache's. Default is the clock of the process. */
  readonly clock?: Clock
}

/**
 * The list of changes between the buses of one process, in place of a database. It makes every bus poll at once when a
 * change is added, and fails as a test wants it to.
 */
export class MemoryHub {
  readonly #changes: UserChange[] = []
  readonly #rings = new Set<() => void>()
  readonly #held: Array<() => void> = []
  #mode: 'answer' | 'hold' | 'refuse' = 'answer'
  #failovers = 0

  /** The number of buses that poll. */
  get instances (): number {
    return this.#rings.size
  }

  /** From now on no poll is answered: a database that has gone silent. */
  hold (): void {
    this.#mode = 'hold'
  }

  /** From now on each poll is refused. */
  refuse (): void {
    this.#mode = 'refuse'
  }

  /** Answers again, also what was asked meanwhile. */
  heal (): void {
    this.#mode = 'answer'
    for (const answer of this.#held.splice(0)) answer()
  }

  /** Loses the changes so far, as a failover may: an epoch begins with the next polls. */
  failOver (): void {
    this.#changes.length = 0
    this.#failovers++
  }

  /** For the buses: joins; returns the function that leaves. */
  join (ring: () => void): () => void {
    this.#rings.add(ring)
    return () => { this.#rings.delete(ring) }
  }

  /** For the buses: adds a change, and rings. */
  async add (change: UserChange): Promise<void> {
    if (this.#mode === 'refuse') throw new errors.BusUnavailable()
    this.#changes.push(change)
    for (const ring of [...this.#rings]) ring()
  }

  /** For the buses: what was added after a position. */
  async ask (position: string | null): Promise<PollAnswer> {
    if (this.#mode === 'refuse') throw new PollFailure('The hub refuses polls')
    if (this.#mode === 'hold') await new Promise<void>(resolve => { this.#held.push(resolve) })
    return {
      position: String(this.#changes.length),
      changes: position === null ? [] : this.#changes.slice(Number(position)),
      gap: null,
      finding: { signature: `memory ${this.#failovers}` },
      marks: null
    }
  }
}

/**
 * A bus between the caches of one process, for tests. It carries what is published on it, and knows nothing of a
 * database: what others write there stays unannounced.
 *
 * @throws ORI_CONTRACT_INVALID_OPTION naming the option, the rule and what was received
 */
export function memoryBus (options: MemoryBusOptions): InvalidationBus {
  const settings = readOptions<Required<MemoryBusOptions>>(owner, options, {
    hub: objectWith<MemoryHub>('a MemoryHub', ['join', 'add', 'ask']),
    ...pollTimeRules,
    clock: withDefault(clockObject, systemClock)
  })
  checkPollTimes(owner, settings)
  return new MemoryBus(settings)
}

class MemoryBus implements InvalidationBus {
  readonly name = 'memory'
  readonly hearsWrites = false
  readonly trust: PolledTrust
  readonly leaseMs: number
  readonly #hub: MemoryHub
  readonly #listeners = new Set<(change: UserChange) => void>()
  readonly #trustListeners = new TrustListeners()
  #leave: (() => void) | null = null

  constructor (options: Required<MemoryBusOptions>) {
    this.#hub = options.hub
    this.leaseMs = options.pollIntervalMs + options.pollTimeoutMs
    this.trust = new PolledTrust({
      ...options,
      ask: position => this.#hub.ask(position),
      apply: change => { for (const listener of this.#listeners) listener(change) },
      changed: () => { this.#trustListeners.note(this.status(), this.trust.epoch) }
    })
  }

  async start (): Promise<void> {
    this.#leave ??= this.#hub.join(() => { this.trust.hurry() })
    this.trust.start()
  }

  subscribe (listener: (change: UserChange) => void): () => void {
    this.#listeners.add(listener)
    return () => { this.#listeners.delete(listener) }
  }

  onTrust (listener: (status: BusStatus) => void): () => void {
    return this.#trustListeners.add(listener)
  }

  async publish (change: UserChange): Promise<void> {
    if (this.#leave === null) throw new errors.BusUnavailable()
    await this.#hub.add(change)
  }

  status (): BusStatus {
    const { phase, reason } = this.trust.state
    const trusted = phase === 'trusted'
    return { trusted, reason, instances: trusted ? this.#hub.instances : null }
  }

  async close (): Promise<void> {
    this.trust.close()
    this.#leave?.()
    this.#leave = null
  }
}
