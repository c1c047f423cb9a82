import { readMarkSql } from '@orientor/session-contract/core'
import { quotedTable } from '../table-names.js'
import type { UserKey } from '../user-store.js'
import type { UsersTable } from '../users-table.js'
import type { ColumnTypes } from './column-types.js'
import { isRowOf, keyLists, keyValues } from './keys.js'
import { statement, type Statement } from './statement.js'
import { userColumns } from './user-row.js'

/**
 * Reads the users of a list of keys: one row of one table each. Where there is none it answers with one row that has
 * nothing but the read mark.
 */
export function findUsers (table: UsersTable, types: ColumnTypes): Statement {
  const users = quotedTable(table.tables.users)
  // OFFSET keeps the mark from being computed for each row.
  return statement('find', `SELECT ${userColumns(table, types, 'm.mark')}
FROM (SELECT ${readMarkSql(users)} AS mark OFFSET 0) AS m
LEFT JOIN (
  unnest(${keyLists}) AS k(issuer, subject) JOIN ${users} AS u ON ${isRowOf(table, 'u', 'k')}
) ON true`)
}

/** The values of findUsers(). */
export function findValues (keys: readonly UserKey[]): unknown[] {
  return keyValues(keys)
}
