import { createHash } from 'node:crypto'
import { serverMarkSql } from '@orientor/session-contract/core'
import { relayLeaseMs } from '../bell/relay.js'
import { outboxFunction, outboxPrefix, outboxTable, type OutboxFunction } from './outbox-names.js'
import { isBeforeUpdates, isReadAlong } from './trigger-facts.js'

const changes = outboxTable('changes')
const mark = outboxTable('mark')
const horizon = outboxTable('horizon')
const surveys = outboxTable('surveys')
const instances = outboxTable('instances')
const relay = outboxTable('relay')

/**
 * The time that changes stay at least, for instances that do not ask, in seconds: they stay for one to three of these.
 */
const retentionS = 30
/** The number of changes that one check-in removes at most, so that polls on the same connection do not wait for long. */
const maxRemovals = 20_000
/** The time without a check-in after which an instance counts as gone, in seconds. */
const absenceS = 50

/**
 * SQL for two columns: the number of tables that `watched`, an array of ids, stands for (partitions and tables that
 * inherit included), and a digest of what announces their changes. The digest differs whenever any of that was absent,
 * however briefly: that leaves other row versions (`xmin`) or another file behind. A trigger of others that was created
 * and dropped in between leaves no trace.
 */
const digestSql = `SELECT count(DISTINCT c.oid), md5(concat_ws('/', string_agg(concat_ws(' ',
    c.oid, c.relkind, c.relfilenode, t.oid, t.xmin, p.oid, p.xmin,
    (SELECT string_agg(a.attnum::text, ',') FROM pg_attribute AS a
      WHERE a.attrelid = c.oid AND a.attgenerated = 'v' AND NOT a.attisdropped)
  ), '/' ORDER BY c.oid, t.oid), (
    SELECT string_agg(concat_ws(' ', o.oid, o.xmin, o.relfilenode), '/' ORDER BY o.oid) FROM pg_class AS o
    WHERE o.oid IN ('${changes}'::regclass, '${mark}'::regclass, '${horizon}'::regclass)
  ), (
    -- That there were some once is all that pg_class says.
    SELECT string_agg(r.oid::text, ' ') FROM pg_rewrite AS r WHERE r.ev_class = '${changes}'::regclass
  ), (
    SELECT string_agg(concat_ws(' ', n.oid, n.xmin), '/') FROM pg_trigger AS n WHERE n.tgrelid = '${changes}'::regclass
  )))
  FROM (
    WITH RECURSIVE tree AS (
      SELECT w.oid AS relid FROM unnest(watched) AS w(oid)
      UNION
      SELECT i.inhrelid FROM tree JOIN pg_inherits AS i ON i.inhparent = tree.relid
    )
    SELECT tree.relid FROM tree
  ) AS b
  JOIN pg_class AS c ON c.oid = b.relid AND ${isReadAlong}
  LEFT JOIN pg_trigger AS t ON t.tgrelid = c.oid
    AND (starts_with(t.tgname, '${outboxPrefix}') OR ${isBeforeUpdates('t')})
  LEFT JOIN pg_proc AS p ON p.oid = t.tgfoid`

/**
 * SQL for the key of the survey of the watched tables. It is computed where the survey is made, so that no caller can
 * have one made of other tables; versions that make other digests have surveys of their own.
 */
const surveyKey = `'${createHash('sha256').update(digestSql).digest('hex').slice(0, 8)} ' || array_to_string(watched, ' ')`

/**
 * SQL for two columns: the number of changes that were noted, and the changes as announcements joined by commas, each
 * user once; where there are more than `most`, not all of them. The changes are those of transactions that the snapshot
 * `since` does not see and `read` may.
 */
const announcedSql = `SELECT coalesce(sum(g.notes), 0), string_agg(g.change, ',') FROM (
    -- A change without revision stands for its user: nothing says which of them came last.
    SELECT coalesce(encode(c.key_hash, 'hex'), '*')
      || CASE WHEN bool_and(c.revision IS NOT NULL) THEN ' ' || max(c.revision) ELSE '' END AS change, count(*) AS notes
    FROM (
      (SELECT o.key_hash, o.revision FROM ${changes} AS o
        WHERE o.xid >= pg_snapshot_xmax(since) AND o.xid < pg_snapshot_xmax(read) ORDER BY o.xid LIMIT most + 1)
      UNION ALL
      (SELECT o.key_hash, o.revision FROM ${changes} AS o
        WHERE o.xid = ANY (ARRAY(SELECT pg_snapshot_xip(since))) ORDER BY o.xid LIMIT most + 1)
    ) AS c
    GROUP BY c.key_hash
  ) AS g`

/** SQL for the reason why an answer proves nothing; null: it does. */
const flawSql = `CASE
    WHEN pg_is_in_recovery() THEN 'standby'
    WHEN current_setting('transaction_isolation') <> 'read committed' THEN 'isolation'
    WHEN pg_current_xact_id_if_assigned() IS NOT NULL THEN 'writing'
    WHEN row_security_active('${changes}'::regclass) THEN 'row security'
  END`

/** PL/pgSQL in which an answer begins: with the reason why it proves nothing, or the snapshot that it is read in. */
const beginAnswer = `
DECLARE
  read pg_snapshot;
BEGIN
  flaw := ${flawSql};
  IF flaw IS NOT NULL THEN
    RETURN;
  END IF;
  read := pg_current_snapshot();
  snapshot := read::text;
`

/** PL/pgSQL in which an answer ends: with what was committed since the snapshot that was asked from. */
const endAnswer = `  IF since IS NOT NULL THEN
    ${announcedSql} INTO total, announced;
  END IF;
END
`

/**
 * Settings of functions that are called all the time: one plan for all calls, and no long wait for a lock, since a
 * session that waits for one does not notice that its client has gone.
 */
const asOnePlan = "SET plan_cache_mode = force_generic_plan SET lock_timeout = '1s'"
/** The setting of functions that write: a session with an open transaction must not hold up those that poll. */
const briefly = "SET lock_timeout = '100ms'"

/** SQL for whether an instant is no more than an interval ago; one of the future, by a clock that was set back, is not. */
function isWithin (instant: string, interval: string): string {
  return `${instant} BETWEEN clock_timestamp() - ${interval} AND clock_timestamp()`
}

type FunctionName = 'poll' | 'tail' | 'begin' | 'survey' | 'note' | 'checkIn' | 'checkOut' | 'lead'

/** The functions of an outbox. They run with the rights of its owner, with the search path `pg_catalog, pg_temp`. */
export const outboxFunctions: Readonly<Record<FunctionName, OutboxFunction>> = Object.freeze({
  /**
   * Answers a poll, in one row: what was committed since a snapshot, the snapshot that was read, what was removed by
   * then, the mark of the server, and the digest of what announces.
   *
   * It is STABLE, so that all of it is read in the one snapshot of the statement that calls it. `flaw` says why the
   * answer proves nothing: it was read on a standby, whose snapshots do not tell what runs on the primary; in a
   * snapshot that may be older than the statement; in a transaction that may still write; or through row-level
   * security.
   *
   * With `is_surveyed` the digest of the last survey is answered in place of one that is made now; `surveyed` is the
   * snapshot in which it was made, `surveyed_ms` its age.
   */
  poll: outboxFunction('poll', `since pg_snapshot, watched oid[], is_surveyed boolean, most int,
  OUT flaw text, OUT snapshot text, OUT removed text, OUT server text, OUT mark text, OUT members int, OUT digest text,
  OUT surveyed text, OUT surveyed_ms int, OUT total int, OUT announced text`,
  'STABLE', `${beginAnswer}  server := ${serverMarkSql};
  SELECT h.seen::text, m.token || ' ' || extract(epoch FROM pg_postmaster_start_time())
    || ' ' || extract(epoch FROM pg_stat_get_bgwriter_stat_reset_time())
  INTO removed, mark FROM ${horizon} AS h LEFT JOIN ${mark} AS m ON true;
  IF NOT is_surveyed THEN
    ${digestSql} INTO members, digest;
  ELSE
    SELECT s.members, s.digest, s.seen::text, CASE WHEN ${isWithin('s.made_at', "interval '1 day'")}
      THEN floor(extract(epoch FROM clock_timestamp() - s.made_at) * 1000) ELSE 86400000 END
    INTO members, digest, surveyed, surveyed_ms FROM ${surveys} AS s WHERE s.key = ${surveyKey};
  END IF;
${endAnswer}`, asOnePlan),
  /** Answers a relay, in one row: what was committed since a snapshot, and the snapshot that was read. */
  tail: outboxFunction('tail', `since pg_snapshot, most int,
  OUT flaw text, OUT snapshot text, OUT total int, OUT announced text`, 'STABLE', `${beginAnswer}${endAnswer}`, asOnePlan),
  /**
   * Makes sure that the server has a mark, and that it is of this server: after the outbox was made, a crash, a
   * promotion, or where it is a copy. What a copy brought of another server's transactions is removed.
   */
  begin: outboxFunction('begin', 'OUT began boolean', 'VOLATILE', `
DECLARE
  here text;
BEGIN
  SELECT d.oid || ' ' || '${changes}'::regclass::oid INTO here
  FROM pg_database AS d WHERE d.datname = current_database();
  -- Some providers take it away.
  IF has_function_privilege('pg_control_system()', 'EXECUTE') THEN
    SELECT s.system_identifier || ' ' || here INTO here FROM pg_control_system() AS s;
  END IF;
  began := false;
  IF (SELECT array_agg(m.place) FROM ${mark} AS m) = ARRAY[here] AND EXISTS (SELECT FROM ${horizon}) THEN
    RETURN;
  END IF;
  -- One at a time; readers go on.
  LOCK TABLE ${mark} IN SHARE ROW EXCLUSIVE MODE;
  IF (SELECT array_agg(m.place) FROM ${mark} AS m) = ARRAY[here] AND EXISTS (SELECT FROM ${horizon}) THEN
    RETURN;
  END IF;
  DELETE FROM ${changes};
  DELETE FROM ${horizon};
  INSERT INTO ${horizon} (seen, taken, taken_at) VALUES (pg_current_snapshot(), pg_current_snapshot(), clock_timestamp());
  -- What instances of the original told each other, too.
  DELETE FROM ${surveys};
  DELETE FROM ${instances};
  DELETE FROM ${relay};
  DELETE FROM ${mark};
  INSERT INTO ${mark} VALUES (gen_random_uuid(), here);
  began := true;
END
`, briefly),
  /**
   * Makes a survey: the digest of what announces the changes of the watched tables, and the snapshot in which it was
   * made, for all instances that watch the same. Does nothing while the last one is younger than `age`, or another
   * session makes one.
   */
  survey: outboxFunction('survey', 'watched oid[], age interval, OUT made boolean', 'VOLATILE', `
DECLARE
  survey_key text := ${surveyKey};
BEGIN
  made := false;
  PERFORM FROM ${surveys} AS s WHERE s.key = survey_key FOR UPDATE SKIP LOCKED;
  IF NOT FOUND AND EXISTS (SELECT FROM ${surveys} AS s WHERE s.key = survey_key)
    OR EXISTS (SELECT FROM ${surveys} AS s WHERE s.key = survey_key AND ${isWithin('s.made_at', 'age')}) THEN
    RETURN;
  END IF;
  INSERT INTO ${surveys} AS s (key, members, digest, seen, made_at)
  SELECT survey_key, found.members, found.digest, pg_current_snapshot(), clock_timestamp()
  FROM (${digestSql}) AS found(members, digest)
  ON CONFLICT (key) DO UPDATE
  SET members = excluded.members, digest = excluded.digest, seen = excluded.seen, made_at = excluded.made_at;
  made := true;
END
`, `SET plan_cache_mode = force_generic_plan ${briefly}`),
  /** Notes a change that no trigger noted: of one user, or of all (null). Fails where that is no hash of a key. */
  note: outboxFunction('note', 'key_hash bytea, revision bigint, OUT noted boolean', 'VOLATILE', `
BEGIN
  IF octet_length(key_hash) <> 32 OR revision < 0 THEN
    RAISE EXCEPTION 'a key hash has 32 bytes, and no revision is below 0' USING ERRCODE = '22023';
  END IF;
  INSERT INTO ${changes} VALUES (pg_current_xact_id(), key_hash, revision);
  noted := true;
END
`, briefly),
  /**
   * Notes that an instance is there, and which triggers it needs; answers with the number of instances. Removes the
   * changes of transactions that a snapshot sees which was taken `retentionS` ago or earlier: every instance that polls
   * more often has read them, and one whose own snapshot does not see all that this one sees finds out. `more` says
   * that there are more than it removed at once.
   */
  checkIn: outboxFunction('check_in', 'instance uuid, needed text[], OUT instances int, OUT more boolean', 'VOLATILE', `
DECLARE
  last record;
  is_due boolean;
  removals int;
BEGIN
  more := false;
  INSERT INTO ${instances} VALUES (instance, clock_timestamp(), needed)
  ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at, needs = excluded.needs;
  SELECT count(*) INTO instances FROM ${instances} AS i WHERE i.seen_at > clock_timestamp() - interval '${absenceS} s';
  IF NOT EXISTS (SELECT FROM ${horizon} AS h WHERE h.is_open OR NOT ${isWithin('h.taken_at', `interval '${retentionS} s'`)}) THEN
    RETURN;
  END IF;
  SELECT * INTO last FROM ${horizon} FOR UPDATE SKIP LOCKED;
  IF NOT FOUND THEN
    RETURN;
  END IF;
  is_due := NOT ${isWithin('last.taken_at', `interval '${retentionS} s'`)};
  IF is_due AND NOT last.is_open THEN
    -- What is to go is told before it goes.
    last.seen := last.taken;
    UPDATE ${horizon} SET seen = last.seen, taken = pg_current_snapshot(), taken_at = clock_timestamp(), is_open = true;
    DELETE FROM ${instances} AS i WHERE i.seen_at < clock_timestamp() - interval '1 hour';
    DELETE FROM ${surveys} AS s WHERE s.made_at < clock_timestamp() - interval '1 hour';
  END IF;
  -- Of those below the floor none is left.
  DELETE FROM ${changes} AS c WHERE c.ctid = ANY (ARRAY(
    SELECT o.ctid FROM ${changes} AS o
    WHERE o.xid >= last.floor AND o.xid < pg_snapshot_xmax(last.seen) AND pg_visible_in_snapshot(o.xid, last.seen)
    ORDER BY o.xid LIMIT ${maxRemovals}
  ));
  GET DIAGNOSTICS removals = ROW_COUNT;
  more := removals = ${maxRemovals};
  IF NOT more THEN
    UPDATE ${horizon} SET floor = pg_snapshot_xmin(last.seen), is_open = false;
  END IF;
END
`, briefly),
  /** Notes that an instance is gone, and that it does not lead the relay. */
  checkOut: outboxFunction('check_out', 'instance uuid, OUT gone boolean', 'VOLATILE', `
BEGIN
  DELETE FROM ${instances} AS i WHERE i.id = instance;
  DELETE FROM ${relay} AS r WHERE r.holder = instance;
  gone := true;
END
`, briefly),
  /** Takes the lease of the relay for an instance, or renews it; answers whether it is held now, for `relayLeaseMs`. */
  lead: outboxFunction('lead', 'instance uuid, OUT leads boolean', 'VOLATILE', `
BEGIN
  leads := false;
  -- A session that is at it must not be waited for.
  PERFORM FROM ${relay} FOR UPDATE SKIP LOCKED;
  IF NOT FOUND AND EXISTS (SELECT FROM ${relay}) THEN
    RETURN;
  END IF;
  INSERT INTO ${relay} AS r VALUES (true, instance, clock_timestamp() + interval '${relayLeaseMs} ms')
  ON CONFLICT (single) DO UPDATE SET holder = excluded.holder, until = excluded.until
  WHERE r.holder = instance OR r.until NOT BETWEEN clock_timestamp() AND clock_timestamp() + interval '${relayLeaseMs} ms';
  leads := FOUND;
END
`, briefly)
})
