import { figure, table } from '../measure/table.js'
import type { Bytes } from './bytes.js'
import type { ContenderName } from './contenders.js'
import type { HitTimes, ProductHitTimes } from './hit.js'
import type { HitRates } from './hit-rate.js'
import type { WorstProductSet } from './worst-product-set.js'
import type { WorstSet } from './worst-set.js'

type ByStore<T> = Readonly<Record<ContenderName, T>>

/** All that the benchmark measures. */
export interface CacheFigures {
  /** Entries of the small and the large store. */
  readonly small: number
  readonly large: number
  readonly hit: { readonly product: ProductHitTimes, readonly stores: ByStore<HitTimes> }
  readonly set: Readonly<Record<'small' | 'large', { readonly product: WorstProductSet, readonly stores: ByStore<WorstSet> }>>
  readonly hitRate: HitRates
  readonly bytes: Bytes
  readonly bytesPerEntry: ByStore<number>
}

/** One line of what must hold. */
export interface Goal { readonly name: string, readonly value: number, readonly most: number, readonly met: boolean }

const ours: ContenderName = 'session-cache'
const lru: ContenderName = 'Map as LRU'

/** What must hold of stores of 10,000 and of 1,000,000 entries. */
export function goalsOf ({ small, large, hit, set, hitRate, bytes }: CacheFigures): Goal[] {
  const goal = (name: string, value: number, most: number): Goal => ({ name, value, most, met: value <= most })
  const slowest = ({ product, stores }: CacheFigures['set']['small']): number => {
    const store = stores[ours]
    return Math.max(product.worstMs, product.idleSliceMs, product.droppingSliceMs, store.worstMs, store.allHitMs, store.clearMs, store.afterClearMs)
  }
  const above = ({ product, stores }: CacheFigures['set']['small'], maxEntries: number): number => Math.max(product.mostEntries, stores[ours].mostEntries) - maxEntries
  return [
    goal(`hit by identity, all users alike, ${figure(large)} to ${figure(small)} entries`, ratio(hit.product.resolve), 4),
    goal(`hit by identity, Zipf 1.0, ${figure(large)} to ${figure(small)} entries`, ratio(hit.product.resolveZipf), 4),
    goal(`hit by key, ${figure(large)} to ${figure(small)} entries`, ratio(hit.product.key), 4),
    goal(`slowest of set, cleanup and clear at ${figure(large)}, ms`, slowest(set.large), 2),
    goal(`slowest of set, cleanup and clear at ${figure(small)}, ms`, slowest(set.small), 0.05),
    goal('bytes of a session and a token', bytes.together, 3072),
    ...Object.entries(hitRate.rates).map(([load, of]) => goal(`hit rate of a true LRU to ours, ${load}`, of[lru] / of[ours], 1)),
    goal('most entries above maxEntries', Math.max(above(set.small, small), above(set.large, large)), 0)
  ]
}

/** The figures as tables, and what must hold. */
export function report (figures: CacheFigures): string {
  const { small, large, hit, set, hitRate, bytes, bytesPerEntry } = figures
  const names = Object.keys(hit.stores) as ContenderName[]
  const micros = (ms: number): string => figure(ms * 1000)
  const sets = ({ product, stores }: CacheFigures['set']['small'], maxEntries: number): string => table([
    [`sets at ${figure(maxEntries)} entries, µs`, 'median', 'worst', 'worst, all hit', 'clear', 'worst after clear'],
    ...names.map(name => [name, ...[stores[name].medianMs, stores[name].worstMs, stores[name].allHitMs, stores[name].clearMs, stores[name].afterClearMs].map(micros)]),
    ['session-cache, whole', micros(product.medianMs), micros(product.worstMs), '–', '–', '–'],
    ['  a slice of cleanup', '–', micros(product.idleSliceMs), '–', '–', '–'],
    ['  that drops all it sees', '–', micros(product.droppingSliceMs), '–', '–', '–']
  ])
  const hits = (name: string, times: HitTimes): string[] => [name, figure(times.smallNs), figure(times.largeNs), figure(ratio(times))]
  const loads = Object.keys(hitRate.rates)
  return [
    table([
      ['a hit, ns', figure(small), figure(large), 'ratio'],
      ...names.map(name => hits(name, hit.stores[name])),
      hits('session-cache, whole, by identity', hit.product.resolve),
      hits('session-cache, whole, by identity, Zipf 1.0', hit.product.resolveZipf),
      hits('session-cache, whole, by key', hit.product.key)
    ]),
    sets(set.small, small),
    sets(set.large, large),
    table([[`hit rate at ${figure(small)} entries, %`, ...loads], ...names.map(name => [name, ...loads.map(load => figure(hitRate.rates[load]![name] * 100))])]),
    table([['bytes per entry, key and value apart', ''], ...names.map(name => [name, figure(bytesPerEntry[name])])]),
    table([['bytes', 'row', 'session', 'token', 'session and token'], ['per user', ...[bytes.row, bytes.session, bytes.token, bytes.together].map(figure)]]),
    goalsOf(figures).map(({ name, value, most, met }) => `${met ? 'met   ' : 'MISSED'}  ${name}: ${figure(value)}, at most ${most}`).join('\n')
  ].join('\n\n')
}

function ratio ({ smallNs, largeNs }: HitTimes): number {
  return largeNs / smallNs
}
