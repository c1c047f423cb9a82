import { quotedTable } from '../table-names.js'
import type { UserKey } from '../user-store.js'
import { statement, type Statement } from './statement.js'
import { userColumns } from './user-row.js'

/** Reads the users of a list of keys: one row of one table each. */
export function findUsers (users: string): Statement {
  return statement('find', `SELECT ${userColumns}
FROM unnest($1::text[], $2::text[]) AS k(issuer, subject)
JOIN ${quotedTable(users)} AS u ON u.issuer = k.issuer AND u.clerk_user_id = k.subject`)
}

/** The values of findUsers(). */
export function findValues (keys: readonly UserKey[]): unknown[] {
  return [keys.map(({ issuer }) => issuer), keys.map(({ subject }) => subject)]
}
