/** Upper bounds of the buckets, in milliseconds; above the last there is one more. */
const boundsMs: readonly number[] = Object.freeze([0.5, 1, 2.5, 5, 10, 25, 50, 75, 100, 250, 500, 1000, 2500, 5000, 10_000])

const overflow = boundsMs.length
const sum = overflow + 1
const longest = overflow + 2

/** How long responses took, in milliseconds. Everything but `count` and `buckets` is null while there are none. */
export interface ResponseTimeSummary {
  readonly count: number
  readonly averageMs: number | null
  /** Estimated within its bucket, as are the other percentiles. */
  readonly p50Ms: number | null
  readonly p95Ms: number | null
  readonly p99Ms: number | null
  readonly maxMs: number | null
  /** `upToMs: null` is the bucket above all bounds. */
  readonly buckets: ReadonlyArray<{ readonly upToMs: number | null, readonly count: number }>
}

/** A histogram with fixed buckets: recording allocates nothing. */
export class ResponseTimes {
  // Counts of the buckets, then sum and maximum: in a typed array numbers are stored in place.
  readonly #cells = new Float64Array(overflow + 3)

  /** Counts one response. What is not a number of at least 0 is not counted. */
  record (elapsedMs: number): void {
    if (!(elapsedMs >= 0)) return
    const cells = this.#cells
    let bucket = 0
    while (bucket < overflow && elapsedMs > boundsMs[bucket]!) bucket++
    cells[bucket]!++
    cells[sum]! += elapsedMs
    if (elapsedMs > cells[longest]!) cells[longest] = elapsedMs
  }

  get count (): number {
    let count = 0
    for (let bucket = 0; bucket <= overflow; bucket++) count += this.#cells[bucket]!
    return count
  }

  /** All times together, in milliseconds. */
  get sumMs (): number {
    return this.#cells[sum]!
  }

  /** The times so far, frozen. */
  summary (): ResponseTimeSummary {
    const { count } = this
    const known = count > 0
    return Object.freeze({
      count,
      averageMs: known ? this.sumMs / count : null,
      p50Ms: known ? this.#percentile(0.5, count) : null,
      p95Ms: known ? this.#percentile(0.95, count) : null,
      p99Ms: known ? this.#percentile(0.99, count) : null,
      maxMs: known ? this.#cells[longest]! : null,
      buckets: Object.freeze(Array.from({ length: overflow + 1 }, (_, bucket) => Object.freeze({ upToMs: boundsMs[bucket] ?? null, count: this.#cells[bucket]! })))
    })
  }

  #percentile (share: number, count: number): number {
    const max = this.#cells[longest]!
    let left = share * count
    let lowerMs = 0
    for (const [bucket, upperMs] of boundsMs.entries()) {
      const here = this.#cells[bucket]!
      if (here >= left) return Math.min(max, lowerMs + (upperMs - lowerMs) * left / here)
      left -= here
      lowerMs = upperMs
    }
    return max
  }
}
