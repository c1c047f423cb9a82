import {
  clockObject, columnName, columnOr, describe, invalidOption, issuerColumn, listOf, nameOf, objectWith, optional,
  readOptions, rule, systemClock, withDefault, type Clock, type OptionRule, type OptionRules, type PoolLike
} from '@orientor/session-contract/core'

/** The column of each field of a user. A field that is left out is null, or its default. Names are exact, with case. */
export interface TableColumns {
  /** The user's id: any type, read as text. */
  readonly userId: string
  readonly email?: string
  readonly firstName?: string
  readonly lastName?: string
  /** A boolean column (null counts as true), or a constant. Default is `{ always: true }`. */
  readonly isActive?: string | { readonly always: true }
  /** A boolean column (null counts as false), or a constant. Default is `{ always: true }`. */
  readonly onboardingCompleted?: string | { readonly always: boolean }
  /** A column of JSON objects that the provider's profile is kept in. */
  readonly profile?: string
  /** The timestamp of the provider's last change of the user; without time zone it is read as UTC. */
  readonly providerUpdatedAt?: string
  /** A timestamp likewise: tokens of the user that were issued in or before that second are refused. */
  readonly tokensValidFrom?: string
  /** A column that is not null once the user was deleted. */
  readonly deletedAt?: string
  /** A whole number that grows with every change of the row, also with one that the app does not make. */
  readonly revision?: string
}

/** Options of tableSource(). */
export interface TableSourceOptions {
  /** The table's schema. Default: found by the search path. */
  readonly schema?: string
  /** The table, without its schema. Names are exact, case and all. */
  readonly table: string
  /**
   * The column of the provider's id of a user (`sub` of the tokens): of a text type, uuid or a whole number, and
   * uniquely indexed, alone or with the issuer.
   */
  readonly subject: string
  /** The column of the provider (`iss` of the tokens), or the one provider of all rows. */
  readonly issuer: string | { readonly always: string }
  readonly columns: TableColumns
  /** Columns of your own that the user has under `extra`, by their names. Default is none. */
  readonly extra?: readonly string[]
  /**
   * Triggers BEFORE UPDATE FOR EACH ROW, by name, that change none of these columns unless the update sets it; see
   * WatchedTable. Default is none.
   */
  readonly harmlessTriggers?: readonly string[]
  /** The `pg` pool. Default is that of the scope, `fastify.pg`, taken when the server becomes ready. */
  readonly pool?: PoolLike
  /** The clock that deadlines are measured by. Default is the clock of the process. */
  readonly clock?: Clock
}

type Always = 'userId' | 'isActive' | 'onboardingCompleted'

/** The options with every default in place. */
export interface TableSourceConfig extends Required<Omit<TableSourceOptions, 'schema' | 'columns' | 'pool'>> {
  readonly schema: string | null
  readonly columns: Required<Pick<TableColumns, Always>> & {
    readonly [K in Exclude<keyof TableColumns, Always>]-?: string | null
  }
  readonly pool: PoolLike | null
}

/** The name of tableSource() in messages. */
export const owner = '@orientor/session-cache/postgres: tableSource()'

type Input = { readonly [K in keyof TableSourceOptions]-?: TableSourceOptions[K] | undefined }
type ColumnsInput = { readonly [K in keyof TableColumns]-?: TableColumns[K] | undefined }

const always = Object.freeze({ always: true })
const isBoolean = (input: unknown): input is boolean => typeof input === 'boolean'

const columnRules: OptionRules<ColumnsInput> = {
  userId: columnName,
  email: optional(columnName),
  firstName: optional(columnName),
  lastName: optional(columnName),
  isActive: withDefault(columnOr('{ always: true }', always => always === true), always),
  onboardingCompleted: withDefault(columnOr('{ always: true } or { always: false }', isBoolean), always),
  profile: optional(columnName),
  providerUpdatedAt: optional(columnName),
  tokensValidFrom: optional(columnName),
  deletedAt: optional(columnName),
  revision: optional(columnName)
}

type Columns = TableSourceConfig['columns']
const columnFields = Object.keys(columnRules).map(name => name === 'userId' ? name : `${name}?`).join(', ')

const columns: OptionRule<Columns> = rule(`an object { ${columnFields} }`, input => {
  if (typeof input !== 'object' || input === null || Array.isArray(input)) return undefined
  const read = readOptions<ColumnsInput>(`${owner}: columns`, input, columnRules)
  const complete = Object.entries(read).map(([field, column]) => [field, column ?? null] as const)
  return Object.freeze(Object.fromEntries(complete)) as unknown as Columns
})

const rules: OptionRules<Omit<Input, 'columns'> & { readonly columns: Columns }> = {
  schema: optional(nameOf('schema')),
  table: nameOf('table'),
  subject: columnName,
  issuer: issuerColumn,
  columns,
  extra: withDefault(listOf(columnName), []),
  harmlessTriggers: withDefault(listOf(nameOf('trigger')), []),
  pool: optional(objectWith<PoolLike>('a pg pool', ['query', 'connect'])),
  clock: withDefault(clockObject, systemClock)
}

/**
 * Reads the options: refuses unknown ones, sets the defaults.
 *
 * @throws ORI_CONTRACT_INVALID_OPTION naming the option, the rule and what was received
 */
export function resolveTableOptions (options: TableSourceOptions): TableSourceConfig {
  const read = readOptions(owner, options, rules)
  const { extra = [] } = read
  const twice = extra.find((name, place) => extra.indexOf(name) !== place)
  if (twice !== undefined) {
    throw invalidOption(owner, `option "extra" must name each column once; received ${describe(twice, false)} twice.`)
  }
  return Object.freeze({ ...read, schema: read.schema ?? null, pool: read.pool ?? null }) as TableSourceConfig
}
