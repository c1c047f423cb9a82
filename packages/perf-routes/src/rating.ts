/** EXCELLENT: all targets met. GOOD: one missed. FAIR: at least as many met as missed. POOR: more missed than met. */
export type Rating = 'EXCELLENT' | 'GOOD' | 'FAIR' | 'POOR'

/** A value that the service is rated by. */
export interface Measure {
  /** null: not known (nothing happened yet, or the component is not there). */
  readonly value: number | null
  /** The number of events that the value is made of; null: no component counts them. */
  readonly samples: number | null
}

/** Everything that the service is rated by. */
export interface Measures {
  /** Share of the statements of a service without these packages that is not sent, 0 to 1; over authentications. */
  readonly databaseLoadReductionRatio: Measure
  /** Over lookups that the cache counts as a hit or a miss. */
  readonly cacheHitRatio: Measure
  /** Average time in milliseconds; over responses whose user came from the cache. */
  readonly cacheHitResponseMs: Measure
  /** Over attempts to sync. */
  readonly syncSkipRatio: Measure
  /** Share served at once by an idle connection, 0 to 1; over checkouts. */
  readonly poolEfficiencyRatio: Measure
  /** Share without a server error (5xx), 0 to 1; over responses. */
  readonly reliabilityRatio: Measure
}

/** One measure beside its target. */
export interface Target extends Measure {
  readonly name: keyof Measures
  /** `databaseLoadReductionRatio` and `reliabilityRatio` must reach it, the other ratios must exceed it, the time must stay below it. */
  readonly target: number
  /** The number of samples that are missing until the value is judged, 0 when it is; null: no component counts them. */
  readonly missingSamples: number | null
  /** null: the value is not judged. */
  readonly met: boolean | null
}

/** The samples that a rating rests on, and those that are missing for one. */
export interface RatingBasis {
  /** A value of fewer samples is not judged. */
  readonly minSamples: number
  /** Fewer judged targets give no rating. */
  readonly minTargets: number
  readonly judgedTargets: number
  /** The least number of samples that are missing for a rating, 0 when there is one; null: too few components count. */
  readonly missingSamples: number | null
}

const targets: ReadonlyArray<readonly [name: keyof Measures, target: number, meets: (value: number, target: number) => boolean]> = [
  ['databaseLoadReductionRatio', 0.8, atLeast],
  ['cacheHitRatio', 0.8, above],
  ['cacheHitResponseMs', 100, below],
  ['syncSkipRatio', 0.7, above],
  ['poolEfficiencyRatio', 0.75, above],
  ['reliabilityRatio', 0.99, atLeast]
]

const minSamples = 100
const minTargets = 3

/** Holds the measures against their targets. A value that is made of fewer than 100 samples says too little to be judged. */
export function targetsOf (measures: Measures): readonly Target[] {
  return targets.map(([name, target, meets]) => {
    const { value, samples } = measures[name]
    const isUnknowable = samples === null || (value === null && samples > 0)
    const missingSamples = isUnknowable ? null : Math.max(0, minSamples - samples)
    return { name, value, samples, target, missingSamples, met: value === null || missingSamples !== 0 ? null : meets(value, target) }
  })
}

/** The rating by the targets that are judged; null when they are fewer than three, which say too little. */
export function ratingOf (results: readonly Target[]): Rating | null {
  const met = results.filter(result => result.met === true).length
  const missed = results.filter(result => result.met === false).length
  if (met + missed < minTargets) return null
  if (missed === 0) return 'EXCELLENT'
  if (missed > met) return 'POOR'
  return missed === 1 ? 'GOOD' : 'FAIR'
}

/** Sums up the samples that the rating by these targets rests on, and those that are missing for one. */
export function ratingBasisOf (results: readonly Target[]): RatingBasis {
  const missing = results.flatMap(({ missingSamples }) => missingSamples ?? []).sort((a, b) => a - b)
  return { minSamples, minTargets, judgedTargets: results.filter(({ met }) => met !== null).length, missingSamples: missing[minTargets - 1] ?? null }
}

function atLeast (value: number, target: number): boolean { return value >= target }
function above (value: number, target: number): boolean { return value > target }
function below (value: number, target: number): boolean { return value < target }
