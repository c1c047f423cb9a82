import { createHash } from 'node:crypto'
import { sqlLiteral } from '@orientor/session-contract/core'

/**
 * SQL that runs blocks of PL/pgSQL, each for five seconds at most; it fails (55P03) while another session runs such
 * blocks in the database. It has to be one transaction: sent as one simple query it is, else see inTransaction().
 *
 * Only what PostgreSQL brings is found by its bare name: a role that may create functions and operators in a schema of
 * the search path could else have its own called, with the rights of the role that runs this. For tables see found().
 *
 * @param lockTimeoutMs - the longest wait for each lock, in milliseconds
 */
export function lockedBlocks (blocks: readonly string[], lockTimeoutMs: number): string {
  return `SET LOCAL lock_timeout = '${lockTimeoutMs}ms';
SET LOCAL statement_timeout = '5s';
SELECT pg_catalog.set_config('orientor.search_path', pg_catalog.current_setting('search_path'), true);
SET LOCAL search_path = pg_catalog, pg_temp;
${block(oneAtATime)}
${blocks.map(block).join('\n')}
`
}

const oneAtATime = `
BEGIN
  IF NOT pg_try_advisory_xact_lock(7302461, 1) THEN
    RAISE EXCEPTION 'another session is at it; run this again' USING ERRCODE = '55P03';
  END IF;
END
`

/**
 * The same SQL for one simple query of a pool: refused (25001) in a transaction that was left open on the connection,
 * which would go on with its settings and its role.
 */
export function aloneSql (sql: string): string {
  return `${block(`
BEGIN
  IF pg_catalog.date_part('epoch', pg_catalog.now())
    OPERATOR(pg_catalog.<>) pg_catalog.date_part('epoch', pg_catalog.statement_timestamp()) THEN
    RAISE EXCEPTION 'a transaction was left open on the connection' USING ERRCODE = '25001';
  END IF;
END
`)}\n${sql}`
}

/** The same SQL for an operator, as one transaction however it is sent. */
export function inTransaction (sql: string): string {
  return `BEGIN;\n${sql}COMMIT;\n`
}

function block (text: string): string {
  // Named after its content, so that nothing in it can end it.
  const tag = `$orientor_${createHash('sha256').update(text).digest('hex').slice(0, 12)}$`
  return `DO ${tag}${text}${tag};`
}

/**
 * PL/pgSQL for such a block: looks a quoted name up by the search path of the session, and puts the table (regclass;
 * null: there is none) into a variable.
 */
export function found (variable: string, table: string): string {
  return `PERFORM pg_catalog.set_config('search_path', pg_catalog.current_setting('orientor.search_path'), true);
  ${variable} := pg_catalog.to_regclass(${sqlLiteral(table)});
  PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);`
}
