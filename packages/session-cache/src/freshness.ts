/** When something was read, on both clocks. */
export interface Loaded {
  /** When the load was sent, on the monotonic clock, in milliseconds. */
  readonly loadedAtMs: number
  /** The same instant on the wall clock, in milliseconds since the epoch. */
  readonly loadedWallMs: number
}

/** What judges an entry: its load and the ages from which it needs a load first, and must not be served at all. */
export interface Ageing extends Loaded {
  readonly expireAfterMs: number
  readonly deadAfterMs: number
}

/**
 * What an entry is good for: `fresh` is served as it is, `expired` needs a load and is served, marked, when the source cannot be asked,
 * `dead` is never served.
 */
export type Freshness = 'fresh' | 'expired' | 'dead'

/**
 * How old something is, in milliseconds: the larger of what the two clocks say. The monotonic clock stands still while the machine is
 * suspended and the wall clock may be set back, so either alone can make old data look young.
 */
export function ageOf (loaded: Loaded, monotonicMs: number, wallMs: number): number {
  return Math.max(monotonicMs - loaded.loadedAtMs, wallMs - loaded.loadedWallMs)
}

/**
 * Judges an entry by its age. Pure.
 *
 * @param ageMs - from ageOf()
 * @param maxStalenessMs - what the route demands on top, or null; 0 demands a load that began after the request
 */
export function freshnessOf (entry: Ageing, ageMs: number, maxStalenessMs: number | null): Freshness {
  if (ageMs >= entry.deadAfterMs) return 'dead'
  if (ageMs >= entry.expireAfterMs || (maxStalenessMs !== null && ageMs >= maxStalenessMs)) return 'expired'
  return 'fresh'
}

/**
 * Shortens a duration by up to a tenth, so that what was loaded together does not expire together. Never lengthens: a bound stays a bound.
 *
 * @param random - from 0 to 1
 */
export function jitteredDown (durationMs: number, random: number): number {
  return durationMs * (1 - 0.1 * random)
}
