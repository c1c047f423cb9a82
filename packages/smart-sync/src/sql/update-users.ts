import { quotedName } from '@orientor/session-contract/core'
import { quotedTable } from '../table-names.js'
import { keyColumns, type UsersTable } from '../users-table.js'
import type { ColumnTypes } from './column-types.js'
import { isRowOf } from './keys.js'
import { markGiven, markTaken, withMark } from './mark-of-write.js'
import { assignments, isNewsFor, observedRows, type Incoming } from './observed-rows.js'
import { statement, type Statement } from './statement.js'
import { userColumns } from './user-row.js'

/**
 * Updates users who have a row and whose observation is news, and answers with those; takes observedValues(). Rows are
 * locked in the order given, so that instances cannot deadlock.
 */
export function updateUsers (table: UsersTable, types: ColumnTypes): Statement {
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
    lastSyncedAt: '$10::timestamptz'
  }
  const key = keyColumns(table).map(quotedName)
  return statement('update', `${withMark(table)}
UPDATE ${users} AS u SET
  ${assignments(table, incoming)}
FROM (
  SELECT ${key.map((column, place) => `d.${column} AS key_${place}`).join(', ')}, o.*
  FROM ${markTaken}, ${observedRows()}
  JOIN ${users} AS d ON ${isRowOf(table, 'd', 'o')}
  ORDER BY o.place
  FOR NO KEY UPDATE OF d
) AS n
WHERE ${key.map((column, place) => `u.${column} = n.key_${place}`).join(' AND ')} AND ${isNewsFor(table, incoming)}
RETURNING ${userColumns(table, types, markGiven)}, 'false' AS created`)
}
