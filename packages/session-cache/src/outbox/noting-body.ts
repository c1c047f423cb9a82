import { quotedName, sqlLiteral, type WatchedTable } from '@orientor/session-contract/core'
import { outboxTables } from './outbox-names.js'

/** The number of users that a transaction notes one by one; from then on it notes, once, that all may have changed. */
const maxNotes = 1000
/** The age up to which a transaction does not count its notes, in milliseconds: about a thousand fit in. */
const uncountedMs = 10
/**
 * The setting that holds the number of users that a transaction has noted, or the `ctid` of its note that all may have
 * changed.
 */
const setting = "'orientor.noted'"

/**
 * The body of the function that notes the changes of one table in the outbox, called by a trigger for rows: that
 * costs less for single rows than one for statements, and sees what is written to a partition directly and what
 * logical replication applies. It notes the new key with its revision and, where the key changed or the row is
 * gone, the old one without. A revision that did not grow, is of another row or is no whole number above 0 is not
 * noted, so that the user is loaded anew in any case.
 *
 * What cannot be computed, since a column is gone or has another type, turns into a note that all may have
 * changed. A note that cannot be inserted fails the write: a change that was committed and not noted would break
 * the bound. So only the computing is caught, and nothing is inserted where it is: that would take a transaction
 * id for each row.
 *
 * PL/pgSQL prepares each expression anew in each transaction, part by part: that, not what they compute, is what a
 * single write pays for. So the usual update, whose revision grew while its key stayed, gets by with three, and
 * compares no columns where the revision tells of them (`exactRevision`). Whatever is not usual goes the long way
 * round.
 */
export function notingBody (watch: WatchedTable, columns: readonly string[], schema: string): string {
  const changes = `${schema}.${outboxTables.changes}`
  const keyColumns = typeof watch.issuer === 'string' ? [watch.issuer, watch.subject] : [watch.subject]
  const of = (row: 'OLD' | 'NEW', column: string): string => `${row}.${quotedName(column)}`
  const keyOf = (row: 'OLD' | 'NEW'): string => {
    const issuer = typeof watch.issuer === 'string' ? `${of(row, watch.issuer)}::text` : sqlLiteral(watch.issuer.always)
    return `sha256(convert_to(${issuer} || ' ' || ${of(row, watch.subject)}::text, 'UTF8'))`
  }
  const rowOf = (row: 'OLD' | 'NEW'): string => `ROW(${columns.map(column => of(row, column)).join(', ')})::record`
  const isUnchanged = `${rowOf('OLD')} OPERATOR(pg_catalog.*=) ${rowOf('NEW')}`
  const isYoung = `clock_timestamp() < transaction_timestamp() + interval '${uncountedMs} ms'`
  const revisionOf = (row: 'OLD' | 'NEW'): string => `${of(row, watch.revision ?? '')}::bigint`
  const usual = watch.revision === null
    ? ''
    : `
  BEGIN
    new_key := CASE WHEN ${[
      `${revisionOf('NEW')} > ${revisionOf('OLD')}`,
      `${revisionOf('OLD')} >= 0`,
      ...keyColumns.map(column => `${of('OLD', column)}::text = ${of('NEW', column)}::text COLLATE "C"`),
      isYoung,
      ...(watch.exactRevision === true ? [] : [`NOT ${isUnchanged}`])
    ].join(' AND ')} THEN ${keyOf('NEW')} END;
  EXCEPTION WHEN OTHERS THEN
    new_key := NULL;
  END;
  IF new_key IS NOT NULL THEN
    -- The revision was computed above.
    INSERT INTO ${changes} VALUES (pg_current_xact_id(), new_key, ${revisionOf('NEW')});
    RETURN NEW;
  END IF;`
  const inserted = watch.revision === null ? '' : `revision := ${revisionOf('NEW')};`
  const updated = watch.revision === null
    ? ''
    : `IF ${revisionOf('NEW')} > ${revisionOf('OLD')} THEN revision := ${revisionOf('NEW')}; END IF;`
  return `
DECLARE
  old_key bytea;
  new_key bytea;
  revision bigint;
  noted text;
  is_all boolean;
BEGIN${usual}
  noted := current_setting(${setting}, true);
  -- What the session says of itself is believed only as far as the table bears it out.
  IF noted ~ '^[(][0-9]{1,9},[0-9]{1,4}[)]$' THEN
    IF EXISTS (
      SELECT FROM ${changes} AS c WHERE c.ctid = noted::tid AND c.xid = pg_current_xact_id() AND c.key_hash IS NULL
    ) THEN
      RETURN NULL;
    END IF;
  END IF;
  BEGIN
    IF TG_OP = 'UPDATE' THEN
      IF ${isUnchanged} THEN
        RETURN NULL;
      END IF;
      new_key := ${keyOf('NEW')};
      old_key := ${keyOf('OLD')};
      ${updated}
    ELSIF TG_OP = 'INSERT' THEN
      new_key := ${keyOf('NEW')};
      ${inserted}
    ELSIF TG_OP = 'DELETE' THEN
      old_key := ${keyOf('OLD')};
    ELSE
      is_all := true;
    END IF;
    IF old_key <> new_key OR revision <= 0 THEN
      revision := NULL;
    END IF;
    IF NOT (${isYoung}) THEN
      IF (noted ~ '^[0-9]{1,4}$') IS NOT TRUE THEN
        -- Counted from here on: to look for what was noted before would be a conflict for serializable transactions.
        noted := '0';
      END IF;
      is_all := is_all OR noted::integer >= ${maxNotes};
      PERFORM set_config(${setting}, (noted::integer + 1)::text, true);
    END IF;
  EXCEPTION WHEN OTHERS THEN
    is_all := true;
  END;
  IF is_all THEN
    INSERT INTO ${changes} (xid) VALUES (pg_current_xact_id()) RETURNING ctid::text INTO noted;
    PERFORM set_config(${setting}, noted, true);
    RETURN NULL;
  END IF;
  IF old_key <> new_key OR new_key IS NULL AND old_key IS NOT NULL THEN
    INSERT INTO ${changes} (xid, key_hash) VALUES (pg_current_xact_id(), old_key);
  END IF;
  IF new_key IS NULL THEN
    RETURN NULL;
  END IF;
  INSERT INTO ${changes} VALUES (pg_current_xact_id(), new_key, revision);
  RETURN NULL;
END
`
}
