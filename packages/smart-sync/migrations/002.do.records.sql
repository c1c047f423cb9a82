-- What is remembered beside the users themselves.

-- Users that were deleted and have no row: a late event must not bring them back.
CREATE TABLE IF NOT EXISTS {{tombstones}} (
  issuer text NOT NULL,
  clerk_user_id text NOT NULL,
  deleted_at timestamptz(3) NOT NULL DEFAULT now(),
  PRIMARY KEY (issuer, clerk_user_id)
);

-- Observations that the users table refused.
CREATE TABLE IF NOT EXISTS {{deadLetters}} (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  issuer text NOT NULL,
  clerk_user_id text NOT NULL,
  lane text NOT NULL,
  observation jsonb NOT NULL,
  sqlstate text NOT NULL,
  reason text NOT NULL,
  created_at timestamptz(3) NOT NULL DEFAULT now()
);

-- How far a sweep over the provider's users has come.
CREATE TABLE IF NOT EXISTS {{checkpoints}} (
  name text PRIMARY KEY,
  position jsonb NOT NULL,
  updated_at timestamptz(3) NOT NULL DEFAULT now()
);
