DELETE FROM fleet_passes WHERE name = 'switches';
DROP INDEX work_orders_overdue;
ALTER TABLE work_orders DROP COLUMN overdue_told_ms;
DROP TABLE merchant_switches;
DROP INDEX channel_transactions_switched;
