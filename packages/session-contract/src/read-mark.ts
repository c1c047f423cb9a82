import { sqlLiteral } from './quoted.js'

// The folder of the database in the path of a file ("Database File Layout"): to look the id up in pg_database costs a
// third of what it costs to read a user.
const databaseId = "pg_catalog.split_part(pg_catalog.pg_relation_filepath('pg_catalog.pg_class'::pg_catalog.regclass), '/', -2)"

const server: readonly string[] = [
  'pg_catalog.pg_is_in_recovery()',
  "pg_catalog.replace(pg_catalog.current_setting('transaction_isolation'), ' ', '-')",
  'EXTRACT(epoch FROM pg_catalog.pg_postmaster_start_time())',
  databaseId,
  "CASE WHEN pg_catalog.pg_current_xact_id_if_assigned() IS NOT NULL THEN 'writing' END"
]

/**
 * The SQL expression for the server part of a read mark, text: whether the server is a standby, the isolation of the
 * transaction, the start of the server, the id of the database, and `writing` in a transaction that has an id of its own,
 * which a statement that writes gives it. Depends on nothing that a session sets but the isolation.
 */
export const serverMarkSql: string = joined(server)

/**
 * The SQL expression for the read mark of a statement that reads users from a table, text: serverMarkSql, a blank, and the
 * id of the relation that the name stands for in that statement. To be evaluated once for each statement, in a subselect,
 * and before the statement writes, if it does.
 *
 * @param table - as it stands in the FROM of that statement: quoted, with its schema if it is given there
 */
export function readMarkSql (table: string): string {
  // A constant, which is resolved when the names in FROM are: by the same search path, and again with each new plan.
  return joined([...server, `${sqlLiteral(table)}::pg_catalog.regclass::pg_catalog.oid`])
}

/**
 * The read mark of a record that comes of a statement that failed, which did not tell where it was read: no trust that
 * compares marks covers it.
 */
export const untoldMark = ''

function joined (parts: readonly string[]): string {
  return `pg_catalog.concat_ws(' ', ${parts.join(', ')})`
}
