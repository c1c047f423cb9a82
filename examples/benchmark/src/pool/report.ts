import { median } from '../measure/median.js'
import { figure, table } from '../measure/table.js'
import type { Pair, PoolPart, Slice } from './part.js'

const goals = { overhead: 0.05, gain: 10 } as const

/** The figures of a run. An overhead is a ratio to the stock pool less one: 0.05 is 5 % more. */
export interface PoolFigures {
  /** Of `pool.query('SELECT 1')` in a loop, by the clock. */
  readonly checkoutOverhead: number
  /** The same, by the CPU time of the process. */
  readonly checkoutCpuOverhead: number
  /** Of `connect()`, the statement and `release()`, by the clock and by CPU time. */
  readonly connectOverhead: number
  readonly connectCpuOverhead: number
  /** How many times cheaper a failing statement is, by the clock. */
  readonly failingQueryGain: number
  readonly micros: Readonly<Record<'query' | 'checkout' | 'failing', { readonly stock: Slice, readonly tuned: Slice }>>
}

/** Of each process the median of the ratios of its pairs; of those, the median. Noise that both slices of a pair share cancels out. */
export function figures (parts: readonly PoolPart[]): PoolFigures {
  const ratio = (kind: keyof PoolPart, of: keyof Slice): number => median(parts.map(part => median(part[kind].map(({ stock, tuned }) => tuned[of] / stock[of]))))
  const typical = (kind: keyof PoolPart, who: keyof Pair): Slice => {
    const slices = parts.flatMap(part => part[kind].map(pair => pair[who]))
    return { wallMicros: median(slices.map(({ wallMicros }) => wallMicros)), cpuMicros: median(slices.map(({ cpuMicros }) => cpuMicros)) }
  }
  const both = (kind: keyof PoolPart): { stock: Slice, tuned: Slice } => ({ stock: typical(kind, 'stock'), tuned: typical(kind, 'tuned') })
  return {
    checkoutOverhead: ratio('query', 'wallMicros') - 1,
    checkoutCpuOverhead: ratio('query', 'cpuMicros') - 1,
    connectOverhead: ratio('checkout', 'wallMicros') - 1,
    connectCpuOverhead: ratio('checkout', 'cpuMicros') - 1,
    failingQueryGain: 1 / ratio('failing', 'wallMicros'),
    micros: { query: both('query'), checkout: both('checkout'), failing: both('failing') }
  }
}

/** The figures as a table, and whether they meet their goals. */
export function report (result: PoolFigures): string {
  const percent = (share: number): string => `${share > 0 ? '+' : ''}${(share * 100).toFixed(1)} %`
  const row = (name: string, kind: keyof PoolPart, of: keyof Slice, verdict: string): string[] => [name, figure(result.micros[kind].stock[of]), figure(result.micros[kind].tuned[of]), verdict]
  return [
    table([
      ['median of slices, µs per statement', 'stock', 'tuned', 'by pairs'],
      row("pool.query('SELECT 1'), clock", 'query', 'wallMicros', percent(result.checkoutOverhead)),
      row("pool.query('SELECT 1'), CPU", 'query', 'cpuMicros', percent(result.checkoutCpuOverhead)),
      row('connect, SELECT 1, release, clock', 'checkout', 'wallMicros', percent(result.connectOverhead)),
      row('connect, SELECT 1, release, CPU', 'checkout', 'cpuMicros', percent(result.connectCpuOverhead)),
      row('failing INSERT, clock', 'failing', 'wallMicros', `${figure(result.failingQueryGain)} times cheaper`)
    ]),
    '',
    `checkoutOverhead: the goal is at most ${percent(goals.overhead)}: ${result.checkoutOverhead <= goals.overhead ? 'met' : 'MISSED'}`,
    `failingQueryGain: the goal is at least ${goals.gain}: ${result.failingQueryGain >= goals.gain ? 'met' : 'MISSED'}`
  ].join('\n')
}
