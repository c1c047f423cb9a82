import { quotedName, sqlLiteral, type WatchedTable } from '@orientor/session-contract/core'

/** How many users a transaction announces one by one; from then on it announces that all may have changed. */
const mostAnnouncements = 1000

/**
 * Body of the function that announces the changes of one table. It is called by a trigger for rows, not for statements: that costs less for single rows,
 * sees what is written to a partition directly and what logical replication applies, and needs no payload that could become too long. It announces the new key with its revision and, where the key changed or the row is gone,
 * the old one without. A revision that did not grow, is of another row or is no whole number above 0 (which stands for nobody) is not announced, so that the
 * user is loaded anew in any case.
 * Whatever fails in it turns into the announcement that all may have changed: NOTIFY, the command, needs no privilege.
 */
export function announcingBody (watch: WatchedTable, columns: readonly string[], channel: string): string {
  const rowOf = (row: string): string => `ROW(${columns.map(column => `${row}.${quotedName(column)}`).join(', ')})::record`
  const keyOf = (row: string): string => {
    const issuer = typeof watch.issuer === 'string' ? `${row}.${quotedName(watch.issuer)}::text` : sqlLiteral(watch.issuer.always)
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
      PERFORM pg_notify(${sqlLiteral(channel)}, concat_ws(' ', new_key, revision));
    END IF;
    IF old_key <> new_key OR new_key IS NULL AND old_key IS NOT NULL THEN
      PERFORM pg_notify(${sqlLiteral(channel)}, old_key);
    END IF;
  EXCEPTION WHEN OTHERS THEN
    ${all}
  END;
  RETURN NULL;
END
`
}
