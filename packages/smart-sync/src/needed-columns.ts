import { keyColumns, type UserColumns, type UsersTable } from './users-table.js'

/** A column of the users table that smart-sync needs. */
export interface NeededColumn {
  readonly name: string
  /** Its type and constraints where a migration has to add it. */
  readonly definition: string
  /** The types, below all domains and by their names in `pg_type`, that it can be written as. */
  readonly accepted: readonly string[]
  /** Other types that it can be read from, though not written; `any`: all. */
  readonly readable: readonly string[] | 'any'
  /** Whether smart-sync writes null into it: `always` sooner or later, or for some users (`maybe`). */
  readonly writesNull: 'never' | 'maybe' | 'always'
}

const names = {
  definition: 'text', accepted: ['text', 'varchar', 'citext'], readable: 'any', writesNull: 'maybe'
} as const
const instants = {
  definition: 'timestamptz(3)', accepted: ['timestamptz'], readable: ['timestamp', 'date']
} as const
const flags = { accepted: ['bool'], readable: [], writesNull: 'never' } as const
const key = { definition: 'text', accepted: ['text', 'varchar'], readable: ['citext'], writesNull: 'never' } as const

const fields: Readonly<Record<Exclude<keyof UserColumns, 'userId'>, Omit<NeededColumn, 'name'>>> = {
  email: names,
  firstName: names,
  lastName: names,
  profile: { definition: 'jsonb', accepted: ['jsonb', 'json'], readable: [], writesNull: 'always' },
  isActive: { ...flags, definition: 'boolean NOT NULL DEFAULT true' },
  blocked: { ...flags, definition: 'boolean NOT NULL DEFAULT false' },
  onboardingCompleted: { ...flags, definition: 'boolean NOT NULL DEFAULT false' },
  lastSyncedAt: { ...instants, writesNull: 'always' },
  providerUpdatedAt: { ...instants, writesNull: 'always' },
  fingerprint: { definition: 'text', accepted: ['text', 'varchar'], readable: 'any', writesNull: 'never' },
  tokensValidFrom: { ...instants, writesNull: 'never' },
  revokedSessions: {
    definition: 'jsonb NOT NULL DEFAULT \'{}\'', accepted: ['jsonb'], readable: ['json'], writesNull: 'never'
  },
  // Only whether it is null is read.
  deletedAt: { ...instants, accepted: ['timestamptz', 'timestamp', 'date'], writesNull: 'never' },
  revision: {
    definition: 'bigint NOT NULL DEFAULT 1', accepted: ['int8'], readable: ['int2', 'int4'], writesNull: 'never'
  }
}

/** The columns that smart-sync needs, beside the user's own id. */
export function neededColumns (table: UsersTable): readonly NeededColumn[] {
  const ofUser = Object.entries(fields).map(([field, column]) => {
    return { name: table.columns[field as keyof UserColumns], ...column }
  })
  return [...keyColumns(table).map(name => ({ name, ...key })), ...ofUser]
}
