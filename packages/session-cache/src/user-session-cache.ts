import {
  sessionKeyHash, SourceUnavailable, splitSessionKey,
  type Clock, type Deadline, type Identity, type LoadRequest, type SessionKey, type SessionKeyHash, type UserChange, type UserRecord
} from '@orientor/session-contract/core'
import { CacheCounters, statsOf, type CacheStats, type MissReason } from './cache-stats.js'
import { channels, type LoadEvent } from './channels.js'
import { checkedRecord } from './checked-record.js'
import type { Trust } from './coherence/trust.js'
import { answers, Flight, type Demand, type Landing } from './flight.js'
import { ageOf, freshnessOf, jitteredDown, type Freshness } from './freshness.js'
import { startPatience } from './patience.js'
import { SessionEntry } from './session-entry.js'
import { SessionStore } from './session-store.js'
import { WarmUp, type RenewOptions, type WarmedUp } from './warm-up.js'

/** What a cache is made of. */
export interface UserSessionCacheParts {
  /**
   * Loads one user. Calls `departed` in the instant before the data may be read, and must settle in the end.
   * What it resolves with is checked.
   */
  readonly load: (request: LoadRequest, departed: () => void) => Promise<UserRecord>
  readonly clock: Clock
  /** What a bus proves; null without a bus. */
  readonly trust: Trust | null
  /** From 0 to 1, for the jitter. */
  readonly random: () => number
  readonly maxEntries: number
  readonly maxLoads: number
  readonly maxWaiters: number
  readonly expireAfterMs: number
  readonly refreshAfterMs: number
  readonly staleIfErrorMs: number
  readonly negativeTtlMs: number
}

/** How long no further load is started behind hits of an entry, in milliseconds. */
const refreshPauseMs = 1000

/**
 * The users in memory, and the only place that changes them. Every change is synchronous: when invalidateUser(), invalidateAll() or apply()
 * has returned, no later lookup is answered by what it named, whatever loads are on their way.
 *
 * Users who must not pass (inactive, deleted, unknown) are kept apart, for `negativeTtlMs`, in a store a tenth of the size, so that
 * invented subjects cannot drive out real users; they are never served stale.
 */
export class UserSessionCache {
  readonly counters: CacheCounters = new CacheCounters()
  readonly #load: UserSessionCacheParts['load']
  readonly #parts: UserSessionCacheParts
  readonly #users: SessionStore
  readonly #barred: SessionStore
  readonly #warmUp: WarmUp
  readonly #flights = new Map<SessionKeyHash, Flight>()
  readonly #idle: Array<() => void> = []
  #generation = 0
  #inFlight = 0
  #waiting = 0
  #closed = false
  #sweeping: Iterator<SessionEntry, void, undefined> | null = null

  constructor (parts: UserSessionCacheParts) {
    this.#parts = parts
    this.#load = parts.load
    this.#warmUp = new WarmUp(this, parts)
    this.#users = new SessionStore(parts.maxEntries)
    this.#barred = new SessionStore(Math.ceil(parts.maxEntries / 10))
  }

  /** The entry of a user, if there is one, whatever its age; remembered in the identity, so that the next time costs no look-up. */
  find (identity: Identity): SessionEntry | null {
    const remembered = identity.memo.entry
    if (remembered instanceof SessionEntry && this.holds(remembered)) return remembered
    const found = this.get(identity.key)
    if (found !== null) identity.memo.entry = found
    return found
  }

  /** The entry under a key, if there is one, whatever its age. */
  get (key: SessionKey): SessionEntry | null {
    const keyHash = sessionKeyHash(key)
    return this.#users.get(keyHash) ?? this.#barred.get(keyHash) ?? null
  }

  /** Whether an entry that somebody remembers may still be served. */
  holds (entry: SessionEntry): boolean {
    return this.#users.holds(entry) || this.#barred.holds(entry)
  }

  /** What an entry is good for, at an instant and for a route's `maxStalenessMs`. */
  judge (entry: SessionEntry, maxStalenessMs: number | null, monotonicMs: number, wallMs: number): Freshness {
    return freshnessOf(entry, this.#parts.trust, maxStalenessMs, monotonicMs, wallMs)
  }

  /** Counts a hit and tells the store. */
  hit (entry: SessionEntry): void {
    entry.visited = true
    if (entry.active) this.counters.hits++
    else this.counters.negative++
  }

  /** Counts a lookup that is answered by a user marked stale, and tells the store. */
  staleHit (entry: SessionEntry): void {
    entry.visited = true
    this.counters.stale++
  }

  /** Why an entry that is there does not answer. */
  whyRefused (entry: SessionEntry, monotonicMs: number, wallMs: number): MissReason {
    if (ageOf(entry, monotonicMs, wallMs) >= entry.expireAfterMs) return 'expired'
    return entry.epoch === this.#epoch ? 'staleness' : 'epoch'
  }

  /** Why there is no entry for this identity, as far as its memory goes. */
  whyMissing (identity: Identity): MissReason {
    const remembered = identity.memo.entry
    if (!(remembered instanceof SessionEntry)) return 'cold'
    const why = this.#users.whyLeft(remembered) ?? this.#barred.whyLeft(remembered)
    if (why === 'cleared') return 'epoch'
    return why === null || why === 'replaced' ? 'cold' : why
  }

  /**
   * Loads a user, or joins the load that is on its way. A load that does not meet the demand is followed by another.
   *
   * Rejects with SourceUnavailable when the source is not to be had, too many wait already, or the cache is closed; with what the
   * source threw when that is a defect; with ORI_CACHE_MALFORMED_RECORD.
   *
   * @param patienceMs - how long to wait; what the load brings is stored all the same. Default is as long as it takes
   * @returns null when the patience is over
   */
  async load (request: LoadRequest, demand: Demand): Promise<Landing>
  async load (request: LoadRequest, demand: Demand, patienceMs: number): Promise<Landing | null>
  async load (request: LoadRequest, demand: Demand, patienceMs?: number): Promise<Landing | null> {
    if (this.#waiting >= this.#parts.maxWaiters) throw new SourceUnavailable(`${this.#waiting} requests wait for a load already`)
    const keyHash = sessionKeyHash(request.key)
    const patience = patienceMs === undefined ? null : startPatience(this.#parts.clock, patienceMs)
    this.#waiting++
    try {
      for (;;) {
        const flight = this.#flightTo(keyHash) ?? this.#begin(keyHash, request)
        const boarding = { floor: flight.floor, departed: flight.departed }
        const landing = await (patience === null ? flight.landing : Promise.race([flight.landing, patience.isOver]))
        if (landing === null || answers(landing, demand, boarding)) return landing
      }
    } finally {
      this.#waiting--
      patience?.release()
    }
  }

  /**
   * Loads a user anew, by a load that begins after this call, whatever is in memory. Creates nobody.
   *
   * Default of `force` is false; true also asks the provider, whatever the timestamps say.
   *
   * @returns what the source says; rejects as load() does
   */
  async refresh (key: SessionKey, { force = false }: { readonly force?: boolean } = {}): Promise<UserRecord> {
    const request = { key, ...splitSessionKey(key), identity: null, force }
    const now = { monotonicMs: this.#parts.clock.monotonic(), wallMs: this.#parts.clock.now() }
    const landing = await this.load(request, { ...now, maxAgeMs: 0, hintMs: -Infinity, byIdentity: false, forced: force })
    return landing.record
  }

  /** Loads a user behind a hit, unless a load is on its way. The next attempt for this entry comes a second later at the earliest. */
  refreshBehind (entry: SessionEntry, request: LoadRequest, monotonicMs: number): void {
    if (monotonicMs < entry.restsUntilMs) return
    entry.restsUntilMs = monotonicMs + refreshPauseMs
    if (this.#closed || this.#inFlight >= this.#parts.maxLoads || this.#flightTo(entry.keyHash) !== null) return
    this.counters.refreshes++
    this.#begin(entry.keyHash, request)
  }

  /**
   * Takes note of a change. An announcement whose revision is known already is old news and changes nothing, unless
   * that is known from an epoch of the bus that has ended: since then the user may have been created anew, and the revision started again.
   * A load that is on its way is stored only if it brings at least this revision.
   */
  apply (change: UserChange): void {
    if (change.kind === 'all') this.invalidateAll()
    else this.#invalidate(change.keyHash, change.revision)
  }

  /** Drops a user. Loads on their way are not stored. Returns whether the user was in memory. */
  invalidateUser (key: SessionKey): boolean {
    return this.#invalidate(sessionKeyHash(key), null)
  }

  /** Drops everything. Loads on their way are not stored. Returns the number of users that were in memory. */
  invalidateAll (): number {
    this.#generation++
    this.#barred.clear()
    const dropped = this.#users.clear()
    if (channels.invalidate.hasSubscribers) channels.invalidate.publish({ keyHash: null, revision: null, dropped })
    return dropped
  }

  /**
   * Loads users before anybody asks for them; those that are fresh already are left alone, and no more than `maxEntries` are loaded.
   * Users whom the provider did not confirm are not created. Never rejects for a user who cannot be loaded.
   */
  preload (keys: readonly SessionKey[], deadline?: Deadline): Promise<WarmedUp> {
    return this.#warmUp.preload(keys, deadline)
  }

  /**
   * Loads the users of epochs of the bus that have ended anew, so that the current one covers them: to be called when the bus is trusted
   * again. Ends early when the epoch changes once more. Does nothing without a bus. Never rejects.
   */
  renew (options: RenewOptions = {}): Promise<WarmedUp> {
    const epoch = this.#epoch
    return this.#warmUp.renew(() => this.#users.entries(), entry => entry.epoch === epoch, () => this.#closed || this.#epoch !== epoch, options)
  }

  /** The users that were loaded last, newest first. */
  recent (limit: number): readonly SessionKey[] {
    return this.#users.newest(limit).map(entry => entry.key)
  }

  /**
   * Drops what is too old to be served at all, looking at no more than `limit` entries; the next call goes on from there.
   *
   * @returns whether this pass over all entries is complete
   */
  sweep (limit: number): boolean {
    this.#sweeping ??= this.#everyEntry()
    const monotonicMs = this.#parts.clock.monotonic()
    const wallMs = this.#parts.clock.now()
    for (let looked = 0; looked < limit; looked++) {
      const next = this.#sweeping.next()
      if (next.done === true) {
        this.#sweeping = null
        return true
      }
      if (this.judge(next.value, null, monotonicMs, wallMs) === 'dead') this.expire(next.value)
    }
    return false
  }

  /** Drops an entry that is too old to be served at all. */
  expire (entry: SessionEntry): void {
    this.#users.remove(entry, 'expired')
    this.#barred.remove(entry, 'expired')
  }

  /** Resolves when no load is on its way. */
  idle (): Promise<void> {
    if (this.#inFlight === 0) return Promise.resolve()
    return new Promise(resolve => { this.#idle.push(resolve) })
  }

  /** Begins no further load and resolves when the last one has ended. What is in memory can still be served. */
  close (): Promise<void> {
    this.#closed = true
    return this.idle()
  }

  stats (): CacheStats {
    return statsOf(this.counters, this.#users.counts, {
      entries: this.#users.size,
      negativeEntries: this.#barred.size,
      inFlight: this.#inFlight,
      waiting: this.#waiting
    })
  }

  #invalidate (keyHash: SessionKeyHash, revision: number | null): boolean {
    this.#flights.get(keyHash)?.announce(revision)
    const known = this.#users.get(keyHash)
    const dropped = this.#drop(this.#users, known, revision)
    this.#drop(this.#barred, this.#barred.get(keyHash), revision)
    if (channels.invalidate.hasSubscribers) channels.invalidate.publish({ keyHash, revision, dropped: dropped ? 1 : 0 })
    return known !== undefined
  }

  #drop (store: SessionStore, entry: SessionEntry | undefined, revision: number | null): boolean {
    if (entry === undefined) return false
    const isOldNews = revision !== null && entry.revision >= revision && entry.epoch === this.#epoch
    if (isOldNews) return false
    store.remove(entry, 'invalidated')
    return true
  }

  /** The load on its way that somebody who comes now may share. */
  #flightTo (keyHash: SessionKeyHash): Flight | null {
    const flight = this.#flights.get(keyHash)
    return flight === undefined || flight.isOutrun(this.#generation, this.#epoch) ? null : flight
  }

  get #epoch (): number {
    return this.#parts.trust?.epoch ?? 0
  }

  #begin (keyHash: SessionKeyHash, request: LoadRequest): Flight {
    if (this.#closed) throw new SourceUnavailable('The session cache is closed')
    if (this.#inFlight >= this.#parts.maxLoads) throw new SourceUnavailable(`${this.#inFlight} loads are under way already`)
    this.counters.loads++
    this.#inFlight++
    const flight = new Flight(keyHash, request, flight => this.#fly(flight))
    this.#flights.set(keyHash, flight)
    return flight
  }

  async #fly (flight: Flight): Promise<Landing> {
    const begunMs = this.#parts.clock.monotonic()
    try {
      const answer = await this.#load(flight.request, () => { flight.depart(this.#generation, this.#epoch, this.#parts.clock.monotonic(), this.#parts.clock.now()) })
      const landing = this.#land(flight, checkedRecord(answer, flight.request))
      this.counters.lastLoadFailed = false
      if (channels.load.hasSubscribers) this.#publishLoad(flight, begunMs, landing.record.kind, landing.entry !== null)
      return landing
    } catch (error) {
      this.counters.loadFailures++
      this.counters.lastLoadFailed = true
      if (channels.load.hasSubscribers) this.#publishLoad(flight, begunMs, error instanceof SourceUnavailable ? 'unavailable' : 'defect', false)
      throw error
    } finally {
      if (this.#flights.get(flight.keyHash) === flight) this.#flights.delete(flight.keyHash)
      if (--this.#inFlight === 0) for (const resolve of this.#idle.splice(0)) resolve()
    }
  }

  #publishLoad (flight: Flight, begunMs: number, result: LoadEvent['result'], stored: boolean): void {
    channels.load.publish({ keyHash: flight.keyHash, result, stored, durationMs: this.#parts.clock.monotonic() - begunMs })
  }

  #land (flight: Flight, record: UserRecord): Landing {
    if (record.kind === 'active') this.counters.syncs[record.sync]++
    const hintMs = Math.max(flight.hintMs, record.kind === 'active' ? record.user.providerUpdatedAt ?? -Infinity : -Infinity)
    return {
      record,
      entry: this.#mayStore(flight, record) ? this.#store(flight, record, hintMs) : null,
      loadedAtMs: flight.loadedAtMs,
      loadedWallMs: flight.loadedWallMs,
      hintMs,
      byIdentity: flight.request.identity !== null,
      forced: flight.request.force === true
    }
  }

  /** Whether what was loaded is stored; else counts why not. */
  #mayStore (flight: Flight, record: UserRecord): boolean {
    if (!flight.mayStore(record, this.#generation, this.#epoch)) {
      this.#overtaken(flight, record)
      return false
    }
    this.counters.isLastElsewhere = !(this.#parts.trust?.covers(record.readMark) ?? true)
    if (!this.counters.isLastElsewhere) return true
    // Of another server, database or relation: no announcement is about it. But the next request must not be shown less.
    this.counters.loadsElsewhere++
    this.#forget(flight.keyHash, held => held.revision < record.revision)
    return false
  }

  /**
   * What the waiters are shown is not stored, and the next request must not be shown less. Where memory says otherwise nobody can tell which
   * of the two was read later (a revision starts again when a user is created anew), so memory forgets; a later load must bring as much.
   */
  #overtaken (flight: Flight, { revision }: UserRecord): void {
    this.counters.loadsOvertaken++
    const { keyHash } = flight
    const next = this.#flights.get(keyHash)
    if (next !== flight) next?.announce(revision)
    this.#forget(keyHash, held => held.revision !== revision)
  }

  /** Drops what is in memory under a key, if it is to be. */
  #forget (keyHash: SessionKeyHash, isToBe: (held: SessionEntry) => boolean): void {
    for (const store of [this.#users, this.#barred]) {
      const held = store.get(keyHash)
      if (held !== undefined && isToBe(held)) store.remove(held, 'invalidated')
    }
  }

  #store (flight: Flight, record: UserRecord, hintMs: number): SessionEntry | null {
    const { expireAfterMs, refreshAfterMs, staleIfErrorMs, negativeTtlMs, random } = this.#parts
    const active = record.kind === 'active'
    const [store, other] = active ? [this.#users, this.#barred] : [this.#barred, this.#users]
    const past = other.get(flight.keyHash)
    if (past !== undefined) other.remove(past, 'invalidated')
    // To a preload the provider may be silent about a user whom a token would create.
    if (!active && (negativeTtlMs === 0 || (record.kind === 'unknown' && flight.request.identity === null))) return null

    const jitter = random()
    const entry = new SessionEntry({
      key: flight.request.key,
      keyHash: flight.keyHash,
      record,
      loadedAtMs: flight.loadedAtMs,
      loadedWallMs: flight.loadedWallMs,
      epoch: flight.epoch,
      refreshAfterMs: active ? jitteredDown(refreshAfterMs, jitter) : Infinity,
      expireAfterMs: active ? jitteredDown(expireAfterMs, jitter) : negativeTtlMs,
      staleIfErrorMs: active ? staleIfErrorMs : 0,
      hintMs
    })
    const evicted = store.put(entry)
    if (evicted !== null && channels.evict.hasSubscribers) channels.evict.publish({ keyHash: evicted.keyHash })
    return entry
  }

  * #everyEntry (): Generator<SessionEntry, void, undefined> {
    yield * this.#users.entries()
    yield * this.#barred.entries()
  }
}
