import { figure, table } from '../measure/table.js'
import type { Bytes } from './bytes.js'
import type { ContenderName } from './contenders.js'
import type { HitTimes } from './hit.js'
import type { HitRates } from './hit-rate.js'
import type { ProductFigures } from './product-figures.js'
import type { StoreFigures } from './store-figures.js'

/** All that the benchmark measures. */
export interface CacheFigures {
  readonly small: number
  readonly large: number
  readonly product: ProductFigures
  readonly stores: Readonly<Record<ContenderName, StoreFigures>>
  readonly hitRate: HitRates
  readonly bytes: Bytes
}

/** One line of what must hold: `value` is at most `most`. */
export interface Goal { readonly name: string, readonly value: number, readonly most: number, readonly met: boolean }

type Size = 'small' | 'large'

const ours: ContenderName = 'session-cache'
const lru: ContenderName = 'Map as LRU'

/** What must hold of stores of 10,000 and of 1,000,000 entries. */
export function goalsOf (figures: CacheFigures): Goal[] {
  const { small, large, product, stores, hitRate, bytes } = figures
  const goal = (name: string, value: number, most: number): Goal => ({ name, value, most, met: value <= most })
  const slowest = (size: Size): number => {
    const [whole, store] = [product.set[size], stores[ours].set[size]]
    return Math.max(whole.worstMs, whole.idleSliceMs, whole.droppingSliceMs, store.worstMs, store.allHitMs, store.afterClearMs)
  }
  const above = (size: Size): number => Math.max(product.set[size].mostEntries, stores[ours].set[size].mostEntries) - figures[size]
  const sizes = `${figure(large)} to ${figure(small)} entries`
  return [
    goal(`hit by identity, all users alike, ${sizes}`, ratio(product.hit.resolve), 4),
    goal(`hit by identity, Zipf 1.0, ${sizes}`, ratio(product.hit.resolveZipf), 4),
    goal(`hit by key, all users alike, ${sizes}`, ratio(product.hit.key), 4),
    goal(`slowest of set and cleanup at ${figure(large)}, ms`, slowest('large'), 2),
    goal(`slowest of set and cleanup at ${figure(small)}, ms`, slowest('small'), 0.05),
    goal(`clear at ${figure(large)}, ms`, stores[ours].set.large.clearMs, 2),
    goal(`clear at ${figure(small)}, ms`, stores[ours].set.small.clearMs, 0.05),
    goal('bytes of a session and a token', bytes.together, 3072),
    ...Object.entries(hitRate.rates).map(([load, of]) => goal(`hit rate of a true LRU to ours, ${load}`, of[lru] / of[ours], 1)),
    goal('most entries above maxEntries', Math.max(above('small'), above('large')), 0)
  ]
}

/** The figures as tables, and what must hold. */
export function report (figures: CacheFigures): string {
  const { small, large, product, stores, hitRate, bytes } = figures
  const names = Object.keys(stores) as ContenderName[]
  const micros = (ms: number): string => figure(ms * 1000)
  const hits = (name: string, times: HitTimes): string[] => [name, figure(times.smallNs), figure(times.largeNs), figure(ratio(times))]
  const sets = (size: Size): string => {
    const whole = product.set[size]
    return table([
      [`sets at ${figure(figures[size])} entries, µs`, 'median', 'worst', 'worst, all hit', 'clear', 'worst after clear'],
      ...names.map(name => {
        const { medianMs, worstMs, allHitMs, clearMs, afterClearMs } = stores[name].set[size]
        return [name, ...[medianMs, worstMs, allHitMs, clearMs, afterClearMs].map(micros)]
      }),
      ['session-cache, whole', micros(whole.medianMs), micros(whole.worstMs), '–', '–', '–'],
      ['  a slice of cleanup', '–', micros(whole.idleSliceMs), '–', '–', '–'],
      ['  that drops all it sees', '–', micros(whole.droppingSliceMs), '–', '–', '–']
    ])
  }
  const loads = Object.keys(hitRate.rates)
  return [
    table([
      ['a hit, ns', figure(small), figure(large), 'ratio'],
      ...names.map(name => hits(name, stores[name].hit)),
      hits('session-cache, whole, by identity', product.hit.resolve),
      hits('session-cache, whole, by identity, Zipf 1.0', product.hit.resolveZipf),
      hits('session-cache, whole, by key', product.hit.key)
    ]),
    sets('small'),
    sets('large'),
    table([[`hit rate at ${figure(small)} entries, %`, ...loads], ...names.map(name => [name, ...loads.map(load => figure(hitRate.rates[load]![name] * 100))])]),
    table([['bytes per entry, key and value apart', ''], ...names.map(name => [name, figure(stores[name].bytesPerEntry)])]),
    table([['bytes', 'row', 'session', 'token', 'session and token'], ['per user', ...[bytes.row, bytes.session, bytes.token, bytes.together].map(figure)]]),
    goalsOf(figures).map(({ name, value, most, met }) => `${met ? 'met   ' : 'MISSED'}  ${name}: ${figure(value)}, at most ${most}`).join('\n')
  ].join('\n\n')
}

function ratio ({ smallNs, largeNs }: HitTimes): number {
  return largeNs / smallNs
}
