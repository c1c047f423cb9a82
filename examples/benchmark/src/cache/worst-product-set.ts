import { Cleanup } from '@orientor/session-cache/core'
import { LeastPerPosition, shiftCollections } from './least-worst.js'
import { identityOf } from './population.js'
import { Product } from './product.js'

/** How long the product takes to store a user and to clean up, in milliseconds. */
export interface WorstProductSet {
  readonly worstMs: number
  readonly medianMs: number
  /** The slowest slice of a cleanup that drops nothing, and of one that drops everything. */
  readonly idleSliceMs: number
  readonly droppingSliceMs: number
  readonly mostEntries: number
}

/** Fills a cache, lets a quarter be evicted, and cleans up twice: with nothing to drop, and with everything. */
export async function worstProductSet (maxEntries: number, runs: number): Promise<WorstProductSet> {
  const users = Math.ceil(maxEntries * 1.25)
  const sets = new LeastPerPosition(users)
  const idle = new LeastPerPosition(maxEntries)
  const dropping = new LeastPerPosition(maxEntries)
  let mostEntries = 0
  for (let run = 0; run < runs; run++) {
    shiftCollections(run)
    const product = new Product(maxEntries)
    const { cache } = product.manager
    await product.signIn(users, identityOf, (index, elapsedMs) => { sets.add(index, elapsedMs) })
    mostEntries = Math.max(mostEntries, cache.stats().entries)
    cleanUp(product, idle)
    if (cache.stats().entries !== maxEntries) throw new Error('The cleanup dropped users who are not too old')
    product.clock.advance(2_000_000)
    cleanUp(product, dropping)
    if (cache.stats().entries !== 0) throw new Error('The cleanup left users who are too old')
  }
  return { worstMs: sets.worstMs, medianMs: sets.medianMs, idleSliceMs: idle.worstMs, droppingSliceMs: dropping.worstMs, mostEntries }
}

/** One pass, slice by slice. */
function cleanUp ({ manager, clock }: Product, slices: LeastPerPosition): void {
  const next = { slice: (): void => {}, delayMs: 0 }
  const timers = { setTimer (slice: () => void, delayMs: number) { Object.assign(next, { slice, delayMs }); return { cancel () {} } } }
  const cleanup = new Cleanup(limit => manager.cache.sweep(limit), { now: clock.now, monotonic: clock.monotonic, ...timers }, 1000)
  for (let position = 0; position === 0 || next.delayMs === 0; position++) {
    const before = performance.now()
    next.slice()
    slices.add(position, performance.now() - before)
  }
  cleanup.stop()
}
