ALTER TABLE terminal_bindings DROP COLUMN org_path;
