-- Dead letters hold the bytes that were received: jsonb refuses some JSON, such as "\u0000". Nothing wrote the table before.
DO $migration$
BEGIN
  IF EXISTS (
    SELECT FROM pg_attribute WHERE attrelid = {{deadLetters:text}}::regclass AND attname = 'received' AND NOT attisdropped
  ) THEN RETURN; END IF;
  ALTER TABLE {{deadLetters}}
    ADD COLUMN received bytea NOT NULL DEFAULT '',
    ALTER COLUMN clerk_user_id DROP NOT NULL,
    ALTER COLUMN sqlstate DROP NOT NULL,
    DROP COLUMN observation;
  ALTER TABLE {{deadLetters}} ALTER COLUMN received DROP DEFAULT;
  -- The same bytes are kept once, however often they arrive.
  CREATE UNIQUE INDEX ON {{deadLetters}} (lane, issuer, coalesce(clerk_user_id, ''), sha256(received));
END $migration$;
