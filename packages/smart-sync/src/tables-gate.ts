import { pause, SourceUnavailable, type Clock } from '@orientor/session-contract/core'
import { sentenceOf, type Adoption, type Flaw } from './adoption.js'
import { errors } from './errors.js'
import type { Preparation } from './prepare-tables.js'

/** Options of TablesGate. */
export interface TablesGateOptions {
  /** Puts the tables in place, and judges them. */
  readonly prepare: (signal: AbortSignal) => Promise<Preparation>
  readonly clock: Clock
  readonly random: () => number
  /** Called with the error of each attempt that failed and will be repeated. */
  readonly onFailure: (error: unknown) => void
  /** Called with the state of the tables, when that is news. */
  readonly onPrepared: (preparation: Preparation) => void
}

/** What is taken for true of a table that could not be looked at yet: it is there, and nothing is written into it unseen. */
const unseen: Adoption = Object.freeze({
  isReadable: true,
  refusals: Object.freeze([{ what: 'it could not be looked at yet', remedy: 'This is tried again until the database answers' }]),
  warnings: Object.freeze([])
})

const firstBackoffMs = 250
const longestBackoffMs = 5000
/** The pause between two looks at flaws that an operator has to mend, in milliseconds. */
const lookAgainMs = 60_000

/**
 * Keeps loads out until the tables are in place, and keeps trying to put them there while the database is away. Keeps
 * writes out while the users table does not take them, and looks again every minute until it is mended.
 */
export class TablesGate {
  /** Resolves when the tables are in place; rejects with ORI_SYNC_CLOSED when the gate is closed before. */
  readonly opened: Promise<void>
  readonly #options: TablesGateOptions
  readonly #closing = new AbortController()
  #isOpen = false
  #isSeen = false
  #isJudged = true
  #failure: unknown = null
  #refusal: string | null = null
  #concern: string | null = null
  #told = newsOf([], [], null)
  #work: Promise<void> = Promise.resolve()
  #resolve: () => void = () => {}
  #reject: (error: Error) => void = () => {}

  constructor (options: TablesGateOptions) {
    this.#options = options
    this.opened = new Promise((resolve, reject) => {
      this.#resolve = resolve
      this.#reject = reject
    })
    // A rejection that no caller waits for must not end the process.
    this.opened.catch(() => {})
  }

  /** The fault of tables that are in place, in one sentence; null when none is known. */
  get concern (): string | null {
    return this.#concern
  }

  /** Passes when the tables are in place. @throws SourceUnavailable before */
  pass (): void {
    if (!this.#isOpen) throw new SourceUnavailable('The tables are not in place yet', { cause: this.#failure })
  }

  /** Passes when users can be written. @throws SourceUnavailable while the users table does not take them */
  passWrite (): void {
    this.pass()
    if (this.#refusal !== null) throw new SourceUnavailable(`The users table cannot be written: ${this.#refusal}`)
  }

  /**
   * Starts to put the tables in place. Waits for the first attempt, but no longer than `patienceMs`; while the
   * database is away attempts go on behind it.
   *
   * @throws the error of the first attempt, when it will not pass by itself
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
    let failures = 0
    let error = await first
    while ((error !== undefined || this.#concern !== null || !this.#isJudged) && !signal.aborted) {
      if (error !== undefined) onFailure(error)
      const backoffMs = firstBackoffMs + random() * Math.min(longestBackoffMs, firstBackoffMs * 2 ** failures++)
      await pause(clock, this.#isOpen && this.#isSeen ? lookAgainMs : backoffMs, signal)
      if (signal.aborted) return
      error = await this.#attempt()
    }
  }

  /** Answers with the error; undefined when there was none. */
  async #attempt (): Promise<unknown> {
    try {
      this.#take(await this.#options.prepare(this.#closing.signal))
      return undefined
    } catch (error) {
      this.#failure = error
      return error
    }
  }

  #take (preparation: Preparation): void {
    const { adoption, failure } = preparation
    const { isReadable, refusals, warnings } = adoption ?? unseen
    this.#isOpen = true
    this.#failure = null
    this.#isSeen = adoption !== null
    this.#isJudged = isReadable
    // A table that is not there, or has other columns, fails every statement, until that is over.
    this.#refusal = isReadable && refusals.length > 0 ? sentenceOf(refusals) : null
    this.#concern = this.#refusal !== null
      ? `Users are served as they are stored, and none is written: ${this.#refusal}`
      : failure === null ? null : 'The tables could not be brought up to date'
    this.#resolve()
    const news = newsOf(refusals, warnings, failure)
    if (news !== this.#told) this.#options.onPrepared(preparation)
    this.#told = news
  }
}

/** A text that differs where there is something new to tell. */
function newsOf (refusals: readonly Flaw[], warnings: readonly Flaw[], failure: unknown): string {
  return JSON.stringify([refusals, warnings, failure === null ? null : String(failure)])
}

function passesByItself (error: unknown): boolean {
  return error instanceof SourceUnavailable || error instanceof errors.MigrationLocked
}
