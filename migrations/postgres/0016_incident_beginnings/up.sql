-- When the first failure of an incident's cause came in, where its rule knows that: how long it took to be seen is measured
-- from then on. NULL: not known.
ALTER TABLE incidents ADD COLUMN began_at_ms BIGINT;
