import { quotedName } from '@orientor/session-contract/core'
import { quotedTable } from '../table-names.js'
import type { UsersTable } from '../users-table.js'
import type { ColumnTypes } from './column-types.js'
import { isNamedBy, isRowOf, keyLists, keyNamed } from './keys.js'
import { markGiven, markTaken, withMark } from './mark-of-write.js'
import { statement, type Statement } from './statement.js'
import { userColumns } from './user-row.js'

/**
 * Leaves tombstones for users and marks their rows as deleted; takes keyValues() and answers with the rows that were
 * marked now. Rows are locked in the order given; those that are marked already are left alone.
 */
export function markDeleted (table: UsersTable, types: ColumnTypes): Statement {
  const { tables, columns } = table
  const users = quotedTable(tables.users)
  const deletedAt = quotedName(columns.deletedAt)
  return statement('mark_deleted', `${withMark(table)}, stones AS (
  INSERT INTO ${quotedTable(tables.tombstones)} (issuer, clerk_user_id)
  SELECT k.issuer, k.subject FROM unnest(${keyLists}) WITH ORDINALITY AS k(issuer, subject, place)
  ORDER BY k.place
  ON CONFLICT DO NOTHING
)
UPDATE ${users} AS u SET ${deletedAt} = now()
FROM (
  SELECT ${keyNamed(table, 'd')}
  FROM ${markTaken}, unnest(${keyLists}) WITH ORDINALITY AS k(issuer, subject, place)
  JOIN ${users} AS d ON ${isRowOf(table, 'd', 'k')}
  WHERE d.${deletedAt} IS NULL
  ORDER BY k.place
  FOR NO KEY UPDATE OF d
) AS n
WHERE ${isNamedBy(table, 'u', 'n')} AND u.${deletedAt} IS NULL
RETURNING ${userColumns(table, types, markGiven)}, 'false' AS created`)
}

/** Removes the rows of users that are marked as deleted; takes keyValues(). */
export function deleteMarked (table: UsersTable): Statement {
  const users = quotedTable(table.tables.users)
  return statement('delete_marked', `DELETE FROM ${users} AS u
USING (
  SELECT ${keyNamed(table, 'd')}
  FROM unnest(${keyLists}) WITH ORDINALITY AS k(issuer, subject, place)
  JOIN ${users} AS d ON ${isRowOf(table, 'd', 'k')}
  WHERE d.${quotedName(table.columns.deletedAt)} IS NOT NULL
  ORDER BY k.place
  FOR UPDATE OF d
) AS n
WHERE ${isNamedBy(table, 'u', 'n')}`)
}
