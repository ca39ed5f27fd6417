-- Stages, gates, approval and configuration for rollouts. Three tables are made anew, because SQLite cannot change a
-- column: a rollout is of a release or of a profile.
CREATE TABLE assignments_before AS SELECT * FROM assignments;
CREATE TABLE rollout_counts_before AS SELECT * FROM rollout_counts;
CREATE TABLE rollouts_before AS SELECT * FROM rollouts;
DROP TABLE assignments;
DROP TABLE rollout_counts;
DROP TABLE rollouts;

CREATE TABLE rollouts (
    id BIGINT NOT NULL PRIMARY KEY,
    organization_id BIGINT NOT NULL REFERENCES organizations (id),
    org_path TEXT NOT NULL,
    name TEXT NOT NULL,
    -- What is rolled out: a release, or a profile on a layer (JSON).
    release_id BIGINT REFERENCES releases (id),
    profile_id BIGINT REFERENCES profiles (id),
    layer TEXT,
    -- JSON: which terminals, and how.
    filter TEXT NOT NULL,
    strategy TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('draft', 'awaiting_approval', 'running', 'paused', 'halted', 'succeeded', 'cancelled')),
    stage BIGINT NOT NULL,
    why TEXT NOT NULL,
    state_since_ms BIGINT NOT NULL,
    -- The state's time limit; every state that is not final has one.
    deadline_ms BIGINT,
    assignment_timeout_s BIGINT NOT NULL,
    -- Attempts after the first that a terminal gets, and the first pause before one.
    retry_max BIGINT NOT NULL,
    retry_wait_s BIGINT NOT NULL,
    -- The higher goes first where two want the same terminal.
    priority BIGINT NOT NULL,
    starts_at_ms BIGINT,
    -- When a rollout that takes in later matches stops to do so.
    ends_at_ms BIGINT,
    -- What a person saw and agreed to: how many terminals, and the digest of their numbers.
    targeted BIGINT,
    target_digest TEXT,
    -- JSON: what waits for a second person.
    request TEXT,
    -- The rollout that this one undoes or tries again.
    parent_id BIGINT,
    created_by BIGINT NOT NULL,
    created_by_name TEXT NOT NULL,
    created_at_ms BIGINT NOT NULL,
    started_at_ms BIGINT,
    finished_at_ms BIGINT,
    version BIGINT NOT NULL,
    CHECK ((release_id IS NULL) <> (profile_id IS NULL))
);
INSERT INTO rollouts
SELECT id, organization_id, org_path, name, release_id, NULL, NULL, filter, '{}', state, stage, why, state_since_ms,
    deadline_ms, assignment_timeout_s, 0, 600, 0, NULL, NULL, NULL, NULL, NULL, NULL, created_by, created_by_name,
    created_at_ms, started_at_ms, finished_at_ms, version
FROM rollouts_before;
CREATE INDEX rollouts_by_org ON rollouts (org_path, id);
CREATE INDEX rollouts_by_state ON rollouts (state, id);

-- How far the planner got with a rollout; written by it alone.
CREATE TABLE rollout_progress (
    rollout_id BIGINT NOT NULL PRIMARY KEY REFERENCES rollouts (id),
    -- Admission: how far through the terminals, by id; how many it took in; when it last began to walk all of them.
    admitted_up_to BIGINT NOT NULL,
    admitted BIGINT NOT NULL,
    scanned_at_ms BIGINT,
    -- Assignments whose stage is open; when the running stage opened, and when all of it was open.
    opened BIGINT NOT NULL,
    stage_opened_ms BIGINT,
    stage_filled_ms BIGINT,
    -- The look for silent terminals: how far, by assignment, and when it began.
    swept_up_to BIGINT NOT NULL,
    swept_at_ms BIGINT,
    -- How far the terminals that already install were told of the last start or stop, by assignment.
    signalled_up_to BIGINT NOT NULL
);
INSERT INTO rollout_progress
SELECT id, admitted_up_to, (SELECT COUNT(*) FROM assignments_before WHERE rollout_id = rollouts_before.id), NULL,
    (SELECT COUNT(*) FROM assignments_before WHERE rollout_id = rollouts_before.id), started_at_ms, NULL, 0, NULL,
    signalled_up_to
FROM rollouts_before;

-- Assignments of a rollout by phase, kept with every step so that no page counts.
CREATE TABLE rollout_counts (
    rollout_id BIGINT NOT NULL REFERENCES rollouts (id),
    phase TEXT NOT NULL,
    n BIGINT NOT NULL,
    PRIMARY KEY (rollout_id, phase)
);
INSERT INTO rollout_counts SELECT rollout_id, phase, n FROM rollout_counts_before;

-- One terminal's part in a rollout.
CREATE TABLE assignments (
    -- So spelt it is the row's own number: one tree less to write, and one less to go down for each row.
    id INTEGER NOT NULL PRIMARY KEY,
    rollout_id BIGINT NOT NULL REFERENCES rollouts (id),
    terminal_id BIGINT NOT NULL REFERENCES terminals (id),
    org_path TEXT NOT NULL,
    phase TEXT NOT NULL CHECK (phase IN ('waiting', 'offered', 'downloading', 'installing', 'rebooting', 'trial', 'succeeded', 'failed', 'rolled_back', 'timed_out', 'cancelled')),
    reason TEXT,
    detail TEXT,
    -- 1 while the phase is not final.
    live BIGINT NOT NULL,
    -- Its stage once that is open, -1 before.
    stage BIGINT NOT NULL,
    -- Its place in the order of admission: a hash, after those that a stage names by tag.
    rank BIGINT NOT NULL,
    -- 1 where a stage names it by tag: no evidence against a control that was drawn by lot.
    hand_picked BIGINT NOT NULL,
    -- While waiting: when it may be offered at the earliest, absent while its stage is closed, and what holds it.
    ready_ms BIGINT,
    wait TEXT,
    -- When its time is over unless the terminal shows a sign of life, absent before the first offer; and when its
    -- store's window closes, absent without windows.
    give_up_ms BIGINT,
    window_ends_ms BIGINT,
    -- When the terminal first accepted the order.
    started_at_ms BIGINT,
    -- Hash of its store, 0 where none is known; and its cell of the gate.
    site BIGINT NOT NULL,
    cell BIGINT NOT NULL,
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
SELECT id, rollout_id, terminal_id, org_path, phase, reason, detail, live, stage, id, 0,
    CASE WHEN phase = 'waiting' THEN created_at_ms END, NULL, NULL, NULL, NULL, 0, 0, attempts, bytes_done, bytes_total,
    from_firmware, created_at_ms, phase_since_ms, deadline_ms, finished_at_ms, version
FROM assignments_before;
-- At most one live assignment a terminal.
CREATE UNIQUE INDEX assignments_live ON assignments (terminal_id) WHERE live = 1;
CREATE INDEX assignments_by_terminal ON assignments (terminal_id, id);
CREATE INDEX assignments_by_phase ON assignments (rollout_id, phase, id);
CREATE INDEX assignments_due ON assignments (deadline_ms) WHERE live = 1;
CREATE INDEX assignments_unopened ON assignments (rollout_id, rank) WHERE phase = 'waiting' AND ready_ms IS NULL;
CREATE INDEX assignments_ready ON assignments (rollout_id, ready_ms) WHERE phase = 'waiting' AND ready_ms IS NOT NULL;
CREATE INDEX assignments_in_cell ON assignments (rollout_id, cell) WHERE live = 1;
CREATE INDEX assignments_at_site ON assignments (site) WHERE live = 1 AND site <> 0 AND phase <> 'waiting';
DROP TABLE assignments_before;
DROP TABLE rollout_counts_before;
DROP TABLE rollouts_before;

-- What the gate compares terminals by; a rollout's combinations are numbered from 1, cell 0 is all that came too late
-- to get a number.
CREATE TABLE gate_cells (
    rollout_id BIGINT NOT NULL REFERENCES rollouts (id),
    cell BIGINT NOT NULL,
    model TEXT NOT NULL,
    access TEXT NOT NULL,
    carrier TEXT NOT NULL,
    region TEXT NOT NULL,
    hardware TEXT NOT NULL,
    -- Terminals not yet updated that were heard of lately, as the last look found them.
    controls BIGINT NOT NULL,
    -- The look that goes on.
    controls_seen BIGINT NOT NULL,
    PRIMARY KEY (rollout_id, cell)
) WITHOUT ROWID;

-- Assignments by stage and cell, kept with every step.
CREATE TABLE gate_counts (
    rollout_id BIGINT NOT NULL REFERENCES rollouts (id),
    stage BIGINT NOT NULL,
    cell BIGINT NOT NULL,
    -- Not yet offered.
    waiting BIGINT NOT NULL,
    -- Accepted the order at least once; of these failed for good, and of these ended at all.
    started BIGINT NOT NULL,
    failed BIGINT NOT NULL,
    finished BIGINT NOT NULL,
    PRIMARY KEY (rollout_id, stage, cell)
) WITHOUT ROWID;

-- Terminals that committed the update, by minute.
CREATE TABLE gate_commits (
    rollout_id BIGINT NOT NULL REFERENCES rollouts (id),
    minute_ms BIGINT NOT NULL,
    cell BIGINT NOT NULL,
    n BIGINT NOT NULL,
    PRIMARY KEY (rollout_id, minute_ms, cell)
) WITHOUT ROWID;

-- The gate's journal: failures of updated terminals and of those not yet updated.
CREATE TABLE gate_events (
    rollout_id BIGINT NOT NULL REFERENCES rollouts (id),
    terminal_id BIGINT NOT NULL,
    -- What happened, once: 'boot:…', 'silent:…', 'failure:…'.
    event TEXT NOT NULL,
    at_ms BIGINT NOT NULL,
    site BIGINT NOT NULL,
    cell BIGINT NOT NULL,
    arm TEXT NOT NULL CHECK (arm IN ('treated', 'control')),
    -- When an updated terminal committed the update.
    updated_at_ms BIGINT,
    class TEXT NOT NULL CHECK (class IN ('hard', 'payment')),
    -- Number in the order of judging, and what became of it; both absent until then.
    judged BIGINT,
    verdict TEXT CHECK (verdict IN ('counted', 'suppressed_by_site', 'out_of_window', 'repeated')),
    -- JSON: terminals at risk just before it, by scope.
    at_risk TEXT,
    PRIMARY KEY (rollout_id, terminal_id, event)
) WITHOUT ROWID;
CREATE INDEX gate_events_new ON gate_events (rollout_id, at_ms) WHERE judged IS NULL;
CREATE INDEX gate_events_judged ON gate_events (rollout_id, judged) WHERE judged IS NOT NULL;

-- The newest judgement of a rollout.
CREATE TABLE gate_judgements (
    rollout_id BIGINT NOT NULL PRIMARY KEY REFERENCES rollouts (id),
    at_ms BIGINT NOT NULL,
    stage BIGINT NOT NULL,
    verdict TEXT NOT NULL CHECK (verdict IN ('pass', 'fail', 'insufficient')),
    -- JSON: the numbers behind it.
    evidence TEXT NOT NULL
);

-- Parts of a rollout that were stopped alone.
CREATE TABLE rollout_stops (
    rollout_id BIGINT NOT NULL REFERENCES rollouts (id),
    attribute TEXT NOT NULL CHECK (attribute IN ('model', 'access', 'carrier', 'region', 'hardware')),
    value TEXT NOT NULL,
    why TEXT NOT NULL,
    stopped_by TEXT NOT NULL,
    stopped_at_ms BIGINT NOT NULL,
    PRIMARY KEY (rollout_id, attribute, value)
) WITHOUT ROWID;

-- Minutes that the terminal's local time is ahead of UTC; absent = the server's zone.
ALTER TABLE terminals ADD COLUMN utc_offset_min BIGINT;
