ALTER TABLE incidents DROP COLUMN began_at_ms;
