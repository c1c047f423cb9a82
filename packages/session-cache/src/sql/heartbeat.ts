import { columnListOf, isBeforeUpdates, isOurs, isReadAlong, unseenChangers } from './trigger-facts.js'
import type { TriggerSet } from './trigger-set.js'

/** What a heartbeat has to know of the watched tables, as its statement takes it. `searchPath`: the schemas where those without one are looked for. */
export function watchedOf ({ tables }: TriggerSet, searchPath: readonly string[]): string {
  return JSON.stringify(tables.map(({ schema, bareName, harmless }) => ({ schemas: schema === null ? searchPath : [schema], name: bareName, harmless })))
}

/**
 * One heartbeat: sends it into the queue and, in the same statement and so after it was sent, reads what announces. It takes the heartbeat's
 * channel and number, the watched tables (watchedOf()), how the application names of all instances begin, and how the names of the triggers do.
 * It fails on a standby, where nothing can be announced. To be run with the search path `pg_catalog, pg_temp` only: whoever may create functions and
 * operators in another schema could else have his own called.
 *
 * `tables` describes each watched table and whatever is read with it: partitions and tables that inherit from it. Any change of what announces, or is
 * called before updates, even one that was undone, leaves other row versions (`xmin`) behind, but for a trigger that was created and dropped in between; a
 * rewrite, TRUNCATE included, another file.
 */
export const heartbeatSql: string = `WITH RECURSIVE tree AS (
  SELECT w.place, w.watched, r.oid AS relid, r.oid AS root
  FROM jsonb_array_elements($3::jsonb) WITH ORDINALITY AS w(watched, place) CROSS JOIN LATERAL (
    SELECT c.oid FROM jsonb_array_elements_text(w.watched -> 'schemas') WITH ORDINALITY AS s(name, place)
    JOIN pg_catalog.pg_namespace AS n ON n.nspname = s.name JOIN pg_catalog.pg_class AS c ON c.relnamespace = n.oid AND c.relname = w.watched ->> 'name'
    ORDER BY s.place LIMIT 1
  ) AS r
  UNION
  SELECT t.place, t.watched, c.oid, t.root FROM tree AS t JOIN pg_catalog.pg_inherits AS i ON i.inhparent = t.relid JOIN pg_catalog.pg_class AS c ON c.oid = i.inhrelid
  WHERE ${isReadAlong}
)
SELECT pg_catalog.pg_notify($1, $2) AS sent,
  pg_catalog.pg_notification_queue_usage() AS queue,
  (SELECT count(*) FROM pg_catalog.pg_stat_activity AS a WHERE a.datname = current_database() AND starts_with(a.application_name, $4)) AS instances,
  (SELECT json_agg(json_build_object(
    'place', tree.place, 'relid', c.oid, 'kind', c.relkind, 'file', c.relfilenode,
    'computed', ARRAY(SELECT a.attname FROM pg_catalog.pg_attribute AS a WHERE a.attrelid = c.oid AND a.attgenerated = 'v' AND NOT a.attisdropped ORDER BY a.attnum),
    'unseen', ${unseenChangers('c.oid', "ARRAY(SELECT jsonb_array_elements_text(tree.watched -> 'harmless'))")},
    'before', (
      SELECT json_agg(json_build_array(t.oid, t.xmin, p.oid, p.xmin) ORDER BY t.oid)
      FROM pg_catalog.pg_trigger AS t JOIN pg_catalog.pg_proc AS p ON p.oid = t.tgfoid
      WHERE t.tgrelid = c.oid AND ${isBeforeUpdates('t')}
    ),
    'triggers', (
      SELECT json_agg(json_build_object(
        'name', t.tgname, 'oid', t.oid, 'version', t.xmin, 'enabled', t.tgenabled, 'type', t.tgtype,
        'conditional', t.tgqual IS NOT NULL, 'columns', ${columnListOf}, 'function', p.oid, 'functionVersion', p.xmin, 'body', md5(convert_to(p.prosrc, 'UTF8')),
        'foreign', ${isOurs('p', '(SELECT r.relowner FROM pg_catalog.pg_class AS r WHERE r.oid = tree.root)')} IS NOT TRUE
      ) ORDER BY t.oid)
      FROM pg_catalog.pg_trigger AS t JOIN pg_catalog.pg_proc AS p ON p.oid = t.tgfoid
      WHERE t.tgrelid = c.oid AND starts_with(t.tgname, $5)
    )
  ) ORDER BY tree.place, c.oid) FROM tree JOIN pg_catalog.pg_class AS c ON c.oid = tree.relid) AS tables`

/** One trigger of ours, as the heartbeat finds it. */
interface FoundTrigger {
  readonly name: string
  readonly enabled: string
  readonly type: number
  /** Whether it has a WHEN clause. */
  readonly conditional: boolean
  /** Its column list; empty: it is called by all updates. */
  readonly columns: readonly string[]
  readonly foreign: boolean
  readonly body: string
}

/** One table, as the heartbeat finds it. */
export interface FoundTable {
  readonly place: number
  readonly kind: string
  /** Columns that are computed when they are read: no trigger sees them. */
  readonly computed: readonly string[]
  /** Triggers that may change a row where the update does not say so. */
  readonly unseen: readonly string[]
  readonly triggers: readonly FoundTrigger[] | null
}
