import { deepFreeze, type ActiveRecord, type SessionExtra, type SessionProfile, type UserRecord } from '@orientor/session-contract/core'
import { errors } from './errors.js'
import type { StoredUser } from './user-store.js'

/** Makes the app's own profile of the JSON object that is stored; null when nothing is stored. */
export type ParseProfile = (data: Readonly<Record<string, unknown>>) => SessionProfile

/**
 * The record of a key that has no row: `unknown`, or `deleted` when its user was.
 *
 * @param readMark - where the row was looked for; undefined: not told, or not looked for
 */
export function recordWithoutRow (kind: 'unknown' | 'deleted', readMark: string | undefined): UserRecord {
  return Object.freeze({ kind, revision: 0, ...markedBy(readMark) })
}

/**
 * The record of a stored row: deleted, inactive (by the app or by the provider), or active.
 *
 * @throws ORI_SYNC_PROFILE_REFUSED when `parseProfile` throws
 */
export function recordOf (stored: StoredUser, sync: ActiveRecord['sync'], parseProfile: ParseProfile | null): UserRecord {
  const read = { revision: stored.revision, ...markedBy(stored.readMark) }
  if (stored.deleted) return Object.freeze({ kind: 'deleted', ...read })
  if (!stored.isActive || stored.blocked) return Object.freeze({ kind: 'inactive', ...read })
  return deepFreeze({
    kind: 'active',
    user: {
      userId: stored.userId,
      issuer: stored.issuer,
      subject: stored.subject,
      email: stored.email,
      firstName: stored.firstName,
      lastName: stored.lastName,
      isActive: true,
      onboardingCompleted: stored.onboardingCompleted,
      providerUpdatedAt: stored.providerUpdatedAtMs,
      profile: profileOf(stored, parseProfile),
      extra: (stored.extra ?? {}) as SessionExtra
    },
    ...read,
    sync,
    lastSyncedAtMs: stored.lastSyncedAtMs,
    tokensValidFromMs: stored.tokensValidFromMs,
    revokedSessions: stored.revokedSessions
  })
}

/** The field of a record that says where it was read. */
export function markedBy (readMark: string | undefined): Pick<UserRecord, 'readMark'> {
  return readMark === undefined ? {} : { readMark }
}

function profileOf ({ profile }: StoredUser, parseProfile: ParseProfile | null): SessionProfile | null {
  if (profile === null || parseProfile === null) return profile
  try {
    return parseProfile(profile)
  } catch (cause) {
    throw new errors.ProfileRefused({ cause })
  }
}
