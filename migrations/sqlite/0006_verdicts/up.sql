-- What an organization changed about the tables that rules compare with: each edit is a row, the newest is in force.
CREATE TABLE rule_table_edits (
    organization_id BIGINT NOT NULL REFERENCES organizations (id),
    version BIGINT NOT NULL,
    org_path TEXT NOT NULL,
    -- JSON list of {table, key, row}: all that it changes, not only what this edit did.
    overrides TEXT NOT NULL,
    note TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created_at_ms BIGINT NOT NULL,
    PRIMARY KEY (organization_id, version)
);
CREATE INDEX rule_table_edits_by_org ON rule_table_edits (org_path, version);

-- The tables by their hash, as verdicts were judged by them.
CREATE TABLE rule_table_versions (
    hash TEXT NOT NULL PRIMARY KEY,
    body TEXT NOT NULL,
    created_at_ms BIGINT NOT NULL
);

-- What the rules say about one failure or one settlement, the newest judgement.
CREATE TABLE verdicts (
    source TEXT NOT NULL CHECK (source IN ('failure', 'settlement')),
    -- 0 where no terminal of ours is known.
    terminal_id BIGINT NOT NULL,
    -- Of a failure its event, of a settlement the feed's own key.
    item TEXT NOT NULL,
    org_path TEXT NOT NULL,
    received_at_ms BIGINT NOT NULL,
    response_code TEXT,
    -- Absent when no rule matched.
    rule TEXT,
    symptom TEXT NOT NULL CHECK (symptom IN ('S1', 'S2', 'S3', 'S4', 'fee', 'none')),
    cause TEXT NOT NULL,
    severity TEXT NOT NULL CHECK (severity IN ('info', 'low', 'medium', 'high', 'critical')),
    standing TEXT NOT NULL CHECK (standing IN ('proven', 'suspected', 'review')),
    confidence_percent BIGINT NOT NULL,
    -- JSON: the whole judgement with reasons, alternatives and what was not checked.
    judgement TEXT NOT NULL,
    tables_hash TEXT NOT NULL,
    judged_at_ms BIGINT NOT NULL,
    -- Grows with each judgement; `earlier` is a JSON list of what was said before, newest first.
    revision BIGINT NOT NULL,
    earlier TEXT NOT NULL,
    PRIMARY KEY (source, terminal_id, item)
) WITHOUT ROWID;
CREATE INDEX verdicts_by_time ON verdicts (source, received_at_ms, terminal_id, item);
CREATE INDEX verdicts_by_cause ON verdicts (source, cause, received_at_ms, terminal_id, item);
-- Who may see the tables of a hash: those whose verdicts name it.
CREATE INDEX verdicts_by_tables ON verdicts (tables_hash, org_path);
CREATE INDEX verdicts_by_symptom ON verdicts (source, symptom, received_at_ms, terminal_id, item);

-- Verdicts of one organization in one hour by cause, kept with every verdict so that no page counts.
CREATE TABLE verdict_counts (
    source TEXT NOT NULL,
    hour_ms BIGINT NOT NULL,
    org_path TEXT NOT NULL,
    cause TEXT NOT NULL,
    symptom TEXT NOT NULL,
    n BIGINT NOT NULL,
    PRIMARY KEY (source, hour_ms, org_path, cause, symptom)
) WITHOUT ROWID;
