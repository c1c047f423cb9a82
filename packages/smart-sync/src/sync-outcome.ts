import { deepFreeze, type ActiveRecord, type SessionExtra, type SessionProfile, type UserRecord } from '@orientor/session-contract/core'
import { errors } from './errors.js'
import type { StoredUser } from './user-store.js'

/** Makes the app's own profile of the JSON object that is stored; null when nothing is stored. */
export type ParseProfile = (data: Readonly<Record<string, unknown>>) => SessionProfile

/** The record of a key that has no user. */
export const unknownUser: UserRecord = Object.freeze({ kind: 'unknown', revision: 0 })
/** A key whose user was deleted and left no row. */
export const deletedUser: UserRecord = Object.freeze({ kind: 'deleted', revision: 0 })

/**
 * The record of a stored row: deleted, inactive (by the app or by the provider), or active.
 *
 * @throws ORI_SYNC_PROFILE_REFUSED when `parseProfile` throws
 */
export function recordOf (stored: StoredUser, sync: ActiveRecord['sync'], parseProfile: ParseProfile | null): UserRecord {
  const { revision } = stored
  if (stored.deleted) return Object.freeze({ kind: 'deleted', revision })
  if (!stored.isActive || stored.blocked) return Object.freeze({ kind: 'inactive', revision })
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
    revision,
    sync,
    lastSyncedAtMs: stored.lastSyncedAtMs,
    tokensValidFromMs: stored.tokensValidFromMs,
    revokedSessions: stored.revokedSessions
  })
}

function profileOf ({ profile }: StoredUser, parseProfile: ParseProfile | null): SessionProfile | null {
  if (profile === null || parseProfile === null) return profile
  try {
    return parseProfile(profile)
  } catch (cause) {
    throw new errors.ProfileRefused({ cause })
  }
}
