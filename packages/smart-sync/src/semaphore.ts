import { SourceUnavailable, type Deadline } from '@orientor/session-contract/core'

/**
 * A counting semaphore: so many pieces of work at once, the others in the order in which they came, each until its
 * deadline.
 */
export class Semaphore {
  readonly #max: number
  readonly #what: string
  readonly #waiting = new Set<() => void>()
  #running = 0

  /**
   * @param max - the most pieces of work at once
   * @param what - begins the message of an error, such as "The users table"
   */
  constructor (max: number, what: string) {
    this.#max = max
    this.#what = what
  }

  /**
   * Runs the work as soon as there is room.
   *
   * @throws SourceUnavailable when there was none by the deadline; else what the work throws
   */
  async run<T> (work: () => Promise<T>, deadline: Deadline): Promise<T> {
    if (this.#running >= this.#max) await this.#turn(deadline)
    else this.#running++
    try {
      return await work()
    } finally {
      const [next] = this.#waiting
      if (next === undefined) this.#running--
      else next()
    }
  }

  /** Resolves when the room of another that has ended is handed over. */
  async #turn ({ signal }: Deadline): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      const leave = (): void => {
        this.#waiting.delete(begin)
        signal.removeEventListener('abort', giveUp)
      }
      const begin = (): void => { leave(); resolve() }
      const giveUp = (): void => {
        leave()
        reject(new SourceUnavailable(`${this.#what} had no room in time`, { cause: signal.reason }))
      }
      if (signal.aborted) giveUp()
      else {
        this.#waiting.add(begin)
        signal.addEventListener('abort', giveUp, { once: true })
      }
    })
  }
}
