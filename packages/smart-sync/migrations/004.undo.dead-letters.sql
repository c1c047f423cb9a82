-- What it holds cannot always be jsonb; the way of 002 drops the table.
SELECT 1;
