import {
  columnName, flag, invalidOption, isName, issuerColumn, listOf, nameOf, readOptions, rule, withDefault,
  type OptionRule, type OptionRules
} from '@orientor/session-contract/core'
import { defaultTableNames, tableNames, type TableNames } from './table-names.js'

/** The column of each field of a user in the users table. Names are exact, with case. */
export interface UserColumns {
  /** The app's own id of a user, of any type. */
  readonly userId: string
  readonly email: string
  readonly firstName: string
  readonly lastName: string
  /** Everything else that the provider says of the user, as a JSON object. */
  readonly profile: string
  /** Whether the app lets the user in. Never written; null counts as true. */
  readonly isActive: string
  /** Whether the provider bars the user. */
  readonly blocked: string
  /** Never written; null counts as false. */
  readonly onboardingCompleted: string
  /** The instant at which the row was last in step with the provider. */
  readonly lastSyncedAt: string
  /** The instant of the provider's last change of the user. */
  readonly providerUpdatedAt: string
  /** A digest that orders the observations of one version of the user. */
  readonly fingerprint: string
  readonly tokensValidFrom: string
  readonly revokedSessions: string
  readonly deletedAt: string
  /** A whole number that grows by one with any change of what a load reads. */
  readonly revision: string
}

/** The description of the users table in the options of the plugin, of migrate() and of PostgresUserStore. */
export interface UsersTableOptions {
  /**
   * The names of the tables, each `name` or `schema.name`; case is kept. Those that are left out have their default
   * names, in the schema of `users`.
   */
  readonly tables?: Partial<TableNames>
  /** The column of the provider's id of a user (`sub` of the tokens). Default is `clerk_user_id`. */
  readonly subject?: string
  /**
   * The column of the provider (`iss` of the tokens), or the one provider of all rows: then no row needs to name it,
   * and users of others are unknown. Default is `issuer`.
   */
  readonly issuer?: string | { readonly always: string }
  /** The columns that do not have their default names. */
  readonly columns?: Partial<UserColumns>
  /**
   * Columns of the app's own that the user has under `extra`, by their names. They are never written. Default is none.
   */
  readonly extra?: readonly string[]
  /**
   * Functions, by column, that supply what a new row needs and neither smart-sync nor the table does. Each is called
   * for every user who has no row, and answers at once, with a value that JSON can hold or a Date. Where it throws,
   * that user is not written, and the load is rejected. Default is none.
   */
  readonly insert?: Readonly<Record<string, () => unknown>>
  /**
   * Whether a user without a row gets one. With false the app makes the rows, and a user without one is unknown.
   * Default is true.
   */
  readonly createUsers?: boolean
  /**
   * Triggers BEFORE UPDATE FOR EACH ROW of the users table, by name, that change no column that smart-sync reads unless
   * the update sets it, such as one that keeps a "changed at". The triggers of smart-sync and of a bus then need not be
   * called by every update. Default is none.
   */
  readonly harmlessTriggers?: readonly string[]
  /**
   * Whether an update that sets no column that smart-sync reads is spared the trigger that counts the revision
   * (`UPDATE OF`), where no other trigger may change one then. PostgreSQL refuses to drop a listed column, or to alter
   * its type, as long as the trigger is there; with false it does not, and every update pays for the call. Default is
   * true.
   */
  readonly columnLists?: boolean
}

/** The users table, completely described. */
export interface UsersTable extends Required<Omit<UsersTableOptions, 'tables' | 'columns'>> {
  readonly tables: TableNames
  readonly columns: UserColumns
}

/** The column of the provider's id of a user when nothing is configured. */
export const defaultSubject = 'clerk_user_id'

/** The columns when nothing is configured. */
export const defaultColumns: UserColumns = Object.freeze({
  userId: 'id',
  email: 'email',
  firstName: 'first_name',
  lastName: 'last_name',
  profile: 'profile_data',
  isActive: 'is_active',
  blocked: 'provider_blocked',
  onboardingCompleted: 'onboarding_completed',
  lastSyncedAt: 'last_clerk_sync',
  providerUpdatedAt: 'clerk_updated_at',
  fingerprint: 'clerk_fingerprint',
  tokensValidFrom: 'tokens_valid_from',
  revokedSessions: 'revoked_sessions',
  deletedAt: 'deleted_at',
  revision: 'revision'
})

const owner = '@orientor/smart-sync'
const fields = Object.keys(defaultColumns) as ReadonlyArray<keyof UserColumns>

const columns: OptionRule<UserColumns> = rule(`an object with any of ${fields.join(', ')}`, input => {
  if (typeof input !== 'object' || input === null || Array.isArray(input)) return undefined
  const rules = Object.fromEntries(fields.map(field => [field, withDefault(columnName, defaultColumns[field])]))
  return readOptions<UserColumns>(`${owner}: columns`, input, rules as OptionRules<UserColumns>)
})

const suppliers: OptionRule<UsersTable['insert']> = rule('an object of functions, by the names of columns', input => {
  if (typeof input !== 'object' || input === null || Array.isArray(input)) return undefined
  const areSuppliers = Object.entries(input).every(([name, supplier]) => isName(name) && typeof supplier === 'function')
  return areSuppliers ? Object.freeze({ ...input }) as UsersTable['insert'] : undefined
})

/** The rules by which the options are read. */
export const usersTableRules: OptionRules<UsersTable> = {
  tables: withDefault(tableNames, defaultTableNames),
  subject: withDefault(columnName, defaultSubject),
  issuer: withDefault(issuerColumn, 'issuer'),
  columns: withDefault(columns, defaultColumns),
  extra: withDefault(listOf(columnName), []),
  insert: withDefault(suppliers, {}),
  createUsers: withDefault(flag, true),
  harmlessTriggers: withDefault(listOf(nameOf('trigger')), []),
  columnLists: withDefault(flag, true)
}

/**
 * Reads the options alone.
 *
 * @throws ORI_CONTRACT_INVALID_OPTION naming the option, the rule and what was received
 */
export function resolveUsersTable (input: UsersTableOptions): UsersTable {
  const table = readOptions<UsersTable>(owner, input, usersTableRules)
  checkUsersTable(table)
  return table
}

/**
 * Refuses options that contradict each other.
 *
 * @throws ORI_CONTRACT_INVALID_OPTION
 */
export function checkUsersTable (table: UsersTable): void {
  const { columns: { userId, ...columns }, extra, insert, createUsers } = table
  // The provider's id of a user may be the app's own as well.
  const key = keyColumns(table)
  for (const names of [[...key, ...Object.values(columns)], [userId, ...Object.values(columns)], extra]) {
    const twice = names.find((name, place) => names.indexOf(name) !== place)
    if (twice !== undefined) {
      throw invalidOption(owner,
        `the column ${JSON.stringify(twice)} is named twice. The rule: one column holds one thing.`)
    }
  }
  const written = Object.keys(insert).find(name => writtenColumns(table).includes(name))
  if (written !== undefined) {
    throw invalidOption(owner, `option "insert" names ${JSON.stringify(written)}, which smart-sync writes itself. ` +
      'The rule: it supplies what nothing else does.')
  }
  if (!createUsers && Object.keys(insert).length > 0) {
    throw invalidOption(owner, 'the options "insert" and "createUsers: false" exclude each other; received both.')
  }
}

/** The description alone, of options that hold more. */
export function usersTableOf (options: UsersTable): UsersTable {
  const { tables, subject, issuer, columns, extra, insert, createUsers, harmlessTriggers, columnLists } = options
  return { tables, subject, issuer, columns, extra, insert, createUsers, harmlessTriggers, columnLists }
}

/** The columns that tell who the user is. */
export function keyColumns ({ issuer, subject }: UsersTable): readonly string[] {
  return typeof issuer === 'string' ? [issuer, subject] : [subject]
}

/**
 * The columns that a load reads, beside those of the key and the revision, and without `lastSyncedAt`, which changes no
 * user.
 */
export function readColumns ({ columns: { lastSyncedAt, revision, ...read }, extra }: UsersTable): readonly string[] {
  return [...new Set([...Object.values(read), ...extra])]
}

/** The fields of a user that smart-sync writes, beside the key. */
export const writtenFields = [
  'email', 'firstName', 'lastName', 'profile', 'blocked', 'providerUpdatedAt', 'fingerprint', 'lastSyncedAt'
] as const

/** The columns that smart-sync writes when it inserts a user: those of the key, then those of `writtenFields`. */
export function writtenColumns (table: UsersTable): readonly string[] {
  return [...keyColumns(table), ...writtenFields.map(field => table.columns[field])]
}
