import { ownOperators } from './own-operators.js'
import { outboxFunctions } from './outbox-functions.js'
import { outboxPrefix, outboxTables } from './outbox-names.js'
import { columnListOf, isOurs, isPrivate, isReadAlong, unseenChangers } from './trigger-facts.js'

/** SQL for the id of a table of the outbox; it takes the schema as $1. */
function outboxOid (table: string): string {
  return `(SELECT c.oid FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    WHERE n.nspname = $1 AND c.relname = '${table}')`
}

/** SQL for the names of the harmless triggers of the watched table that `tree` is at. */
const harmlessOfTree = 'ARRAY(SELECT pg_catalog.jsonb_array_elements_text($3::jsonb -> (tree.place::int - 1)))'

const names = Object.values(outboxFunctions).map(({ name }) => `'${name}'`).join(', ')

/**
 * SQL that describes an outbox and what announces the changes of the watched tables, in the column `facts`, JSON as
 * text (OutboxFacts). It takes the schema of the outbox, the ids of the watched tables (an array) and, for each, the
 * names of its harmless triggers (JSON, a list of lists). It reads the catalogue by itself, and asks no function of
 * the outbox: one that another role has put there beforehand could say anything.
 */
export const outboxFactsSql: string = ownOperators(`WITH RECURSIVE outbox AS (
  SELECT c.oid, c.relowner FROM pg_catalog.pg_class AS c WHERE c.oid = ${outboxOid(outboxTables.changes)}
), tree AS (
  SELECT w.place, w.oid AS relid FROM pg_catalog.unnest($2::oid[]) WITH ORDINALITY AS w(oid, place)
  UNION
  SELECT t.place, c.oid FROM tree AS t JOIN pg_catalog.pg_inherits AS i ON i.inhparent = t.relid
    JOIN pg_catalog.pg_class AS c ON c.oid = i.inhrelid
  WHERE ${isReadAlong}
)
SELECT pg_catalog.json_build_object(
  'outbox', (SELECT pg_catalog.json_build_object(
    'owner', pg_catalog.pg_get_userbyid(o.relowner),
    'entitled', pg_catalog.pg_has_role(
      o.relowner, (SELECT r.relowner FROM pg_catalog.pg_class AS r WHERE r.oid = ($2::oid[])[1]), 'MEMBER'
    ),
    'foreignTables', ARRAY(SELECT c.relname::text FROM pg_catalog.pg_class AS c
      WHERE c.relnamespace = (SELECT n.oid FROM pg_catalog.pg_namespace AS n WHERE n.nspname = $1)
      AND c.relname = ANY (ARRAY[${Object.values(outboxTables).map(table => `'${table}'`).join(', ')}])
      AND (c.relowner <> o.relowner OR c.relrowsecurity OR c.relkind <> 'r'
        OR EXISTS (SELECT FROM pg_catalog.pg_rewrite AS r WHERE r.ev_class = c.oid)
        OR EXISTS (SELECT FROM pg_catalog.pg_trigger AS t WHERE t.tgrelid = c.oid))),
    'functions', (
      SELECT pg_catalog.json_object_agg(p.proname, pg_catalog.md5(pg_catalog.convert_to(p.prosrc, 'UTF8')))
      FROM pg_catalog.pg_proc AS p
      WHERE p.pronamespace = (SELECT n.oid FROM pg_catalog.pg_namespace AS n WHERE n.nspname = $1)
        AND p.proname = ANY (ARRAY[${names}]) AND ${isOurs('p', 'o.relowner')}
    )
  ) FROM outbox AS o),
  'tables', (SELECT pg_catalog.json_agg(pg_catalog.json_build_object(
    'place', tree.place, 'kind', c.relkind,
    'computed', ARRAY(SELECT a.attname FROM pg_catalog.pg_attribute AS a
      WHERE a.attrelid = c.oid AND a.attgenerated = 'v' AND NOT a.attisdropped ORDER BY a.attnum),
    'unseen', ${unseenChangers('c.oid', harmlessOfTree)},
    'triggers', (
      SELECT pg_catalog.json_agg(pg_catalog.json_build_object(
        'name', t.tgname, 'enabled', t.tgenabled, 'type', t.tgtype, 'conditional', t.tgqual IS NOT NULL,
        'columns', ${columnListOf}, 'body', pg_catalog.md5(pg_catalog.convert_to(p.prosrc, 'UTF8')),
        'foreign', (SELECT ${isOurs('p', 'o.relowner')} AND ${isPrivate('p')} FROM outbox AS o) IS NOT TRUE
      ) ORDER BY t.oid)
      FROM pg_catalog.pg_trigger AS t JOIN pg_catalog.pg_proc AS p ON p.oid = t.tgfoid
      WHERE t.tgrelid = c.oid AND pg_catalog.starts_with(t.tgname, '${outboxPrefix}')
    )
  ) ORDER BY tree.place, c.oid) FROM tree JOIN pg_catalog.pg_class AS c ON c.oid = tree.relid)
)::text AS facts`)

/** One trigger of an outbox, as the catalogue describes it. */
interface FoundTrigger {
  readonly name: string
  readonly enabled: string
  readonly type: number
  /** Whether it has a WHEN clause. */
  readonly conditional: boolean
  /** Its column list; empty: it is called by all updates. */
  readonly columns: readonly string[]
  /** Whether its function belongs to another role than the outbox, or runs otherwise than it was installed. */
  readonly foreign: boolean
  /** MD5 of the body of its function. */
  readonly body: string
}

/** One table, as the catalogue describes it. */
export interface FoundTable {
  /** Its place among the watched tables, from 1. */
  readonly place: number
  readonly kind: string
  /** Columns that are computed when they are read: no trigger sees them. */
  readonly computed: readonly string[]
  /** Triggers that may change a row where the update does not say so. */
  readonly unseen: readonly string[]
  readonly triggers: readonly FoundTrigger[] | null
}

/** An outbox and what announces, as the catalogue describes them. */
export interface OutboxFacts {
  /** Null: there is no outbox. */
  readonly outbox: {
    readonly owner: string
    /** Whether its owner may act for the owner of the first watched table. */
    readonly entitled: boolean
    /**
     * Its tables that another role owns, or that are not plain: rules, triggers and row-level security change what is
     * written to them, and read.
     */
    readonly foreignTables: readonly string[]
    /** MD5 of the bodies of its functions that run as they should, by name. */
    readonly functions: Readonly<Record<string, string>> | null
  } | null
  readonly tables: readonly FoundTable[] | null
}
