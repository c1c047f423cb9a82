/**
 * Names what the release before announced of the table of smart-sync; part of the names of its triggers and of its
 * sessions.
 */
export const notifyVersion = '0123456789ab'

const name = `orientor_${notifyVersion}_0`
const watched = ['issuer', 'clerk_user_id', 'email', 'first_name', 'last_name', 'is_active', 'revision']
const rowOf = (row: string): string => `ROW(${watched.map(column => `${row}.${column}`).join(', ')})::record`
const keyOf = (row: string): string =>
  `encode(sha256(convert_to(${row}.issuer || ' ' || ${row}.clerk_user_id, 'UTF8')), 'hex')`

/**
 * SQL that installs the triggers of the release before on the table of smart-sync: they notify inside the writing
 * transaction. Idempotent, and safe to be run by several at once.
 */
export const notifyTriggersSql: string = `SELECT pg_advisory_xact_lock(1);
DO $install$
BEGIN
  IF EXISTS (SELECT FROM pg_trigger WHERE tgrelid = 'users'::regclass AND tgname = '${name}_row') THEN
    RETURN;
  END IF;
  CREATE FUNCTION ${name} () RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $orientor$
DECLARE
  said text := current_setting('orientor.announced', true);
  old_key text;
  new_key text;
  revision text;
BEGIN
  IF TG_OP = 'TRUNCATE' OR said = '1000' THEN
    NOTIFY "orientor_user", '*';
    RETURN NULL;
  END IF;
  BEGIN
    IF TG_OP = 'UPDATE' THEN
      IF ${rowOf('OLD')} OPERATOR(pg_catalog.*=) ${rowOf('NEW')} THEN
        RETURN NULL;
      END IF;
      new_key := ${keyOf('NEW')};
      old_key := ${keyOf('OLD')};
      IF NEW.revision > OLD.revision THEN revision := NEW.revision; END IF;
    ELSIF TG_OP = 'INSERT' THEN
      new_key := ${keyOf('NEW')};
      revision := NEW.revision;
    ELSE
      old_key := ${keyOf('OLD')};
    END IF;
    IF old_key <> new_key OR revision !~ '^[1-9][0-9]{0,18}$' THEN
      revision := NULL;
    END IF;
    PERFORM set_config('orientor.announced', (coalesce(nullif(said, ''), '0')::integer + 1)::text, true);
    IF new_key IS NOT NULL THEN
      PERFORM pg_notify('orientor_user', concat_ws(' ', new_key, revision));
    END IF;
    IF old_key <> new_key OR new_key IS NULL AND old_key IS NOT NULL THEN
      PERFORM pg_notify('orientor_user', old_key);
    END IF;
  EXCEPTION WHEN OTHERS THEN
    NOTIFY "orientor_user", '*';
  END;
  RETURN NULL;
END
$orientor$;
  CREATE TRIGGER ${name}_row AFTER INSERT OR DELETE OR UPDATE OF ${watched.join(', ')} ON users
    FOR EACH ROW EXECUTE FUNCTION ${name}();
  CREATE TRIGGER ${name}_truncate AFTER TRUNCATE ON users FOR EACH STATEMENT EXECUTE FUNCTION ${name}();
  ALTER TABLE users ENABLE ALWAYS TRIGGER ${name}_row;
  ALTER TABLE users ENABLE ALWAYS TRIGGER ${name}_truncate;
END
$install$`
