import { SourceUnavailable, type Deadline, type SessionKey } from '@orientor/session-contract/core'
import { isNews } from './observation.js'
import { droppedSilently } from './row-refusal.js'
import { maxSessions } from './sql/ended-sessions.js'
import type { Refusal, StoredUser, UserKey, UserStore } from './user-store.js'
import type { UserUpdate } from './user-update.js'
import { writeInBatches, type BatchAnswer } from './write-in-batches.js'

/** An update and the row that it was compared with; null: there was none. */
export interface UpdateTask {
  readonly update: UserUpdate
  readonly stored: StoredUser | null
}

/** The outcome of one update. */
export type Applied =
  /** The row as it is now. `isSame`: its content is what it was, and its version or its sessions are new. */
  | { readonly kind: 'written', readonly user: StoredUser, readonly created: boolean, readonly isSame: boolean }
  /** It was no news: the row as it stands. */
  | { readonly kind: 'not_news', readonly user: StoredUser }
  /** The user was deleted and has no row. `readMark`: where it was looked for; undefined when not told. */
  | { readonly kind: 'tombstoned', readonly readMark: string | undefined }
  /** The user has no row, and none may be made. */
  | { readonly kind: 'unknown', readonly readMark: string | undefined }
  | Failed

/** The outcome of an update or a deletion that was not stored. */
export type Failed =
  /** Its data cannot be stored. `barred`: the row, which was barred all the same; null: it is as it was. */
  | { readonly kind: 'refused', readonly refusal: Refusal, readonly barred: StoredUser | null }
  /** Its key is one that no user can have here. */
  | { readonly kind: 'impossible', readonly refusal: Refusal }
  /** The database could not be had. */
  | { readonly kind: 'unavailable', readonly error: SourceUnavailable }
  /** The statement itself is at fault. */
  | { readonly kind: 'defect', readonly error: unknown }

/** The outcomes of a set of updates. */
export interface AppliedUpdates {
  /** One per update. */
  readonly byKey: ReadonlyMap<SessionKey, Applied>
  /** The number of users who were stored without their e-mail address, because another user has it. */
  readonly emailCollisions: number
}

/**
 * Stores updates: rows that are there by one kind of statement, rows that are to be made by another. A row whose
 * e-mail address is taken is stored without. Of a profile that is refused the provider's bar is stored all the same, and
 * nothing else of it: no user stays in by a name that does not fit. Never rejects: each update has an outcome of its own.
 *
 * @param tasks - one per user, none of them a deletion
 * @param syncedAtMs - when they were compared with the provider; null when they were not
 */
export async function applyUpdates (
  store: UserStore, tasks: readonly UpdateTask[], syncedAtMs: number | null, deadline: Deadline
): Promise<AppliedUpdates> {
  const stored = new Map(tasks.map(({ update, stored }) => [update.key, stored]))
  const byKey = new Map<SessionKey, Applied>()
  let emailCollisions = 0

  /** Answers with the updates of users whose row is not there any more. */
  async function pass (updates: readonly UserUpdate[], creates: boolean): Promise<readonly UserUpdate[]> {
    const vanished: UserUpdate[] = []
    const given = new Map(updates.map(update => [update.key, update]))
    const write = async (batch: readonly UserUpdate[]): Promise<BatchAnswer<Applied>> => {
      const answer = await store.write(batch, { syncedAtMs, creates }, deadline)
      if (answer.kind === 'refused') return answer
      const outcomes = new Map<SessionKey, Applied>()
      for (const [key, { user, created }] of answer.written) {
        const isSame = !created && user.fingerprint === (stored.get(key)?.fingerprint ?? null)
        outcomes.set(key, { kind: 'written', user, created, isSame })
      }
      const silent = batch.filter(({ key }) => !answer.written.has(key))
      if (silent.length === 0) return { kind: 'done', outcomes }
      const { users, absentMarks } = await store.find(silent, deadline)
      const absent = silent.filter(({ key }) => !users.has(key))
      const stones = creates && absent.length > 0 ? await store.tombstonesOf(absent, deadline) : new Set<SessionKey>()
      for (const update of silent) {
        const { key } = update
        const user = users.get(key)
        const readMark = absentMarks?.get(key)
        if (user !== undefined) outcomes.set(key, isStillNews(update, user) ? notStored(dropped) : { kind: 'not_news', user })
        else if (creates) outcomes.set(key, stones.has(key) ? { kind: 'tombstoned', readMark } : notStored(dropped))
        else if (store.mayCreate?.(update) === false) outcomes.set(key, { kind: 'unknown', readMark })
        else vanished.push(given.get(key)!)
      }
      return { kind: 'done', outcomes }
    }
    /** Users whose e-mail address another row has: the row may be of this batch, and give it up. */
    const contested: UserUpdate[] = []
    const refused = (update: UserUpdate, refusal: Refusal): Applied | null => {
      if (!refusal.duplicate || emailOf(update) === null) return notStored(refusal)
      contested.push(update)
      return null
    }
    const { maxWrites } = store
    const outcomes = new Map(await writeInBatches(updates, { maxWrites, write, refused, failed }))
    for (const update of contested) {
      const refusedAgain = (_update: UserUpdate, refusal: Refusal): Applied | null => {
        return refusal.duplicate ? null : notStored(refusal)
      }
      const [again] = (await writeInBatches([update], { maxWrites, write, refused: refusedAgain, failed })).values()
      if (again !== undefined) {
        outcomes.set(update.key, again)
        continue
      }
      const without = await writeInBatches([withoutEmail(update)], {
        maxWrites, write, refused: (_update, refusal): Applied => notStored(refusal), failed
      })
      for (const [key, outcome] of without) {
        outcomes.set(key, outcome)
        if (outcome.kind === 'written') emailCollisions++
      }
    }
    const bars = updates.filter(({ key, profile }) => {
      return outcomes.get(key)?.kind === 'refused' && profile?.profile.blocked === true
    }).map(barAlone)
    const asItIs = { maxWrites, write, refused: (_update: UserUpdate, refusal: Refusal) => notStored(refusal), failed }
    for (const [key, bar] of await writeInBatches(bars, asItIs)) {
      const refused = outcomes.get(key)!
      if (refused.kind === 'refused' && 'user' in bar) outcomes.set(key, { ...refused, barred: bar.user })
      else if (bar.kind === 'unavailable' || bar.kind === 'defect') outcomes.set(key, bar)
    }
    for (const [key, outcome] of outcomes) byKey.set(key as SessionKey, outcome)
    return vanished
  }

  /**
   * Marks the rows of users with a tombstone as deleted: an app that makes rows itself does not look for tombstones.
   * Answers with the tasks of the others.
   */
  async function withoutDeleted (): Promise<readonly UpdateTask[]> {
    // A row that was written here once was made by a transaction that saw none.
    const unwritten = tasks.filter(({ stored }) => stored !== null && stored.fingerprint === null)
    if (unwritten.length === 0) return tasks
    const stones = await store.tombstonesOf(unwritten.map(({ update }) => update), deadline)
    if (stones.size === 0) return tasks
    const deleted = unwritten.filter(({ update: { key } }) => stones.has(key))
    await markDeleted(deleted.map(({ update }) => update))
    for (const { update: { key }, stored } of deleted) byKey.set(key, { kind: 'not_news', user: { ...stored!, deleted: true } })
    return tasks.filter(({ update: { key } }) => !stones.has(key))
  }

  async function markDeleted (keys: readonly UserKey[]): Promise<void> {
    const sorted = keys.toSorted((a, b) => a.key < b.key ? -1 : 1)
    for (let start = 0; start < sorted.length; start += store.maxWrites) {
      await store.markDeleted(sorted.slice(start, start + store.maxWrites), deadline)
    }
  }

  const living = await withoutDeleted().catch((error: unknown): readonly UpdateTask[] => {
    for (const { update: { key } } of tasks) byKey.set(key, failed(error))
    return []
  })
  const vanished = await pass(living.filter(({ stored }) => stored !== null).map(({ update }) => update), false)
  await pass([...living.filter(({ stored }) => stored === null).map(({ update }) => update), ...vanished], true)
  return { byKey, emailCollisions }
}

const dropped = droppedSilently()

/**
 * Whether an update is news for a row that was read behind it: then the table dropped it without an error, since a later
 * write of others can only have made it older.
 */
function isStillNews ({ profile, endedSessions }: UserUpdate, user: StoredUser): boolean {
  if (user.deleted) return false
  const lacksSession = Object.keys(endedSessions ?? {}).some(id => !user.revokedSessions.includes(id))
  // Of so many only those are remembered whose tokens live longest.
  const isFull = user.revokedSessions.length >= maxSessions
  return (profile !== null && isNews(user, profile)) || (lacksSession && !isFull)
}

function emailOf ({ profile }: UserUpdate): string | null {
  return profile?.profile.email ?? null
}

/** The same user without an address, by a fingerprint below that with it: given once more, the address is tried again. */
function withoutEmail (update: UserUpdate): UserUpdate {
  const { profile: observed } = update
  if (observed === null) return update
  const { profile, fingerprint } = observed
  const below = `${fingerprint.slice(0, 2)}-${fingerprint.slice(2)}`
  return { ...update, profile: { ...observed, fingerprint: below, profile: { ...profile, email: null } } }
}

/**
 * The update of a barred user without the texts that the table refuses. It has the version and the fingerprint of the
 * whole, and is no less complete: so the row is the same, whatever came before and comes later.
 */
function barAlone (update: UserUpdate): UserUpdate {
  const nothing = { email: null, firstName: null, lastName: null, data: null, blocked: true }
  return { ...update, profile: { ...update.profile!, profile: nothing } }
}

/** The outcome for what the store could not be asked for, or refuses for what it was asked. */
export function failed (error: unknown): Failed {
  return error instanceof SourceUnavailable ? { kind: 'unavailable', error } : { kind: 'defect', error }
}

/** The outcome for data that was refused. */
export function notStored (refusal: Refusal): Failed {
  return refusal.isKeyRefused === true ? { kind: 'impossible', refusal } : { kind: 'refused', refusal, barred: null }
}
