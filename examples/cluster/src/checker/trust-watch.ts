/** What an instance said about its bus. */
export interface TrustSample {
  readonly instance: string
  readonly begunAtMs: number
  readonly endedAtMs: number
  readonly trusted: boolean
  readonly epoch: number
}

interface Course {
  readonly epoch: number
  lostAtMs: number | null
  backAtMs: number | null
}

/**
 * Follows how instances lose the trust in their bus after a fault and get it back. Trust was lost when an instance says so, or when it
 * has another epoch than before: between two samples it may have come and gone.
 */
export class TrustWatch {
  readonly #courses: Map<string, Course>
  #healedAtMs = Infinity
  #blamedUntilMs = Infinity

  /** @param epochs - the epoch of each instance before the fault */
  constructor (epochs: ReadonlyMap<string, number>) {
    this.#courses = new Map([...epochs].map(([instance, epoch]) => [instance, { epoch, lostAtMs: null, backAtMs: null }]))
  }

  /**
   * The fault is over.
   *
   * @param blamedUntilMs - a loss that is seen later has other reasons, such as a machine that is busy
   */
  heal (atMs: number, blamedUntilMs: number): void {
    this.#healedAtMs = atMs
    this.#blamedUntilMs = blamedUntilMs
  }

  sample ({ instance, begunAtMs, endedAtMs, trusted, epoch }: TrustSample): void {
    const course = this.#courses.get(instance)
    if (course === undefined) return
    if (course.lostAtMs === null && endedAtMs <= this.#blamedUntilMs && (!trusted || epoch !== course.epoch)) course.lostAtMs = endedAtMs
    if (course.lostAtMs !== null && course.backAtMs === null && trusted && begunAtMs >= this.#healedAtMs) course.backAtMs = endedAtMs
  }

  /** Instances that lost trust. */
  get lost (): readonly string[] {
    return [...this.#courses].filter(([, { lostAtMs }]) => lostAtMs !== null).map(([instance]) => instance)
  }

  /** How long after the end of the fault the last instance that had lost trust had it again, in milliseconds; 0 when none had, Infinity while one has not. */
  get backAfterMs (): number {
    return Math.max(0, ...[...this.#courses.values()].map(({ lostAtMs, backAtMs }) => lostAtMs === null ? 0 : (backAtMs ?? Infinity) - this.#healedAtMs))
  }
}
