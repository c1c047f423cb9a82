const tickMs = 20
// What any machine does.
const usualMs = 10

/** How late the timers of this process are: time for which the machine was busy with something else, and gave none to the others either. */
export class Lateness {
  readonly #timer: NodeJS.Timeout
  #dueMs = performance.now() + tickMs
  #totalMs = 0

  constructor () {
    this.#timer = setInterval(() => {
      const nowMs = performance.now()
      const lateMs = nowMs - this.#dueMs
      if (lateMs > usualMs) this.#totalMs += lateMs
      this.#dueMs = nowMs + tickMs
    }, tickMs)
  }

  /** Since the last reset, in milliseconds. */
  get totalMs (): number {
    return this.#totalMs
  }

  reset (): void {
    this.#totalMs = 0
  }

  stop (): void {
    clearInterval(this.#timer)
  }
}
