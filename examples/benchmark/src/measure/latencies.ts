/** What the times of many operations come to, in milliseconds. */
export interface LatencySummary {
  readonly averageMs: number
  readonly p50Ms: number
  readonly p99Ms: number
}

/** Summarises times, in milliseconds; percentiles by the nearest rank. There must be one at least. */
export function summarise (times: readonly number[]): LatencySummary {
  const sorted = Float64Array.from(times).sort()
  const percentile = (share: number): number => sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)]!
  return { averageMs: times.reduce((sum, time) => sum + time, 0) / times.length, p50Ms: percentile(0.5), p99Ms: percentile(0.99) }
}
