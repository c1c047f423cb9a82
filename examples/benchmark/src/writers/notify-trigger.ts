import { quotedName, sqlLiteral, type WatchedTable } from '@orientor/session-contract/core'

/** The channel that the trigger notifies. */
export const notifyChannel = 'orientor_user'

/**
 * SQL for the trigger that announced changes by NOTIFY before there was an outbox (revision `fb689d2`), as it was for a
 * table with columns for issuer and revision: the yardstick. It was the product's once; nothing else uses it.
 */
export function notifyTriggerSql (watch: WatchedTable & { readonly issuer: string, readonly revision: string }): string {
  const { schema = 'public', table, issuer, subject, revision } = watch
  const columns = [...new Set([subject, issuer, ...watch.columns])]
  const of = (row: string, column: string): string => `${row}.${quotedName(column)}`
  const rowOf = (row: string): string => `ROW(${columns.map(column => of(row, column)).join(', ')})::record`
  const keyOf = (row: string): string => {
    const text = `${of(row, issuer)}::text || ' ' || ${of(row, subject)}::text`
    return `encode(sha256(convert_to(${text}, 'UTF8')), 'hex')`
  }
  const revisionOf = (row: string): string => of(row, revision)
  const all = `NOTIFY ${notifyChannel}, '*';`
  const body = `
DECLARE
  said text := current_setting('orientor.announced', true);
  old_key text;
  new_key text;
  revision text;
BEGIN
  IF TG_OP = 'TRUNCATE' OR said = '1000' THEN
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
      IF ${revisionOf('NEW')} > ${revisionOf('OLD')} THEN revision := ${revisionOf('NEW')}; END IF;
    ELSIF TG_OP = 'INSERT' THEN
      new_key := ${keyOf('NEW')};
      revision := ${revisionOf('NEW')};
    ELSE
      old_key := ${keyOf('OLD')};
    END IF;
    IF old_key <> new_key OR revision !~ '^[1-9][0-9]{0,18}$' THEN
      revision := NULL;
    END IF;
    PERFORM set_config('orientor.announced', (coalesce(nullif(said, ''), '0')::integer + 1)::text, true);
    IF new_key IS NOT NULL THEN
      PERFORM pg_notify('${notifyChannel}', concat_ws(' ', new_key, revision));
    END IF;
    IF old_key <> new_key OR new_key IS NULL AND old_key IS NOT NULL THEN
      PERFORM pg_notify('${notifyChannel}', old_key);
    END IF;
  EXCEPTION WHEN OTHERS THEN
    ${all}
  END;
  RETURN NULL;
END
`
  const qualified = (name: string): string => `${quotedName(schema)}.${quotedName(name)}`
  const listed = columns.map(quotedName).join(', ')
  const call = `EXECUTE FUNCTION ${qualified('announce')}()`
  return `CREATE FUNCTION ${qualified('announce')}() RETURNS trigger LANGUAGE plpgsql
  SET search_path = pg_catalog, pg_temp AS ${sqlLiteral(body)};
CREATE TRIGGER announce_row AFTER INSERT OR DELETE OR UPDATE OF ${listed} ON ${qualified(table)} FOR EACH ROW ${call};
CREATE TRIGGER announce_truncate AFTER TRUNCATE ON ${qualified(table)} FOR EACH STATEMENT ${call};
ALTER TABLE ${qualified(table)} ENABLE ALWAYS TRIGGER announce_row, ENABLE ALWAYS TRIGGER announce_truncate;`
}
