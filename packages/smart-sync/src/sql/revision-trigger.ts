import { quotedName, sqlLiteral } from '@orientor/session-contract/core'
import { bareTable, quotedTable, schemaOf } from '../table-names.js'
import { defaultColumns, keyColumns, readColumns, type UsersTable } from '../users-table.js'
import type { TableFacts } from './table-facts.js'

/** The trigger that counts the revision, as it has to be. */
export interface RevisionTrigger {
  /** Whether the table has it so. */
  readonly isInPlace: boolean
  /** The SQL that puts it in place; only the owner of the table may run it. */
  readonly sql: string
}

/** The note on the trigger: of the first migration for the way back, and the columns that any version has read. */
interface Note {
  readonly reads?: readonly string[]
  /** Whether the table was made; left out where that is not known. */
  readonly created?: boolean
  /** The columns that were added to it. */
  readonly added?: readonly string[]
}

/** The largest revision that JavaScript holds exactly. */
const maxRevision = Number.MAX_SAFE_INTEGER
const firstColumns: readonly string[] = [
  'issuer', 'clerk_user_id', ...Object.values(defaultColumns).filter(name => name !== defaultColumns.lastSyncedAt)
]

/** The name of the trigger. It sorts last: triggers fire by name, and what the others change must be seen. */
export function revisionTriggerName ({ tables }: UsersTable): string {
  return `zz_${bareTable(tables.users)}_revision`
}

/** The function of the trigger, as it stands in SQL. */
export function revisionFunction ({ tables }: UsersTable): string {
  const schema = schemaOf(tables.users)
  const name = quotedName(`${bareTable(tables.users)}_next_revision`)
  return schema === undefined ? name : `${quotedName(schema)}.${name}`
}

/**
 * The trigger that counts the revision of a table: it grows by one when a column changes, by image, that this version
 * reads or one before it has read, as long as the column is there. Pure.
 *
 * Only updates that set one of those columns call it, unless another trigger before updates may change one where the
 * update does not say so. It never makes an update fail: whatever goes wrong in it counts as a change.
 */
export function revisionTrigger (table: UsersTable, facts: TableFacts): RevisionTrigger {
  const { tables, columns: { revision }, harmlessTriggers, columnLists } = table
  const existing = facts.revisionTrigger
  const note = noteOf(existing?.note ?? null)
  // Versions that noted nothing read the columns by their first names.
  const before = note.reads ?? (existing === null ? [] : firstColumns)
  const wanted = new Set([...keyColumns(table), ...readColumns(table), ...before])
  wanted.delete(revision)
  const reads = facts.columns.filter(({ name }) => wanted.has(name))
  // A trigger before updates does not see what is computed: what that is computed from tells of it.
  const compared = [...new Set(reads.flatMap(({ name, generated, bases }) => generated === '' ? [name] : bases))].sort()
  const isListed = columnLists && facts.beforeUpdate.every(name => harmlessTriggers.includes(name))
  const list = isListed ? [...compared, revision].sort() : []
  const body = revisionBody(compared, revision)
  const names = reads.map(({ name }) => name)
  const isInPlace = existing !== null && existing.isOurs && existing.enabled === 'A' && existing.isCalled && existing.body === body &&
    isSame(existing.columns, list) && isSame(note.reads ?? [], names)
  const users = quotedTable(tables.users)
  const name = quotedName(revisionTriggerName(table))
  const event = list.length === 0 ? 'UPDATE' : `UPDATE OF ${list.map(quotedName).join(', ')}`
  const called = `${revisionFunction(table)}()`
  return {
    isInPlace,
    sql: `${dropForeignFunction(table)}
CREATE OR REPLACE FUNCTION ${called} RETURNS trigger LANGUAGE plpgsql AS ${sqlLiteral(body)};
CREATE OR REPLACE TRIGGER ${name} BEFORE ${event} ON ${users} FOR EACH ROW EXECUTE FUNCTION ${called};
ALTER TABLE ${users} ENABLE ALWAYS TRIGGER ${name};
COMMENT ON TRIGGER ${name} ON ${users} IS ${sqlLiteral(JSON.stringify({ ...note, reads: names }))};`
  }
}

/**
 * SQL for whether a function is one that a migration made, apart from its body: its owner may act for the owner of the
 * table, and it runs with the rights of the writer. Another role that may create functions in the schema could else put
 * one there beforehand, go on owning it when it is replaced, and have others run what it says then.
 */
export function isOurs (procedure: string, tableOwner: string): string {
  const language = "(SELECT l.oid FROM pg_catalog.pg_language AS l WHERE l.lanname = 'plpgsql')"
  return `(pg_catalog.pg_has_role(${procedure}.proowner, ${tableOwner}, 'MEMBER') AND NOT ${procedure}.prosecdef
      AND ${procedure}.proconfig IS NULL AND ${procedure}.prolang = ${language})`
}

/** SQL that removes a function of the name that no migration made, and the trigger that calls it. */
export function dropForeignFunction (table: UsersTable): string {
  const users = sqlLiteral(quotedTable(table.tables.users))
  return `DO ${sqlLiteral(`
DECLARE
  found regprocedure := to_regprocedure(${sqlLiteral(`${revisionFunction(table)}()`)});
BEGIN
  IF found IS NOT NULL AND NOT EXISTS (
    SELECT FROM pg_catalog.pg_proc AS p, pg_catalog.pg_class AS c
    WHERE p.oid = found AND c.oid = to_regclass(${users}) AND ${isOurs('p', 'c.relowner')}
  ) THEN
    EXECUTE format('DROP FUNCTION %s CASCADE', found);
  END IF;
END
`)};`
}

/**
 * The body of the function. It compares images: plain equality takes `A` and `a` of citext for the same, and `1.0` and
 * `1.00` of jsonb, and json has none.
 */
function revisionBody (compared: readonly string[], revision: string): string {
  const imageOf = (row: string): string => `ROW(${compared.map(column => `${row}.${quotedName(column)}`).join(', ')})`
  const [now, then] = [`NEW.${quotedName(revision)}`, `OLD.${quotedName(revision)}`]
  const grow = `${now} := CASE WHEN ${then} >= 0 AND ${then} < ${maxRevision} THEN ${then} + 1 ELSE 1 END;`
  return `
BEGIN
  IF pg_catalog.record_image_ne(${imageOf('OLD')}, ${imageOf('NEW')}) THEN
    ${grow}
  ELSE
    ${now} := ${then};
  END IF;
  RETURN NEW;
EXCEPTION WHEN OTHERS THEN
  -- A column is gone, or has another type than when this session called it first: nothing of that may fail an update.
  BEGIN
    ${grow}
  EXCEPTION WHEN OTHERS THEN
    NULL;
  END;
  RETURN NEW;
END
`
}

/** The note in a comment; none where another comment was put in its place. */
export function noteOf (comment: string | null): Note {
  try {
    const note = JSON.parse(comment ?? '{}') as Note | null
    return typeof note === 'object' && note !== null && isNames(note.reads) && isNames(note.added) ? note : {}
  } catch {
    return {}
  }
}

function isNames (names: unknown): boolean {
  return names === undefined || (Array.isArray(names) && names.every(name => typeof name === 'string'))
}

function isSame (some: readonly string[], others: readonly string[]): boolean {
  return some.length === others.length && some.every(name => others.includes(name))
}
