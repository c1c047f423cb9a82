import { triggerType } from './trigger-set.js'

/** The search path of the function, in the spellings that PostgreSQL stores: the second with `quote_all_identifiers`. */
const searchPaths = '(\'search_path=pg_catalog, pg_temp\', \'search_path="pg_catalog", "pg_temp"\')'

/**
 * SQL for whether a function is what was installed, apart from its body: its owner may act for the owner of the table, and it runs with the rights of the
 * writer, in the language and with the search path that were given. Whoever may create functions in the schema could else put one there beforehand.
 */
export function isOurs (procedure: string, tableOwner: string): string {
  return `(pg_catalog.pg_has_role(${procedure}.proowner, ${tableOwner}, 'MEMBER') AND NOT ${procedure}.prosecdef AND pg_catalog.cardinality(${procedure}.proconfig) = 1 AND ${procedure}.proconfig[1] IN ${searchPaths} AND ${procedure}.prolang = (SELECT l.oid FROM pg_catalog.pg_language AS l WHERE l.lanname = 'plpgsql'))`
}

const beforeUpdates = triggerType.row | triggerType.before | triggerType.update

/** SQL for whether a trigger is called before updates, for each row, so that it can change what is written. */
export function isBeforeUpdates (trigger: string): string {
  return `${trigger}.tgtype & ${beforeUpdates} = ${beforeUpdates}`
}

/**
 * SQL for the names of the triggers that may change a row where the update does not say so: all that are called before updates, for each row, and are
 * not named among `harmless`, an array of text. A column list (`UPDATE OF`) goes by what the update sets, not by what they make of it.
 */
export function unseenChangers (table: string, harmless: string): string {
  return `ARRAY(SELECT u.tgname::text FROM pg_catalog.pg_trigger AS u WHERE u.tgrelid = ${table} AND ${isBeforeUpdates('u')} AND u.tgenabled <> 'D' AND u.tgname <> ALL (${harmless}) ORDER BY 1)`
}

/** SQL for whether the table called `c` is read with another that it inherits from: a temporary one of another session is not. */
export const isReadAlong: string = 'NOT pg_is_other_temp_schema(c.relnamespace)'

/** SQL for the names of the columns in the column list of the trigger called `t`; empty: it is called by all updates. */
export const columnListOf: string = 'ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute AS a WHERE a.attrelid = t.tgrelid AND a.attnum = ANY (t.tgattr::int2[]) ORDER BY 1)'
