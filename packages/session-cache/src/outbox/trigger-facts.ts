import { triggerType } from './noting-triggers.js'

/**
 * The search path of the functions, in the spellings that PostgreSQL stores: the second with `quote_all_identifiers`.
 */
const searchPaths = 'ARRAY[\'search_path=pg_catalog, pg_temp\', \'search_path="pg_catalog", "pg_temp"\']'

/**
 * SQL for whether a function runs as what was installed does, apart from its body: with the rights of a role, in the
 * language and with the search path that were given. A role that may create functions in the schema could else have put
 * one there beforehand.
 *
 * @param procedure - a row of `pg_proc`
 * @param owner - the id of the role that has to own it
 */
export function isOurs (procedure: string, owner: string): string {
  return `(${procedure}.proowner = ${owner} AND ${procedure}.prosecdef
    AND ${procedure}.proconfig[1] = ANY (${searchPaths})
    AND ${procedure}.prolang = (SELECT l.oid FROM pg_catalog.pg_language AS l WHERE l.lanname = 'plpgsql'))`
}

/** SQL for whether PUBLIC may not execute a function: what a trigger of another table may call runs with its owner's rights. */
export function isPrivate (procedure: string): string {
  return `NOT EXISTS (SELECT FROM pg_catalog.aclexplode(COALESCE(${procedure}.proacl, pg_catalog.acldefault('f', ${procedure}.proowner))) AS a WHERE a.grantee = 0)`
}

const beforeUpdates = triggerType.row | triggerType.before | triggerType.update

/** SQL for whether a trigger is called before updates, for each row, so that it can change what is written. */
export function isBeforeUpdates (trigger: string): string {
  return `${trigger}.tgtype & ${beforeUpdates} = ${beforeUpdates}`
}

/**
 * SQL for the names of the triggers that may change a row where the update does not say so: all that are called before
 * updates, for each row, and are not named among `harmless`, an array of text. A column list (`UPDATE OF`) goes by what
 * the update sets, not by what they make of it.
 */
export function unseenChangers (table: string, harmless: string): string {
  return `ARRAY(SELECT u.tgname::text FROM pg_catalog.pg_trigger AS u WHERE u.tgrelid = ${table}
    AND ${isBeforeUpdates('u')} AND u.tgenabled <> 'D' AND u.tgname <> ALL (${harmless}) ORDER BY 1)`
}

/**
 * SQL for whether the table called `c` is read with another that it inherits from: a temporary one of another session
 * is not.
 */
export const isReadAlong: string = 'NOT pg_catalog.pg_is_other_temp_schema(c.relnamespace)'

/**
 * SQL for the names of the columns in the column list of the trigger called `t`; empty: it is called by all updates.
 */
export const columnListOf: string = 'ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute AS a ' +
  'WHERE a.attrelid = t.tgrelid AND a.attnum = ANY (t.tgattr::int2[]) ORDER BY 1)'
