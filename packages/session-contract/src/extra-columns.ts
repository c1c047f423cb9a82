import { jsonOfText, type TextRow } from './row-text.js'
import type { SessionExtra } from './user.js'

/** The types, by their names in `pg_type`, of numbers that JavaScript cannot hold exactly: they stay text. */
const inexact: readonly string[] = ['int8', 'numeric']
const inexactTypes = inexact.map(name => `'pg_catalog.${name}'::pg_catalog.regtype`).join(', ')

/** The name, in an answer, of the column of the app's own at a place of the option `extra`. */
export function extraField (place: number): string {
  return `extra_${place}`
}

/**
 * SQL for a column of the app's own, as JSON. The type is asked of the row, too, since it may change while the statement
 * stays and no statement fails for it; what is below a domain only the catalogue tells.
 *
 * @param typeName - the type below all domains, by its name in `pg_type`
 */
export function extraSql (column: string, typeName: string | undefined): string {
  const text = `pg_catalog.to_json(${column}::text)`
  if (typeName !== undefined && inexact.includes(typeName)) return text
  return `CASE WHEN pg_catalog.pg_typeof(${column}) IN (${inexactTypes}) THEN ${text} ELSE pg_catalog.to_json(${column}) END`
}

/** The columns of the app's own in a row, by their names. */
export function extraOfRow (row: TextRow, names: readonly string[]): SessionExtra {
  return Object.fromEntries(names.map((name, place) => [name, jsonOfText(row[extraField(place)])])) as SessionExtra
}
