import { quotedName } from '@orientor/session-contract/core'
import { neededColumns } from './needed-columns.js'
import { keyList } from './sql/keys.js'
import { noteOf, revisionTrigger } from './sql/revision-trigger.js'
import type { ColumnFacts, TableFacts } from './sql/table-facts.js'
import { bareTable, quotedTable } from './table-names.js'
import { defaultSubject, keyColumns, readColumns, writtenColumns, type UsersTable } from './users-table.js'

/** A property of the users table that keeps smart-sync from its work. */
export interface Flaw {
  /** The fault, with the column where it is one: a sentence without a capital and a full stop. */
  readonly what: string
  /** The way to mend it: a sentence without a full stop. */
  readonly remedy: string
}

/** The judgement on a users table: whether smart-sync can read it, and write it. */
export interface Adoption {
  /** Whether users can be read. */
  readonly isReadable: boolean
  /** The reasons why users cannot be written; none: they can. */
  readonly refusals: readonly Flaw[]
  /** Flaws that may become an error, or cost more than they must. */
  readonly warnings: readonly Flaw[]
}

/** The flaws that keep a table that is there from being completed: no migration can mend them. Pure. */
export function completionFlaws (table: UsersTable, facts: TableFacts): readonly Flaw[] {
  const name = quotedTable(table.tables.users)
  if (facts.kind !== 'r' && facts.kind !== 'p') {
    return [flaw(`the relation ${name} is not a table`, 'Name the table itself in the option "tables"')]
  }
  const there = facts.columns.map(({ name }) => name).join(', ')
  const own = [table.columns.userId, ...table.extra].filter(other => columnOf(facts, other) === undefined)
    .map(other => flaw(`the table ${name} has no ${column(other)}; its columns are ${there}`, 'Mend the options'))
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
  if (facts === null) {
    const remedy = 'Run the migrations, or name the table in the option "tables"'
    return { isReadable: false, refusals: [flaw(`the table ${name} does not exist`, remedy)], warnings: [] }
  }
  const unreadable = [...completionFlaws(table, facts), ...missingFlaws(table, facts)]
  if (unreadable.length > 0) return { isReadable: false, refusals: unreadable, warnings: [] }

  const [onInsert, insertWarnings] = table.createUsers ? insertFlaws(table, facts) : [[], []]
  const hidden: Flaw[] = []
  if (facts.hidden.length > 0) {
    hidden.push(flaw(
      `row-level security may hide rows of ${name} from the role (${facts.hidden.join(', ')})`,
      'Let the role see them: ALTER ROLE … BYPASSRLS, ' +
      'or CREATE POLICY … FOR ALL TO … USING (true) WITH CHECK (true)'
    ))
  }
  const refusals = [
    ...typeFlaws(table, facts), ...keyFlaws(table, facts, hasRowsWithoutIssuer), ...writtenFlaws(table, facts),
    ...onInsert, ...hidden
  ]
  const warnings = [...insertWarnings, ...nullWarnings(table, facts), ...countingWarnings(table, facts)]
  if (!revisionTrigger(table, facts).isInPlace) {
    warnings.push(flaw(
      `the trigger that counts ${column(table.columns.revision)} is not as this version needs it`,
      'Run migrate() as the owner of the table; until then caches load users more often than they must'
    ))
  }
  return { isReadable: true, refusals, warnings }
}

/**
 * The warnings about the trigger that counts the revision: it costs more than it must, or counts in a column of the app's
 * own.
 */
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

/** The flaws of columns of a type that cannot be written; `isReadable`: it can be read at least. */
function typeFlaws (table: UsersTable, facts: TableFacts): ReadonlyArray<Flaw & { readonly isReadable: boolean }> {
  return neededColumns(table).flatMap(({ name, accepted, readable }) => {
    const found = columnOf(facts, name)
    if (found === undefined || accepted.includes(found.typeName)) return []
    const isReadable = readable === 'any' || readable.includes(found.typeName)
    const what = `${column(name)} of ${bareTable(table.tables.users)} has type ${found.type}; ` +
      `smart-sync can use ${accepted.join(' or ')}`
    return [{ ...flaw(what, typeRemedy(table, found, accepted)), isReadable }]
  })
}

function typeRemedy ({ tables }: UsersTable, { name, typeName }: ColumnFacts, accepted: readonly string[]): string {
  const another = 'or name another column in the option "columns"'
  if (!accepted.includes('timestamptz') || typeName !== 'timestamp') return `Alter its type, ${another}`
  const [users, quoted] = [quotedTable(tables.users), quotedName(name)]
  return `ALTER TABLE ${users} ALTER COLUMN ${quoted} TYPE timestamptz(3) ` +
    `USING ${quoted} AT TIME ZONE 'UTC', ${another}`
}

/** The flaws of columns that are not there, or that the role may not read. */
function missingFlaws (table: UsersTable, facts: TableFacts): Flaw[] {
  const name = quotedTable(table.tables.users)
  const missing = neededColumns(table).filter(({ name }) => columnOf(facts, name) === undefined)
  const flaws = missing.map(({ name: other, definition }) => {
    const remedy = `Run the migrations: ALTER TABLE ${name} ADD COLUMN ${quotedName(other)} ${definition}`
    return flaw(`${column(other)} is not there`, remedy)
  })
  const read = [...keyColumns(table), ...readColumns(table), table.columns.revision, table.columns.lastSyncedAt]
  const ungranted = read.filter(name => columnOf(facts, name)?.granted.includes('SELECT') === false)
  return [...flaws, ...privilegeFlaws(table, 'SELECT', ungranted)]
}

function privilegeFlaws ({ tables }: UsersTable, privilege: string, ungranted: readonly string[]): Flaw[] {
  if (ungranted.length === 0) return []
  const what = `the role may not ${privilege} ${ungranted.map(column).join(', ')}`
  return [flaw(what, `GRANT ${privilege} ON ${quotedTable(tables.users)} TO …`)]
}

/** The flaws of privileges on sequences that defaults draw from. */
function lockedFlaws (facts: TableFacts, written: readonly string[]): Flaw[] {
  const locked = Object.entries(facts.lockedSequences).filter(([name]) => !written.includes(name))
  const flaws = locked.map(([name, sequence]) => flaw(
    `the role may not draw from the sequence ${sequence}, which the default of ${column(name)} does`,
    `GRANT USAGE ON SEQUENCE ${sequence} TO …`
  ))
  return flaws
}

/** The flaw of a role that may not see who was deleted. */
function tombstoneFlaws ({ tables }: UsersTable, { readsTombstones }: TableFacts): Flaw[] {
  if (readsTombstones) return []
  const tombstones = quotedTable(tables.tombstones)
  const what = `the role may not SELECT from ${tombstones}, where deleted users are remembered`
  return [flaw(what, `GRANT SELECT ON ${tombstones} TO …`)]
}

/** The flaws that keep the key from naming one user, byte by byte. */
function keyFlaws (table: UsersTable, facts: TableFacts, hasRowsWithoutIssuer: boolean): Flaw[] {
  const { issuer, createUsers, tables } = table
  const name = quotedTable(tables.users)
  const key = keyColumns(table)
  const flaws = key.filter(part => columnOf(facts, part)?.isDeterministic === false).map(part => flaw(
    `${column(part)} has a collation that takes different texts for equal, so that one user could write another's row`,
    `ALTER TABLE ${name} ALTER COLUMN ${quotedName(part)} TYPE text COLLATE "C"`
  ))
  const unique = facts.unique.filter(({ columns, isDeterministic }) => {
    return isDeterministic && columns.length === key.length && key.every(part => columns.includes(part))
  })
  const keyInWords = key.map(column).join(' and ')
  const remedy = `ALTER TABLE ${name} ADD UNIQUE (${keyList(table)})`
  if (unique.length === 0) flaws.push(flaw(`nothing keeps ${keyInWords} unique`, remedy))
  else if (createUsers && unique.some(({ isImmediate }) => !isImmediate)) {
    const what = `the unique constraint on ${keyInWords} is deferrable, which ON CONFLICT cannot go by`
    flaws.push(flaw(what, `Drop it, and ${remedy}`))
  }
  if (hasRowsWithoutIssuer && typeof issuer === 'string') {
    flaws.push(flaw(
      `${column(issuer)} is null in rows that name a subject, so that their users would get a second row`,
      `ALTER TABLE ${name} ADD COLUMN IF NOT EXISTS ${quotedName(issuer)} text; ` +
      `UPDATE ${name} SET ${quotedName(issuer)} = 'https://…' WHERE ${quotedName(issuer)} IS NULL, ` +
      'or give the option issuer: { always: \'https://…\' }'
    ))
  }
  return flaws
}

/** The flaws that keep the columns that smart-sync writes from being written. */
function writtenFlaws (table: UsersTable, facts: TableFacts): Flaw[] {
  const { createUsers, insert, columns } = table
  const written = [...writtenColumns(table), ...Object.keys(insert)]
  const flaws: Flaw[] = []
  for (const name of [...written, columns.revision]) {
    const { generated, identity } = columnOf(facts, name) ?? { generated: '', identity: '' }
    if (generated !== '') {
      const what = `${column(name)} is a generated column, which cannot be written`
      flaws.push(flaw(what, 'Name another column in the option "columns"'))
    } else if (identity === 'a') {
      const what = `${column(name)} is GENERATED ALWAYS AS IDENTITY, which cannot be written`
      flaws.push(flaw(what, 'Leave it out of the option "insert"'))
    }
  }
  for (const { name, writesNull } of neededColumns(table)) {
    const found = columnOf(facts, name)
    if (writesNull === 'always' && found?.notNull === true) {
      flaws.push(flaw(`${column(name)} refuses null, which smart-sync writes`, dropNotNull(table, found)))
    }
  }
  const missing = Object.keys(insert).filter(name => columnOf(facts, name) === undefined)
  if (missing.length > 0) flaws.push(flaw(`${missing.map(column).join(', ')} is not there`, 'Mend the option "insert"'))
  if (createUsers) flaws.push(...lockedFlaws(facts, written))
  flaws.push(...tombstoneFlaws(table, facts))
  const needs = {
    INSERT: createUsers ? written : [],
    UPDATE: writtenColumns(table).filter(name => !keyColumns(table).includes(name))
  }
  for (const [privilege, names] of Object.entries(needs)) {
    const ungranted = names.filter(name => columnOf(facts, name)?.granted.includes(privilege) === false)
    flaws.push(...privilegeFlaws(table, privilege, ungranted))
  }
  return flaws
}

/**
 * The flaws of columns that an INSERT leaves out and that the table neither supplies nor lets be null: refusals, or
 * warnings where a trigger may supply them.
 */
function insertFlaws (table: UsersTable, facts: TableFacts): readonly [refusals: Flaw[], warnings: Flaw[]] {
  const { columns: { userId }, insert, tables } = table
  const given = [...writtenColumns(table), ...Object.keys(insert)]
  const flaws = facts.columns
    .filter(({ name, notNull, hasDefault, generated }) => {
      return !given.includes(name) && !hasDefault && generated === '' && (notNull || name === userId)
    })
    .map(({ name, typeName }) => flaw(
      `${column(name)} has no default${name === userId ? '' : ' and refuses null'}, and smart-sync does not fill it`,
      `${mayBeSubject(table, facts, name, typeName) ? `If it holds the provider's id of a user, give the option subject: ${JSON.stringify(name)}; else ` : ''}` +
      `ALTER TABLE ${quotedTable(tables.users)} ALTER COLUMN ${quotedName(name)} SET DEFAULT …, ` +
      `or give the option insert: { ${JSON.stringify(name)}: () => … }, or createUsers: false`
    ))
  if (facts.beforeInsert.length === 0) return [flaws, []]
  const triggers = facts.beforeInsert.map(name => JSON.stringify(name)).join(' or ')
  return [[], flaws.map(({ what, remedy }) => {
    return flaw(`${what}, unless the trigger ${triggers} does`, `If it does not: ${remedy}`)
  })]
}

/** Whether a column may hold the provider's id of a user, where the option that names it was not given. */
function mayBeSubject ({ subject, columns: { userId } }: UsersTable, { unique }: TableFacts, name: string, typeName: string): boolean {
  const isText = typeName === 'text' || typeName === 'varchar'
  return subject === defaultSubject && isText && name !== userId && unique.some(({ columns }) => columns.length === 1 && columns[0] === name)
}

/** The flaws of columns that refuse the null that some users have. */
function nullWarnings (table: UsersTable, facts: TableFacts): Flaw[] {
  return neededColumns(table).flatMap(({ name, writesNull }) => {
    const found = columnOf(facts, name)
    if (writesNull !== 'maybe' || found?.notNull !== true) return []
    const what = `${column(name)} refuses null, so that a user without one cannot be stored`
    return [flaw(what, dropNotNull(table, found))]
  })
}

function dropNotNull ({ tables }: UsersTable, { name, type, isDomainNotNull }: ColumnFacts): string {
  return isDomainNotNull
    ? `ALTER DOMAIN ${type} DROP NOT NULL, or name another column in the option "columns"`
    : `ALTER TABLE ${quotedTable(tables.users)} ALTER COLUMN ${quotedName(name)} DROP NOT NULL`
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
