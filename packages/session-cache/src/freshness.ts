import type { Trust } from './coherence/trust.js'

/** When something was read, on both clocks. */
export interface Loaded {
  /** When the load was sent, on the monotonic clock, in milliseconds. */
  readonly loadedAtMs: number
  /** The same instant on the wall clock, in milliseconds since the epoch. */
  readonly loadedWallMs: number
}

/** What judges an entry beside the clocks and the trust in a bus. */
export interface Ageing extends Loaded {
  /** The epoch of the bus in which its load was sent; 0 without a bus. */
  readonly epoch: number
  /** The age from which a hit starts a load behind it. */
  readonly refreshAfterMs: number
  /** The age from which it needs a load first, whatever a bus proves. */
  readonly expireAfterMs: number
  /** How long after it was last fresh it may be served while the source cannot be asked; 0: not at all. */
  readonly staleIfErrorMs: number
}

/**
 * What an entry is good for: `fresh` is served as it is, `due` too and a load behind it is in order, `suspect` needs a load first and is
 * served, marked, when the source cannot be asked, `dead` is never served.
 */
export type Freshness = 'fresh' | 'due' | 'suspect' | 'dead'

/** Whether an entry answers at once. */
export function isGood (freshness: Freshness): freshness is 'fresh' | 'due' {
  return freshness === 'fresh' || freshness === 'due'
}

/** The share of the bound from which a load behind a hit is in order, so that users in constant use stay fresh while nothing is proven. */
const refreshShare = 0.8

/**
 * How old something is, in milliseconds: the larger of what the two clocks say. The monotonic clock stands still while the machine is
 * suspended and the wall clock may be set back, so either alone can make old data look young.
 */
export function ageOf (loaded: Loaded, monotonicMs: number, wallMs: number): number {
  return Math.max(monotonicMs - loaded.loadedAtMs, wallMs - loaded.loadedWallMs)
}

/**
 * Judges an entry. Pure.
 *
 * - Its *staleness* is how long ago it was last known to agree with the database: its age, or the time since the last proof of the bus
 *   when that is less and the proof is of the epoch in which it was loaded.
 * - It is fresh while its age is below `expireAfterMs` and its staleness below the bound: B (`trust.maxStalenessMs`) with a bus,
 *   `expireAfterMs` without. So while nothing is proven it is fresh until B after its load was sent.
 * - It may be served, marked, until `staleIfErrorMs` after that. For this the last proof of its own epoch counts, ended or not: what was
 *   not announced by then had not changed by then.
 *
 * @param trust - what a bus proves; null without a bus
 * @param maxStalenessMs - what the route demands on top, or null; 0 demands a load that began after the request
 */
export function freshnessOf (entry: Ageing, trust: Trust | null, maxStalenessMs: number | null, monotonicMs: number, wallMs: number): Freshness {
  const ageMs = ageOf(entry, monotonicMs, wallMs)
  let stalenessMs = ageMs
  let boundMs = entry.expireAfterMs
  if (trust !== null) {
    boundMs = trust.maxStalenessMs
    if (entry.epoch === trust.epoch) stalenessMs = Math.min(ageMs, Math.max(monotonicMs - trust.provenAtMs, wallMs - trust.provenWallMs))
  }
  if (ageMs >= entry.expireAfterMs || stalenessMs >= boundMs) return overdueMs(entry, trust, ageMs, monotonicMs, wallMs) < entry.staleIfErrorMs ? 'suspect' : 'dead'
  if (maxStalenessMs !== null && stalenessMs >= maxStalenessMs) return 'suspect'
  return ageMs >= entry.refreshAfterMs || (trust !== null && stalenessMs >= refreshShare * boundMs) ? 'due' : 'fresh'
}

/** How long ago an entry that is not fresh was fresh for the last time, in milliseconds. */
function overdueMs (entry: Ageing, trust: Trust | null, ageMs: number, monotonicMs: number, wallMs: number): number {
  if (trust === null) return ageMs - entry.expireAfterMs
  const proof = trust.lastProofOf(entry.epoch)
  const provenMs = proof === null ? Infinity : Math.max(monotonicMs - proof.monotonicMs, wallMs - proof.wallMs)
  return Math.max(ageMs - entry.expireAfterMs, Math.min(ageMs, provenMs) - trust.maxStalenessMs)
}

/**
 * Shortens a duration by up to a tenth, so that what was loaded together does not expire together. Never lengthens: a bound stays a bound.
 *
 * @param random - from 0 to 1
 */
export function jitteredDown (durationMs: number, random: number): number {
  return durationMs * (1 - 0.1 * random)
}
