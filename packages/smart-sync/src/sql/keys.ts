import { quotedName, sqlLiteral } from '@orientor/session-contract/core'
import { quotedTable } from '../table-names.js'
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

/**
 * SQL for the subject of the row called `o` as it is written: with a letter more where it is longer than its column
 * takes. PostgreSQL refuses a text that is too long (22001), but for one that is so by blanks alone: that it cuts in
 * silence ("Character Types"), and the subject would be another user's. An issuer holds no blanks.
 */
export function writtenSubject ({ tables, subject }: UsersTable): string {
  // The length of a domain's column is said by the domain.
  const maxLength = `(
    WITH RECURSIVE below AS (
      SELECT a.atttypid AS oid, a.atttypmod AS typmod FROM pg_catalog.pg_attribute AS a
      WHERE a.attrelid = pg_catalog.to_regclass(${sqlLiteral(quotedTable(tables.users))})
        AND a.attname = ${sqlLiteral(subject)}
      UNION ALL
      SELECT d.typbasetype, d.typtypmod FROM below JOIN pg_catalog.pg_type AS d ON d.oid = below.oid WHERE d.typtype = 'd'
    )
    SELECT min(below.typmod) - 4 FROM below WHERE below.typmod > 4
  )`
  return `CASE WHEN length(o.subject) > ${maxLength} THEN o.subject || '.' ELSE o.subject END`
}

/** The columns of the key, as they stand in a list. */
export function keyList (table: UsersTable): string {
  return keyColumns(table).map(quotedName).join(', ')
}

/** SQL for the key of the row called `row` as the columns `key_0` and on, by which a list of rows names it. */
export function keyNamed (table: UsersTable, row: string): string {
  return keyColumns(table).map((column, place) => `${row}.${quotedName(column)} AS key_${place}`).join(', ')
}

/** SQL for whether the row called `row` is the one that the list called `list` names by keyNamed(). */
export function isNamedBy (table: UsersTable, row: string, list: string): string {
  return keyColumns(table).map((column, place) => `${row}.${quotedName(column)} = ${list}.key_${place}`).join(' AND ')
}
