import {
  clockObject, durationMs, objectWith, readOptions, systemClock, withDefault, type Clock
} from '@orientor/session-contract/core'
import type { Bell } from './bell.js'
import { ReconnectingBell, type BellConnection, type ConnectionReports } from './reconnecting-bell.js'

const owner = '@orientor/session-cache/testing: memoryBell'
const refused = 'The hub refuses connections'

/**
 * Joins bells of one process, in place of a server, and fails as a test wants it to. Delivers synchronously and in
 * order.
 */
export class BellHub {
  readonly #connections = new Set<ConnectionReports>()
  #mode: 'deliver' | 'silent' | 'refuse' = 'deliver'

  /** From now on nothing arrives, and no bell is told: connections that have gone silent. */
  silence (): void {
    this.#mode = 'silent'
  }

  /** Ends every connection and refuses new ones. */
  refuse (): void {
    this.#mode = 'refuse'
    this.cut()
  }

  /** Ends every connection. */
  cut (): void {
    for (const connection of [...this.#connections]) connection.down(refused)
  }

  /** Undoes silence() and refuse(). What was rung meanwhile is lost. */
  heal (): void {
    this.#mode = 'deliver'
  }

  /** Puts any text on the channel. */
  say (text: string): void {
    if (this.#mode === 'deliver') for (const connection of [...this.#connections]) connection.heard(text)
  }

  /** For the bells: makes a connection. */
  connect (reports: ConnectionReports): BellConnection {
    return new MemoryConnection(this, reports)
  }

  /** For the connections: answers, refuses, or does neither. */
  async answer (): Promise<void> {
    if (this.#mode === 'refuse') throw new Error(refused)
    if (this.#mode === 'silent') await new Promise(() => {})
  }

  /** For the connections: begins to deliver. */
  join (reports: ConnectionReports): void {
    this.#connections.add(reports)
  }

  /** For the connections: delivers no more. */
  leave (reports: ConnectionReports): void {
    this.#connections.delete(reports)
  }
}

class MemoryConnection implements BellConnection {
  readonly #hub: BellHub
  readonly #reports: ConnectionReports
  /** Rejects when the connection is cut. */
  readonly #isCut: Promise<never>
  #reject: (reason: Error) => void = () => {}

  constructor (hub: BellHub, reports: ConnectionReports) {
    this.#hub = hub
    this.#reports = reports
    this.#isCut = new Promise((_resolve, reject) => { this.#reject = reject })
    this.#isCut.catch(() => {})
  }

  async open (): Promise<null> {
    await this.check()
    this.#hub.join(this.#reports)
    return null
  }

  async ring (message: string): Promise<void> {
    await this.check()
    this.#hub.say(message)
  }

  async check (): Promise<void> {
    await Promise.race([this.#hub.answer(), this.#isCut])
  }

  async close (): Promise<void> {
    this.cut()
  }

  cut (): void {
    this.#hub.leave(this.#reports)
    this.#reject(new Error(refused))
  }
}

/** Options of a bell in memory. */
export interface MemoryBellOptions {
  /** The hub that the bells which belong together share. */
  readonly hub: BellHub
  /** The time between two questions to the hub for a sign of life, in milliseconds. Default is 10000. */
  readonly checkIntervalMs?: number
  /** Time. Default is the clock of the process. */
  readonly clock?: Clock
}

/**
 * A bell between the caches of one process, for tests.
 *
 * @throws ORI_CONTRACT_INVALID_OPTION naming the option, the rule and what was received
 */
export function memoryBell (options: MemoryBellOptions): Bell {
  const { hub, ...times } = readOptions<Required<MemoryBellOptions>>(owner, options, {
    hub: objectWith<BellHub>('a BellHub', ['connect', 'say']),
    checkIntervalMs: withDefault(durationMs(), 10_000),
    clock: withDefault(clockObject, systemClock)
  })
  return new ReconnectingBell({
    ...times,
    name: 'memory',
    connect: reports => hub.connect(reports),
    reasonOf: () => refused,
    timeoutMs: 2000,
    random: () => 0
  })
}
