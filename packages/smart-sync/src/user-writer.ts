import {
  sessionKeyHash, SourceUnavailable, type Deadline, type SessionKey, type UserChange
} from '@orientor/session-contract/core'
import { applyDeletions, type Removed } from './apply-deletions.js'
import { applyUpdates, type Applied, type UpdateTask } from './apply-updates.js'
import { isDue } from './change-detection.js'
import type { SyncStats } from './sync-stats.js'
import type { DeadLetter, DeletionPolicy, Lane, Refusal, StoredUser, UserKey, UserStore } from './user-store.js'
import type { UserUpdate } from './user-update.js'

/** The origin of what is written. */
export interface WriteOrigin {
  readonly lane: Lane
  /** The bytes as they were received, for a dead letter. Left out: the update as JSON. */
  readonly received?: Uint8Array | undefined
}

/** The most reasons that one line of the log tells. */
const maxReasons = 5

/** Options of UserWriter. */
export interface UserWriterOptions {
  readonly store: UserStore
  readonly stats: SyncStats
  readonly deletionPolicy: DeletionPolicy
  /** The time for which a row without news from the provider is taken as it is, in milliseconds. */
  readonly forceSyncAfterMs: number
  /** The log of what a person should look at. Default: none. */
  readonly log?: WriterLog | undefined
}

/** The log that is told of rows that are not as the provider has them; Fastify's logger fits. */
export interface WriterLog {
  warn (details: object, message: string): void
}

/** The most rows that are noted as in step by one statement. */
const maxTouches = 500

/**
 * The one place from which users are written, whatever the lane: stores updates and deletions, keeps what the table
 * refuses as dead letters, notes which rows are in step, counts rows made, and tells listeners what has changed.
 */
export class UserWriter {
  readonly #options: UserWriterOptions
  readonly #listeners = new Set<(change: UserChange) => void>()

  constructor (options: UserWriterOptions) {
    this.#options = options
  }

  /** Subscribes to what is written here; returns the function that ends the subscription. */
  onChange (listener: (change: UserChange) => void): () => void {
    this.#listeners.add(listener)
    return () => { this.#listeners.delete(listener) }
  }

  /** Tells listeners of a change of a user. `revision: null`: it is gone, or not known. */
  announce (key: SessionKey, revision: number | null): void {
    for (const listener of this.#listeners) listener({ kind: 'user', keyHash: sessionKeyHash(key), revision })
  }

  /**
   * Stores updates. Never rejects but where a dead letter of a webhook or a reconciliation cannot be kept: what such an
   * update says would be lost.
   *
   * @param syncedAtMs - when they were compared with the provider; null when they were not
   */
  async update (
    tasks: readonly UpdateTask[], syncedAtMs: number | null, origin: WriteOrigin, deadline: Deadline
  ): Promise<ReadonlyMap<SessionKey, Applied>> {
    const { store, stats, log } = this.#options
    const { byKey, emailCollisions } = await applyUpdates(store, tasks, syncedAtMs, deadline)
    stats.collided(emailCollisions)
    if (emailCollisions > 0) {
      log?.warn(
        { users: emailCollisions },
        'smart-sync: users were stored without their e-mail address, which another row has'
      )
    }
    const letters: DeadLetter[] = []
    for (const { update } of tasks) {
      const applied = byKey.get(update.key)!
      if (applied.kind === 'written') {
        if (applied.created) stats.created()
        this.announce(update.key, applied.user.revision)
      } else if (applied.kind === 'not_news' && origin.lane !== 'request') {
        // An earlier attempt may have written it, whose answer was lost.
        this.announce(update.key, applied.user.revision)
      } else if (applied.kind === 'refused' || applied.kind === 'impossible') {
        letters.push(letterOf(update, applied.refusal, origin))
        if (applied.kind === 'refused' && applied.barred !== null) this.announce(update.key, applied.barred.revision)
      }
    }
    await this.keep(letters, origin, deadline)
    return byKey
  }

  /** Stores deletions. Rejects as update() does. */
  async remove (
    keys: readonly UserKey[], origin: WriteOrigin, deadline: Deadline
  ): Promise<ReadonlyMap<string, Removed>> {
    const { store, deletionPolicy } = this.#options
    const removed = await applyDeletions(store, keys, deletionPolicy, deadline)
    const letters: DeadLetter[] = []
    for (const user of keys) {
      const outcome = removed.get(user.key)!
      if (outcome.kind === 'removed') this.announce(user.key, outcome.marked?.revision ?? null)
      const refusal = 'refusal' in outcome ? outcome.refusal : null
      if (refusal !== null) letters.push(letterOf(user, refusal, origin))
    }
    await this.keep(letters, origin, deadline)
    return removed
  }

  /**
   * Notes that rows are in step, where the force interval has passed, and answers with the users of whom that was
   * noted. A note that cannot be made is made the next time.
   */
  async touch (users: readonly StoredUser[], nowMs: number, deadline: Deadline): Promise<ReadonlySet<SessionKey>> {
    const { store, forceSyncAfterMs } = this.#options
    const due = users.filter(({ lastSyncedAtMs }) => isDue(lastSyncedAtMs, nowMs, forceSyncAfterMs))
    const noted = new Set<SessionKey>()
    try {
      for (let start = 0; start < due.length; start += maxTouches) {
        const batch = due.slice(start, start + maxTouches)
        const refused = await store.touch(batch, nowMs, nowMs - forceSyncAfterMs, deadline)
        for (const { key } of batch) if (!refused.has(key)) noted.add(key)
      }
    } catch (error) {
      if (!(error instanceof SourceUnavailable)) throw error
    }
    return noted
  }

  /** Keeps dead letters. Of a request they are kept as far as possible: its user is answered all the same. */
  async keep (letters: readonly DeadLetter[], { lane }: Pick<WriteOrigin, 'lane'>, deadline: Deadline): Promise<void> {
    if (letters.length === 0) return
    const { store, stats, log } = this.#options
    try {
      await store.keepDeadLetters(letters, deadline)
      stats.deadLettered(letters.length)
      const reasons = [...new Set(letters.map(({ reason }) => reason))].slice(0, maxReasons)
      const told = { letters: letters.length, lane, reasons }
      log?.warn(told, 'smart-sync: what cannot be stored was kept in the table of dead letters')
    } catch (error) {
      if (lane !== 'request') throw error
    }
  }
}

function letterOf (user: UserKey | UserUpdate, refusal: Refusal, { lane, received }: WriteOrigin): DeadLetter {
  const { issuer, subject } = user
  const { sqlState = null, error: { message: reason } } = refusal
  return { lane, issuer, subject, received: received ?? jsonBytes(user), sqlState, reason }
}

function jsonBytes (user: UserKey | UserUpdate): Uint8Array {
  return Buffer.from(JSON.stringify({ ...user, key: undefined }), 'utf8')
}
