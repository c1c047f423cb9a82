/**
 * The same SQL with PostgreSQL's own operators, whatever the search path: a role that may create operators in a schema
 * of it could else have its own called, which match more exactly (`smallint & integer`), with the rights of the role
 * that asks.
 *
 * @param sql - with a blank before and behind each operator, `= ANY` in place of IN, and no operator within a string
 */
export function ownOperators (sql: string): string {
  return sql.replace(/(?<=\s)(=|<>|&|->|-)(?=\s)/g, 'OPERATOR(pg_catalog.$1)')
}
