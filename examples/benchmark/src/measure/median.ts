/** The middle of some numbers, the lower of two middles. There must be one at least. */
export function median (values: readonly number[]): number {
  return Float64Array.from(values).sort()[(values.length - 1) >>> 1]!
}
