import {
  isRevoked, outcomeOf, revoked, SourceUnavailable, unavailable,
  type Clock, type Identity, type LoadRequest, type RouteSession, type SessionOutcome, type Sync, type UserSource
} from '@orientor/session-contract/core'
import type { MissReason, SessionCacheStats } from './cache-stats.js'
import { channels } from './channels.js'
import type { Trust } from './coherence/trust.js'
import type { Landing } from './flight.js'
import { ageOf, isGood } from './freshness.js'
import { LoadBatcher } from './load-batcher.js'
import { checkLoadTimeout, type SessionCacheSettings } from './options.js'
import type { SessionEntry } from './session-entry.js'
import { SourceGate } from './source-gate.js'
import { UserSessionCache } from './user-session-cache.js'

/** How long a request waits for a load when memory has an answer that will do, in milliseconds. */
const patienceMs = 75

/** What a manager needs beside its settings. */
export interface DatabaseSessionManagerParts {
  /** Where users come from; asked for at each batch of loads. Default is the source of the settings. */
  readonly source?: () => UserSource | null
  /** What a bus proves, read on every hit. Default is that of the settings' bus; null: no bus, the bound on age is `expireAfterMs`. */
  readonly trust?: Trust | null
  /** Calls back at the end of this turn of the event loop. Default is setImmediate. */
  readonly nextTurn?: (callback: () => void) => void
}

/** Identity → outcome: from memory, else from the source, else, while the source is not to be had, from what memory still knows. */
export class DatabaseSessionManager {
  readonly cache: UserSessionCache
  readonly gate: SourceGate
  readonly #clock: Clock
  readonly #maxAgeMs: number

  /** @throws ORI_CONTRACT_INVALID_OPTION when a load could take as long as the bound of the trust */
  constructor (settings: SessionCacheSettings, parts: DatabaseSessionManagerParts = {}) {
    const { clock, random, loadTimeoutMs } = settings
    const { source = () => settings.source, trust = settings.bus?.trust ?? null, ...turns } = parts
    if (trust !== null) checkLoadTimeout(loadTimeoutMs, trust.maxStalenessMs)
    this.#clock = clock
    this.#maxAgeMs = Math.min(settings.expireAfterMs, trust?.maxStalenessMs ?? Infinity)
    const gate = new SourceGate({ source, clock, random, loadTimeoutMs })
    const batcher = new LoadBatcher({ send: (batch, deadline) => gate.load(batch, deadline), clock, loadTimeoutMs, ...turns })
    this.gate = gate
    this.cache = new UserSessionCache({ ...settings, trust, load: (request, departed) => batcher.load(request, departed) })
  }

  /**
   * Resolves a verified identity. A fresh entry is answered synchronously, by an outcome that was made when the entry was stored.
   *
   * Rejects only for defects (a source that breaks its contract or throws anything but SourceUnavailable). When the source is not to be
   * had, or takes longer than 75 ms: a user marked stale if one is known that is not too old, was not invalidated, and the route takes it;
   * else what the source answers in the end, or unavailable. While the gate is open nobody waits.
   */
  resolve (identity: Identity, route: RouteSession): Sync<SessionOutcome> {
    const monotonicMs = this.#clock.monotonic()
    const wallMs = this.#clock.now()
    const entry = this.cache.find(identity)
    if (entry === null) return this.#miss(identity, route, monotonicMs, wallMs, this.cache.whyMissing(identity), null)

    const freshness = this.cache.judge(entry, route.maxStalenessMs, monotonicMs, wallMs)
    if (!isGood(freshness)) {
      const reason = this.cache.whyRefused(entry, monotonicMs, wallMs)
      if (freshness === 'dead') this.cache.expire(entry)
      return this.#miss(identity, route, monotonicMs, wallMs, reason, freshness === 'suspect' && takesStale(entry, route) ? entry : null)
    }
    if (identity.providerUpdatedAt !== null && identity.providerUpdatedAt > entry.hintMs && entry.active && !this.gate.isOpen) {
      return this.#heed(identity, identity.providerUpdatedAt, route, monotonicMs, wallMs, entry)
    }
    if (freshness === 'due' && !this.gate.isOpen) this.cache.refreshBehind(entry, requestFor(identity), monotonicMs)
    return this.#hit(entry, identity)
  }

  stats (): SessionCacheStats {
    return Object.freeze({ ...this.cache.stats(), ...this.gate.stats() })
  }

  /** Ends: no further load and no probe; resolves when the last load has ended. What is in memory can still be served. */
  close (): Promise<void> {
    this.gate.stop()
    return this.cache.close()
  }

  #hit (entry: SessionEntry, identity: Identity): SessionOutcome {
    this.cache.hit(entry)
    return entry.revoking !== null && isRevoked(entry.revoking, identity) ? revoked : entry.fresh
  }

  /** @param usable - what may be served, marked, without a load */
  #miss (identity: Identity, route: RouteSession, monotonicMs: number, wallMs: number, reason: MissReason, usable: SessionEntry | null): Sync<SessionOutcome> {
    if (!this.gate.isOpen) return this.#load(identity, route, monotonicMs, wallMs, reason, usable !== null)
    const refusal = this.gate.refuse(requestFor(identity))
    return usable === null ? this.#unavailable(refusal, reason) : this.#stale(usable, identity, monotonicMs, wallMs)
  }

  /** The token says that the user changed after the entry was loaded: loads once for that, and does not let a slow source hold up the request. */
  async #heed (identity: Identity, hintMs: number, route: RouteSession, monotonicMs: number, wallMs: number, entry: SessionEntry): Promise<SessionOutcome> {
    try {
      return await this.#load(identity, route, monotonicMs, wallMs, 'hint', true)
    } finally {
      entry.hintMs = Math.max(entry.hintMs, hintMs)
    }
  }

  /** @param patient - memory has an answer that will do, and takes over when the load takes longer than a request should wait */
  async #load (identity: Identity, route: RouteSession, monotonicMs: number, wallMs: number, reason: MissReason, patient: boolean): Promise<SessionOutcome> {
    const request = requestFor(identity)
    const maxAgeMs = Math.min(route.maxStalenessMs ?? Infinity, this.#maxAgeMs)
    const demand = { monotonicMs, wallMs, maxAgeMs, hintMs: identity.providerUpdatedAt ?? -Infinity, byIdentity: true, forced: false }
    try {
      if (patient) {
        const landing = await this.cache.load(request, demand, patienceMs)
        if (landing !== null) return this.#answer(landing, identity, reason)
        const remembered = this.#remembered(identity, route)
        if (remembered !== null) return remembered
      }
      return this.#answer(await this.cache.load(request, demand), identity, reason)
    } catch (error) {
      if (!(error instanceof SourceUnavailable)) {
        this.cache.counters.misses[reason]++
        throw error
      }
      return this.#remembered(identity, route) ?? this.#unavailable(error, reason)
    }
  }

  #answer (landing: Landing, identity: Identity, reason: MissReason): SessionOutcome {
    this.cache.counters.misses[reason]++
    if (landing.entry !== null) identity.memo.entry = landing.entry
    return outcomeOf(landing.record, identity, 'source', landing.loadedWallMs)
  }

  /**
   * What memory knows of the user now, when the source does not answer. Looked up anew: the user may have been invalidated while
   * the load was on its way, or another load may have brought a better one.
   */
  #remembered (identity: Identity, route: RouteSession): SessionOutcome | null {
    const entry = this.cache.find(identity)
    if (entry === null) return null
    const monotonicMs = this.#clock.monotonic()
    const wallMs = this.#clock.now()
    const freshness = this.cache.judge(entry, route.maxStalenessMs, monotonicMs, wallMs)
    if (isGood(freshness)) return this.#hit(entry, identity)
    return freshness === 'suspect' && takesStale(entry, route) ? this.#stale(entry, identity, monotonicMs, wallMs) : null
  }

  #stale (entry: SessionEntry, identity: Identity, monotonicMs: number, wallMs: number): SessionOutcome {
    this.cache.staleHit(entry)
    if (channels.stale.hasSubscribers) channels.stale.publish({ keyHash: entry.keyHash, ageMs: ageOf(entry, monotonicMs, wallMs) })
    return entry.revoking !== null && isRevoked(entry.revoking, identity) ? revoked : entry.stale!
  }

  #unavailable (error: SourceUnavailable, reason: MissReason): SessionOutcome {
    this.cache.counters.misses[reason]++
    return unavailable(error.retryAfterMs, error)
  }
}

function takesStale (entry: SessionEntry, route: RouteSession): boolean {
  return entry.active && route.onUnavailable === 'stale'
}

function requestFor (identity: Identity): LoadRequest {
  return { key: identity.key, issuer: identity.issuer, subject: identity.subject, identity }
}
