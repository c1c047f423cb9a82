/** Time as the simulator sees it, in milliseconds. A manual clock with the same two methods can stand in. */
export interface SimulatorClock {
  /** Wall clock since the Unix epoch: every `*_at`, `iat` and signature timestamp. */
  now (): number
  /** Monotonic clock: the windows of the rate limit. */
  monotonic (): number
}

/** The clock of this process. */
export const processClock: SimulatorClock = Object.freeze({
  now: () => Date.now(),
  monotonic: () => performance.now()
})
