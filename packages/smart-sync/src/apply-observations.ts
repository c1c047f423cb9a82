import { SourceUnavailable, type Deadline, type SessionKey } from '@orientor/session-contract/core'
import type { Observation } from './observation.js'
import type { StoredUser, UserStore, WriteResult } from './user-store.js'

/** The outcome of one observation. */
export type Applied =
  | { readonly kind: 'written', readonly user: StoredUser, readonly created: boolean }
  /** It was no news: the row as it stands. */
  | { readonly kind: 'kept', readonly user: StoredUser }
  /** The user was deleted and has no row. `readMark`: where it was looked for; undefined when not told. */
  | { readonly kind: 'gone', readonly readMark: string | undefined }
  /** Its data cannot be stored. */
  | { readonly kind: 'refused', readonly error: Error }
  /** Its key is one that no user can have here. */
  | { readonly kind: 'impossible' }
  /** The database could not be had. */
  | { readonly kind: 'unavailable', readonly error: SourceUnavailable }
  /** The statement itself is at fault. */
  | { readonly kind: 'defect', readonly error: unknown }

/** The outcomes of a batch. */
export interface AppliedBatch {
  /** One per observation. */
  readonly byKey: ReadonlyMap<SessionKey, Applied>
  /** The number of users who were stored without their e-mail address, because another user has it. */
  readonly emailCollisions: number
}

/**
 * Stores observations: sorted by key, so that instances cannot deadlock, and as many a statement as the store takes.
 * When a statement is refused for its data it is halved until the culprit stands alone, and all others are
 * written; if its e-mail address is taken, it is stored without. Never rejects: each observation has an answer of its
 * own.
 *
 * @param observations - one per key
 * @param syncedAtMs - when they were compared with the provider; null when they were not
 */
export async function applyObservations (
  store: UserStore, observations: readonly Observation[], syncedAtMs: number | null, deadline: Deadline
): Promise<AppliedBatch> {
  const byKey = new Map<SessionKey, Applied>()
  let emailCollisions = 0

  const sorted = observations.toSorted((a, b) => a.key < b.key ? -1 : 1)
  for (let start = 0; start < sorted.length; start += store.maxWrites) {
    await guarded(sorted.slice(start, start + store.maxWrites))
  }
  return { byKey, emailCollisions }

  async function guarded (chunk: readonly Observation[]): Promise<void> {
    try {
      await write(chunk)
    } catch (error) {
      const isOutage = error instanceof SourceUnavailable
      const answer: Applied = isOutage ? { kind: 'unavailable', error } : { kind: 'defect', error }
      for (const { key } of chunk) if (!byKey.has(key)) byKey.set(key, answer)
    }
  }

  async function write (chunk: readonly Observation[]): Promise<void> {
    const result = await store.write(chunk, syncedAtMs, deadline)
    if (result.kind === 'refused') {
      await isolate(chunk, result)
      return
    }
    for (const [key, { user, created }] of result.written) byKey.set(key, { kind: 'written', user, created })
    const silent = chunk.filter(({ key }) => !result.written.has(key))
    if (silent.length === 0) return
    const { users, absentMarks } = await store.find(silent, deadline)
    for (const { key } of silent) {
      const user = users.get(key)
      byKey.set(key, user === undefined ? { kind: 'gone', readMark: absentMarks?.get(key) } : { kind: 'kept', user })
    }
  }

  async function isolate (chunk: readonly Observation[], refusal: WriteResult & { kind: 'refused' }): Promise<void> {
    const { duplicate, isKeyRefused = false, error } = refusal
    const [first] = chunk
    if (chunk.length > 1) {
      const middle = Math.ceil(chunk.length / 2)
      await guarded(chunk.slice(0, middle))
      await guarded(chunk.slice(middle))
    } else if (first !== undefined && duplicate && first.profile.email !== null) {
      await write([{ ...first, profile: { ...first.profile, email: null } }])
      if (byKey.get(first.key)?.kind === 'written') emailCollisions++
    } else if (first !== undefined) {
      byKey.set(first.key, isKeyRefused ? { kind: 'impossible' } : { kind: 'refused', error })
    }
  }
}
