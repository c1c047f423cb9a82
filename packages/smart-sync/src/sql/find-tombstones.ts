import { quotedTable } from '../table-names.js'
import type { UsersTable } from '../users-table.js'
import { keyLists } from './keys.js'
import { statement, type Statement } from './statement.js'

/** Finds the tombstones of users; takes keyValues(). */
export function findTombstones ({ tables }: UsersTable): Statement {
  return statement('find_tombstones', `SELECT k.issuer, k.subject FROM unnest(${keyLists}) AS k(issuer, subject)
JOIN ${quotedTable(tables.tombstones)} AS t ON t.issuer = k.issuer AND t.clerk_user_id = k.subject`)
}
