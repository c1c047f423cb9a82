import type { Clock, Timer } from '@orientor/session-contract/core'

/** How many entries are looked at in one go: some ten microseconds, twice that when all of them are dropped. */
const sliceEntries = 32

/** Sweeps at an interval, in slices with the event loop in between, so that no request waits for a whole pass. */
export class Cleanup {
  readonly #sweep: (limit: number) => boolean
  readonly #clock: Clock
  readonly #intervalMs: number
  #timer: Timer

  /** @param sweep - looks at up to `limit` entries and tells whether the pass is complete */
  constructor (sweep: (limit: number) => boolean, clock: Clock, intervalMs: number) {
    this.#sweep = sweep
    this.#clock = clock
    this.#intervalMs = intervalMs
    this.#timer = this.#after(intervalMs)
  }

  stop (): void {
    this.#timer.cancel()
  }

  #after (delayMs: number): Timer {
    return this.#clock.setTimer(() => {
      this.#timer = this.#after(this.#sweep(sliceEntries) ? this.#intervalMs : 0)
    }, delayMs)
  }
}
