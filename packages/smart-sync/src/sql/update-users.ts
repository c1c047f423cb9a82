import { quotedTable } from '../table-names.js'
import type { UserUpdate } from '../user-update.js'
import type { UsersTable } from '../users-table.js'
import type { ColumnTypes } from './column-types.js'
import { endedValues } from './ended-sessions.js'
import { isNamedBy, isRowOf, keyNamed } from './keys.js'
import { markGiven, markTaken, withMark } from './mark-of-write.js'
import { assignments, isChangeFor, observedRows, observedValues, type Incoming } from './observed-rows.js'
import { statement, type Statement } from './statement.js'
import type { UpdateTraits } from './upsert-users.js'
import { userColumns } from './user-row.js'

/**
 * Updates users who have a row and for whom there is a change, and answers with those; takes updateValues(). Rows are
 * locked in the order given, so that instances cannot deadlock.
 */
export function updateUsers (
  table: UsersTable, types: ColumnTypes, { endsSessions }: Pick<UpdateTraits, 'endsSessions'>
): Statement {
  const users = quotedTable(table.tables.users)
  const incoming: Incoming = {
    email: 'n.email',
    firstName: 'n.first_name',
    lastName: 'n.last_name',
    // What is kept beside it has the type of the column.
    profile: `n.profile::${types.get(table.columns.profile)?.baseType ?? 'jsonb'}`,
    blocked: 'n.blocked',
    providerUpdatedAt: 'n.updated_at',
    fingerprint: 'n.fingerprint',
    lastSyncedAt: '$10::timestamptz',
    ...endsSessions ? { endedSessions: "coalesce(n.ended::jsonb, '{}')" } : {}
  }
  return statement('update', `${withMark(table)}
UPDATE ${users} AS u SET
  ${assignments(table, incoming)}
FROM (
  SELECT ${keyNamed(table, 'd')}, o.*
  FROM ${markTaken}, ${observedRows(endsSessions ? ['ended'] : [])}
  JOIN ${users} AS d ON ${isRowOf(table, 'd', 'o')}
  ORDER BY o.place
  FOR NO KEY UPDATE OF d
) AS n
WHERE ${isNamedBy(table, 'u', 'n')} AND ${isChangeFor(table, incoming)}
RETURNING ${userColumns(table, types, markGiven)}, 'false' AS created`)
}

/** The values of updateUsers(). */
export function updateValues (
  updates: readonly UserUpdate[], syncedAtMs: number | null, { endsSessions }: Pick<UpdateTraits, 'endsSessions'>
): unknown[] {
  return [...observedValues(updates, syncedAtMs), ...endedValues(updates, endsSessions)]
}
