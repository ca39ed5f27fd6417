DROP TABLE counted_attempts;
DROP TABLE store_weeks;
DROP TABLE work_order_events;
DROP TABLE work_orders;
DROP TABLE checklists;
DROP TABLE maintenance_rules;
DROP TABLE maintenance_passes;
DROP TABLE terminal_care;
DELETE FROM id_counters WHERE name = 'work_orders';
