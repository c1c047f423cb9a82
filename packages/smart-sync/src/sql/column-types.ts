import { quotedTable } from '../table-names.js'
import type { UsersTable } from '../users-table.js'
import { statement, type Statement } from './statement.js'

/** The types of the users table's columns, below all domains, by the names of the columns. */
export type ColumnTypes = ReadonlyMap<string, string>

/** Whether statements depend on the types: on those of columns of the app's own, which are read or supplied, and of what an UPDATE sets. */
export function needsTypes ({ extra, insert, createUsers }: UsersTable): boolean {
  return extra.length > 0 || Object.keys(insert).length > 0 || !createUsers
}

/** Reads the types. Needs no right. */
export function readTypes (table: UsersTable): Statement {
  return statement('types', `SELECT a.attname AS name, (
  WITH RECURSIVE below AS (
    SELECT a.atttypid AS oid
    UNION ALL
    SELECT d.typbasetype FROM below JOIN pg_catalog.pg_type AS d ON d.oid = below.oid WHERE d.typtype = 'd'
  )
  SELECT pg_catalog.format_type(d.oid, -1)
  FROM below JOIN pg_catalog.pg_type AS d ON d.oid = below.oid WHERE d.typtype <> 'd'
) AS type
FROM pg_catalog.pg_attribute AS a
WHERE a.attrelid = pg_catalog.to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped`)
}

/** The values of readTypes(). */
export function typesValues ({ tables }: UsersTable): unknown[] {
  return [quotedTable(tables.users)]
}

/** The types that readTypes() answers with. */
export function typesOf (rows: ReadonlyArray<Readonly<Record<string, unknown>>>): ColumnTypes {
  return new Map(rows.map(({ name, type }) => [String(name), String(type)]))
}
