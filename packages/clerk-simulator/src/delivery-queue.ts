/** The requests to one endpoint: begun in order, and never more at a time than the limit of the moment. */
export class DeliveryQueue {
  readonly #limit: () => number
  readonly #waiting: Array<() => Promise<void>> = []
  #running = 0

  constructor (limit: () => number) {
    this.#limit = limit
  }

  /** Runs the job when its turn has come. The job must not reject. */
  async run<T> (job: () => Promise<T>): Promise<T> {
    return await new Promise<T>(resolve => {
      this.#waiting.push(async () => { resolve(await job()) })
      this.#next()
    })
  }

  #next (): void {
    while (this.#running < this.#limit()) {
      const job = this.#waiting.shift()
      if (job === undefined) return
      this.#running++
      job().finally(() => {
        this.#running--
        this.#next()
      })
    }
  }
}
