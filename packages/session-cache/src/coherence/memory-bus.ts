import { clockObject, objectWith, readOptions, systemClock, withDefault, type Clock, type UserChange } from '@orientor/session-contract/core'
import { errors } from '../errors.js'
import type { BusStart, BusStatus, InvalidationBus } from './invalidation-bus.js'
import { checkLeaseTimes, leaseTimeRules } from './lease-times.js'
import { LeasedTrust, type Line, type LineReports } from './leased-trust.js'
import { TrustListeners } from './trust-listeners.js'

const owner = '@orientor/session-cache: memoryBus'

/** Options of a bus in memory. All times are milliseconds. */
export interface MemoryBusOptions {
  /** What the buses that belong together share. */
  readonly hub: MemoryHub
  /** H: how often a heartbeat is sent. Default is 1000. */
  readonly heartbeatIntervalMs?: number
  /** T: how long a heartbeat may take. Default is 2000. */
  readonly heartbeatTimeoutMs?: number
  /** B: how old an unmarked user may be. Above H + T; the rest is for loads. Default is 5000. */
  readonly maxStalenessMs?: number
  /** Time; the same as the cache's. Default is the clock of the process. */
  readonly clock?: Clock
}

/**
 * Joins buses of one process, in place of a database, and fails as a test wants it to. Delivers synchronously and in order.
 */
export class MemoryHub {
  readonly #lines = new Set<MemoryLine>()
  readonly #held: Array<() => void> = []
  #mode: 'deliver' | 'hold' | 'refuse' = 'deliver'
  #delivering = false

  /** How many buses are connected. */
  get instances (): number {
    return this.#lines.size
  }

  /** From now on nothing arrives, and nobody is told: a line that has gone silent. */
  hold (): void {
    this.#mode = 'hold'
  }

  /** Ends every connection and refuses new ones. */
  refuse (): void {
    this.#mode = 'refuse'
    for (const line of [...this.#lines]) line.reports.down('The hub refuses connections')
  }

  /** Connects again, and delivers what was held for those who are still connected. */
  heal (): void {
    this.#mode = 'deliver'
    this.#deliver()
  }

  /** For the buses: connects a line. */
  connect (line: MemoryLine): void {
    if (this.#mode === 'refuse') {
      line.reports.down('The hub refuses connections')
      return
    }
    this.#lines.add(line)
    this.#send(() => { if (this.#lines.has(line)) line.reports.up() })
  }

  /** For the buses: forgets a line. */
  disconnect (line: MemoryLine): void {
    this.#lines.delete(line)
  }

  /** For the buses: delivers to every line that is connected then. */
  send (receive: (line: MemoryLine) => void): void {
    this.#send(() => { for (const line of [...this.#lines]) receive(line) })
  }

  #send (delivery: () => void): void {
    this.#held.push(delivery)
    this.#deliver()
  }

  #deliver (): void {
    // What is sent by a receiver comes after what is on its way.
    if (this.#delivering) return
    this.#delivering = true
    while (this.#mode === 'deliver' && this.#held.length > 0) this.#held.shift()!()
    this.#delivering = false
  }
}

class MemoryLine implements Line {
  readonly reports: LineReports
  readonly receive: (change: UserChange) => void
  readonly #hub: MemoryHub
  #isCut = false

  constructor (hub: MemoryHub, reports: LineReports, receive: (change: UserChange) => void) {
    this.#hub = hub
    this.reports = reports
    this.receive = receive
  }

  open (): void {
    this.#hub.connect(this)
  }

  beat (n: number): void {
    this.#hub.send(line => {
      if (line !== this) return
      this.reports.taken(n, { signature: 'memory' })
      this.reports.echo(n)
    })
  }

  announce (change: UserChange): void {
    if (this.#isCut) throw new errors.BusUnavailable()
    this.#hub.send(line => { line.receive(change) })
  }

  whenRead (callback: () => void): void {
    callback()
  }

  cut (): void {
    this.#isCut = true
    this.#hub.disconnect(this)
  }
}

/**
 * A bus between the caches of one process, for tests. It carries what is published on it, and knows nothing of a database: what others write there stays
 * unannounced.
 *
 * @throws ORI_CONTRACT_INVALID_OPTION naming the option, the rule and what was received
 */
export function memoryBus (options: MemoryBusOptions): InvalidationBus {
  const settings = readOptions<Required<MemoryBusOptions>>(owner, options, {
    hub: objectWith<MemoryHub>('a MemoryHub', ['connect', 'send', 'disconnect']),
    ...leaseTimeRules,
    clock: withDefault(clockObject, systemClock)
  })
  checkLeaseTimes(owner, settings)
  return new MemoryBus(settings)
}

class MemoryBus implements InvalidationBus {
  readonly name = 'memory'
  readonly hearsWrites = false
  readonly trust: LeasedTrust
  readonly leaseMs: number
  readonly #hub: MemoryHub
  readonly #listeners = new Set<(change: UserChange) => void>()
  readonly #trustListeners = new TrustListeners()
  #line: MemoryLine | null = null

  constructor (options: Required<MemoryBusOptions>) {
    this.#hub = options.hub
    this.leaseMs = options.heartbeatIntervalMs + options.heartbeatTimeoutMs
    this.trust = new LeasedTrust({
      ...options,
      random: () => 0,
      dial: reports => (this.#line = new MemoryLine(this.#hub, reports, change => { for (const listener of this.#listeners) listener(change) })),
      changed: ({ phase }) => {
        if (phase !== 'connecting' && phase !== 'proving') this.#trustListeners.note(this.status(), this.trust.epoch)
      }
    })
  }

  async start (_options?: BusStart): Promise<void> {
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
    if (this.#line === null) throw new errors.BusUnavailable()
    this.#line.announce(change)
  }

  status (): BusStatus {
    const { phase, reason } = this.trust.state
    const trusted = phase === 'trusted'
    return { trusted, reason, instances: trusted ? this.#hub.instances : null }
  }

  async close (): Promise<void> {
    this.trust.close()
    this.#line = null
  }
}
