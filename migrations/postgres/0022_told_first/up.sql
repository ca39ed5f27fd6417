-- Terminal, reference number and date of the transaction, where they are known: the second name it is known by, beside
-- dedup_key with terminal, batch, trace, date and kind.
ALTER TABLE imported_failures ADD COLUMN ref_key TEXT COLLATE "C";
UPDATE imported_failures SET ref_key = dedup_key, dedup_key = NULL WHERE dedup_key LIKE '%|ref|%';
CREATE UNIQUE INDEX imported_failures_by_ref ON imported_failures (ref_key) WHERE ref_key IS NOT NULL;
-- What the organization had told, as JSON, once the terminal's own report stands in its place.
ALTER TABLE imported_failures ADD COLUMN told_event TEXT;
-- When the terminal reported it, Unix ms, until the failure is judged by that.
ALTER TABLE imported_failures ADD COLUMN completed_ms BIGINT;
CREATE INDEX imported_failures_completed ON imported_failures (completed_ms) WHERE completed_ms IS NOT NULL;
