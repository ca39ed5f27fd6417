DELETE FROM settings WHERE key IN ('verdicts_cursor', 'verdicts_checked_again_ms');
DROP TABLE verdict_counts;
DROP TABLE verdicts;
DROP TABLE rule_table_versions;
DROP TABLE rule_table_edits;
