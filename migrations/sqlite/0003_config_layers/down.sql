ALTER TABLE terminal_states DROP COLUMN config_misses;
ALTER TABLE terminal_states DROP COLUMN config_told;
DROP TABLE config_drifts;
DROP INDEX terminals_by_desired_config;
DROP TABLE effective_configs;
DROP TABLE terminal_layers;
DROP TABLE config_layers;
