/** A timer that can be called off. */
export interface Timer {
  /** Calls the timer off; does nothing when it has fired or was cancelled before. */
  cancel (): void
}

/**
 * Time as the cores see it: the wall clock, a monotonic clock and timers, all injected, so that tests own every instant.
 * All numbers are milliseconds.
 */
export interface Clock {
  /** Wall clock, milliseconds since the Unix epoch. May jump either way. Used for what other machines wrote (`exp`, `updated_at`). */
  now (): number
  /** Monotonic clock, milliseconds since an arbitrary start. Never goes back. Used for ages and deadlines. */
  monotonic (): number
  /**
   * Calls `callback` once, `delayMs` from now (0 to 2147483647). The timer does not keep the process alive.
   */
  setTimer (callback: () => void, delayMs: number): Timer
}

/** The clock of this process: `Date.now()`, `performance.now()` and unreferenced `setTimeout`. */
export const systemClock: Clock = Object.freeze({
  now: () => Date.now(),
  monotonic: () => performance.now(),
  setTimer (callback: () => void, delayMs: number): Timer {
    const timeout = setTimeout(callback, delayMs)
    timeout.unref()
    return { cancel: () => { clearTimeout(timeout) } }
  }
})
