import type { UsersTable } from '../users-table.js'
import type { ColumnFacts, TableFacts } from './table-facts.js'

/** The types of the users table's columns, below all domains, by the names of the columns. */
export type ColumnTypes = ReadonlyMap<string, Pick<ColumnFacts, 'baseType' | 'typeName'>>

/**
 * Whether statements depend on the types: on those of columns of the app's own, which are read or supplied, and of what
 * an UPDATE sets.
 */
export function needsTypes ({ extra, insert, createUsers }: UsersTable): boolean {
  return extra.length > 0 || Object.keys(insert).length > 0 || !createUsers
}

/** The types of a described table; none of one that does not exist. */
export function typesOf (facts: TableFacts | null): ColumnTypes {
  return new Map(facts?.columns.map(column => [column.name, column] as const) ?? [])
}
