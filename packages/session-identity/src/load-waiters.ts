import type { Clock } from '@orientor/session-contract/core'

/** Requests that wait for the next load of an issuer's keys: bounded in number, each for a time of its own. */
export class LoadWaiters {
  readonly #clock: Clock
  readonly #maxWaiting: number
  readonly #waiting = new Set<() => void>()

  /** @param maxWaiting - most that wait at a time */
  constructor (clock: Clock, maxWaiting: number) {
    this.#clock = clock
    this.#maxWaiting = maxWaiting
  }

  /**
   * Waits for release(), at most `timeoutMs` milliseconds.
   *
   * @returns whether it was released; false at once when too many wait already
   */
  async wait (timeoutMs: number): Promise<boolean> {
    if (this.#waiting.size >= this.#maxWaiting) return false
    return await new Promise(resolve => {
      const leave = (released: boolean): void => {
        timer.cancel()
        this.#waiting.delete(release)
        resolve(released)
      }
      const release = (): void => { leave(true) }
      const timer = this.#clock.setTimer(() => { leave(false) }, timeoutMs)
      this.#waiting.add(release)
    })
  }

  /** Lets all go that wait now. */
  release (): void {
    for (const release of [...this.#waiting]) release()
  }
}
