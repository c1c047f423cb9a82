/** The fault by which the list of users changes between one page and the next, and the count disagrees with it. */
export interface InconsistentFault {
  readonly kind: 'inconsistent'
}

/**
 * Rows that move while they are paged through, as a reader sees them: each page but the first begins one row too early
 * or one too late.
 */
export class MovingRows {
  readonly #random: () => number

  /** @param random - from 0 up to 1 */
  constructor (random: () => number) {
    this.#random = random
  }

  /** By how many rows a page is off: -1, its first row was on the page before, too; 1, one row is on neither. */
  shift (): -1 | 1 {
    return this.#random() < 0.5 ? -1 : 1
  }

  /** A count that is not the true one: one more or, where there is one to take away, one less. */
  count (total: number): number {
    return total === 0 ? 1 : total + this.shift()
  }
}
