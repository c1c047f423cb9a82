import { sqlLiteral } from '@orientor/session-contract/core'
import { found, lockedBlocks } from './locked-transaction.js'
import type { TableTriggers } from './noting-triggers.js'
import { findSchema, schemaVariables } from './outbox-schema.js'
import { outboxPrefix, outboxTables } from './outbox-names.js'

/**
 * The SQL that removes the triggers on the watched tables that no instance needs any more: those of other versions of
 * these buses, once no instance that needs them has been there for a minute, and those of the buses over LISTEN and
 * NOTIFY that came before, once no session is called after them (`application_name` ends in a slash and their id).
 *
 * @param schema - the schema of the outbox; null: that of the first table
 */
export function retireSql (triggers: readonly TableTriggers[], schema: string | null): string {
  const names = triggers.map(({ name }) => sqlLiteral(name)).join(', ')
  const text = `
DECLARE${schemaVariables}
  leftover record;
  target regclass;
  targets oid[] := '{}';
BEGIN
  ${findSchema(triggers[0]!.table, schema)}
${triggers.map(({ table }) => `  ${found('target', table)}\n  targets := targets || target::oid;`).join('\n')}
  FOR leftover IN EXECUTE format($query$
    SELECT DISTINCT p.oid::regprocedure AS name
    FROM pg_trigger AS t JOIN pg_proc AS p ON p.oid = t.tgfoid
    WHERE t.tgrelid = ANY ($1) AND (
      p.proname ~ '^orientor_[0-9a-f]{12}_[0-9]+$' AND NOT EXISTS (
        SELECT FROM pg_stat_activity AS a
        WHERE a.datname = current_database() AND split_part(a.application_name, '/', 2) = split_part(p.proname, '_', 2)
      )
      OR p.proname ~ '^${outboxPrefix}[0-9a-f]{12}$' AND p.pronamespace = %L::regnamespace
      AND p.proname <> ALL ($2) AND NOT EXISTS (
        SELECT FROM %s.${outboxTables.instances} AS i
        WHERE i.seen_at > clock_timestamp() - interval '1 minute' AND p.proname = ANY (i.needs)
      )
    )$query$, quoted_schema, quoted_schema) USING targets, ARRAY[${names}]
  LOOP
    EXECUTE format('DROP FUNCTION %s CASCADE', leftover.name);
  END LOOP;
END
`
  return lockedBlocks([text], 100)
}
