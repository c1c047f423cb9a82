import { sqlLiteral } from '@orientor/session-contract/core'
import { found } from './locked-transaction.js'
import { outboxTables } from './outbox-names.js'

/** The variables that findSchema() sets, for the DECLARE section of a block. */
export const schemaVariables = `
  first regclass;
  outbox_schema text;
  quoted_schema text;
  outbox_owner text;`

const schemaOfFirst = '(SELECT n.nspname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace ' +
  'WHERE c.oid = first)'

/**
 * PL/pgSQL for a block: finds the schema of the outbox (`outbox_schema`, and `quoted_schema` as it stands in SQL) and
 * the role that owns it, or will (`outbox_owner`), and goes on as that role.
 *
 * The outbox is owned by the owner of the first table, or by a role that may act for it. What another role has put in
 * its place is refused: the triggers write there.
 *
 * @param table - the first watched table, quoted
 * @param schema - the schema of the outbox; null: that of the table
 */
export function findSchema (table: string, schema: string | null): string {
  return `${found('first', table)}
  IF first IS NULL THEN
    RAISE EXCEPTION 'the table % does not exist', ${sqlLiteral(table)} USING ERRCODE = '42P01';
  END IF;
  outbox_schema := ${schema === null ? schemaOfFirst : sqlLiteral(schema)};
  IF outbox_schema ~ '[''$@]' OR strpos(outbox_schema, chr(92)) > 0 THEN
    RAISE EXCEPTION USING ERRCODE = '0A000', MESSAGE = format('an outbox cannot be in the schema %s, for the quote, '
      'the backslash, the dollar or the at sign in its name', outbox_schema);
  END IF;
  quoted_schema := '"' || replace(outbox_schema, '"', '""') || '"';
  SELECT pg_get_userbyid(c.relowner) INTO outbox_owner
  FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
  WHERE n.nspname = outbox_schema AND c.relname = '${outboxTables.changes}';
  outbox_owner := coalesce(outbox_owner, (SELECT pg_get_userbyid(c.relowner) FROM pg_class AS c WHERE c.oid = first));
  IF NOT pg_has_role(outbox_owner, (SELECT c.relowner FROM pg_class AS c WHERE c.oid = first), 'MEMBER') THEN
    RAISE EXCEPTION 'the outbox in the schema % belongs to %, which may not act for the owner of %',
      outbox_schema, outbox_owner, first
      USING ERRCODE = '42501',
        HINT = 'Give the bus another "schema", or the tables whose names begin with orientor_outbox_ the same owner.';
  END IF;
  IF outbox_owner <> current_user THEN
    EXECUTE format('SET LOCAL ROLE %I', outbox_owner);
  END IF;`
}
