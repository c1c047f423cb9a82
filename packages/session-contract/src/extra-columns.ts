import { jsonOfText, type TextRow } from './row-text.js'
import type { SessionExtra } from './user.js'

/** The types, by their names in `pg_type`, of numbers that JavaScript cannot hold exactly: they stay text. */
const inexact: ReadonlySet<string | undefined> = new Set(['int8', 'numeric'])

/** The name, in an answer, of the column of the app's own at a place of the option `extra`. */
export function extraField (place: number): string {
  return `extra_${place}`
}

/**
 * SQL for a column of the app's own, as JSON.
 *
 * @param typeName - the type below all domains, by its name in `pg_type`
 */
export function extraSql (column: string, typeName: string | undefined): string {
  return `pg_catalog.to_json(${column}${inexact.has(typeName) ? '::text' : ''})`
}

/** The columns of the app's own in a row, by their names. */
export function extraOfRow (row: TextRow, names: readonly string[]): SessionExtra {
  return Object.fromEntries(names.map((name, place) => [name, jsonOfText(row[extraField(place)])])) as SessionExtra
}
