import { isName, maxNameBytes, quotedName, rule, type OptionRule } from '@orientor/session-contract/core'

/** The tables, each `name` (found by the search path) or `schema.name`. */
export interface TableNames {
  readonly users: string
  /** Users that were deleted and have no row. */
  readonly tombstones: string
  readonly deadLetters: string
  readonly checkpoints: string
  /** The migrations that have run. */
  readonly migrations: string
}

const defaults: TableNames = {
  users: 'users',
  tombstones: 'user_tombstones',
  deadLetters: 'sync_dead_letters',
  checkpoints: 'sync_checkpoints',
  migrations: 'smart_sync_migrations'
}

// 40 characters: names of triggers and constraints are made from them, and PostgreSQL cuts names at maxNameBytes.
const identifier = /^[A-Za-z_][A-Za-z0-9_]{0,39}$/

/** The rule of the option `tables`: names that are left out stand in the schema of the users table. */
export const tableNames: OptionRule<TableNames> = rule(
  'an object with any of users, tombstones, deadLetters, checkpoints and migrations, all different, each a name or ' +
  'schema.name; names of ASCII letters, digits and underscores, at most 40, a schema as it is called, ' +
  `at most ${maxNameBytes} bytes`,
  input => {
    if (typeof input !== 'object' || input === null || Array.isArray(input)) return undefined
    const given = input as Partial<Record<string, unknown>>
    if (!Object.keys(given).every(name => Object.hasOwn(defaults, name))) return undefined
    const { users } = given
    const schema = typeof users === 'string' && users.includes('.') ? `${schemaOf(users)}.` : ''
    const entries = Object.entries(defaults).map(([name, fallback]) => {
      return [name, given[name] ?? `${schema}${fallback}`] as const
    })
    const tables = entries.map(([, table]) => table)
    if (!tables.every(isTableName) || new Set(tables).size !== tables.length) return undefined
    return Object.freeze(Object.fromEntries(entries)) as unknown as TableNames
  }
)

/** The tables when nothing is configured. */
export const defaultTableNames: TableNames = Object.freeze({ ...defaults })

/** The name as it stands in a statement: quoted, so that case is kept and no word is reserved. */
export function quotedTable (table: string): string {
  const schema = schemaOf(table)
  return [...schema === undefined ? [] : [schema], bareTable(table)].map(quotedName).join('.')
}

/**
 * The schema that the name gives; undefined when it is found by the search path. The name of a schema may hold points
 * itself.
 */
export function schemaOf (table: string): string | undefined {
  return table.includes('.') ? table.slice(0, table.lastIndexOf('.')) : undefined
}

/** The name without its schema. */
export function bareTable (table: string): string {
  return table.slice(table.lastIndexOf('.') + 1)
}

function isTableName (table: unknown): boolean {
  if (typeof table !== 'string') return false
  const schema = schemaOf(table)
  return identifier.test(bareTable(table)) && (schema === undefined || isName(schema))
}
