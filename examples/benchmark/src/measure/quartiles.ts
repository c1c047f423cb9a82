import { median } from './median.js'

/** The middle of some numbers, and that of the half below and above it. */
export interface Quartiles { readonly low: number, readonly median: number, readonly high: number }

/** The quartiles of some numbers. There must be one at least. */
export function quartiles (values: readonly number[]): Quartiles {
  const sorted = [...values].sort((a, b) => a - b)
  const half = (sorted.length + 1) >>> 1
  return { low: median(sorted.slice(0, half)), median: median(sorted), high: median(sorted.slice(-half)) }
}
