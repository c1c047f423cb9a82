import { sqlLiteral } from '@orientor/session-contract/core'
import { found, lockedTransaction } from './locked-transaction.js'
import { columnListOf, isOurs, isReadAlong, unseenChangers } from './trigger-facts.js'
import { announcers, type TableTriggers, type TriggerSet } from './trigger-set.js'

/**
 * The SQL that puts the triggers in place: idempotent, one transaction, and safe to be run by several at once. It waits for each lock for half a second at
 * most, so that it gives up before PostgreSQL looks for a deadlock and may choose somebody else (`deadlock_timeout`, a second). Whoever runs it needs to
 * own the tables and to be allowed to create functions in their schemas.
 */
export function installSql (triggers: TriggerSet): string {
  return lockedTransaction(triggers.tables.map(installTable), 500)
}

/** SQL for an array of text. */
function textArray (texts: readonly string[]): string {
  return `ARRAY[${texts.map(sqlLiteral).join(', ')}]::text[]`
}

function installTable ({ table, name, body, columns, columnList, harmless }: TableTriggers): string {
  return `
DECLARE
  target regclass;
  home text;
  code text := ${sqlLiteral(body)};
  listed text[] := ${textArray(columnList)};
  announcer oid;
  tree oid[];
  member record;
  wanted record;
  made boolean := false;
BEGIN
  ${found('target', table)}
  IF target IS NULL THEN
    RAISE EXCEPTION 'the table % does not exist', ${sqlLiteral(table)} USING ERRCODE = '42P01';
  END IF;
  SELECT n.nspname INTO home FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace WHERE c.oid = target;
  SELECT p.oid INTO announcer FROM pg_catalog.pg_proc AS p JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace
  WHERE n.nspname = home AND p.proname = ${sqlLiteral(name)} AND p.pronargs = 0 AND p.prosrc = code AND ${isOurs('p', '(SELECT c.relowner FROM pg_catalog.pg_class AS c WHERE c.oid = target)')};
  IF announcer IS NULL THEN
    -- Whoever owns one of that name would go on owning it if it were replaced.
    EXECUTE format('DROP ROUTINE IF EXISTS %I.%I() CASCADE', home, ${sqlLiteral(name)});
    EXECUTE format('CREATE FUNCTION %I.%I() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS %L', home, ${sqlLiteral(name)}, code);
    announcer := format('%I.%I()', home, ${sqlLiteral(name)})::regprocedure;
    made := true;
  END IF;
  -- The table, and what is read with it: partitions and tables that inherit from it. Partitions get the row trigger from their parent.
  SELECT array_agg(t.relid ORDER BY t.depth, t.relid) INTO tree FROM (
    WITH RECURSIVE below AS (
      SELECT target::oid AS relid, 0 AS depth
      UNION
      SELECT c.oid, b.depth + 1 FROM below AS b JOIN pg_catalog.pg_inherits AS i ON i.inhparent = b.relid JOIN pg_catalog.pg_class AS c ON c.oid = i.inhrelid
      WHERE ${isReadAlong}
    )
    SELECT * FROM below
  ) AS t;
  IF EXISTS (SELECT FROM pg_catalog.pg_attribute AS a WHERE a.attrelid = target AND a.attname = ANY (${textArray(columns)}) AND a.attgenerated = 'v') THEN
    RAISE EXCEPTION 'a watched column of % is a virtual generated column, which triggers do not see', target USING ERRCODE = '0A000';
  END IF;
  IF EXISTS (SELECT FROM unnest(listed) AS l(name) WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_attribute AS a WHERE a.attrelid = target AND a.attname = l.name AND a.attnum > 0 AND NOT a.attisdropped))
    OR EXISTS (SELECT FROM unnest(tree) AS m(relid) WHERE ${unseenChangers('m.relid', textArray(harmless))} <> '{}') THEN
    listed := '{}';
  END IF;
  FOR member IN
    SELECT c.oid::regclass AS name, c.oid, c.relkind, c.relispartition FROM unnest(tree) WITH ORDINALITY AS m(relid, place) JOIN pg_catalog.pg_class AS c ON c.oid = m.relid ORDER BY m.place
  LOOP
    IF member.relkind NOT IN ('r', 'p') THEN
      RAISE EXCEPTION '% is not a table, so that its changes cannot be announced', member.name USING ERRCODE = '42809';
    END IF;
    FOR wanted IN SELECT * FROM (VALUES
      (${sqlLiteral(name + announcers.row.suffix)}, 'AFTER INSERT OR DELETE OR UPDATE' || coalesce(' OF ' || (SELECT string_agg(quote_ident(l.name), ', ') FROM unnest(listed) AS l(name)), ''), 'ROW', ${announcers.row.type}, listed),
      (${sqlLiteral(name + announcers.truncate.suffix)}, 'AFTER TRUNCATE', 'STATEMENT', ${announcers.truncate.type}, '{}')
    ) AS triggers(name, events, level, type, columns) LOOP
      IF made OR NOT EXISTS (
        SELECT FROM pg_catalog.pg_trigger AS t
        WHERE t.tgrelid = member.oid AND t.tgname = wanted.name AND t.tgfoid = announcer AND t.tgtype = wanted.type AND t.tgqual IS NULL
          AND ${columnListOf} @> wanted.columns AND ${columnListOf} <@ wanted.columns
      ) THEN
        -- A new function under an old trigger would not wait for those who still write under the old function.
        IF NOT (member.relispartition AND member.oid <> target AND wanted.level = 'ROW') OR NOT EXISTS (SELECT FROM pg_catalog.pg_trigger AS t WHERE t.tgrelid = member.oid AND t.tgname = wanted.name) THEN
          -- Not dropped first: that would wait for readers, too.
          EXECUTE format('CREATE OR REPLACE TRIGGER %I %s ON %s FOR EACH %s EXECUTE FUNCTION %I.%I()', wanted.name, wanted.events, member.name, wanted.level, home, ${sqlLiteral(name)});
        END IF;
      END IF;
      IF EXISTS (SELECT FROM pg_catalog.pg_trigger AS t WHERE t.tgrelid = member.oid AND t.tgname = wanted.name AND t.tgenabled <> 'A') THEN
        EXECUTE format('ALTER TABLE ONLY %s ENABLE ALWAYS TRIGGER %I', member.name, wanted.name);
      END IF;
    END LOOP;
  END LOOP;
END
`
}
