import { sqlLiteral } from '@orientor/session-contract/core'
import { found, lockedBlocks } from './locked-transaction.js'
import { notingTriggers, type TableTriggers } from './noting-triggers.js'
import { outboxFunctions } from './outbox-functions.js'
import { findSchema, schemaVariables } from './outbox-schema.js'
import { schemaToken, outboxTables, type OutboxFunction } from './outbox-names.js'
import { tablesSql } from './outbox-tables.js'
import { columnListOf, isOurs, isPrivate, isReadAlong, unseenChangers } from './trigger-facts.js'

/**
 * The SQL that puts an outbox and its triggers in place: idempotent, to be run as one transaction, and safe to be run
 * by one session at a time. The role that runs it needs to own the tables, or to be a member of the role that does, and
 * that role CREATE on the schema of the outbox. Every role that may read one of the tables may poll afterwards.
 *
 * @param schema - the schema of the outbox; null: that of the first table
 * @param lockTimeoutMs - the longest wait for each lock, in milliseconds, during which other writers wait, too; below
 *   the second after which PostgreSQL looks for a deadlock and may choose another session (`deadlock_timeout`)
 */
export function installSql (
  triggers: readonly TableTriggers[], schema: string | null, lockTimeoutMs: number
): string {
  const tables = triggers.map(({ table }) => table)
  const blocks = [installOutbox(tables, schema), ...triggers.map(table => installTriggers(table, tables[0]!, schema))]
  return lockedBlocks(blocks, lockTimeoutMs)
}

/** The settings of every function of an outbox. */
const definer = 'SECURITY DEFINER SET search_path = pg_catalog, pg_temp'
const quote = '$orientor$'

function installOutbox (watched: readonly string[], schema: string | null): string {
  const tables = Object.entries(tablesSql) as ReadonlyArray<[keyof typeof outboxTables, string]>
  return `
DECLARE${schemaVariables}
  former text;
  reader text;
  target regclass;
  targets oid[] := '{}';
BEGIN
  ${findSchema(watched[0]!, schema)}
${tables.map(([which, sql]) => makeTable(outboxTables[which], sql)).join('\n')}
${Object.values(outboxFunctions).map(makeFunction).join('\n')}
${watched.map(table => `  ${found('target', table)}\n  targets := targets || target::oid;`).join('\n')}
  ${letReadersPoll}
  EXECUTE format('SELECT %s.${outboxFunctions.begin.name}()', quoted_schema);
END
`
}

const functionList = Object.values(outboxFunctions).map(({ name }) => `${schemaToken}.${name}`).join(', ')

/** PL/pgSQL that lets every role poll that may read one of the tables `targets`, or a column of it. */
const letReadersPoll = `FOR reader IN
    SELECT DISTINCT CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END
    FROM (
      SELECT coalesce(c.relacl, acldefault('r', c.relowner)) AS acl FROM pg_class AS c WHERE c.oid = ANY (targets)
      UNION ALL
      SELECT t.attacl FROM pg_attribute AS t WHERE t.attrelid = ANY (targets)
    ) AS granted CROSS JOIN LATERAL aclexplode(granted.acl) AS a
    WHERE a.privilege_type = 'SELECT' AND a.grantee <> quote_ident(outbox_owner)::regrole
  LOOP
    EXECUTE replace('GRANT EXECUTE ON FUNCTION ${functionList} TO ', '${schemaToken}', quoted_schema) || reader;
  END LOOP;`

/** PL/pgSQL that makes a table, which fails where another role has put one of that name there. */
function makeTable (name: string, create: string): string {
  return `  IF NOT EXISTS (
    SELECT FROM pg_class AS c WHERE c.relnamespace = quoted_schema::regnamespace AND c.relname = '${name}'
      AND c.relowner = quote_ident(outbox_owner)::regrole
  ) THEN
    EXECUTE replace(${sqlLiteral(create)}, '${schemaToken}', quoted_schema);
  END IF;`
}

function makeFunction ({ name, parameters, body, volatility, settings }: OutboxFunction): string {
  const create = `CREATE FUNCTION ${schemaToken}.${name} (${parameters}) LANGUAGE plpgsql
  ${volatility} ${definer} ${settings} AS ${quote}${body}${quote};
REVOKE ALL ON FUNCTION ${schemaToken}.${name} FROM PUBLIC`
  return `  IF NOT EXISTS (
    SELECT FROM pg_proc AS p WHERE p.pronamespace = quoted_schema::regnamespace AND p.proname = '${name}'
      AND p.prosrc = replace(${sqlLiteral(body)}, '${schemaToken}', quoted_schema)
      AND ${isOurs('p', 'quote_ident(outbox_owner)::regrole::oid')}
  ) THEN
    ${dropFunctions(name)}
    EXECUTE replace(${sqlLiteral(create)}, '${schemaToken}', quoted_schema);
  END IF;`
}

/**
 * PL/pgSQL that drops the functions of a name. They are not replaced: a role that owns one would go on owning it.
 */
function dropFunctions (name: string): string {
  return `FOR former IN
      SELECT p.oid::regprocedure::text FROM pg_proc AS p
      WHERE p.pronamespace = quoted_schema::regnamespace AND p.proname = '${name}'
    LOOP
      EXECUTE format('DROP ROUTINE %s CASCADE', former);
    END LOOP;`
}

/** SQL for an array of text. */
function textArray (texts: readonly string[]): string {
  return `ARRAY[${texts.map(sqlLiteral).join(', ')}]::text[]`
}

function installTriggers (triggers: TableTriggers, first: string, schema: string | null): string {
  const { table, name, body, columns, columnList, harmless } = triggers
  const { row, truncate } = notingTriggers
  const known = textArray(harmless)
  const create = `CREATE FUNCTION ${schemaToken}.${name} () RETURNS trigger LANGUAGE plpgsql
  ${definer} AS ${quote}${body}${quote};
REVOKE ALL ON FUNCTION ${schemaToken}.${name} FROM PUBLIC`
  return `
DECLARE${schemaVariables}
  target regclass;
  keeps text;
  listed text[] := ${textArray(columnList)};
  noter oid;
  tree oid[];
  member record;
  wanted record;
  former text;
  made boolean := false;
BEGIN
  ${findSchema(first, schema)}
  ${found('target', table)}
  IF target IS NULL THEN
    RAISE EXCEPTION 'the table % does not exist', ${sqlLiteral(table)} USING ERRCODE = '42P01';
  END IF;
  SELECT p.oid INTO noter FROM pg_proc AS p
  WHERE p.pronamespace = quoted_schema::regnamespace AND p.proname = '${name}' AND p.pronargs = 0
    AND p.prosrc = replace(${sqlLiteral(body)}, '${schemaToken}', quoted_schema)
    AND ${isOurs('p', 'quote_ident(outbox_owner)::regrole::oid')} AND ${isPrivate('p')};
  IF noter IS NULL THEN
    ${dropFunctions(name)}
    EXECUTE replace(${sqlLiteral(create)}, '${schemaToken}', quoted_schema);
    noter := format('%s.${name}()', quoted_schema)::regprocedure;
    made := true;
  END IF;
  SELECT pg_get_userbyid(c.relowner) INTO keeps FROM pg_class AS c WHERE c.oid = target;
  IF keeps <> current_user AND NOT pg_has_role(current_user, keeps, 'USAGE') THEN
    EXECUTE format('GRANT EXECUTE ON FUNCTION %s.${name} TO %I', quoted_schema, keeps);
    EXECUTE format('SET LOCAL ROLE %I', keeps);
  END IF;
  -- The table, and what is read with it: partitions and tables that inherit from it. Partitions get the row trigger
  -- from their parent.
  SELECT array_agg(t.relid ORDER BY t.depth, t.relid) INTO tree FROM (
    WITH RECURSIVE below AS (
      SELECT target::oid AS relid, 0 AS depth
      UNION
      SELECT c.oid, b.depth + 1 FROM below AS b JOIN pg_inherits AS i ON i.inhparent = b.relid
        JOIN pg_class AS c ON c.oid = i.inhrelid
      WHERE ${isReadAlong}
    )
    SELECT * FROM below
  ) AS t;
  IF EXISTS (
    SELECT FROM pg_attribute AS a
    WHERE a.attrelid = target AND a.attname = ANY (${textArray(columns)}) AND a.attgenerated = 'v'
  ) THEN
    RAISE EXCEPTION 'a watched column of % is a virtual generated column, which triggers do not see', target
      USING ERRCODE = '0A000';
  END IF;
  IF EXISTS (SELECT FROM unnest(listed) AS l(name) WHERE NOT EXISTS (
      SELECT FROM pg_attribute AS a
      WHERE a.attrelid = target AND a.attname = l.name AND a.attnum > 0 AND NOT a.attisdropped
    ))
    OR EXISTS (SELECT FROM unnest(tree) AS m(relid) WHERE ${unseenChangers('m.relid', known)} <> '{}') THEN
    listed := '{}';
  END IF;
  FOR member IN
    SELECT c.oid::regclass AS name, c.oid, c.relkind, c.relispartition
    FROM unnest(tree) WITH ORDINALITY AS m(relid, place) JOIN pg_class AS c ON c.oid = m.relid ORDER BY m.place
  LOOP
    IF member.relkind NOT IN ('r', 'p') THEN
      RAISE EXCEPTION '% is not a table, so that its changes cannot be noted', member.name USING ERRCODE = '42809';
    END IF;
    FOR wanted IN SELECT * FROM (VALUES
      (${sqlLiteral(name + row.suffix)}, 'AFTER INSERT OR DELETE OR UPDATE'
        || coalesce(' OF ' || (SELECT string_agg(quote_ident(l.name), ', ') FROM unnest(listed) AS l(name)), ''),
        'ROW', ${row.type}, listed),
      (${sqlLiteral(name + truncate.suffix)}, 'AFTER TRUNCATE', 'STATEMENT', ${truncate.type}, '{}')
    ) AS triggers(name, events, level, type, columns) LOOP
      IF made OR NOT EXISTS (
        SELECT FROM pg_trigger AS t
        WHERE t.tgrelid = member.oid AND t.tgname = wanted.name AND t.tgfoid = noter AND t.tgtype = wanted.type
          AND t.tgqual IS NULL AND ${columnListOf} @> wanted.columns AND ${columnListOf} <@ wanted.columns
      ) THEN
        -- A new function under an old trigger would not wait for sessions that still write under the old function.
        IF NOT (member.relispartition AND member.oid <> target AND wanted.level = 'ROW')
          OR NOT EXISTS (SELECT FROM pg_trigger AS t WHERE t.tgrelid = member.oid AND t.tgname = wanted.name) THEN
          -- Not dropped first: that would wait for readers, too.
          EXECUTE format('CREATE OR REPLACE TRIGGER %I %s ON %s FOR EACH %s EXECUTE FUNCTION %s.${name}()',
            wanted.name, wanted.events, member.name, wanted.level, quoted_schema);
        END IF;
      END IF;
      IF EXISTS (
        SELECT FROM pg_trigger AS t WHERE t.tgrelid = member.oid AND t.tgname = wanted.name AND t.tgenabled <> 'A'
      ) THEN
        EXECUTE format('ALTER TABLE ONLY %s ENABLE ALWAYS TRIGGER %I', member.name, wanted.name);
      END IF;
    END LOOP;
  END LOOP;
END
`
}
