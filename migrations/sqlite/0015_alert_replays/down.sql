ALTER TABLE alert_deliveries DROP COLUMN replays;
