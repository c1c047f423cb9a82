import {
  callable, clockObject, durationMs, integer, invalidOption, objectWith, optional, readOptions, systemClock, withDefault,
  type Clock, type OptionRules, type UserSource
} from '@orientor/session-contract/core'
import type { InvalidationBus } from './coherence/invalidation-bus.js'

/** Options of the session cache. All times are milliseconds. */
export interface SessionCacheOptions {
  /**
   * How old a user may be, since its load was sent, to be served without asking the source again. Entries are given up to a tenth less,
   * at random, so that they do not expire together.
   *
   * Default is 900000 (15 minutes).
   */
  readonly expireAfterMs?: number
  /**
   * The age from which a hit also starts one load behind it, so that a user in constant use never waits. Not above `expireAfterMs`, which
   * turns it off. Default is 0.8 of `expireAfterMs`.
   */
  readonly refreshAfterMs?: number
  /** How many users are kept, at most and at every instant. Default is 10000. Users who must not pass: a tenth of it, apart. */
  readonly maxEntries?: number
  /** How long after they expired users are still served, marked stale, while the source cannot be asked. 0: not at all. Default is 900000. */
  readonly staleIfErrorMs?: number
  /** How long is remembered that a user is inactive, deleted or unknown. 0: not at all. Default is 5000; at most 60000. */
  readonly negativeTtlMs?: number
  /** How often users who are too old to be served at all are dropped. Default is 300000 (5 minutes). */
  readonly cleanupIntervalMs?: number
  /**
   * The time that the source may take for a batch of loads. Default is 2000, or with a bus what its bound leaves:
   * maxStalenessMs - pollIntervalMs - pollTimeoutMs, which it must not be above, so that users in constant use stay fresh
   * while a poll is late.
   */
  readonly loadTimeoutMs?: number
  /** How many loads may be under way at once; requests that need one more are answered with a stale user or 503. Default is 20000. */
  readonly maxLoads?: number
  /** How many requests may wait for loads at once; those beyond are answered with a stale user or 503. Default is 20000. */
  readonly maxWaiters?: number
  /** Where users come from. Default is the source of the scope (see @orientor/smart-sync). */
  readonly source?: UserSource
  /**
   * What brings changes from other instances, and bounds how old a user may be: postgresBus() of `@orientor/session-cache/postgres`. One bus per cache.
   * Default is none: other instances' changes are seen when an entry expires.
   */
  readonly bus?: InvalidationBus
  /** Time. Default is the clock of the process. */
  readonly clock?: Clock
  /** Chance, from 0 to 1, for the jitter. Default is Math.random. */
  readonly random?: () => number
}

/** The options with every default in place. */
export interface SessionCacheSettings extends Required<Omit<SessionCacheOptions, 'source' | 'bus'>> {
  readonly source: UserSource | null
  readonly bus: InvalidationBus | null
}

type Input = { readonly [K in keyof SessionCacheOptions]-?: SessionCacheOptions[K] | undefined }

const owner = '@orientor/session-cache'
const defaultLoadTimeoutMs = 2000

const rules: OptionRules<Input> = {
  expireAfterMs: withDefault(durationMs(), 900_000),
  refreshAfterMs: optional(durationMs()),
  maxEntries: withDefault(integer({ min: 1, max: 10_000_000 }), 10_000),
  staleIfErrorMs: withDefault(durationMs({ min: 0 }), 900_000),
  negativeTtlMs: withDefault(durationMs({ min: 0, max: 60_000 }), 5_000),
  cleanupIntervalMs: withDefault(durationMs(), 300_000),
  loadTimeoutMs: optional(durationMs()),
  maxLoads: withDefault(integer({ min: 1 }), 20_000),
  maxWaiters: withDefault(integer({ min: 1 }), 20_000),
  source: optional(objectWith<UserSource>('a source of users: an object with load(batch, deadline)', ['load'])),
  bus: optional(objectWith<InvalidationBus>('a bus: an InvalidationBus such as postgresBus() makes', ['start', 'subscribe', 'onTrust', 'publish', 'status', 'close'])),
  clock: withDefault(clockObject, systemClock),
  random: withDefault(callable<() => number>('() => number from 0 to 1'), Math.random)
}

/**
 * Refuses a load that could take as long as the bound of a bus: whoever shares a load is answered by what was read when it began.
 *
 * @throws ORI_CONTRACT_INVALID_OPTION naming both
 */
export function checkLoadTimeout (loadTimeoutMs: number, maxStalenessMs: number): void {
  if (loadTimeoutMs < maxStalenessMs) return
  throw invalidOption(owner, `option "loadTimeoutMs" must be below maxStalenessMs (${maxStalenessMs}), because a load's answer is as old as the load; received ${loadTimeoutMs}.`)
}

/**
 * The time that a load may take at most, in milliseconds, so that a user in constant use is loaded again before the bound
 * of the bus, even while a poll is late.
 */
function loadTimeoutOf (given: number | undefined, bus: InvalidationBus | undefined): number {
  if (bus === undefined) return given ?? defaultLoadTimeoutMs
  const { leaseMs, trust: { maxStalenessMs } } = bus
  const roomMs = maxStalenessMs - leaseMs
  if (given !== undefined && given > roomMs) {
    throw invalidOption(owner, 'option "loadTimeoutMs" must not be above what the bus leaves, maxStalenessMs - ' +
      `pollIntervalMs - pollTimeoutMs (${maxStalenessMs} - ${leaseMs} = ${roomMs}); received ${given}. Write ` +
      `loadTimeoutMs: ${roomMs}, or give the bus maxStalenessMs: ${given + leaseMs}.`)
  }
  return given ?? Math.min(defaultLoadTimeoutMs, roomMs)
}

/**
 * Reads the options: refuses unknown ones, sets the defaults.
 *
 * @throws ORI_CONTRACT_INVALID_OPTION naming the option, the rule and what was received
 */
export function resolveOptions (input: SessionCacheOptions | undefined): SessionCacheSettings {
  const read = readOptions<Input>(owner, input, rules) as SessionCacheSettings & Input
  const refreshAfterMs = read.refreshAfterMs ?? Math.max(1, Math.floor(read.expireAfterMs * 0.8))
  if (refreshAfterMs > read.expireAfterMs) {
    throw invalidOption(owner, `option "refreshAfterMs" must not be above expireAfterMs (${read.expireAfterMs}); received ${refreshAfterMs}.`)
  }
  return Object.freeze({ ...read, refreshAfterMs, loadTimeoutMs: loadTimeoutOf(read.loadTimeoutMs, read.bus), source: read.source ?? null, bus: read.bus ?? null })
}
