import { tooManyRequests } from './clerk-error.js'
import type { SimulatorClock } from './simulator-clock.js'

/** How many requests the Backend API takes from the instance. */
export interface RateLimitOptions {
  /** Requests per window. Default is 1000, as of a production instance. */
  readonly maxRequests?: number
  /** Length of a window, in milliseconds. Default is 10000. */
  readonly windowMs?: number
}

/** A fixed window for the whole instance: once it is full, everything is refused until it ends. */
export class RateLimit {
  readonly #clock: SimulatorClock
  readonly #maxRequests: number
  readonly #windowMs: number
  #windowStart = Number.NEGATIVE_INFINITY
  #taken = 0

  constructor (clock: SimulatorClock, { maxRequests = 1000, windowMs = 10_000 }: RateLimitOptions = {}) {
    this.#clock = clock
    this.#maxRequests = maxRequests
    this.#windowMs = windowMs
  }

  /** @throws ClerkError 429 with the seconds until the window ends */
  take (): void {
    const now = this.#clock.monotonic()
    if (now - this.#windowStart >= this.#windowMs) {
      this.#windowStart = now
      this.#taken = 0
    }
    if (this.#taken >= this.#maxRequests) throw tooManyRequests(Math.ceil((this.#windowStart + this.#windowMs - now) / 1000))
    this.#taken++
  }
}
