import { isOurs } from './install-triggers.js'

/**
 * One heartbeat: sends it into the queue and, in the same statement and so after it was sent, reads what announces. It takes the heartbeat's
 * channel and number, the watched tables as SQL spells them, how the application names of all instances begin, and how the names of the triggers do.
 * It fails on a standby, where nothing can be announced.
 *
 * `tables` describes each watched table and whatever is read with it: partitions and tables that inherit from it. Any change of what announces, even one
 * that was undone, leaves other row versions (`xmin`) behind; a rewrite, TRUNCATE included, another file.
 */
export const heartbeatSql: string = `WITH RECURSIVE tree AS (
  SELECT w.place, to_regclass(w.name)::oid AS relid, to_regclass(w.name)::oid AS root FROM unnest($3::text[]) WITH ORDINALITY AS w(name, place)
  UNION
  SELECT t.place, i.inhrelid, t.root FROM tree AS t JOIN pg_catalog.pg_inherits AS i ON i.inhparent = t.relid
)
SELECT pg_catalog.pg_notify($1, $2) AS sent,
  pg_catalog.pg_notification_queue_usage() AS queue,
  (SELECT count(*) FROM pg_catalog.pg_stat_activity AS a WHERE a.datname = current_database() AND starts_with(a.application_name, $4)) AS instances,
  (SELECT json_agg(json_build_object(
    'place', tree.place, 'relid', c.oid, 'kind', c.relkind, 'file', c.relfilenode,
    'triggers', (
      SELECT json_agg(json_build_object(
        'name', t.tgname, 'oid', t.oid, 'version', t.xmin, 'enabled', t.tgenabled, 'type', t.tgtype,
        'narrowed', t.tgqual IS NOT NULL OR t.tgattr <> '', 'function', p.oid, 'functionVersion', p.xmin, 'body', md5(p.prosrc),
        'foreign', ${isOurs('p', '(SELECT r.relowner FROM pg_catalog.pg_class AS r WHERE r.oid = tree.root)')} IS NOT TRUE
      ) ORDER BY t.oid)
      FROM pg_catalog.pg_trigger AS t JOIN pg_catalog.pg_proc AS p ON p.oid = t.tgfoid
      WHERE t.tgrelid = c.oid AND starts_with(t.tgname, $5)
    )
  ) ORDER BY tree.place, c.oid) FROM tree JOIN pg_catalog.pg_class AS c ON c.oid = tree.relid) AS tables`

/** One trigger of ours, as the heartbeat finds it. */
export interface FoundTrigger {
  readonly name: string
  readonly enabled: string
  readonly type: number
  readonly narrowed: boolean
  readonly foreign: boolean
  readonly body: string
}

/** One table, as the heartbeat finds it. */
export interface FoundTable {
  readonly place: number
  readonly kind: string
  readonly triggers: readonly FoundTrigger[] | null
}
