import { databaseFailureOf, type Clock } from '@orientor/session-contract/core'

/** How often, and with what pauses, a statement is sent again. */
export interface RetryOptions {
  /** Sendings in all, the first included. */
  readonly tries: number
  readonly firstPauseMs: number
  readonly mostPauseMs: number
}

const budget = { most: 200, perSuccess: 0.1 }

/**
 * Decides whether a failed statement is sent again: connection-class failures only, never what the server judged. A statement that was not
 * sent always may be, and so may one whose plan is outdated; one that was cut in flight only when its author calls it idempotent. Pauses have full jitter. A budget (200 to begin with,
 * one more for every ten successes) keeps an outage from being multiplied.
 */
export class Retry {
  readonly #options: RetryOptions
  readonly #clock: Clock
  readonly #random: () => number
  #budget: number = budget.most
  #retries = 0

  constructor (options: RetryOptions, clock: Clock, random: () => number) {
    this.#options = options
    this.#clock = clock
    this.#random = random
  }

  get retries (): number {
    return this.#retries
  }

  succeeded (): void {
    if (this.#budget < budget.most) this.#budget += budget.perSuccess
  }

  /** Whether a statement whose plan is outdated is sent again, prepared anew: nothing ran, and there is nothing to wait for. */
  prepareAgain (tries: number): boolean {
    if (tries >= this.#options.tries) return false
    this.#retries++
    return true
  }

  /**
   * The pause before the next sending in milliseconds, or null when there is to be none.
   *
   * @param tries - sendings so far
   * @param idempotent - whether a second execution does no harm
   * @param untilMs - on the monotonic clock; no pause goes beyond it
   */
  pauseMs (error: unknown, tries: number, idempotent: boolean, untilMs: number): number | null {
    const failure = databaseFailureOf(error)
    const safe = failure === 'unsent' || (idempotent && (failure === 'severed' || failure === 'demoted'))
    if (!safe || (error as { retryable?: unknown }).retryable === false || tries >= this.#options.tries || this.#budget < 1) return null
    const pause = this.#random() * Math.min(this.#options.mostPauseMs, this.#options.firstPauseMs * 2 ** (tries - 1))
    if (this.#clock.monotonic() + pause >= untilMs) return null
    this.#budget--
    this.#retries++
    return pause
  }
}
