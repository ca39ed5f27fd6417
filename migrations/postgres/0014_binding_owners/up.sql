-- The organization that had a terminal while it was bound: whoever has it later sees nothing of it.
ALTER TABLE terminal_bindings ADD COLUMN org_path TEXT COLLATE "C";

-- An open binding is of whoever has the terminal. For one that has ended, the log says who had it then; where it does not
-- and the terminal has moved since, nobody but headquarters sees it.
UPDATE terminal_bindings SET org_path = t.org_path FROM terminals t WHERE t.id = terminal_bindings.terminal_id;
UPDATE terminal_bindings SET org_path = COALESCE(
    (SELECT a.org_path FROM audit_entries a
     WHERE a.object_kind = 'terminal' AND a.object_id = CAST(terminal_bindings.terminal_id AS TEXT)
       AND a.at_ms <= terminal_bindings.to_ms
     ORDER BY a.seq DESC LIMIT 1),
    (SELECT o.path FROM organizations o
     WHERE o.parent_id IS NULL AND EXISTS (
         SELECT 1 FROM audit_entries a
         WHERE a.object_kind = 'terminal' AND a.object_id = CAST(terminal_bindings.terminal_id AS TEXT)
           AND a.action = 'terminals.lifecycle'
           AND (a.detail LIKE '%"action":"allocate"%' OR a.detail LIKE '%"action":"recall"%'))
     ORDER BY o.id LIMIT 1),
    org_path)
WHERE to_ms IS NOT NULL;
ALTER TABLE terminal_bindings ALTER COLUMN org_path SET NOT NULL;
