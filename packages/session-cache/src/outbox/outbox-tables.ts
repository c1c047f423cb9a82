import { outboxTable, type outboxTables } from './outbox-names.js'

/**
 * SQL that makes each table of an outbox, before its schema is known.
 *
 * - `changes`: one row for each change of a user (`key_hash`; null: of all), by the transaction that made it. Logged,
 *   so that it is there after a crash where the change is. REPLICA IDENTITY FULL, since a publication for all tables
 *   would else fail the removal of rows. `vacuum_truncate` off: truncation locks out the writers.
 * - `mark`: the token of the server. UNLOGGED, so that it is gone after crash recovery, on a promoted standby and in a
 *   restored copy, where transaction ids may be given out again. `place`: the cluster, database and table that it is
 *   of.
 * - `horizon`: what `seen` sees is removed, or is being removed (`is_open`); what `taken` sees is next. Nothing is left
 *   of transactions below `floor`.
 * - `surveys`, `instances`, `relay`: what instances tell each other. UNLOGGED: a crash loses nothing that matters.
 */
export const tablesSql: Readonly<Record<keyof typeof outboxTables, string>> = Object.freeze({
  changes: `CREATE TABLE ${outboxTable('changes')} (xid xid8 NOT NULL, key_hash bytea, revision bigint)
  WITH (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 5000,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 50000, vacuum_truncate = off
  );
CREATE INDEX orientor_outbox_changes_xid ON ${outboxTable('changes')} (xid);
ALTER TABLE ${outboxTable('changes')} REPLICA IDENTITY FULL`,
  mark: `CREATE UNLOGGED TABLE ${outboxTable('mark')} (token uuid NOT NULL, place text NOT NULL)`,
  horizon: `CREATE TABLE ${outboxTable('horizon')}
  (seen pg_snapshot NOT NULL, taken pg_snapshot NOT NULL, taken_at timestamptz NOT NULL,
  floor xid8 NOT NULL DEFAULT '0', is_open boolean NOT NULL DEFAULT false);
ALTER TABLE ${outboxTable('horizon')} REPLICA IDENTITY FULL;
INSERT INTO ${outboxTable('horizon')} (seen, taken, taken_at)
VALUES (pg_current_snapshot(), pg_current_snapshot(), clock_timestamp())`,
  surveys: `CREATE UNLOGGED TABLE ${outboxTable('surveys')} (
  key text PRIMARY KEY, members int NOT NULL, digest text NOT NULL,
  seen pg_snapshot NOT NULL, made_at timestamptz NOT NULL
)`,
  instances: `CREATE UNLOGGED TABLE ${outboxTable('instances')}
  (id uuid PRIMARY KEY, seen_at timestamptz NOT NULL, needs text[] NOT NULL)`,
  relay: `CREATE UNLOGGED TABLE ${outboxTable('relay')}
  (single boolean PRIMARY KEY CHECK (single), holder uuid NOT NULL, until timestamptz NOT NULL)`
})
