import type { ProfileObserved } from '@orientor/smart-sync/core'
import type pg from 'pg'

/** The upsert that is usually written by hand: one row, guarded by the version. */
const text = `INSERT INTO users AS u
  (issuer, clerk_user_id, email, first_name, last_name, profile_data, provider_blocked, clerk_updated_at,
    clerk_fingerprint, last_clerk_sync)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
ON CONFLICT (issuer, clerk_user_id) DO UPDATE SET
  email = excluded.email, first_name = excluded.first_name, last_name = excluded.last_name,
  profile_data = excluded.profile_data, provider_blocked = excluded.provider_blocked,
  clerk_updated_at = excluded.clerk_updated_at, clerk_fingerprint = excluded.clerk_fingerprint,
  last_clerk_sync = excluded.last_clerk_sync
WHERE u.clerk_updated_at < excluded.clerk_updated_at`

/** Upserts rows one by one, each a transaction of its own, by a prepared statement; one at a time on each client. */
export async function upsertSingly (
  clients: readonly pg.ClientBase[], changes: readonly ProfileObserved[]
): Promise<void> {
  let next = 0
  await Promise.all(clients.map(async client => {
    while (next < changes.length) {
      await client.query({ name: 'single_upsert', text, values: valuesOf(changes[next++]!) })
    }
  }))
}

function valuesOf ({ issuer, subject, profile, version, fingerprint }: ProfileObserved): unknown[] {
  return [
    issuer, subject, profile.email, profile.firstName, profile.lastName, JSON.stringify(profile.data), profile.blocked,
    new Date(version!), fingerprint, new Date()
  ]
}
