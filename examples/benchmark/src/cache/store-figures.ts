import { bytesPerEntry } from './bytes.js'
import type { ContenderName } from './contenders.js'
import { storeHit, type HitTimes } from './hit.js'
import type { Sizes } from './sizes.js'
import { worstSet, type WorstSet } from './worst-set.js'

/** What is measured of a store by itself. */
export interface StoreFigures {
  readonly bytesPerEntry: number
  readonly hit: HitTimes
  readonly set: { readonly small: WorstSet, readonly large: WorstSet }
}

export async function storeFigures (name: ContenderName, { small, large, runs, users }: Sizes): Promise<StoreFigures> {
  // The pauses of the others at the large size are long enough to be seen in few runs.
  const runsAtLarge = name === 'session-cache' ? runs : Math.min(runs, 3)
  return {
    bytesPerEntry: await bytesPerEntry(name, users),
    hit: storeHit(name, small, large),
    set: { small: worstSet(name, small, runs), large: worstSet(name, large, runsAtLarge) }
  }
}
