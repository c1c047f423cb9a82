import {
  SourceUnavailable, sessionKeyHash, type ActiveRecord, type Clock, type Deadline, type Identity, type LoadRequest, type SessionKey, type UserChange,
  type UserRecord, type UserSource, type WatchedTable
} from '@orientor/session-contract/core'
import { applyObservations, type Applied } from './apply-observations.js'
import { isDue, needsSync } from './change-detection.js'
import { profileOfClaims, type ClaimNames } from './claims-profile.js'
import { errors } from './errors.js'
import { askProvider, providerTimestampOf, sightClaims, type Sighting } from './gather-observations.js'
import type { IdentityProvider } from './identity-provider.js'
import { isNews, isTooFarAhead, observe, type Observation } from './observation.js'
import { markedBy, recordOf, recordWithoutRow, type ParseProfile } from './sync-outcome.js'
import { SyncStats } from './sync-stats.js'
import type { StoredUser, UserStore } from './user-store.js'

/** Options of SmartDatabaseSync; the plugin fills in the defaults. */
export interface SmartDatabaseSyncOptions {
  readonly store: UserStore
  /** null: profiles come from the claims of the token. */
  readonly provider: IdentityProvider | null
  readonly claims: ClaimNames
  /** The time for which a row without news from the provider is taken as it is, in milliseconds. */
  readonly forceSyncAfterMs: number
  readonly parseProfile: ParseProfile | null
  readonly clock: Clock
  /** Resolves when the store can be asked. Default: at once. */
  readonly ready?: () => Promise<void>
}

/** A user that has to be compared with what is known elsewhere. */
interface Task {
  readonly request: LoadRequest
  readonly stored: StoredUser | null
  /** The read mark of the answer of the store (`UserRecord.readMark`); undefined: not told. */
  readonly readMark: string | undefined
}

/** An observation that is to be written. `doubt` says why it could not be had from where it should have come. */
interface Write {
  readonly task: Task
  readonly observation: Observation
  readonly doubt: SourceUnavailable | null
}

type Settle = (key: SessionKey, record: Promise<UserRecord>) => void

/**
 * The users table as a source of users, kept in step with the identity provider: reads first, asks the provider only
 * when `needsSync()` says so, writes only what is news.
 *
 * A batch costs one SELECT; its new and changed users one INSERT for every 200. A user whose row is up to date never
 * waits for another's provider. While the provider is down an existing row goes on, marked `failed`, and a user who is
 * seen for the first time gets a provisional row from the claims of the verified token, without a version, so that
 * whatever the provider says later replaces it. A user whom the provider does not know is `unknown`, and nothing is
 * written.
 */
export class SmartDatabaseSync implements UserSource {
  readonly stats: SyncStats = new SyncStats()
  readonly #options: SmartDatabaseSyncOptions
  readonly #listeners = new Set<(change: UserChange) => void>()
  #lastProviderFailure: Error | null = null

  constructor (options: SmartDatabaseSyncOptions) {
    this.#options = options
  }

  get watches (): readonly WatchedTable[] {
    return this.#options.store.watches
  }

  async ready (): Promise<void> {
    await this.#options.ready?.()
  }

  /** Why the provider could not be asked the last time; null when it could. */
  get lastProviderFailure (): Error | null {
    return this.#lastProviderFailure
  }

  /** News of what this instance wrote itself. */
  onChange (listener: (change: UserChange) => void): () => void {
    this.#listeners.add(listener)
    return () => { this.#listeners.delete(listener) }
  }

  load (batch: readonly LoadRequest[], deadline: Deadline): ReadonlyArray<Promise<UserRecord>> {
    if (batch.length === 0) return []
    const started = this.#start(oncePerKey(batch), deadline)
    return batch.map(async ({ key }) => await (await started).get(key)!)
  }

  /** One SELECT; then the rows that are up to date are answered, and the others put on their way. */
  async #start (requests: ReadonlyMap<SessionKey, LoadRequest>, deadline: Deadline): Promise<ReadonlyMap<SessionKey, Promise<UserRecord>>> {
    const { store, claims, provider, forceSyncAfterMs, clock } = this.#options
    const { users, absentMarks } = await store.find([...requests.values()], deadline).catch((error: unknown) => {
      this.stats.failed(error instanceof SourceUnavailable ? 'database' : 'defect', requests.size)
      throw error
    })
    const records = new Map<SessionKey, Promise<UserRecord>>()
    // Kept apart, so that what is fast or known does not wait for what is slow or new.
    const lanes = { claims: [] as Task[], known: [] as Task[], unknown: [] as Task[] }
    for (const [key, request] of requests) {
      const stored = users.get(key) ?? null
      const readMark = stored === null ? absentMarks?.get(key) : stored.readMark
      if (stored?.deleted === true) {
        this.stats.skipped('deleted')
        records.set(key, this.#record(stored, 'skipped'))
        continue
      }
      if (stored === null && store.mayCreate?.(request) === false) {
        this.stats.skipped('unknown')
        records.set(key, Promise.resolve(recordWithoutRow('unknown', readMark)))
        continue
      }
      const providerTimestamp = providerTimestampOf(request, claims)
      const decision = needsSync({ stored, providerTimestamp, nowMs: clock.now(), forceSyncAfterMs, force: request.force ?? false })
      if (stored !== null && !decision.sync) {
        this.stats.skipped(decision.reason)
        records.set(key, this.#record(stored, 'skipped'))
      } else if (provider?.serves(request.issuer) === true) {
        lanes[stored === null ? 'unknown' : 'known'].push({ request, stored, readMark })
      } else {
        lanes.claims.push({ request, stored, readMark })
      }
    }
    for (const [lane, tasks] of Object.entries(lanes)) {
      const synced = this.#sync(tasks, lane !== 'claims', deadline)
      for (const { request: { key } } of tasks) records.set(key, synced.then(async settled => await settled.get(key)!))
    }
    return records
  }

  /** Learns about the users, stores what is news, and answers for each. */
  async #sync (tasks: readonly Task[], fromProvider: boolean, deadline: Deadline): Promise<ReadonlyMap<SessionKey, Promise<UserRecord>>> {
    const settled = new Map<SessionKey, Promise<UserRecord>>()
    if (tasks.length === 0) return settled
    const settle: Settle = (key, record) => {
      // The request that asked for it gets the rejection, and may still be on its way.
      record.catch(() => {})
      settled.set(key, record)
    }
    const sightings = fromProvider ? await this.#ask(tasks, deadline) : this.#readClaims(tasks)
    const writes: Write[] = []
    const inStep: Task[] = []
    for (const task of tasks) {
      const sighting = this.#believed(sightings.get(task.request.key)!)
      if (sighting.kind === 'seen') {
        if (isNews(task.stored, sighting.observation)) writes.push({ task, observation: sighting.observation, doubt: null })
        else inStep.push(task)
      } else if (sighting.kind === 'failed') {
        const write = this.#withoutProvider(task, sighting, settle)
        if (write !== null) writes.push(write)
      } else {
        this.stats.skipped('unknown')
        settle(task.request.key, this.#unknown(task))
      }
    }
    await Promise.all([
      this.#write(writes.filter(({ doubt }) => doubt === null), settle, deadline),
      this.#write(writes.filter(({ doubt }) => doubt !== null), settle, deadline),
      this.#touch(inStep, settle, deadline)
    ])
    return settled
  }

  async #ask (tasks: readonly Task[], deadline: Deadline): Promise<ReadonlyMap<SessionKey, Sighting>> {
    const sightings = await askProvider(this.#options.provider!, tasks.map(({ request }) => request), this.#options.clock, deadline)
    const failure = [...sightings.values()].find(sighting => sighting.kind === 'failed')
    this.#lastProviderFailure = failure?.error ?? null
    return sightings
  }

  /** Without a token nothing new is known of a user: a row stands as it is, and no user is made up. */
  #readClaims (tasks: readonly Task[]): ReadonlyMap<SessionKey, Sighting> {
    return new Map(tasks.map(({ request }) => [request.key, sightClaims(request, this.#options.claims)]))
  }

  /** A version that cannot be believed makes the whole sighting a failure. */
  #believed (sighting: Sighting): Sighting {
    if (sighting.kind !== 'seen' || !isTooFarAhead(sighting.observation.version, this.#options.clock.now())) return sighting
    return { kind: 'failed', error: new errors.FutureVersion() }
  }

  /** The provider could not be asked: an existing row goes on, a verified token makes a provisional one. */
  #withoutProvider (task: Task, { error, retryAfterMs }: Sighting & { kind: 'failed' }, settle: Settle): Write | null {
    this.stats.failed(error instanceof errors.FutureVersion ? 'future_version' : 'provider')
    const { request: { key, issuer, subject, identity }, stored } = task
    if (stored !== null) {
      settle(key, this.#record(stored, 'failed'))
      return null
    }
    const doubt = new SourceUnavailable('The identity provider could not be asked', { cause: error, ...(retryAfterMs === undefined ? {} : { retryAfterMs }) })
    if (identity === null) {
      settle(key, Promise.reject(doubt))
      return null
    }
    return { task, observation: observe(issuer, subject, profileOfClaims(identity.claims, this.#options.claims), null, false), doubt }
  }

  async #write (writes: readonly Write[], settle: Settle, deadline: Deadline): Promise<void> {
    if (writes.length === 0) return
    const { store, clock } = this.#options
    const syncedAtMs = writes[0]!.doubt === null ? clock.now() : null
    const { byKey, emailCollisions } = await applyObservations(store, writes.map(({ observation }) => observation), syncedAtMs, deadline)
    this.stats.collided(emailCollisions)
    for (const write of writes) settle(write.observation.key, this.#settled(write, byKey.get(write.observation.key)!))
  }

  async #settled ({ task: { stored, readMark }, observation: { key }, doubt }: Write, applied: Applied): Promise<UserRecord> {
    // What was written in doubt was counted as the provider's error already.
    const { stats } = this
    if (applied.kind === 'written') {
      if (applied.created) stats.created()
      if (doubt === null) stats.performed()
      this.#announce({ kind: 'user', keyHash: sessionKeyHash(key), revision: applied.user.revision })
      return await this.#record(applied.user, doubt === null ? 'performed' : 'failed')
    }
    if (applied.kind === 'kept' || applied.kind === 'gone') {
      if (doubt === null) stats.skipped(applied.kind === 'kept' ? 'converged' : 'deleted')
      return applied.kind === 'gone' ? recordWithoutRow('deleted', applied.readMark) : await this.#record(applied.user, doubt === null ? 'skipped' : 'failed')
    }
    if (applied.kind === 'impossible') {
      if (doubt === null) stats.failed('refused')
      return recordWithoutRow('unknown', readMark)
    }
    if (doubt === null) stats.failed(applied.kind === 'unavailable' ? 'database' : applied.kind)
    if (stored !== null && applied.kind !== 'defect') return await this.#record(stored, 'failed')
    throw applied.error
  }

  /**
   * Nothing new: where the force interval has passed, that is noted. A note that cannot be made is made the next time.
   */
  async #touch (tasks: readonly Task[], settle: Settle, deadline: Deadline): Promise<void> {
    const { store, clock, forceSyncAfterMs } = this.#options
    const nowMs = clock.now()
    const due = tasks.filter(({ stored }) => isDue(stored!.lastSyncedAtMs, nowMs, forceSyncAfterMs)).map(({ request }) => request)
    /** Those whose note could not be made; null: none could. */
    let refused: ReadonlySet<SessionKey> | null = null
    if (due.length > 0) {
      try {
        refused = await store.touch(due, nowMs, nowMs - forceSyncAfterMs, deadline)
      } catch (error) {
        if (!(error instanceof SourceUnavailable)) throw error
      }
    }
    for (const { request: { key }, stored } of tasks) {
      this.stats.skipped('confirmed')
      const isNoted = refused?.has(key) === false && isDue(stored!.lastSyncedAtMs, nowMs, forceSyncAfterMs)
      const now = isNoted ? { ...stored!, lastSyncedAtMs: nowMs } : stored!
      settle(key, this.#record(now, 'skipped'))
    }
  }

  async #unknown ({ request, stored, readMark }: Task): Promise<UserRecord> {
    if (stored === null) return recordWithoutRow('unknown', readMark)
    // Without a provider and without a token there is nothing that the row could be compared with.
    if (this.#options.provider?.serves(request.issuer) !== true) return await this.#record(stored, 'skipped')
    return { kind: 'unknown', revision: stored.revision, ...markedBy(readMark) }
  }

  async #record (stored: StoredUser, sync: ActiveRecord['sync']): Promise<UserRecord> {
    return recordOf(stored, sync, this.#options.parseProfile)
  }

  #announce (change: UserChange): void {
    for (const listener of this.#listeners) listener(change)
  }
}

/** Of several requests for one user in a batch: the newest identity, and forced if any is. */
function oncePerKey (batch: readonly LoadRequest[]): ReadonlyMap<SessionKey, LoadRequest> {
  const requests = new Map<SessionKey, LoadRequest>()
  for (const request of batch) {
    const other = requests.get(request.key)
    requests.set(request.key, other === undefined ? request : { ...request, identity: newest(other.identity, request.identity), force: other.force === true || request.force === true })
  }
  return requests
}

function newest (one: Identity | null, other: Identity | null): Identity | null {
  if (one === null || other === null) return one ?? other
  return (other.issuedAtMs ?? 0) >= (one.issuedAtMs ?? 0) ? other : one
}
