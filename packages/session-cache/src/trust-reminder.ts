import type { Clock, Timer } from '@orientor/session-contract/core'
import type { InvalidationBus } from './coherence/invalidation-bus.js'

/** The time that a bus has to become trusted before that is worth a warning, in milliseconds. */
const graceMs = 5000

/** Warns once, five seconds after its start, of a bus that is not trusted then. */
export class TrustReminder {
  readonly #timer: Timer

  /** @param warn - takes the sentence that says why, and what to do */
  constructor (bus: InvalidationBus, clock: Clock, warn: (message: string) => void) {
    this.#timer = clock.setTimer(() => {
      const { trusted, reason, remedy } = bus.status()
      if (trusted) return
      const why = remedy === undefined ? reason : `${reason}. ${remedy}`
      warn(`session bus: not trusted ${graceMs / 1000} s after the start. ${why}. ` +
        `Until then users are kept for maxStalenessMs (${bus.trust.maxStalenessMs}) only`)
    }, graceMs)
  }

  /** Warns no more. */
  stop (): void {
    this.#timer.cancel()
  }
}
