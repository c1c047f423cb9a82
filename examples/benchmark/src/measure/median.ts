/** The middle of some numbers, or halfway between the two middles. There must be one at least. */
export function median (values: readonly number[]): number {
  const sorted = Float64Array.from(values).sort()
  return (sorted[(sorted.length - 1) >>> 1]! + sorted[sorted.length >>> 1]!) / 2
}
