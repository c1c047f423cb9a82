-- The users table: made when there is none, else completed. What was done is noted on the revision trigger, for the way back.
-- Columns are added with constant defaults only, which rewrites nothing. It is run again when other columns are needed, and then adds to the note.
DO $migration$
DECLARE
  target regclass := to_regclass({{users:text}});
  created boolean := target IS NULL;
  added text[] := '{}';
  relaxed text[] := '{}';
  made_constraint boolean := false;
  needed record;
  note jsonb := '{}';
BEGIN
  BEGIN
    SELECT obj_description(t.oid, 'pg_trigger')::jsonb INTO STRICT note FROM pg_trigger AS t WHERE t.tgrelid = target AND t.tgname = {{revisionTriggerName}};
    -- The comment may have been replaced by another.
    IF (jsonb_typeof(note) = 'object' AND coalesce(jsonb_typeof(note -> 'created'), 'boolean') = 'boolean' AND coalesce(jsonb_typeof(note -> 'constraint'), 'boolean') = 'boolean'
      AND coalesce(jsonb_typeof(note -> 'added'), 'array') = 'array' AND coalesce(jsonb_typeof(note -> 'relaxed'), 'array') = 'array') IS NOT TRUE THEN
      note := '{}';
    END IF;
  EXCEPTION WHEN no_data_found OR data_exception THEN
    note := '{}';
  END;
  IF created THEN
    CREATE TABLE {{users}} ({{newId}});
    target := {{users:text}}::regclass;
  END IF;

  FOR needed IN SELECT * FROM (VALUES
    {{neededColumns}}
  ) AS columns(name, definition, writes_null) LOOP
    IF NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = target AND attname = needed.name AND NOT attisdropped) THEN
      EXECUTE format('ALTER TABLE %s ADD COLUMN %I %s', target, needed.name, needed.definition);
      added := added || needed.name;
    ELSIF needed.writes_null AND (SELECT attnotnull FROM pg_attribute WHERE attrelid = target AND attname = needed.name) THEN
      -- A provider may not tell it, and an e-mail address may be another's: such a user must be able to log in all the same.
      EXECUTE format('ALTER TABLE %s ALTER COLUMN %I DROP NOT NULL', target, needed.name);
      relaxed := relaxed || needed.name;
    END IF;
  END LOOP;

  IF created THEN
    ALTER TABLE {{users}} {{keyNotNull}};
  END IF;

  IF NOT EXISTS (
    SELECT FROM pg_index AS i
    WHERE i.indrelid = target AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL AND {{keyNames}} = ARRAY(
      SELECT a.attname::text FROM generate_series(0, i.indnkeyatts - 1) AS k
      JOIN pg_attribute AS a ON a.attrelid = target AND a.attnum = i.indkey[k] ORDER BY a.attname
    )
  ) THEN
    ALTER TABLE {{users}} ADD CONSTRAINT {{keyConstraint}} UNIQUE ({{key}});
    made_constraint := true;
  END IF;

  -- Its columns and its body come with 003.
  IF NOT EXISTS (SELECT FROM pg_trigger AS t WHERE t.tgrelid = target AND t.tgname = {{revisionTriggerName}}) THEN
    {{dropForeignFunction}}
    CREATE OR REPLACE FUNCTION {{revisionFunction}}() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
    CREATE TRIGGER {{revisionTrigger}} BEFORE UPDATE ON {{users}} FOR EACH ROW EXECUTE FUNCTION {{revisionFunction}}();
    note := '{"reads": []}';
  END IF;
  EXECUTE format({{revisionNote:text}}, note || jsonb_build_object(
    'created', coalesce((note ->> 'created')::boolean, false) OR created,
    'added', coalesce(note -> 'added', '[]') || to_jsonb(added),
    'relaxed', coalesce(note -> 'relaxed', '[]') || to_jsonb(relaxed),
    'constraint', coalesce((note ->> 'constraint')::boolean, false) OR made_constraint));
END $migration$;
