/**
 * Draws ranks from 0 to `count - 1`, rank r with a weight of `1 / (r + 1) ** exponent`.
 *
 * @param random - numbers from 0 to below 1
 */
export function zipf (count: number, exponent: number, random: () => number): () => number {
  const cumulated = new Float64Array(count)
  let total = 0
  for (let rank = 0; rank < count; rank++) cumulated[rank] = total += 1 / (rank + 1) ** exponent
  return () => {
    const drawn = random() * total
    let low = 0
    let high = count - 1
    while (low < high) {
      const middle = (low + high) >>> 1
      if (cumulated[middle]! > drawn) high = middle
      else low = middle + 1
    }
    return low
  }
}
