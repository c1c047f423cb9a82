import type { Clock } from '@orientor/session-contract/core'

/** Told once: a thing, or why there is none. */
export type Answer<T> = (error: Error | null, thing: T | null) => void

interface Waiter<T> { readonly answer: Answer<T>, readonly sinceMs: number, leave: () => void }

/** Those who wait for a thing, served in order, each with a deadline of its own. */
export class WaitingLine<T> {
  readonly #clock: Clock
  readonly #waiters: Array<Waiter<T>> = []

  constructor (clock: Clock) {
    this.#clock = clock
  }

  get length (): number {
    return this.#waiters.length
  }

  /**
   * Joins the end of the line.
   *
   * @param patienceMs - how long to wait
   * @param signal - ends the wait early; one that was aborted before ends it at once
   * @param explain - makes the error of somebody who gave up, from how long they waited and why they left early (null at the deadline)
   */
  join (patienceMs: number, signal: AbortSignal | undefined, answer: Answer<T>, explain: (waitedMs: number, reason: unknown) => Error): void {
    const giveUp = (): void => {
      const index = this.#waiters.indexOf(waiter)
      if (index < 0) return
      this.#waiters.splice(index, 1)
      waiter.leave()
      answer(explain(this.#clock.monotonic() - waiter.sinceMs, signal?.aborted === true ? signal.reason : null), null)
    }
    const timer = this.#clock.setTimer(giveUp, patienceMs)
    const leave = (): void => {
      timer.cancel()
      signal?.removeEventListener('abort', giveUp)
    }
    const waiter: Waiter<T> = { answer, sinceMs: this.#clock.monotonic(), leave }
    this.#waiters.push(waiter)
    if (signal?.aborted === true) giveUp()
    else signal?.addEventListener('abort', giveUp, { once: true })
  }

  /** Gives a thing to the first in line, of whom there must be one; answers how long they waited, in milliseconds. */
  serve (thing: T): number {
    const { answer, sinceMs, leave } = this.#waiters.shift()!
    const waitedMs = this.#clock.monotonic() - sinceMs
    leave()
    answer(null, thing)
    return waitedMs
  }

  /** Sends away who has been waiting since then or longer; without a time, everybody. */
  refuse (error: Error, sinceMs: number = Infinity): void {
    const refused = this.#waiters.filter(waiter => waiter.sinceMs <= sinceMs)
    for (const waiter of refused) {
      this.#waiters.splice(this.#waiters.indexOf(waiter), 1)
      waiter.leave()
      waiter.answer(error, null)
    }
  }
}
