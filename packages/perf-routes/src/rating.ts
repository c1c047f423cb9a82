/** EXCELLENT: all targets met. GOOD: one missed. FAIR: at least as many met as missed. POOR: more missed than met. */
export type Rating = 'EXCELLENT' | 'GOOD' | 'FAIR' | 'POOR'

/** What the service is rated by; null: not known (nothing happened yet, or the component is not there). */
export interface Measures {
  /** Share of the statements of a service without these packages that is not sent, 0 to 1. */
  readonly databaseLoadReductionRatio: number | null
  readonly cacheHitRatio: number | null
  /** Average time of responses whose user came from the cache, in milliseconds. */
  readonly cacheHitResponseMs: number | null
  readonly syncSkipRatio: number | null
  /** Share of checkouts served at once by an idle connection, 0 to 1. */
  readonly poolEfficiencyRatio: number | null
  /** Share of responses without a server error (5xx), 0 to 1. */
  readonly reliabilityRatio: number | null
}

/** One measure beside its target. */
export interface Target {
  readonly name: keyof Measures
  readonly value: number | null
  /** `databaseLoadReductionRatio` and `reliabilityRatio` must reach it, the other ratios must exceed it, the time must stay below it. */
  readonly target: number
  /** null: the value is not known. */
  readonly met: boolean | null
}

const targets: ReadonlyArray<readonly [name: keyof Measures, target: number, meets: (value: number, target: number) => boolean]> = [
  ['databaseLoadReductionRatio', 0.8, atLeast],
  ['cacheHitRatio', 0.8, above],
  ['cacheHitResponseMs', 100, below],
  ['syncSkipRatio', 0.7, above],
  ['poolEfficiencyRatio', 0.75, above],
  ['reliabilityRatio', 0.99, atLeast]
]

const leastKnown = 3

/** Holds the measures against their targets. */
export function targetsOf (measures: Measures): readonly Target[] {
  return targets.map(([name, target, meets]) => {
    const value = measures[name]
    return { name, value, target, met: value === null ? null : meets(value, target) }
  })
}

/** The rating by the targets whose value is known; null when they are fewer than three, which say too little. */
export function ratingOf (results: readonly Target[]): Rating | null {
  const met = results.filter(result => result.met === true).length
  const missed = results.filter(result => result.met === false).length
  if (met + missed < leastKnown) return null
  if (missed === 0) return 'EXCELLENT'
  if (missed > met) return 'POOR'
  return missed === 1 ? 'GOOD' : 'FAIR'
}

function atLeast (value: number, target: number): boolean { return value >= target }
function above (value: number, target: number): boolean { return value > target }
function below (value: number, target: number): boolean { return value < target }
