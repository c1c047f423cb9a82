DROP TABLE IF EXISTS {{checkpoints}};
DROP TABLE IF EXISTS {{deadLetters}};
DROP TABLE IF EXISTS {{tombstones}};
