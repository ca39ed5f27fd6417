DROP INDEX imported_failures_completed;
ALTER TABLE imported_failures DROP COLUMN completed_ms;
ALTER TABLE imported_failures DROP COLUMN told_event;
DROP INDEX imported_failures_by_ref;
UPDATE imported_failures SET dedup_key = ref_key WHERE dedup_key IS NULL;
ALTER TABLE imported_failures DROP COLUMN ref_key;
