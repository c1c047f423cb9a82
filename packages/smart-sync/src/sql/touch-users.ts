import { quotedName } from '@orientor/session-contract/core'
import { quotedTable } from '../table-names.js'
import type { UserKey } from '../user-store.js'
import { keyColumns, type UsersTable } from '../users-table.js'
import { isRowOf, keyLists, keyValues } from './keys.js'
import { statement, type Statement } from './statement.js'

/**
 * Notes that users are in step. A user who is being changed at this moment is left out, so that nothing waits and
 * nothing can deadlock.
 */
export function touchUsers (table: UsersTable): Statement {
  const users = quotedTable(table.tables.users)
  const synced = quotedName(table.columns.lastSyncedAt)
  const key = keyColumns(table).map(quotedName)
  return statement('touch', `UPDATE ${users} AS u SET ${synced} = $3::timestamptz
FROM (
  SELECT ${key.map(column => `d.${column}`).join(', ')} FROM ${users} AS d
  JOIN unnest(${keyLists}) AS k(issuer, subject) ON ${isRowOf(table, 'd', 'k')}
  WHERE d.${synced} IS NULL OR d.${synced} <= $4::timestamptz OR d.${synced} > $3::timestamptz
  FOR NO KEY UPDATE OF d SKIP LOCKED
) AS due
WHERE ${key.map(column => `u.${column} = due.${column}`).join(' AND ')}`)
}

/** The values of touchUsers(). */
export function touchValues (keys: readonly UserKey[], syncedAtMs: number, dueBeforeMs: number): unknown[] {
  return [...keyValues(keys), new Date(syncedAtMs).toISOString(), new Date(dueBeforeMs).toISOString()]
}
