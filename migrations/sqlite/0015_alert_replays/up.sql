-- How often a person had a delivery sent again: each time it has another name. NULL: never.
ALTER TABLE alert_deliveries ADD COLUMN replays BIGINT;
