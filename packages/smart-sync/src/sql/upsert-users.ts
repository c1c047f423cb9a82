import type { Observation } from '../observation.js'
import { quotedTable, type TableNames } from '../table-names.js'
import { statement, type Statement } from './statement.js'
import { userColumns } from './user-row.js'

/**
 * Inserts or updates users whose observation is news, by the rule of isNews(), and answers with those. Rows are locked in the order given.
 * An observation whose fingerprint begins with 0 is partial: what it leaves null is kept, and so is the provider's bar.
 * Columns that the app owns are not named: an insert leaves them to their defaults.
 */
export function upsertUsers (tables: TableNames): Statement {
  const kept = (column: string): string => `${column} = CASE WHEN excluded.clerk_fingerprint LIKE '1%' THEN excluded.${column} ELSE coalesce(excluded.${column}, u.${column}) END`
  return statement('upsert', `INSERT INTO ${quotedTable(tables.users)} AS u
  (issuer, clerk_user_id, email, first_name, last_name, profile_data, provider_blocked, clerk_updated_at, clerk_fingerprint, last_clerk_sync)
SELECT o.issuer, o.subject, o.email, o.first_name, o.last_name, o.profile::jsonb, o.blocked, o.updated_at, o.fingerprint, $10::timestamptz
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::boolean[], $8::timestamptz[], $9::text[])
  WITH ORDINALITY AS o(issuer, subject, email, first_name, last_name, profile, blocked, updated_at, fingerprint, place)
WHERE NOT EXISTS (SELECT FROM ${quotedTable(tables.tombstones)} AS t WHERE t.issuer = o.issuer AND t.clerk_user_id = o.subject)
ORDER BY o.place
ON CONFLICT (issuer, clerk_user_id) DO UPDATE SET
  ${['email', 'first_name', 'last_name', 'profile_data'].map(kept).join(',\n  ')},
  provider_blocked = CASE WHEN excluded.clerk_fingerprint LIKE '1%' THEN excluded.provider_blocked ELSE u.provider_blocked END,
  clerk_updated_at = excluded.clerk_updated_at,
  clerk_fingerprint = excluded.clerk_fingerprint,
  last_clerk_sync = coalesce(excluded.last_clerk_sync, u.last_clerk_sync)
WHERE u.deleted_at IS NULL AND CASE
  WHEN excluded.clerk_updated_at IS NULL THEN u.clerk_updated_at IS NULL
    AND coalesce(u.clerk_fingerprint, '') <> excluded.clerk_fingerprint
    AND left(coalesce(u.clerk_fingerprint, ''), 1) COLLATE "C" <= left(excluded.clerk_fingerprint, 1)
  WHEN u.clerk_updated_at IS NULL OR u.clerk_updated_at < excluded.clerk_updated_at THEN true
  ELSE u.clerk_updated_at = excluded.clerk_updated_at AND coalesce(u.clerk_fingerprint, '') COLLATE "C" < excluded.clerk_fingerprint
END
RETURNING ${userColumns}, u.xmax = 0 AS created`)
}

/** The values of upsertUsers(). */
export function upsertValues (observations: readonly Observation[], syncedAtMs: number | null): unknown[] {
  return [
    observations.map(({ issuer }) => issuer),
    observations.map(({ subject }) => subject),
    observations.map(({ profile }) => profile.email),
    observations.map(({ profile }) => profile.firstName),
    observations.map(({ profile }) => profile.lastName),
    observations.map(({ profile }) => profile.data === null ? null : JSON.stringify(profile.data)),
    observations.map(({ profile }) => profile.blocked),
    observations.map(({ version }) => instant(version)),
    observations.map(({ fingerprint }) => fingerprint),
    instant(syncedAtMs)
  ]
}

function instant (ms: number | null): string | null {
  return ms === null ? null : new Date(ms).toISOString()
}
