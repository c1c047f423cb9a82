import {
  isRevoked, outcomeOf, revoked, SourceUnavailable, unavailable,
  type Clock, type Identity, type LoadRequest, type RouteSession, type SessionOutcome, type Sync, type UserSource
} from '@orientor/session-contract/core'
import type { MissReason } from './cache-stats.js'
import type { Demand, Landing } from './flight.js'
import type { Trust } from './coherence/trust.js'
import { isGood } from './freshness.js'
import { LoadBatcher } from './load-batcher.js'
import { checkLoadTimeout, type SessionCacheSettings } from './options.js'
import type { SessionEntry } from './session-entry.js'
import { UserSessionCache } from './user-session-cache.js'

/** How long a request whose token is newer than a usable entry waits for the load, in milliseconds. */
const hintPatienceMs = 75

/** What a manager needs beside its settings. */
export interface DatabaseSessionManagerParts {
  /** Where users come from; asked for at each batch of loads. Default is the source of the settings. */
  readonly source?: () => UserSource | null
  /** What a bus proves, read on every hit. Default is null: no bus, the bound on age is `expireAfterMs`. */
  readonly trust?: Trust | null
  /** Calls back at the end of this turn of the event loop. Default is setImmediate. */
  readonly nextTurn?: (callback: () => void) => void
}

/** Identity → outcome: from memory, else from the source, else, while the source is not to be had, from what memory still knows. */
export class DatabaseSessionManager {
  readonly cache: UserSessionCache
  readonly #clock: Clock
  readonly #maxAgeMs: number

  /** @throws ORI_CONTRACT_INVALID_OPTION when a load could take as long as the bound of the trust */
  constructor (settings: SessionCacheSettings, parts: DatabaseSessionManagerParts = {}) {
    const { clock, loadTimeoutMs } = settings
    const trust = parts.trust ?? null
    if (trust !== null) checkLoadTimeout(loadTimeoutMs, trust.maxStalenessMs)
    const batcher = new LoadBatcher({ source: () => settings.source, clock, loadTimeoutMs, ...parts })
    this.#clock = clock
    this.#maxAgeMs = Math.min(settings.expireAfterMs, trust?.maxStalenessMs ?? Infinity)
    this.cache = new UserSessionCache({ ...settings, trust, load: (request, departed) => batcher.load(request, departed) })
  }

  /**
   * Resolves a verified identity. A fresh entry is answered synchronously, by an outcome that was made when the entry was stored.
   *
   * Rejects only for defects (a source that breaks its contract or throws anything but SourceUnavailable). When the source is not
   * to be had: a user marked stale if one is known that is not too old, was not invalidated, and the route takes it; else unavailable.
   */
  resolve (identity: Identity, route: RouteSession): Sync<SessionOutcome> {
    const monotonicMs = this.#clock.monotonic()
    const wallMs = this.#clock.now()
    const entry = this.cache.find(identity)
    if (entry === null) return this.#load(identity, route, monotonicMs, wallMs, this.cache.whyMissing(identity))

    const freshness = this.cache.judge(entry, route.maxStalenessMs, monotonicMs, wallMs)
    if (!isGood(freshness)) {
      const reason = this.cache.whyRefused(entry, monotonicMs, wallMs)
      if (freshness === 'dead') this.cache.expire(entry)
      return this.#load(identity, route, monotonicMs, wallMs, reason)
    }
    if (identity.providerUpdatedAt !== null && identity.providerUpdatedAt > entry.hintMs && entry.stale !== null) {
      return this.#heed(identity, identity.providerUpdatedAt, route, monotonicMs, wallMs, entry)
    }
    if (freshness === 'due') this.cache.refresh(entry, requestFor(identity), monotonicMs)
    return this.#hit(entry, identity)
  }

  #demand (identity: Identity, route: RouteSession, monotonicMs: number, wallMs: number): Demand {
    const maxAgeMs = Math.min(route.maxStalenessMs ?? Infinity, this.#maxAgeMs)
    return { monotonicMs, wallMs, maxAgeMs, hintMs: identity.providerUpdatedAt ?? -Infinity, byIdentity: true }
  }

  #hit (entry: SessionEntry, identity: Identity): SessionOutcome {
    this.cache.hit(entry)
    return entry.revoking !== null && isRevoked(entry.revoking, identity) ? revoked : entry.fresh
  }

  async #load (identity: Identity, route: RouteSession, monotonicMs: number, wallMs: number, reason: MissReason): Promise<SessionOutcome> {
    try {
      return this.#answer(await this.cache.load(requestFor(identity), this.#demand(identity, route, monotonicMs, wallMs)), identity, reason)
    } catch (error) {
      return this.#fallBack(error, identity, route, reason)
    }
  }

  /** The token says that the user changed after the entry was loaded: loads once for that, and does not let a slow source hold up the request. */
  async #heed (identity: Identity, hintMs: number, route: RouteSession, monotonicMs: number, wallMs: number, entry: SessionEntry): Promise<SessionOutcome> {
    const loading = this.cache.load(requestFor(identity), this.#demand(identity, route, monotonicMs, wallMs))
    try {
      const landing = await this.#patiently(loading)
      if (landing !== null) return this.#answer(landing, identity, 'hint')
      if (this.cache.holds(entry)) return this.#hit(entry, identity)
      return this.#answer(await loading, identity, 'hint')
    } catch (error) {
      return this.#fallBack(error, identity, route, 'hint')
    } finally {
      entry.hintMs = Math.max(entry.hintMs, hintMs)
    }
  }

  /** Null when the load takes longer than a request should wait that has something to go on. */
  #patiently (loading: Promise<Landing>): Promise<Landing | null> {
    return new Promise((resolve, reject) => {
      const timer = this.#clock.setTimer(() => { resolve(null) }, hintPatienceMs)
      loading.then(resolve, reject).finally(() => { timer.cancel() })
    })
  }

  #answer (landing: Landing, identity: Identity, reason: MissReason): SessionOutcome {
    this.cache.counters.misses[reason]++
    if (landing.entry !== null) identity.memo.entry = landing.entry
    return outcomeOf(landing.record, identity, 'source', landing.loadedWallMs)
  }

  #fallBack (error: unknown, identity: Identity, route: RouteSession, reason: MissReason): SessionOutcome {
    if (!(error instanceof SourceUnavailable)) {
      this.cache.counters.misses[reason]++
      throw error
    }
    // Looked up anew: it may have been invalidated while the load was on its way, or another load may have brought a better one.
    const entry = this.cache.find(identity)
    if (entry !== null) {
      const freshness = this.cache.judge(entry, route.maxStalenessMs, this.#clock.monotonic(), this.#clock.now())
      if (isGood(freshness)) return this.#hit(entry, identity)
      if (freshness === 'suspect' && entry.stale !== null && route.onUnavailable === 'stale') {
        this.cache.counters.stale++
        return entry.revoking !== null && isRevoked(entry.revoking, identity) ? revoked : entry.stale
      }
    }
    this.cache.counters.misses[reason]++
    return unavailable(error.retryAfterMs, error)
  }
}

function requestFor (identity: Identity): LoadRequest {
  return { key: identity.key, issuer: identity.issuer, subject: identity.subject, identity }
}
