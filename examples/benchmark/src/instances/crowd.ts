import type { InvalidationBus } from '@orientor/session-cache/core'
import { postgresBus } from '@orientor/session-cache/postgres'
import type { WatchedTable } from '@orientor/session-contract/core'
import type { PostgresServer } from '@orientor/test-kit'
import pg from 'pg'
import { serverCpuMs } from '../measure/server-cpu.js'

/** The cost of a number of instances for the server. */
export interface CrowdCost {
  readonly instances: number
  /** The server's CPU time, in milliseconds per second. */
  readonly cpuMsPerSecond: number
  readonly pollsPerSecond: number
}

/** Options of a crowd. */
export interface CrowdOptions {
  readonly server: PostgresServer
  readonly databaseUrl: string
  readonly watches: readonly WatchedTable[]
  readonly pollIntervalMs: number
  /** The time that each number of instances is measured for, in milliseconds. */
  readonly windowMs: number
}

/**
 * Buses of one process, each with a connection of its own, that come one after another and poll at instants of their
 * own. They are those of the product, and have nothing behind them.
 */
export class Crowd {
  readonly #options: CrowdOptions
  readonly #members: Array<InvalidationBus & { readonly trust: { readonly polls?: number } }> = []
  readonly #pools: pg.Pool[] = []

  constructor (options: CrowdOptions) {
    this.#options = options
  }

  /**
   * Makes them so many, waits until all are trusted, and measures.
   *
   * @throws Error when one of them is not trusted by then
   */
  async measure (count: number): Promise<CrowdCost> {
    const { server, windowMs, pollIntervalMs } = this.#options
    while (this.#members.length < count) {
      await this.#join()
      await pause(pollIntervalMs / count)
    }
    await pause(2 * pollIntervalMs + 1000)
    const untrusted = this.#members.filter(bus => !bus.status().trusted)
    if (untrusted.length > 0) {
      const { reason } = untrusted[0]!.status()
      throw new Error(`${untrusted.length} of ${count} instances are not trusted: ${reason}`)
    }
    const [cpuMs, polls, atMs] = [serverCpuMs(server), this.#polls, performance.now()]
    await pause(windowMs)
    const seconds = (performance.now() - atMs) / 1000
    return {
      instances: count,
      cpuMsPerSecond: (serverCpuMs(server) - cpuMs) / seconds,
      pollsPerSecond: (this.#polls - polls) / seconds
    }
  }

  async close (): Promise<void> {
    await Promise.all(this.#members.splice(0).map(bus => bus.close()))
    await Promise.all(this.#pools.splice(0).map(pool => pool.end()))
  }

  get #polls (): number {
    return this.#members.reduce((sum, { trust }) => sum + (trust.polls ?? 0), 0)
  }

  async #join (): Promise<void> {
    const { databaseUrl, watches, pollIntervalMs } = this.#options
    const pool = new pg.Pool({ connectionString: databaseUrl, max: 1 })
    const bus = postgresBus({ pool, pollIntervalMs })
    this.#pools.push(pool)
    this.#members.push(bus)
    await bus.start({ watches, report: () => {} })
  }
}

function pause (ms: number): Promise<void> {
  return new Promise(resolve => { setTimeout(resolve, ms) })
}
