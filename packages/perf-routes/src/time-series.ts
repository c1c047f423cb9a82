/** The last values of something, oldest first: a ring of fixed size. */
export class TimeSeries<T> {
  readonly #values: T[] = []
  readonly #maxValues: number
  #oldest = 0

  /** @param maxValues - how many values are kept, at least 1 */
  constructor (maxValues: number) {
    this.#maxValues = maxValues
  }

  /** Adds a value; the oldest goes when there are too many. */
  push (value: T): void {
    if (this.#values.length < this.#maxValues) {
      this.#values.push(value)
      return
    }
    this.#values[this.#oldest] = value
    this.#oldest = (this.#oldest + 1) % this.#maxValues
  }

  /** A copy of the values, oldest first. */
  get values (): readonly T[] {
    return [...this.#values.slice(this.#oldest), ...this.#values.slice(0, this.#oldest)]
  }
}
