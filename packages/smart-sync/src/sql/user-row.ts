import { sessionKey, type WatchedTable } from '@orientor/session-contract/core'
import { bareTable, schemaOf } from '../table-names.js'
import type { StoredUser } from '../user-store.js'

/** What every statement that answers with users selects, of the row called `u`. Instants leave as milliseconds. */
export const userColumns = `u.id, u.issuer, u.clerk_user_id, u.email, u.first_name, u.last_name, u.profile_data,
  u.is_active IS NOT FALSE AS is_active, u.provider_blocked, u.onboarding_completed IS TRUE AS onboarding_completed,
  floor(extract(epoch FROM u.last_clerk_sync) * 1000) AS last_sync_ms,
  floor(extract(epoch FROM u.clerk_updated_at) * 1000) AS updated_ms,
  u.clerk_fingerprint,
  floor(extract(epoch FROM u.tokens_valid_from) * 1000) AS valid_from_ms,
  u.revoked_sessions, u.deleted_at IS NOT NULL AS deleted, u.revision`

/** What of the users table a load reads: the columns above, but for the time of the last sync, which changes no user. `harmless`: triggers of the app's own. */
export function watchedUsers (users: string, harmless: readonly string[]): WatchedTable {
  const schema = schemaOf(users)
  return Object.freeze({
    ...(schema === undefined ? {} : { schema }),
    table: bareTable(users),
    issuer: 'issuer',
    subject: 'clerk_user_id',
    revision: 'revision',
    columns: Object.freeze([
      'id', 'email', 'first_name', 'last_name', 'profile_data', 'is_active', 'provider_blocked', 'onboarding_completed', 'clerk_updated_at',
      'clerk_fingerprint', 'tokens_valid_from', 'revoked_sessions', 'deleted_at'
    ]),
    // The first counts the revision, and changes nothing else (migrations/001).
    harmlessTriggers: Object.freeze([`zz_${bareTable(users)}_revision`, ...harmless])
  })
}

/** A row as the server sends it: text, or null. */
export type UserRow = Readonly<Record<string, string | null>>

/** Reads a row selected as `userColumns`. */
export function userOfRow (row: UserRow): StoredUser {
  const issuer = row['issuer'] ?? ''
  const subject = row['clerk_user_id'] ?? ''
  return {
    key: sessionKey(issuer, subject),
    issuer,
    subject,
    userId: row['id'] ?? '',
    email: row['email'] ?? null,
    firstName: row['first_name'] ?? null,
    lastName: row['last_name'] ?? null,
    profile: objectOf(row['profile_data']),
    isActive: row['is_active'] === 't',
    blocked: row['provider_blocked'] === 't',
    onboardingCompleted: row['onboarding_completed'] === 't',
    lastSyncedAtMs: instantOf(row['last_sync_ms']),
    providerUpdatedAtMs: instantOf(row['updated_ms']),
    version: instantOf(row['updated_ms']),
    fingerprint: row['clerk_fingerprint'] ?? null,
    // 'infinity' revokes every token there will ever be.
    tokensValidFromMs: Math.min(Math.max(Number(row['valid_from_ms'] ?? 0), 0), Number.MAX_SAFE_INTEGER),
    revokedSessions: sessionsOf(row['revoked_sessions']),
    deleted: row['deleted'] === 't',
    revision: Number(row['revision'])
  }
}

function instantOf (text: string | null | undefined): number | null {
  const ms = Number(text ?? NaN)
  return Number.isFinite(ms) ? ms : null
}

/** Session ids by their expiry; a plain list, as a hand may write it, counts as well. */
function sessionsOf (json: string | null | undefined): readonly string[] {
  const value: unknown = JSON.parse(json ?? 'null')
  return Array.isArray(value) ? value.map(String) : Object.keys(value ?? {})
}

function objectOf (json: string | null | undefined): Record<string, unknown> | null {
  const value: unknown = JSON.parse(json ?? 'null')
  return typeof value === 'object' && !Array.isArray(value) ? value as Record<string, unknown> | null : null
}
