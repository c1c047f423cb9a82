import { quotedName } from '@orientor/session-contract/core'
import type { UserKey } from '../user-store.js'
import { keyColumns, type UsersTable } from '../users-table.js'

/** The lists that name users, as a statement takes them first: `$1`, `$2`. */
export const keyLists = '$1::text[], $2::text[]'

/** The values of keyLists. */
export function keyValues (keys: readonly UserKey[]): string[][] {
  return [keys.map(({ issuer }) => issuer), keys.map(({ subject }) => subject)]
}

/**
 * SQL for whether the row called `row` is that of the key called `key`, which has the columns `issuer` and `subject`.
 */
export function isRowOf (table: UsersTable, row: string, key: string): string {
  const { issuer, subject } = table
  const same = `${row}.${quotedName(subject)} = ${key}.subject`
  return typeof issuer === 'string' ? `${row}.${quotedName(issuer)} = ${key}.issuer AND ${same}` : same
}

/** The columns of the key, as they stand in a list. */
export function keyList (table: UsersTable): string {
  return keyColumns(table).map(quotedName).join(', ')
}
