import { createHash } from 'node:crypto'
import type { WatchedTable } from '@orientor/session-contract/core'

/** How many users a transaction announces one by one; from then on it announces that all may have changed. */
const mostAnnouncements = 1000

/** What announces the changes of one table. */
export interface TableTriggers {
  /** The table, quoted. */
  readonly table: string
  /** Name of the function and, followed by `_row` and `_truncate`, of the triggers. */
  readonly name: string
  /** Body of the function. */
  readonly body: string
}

/** What announces the changes of all watched tables. */
export interface TriggerSet {
  /**
   * Twelve hexadecimal digits over all that matters. Two versions of a service that want different announcements have different ids, and their
   * triggers live side by side.
   */
  readonly id: string
  readonly tables: readonly TableTriggers[]
}

/** An identifier as it stands in a statement. */
export function quotedName (name: string): string {
  return `"${name.replaceAll('"', '""')}"`
}

/** A string as it stands in a statement, whatever `standard_conforming_strings` says. */
function literal (text: string): string {
  return text.includes('\\') ? `E'${text.replaceAll('\\', '\\\\').replaceAll("'", "''")}'` : `'${text.replaceAll("'", "''")}'`
}

/** What has to announce the changes of these tables on a channel. */
export function triggersFor (watches: readonly WatchedTable[], channel: string): TriggerSet {
  const parts = watches.map(watch => ({
    table: (watch.schema === undefined ? [watch.table] : [watch.schema, watch.table]).map(quotedName).join('.'),
    body: functionBody(watch, channel)
  }))
  const id = createHash('sha256').update(JSON.stringify(parts)).digest('hex').slice(0, 12)
  return { id, tables: parts.map((part, index) => ({ ...part, name: `orientor_${id}_${index}` })) }
}

/**
 * A trigger for rows, not for statements: it costs less for single rows, sees what is written to a partition directly and what logical replication applies,
 * and needs no payload that could become too long. It announces the new key with its revision and, where the key changed or the row is gone,
 * the old one without. A revision that did not grow, is of another row or is no whole number above 0 (which stands for nobody) is not announced, so that the
 * user is loaded anew in any case.
 * Whatever fails in it turns into the announcement that all may have changed: NOTIFY, the command, needs no privilege.
 */
function functionBody (watch: WatchedTable, channel: string): string {
  const columns = [...new Set([watch.subject, ...(typeof watch.issuer === 'string' ? [watch.issuer] : []), ...watch.columns])]
  const rowOf = (row: string): string => `ROW(${columns.map(column => `${row}.${quotedName(column)}`).join(', ')})::record`
  const keyOf = (row: string): string => {
    const issuer = typeof watch.issuer === 'string' ? `${row}.${quotedName(watch.issuer)}::text` : literal(watch.issuer.always)
    return `encode(sha256(convert_to(${issuer} || ' ' || ${row}.${quotedName(watch.subject)}::text, 'UTF8')), 'hex')`
  }
  const revisionOf = (row: string): string => `${row}.${quotedName(watch.revision ?? '')}`
  const inserted = watch.revision === null ? '' : `revision := ${revisionOf('NEW')};`
  const updated = watch.revision === null ? '' : `IF ${revisionOf('NEW')} > ${revisionOf('OLD')} THEN revision := ${revisionOf('NEW')}; END IF;`
  const all = `NOTIFY ${quotedName(channel)}, '*';`
  return `
DECLARE
  said text := current_setting('orientor.announced', true);
  old_key text;
  new_key text;
  revision text;
BEGIN
  IF TG_OP = 'TRUNCATE' OR said = '${mostAnnouncements}' THEN
    ${all}
    RETURN NULL;
  END IF;
  BEGIN
    IF TG_OP = 'UPDATE' THEN
      IF ${rowOf('OLD')} OPERATOR(pg_catalog.*=) ${rowOf('NEW')} THEN
        RETURN NULL;
      END IF;
      new_key := ${keyOf('NEW')};
      old_key := ${keyOf('OLD')};
      ${updated}
    ELSIF TG_OP = 'INSERT' THEN
      new_key := ${keyOf('NEW')};
      ${inserted}
    ELSE
      old_key := ${keyOf('OLD')};
    END IF;
    IF old_key <> new_key OR revision !~ '^[1-9][0-9]{0,18}$' THEN
      revision := NULL;
    END IF;
    PERFORM set_config('orientor.announced', (coalesce(nullif(said, ''), '0')::integer + 1)::text, true);
    IF new_key IS NOT NULL THEN
      PERFORM pg_notify(${literal(channel)}, concat_ws(' ', new_key, revision));
    END IF;
    IF old_key <> new_key OR new_key IS NULL AND old_key IS NOT NULL THEN
      PERFORM pg_notify(${literal(channel)}, old_key);
    END IF;
  EXCEPTION WHEN OTHERS THEN
    ${all}
  END;
  RETURN NULL;
END
`
}

/**
 * The SQL that puts the triggers in place: idempotent, one transaction, and safe to be run by several at once. It waits for locks for a second at
 * most. Whoever runs it needs to own the tables and to be allowed to create functions in their schemas.
 */
export function installSql (triggers: TriggerSet): string {
  return `BEGIN;
SET LOCAL lock_timeout = '1s';
SELECT pg_advisory_xact_lock(7302461, 1);
${triggers.tables.map(installTable).join('\n')}
COMMIT;
`
}

/**
 * SQL for whether a function is what was installed, apart from its body: its owner may act for the owner of the table, and it runs with the rights of the
 * writer, in the language and with the search path that were given. Whoever may create functions in the schema could else put one there beforehand.
 */
export function isOurs (procedure: string, tableOwner: string): string {
  return `(pg_catalog.pg_has_role(${procedure}.proowner, ${tableOwner}, 'MEMBER') AND NOT ${procedure}.prosecdef AND ${procedure}.proconfig = ARRAY['search_path=pg_catalog, pg_temp'] AND ${procedure}.prolang = (SELECT l.oid FROM pg_catalog.pg_language AS l WHERE l.lanname = 'plpgsql'))`
}

function installTable ({ table, name, body }: TableTriggers): string {
  const text = `
DECLARE
  target regclass := to_regclass(${literal(table)});
  home text;
  code text := ${literal(body)};
  announcer oid;
  member record;
  wanted record;
  made boolean := false;
BEGIN
  IF target IS NULL THEN
    RAISE EXCEPTION 'the table % does not exist', ${literal(table)} USING ERRCODE = '42P01';
  END IF;
  SELECT n.nspname INTO home FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace WHERE c.oid = target;
  SELECT p.oid INTO announcer FROM pg_catalog.pg_proc AS p JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace
  WHERE n.nspname = home AND p.proname = ${literal(name)} AND p.pronargs = 0 AND p.prosrc = code AND ${isOurs('p', '(SELECT c.relowner FROM pg_catalog.pg_class AS c WHERE c.oid = target)')};
  IF announcer IS NULL THEN
    -- Whoever owns one of that name would go on owning it if it were replaced.
    EXECUTE format('DROP FUNCTION IF EXISTS %I.%I() CASCADE', home, ${literal(name)});
    EXECUTE format('CREATE FUNCTION %I.%I() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS %L', home, ${literal(name)}, code);
    announcer := format('%I.%I()', home, ${literal(name)})::regprocedure;
    made := true;
  END IF;
  -- The table, and what is read with it: partitions and tables that inherit from it. Partitions get the row trigger from their parent.
  FOR member IN
    WITH RECURSIVE tree AS (
      SELECT target::oid AS relid, 0 AS depth UNION SELECT i.inhrelid, t.depth + 1 FROM tree AS t JOIN pg_catalog.pg_inherits AS i ON i.inhparent = t.relid
    )
    SELECT c.oid::regclass AS name, c.oid, c.relkind, c.relispartition FROM tree JOIN pg_catalog.pg_class AS c ON c.oid = tree.relid ORDER BY tree.depth, c.oid
  LOOP
    IF member.relkind NOT IN ('r', 'p') THEN
      RAISE EXCEPTION '% is not a table, so that its changes cannot be announced', member.name USING ERRCODE = '42809';
    END IF;
    FOR wanted IN SELECT * FROM (VALUES
      (${literal(`${name}_row`)}, 'AFTER INSERT OR UPDATE OR DELETE', 'ROW', 29),
      (${literal(`${name}_truncate`)}, 'AFTER TRUNCATE', 'STATEMENT', 32)
    ) AS triggers(name, events, level, type) LOOP
      IF made OR NOT EXISTS (
        SELECT FROM pg_catalog.pg_trigger AS t
        WHERE t.tgrelid = member.oid AND t.tgname = wanted.name AND t.tgfoid = announcer AND t.tgtype = wanted.type AND t.tgqual IS NULL AND t.tgattr = ''
      ) THEN
        -- A new function under an old trigger would not wait for those who still write under the old function.
        IF NOT (member.relispartition AND wanted.level = 'ROW') OR NOT EXISTS (SELECT FROM pg_catalog.pg_trigger AS t WHERE t.tgrelid = member.oid AND t.tgname = wanted.name) THEN
          EXECUTE format('DROP TRIGGER IF EXISTS %I ON %s', wanted.name, member.name);
          EXECUTE format('CREATE TRIGGER %I %s ON %s FOR EACH %s EXECUTE FUNCTION %I.%I()', wanted.name, wanted.events, member.name, wanted.level, home, ${literal(name)});
        END IF;
      END IF;
      IF EXISTS (SELECT FROM pg_catalog.pg_trigger AS t WHERE t.tgrelid = member.oid AND t.tgname = wanted.name AND t.tgenabled <> 'A') THEN
        EXECUTE format('ALTER TABLE ONLY %s ENABLE ALWAYS TRIGGER %I', member.name, wanted.name);
      END IF;
    END LOOP;
  END LOOP;
END
`
  // Named after its content, so that nothing in it can end it.
  const tag = `$orientor_${createHash('sha256').update(text).digest('hex').slice(0, 12)}$`
  return `DO ${tag}${text}${tag};`
}

/** The SQL that removes what no connection needs any more: those of a bus, of whatever service, end in a slash and the id of their triggers. */
export function pruneSql (triggers: TriggerSet): string {
  const text = `
DECLARE
  leftover record;
BEGIN
  FOR leftover IN
    SELECT DISTINCT p.oid::regprocedure AS name
    FROM pg_catalog.pg_trigger AS t JOIN pg_catalog.pg_proc AS p ON p.oid = t.tgfoid
    WHERE p.proname ~ '^orientor_[0-9a-f]{12}_[0-9]+$' AND split_part(p.proname, '_', 2) <> ${literal(triggers.id)}
      AND t.tgrelid IN (${triggers.tables.map(({ table }) => `to_regclass(${literal(table)})`).join(', ')})
      AND NOT EXISTS (
        SELECT FROM pg_catalog.pg_stat_activity AS a
        WHERE a.datname = current_database() AND split_part(a.application_name, '/', 2) = split_part(p.proname, '_', 2)
      )
  LOOP
    EXECUTE format('DROP FUNCTION %s CASCADE', leftover.name);
  END LOOP;
END
`
  return `BEGIN;
SET LOCAL lock_timeout = '100ms';
SELECT pg_advisory_xact_lock(7302461, 1);
DO $orientor_prune$${text}$orientor_prune$;
COMMIT;
`
}
