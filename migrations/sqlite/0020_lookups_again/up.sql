-- When a look-up is judged again, Unix ms: its payment failed at the terminal and may still be reversed.
ALTER TABLE lookups ADD COLUMN due_ms BIGINT;
CREATE INDEX lookups_due ON lookups (due_ms) WHERE due_ms IS NOT NULL;
