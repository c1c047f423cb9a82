import { quotedTable } from '../table-names.js'
import { statement, type Statement } from './statement.js'
import type { UserKey } from '../user-store.js'

/** Notes that users are in step. Whoever is being changed at this moment is left out, so that nothing waits and nothing can deadlock. */
export function touchUsers (users: string): Statement {
  const table = quotedTable(users)
  return statement('touch', `UPDATE ${table} AS u SET last_clerk_sync = $3::timestamptz
FROM (
  SELECT d.issuer, d.clerk_user_id FROM ${table} AS d
  JOIN unnest($1::text[], $2::text[]) AS k(issuer, subject) ON d.issuer = k.issuer AND d.clerk_user_id = k.subject
  WHERE d.last_clerk_sync IS NULL OR d.last_clerk_sync <= $4::timestamptz OR d.last_clerk_sync > $3::timestamptz
  FOR NO KEY UPDATE OF d SKIP LOCKED
) AS due
WHERE u.issuer = due.issuer AND u.clerk_user_id = due.clerk_user_id`)
}

/** The values of touchUsers(). */
export function touchValues (keys: readonly UserKey[], syncedAtMs: number, dueBeforeMs: number): unknown[] {
  return [
    keys.map(({ issuer }) => issuer),
    keys.map(({ subject }) => subject),
    new Date(syncedAtMs).toISOString(),
    new Date(dueBeforeMs).toISOString()
  ]
}
