interface Held<T> {
  readonly place: number
  readonly item: T
}

/** Holds what is to be overtaken. An item that is set back by less than n + 1 is overtaken by n later ones at most. */
export class ReorderBuffer<T> {
  #arrived = 0
  /** By place. */
  #held: ReadonlyArray<Held<T>> = []

  /** Takes the next item, and returns what no later item can overtake any more, in its new order. */
  take (item: T, setBack: number): readonly T[] {
    const place = this.#arrived++ + setBack
    const later = this.#held.findIndex(other => other.place > place)
    this.#held = this.#held.toSpliced(later === -1 ? this.#held.length : later, 0, { place, item })
    return this.#release(this.#arrived)
  }

  /** Everything that is held, in its new order. */
  flush (): readonly T[] {
    return this.#release(Infinity)
  }

  #release (before: number): readonly T[] {
    const count = this.#held.findIndex(({ place }) => place >= before)
    const released = this.#held.slice(0, count === -1 ? undefined : count)
    this.#held = this.#held.slice(released.length)
    return released.map(({ item }) => item)
  }
}
