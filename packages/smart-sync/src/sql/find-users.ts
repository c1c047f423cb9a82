import { quotedTable } from '../table-names.js'
import type { UserKey } from '../user-store.js'
import type { UsersTable } from '../users-table.js'
import type { ColumnTypes } from './column-types.js'
import { isRowOf, keyLists, keyValues } from './keys.js'
import { statement, type Statement } from './statement.js'
import { userColumns } from './user-row.js'

/** Reads the users of a list of keys: one row of one table each. */
export function findUsers (table: UsersTable, types: ColumnTypes): Statement {
  return statement('find', `SELECT ${userColumns(table, types)}
FROM unnest(${keyLists}) AS k(issuer, subject)
JOIN ${quotedTable(table.tables.users)} AS u ON ${isRowOf(table, 'u', 'k')}`)
}

/** The values of findUsers(). */
export function findValues (keys: readonly UserKey[]): unknown[] {
  return keyValues(keys)
}
