ALTER TABLE terminals DROP COLUMN utc_offset_min;
DROP TABLE rollout_stops;
DROP TABLE gate_judgements;
DROP TABLE gate_events;
DROP TABLE gate_commits;
DROP TABLE gate_counts;
DROP TABLE gate_cells;
CREATE TABLE assignments_before AS SELECT * FROM assignments;
CREATE TABLE rollout_counts_before AS SELECT * FROM rollout_counts;
-- Rollouts of profiles did not exist.
CREATE TABLE rollouts_before AS
SELECT rollouts.*, admitted_up_to, signalled_up_to
FROM rollouts INNER JOIN rollout_progress ON rollout_progress.rollout_id = rollouts.id
WHERE release_id IS NOT NULL;
DROP TABLE assignments;
DROP TABLE rollout_counts;
DROP TABLE rollout_progress;
DROP TABLE rollouts;

CREATE TABLE rollouts (
    id BIGINT NOT NULL PRIMARY KEY,
    organization_id BIGINT NOT NULL REFERENCES organizations (id),
    org_path TEXT COLLATE "C" NOT NULL,
    name TEXT NOT NULL,
    release_id BIGINT NOT NULL REFERENCES releases (id),
    -- JSON: which terminals.
    filter TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('draft', 'awaiting_approval', 'running', 'paused', 'halted', 'succeeded', 'cancelled')),
    stage BIGINT NOT NULL,
    why TEXT NOT NULL,
    state_since_ms BIGINT NOT NULL,
    -- The state's time limit; every state that is not final has one.
    deadline_ms BIGINT,
    assignment_timeout_s BIGINT NOT NULL,
    -- How far admission got through the terminals, by id.
    admitted_up_to BIGINT NOT NULL,
    -- How far the terminals that already install were told of the last start or stop, by assignment.
    signalled_up_to BIGINT NOT NULL,
    created_by BIGINT NOT NULL,
    created_by_name TEXT NOT NULL,
    created_at_ms BIGINT NOT NULL,
    started_at_ms BIGINT,
    finished_at_ms BIGINT,
    version BIGINT NOT NULL
);
INSERT INTO rollouts
SELECT id, organization_id, org_path, name, release_id, filter, state, stage, why, state_since_ms, deadline_ms,
    assignment_timeout_s, admitted_up_to, signalled_up_to, created_by, created_by_name, created_at_ms, started_at_ms,
    finished_at_ms, version
FROM rollouts_before;
CREATE INDEX rollouts_by_org ON rollouts (org_path, id);
CREATE INDEX rollouts_by_state ON rollouts (state, id);

CREATE TABLE rollout_counts (
    rollout_id BIGINT NOT NULL REFERENCES rollouts (id),
    phase TEXT NOT NULL,
    n BIGINT NOT NULL,
    PRIMARY KEY (rollout_id, phase)
);
INSERT INTO rollout_counts
SELECT rollout_id, phase, n FROM rollout_counts_before WHERE rollout_id IN (SELECT id FROM rollouts_before);

CREATE TABLE assignments (
    id BIGINT NOT NULL PRIMARY KEY,
    rollout_id BIGINT NOT NULL REFERENCES rollouts (id),
    terminal_id BIGINT NOT NULL REFERENCES terminals (id),
    org_path TEXT COLLATE "C" NOT NULL,
    phase TEXT NOT NULL CHECK (phase IN ('waiting', 'offered', 'downloading', 'installing', 'rebooting', 'trial', 'succeeded', 'failed', 'rolled_back', 'timed_out', 'cancelled')),
    reason TEXT,
    detail TEXT,
    -- 1 while the phase is not final.
    live BIGINT NOT NULL,
    stage BIGINT NOT NULL,
    attempts BIGINT NOT NULL,
    bytes_done BIGINT NOT NULL,
    bytes_total BIGINT NOT NULL,
    from_firmware TEXT,
    created_at_ms BIGINT NOT NULL,
    phase_since_ms BIGINT NOT NULL,
    deadline_ms BIGINT,
    finished_at_ms BIGINT,
    version BIGINT NOT NULL,
    UNIQUE (rollout_id, terminal_id)
);
INSERT INTO assignments
SELECT id, rollout_id, terminal_id, org_path, phase, reason, detail, live, CASE WHEN stage < 0 THEN 0 ELSE stage END, attempts,
    bytes_done, bytes_total, from_firmware, created_at_ms, phase_since_ms, deadline_ms, finished_at_ms, version
FROM assignments_before WHERE rollout_id IN (SELECT id FROM rollouts_before);
CREATE UNIQUE INDEX assignments_live ON assignments (terminal_id) WHERE live = 1;
CREATE INDEX assignments_by_terminal ON assignments (terminal_id, id);
CREATE INDEX assignments_by_phase ON assignments (rollout_id, phase, id);
CREATE INDEX assignments_due ON assignments (deadline_ms) WHERE live = 1;
DROP TABLE assignments_before;
DROP TABLE rollout_counts_before;
DROP TABLE rollouts_before;
