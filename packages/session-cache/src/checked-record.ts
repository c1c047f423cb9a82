import { deepFreeze, type LoadedUser, type LoadRequest, type SessionUser, type UserRecord } from '@orientor/session-contract/core'
import { errors } from './errors.js'

type Unchecked = Readonly<Record<string, unknown>>

/**
 * What a source answered, frozen, once it is known to be a record of the user that was asked for. Of the user only what the contract
 * names is taken over, with the texts of the request in place of their equals.
 *
 * @throws ORI_CACHE_MALFORMED_RECORD naming the field and its rule, never a value
 */
export function checkedRecord (value: unknown, request: LoadRequest): UserRecord {
  const flaw = recordFlaw(value, request)
  if (flaw !== null) throw new errors.MalformedRecord(flaw)
  const record = value as UserRecord
  return deepFreeze(record.kind === 'active' ? { ...record, user: userOf(record.user, request) } : record)
}

function userOf (user: LoadedUser, { issuer, subject }: LoadRequest): SessionUser {
  const { userId, email, firstName, lastName, isActive, onboardingCompleted, providerUpdatedAt, profile, extra = {} } = user
  return { userId, issuer, subject, email, firstName, lastName, isActive, onboardingCompleted, providerUpdatedAt, profile, extra }
}

function recordFlaw (value: unknown, request: LoadRequest): string | null {
  if (!isObject(value)) return 'it is not an object'
  const { kind, revision, readMark } = value
  if (!Number.isSafeInteger(revision) || (revision as number) < 0) return 'revision must be a whole number of at least 0'
  if (readMark !== undefined && typeof readMark !== 'string') return 'readMark must be a string, or be left out'
  if (kind === 'inactive' || kind === 'deleted' || kind === 'unknown') return null
  if (kind !== 'active') return 'kind must be active, inactive, deleted or unknown'
  return activeFlaw(value) ?? userFlaw(value['user'], request)
}

function activeFlaw (record: Unchecked): string | null {
  const { sync, lastSyncedAtMs, tokensValidFromMs, revokedSessions } = record
  if (sync !== 'performed' && sync !== 'skipped' && sync !== 'failed') return 'sync must be performed, skipped or failed'
  if (!isInstantOrNull(lastSyncedAtMs)) return 'lastSyncedAtMs must be a finite number or null'
  if (!isInstantOrNull(tokensValidFromMs) || tokensValidFromMs === null) return 'tokensValidFromMs must be a finite number'
  if (!Array.isArray(revokedSessions) || !revokedSessions.every(session => typeof session === 'string')) return 'revokedSessions must be a list of strings'
  return null
}

function userFlaw (user: unknown, request: LoadRequest): string | null {
  if (!isObject(user)) return 'user must be an object'
  if (typeof user['userId'] !== 'string' || user['userId'] === '') return 'user.userId must be a non-empty string'
  if (user['issuer'] !== request.issuer || user['subject'] !== request.subject) return 'user.issuer and user.subject must be those of the request'
  if (user['isActive'] !== true) return 'user.isActive must be true in an active record'
  if (typeof user['onboardingCompleted'] !== 'boolean') return 'user.onboardingCompleted must be true or false'
  for (const name of ['email', 'firstName', 'lastName']) {
    if (user[name] !== null && typeof user[name] !== 'string') return `user.${name} must be a string or null`
  }
  if (!isInstantOrNull(user['providerUpdatedAt'])) return 'user.providerUpdatedAt must be a finite number or null'
  if (user['profile'] !== null && !isObject(user['profile'])) return 'user.profile must be an object or null'
  if (user['extra'] !== undefined && !isObject(user['extra'])) return 'user.extra must be an object, or be left out'
  return null
}

function isObject (value: unknown): value is Unchecked {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function isInstantOrNull (value: unknown): boolean {
  return value === null || Number.isFinite(value)
}
