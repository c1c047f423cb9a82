import { exactJson } from './exact-json.js'
import type { TextRow } from './row-text.js'
import type { SessionExtra } from './user.js'

/** The types, by their names in `pg_type`, of numbers that JavaScript cannot hold exactly: they stay text. */
const inexact: readonly string[] = ['int8', 'numeric']
/** The ids of lists of them, `int8[]` and `numeric[]`, which are the same on every server. */
const inexactLists: readonly number[] = [1016, 1231]

/** The name, in an answer, of the column of the app's own at a place of the option `extra`. */
export function extraField (place: number): string {
  return `extra_${place}`
}

/**
 * SQL for a column of the app's own, as JSON. Columns of `int8` and `numeric` are texts, whatever their values, so that a
 * column has one type; a column that becomes one of them while the statement stays loses no digit: see exactJson().
 *
 * @param typeName - the type below all domains, by its name in `pg_type`
 */
export function extraSql (column: string, typeName: string | undefined): string {
  if (typeName !== undefined && inexact.includes(typeName)) return `pg_catalog.to_json(${column}::text)`
  const json = `pg_catalog.to_json(${column})`
  if (typeName === undefined || !/^_(?:int|float|numeric)/.test(typeName)) return json
  // Only lists pay for being looked at each time. Beside NULL a domain counts as what is below it.
  const isInexact = `pg_catalog.pg_typeof(coalesce(${column}, NULL))::oid IN (${inexactLists.join(', ')})`
  return `CASE WHEN ${isInexact} THEN pg_catalog.to_json(${column}::text::text[]) ELSE ${json} END`
}

/** The columns of the app's own in a row, by their names. */
export function extraOfRow (row: TextRow, names: readonly string[]): SessionExtra {
  return Object.fromEntries(names.map((name, place) => [name, exactJson(row[extraField(place)])])) as SessionExtra
}
