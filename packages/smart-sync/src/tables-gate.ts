import { pause, SourceUnavailable, type Clock } from '@orientor/session-contract/core'
import { errors } from './errors.js'

/** What the gate needs. */
export interface TablesGateOptions {
  /** Puts the tables in place. */
  readonly migrate: (signal: AbortSignal) => Promise<unknown>
  readonly clock: Clock
  readonly random: () => number
  /** Told of each attempt that failed and will be repeated. */
  readonly onFailure: (error: unknown) => void
}

const firstBackoffMs = 250
const longestBackoffMs = 5000

/** Keeps loads out until the tables are in place, and keeps trying to put them there while the database is away. */
export class TablesGate {
  /** Resolves when the tables are in place; rejects with ORI_SYNC_CLOSED when the gate is closed before. */
  readonly opened: Promise<void>
  readonly #options: TablesGateOptions
  readonly #closing = new AbortController()
  #open = false
  #failure: unknown = null
  #work: Promise<void> = Promise.resolve()
  #resolve: () => void = () => {}
  #reject: (error: Error) => void = () => {}

  constructor (options: TablesGateOptions) {
    this.#options = options
    this.opened = new Promise((resolve, reject) => {
      this.#resolve = resolve
      this.#reject = reject
    })
    this.opened.catch(() => {}) // whoever waits for it hears of it
  }

  /** Passes when the tables are in place. @throws SourceUnavailable before */
  pass (): void {
    if (!this.#open) throw new SourceUnavailable('The tables are not in place yet', { cause: this.#failure })
  }

  /**
   * Starts. Waits for the first attempt, but no longer than `patienceMs`; attempts that fail because the database is away go on behind it.
   *
   * @throws what the first attempt threw, when that will not pass by itself
   */
  async start (patienceMs: number): Promise<void> {
    const first = this.#attempt()
    const waited = new AbortController()
    const error = await Promise.race([first, pause(this.#options.clock, patienceMs, waited.signal)])
    waited.abort()
    if (error !== undefined && !passesByItself(error)) throw error
    this.#work = this.#repeat(first)
  }

  /** Stops trying, and waits for the attempt that is running. */
  async close (): Promise<void> {
    this.#closing.abort()
    this.#reject(new errors.Closed())
    await this.#work
  }

  async #repeat (first: Promise<unknown>): Promise<void> {
    const { clock, random, onFailure } = this.#options
    const { signal } = this.#closing
    for (let attempt = 0, error = await first; error !== undefined && !signal.aborted; attempt++) {
      onFailure(error)
      await pause(clock, firstBackoffMs + random() * Math.min(longestBackoffMs, firstBackoffMs * 2 ** attempt), signal)
      if (!signal.aborted) error = await this.#attempt()
    }
  }

  /** Answers with what went wrong; undefined when nothing did. */
  async #attempt (): Promise<unknown> {
    try {
      await this.#options.migrate(this.#closing.signal)
      this.#open = true
      this.#failure = null
      this.#resolve()
      return undefined
    } catch (error) {
      this.#failure = error
      return error
    }
  }
}

function passesByItself (error: unknown): boolean {
  return error instanceof SourceUnavailable || error instanceof errors.MigrationLocked
}
