import { quotedName } from '@orientor/session-contract/core'
import { noteOf, revisionTrigger } from './sql/revision-trigger.js'
import type { ColumnFacts, TableFacts } from './sql/table-facts.js'
import { bareTable, quotedTable } from './table-names.js'
import { keyColumns, readColumns, writtenColumns, type UserColumns, type UsersTable } from './users-table.js'

/** Something about the users table that keeps smart-sync from its work. */
export interface Flaw {
  /** What is wrong, with the column where it is one. */
  readonly what: string
  /** What to do about it. */
  readonly remedy: string
}

/** Whether smart-sync can work with a users table. */
export interface Adoption {
  /** Whether users can be read. */
  readonly isReadable: boolean
  /** Why users cannot be written; none: they can. */
  readonly refusals: readonly Flaw[]
  /** What may become an error, or costs more than it must. */
  readonly warnings: readonly Flaw[]
}

/** A column that a table needs: its definition where it has to be made, and the types below all domains that will do. */
export interface NeededColumn {
  readonly name: string
  readonly definition: string
  readonly accepted: readonly string[]
  /** Other types that it can be read from, though not written; `any`: all. */
  readonly readable: readonly string[] | 'any'
  /** Whether smart-sync writes null into it: `always` sooner or later, or for some users (`maybe`). */
  readonly writesNull: 'never' | 'maybe' | 'always'
}

const names = { definition: 'text', accepted: ['text', 'varchar', 'citext'], readable: 'any', writesNull: 'maybe' } as const
const instants = { definition: 'timestamptz(3)', accepted: ['timestamptz'], readable: ['timestamp', 'date'] } as const
const flags = { accepted: ['bool'], readable: [], writesNull: 'never' } as const

const needed: Readonly<Record<Exclude<keyof UserColumns, 'userId'>, Omit<NeededColumn, 'name'>>> = {
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
  revokedSessions: { definition: 'jsonb NOT NULL DEFAULT \'{}\'', accepted: ['jsonb'], readable: ['json'], writesNull: 'never' },
  // Only whether it is null is read.
  deletedAt: { ...instants, accepted: ['timestamptz', 'timestamp', 'date'], writesNull: 'never' },
  revision: { definition: 'bigint NOT NULL DEFAULT 1', accepted: ['int8'], readable: ['int2', 'int4'], writesNull: 'never' }
}

/** The columns that smart-sync needs, beside the user's own id. */
export function neededColumns (table: UsersTable): readonly NeededColumn[] {
  const key = keyColumns(table).map((name): NeededColumn => {
    return { name, definition: 'text', accepted: ['text', 'varchar'], readable: ['citext'], writesNull: 'never' }
  })
  return [...key, ...Object.entries(needed).map(([field, column]) => ({ name: table.columns[field as keyof UserColumns], ...column }))]
}

/**
 * What keeps a table that is there from being completed: no migration can mend it. Pure.
 *
 * @returns none: it can be
 */
export function completionFlaws (table: UsersTable, facts: TableFacts): readonly Flaw[] {
  const name = quotedTable(table.tables.users)
  if (facts.kind !== 'r' && facts.kind !== 'p') return [flaw(`the relation ${name} is not a table`, 'Name the table itself in the option "tables"')]
  const own = [table.columns.userId, ...table.extra].filter(other => columnOf(facts, other) === undefined).map(other => {
    return flaw(`the table ${name} has no column ${JSON.stringify(other)}; its columns are ${facts.columns.map(({ name }) => name).join(', ')}`, 'Mend the options')
  })
  return [...own, ...typeFlaws(table, facts).filter(({ isReadable }) => !isReadable)]
}

/** Whether every column that smart-sync needs is there. */
export function isComplete (table: UsersTable, facts: TableFacts): boolean {
  return neededColumns(table).every(({ name }) => columnOf(facts, name) !== undefined)
}

/**
 * Judges a users table as strictly as the statements will be. Pure.
 *
 * @param facts - null: there is no such table
 * @param hasRowsWithoutIssuer - rows that name a subject and no issuer
 */
export function judgeAdoption (table: UsersTable, facts: TableFacts | null, hasRowsWithoutIssuer: boolean): Adoption {
  const name = quotedTable(table.tables.users)
  if (facts === null) return { isReadable: false, refusals: [flaw(`the table ${name} does not exist`, 'Run the migrations, or name the table in the option "tables"')], warnings: [] }
  const unreadable = [...completionFlaws(table, facts), ...missingFlaws(table, facts)]
  if (unreadable.length > 0) return { isReadable: false, refusals: unreadable, warnings: [] }

  const [onInsert, insertWarnings] = table.createUsers ? insertFlaws(table, facts) : [[], []]
  const hidden: Flaw[] = []
  if (facts.hidden.length > 0) {
    hidden.push(flaw(
      `row-level security may hide rows of ${name} from the role (${facts.hidden.join(', ')})`,
      'Let the role see them: ALTER ROLE … BYPASSRLS, or CREATE POLICY … FOR ALL TO … USING (true) WITH CHECK (true)'
    ))
  }
  const refusals = [...typeFlaws(table, facts), ...keyFlaws(table, facts, hasRowsWithoutIssuer), ...writtenFlaws(table, facts), ...onInsert, ...hidden]
  const warnings = [...insertWarnings, ...nullWarnings(table, facts), ...countingWarnings(table, facts)]
  if (!revisionTrigger(table, facts).isInPlace) {
    warnings.push(flaw(
      `the trigger that counts ${column(table.columns.revision)} is not as this version needs it`,
      'Run migrate() as the owner of the table; until then caches load users more often than they must'
    ))
  }
  return { isReadable: true, refusals, warnings }
}

/** What makes the trigger that counts the revision cost more than it must, or count in a column of the app's own. */
function countingWarnings ({ harmlessTriggers, columnLists, columns: { revision }, tables }: UsersTable, facts: TableFacts): Flaw[] {
  const warnings: Flaw[] = []
  const others = facts.beforeUpdate.filter(name => !harmlessTriggers.includes(name))
  const named = (names: readonly string[]): string => names.map(name => JSON.stringify(name)).join(', ')
  if (columnLists && others.length > 0) {
    warnings.push(flaw(
      `every update of ${quotedTable(tables.users)} calls the trigger that counts ${column(revision)}, since ${named(others)} may change what is read where the update does not say so`,
      `If that changes no column that smart-sync reads, give the option harmlessTriggers: [${named(others)}]`
    ))
  }
  const unknown = harmlessTriggers.filter(name => !facts.beforeUpdate.includes(name))
  if (unknown.length > 0) {
    warnings.push(flaw(`the option "harmlessTriggers" names ${named(unknown)}, which is no enabled trigger BEFORE UPDATE FOR EACH ROW of ${quotedTable(tables.users)}`, 'Mend the option'))
  }
  const { created, added } = noteOf(facts.revisionTrigger?.note ?? null)
  if (created === false && added?.includes(revision) === false) {
    warnings.push(flaw(
      `${column(revision)} was there before smart-sync, which counts in it: what the app writes into it is replaced`,
      'If the app uses it, name another column in the option columns: { revision: … } and run migrate()'
    ))
  }
  return warnings
}

/** The flaws in one paragraph. */
export function sentenceOf (flaws: readonly Flaw[]): string {
  return flaws.map(({ what, remedy }) => `${what}. ${remedy}.`).join(' ')
}

/** Columns of a type that cannot be written; `isReadable`: but that can be read. */
function typeFlaws (table: UsersTable, facts: TableFacts): ReadonlyArray<Flaw & { readonly isReadable: boolean }> {
  return neededColumns(table).flatMap(({ name, accepted, readable }) => {
    const found = columnOf(facts, name)
    if (found === undefined || accepted.includes(found.typeName)) return []
    const isReadable = readable === 'any' || readable.includes(found.typeName)
    const what = `${column(name)} of ${bareTable(table.tables.users)} has type ${found.type}; smart-sync can use ${accepted.join(' or ')}`
    return [{ ...flaw(what, typeRemedy(table, found, accepted)), isReadable }]
  })
}

function typeRemedy ({ tables }: UsersTable, { name, typeName }: ColumnFacts, accepted: readonly string[]): string {
  const another = 'or name another column in the option "columns"'
  if (!accepted.includes('timestamptz') || typeName !== 'timestamp') return `Alter its type, ${another}`
  const quoted = quotedName(name)
  return `ALTER TABLE ${quotedTable(tables.users)} ALTER COLUMN ${quoted} TYPE timestamptz(3) USING ${quoted} AT TIME ZONE 'UTC', ${another}`
}

/** Columns that are not there, or not granted. */
function missingFlaws (table: UsersTable, facts: TableFacts): Flaw[] {
  const name = quotedTable(table.tables.users)
  const flaws = neededColumns(table).filter(({ name }) => columnOf(facts, name) === undefined).map(({ name: missing, definition }) => {
    return flaw(`${column(missing)} is not there`, `Run the migrations: ALTER TABLE ${name} ADD COLUMN ${quotedName(missing)} ${definition}`)
  })
  const read = [...keyColumns(table), ...readColumns(table), table.columns.revision, table.columns.lastSyncedAt]
  const ungranted = read.filter(name => columnOf(facts, name)?.granted.includes('SELECT') === false)
  if (ungranted.length > 0) flaws.push(flaw(`the role may not SELECT ${ungranted.map(column).join(', ')}`, `GRANT SELECT ON ${name} TO …`))
  return flaws
}

/** What keeps the key from naming one user, byte by byte. */
function keyFlaws (table: UsersTable, facts: TableFacts, hasRowsWithoutIssuer: boolean): Flaw[] {
  const { issuer, createUsers, tables } = table
  const name = quotedTable(tables.users)
  const key = keyColumns(table)
  const flaws = key.filter(part => columnOf(facts, part)?.isDeterministic === false).map(part => flaw(
    `${column(part)} has a collation that takes different texts for equal, so that one user could write another's row`,
    `ALTER TABLE ${name} ALTER COLUMN ${quotedName(part)} TYPE text COLLATE "C"`
  ))
  const unique = facts.unique.filter(({ columns, isDeterministic }) => isDeterministic && columns.length === key.length && key.every(part => columns.includes(part)))
  const remedy = `ALTER TABLE ${name} ADD UNIQUE (${key.map(quotedName).join(', ')})`
  if (unique.length === 0) flaws.push(flaw(`nothing keeps ${key.map(column).join(' and ')} unique`, remedy))
  else if (createUsers && unique.some(({ isImmediate }) => !isImmediate)) {
    flaws.push(flaw(`the unique constraint on ${key.map(column).join(' and ')} is deferrable, which ON CONFLICT cannot go by`, `Drop it, and ${remedy}`))
  }
  if (hasRowsWithoutIssuer && typeof issuer === 'string') {
    flaws.push(flaw(
      `${column(issuer)} is null in rows that name a subject, so that their users would get a second row`,
      `ALTER TABLE ${name} ADD COLUMN IF NOT EXISTS ${quotedName(issuer)} text; UPDATE ${name} SET ${quotedName(issuer)} = 'https://…' ` +
      `WHERE ${quotedName(issuer)} IS NULL, or give the option issuer: { always: 'https://…' }`
    ))
  }
  return flaws
}

/** What keeps the columns that smart-sync writes from being written. */
function writtenFlaws (table: UsersTable, facts: TableFacts): Flaw[] {
  const { createUsers, insert, columns, tables } = table
  const written = [...writtenColumns(table), ...Object.keys(insert)]
  const flaws: Flaw[] = []
  for (const name of [...written, columns.revision]) {
    const { generated, identity } = columnOf(facts, name) ?? { generated: '', identity: '' }
    if (generated !== '') flaws.push(flaw(`${column(name)} is a generated column, which cannot be written`, 'Name another column in the option "columns"'))
    else if (identity === 'a') flaws.push(flaw(`${column(name)} is GENERATED ALWAYS AS IDENTITY, which cannot be written`, 'Leave it out of the option "insert"'))
  }
  for (const { name, writesNull } of neededColumns(table)) {
    if (writesNull === 'always' && columnOf(facts, name)?.notNull === true) {
      flaws.push(flaw(`${column(name)} refuses null, which smart-sync writes`, dropNotNull(table, columnOf(facts, name)!)))
    }
  }
  const missing = Object.keys(insert).filter(name => columnOf(facts, name) === undefined)
  if (missing.length > 0) flaws.push(flaw(`${missing.map(column).join(', ')} is not there`, 'Mend the option "insert"'))
  const locked = createUsers ? Object.entries(facts.lockedSequences).filter(([name]) => !written.includes(name)) : []
  for (const [name, sequence] of locked) flaws.push(flaw(`the role may not draw from the sequence ${sequence}, which the default of ${column(name)} does`, `GRANT USAGE ON SEQUENCE ${sequence} TO …`))
  if (createUsers && !facts.readsTombstones) {
    const name = quotedTable(tables.tombstones)
    flaws.push(flaw(`the role may not SELECT from ${name}, where deleted users are remembered`, `GRANT SELECT ON ${name} TO …`))
  }
  for (const privilege of ['INSERT', 'UPDATE']) {
    const needs = privilege === 'INSERT' ? createUsers ? written : [] : writtenColumns(table).filter(name => !keyColumns(table).includes(name))
    const ungranted = needs.filter(name => columnOf(facts, name)?.granted.includes(privilege) === false)
    if (ungranted.length > 0) flaws.push(flaw(`the role may not ${privilege} ${ungranted.map(column).join(', ')}`, `GRANT ${privilege} ON ${quotedTable(tables.users)} TO …`))
  }
  return flaws
}

/** What an INSERT leaves out that the table neither supplies nor lets be null: an error, or where a trigger may supply it a warning. */
function insertFlaws (table: UsersTable, facts: TableFacts): readonly [refusals: Flaw[], warnings: Flaw[]] {
  const { columns: { userId }, insert, tables } = table
  const given = [...writtenColumns(table), ...Object.keys(insert)]
  const flaws = facts.columns
    .filter(({ name, notNull, hasDefault, generated }) => !given.includes(name) && !hasDefault && generated === '' && (notNull || name === userId))
    .map(({ name }) => flaw(
      `${column(name)} has no default${name === userId ? '' : ' and refuses null'}, and smart-sync does not fill it`,
      `ALTER TABLE ${quotedTable(tables.users)} ALTER COLUMN ${quotedName(name)} SET DEFAULT …, or give the option insert: { ${JSON.stringify(name)}: () => … }, or createUsers: false`
    ))
  if (facts.beforeInsert.length === 0) return [flaws, []]
  return [[], flaws.map(({ what, remedy }) => flaw(`${what}, unless the trigger ${facts.beforeInsert.map(name => JSON.stringify(name)).join(' or ')} does`, `If it does not: ${remedy}`))]
}

/** Columns that refuse the null that some users have. */
function nullWarnings (table: UsersTable, facts: TableFacts): Flaw[] {
  return neededColumns(table)
    .filter(({ name, writesNull }) => writesNull === 'maybe' && columnOf(facts, name)?.notNull === true)
    .map(({ name }) => flaw(`${column(name)} refuses null, so that a user without one cannot be stored`, dropNotNull(table, columnOf(facts, name)!)))
}

function dropNotNull ({ tables }: UsersTable, { name, type, isDomainNotNull }: ColumnFacts): string {
  return isDomainNotNull ? `ALTER DOMAIN ${type} DROP NOT NULL, or name another column in the option "columns"` : `ALTER TABLE ${quotedTable(tables.users)} ALTER COLUMN ${quotedName(name)} DROP NOT NULL`
}

function columnOf (facts: TableFacts, name: string): ColumnFacts | undefined {
  return facts.columns.find(column => column.name === name)
}

function column (name: string): string {
  return `column ${JSON.stringify(name)}`
}

function flaw (what: string, remedy: string): Flaw {
  return { what, remedy }
}
