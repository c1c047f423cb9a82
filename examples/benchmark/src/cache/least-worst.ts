import { seeded } from '../measure/random.js'

/**
 * Times that are measured again and again at the same positions. What comes now and then (garbage collection, other processes) is
 * taken out by the least of each position over all runs; what the code does at this position remains.
 */
export class LeastPerPosition {
  readonly #least: Float64Array

  constructor (positions: number) {
    this.#least = new Float64Array(positions).fill(Infinity)
  }

  /** @param elapsedMs - of this run */
  add (position: number, elapsedMs: number): void {
    if (elapsedMs < this.#least[position]!) this.#least[position] = elapsedMs
  }

  /** The most of the leasts, in milliseconds, over the positions that were measured. */
  get worstMs (): number {
    return this.#least.reduce((worst, least) => least === Infinity ? worst : Math.max(worst, least), 0)
  }

  get medianMs (): number {
    const measured = this.#least.filter(least => least !== Infinity).sort()
    return measured[measured.length >>> 1] ?? 0
  }
}

/** Allocates up to 16 MB, so that garbage collections fall at other positions than in the run before. */
export function shiftCollections (run: number): number {
  const arrays = Math.floor(seeded(run)() * 16_384)
  let length = 0
  for (let index = 0; index < arrays; index++) length += new Array<number>(128).fill(index).length
  return length
}
