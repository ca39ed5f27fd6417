DROP INDEX lookups_due;
ALTER TABLE lookups DROP COLUMN due_ms;
