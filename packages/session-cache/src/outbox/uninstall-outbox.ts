import { lockedBlocks } from './locked-transaction.js'
import type { TableTriggers } from './noting-triggers.js'
import { findSchema, schemaVariables } from './outbox-schema.js'
import { outboxPrefix, outboxTables } from './outbox-names.js'

/**
 * The SQL that takes an outbox away, with all of its triggers and functions, of whatever version: idempotent, to be run
 * as one transaction; to be run again where a lock was not to be had within half a second (55P03). Instances that still run are not trusted afterwards, or put it in place again.
 *
 * @param schema - the schema of the outbox; null: that of the first table
 */
export function uninstallSql (triggers: readonly TableTriggers[], schema: string | null): string {
  const drops = Object.values(outboxTables)
    .map(table => `  EXECUTE format('DROP TABLE IF EXISTS %s.${table}', quoted_schema);`)
  return lockedBlocks([`
DECLARE${schemaVariables}
  ours text;
BEGIN
  ${findSchema(triggers[0]!.table, schema)}
  FOR ours IN
    SELECT p.oid::regprocedure::text FROM pg_proc AS p
    WHERE p.pronamespace = quoted_schema::regnamespace
      AND p.proname ~ '^${outboxPrefix}([0-9a-f]{12}|[a-z_]+_[0-9a-f]{8})$'
  LOOP
    EXECUTE format('DROP FUNCTION %s CASCADE', ours);
  END LOOP;
${drops.join('\n')}
END
`], 500)
}
