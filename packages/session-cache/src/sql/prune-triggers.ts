import { sqlLiteral } from '@orientor/session-contract/core'
import { found, lockedTransaction } from './locked-transaction.js'
import type { TriggerSet } from './trigger-set.js'

/** The SQL that removes what no connection needs any more: the application names of buses, of whatever service, end in a slash and the id of their triggers. */
export function pruneSql (triggers: TriggerSet): string {
  const text = `
DECLARE
  leftover record;
  target regclass;
  targets oid[] := '{}';
BEGIN
${triggers.tables.map(({ table }) => `  ${found('target', table)}\n  targets := targets || target::oid;`).join('\n')}
  FOR leftover IN
    SELECT DISTINCT p.oid::regprocedure AS name
    FROM pg_catalog.pg_trigger AS t JOIN pg_catalog.pg_proc AS p ON p.oid = t.tgfoid
    WHERE p.proname ~ '^orientor_[0-9a-f]{12}_[0-9]+$' AND split_part(p.proname, '_', 2) <> ${sqlLiteral(triggers.id)}
      AND t.tgrelid = ANY (targets)
      AND NOT EXISTS (
        SELECT FROM pg_catalog.pg_stat_activity AS a
        WHERE a.datname = current_database() AND split_part(a.application_name, '/', 2) = split_part(p.proname, '_', 2)
      )
  LOOP
    EXECUTE format('DROP FUNCTION %s CASCADE', leftover.name);
  END LOOP;
END
`
  return lockedTransaction([text], 100)
}
