-- What unattended scans found: which conditions explained a rise of failures, as it was seen then.
CREATE TABLE explanations (
    id BIGINT NOT NULL PRIMARY KEY,
    org_path TEXT NOT NULL,
    -- '' for all failures, else an outcome: 'code:91', 'stage:tls'.
    class TEXT NOT NULL,
    from_ms BIGINT NOT NULL,
    to_ms BIGINT NOT NULL,
    -- JSON.
    report TEXT NOT NULL
);
CREATE INDEX explanations_by_org ON explanations (org_path, id);
CREATE INDEX explanations_by_time ON explanations (to_ms);

-- When a pass is due: whoever moves the time on first does it.
CREATE TABLE pass_times (
    pass TEXT NOT NULL PRIMARY KEY,
    due_ms BIGINT NOT NULL
);
INSERT INTO pass_times (pass, due_ms) VALUES ('explain', 0);
INSERT INTO id_counters (name, next) VALUES ('explanations', 1);
