import {
  pause, SourceUnavailable, startDeadline, type ActiveRecord, type Clock, type Deadline, type LoadRequest,
  type SessionKey, type UserRecord
} from '@orientor/session-contract/core'
import type { Applied } from './apply-updates.js'
import { needsSync } from './change-detection.js'
import { profileOfClaims, type ClaimNames } from './claims-profile.js'
import { errors } from './errors.js'
import {
  askProvider, priorityOfLoad, providerTimestampOf, readClaims, type LookUpResult
} from './gather-observations.js'
import type { IdentityProvider, LookUpPriority } from './identity-provider.js'
import { ProviderWatch, type ProviderLog } from './provider-watch.js'
import { isNews, isTooFarAhead, observe, type ProfileObserved } from './observation.js'
import { oncePerKey } from './once-per-key.js'
import type { SyncStats } from './sync-stats.js'
import { markedBy, recordOf, recordWithoutRow, type ParseProfile } from './user-record.js'
import type { StoredUser, UserStore } from './user-store.js'
import { profileUpdate } from './user-update.js'
import type { UserWriter } from './user-writer.js'

/** Options of RequestLane. */
export interface RequestLaneOptions {
  readonly store: UserStore
  readonly writer: UserWriter
  readonly stats: SyncStats
  /** null: profiles come from the claims of the token. */
  readonly provider: IdentityProvider | null
  readonly claims: ClaimNames
  /** The time for which a row without news from the provider is taken as it is, in milliseconds. */
  readonly forceSyncAfterMs: number
  readonly parseProfile: ParseProfile | null
  readonly clock: Clock
  /** Default: none. */
  readonly log?: ProviderLog | undefined
}

/** A user that has to be compared with what is known elsewhere. */
interface Task {
  readonly request: LoadRequest
  readonly stored: StoredUser | null
  /** The read mark of the answer of the store (`UserRecord.readMark`); undefined: not told. */
  readonly readMark: string | undefined
}

/** A profile that is to be written. `providerError`: why the provider could not be asked; null when it was. */
interface Write {
  readonly task: Task
  readonly observed: ProfileObserved
  readonly providerError: SourceUnavailable | null
}

/**
 * The ways in which users are compared: with the claims of their token, or with the provider's answer, for which those
 * who have a row wait briefly, others as long as there is time (`patient`), and those whom no request waits for behind
 * all (`backfill`).
 */
type Comparison = 'claims' | 'brief' | 'patient' | 'backfill'

type Records = ReadonlyMap<SessionKey, Promise<UserRecord>>
type Settle = (key: SessionKey, record: Promise<UserRecord>) => void

/** The longest that a user who has a row waits for the provider, in milliseconds; the look-up then goes on behind. */
const providerPatienceMs = 75
/** The time that a look-up behind, and the write that follows it, may take together, in milliseconds. */
const behindPatienceMs = 10_000

/**
 * The way of a request: reads the rows first, asks the provider only when needsSync() says so, and writes only what is
 * news.
 *
 * A batch costs one SELECT; its new and its changed users one statement for every 200. A user whose row is up to date
 * never waits for another's provider, and one who has a row at most 75 ms for their own: they are answered as stored
 * then, and the look-up goes on behind. While the provider is down an existing row goes on, marked `failed`, and a user
 * who is seen for the first time gets a provisional row from the claims of the verified token, without a version, so
 * that whatever the provider says later replaces it. A user whom the provider does not know is `unknown`, and nothing
 * is written.
 */
export class RequestLane {
  readonly #options: RequestLaneOptions
  /** The users whose look-up goes on behind, and the work of each. */
  readonly #behind = new Map<SessionKey, Promise<unknown>>()
  /** The look-ups that closing gives up; each leaves when it has ended, so that none is held for the life of the app. */
  readonly #asking = new Set<AbortController>()
  #isClosed = false
  readonly #watch: ProviderWatch
  #isForeignTold = false

  constructor (options: RequestLaneOptions) {
    this.#options = options
    this.#watch = new ProviderWatch(options.log, options.clock)
  }

  /** The reason why the provider could not be asked the last time; null when it could. */
  get lastProviderFailure (): Error | null {
    return this.#watch.failure
  }

  /** Resolves when no look-up goes on behind. */
  async idle (): Promise<void> {
    while (this.#behind.size > 0) await Promise.all(this.#behind.values())
  }

  /** Gives up the look-ups that go on behind, and waits for what they are writing. */
  async close (): Promise<void> {
    this.#isClosed = true
    for (const asking of this.#asking) asking.abort()
    await this.idle()
  }

  load (batch: readonly LoadRequest[], deadline: Deadline): ReadonlyArray<Promise<UserRecord>> {
    if (batch.length === 0) return []
    const started = this.#start(oncePerKey(batch), deadline)
    return batch.map(async ({ key }) => await (await started).get(key)!)
  }

  /** One SELECT; then the rows that are up to date are answered, and the others put on their way. */
  async #start (requests: ReadonlyMap<SessionKey, LoadRequest>, deadline: Deadline): Promise<Records> {
    const { store, stats } = this.#options
    const { users, absentMarks } = await store.find([...requests.values()], deadline).catch((error: unknown) => {
      stats.failed(error instanceof SourceUnavailable ? 'database' : 'defect', requests.size)
      throw error
    })
    const records = new Map<SessionKey, Promise<UserRecord>>()
    // Kept apart, so that what is fast, or has a row, does not wait for what is slow or new.
    const compared: Record<Comparison, Task[]> = { claims: [], brief: [], patient: [], backfill: [] }
    for (const [key, request] of requests) {
      const stored = users.get(key) ?? null
      const task: Task = { request, stored, readMark: stored === null ? absentMarks?.get(key) : stored.readMark }
      const way = this.#sorted(task)
      if (typeof way === 'string') compared[way].push(task)
      else records.set(key, way)
    }
    const { claims, brief, patient, backfill } = compared
    const askFully = async (tasks: readonly Task[]): Promise<Records> => {
      return await this.#conclude(tasks, await this.#ask(tasks, deadline), deadline)
    }
    const work: ReadonlyArray<readonly [readonly Task[], () => Promise<Records>]> = [
      [claims, async () => await this.#conclude(claims, this.#readClaims(claims), deadline)],
      [brief, async () => await this.#askBriefly(brief)],
      [patient, async () => await askFully(patient)],
      [backfill, async () => await askFully(backfill)]
    ]
    for (const [tasks, begin] of work) {
      if (tasks.length === 0) continue
      const settled = begin()
      for (const { request: { key } } of tasks) records.set(key, settled.then(async all => await all.get(key)!))
    }
    return records
  }

  /** The record of a user who needs no comparison, else the comparison that makes it. */
  #sorted ({ request, stored, readMark }: Task): Promise<UserRecord> | Comparison {
    const { store, claims, provider, forceSyncAfterMs, clock, stats } = this.#options
    const { force = false } = request
    if (stored?.deleted === true) {
      stats.skipped('deleted')
      return this.#record(stored, 'skipped')
    }
    if (store.mayHold?.(request) === false) this.#tellForeign(request)
    if (stored === null && store.mayCreate?.(request) === false) {
      stats.skipped('unknown')
      return Promise.resolve(recordWithoutRow('unknown', readMark))
    }
    const providerTimestamp = providerTimestampOf(request, claims)
    const decision = needsSync({ stored, providerTimestamp, nowMs: clock.now(), forceSyncAfterMs, force })
    if (stored !== null && !decision.sync) {
      stats.skipped(decision.reason)
      return this.#record(stored, 'skipped')
    }
    if (provider?.serves(request.issuer) !== true) return 'claims'
    if (priorityOfLoad(request) === 'backfill') return 'backfill'
    return stored === null || force ? 'patient' : 'brief'
  }

  /** Tells the log once of a token of another issuer than that of all rows: most often the option is not to the letter. */
  #tellForeign ({ issuer }: LoadRequest): void {
    if (this.#isForeignTold) return
    this.#isForeignTold = true
    this.#options.log?.warn({ issuer }, 'smart-sync: a token is of another issuer than the one that the option "issuer" ' +
      'gives to all rows; users of others are unknown. The rule: it is the "iss" of the tokens, to the letter')
  }

  /** Asks the provider about users who have a row; what it does not tell at once is learned behind. */
  async #askBriefly (tasks: readonly Task[]): Promise<Records> {
    const { clock } = this.#options
    const settled = new Map<SessionKey, Promise<UserRecord>>()
    // A user whose look-up goes on behind already is not asked for again.
    const free = tasks.filter(({ request: { key } }) => !this.#behind.has(key))
    const own = startDeadline(clock, behindPatienceMs)
    const closing = new AbortController()
    this.#asking.add(closing)
    if (this.#isClosed) closing.abort()
    const deadline: Deadline = { atMs: own.atMs, signal: AbortSignal.any([own.signal, closing.signal]) }
    const asking = this.#ask(free, deadline, () => 'webhook')
    const patience = new AbortController()
    const inTime = free.length === 0 || await Promise.race([
      asking.then(() => true), pause(clock, providerPatienceMs, patience.signal).then(() => false)
    ])
    patience.abort()
    const concluded = asking.then(async results => await this.#conclude(free, results, deadline))
      .finally(() => {
        own.release()
        this.#asking.delete(closing)
      })
    if (inTime) {
      for (const [key, record] of await concluded) settled.set(key, record)
    } else this.#goOnBehind(free, concluded)
    for (const { request: { key }, stored } of tasks) {
      if (!settled.has(key)) settled.set(key, this.#record(stored!, 'failed'))
    }
    return settled
  }

  /** Users who turn out to be unknown are announced: they were answered as stored. */
  #goOnBehind (tasks: readonly Task[], concluded: Promise<Records>): void {
    for (const { request: { key } } of tasks) {
      const work = concluded.then(async settled => await settled.get(key)!)
        .then(({ kind }) => { if (kind === 'unknown') this.#options.writer.announce(key, null) }, () => {})
        .finally(() => { this.#behind.delete(key) })
      this.#behind.set(key, work)
    }
  }

  /** Stores what is news, and answers for each user. */
  async #conclude (
    tasks: readonly Task[], results: ReadonlyMap<SessionKey, LookUpResult>, deadline: Deadline
  ): Promise<Records> {
    const settled = new Map<SessionKey, Promise<UserRecord>>()
    const settle: Settle = (key, record) => {
      // The request that asked for it gets the rejection, and may still be on its way.
      record.catch(() => {})
      settled.set(key, record)
    }
    const writes: Write[] = []
    const inStep: Task[] = []
    for (const task of tasks) {
      const result = this.#validated(results.get(task.request.key)!)
      if (result.kind === 'observed') {
        const { observation: observed } = result
        if (isNews(task.stored, observed)) writes.push({ task, observed, providerError: null })
        else inStep.push(task)
      } else if (result.kind === 'failed') {
        const write = this.#withoutProvider(task, result, settle)
        if (write !== null) writes.push(write)
      } else {
        this.#options.stats.skipped('unknown')
        settle(task.request.key, this.#unknown(task))
      }
    }
    await Promise.all([
      this.#write(writes.filter(({ providerError }) => providerError === null), settle, deadline),
      this.#write(writes.filter(({ providerError }) => providerError !== null), settle, deadline),
      this.#confirm(inStep, settle, deadline)
    ])
    return settled
  }

  /** @param priorityOf - default: as of a load */
  async #ask (
    tasks: readonly Task[], deadline: Deadline, priorityOf?: (request: LoadRequest) => LookUpPriority
  ): Promise<ReadonlyMap<SessionKey, LookUpResult>> {
    if (tasks.length === 0) return new Map()
    const { provider, clock } = this.#options
    const results = await askProvider(provider!, tasks.map(({ request }) => request), clock, deadline, priorityOf)
    const failure = [...results.values()].find(result => result.kind === 'failed')
    this.#watch.ended(failure?.error ?? null)
    return results
  }

  /** Without a token nothing new is known of a user: a row stands as it is, and no user is made up. */
  #readClaims (tasks: readonly Task[]): ReadonlyMap<SessionKey, LookUpResult> {
    return new Map(tasks.map(({ request }) => [request.key, readClaims(request, this.#options.claims)]))
  }

  /** A version that cannot be believed makes the whole result a failure. */
  #validated (result: LookUpResult): LookUpResult {
    const { clock } = this.#options
    if (result.kind !== 'observed' || !isTooFarAhead(result.observation.version, clock.now())) return result
    return { kind: 'failed', error: new errors.FutureVersion() }
  }

  /** The provider could not be asked: an existing row goes on, a verified token makes a provisional one. */
  #withoutProvider (
    task: Task, { error, retryAfterMs }: LookUpResult & { kind: 'failed' }, settle: Settle
  ): Write | null {
    const { stats, claims } = this.#options
    stats.failed(error instanceof errors.FutureVersion ? 'future_version' : 'provider')
    const { request: { key, issuer, subject, identity }, stored } = task
    if (stored !== null) {
      settle(key, this.#record(stored, 'failed'))
      return null
    }
    const later = retryAfterMs === undefined ? {} : { retryAfterMs }
    const providerError = new SourceUnavailable('The identity provider could not be asked', { cause: error, ...later })
    if (identity === null) {
      settle(key, Promise.reject(providerError))
      return null
    }
    const observed = observe(issuer, subject, profileOfClaims(identity.claims, claims), null, false)
    return { task, observed, providerError }
  }

  async #write (writes: readonly Write[], settle: Settle, deadline: Deadline): Promise<void> {
    if (writes.length === 0) return
    const { writer, clock } = this.#options
    const syncedAtMs = writes[0]!.providerError === null ? clock.now() : null
    const tasks = writes.map(({ task: { stored }, observed }) => ({ update: profileUpdate(observed), stored }))
    const byKey = await writer.update(tasks, syncedAtMs, { lane: 'request' }, deadline)
    for (const write of writes) settle(write.observed.key, this.#recordAfter(write, byKey.get(write.observed.key)!))
  }

  async #recordAfter ({ task: { stored, readMark }, providerError }: Write, applied: Applied): Promise<UserRecord> {
    const { stats } = this.#options
    // What was written without the provider was counted as its error already.
    const isCounted = providerError === null
    switch (applied.kind) {
      case 'written':
        if (isCounted) stats.performed()
        return await this.#record(applied.user, isCounted ? 'performed' : 'failed')
      case 'not_news':
        if (isCounted) stats.skipped('converged')
        return await this.#record(applied.user, isCounted ? 'skipped' : 'failed')
      case 'tombstoned':
        if (isCounted) stats.skipped('deleted')
        return recordWithoutRow('deleted', applied.readMark)
      case 'unknown':
        if (isCounted) stats.skipped('unknown')
        return recordWithoutRow('unknown', applied.readMark)
      case 'impossible':
        if (isCounted) stats.failed('refused')
        return recordWithoutRow('unknown', readMark)
    }
    if (isCounted) stats.failed(applied.kind === 'unavailable' ? 'database' : applied.kind)
    const standing = applied.kind === 'refused' ? applied.barred ?? stored : stored
    if (standing !== null && applied.kind !== 'defect') return await this.#record(standing, 'failed')
    throw applied.kind === 'refused' ? applied.refusal.error : applied.error
  }

  /** Answers for users of whom there is nothing new, and has that noted where it is due. */
  async #confirm (tasks: readonly Task[], settle: Settle, deadline: Deadline): Promise<void> {
    const { writer, clock, stats } = this.#options
    const nowMs = clock.now()
    const noted = await writer.touch(tasks.map(({ stored }) => stored!), nowMs, deadline)
    for (const { request: { key }, stored } of tasks) {
      stats.skipped('confirmed')
      settle(key, this.#record(noted.has(key) ? { ...stored!, lastSyncedAtMs: nowMs } : stored!, 'skipped'))
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
}
