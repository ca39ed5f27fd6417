-- The organization that had a terminal while it was bound: whoever has it later sees nothing of it. SQLite adds no column
-- that must have a value, so that the table is made anew.
CREATE TABLE terminal_bindings_before AS SELECT * FROM terminal_bindings;
DROP TABLE terminal_bindings;
CREATE TABLE terminal_bindings (
    id BIGINT NOT NULL PRIMARY KEY,
    terminal_id BIGINT NOT NULL REFERENCES terminals (id),
    merchant_no TEXT NOT NULL,
    merchant_name TEXT,
    terminal_no TEXT,
    store_name TEXT,
    from_ms BIGINT NOT NULL,
    to_ms BIGINT,
    actor TEXT NOT NULL,
    reason TEXT NOT NULL,
    org_path TEXT NOT NULL
);
-- One open binding a terminal.
CREATE UNIQUE INDEX terminal_bindings_open ON terminal_bindings (terminal_id) WHERE to_ms IS NULL;
CREATE INDEX terminal_bindings_by_terminal ON terminal_bindings (terminal_id, from_ms);
CREATE INDEX terminal_bindings_by_merchant ON terminal_bindings (merchant_no, terminal_id);

-- An open binding is of whoever has the terminal. For one that has ended, the log says who had it then; where it does not
-- and the terminal has moved since, nobody but headquarters sees it.
INSERT INTO terminal_bindings
    (id, terminal_id, merchant_no, merchant_name, terminal_no, store_name, from_ms, to_ms, actor, reason, org_path)
SELECT
    b.id, b.terminal_id, b.merchant_no, b.merchant_name, b.terminal_no, b.store_name, b.from_ms, b.to_ms, b.actor, b.reason,
    CASE WHEN b.to_ms IS NULL THEN t.org_path ELSE COALESCE(
        (SELECT a.org_path FROM audit_entries a
         WHERE a.object_kind = 'terminal' AND a.object_id = CAST(b.terminal_id AS TEXT) AND a.at_ms <= b.to_ms
         ORDER BY a.seq DESC LIMIT 1),
        (SELECT o.path FROM organizations o
         WHERE o.parent_id IS NULL AND EXISTS (
             SELECT 1 FROM audit_entries a
             WHERE a.object_kind = 'terminal' AND a.object_id = CAST(b.terminal_id AS TEXT)
               AND a.action = 'terminals.lifecycle'
               AND (a.detail LIKE '%"action":"allocate"%' OR a.detail LIKE '%"action":"recall"%'))
         ORDER BY o.id LIMIT 1),
        t.org_path) END
FROM terminal_bindings_before b
JOIN terminals t ON t.id = b.terminal_id;
DROP TABLE terminal_bindings_before;
