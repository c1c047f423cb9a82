-- The way of 001 takes the trigger back. Until then it counts as before.
SELECT 1;
