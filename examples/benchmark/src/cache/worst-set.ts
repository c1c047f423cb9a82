import { hashesOf } from './population.js'
import { contenders, type ContenderName } from './contenders.js'
import { LeastPerPosition, shiftCollections } from './least-worst.js'

/** How long sets take, in milliseconds, and the most entries that were ever held. */
export interface WorstSet {
  readonly worstMs: number
  readonly medianMs: number
  /** The slowest of the sets that follow when everything was marked as hit, where a store keeps marks. */
  readonly allHitMs: number
  readonly clearMs: number
  /** The slowest of the sets that follow a clear, while a store may still be taking the old entries apart. */
  readonly afterClearMs: number
  /** 0 where it is not counted. */
  readonly mostEntries: number
}

/** Evictions at the large size: more than it takes for every Map to have met its deleted entries. */
const mostEvictions = 300_000

/** Fills a store, goes on evicting, and clears it. */
export function worstSet (name: ContenderName, maxEntries: number, runs: number): WorstSet {
  const keys = hashesOf(maxEntries + Math.min(mostEvictions, Math.ceil(maxEntries * 1.25)))
  const afterClear = Math.ceil(maxEntries / 32)
  const sets = new LeastPerPosition(keys.length)
  const marked = new LeastPerPosition(afterClear)
  const cleared = new LeastPerPosition(1)
  const later = new LeastPerPosition(afterClear)
  let mostEntries = 0
  for (let run = 0; run < runs; run++) {
    shiftCollections(run)
    const store = contenders[name](maxEntries)
    const time = (least: LeastPerPosition, position: number, key: number): void => {
      const keyHash = keys[key]!
      const before = performance.now()
      store.set(keyHash)
      least.add(position, performance.now() - before)
      const size = store.size ?? 0
      if (size > mostEntries) mostEntries = size
    }
    for (let index = 0; index < keys.length; index++) time(sets, index, index)
    store.markAll()
    for (let index = 0; index < afterClear; index++) time(marked, index, index)
    const before = performance.now()
    store.clear()
    cleared.add(0, performance.now() - before)
    for (let index = 0; index < afterClear; index++) time(later, index, index)
  }
  return { worstMs: sets.worstMs, medianMs: sets.medianMs, allHitMs: marked.worstMs, clearMs: cleared.worstMs, afterClearMs: later.worstMs, mostEntries }
}
