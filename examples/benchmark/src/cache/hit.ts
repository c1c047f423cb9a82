import { defaultRouteSession, type SessionKeyHash } from '@orientor/session-contract/core'
import { median } from '../measure/median.js'
import { seeded } from '../measure/random.js'
import { zipf } from '../measure/zipf.js'
import { contenders, type ContenderName } from './contenders.js'
import { hashesOf, identityOf } from './population.js'
import { Product } from './product.js'

/** A hit, in nanoseconds, in a small and in a large store that are full; medians over rounds that alternate between them. */
export interface HitTimes { readonly smallNs: number, readonly largeNs: number }

export interface ProductHitTimes {
  /** By an identity that was resolved before, as a request with a remembered token has it: look-up, freshness, counting. */
  readonly resolve: HitTimes
  /** The same where some users come far more often than others: Zipf 1.0. */
  readonly resolveZipf: HitTimes
  /** By key, hashing included. */
  readonly key: HitTimes
}

const mostHitsPerRound = 200_000
const rounds = 15

export function storeHit (name: ContenderName, small: number, large: number): HitTimes {
  const keys = hashesOf(large)
  return alternate(small, large, maxEntries => {
    const store = contenders[name](maxEntries)
    // quick-lru at half the size holds all of its newest generation only.
    const held: SessionKeyHash[] = keys.slice(0, name === 'quick-lru' ? Math.floor(maxEntries / 2) : maxEntries)
    for (const key of held) store.set(key)
    return { count: held.length, hit: index => store.get(held[index]!) }
  })
}

export async function productHit (small: number, large: number): Promise<ProductHitTimes> {
  const stores = new Map<number, { manager: Product['manager'], identities: ReadonlyArray<ReturnType<typeof identityOf>> }>()
  for (const maxEntries of [small, large]) {
    const product = new Product(maxEntries)
    const identities = Array.from({ length: maxEntries }, (_, user) => identityOf(user))
    await product.signIn(maxEntries, index => identities[index]!)
    stores.set(maxEntries, { manager: product.manager, identities })
  }
  const by = (hit: (manager: Product['manager'], identity: ReturnType<typeof identityOf>) => boolean, draw?: Draw): HitTimes => alternate(small, large, maxEntries => {
    const { manager, identities } = stores.get(maxEntries)!
    return { count: maxEntries, hit: index => hit(manager, identities[index]!) }
  }, draw)
  const resolve = (manager: Product['manager'], identity: ReturnType<typeof identityOf>): boolean => !(manager.resolve(identity, defaultRouteSession) instanceof Promise)
  return {
    resolve: by(resolve),
    resolveZipf: by(resolve, scatteredZipf),
    key: by((manager, identity) => manager.cache.get(identity.key) !== null)
  }
}

interface Filled { readonly count: number, readonly hit: (index: number) => boolean }

type Draw = (count: number) => () => number

function evenly (count: number): () => number {
  const random = seeded(1)
  return () => Math.floor(random() * count)
}

/** The users who come most often lie anywhere in memory, not side by side. */
function scatteredZipf (count: number): () => number {
  const rank = zipf(count, 1, seeded(1))
  return () => rank() * 7919 % count
}

function alternate (small: number, large: number, fill: (maxEntries: number) => Filled, draw: Draw = evenly): HitTimes {
  const hitsPerRound = Math.min(mostHitsPerRound, large * 5)
  const sides = [small, large].map(maxEntries => {
    const { count, hit } = fill(maxEntries)
    return { hit, times: [] as number[], order: Uint32Array.from({ length: hitsPerRound }, draw(count)) }
  })
  // The first rounds are for the compiler.
  for (let round = -3; round < rounds; round++) {
    for (const { hit, times, order } of round % 2 === 0 ? sides : sides.toReversed()) {
      let missed = 0
      const before = performance.now()
      for (let index = 0; index < hitsPerRound; index++) if (!hit(order[index]!)) missed++
      const elapsedMs = performance.now() - before
      if (missed > 0) throw new Error(`${missed} of ${hitsPerRound} look-ups missed in a store that holds all`)
      if (round >= 0) times.push(elapsedMs * 1e6 / hitsPerRound)
    }
  }
  const [smallNs, largeNs] = sides.map(({ times }) => median(times)) as [number, number]
  return { smallNs, largeNs }
}
