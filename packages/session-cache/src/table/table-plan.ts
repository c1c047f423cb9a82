import { createHash } from 'node:crypto'
import { extraField, extraSql, instantMsSql, invalidOption, quotedName, readMarkSql } from '@orientor/session-contract/core'
import type { ColumnFacts, TableFacts } from './table-facts.js'
import { owner, type TableSourceConfig } from './table-source-options.js'

/** The statement that reads users from a table, as the table is now. */
export interface TablePlan {
  /** The name under which connections prepare the statement. */
  readonly name: string
  /**
   * SQL that takes the subjects and, where the issuer is a column, the issuers: lists of the same length. Answers with
   * the fields of a user by their names, those of `extra` by extraField(), and `subject` and `issuer`; in each row with
   * `readMark`. Where no user is found it answers with one row that has nothing else.
   */
  readonly text: string
  /** Whether the column of the subject can hold this text; another names no user, and would fail the statement. */
  readonly accepts: (subject: string) => boolean
}

/** The way in which a column is read. */
type Kind = 'text' | 'isNotFalse' | 'isTrue' | 'isThere' | 'instant' | 'json' | 'number' | 'extra'

interface Selected {
  /** Its name in the answer. */
  readonly field: string
  /** The option that names the column, for messages. */
  readonly option: string
  readonly column: string
  readonly kind: Kind
}

const kinds: Readonly<Record<keyof TableSourceConfig['columns'], Kind>> = {
  userId: 'text',
  email: 'text',
  firstName: 'text',
  lastName: 'text',
  isActive: 'isNotFalse',
  onboardingCompleted: 'isTrue',
  profile: 'json',
  providerUpdatedAt: 'instant',
  tokensValidFrom: 'instant',
  deletedAt: 'isThere',
  revision: 'number'
}

const wholeNumbers: readonly string[] = ['int2', 'int4', 'int8']

/** The types that a column of a kind may have, by their names in `pg_type`. A kind that is left out takes any. */
const typesOf: Readonly<Partial<Record<Kind, readonly string[]>>> = {
  isNotFalse: ['bool'],
  isTrue: ['bool'],
  instant: ['timestamptz', 'timestamp'],
  json: ['jsonb', 'json'],
  number: wholeNumbers
}

const texts: readonly string[] = ['text', 'varchar', 'bpchar', 'citext']

/**
 * Tests, by type, whether a column can hold a subject in the one spelling in which PostgreSQL gives it back: another
 * spelling would be another subject. Text types hold any. Whole numbers are taken for the widest, which a column may
 * become.
 */
const spellings: Readonly<Record<string, (subject: string) => boolean>> = {
  uuid: subject => /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(subject),
  ...Object.fromEntries(wholeNumbers.map(type => [type, isWholeNumber]))
}

/** The columns of a table that are read, beside those of the key, each once. */
export function readColumns (config: TableSourceConfig): readonly string[] {
  return [...new Set(selected(config).map(({ column }) => column))]
}

/**
 * Makes the plan, and so checks whether the table is as it is described. Pure.
 *
 * @param facts - undefined: there is no such table
 * @throws ORI_CONTRACT_INVALID_OPTION saying what is wrong, and what there is
 */
export function planOf (config: TableSourceConfig, facts: TableFacts | undefined): TablePlan {
  const { subject, issuer } = config
  const table = tableName(config)
  if (facts === undefined) throw wrong('table', `the table ${table} does not exist${hintAt(config)}.`)
  if (facts.kind !== 'r' && facts.kind !== 'p') {
    throw wrong('table', `${table} is not a table, and only a table can be watched. Name the one below it.`)
  }
  const read = selected(config)
  const key = [{ option: 'subject', column: subject }]
  if (typeof issuer === 'string') key.push({ option: 'issuer', column: issuer })
  checkColumns(table, facts, [...key, ...read])
  for (const { option, column, kind } of read) checkType(option, columnOf(facts, column), typesOf[kind])
  checkType('subject', columnOf(facts, subject), [...texts, ...Object.keys(spellings)])
  if (typeof issuer === 'string') checkType('issuer', columnOf(facts, issuer), texts)
  checkUnique(table, facts, subject, key.map(({ column }) => column))
  checkRows(table, facts)

  const text = select(config, facts, read)
  return {
    name: `orientor_table_${createHash('sha256').update(text).digest('hex').slice(0, 12)}`,
    text,
    accepts: spellings[columnOf(facts, subject).typeName] ?? (() => true)
  }
}

function selected ({ columns, extra }: TableSourceConfig): readonly Selected[] {
  const named = Object.entries(kinds).flatMap(([field, kind]) => {
    const column = columns[field as keyof typeof columns]
    return typeof column === 'string' ? [{ field, option: `columns.${field}`, column, kind }] : []
  })
  const kind: Kind = 'extra'
  return [...named, ...extra.map((column, place) => ({ field: extraField(place), option: 'extra', column, kind }))]
}

type Named = Pick<Selected, 'option' | 'column'>

function checkColumns (table: string, { columns }: TableFacts, needed: readonly Named[]): void {
  const there = columns.map(({ name }) => name)
  const missing = needed.filter(({ column }) => !there.includes(column))
  const [first] = missing
  if (first === undefined) return
  const names = [...new Set(missing.map(({ column }) => JSON.stringify(column)))].join(', ')
  throw wrong(first.option, `the table ${table} has no column ${names}. Its columns are ${there.join(', ')}.`)
}

function checkType (option: string, { name, type, typeName }: ColumnFacts, accepted?: readonly string[]): void {
  if (accepted === undefined || accepted.includes(typeName)) return
  throw wrong(option, `the column ${JSON.stringify(name)} has type ${type}. The rule: it has one of the types ` +
    `${accepted.join(', ')}, or a domain over one.`)
}

function checkUnique (table: string, { unique }: TableFacts, subject: string, key: readonly string[]): void {
  if (unique.some(index => index.includes(subject) && index.every(column => key.includes(column)))) return
  const columns = key.map(quotedName).join(', ')
  throw wrong('subject', `no unique index of ${table} covers all rows by ${columns}. The rule: one row is one user. ` +
    `Run CREATE UNIQUE INDEX CONCURRENTLY ON ${table} (${columns}).`)
}

/** That the table has the rows of its users, and the role reads them. */
function checkRows (table: string, { heirs, hiddenBy }: TableFacts): void {
  if (heirs.length > 0) {
    throw wrong('table', `rows of ${heirs.join(', ')} are rows of ${table} by INHERITS, and no unique index of ${table} ` +
      'covers them. The rule: one row is one user. Make them partitions, or end it with ALTER TABLE … NO INHERIT.')
  }
  if (hiddenBy === null) return
  const by = hiddenBy.length === 0 ? 'no policy lets it read any' : `by ${hiddenBy.map(quotedName).join(', ')}`
  throw wrong('table', `row-level security hides rows of ${table} from the role (${by}), and their users would be ` +
    'unknown. The rule: the role reads all rows. Connect as a role with BYPASSRLS or as the owner of the table, or run ' +
    `CREATE POLICY session_source ON ${table} FOR SELECT TO … USING (true), and exempt the role from restrictive ones.`)
}

function wrong (option: string, flaw: string): Error {
  return invalidOption(owner, `option "${option}": ${flaw}`)
}

function select (config: TableSourceConfig, facts: TableFacts, read: readonly Selected[]): string {
  const table = tableName(config)
  const subject = `u.${quotedName(config.subject)}`
  const listOf = (place: number, column: string): string => {
    const { typeName, baseType } = columnOf(facts, column)
    return `$${place}::text[]::${wholeNumbers.includes(typeName) ? 'pg_catalog.int8' : baseType}[]`
  }
  const fields = read.map(({ field, column, kind }) => `${expression(kind, columnOf(facts, column))} AS "${field}"`)
  fields.push(`${subject}::text AS "subject"`, 'm.mark AS "readMark"')
  // OFFSET keeps the mark from being computed for each row.
  const marked = `(SELECT ${readMarkSql(table)} AS mark OFFSET 0) AS m`
  if (typeof config.issuer !== 'string') {
    const isAsked = `${subject} = ANY (${listOf(1, config.subject)})`
    return `SELECT ${fields.join(', ')} FROM ${marked} LEFT JOIN ${table} AS u ON ${isAsked}`
  }
  const issuer = `u.${quotedName(config.issuer)}`
  fields.push(`${issuer}::text AS "issuer"`)
  const keys = `unnest(${listOf(1, config.subject)}, ${listOf(2, config.issuer)}) AS k(subject, issuer)`
  const isAsked = `${subject} = k.subject AND ${issuer} = k.issuer`
  return `SELECT ${fields.join(', ')} FROM ${marked} LEFT JOIN (${keys} JOIN ${table} AS u ON ${isAsked}) ON true`
}

/**
 * SQL for a column, as text, so that it is the same where the app has results come in binary (`pg.defaults`). A column
 * whose type changes while a plan is in use either fails the statement, or is read by its new type.
 */
function expression (kind: Kind, { name, typeName }: ColumnFacts): string {
  const column = `u.${quotedName(name)}`
  switch (kind) {
    case 'isThere': return `(${column} IS NOT NULL)::text`
    case 'isNotFalse': return `(${column} IS NOT FALSE)::text`
    case 'isTrue': return `(${column} IS TRUE)::text`
    case 'instant': return `${instantMsSql(column)}::text`
    case 'extra': return `${extraSql(column, typeName)}::text`
    default: return `${column}::text`
  }
}

function isWholeNumber (subject: string): boolean {
  return /^(?:0|-?[1-9]\d{0,18})$/.test(subject) && BigInt.asIntN(64, BigInt(subject)) === BigInt(subject)
}

/** A column that is known to be there. */
function columnOf (facts: TableFacts, column: string): ColumnFacts {
  return facts.columns.find(({ name }) => name === column)!
}

/** The table as it stands in a statement. */
function tableName ({ schema, table }: TableSourceConfig): string {
  return [...(schema === null ? [] : [schema]), table].map(quotedName).join('.')
}

/** The end of the sentence about a table that does not exist: how it may be meant. */
function hintAt ({ schema, table }: TableSourceConfig): string {
  if (schema !== null) return ''
  const [first, ...rest] = table.split('.')
  if (rest.length === 0) return ' in the schemas of the search path. Give "schema" where it is in another'
  const name = JSON.stringify(rest.join('.'))
  return `. For a table of another schema write schema: ${JSON.stringify(first)}, table: ${name}`
}
