import { createHash } from 'node:crypto'
import { sqlLiteral } from '@orientor/session-contract/core'

/**
 * SQL that runs blocks of PL/pgSQL in one transaction, one such transaction at a time in a database, each block for five seconds at most.
 *
 * Only what PostgreSQL brings is found by its bare name: whoever may create functions and operators in a schema of the search path could else have
 * his own called, with the rights of whoever runs this. For tables see found().
 *
 * @param lockTimeoutMs - how long it may wait for each lock
 */
export function lockedTransaction (blocks: readonly string[], lockTimeoutMs: number): string {
  return `BEGIN;
SET LOCAL lock_timeout = '${lockTimeoutMs}ms';
SET LOCAL statement_timeout = '5s';
SELECT pg_catalog.set_config('orientor.search_path', pg_catalog.current_setting('search_path'), true);
SET LOCAL search_path = pg_catalog, pg_temp;
SELECT pg_advisory_xact_lock(7302461, 1);
${blocks.map(block).join('\n')}
COMMIT;
`
}

function block (text: string): string {
  // Named after its content, so that nothing in it can end it.
  const tag = `$orientor_${createHash('sha256').update(text).digest('hex').slice(0, 12)}$`
  return `DO ${tag}${text}${tag};`
}

/** PL/pgSQL for such a block: looks a quoted name up by the search path of whoever runs it, and puts what it finds into a variable. */
export function found (variable: string, table: string): string {
  return `PERFORM pg_catalog.set_config('search_path', pg_catalog.current_setting('orientor.search_path'), true);
  ${variable} := pg_catalog.to_regclass(${sqlLiteral(table)});
  PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);`
}
