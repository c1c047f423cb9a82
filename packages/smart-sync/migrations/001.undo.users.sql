-- Takes back what 001.do noted that it did. A table that was there before keeps its own columns and rows; only a table that the
-- migration made is dropped, and not while something refers to it.
DO $migration$
DECLARE
  target regclass := to_regclass({{users:text}});
  done jsonb;
  name text;
BEGIN
  IF target IS NULL THEN RETURN; END IF;
  BEGIN
    SELECT obj_description(oid, 'pg_trigger')::jsonb INTO done FROM pg_trigger WHERE tgrelid = target AND tgname = {{revisionTriggerName}};
  EXCEPTION WHEN data_exception THEN
    -- The comment was replaced by another: nothing is known to have been done.
    done := NULL;
  END;
  DROP TRIGGER IF EXISTS {{revisionTrigger}} ON {{users}};
  DROP FUNCTION IF EXISTS {{revisionFunction}}();
  IF jsonb_typeof(done) IS DISTINCT FROM 'object' THEN RETURN; END IF;
  IF (done ->> 'created')::boolean THEN
    DROP TABLE {{users}};
    RETURN;
  END IF;
  IF (done ->> 'constraint')::boolean THEN
    ALTER TABLE {{users}} DROP CONSTRAINT IF EXISTS {{keyConstraint}};
  END IF;
  -- What announces changes of these columns (the triggers of @orientor/session-cache) keeps them from being dropped. Whoever still needs it puts it in place again.
  FOR name IN SELECT DISTINCT tgfoid::regprocedure FROM pg_trigger WHERE tgrelid = target AND tgname ~ '^orientor_[0-9a-f]{12}_[0-9]+_row$' LOOP
    EXECUTE format('DROP FUNCTION %s CASCADE', name);
  END LOOP;
  FOR name IN SELECT tgname FROM pg_trigger WHERE tgrelid = target AND NOT tgisinternal AND starts_with(tgname, 'orientor_outbox_') LOOP
    EXECUTE format('DROP TRIGGER %I ON %s', name, target);
  END LOOP;
  FOR name IN SELECT jsonb_array_elements_text(done -> 'added') LOOP
    EXECUTE format('ALTER TABLE %s DROP COLUMN IF EXISTS %I', target, name);
  END LOOP;
  FOR name IN SELECT jsonb_array_elements_text(done -> 'relaxed') LOOP
    BEGIN
      EXECUTE format('ALTER TABLE %s ALTER COLUMN %I SET NOT NULL', target, name);
    EXCEPTION WHEN not_null_violation THEN
      RAISE NOTICE 'column "%" of % holds null by now and stays nullable', name, target;
    END;
  END LOOP;
END $migration$;
