import { SourceUnavailable, type Clock, type Deadline, type SessionKey } from '@orientor/session-contract/core'
import type { Removed } from './apply-deletions.js'
import type { Applied, Failed, UpdateTask } from './apply-updates.js'
import { errors } from './errors.js'
import { checkObservation, isNews, isTooFarAhead, type Observation } from './observation.js'
import type { SyncOutcome } from './sync-outcome.js'
import type { SyncStats } from './sync-stats.js'
import type { Lane, StoredUser, UserKey, UserStore } from './user-store.js'
import { joinedByUser, type UserUpdate } from './user-update.js'
import type { UserWriter, WriteOrigin } from './user-writer.js'

/** Options of ObservationApplier. */
export interface ObservationApplierOptions {
  readonly store: UserStore
  readonly writer: UserWriter
  readonly stats: SyncStats
  readonly clock: Clock
}

/** The circumstances of apply(). */
export interface ApplyOptions {
  readonly deadline: Deadline
  /** The way that the observations came. Default is `reconciliation`. */
  readonly lane?: Lane
  /** The bytes that they were read from, for a dead letter. Left out: each as JSON. */
  readonly received?: Uint8Array
}

/** Something that was received and cannot be read as an observation. */
export interface UnreadableLetter {
  readonly lane: Lane
  readonly issuer: string
  /** null: it cannot be told whom it is about. */
  readonly subject: string | null
  readonly received: Uint8Array
  /** The reason, without any value of it. */
  readonly reason: string
}

/** The most users that are looked for by one statement. */
const maxFinds = 500

/** The way of what was learned of users, whatever the lane, into the table: joined by user, compared, and stored. */
export class ObservationApplier {
  readonly #options: ObservationApplierOptions

  constructor (options: ObservationApplierOptions) {
    this.#options = options
  }

  /** Stores observations; see SmartDatabaseSync.apply(). */
  async apply (
    observations: readonly Observation[], { deadline, lane = 'reconciliation', received }: ApplyOptions
  ): Promise<readonly SyncOutcome[]> {
    for (const observation of observations) checkObservation(observation)
    const nowMs = this.#options.clock.now()
    const origin: WriteOrigin = { lane, received }
    const outcomes = new Map<Observation, SyncOutcome>()
    const future = observations.filter(observation => {
      return observation.kind === 'profile' && isTooFarAhead(observation.version, nowMs)
    })
    for (const [observation, outcome] of await this.#keptAsFuture(future, origin, deadline)) {
      outcomes.set(observation, outcome)
    }
    let left = observations.filter(observation => !outcomes.has(observation))
    while (left.length > 0) {
      const updates = joinedByUser(left)
      const stored = await this.#stored([...updates.values()], nowMs, origin, deadline)
      const again: Observation[] = []
      for (const observation of left) {
        const { profile, isDeleted } = updates.get(observation.key)!
        const outcome = stored.get(observation.key)!
        const isHighest = observation.kind !== 'profile' || observation === profile
        // What is refused is the profile: it must not take what else was learned of the user along.
        const isInnocent = outcome.kind === 'dead_lettered' && profile !== null && !isDeleted && observation !== profile
        if (isInnocent) again.push(observation)
        else outcomes.set(observation, isHighest ? outcome : beside(outcome))
      }
      left = again
    }
    return observations.map(observation => outcomes.get(observation)!)
  }

  /** Keeps what cannot be read; see SmartDatabaseSync.deadLetter(). */
  async deadLetter (letter: UnreadableLetter, deadline: Deadline): Promise<void> {
    await this.#options.writer.keep([{ ...letter, sqlState: null }], letter, deadline)
    this.#options.stats.failed('unreadable')
  }

  /** The outcomes of profiles that date a user too far ahead: each is a dead letter. */
  async #keptAsFuture (
    observations: readonly Observation[], { lane, received }: WriteOrigin, deadline: Deadline
  ): Promise<ReadonlyMap<Observation, SyncOutcome>> {
    const error = new errors.FutureVersion()
    await this.#options.writer.keep(observations.map(({ key: _key, ...observation }) => {
      const bytes = received ?? Buffer.from(JSON.stringify(observation))
      const { issuer, subject } = observation
      return { lane, issuer, subject, received: bytes, sqlState: null, reason: error.message }
    }), { lane }, deadline)
    this.#options.stats.failed('future_version', observations.length)
    return new Map(observations.map(observation => [observation, { kind: 'dead_lettered', error }]))
  }

  async #stored (
    updates: readonly UserUpdate[], nowMs: number, origin: WriteOrigin, deadline: Deadline
  ): Promise<ReadonlyMap<SessionKey, SyncOutcome>> {
    const { stats } = this.#options
    const outcomes = new Map<SessionKey, SyncOutcome>()
    const ours = updates.filter(user => this.#options.store.mayHold?.(user) !== false)
    const deletions = ours.filter(({ isDeleted }) => isDeleted)
    const living = ours.filter(({ isDeleted }) => !isDeleted)
    for (const { key } of updates) outcomes.set(key, { kind: 'unknown' })
    stats.skipped('unknown', updates.length - ours.length)
    const rows = await this.#find(living, deadline)
    const news: UpdateTask[] = []
    const inStep: StoredUser[] = []
    for (const joined of living) {
      const { key } = joined
      const stored = rows.get(key) ?? null
      const update = relevantPart(joined, stored, nowMs)
      if (stored?.deleted === true) {
        stats.skipped('deleted')
        outcomes.set(key, { kind: 'tombstoned' })
      } else if (stored === null && (update === null || this.#options.store.mayCreate?.(joined) === false)) {
        stats.skipped('unknown')
      } else if (update !== null) {
        news.push({ update, stored })
      } else {
        const outcome = comparedOutcome(joined, stored!)
        stats.skipped(outcome.kind === 'outdated' ? 'outdated' : 'confirmed')
        outcomes.set(key, outcome)
        if (outcome.kind === 'unchanged' && joined.profile !== null) inStep.push(stored!)
      }
    }
    const applied = await this.#options.writer.update(news, nowMs, origin, deadline)
    const removed = await this.#options.writer.remove(deletions, origin, deadline)
    await this.#options.writer.touch(inStep, nowMs, deadline)
    for (const { update } of news) outcomes.set(update.key, this.#outcomeOf(update, applied.get(update.key)!))
    for (const [key, outcome] of removed) outcomes.set(key as SessionKey, this.#outcomeOfRemoval(outcome))
    return outcomes
  }

  async #find (keys: readonly UserKey[], deadline: Deadline): Promise<ReadonlyMap<SessionKey, StoredUser>> {
    const rows = new Map<SessionKey, StoredUser>()
    try {
      for (let start = 0; start < keys.length; start += maxFinds) {
        const { users } = await this.#options.store.find(keys.slice(start, start + maxFinds), deadline)
        for (const [key, user] of users) rows.set(key, user)
      }
      return rows
    } catch (error) {
      this.#options.stats.failed(error instanceof SourceUnavailable ? 'database' : 'defect', keys.length)
      throw error
    }
  }

  #outcomeOf (update: UserUpdate, applied: Applied): SyncOutcome {
    const { stats } = this.#options
    switch (applied.kind) {
      case 'written': {
        stats.performed()
        const { user, created, isSame } = applied
        const isUnchanged = isSame && update.endedSessions === null
        return { kind: created ? 'created' : isUnchanged ? 'unchanged' : 'updated', user }
      }
      case 'not_news':
        stats.skipped(applied.user.deleted ? 'deleted' : 'converged')
        return applied.user.deleted ? { kind: 'tombstoned' } : comparedOutcome(update, applied.user)
      case 'tombstoned':
        stats.skipped('deleted')
        return { kind: 'tombstoned' }
      case 'unknown':
        stats.skipped('unknown')
        return { kind: 'unknown' }
      default:
        return this.#outcomeOfFailure(applied)
    }
  }

  #outcomeOfRemoval (removed: Removed): SyncOutcome {
    if (removed.kind !== 'removed') return this.#outcomeOfFailure(removed)
    if (removed.refusal !== null) {
      this.#options.stats.failed('refused')
      return { kind: 'dead_lettered', error: removed.refusal.error }
    }
    this.#options.stats.performed()
    return { kind: 'tombstoned' }
  }

  /** @throws the failure of the database, or the defect: what was not stored must not be taken for stored */
  #outcomeOfFailure (failure: Failed): SyncOutcome {
    if (failure.kind === 'refused' || failure.kind === 'impossible') {
      this.#options.stats.failed('refused')
      return { kind: 'dead_lettered', error: failure.refusal.error }
    }
    this.#options.stats.failed(failure.kind === 'unavailable' ? 'database' : 'defect')
    throw failure.error
  }
}

/** The part of an update that is news for a row; null: nothing is. Of sessions, those whose tokens may still live. */
function relevantPart (update: UserUpdate, stored: StoredUser | null, nowMs: number): UserUpdate | null {
  const profile = update.profile !== null && isNews(stored, update.profile) ? update.profile : null
  const living = Object.entries(update.endedSessions ?? {}).filter(([, untilMs]) => untilMs > nowMs)
  const endedSessions = living.length > 0 ? Object.fromEntries(living) : null
  return profile === null && endedSessions === null ? null : { ...update, profile, endedSessions }
}

/** The outcome of a profile beside which a higher one of the same user was applied. */
function beside (outcome: SyncOutcome): SyncOutcome {
  return 'user' in outcome ? { kind: 'outdated', user: outcome.user } : outcome
}

/** The outcome of an update beside the row that stands. */
function comparedOutcome ({ profile }: UserUpdate, user: StoredUser): SyncOutcome {
  const isSame = profile === null || profile.fingerprint === user.fingerprint
  return { kind: isSame ? 'unchanged' : 'outdated', user }
}
