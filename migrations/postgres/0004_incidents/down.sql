DROP TABLE alert_deliveries;
DROP TABLE alert_channels;
DROP TABLE alerts;
DROP TABLE incident_events;
DROP TABLE incident_terminals;
DROP TABLE incidents;
DELETE FROM id_counters WHERE name IN ('incidents', 'alerts', 'alert_channels');
