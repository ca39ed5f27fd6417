-- What each terminal needs, as the rules found it, and when it was inspected last. Made by a pass from what check-ins leave.
CREATE TABLE terminal_care (
    terminal_id BIGINT NOT NULL PRIMARY KEY,
    -- Copied from the registry by the pass; lists compare the registry's own as well.
    org_path TEXT COLLATE "C" NOT NULL,
    -- 0 nothing is due, 1 planned, 2 soon, 3 now.
    urgency BIGINT NOT NULL,
    -- ',tamper,age,': what the list filters by.
    reasons TEXT NOT NULL,
    -- JSON: each reason with what was observed and the threshold.
    findings TEXT NOT NULL,
    -- JSON: errors counted over some check-ins; only of terminals that had any.
    windows TEXT,
    judged_at_ms BIGINT NOT NULL,
    inspected_at_ms BIGINT,
    inspected_by TEXT,
    inspection_order_id BIGINT,
    -- Geohash of six characters where it was then.
    inspected_place TEXT,
    -- Whether a check-in proved the last inspection, 0 or 1.
    inspection_proven BIGINT,
    version BIGINT NOT NULL
);
-- Holds every column that the list of what is due filters by.
CREATE INDEX terminal_care_due ON terminal_care (urgency, terminal_id, org_path, reasons);
-- In the order in which the numbers beside the reasons are summed up.
CREATE INDEX terminal_care_by_reasons ON terminal_care (reasons, org_path);

-- Where passes over all terminals are.
CREATE TABLE maintenance_passes (
    name TEXT NOT NULL PRIMARY KEY,
    -- JSON of the pass's own.
    cursor TEXT NOT NULL,
    version BIGINT NOT NULL
);

-- Thresholds that an organization changed; the nearest above a terminal are in force.
CREATE TABLE maintenance_rules (
    organization_id BIGINT NOT NULL PRIMARY KEY REFERENCES organizations (id),
    org_path TEXT COLLATE "C" NOT NULL,
    body TEXT NOT NULL,
    changed_by TEXT NOT NULL,
    changed_at_ms BIGINT NOT NULL,
    version BIGINT NOT NULL
);

-- Checklists that an organization changed, every version; the newest of the nearest above a terminal is in force.
CREATE TABLE checklists (
    organization_id BIGINT NOT NULL REFERENCES organizations (id),
    kind TEXT NOT NULL,
    version BIGINT NOT NULL,
    org_path TEXT COLLATE "C" NOT NULL,
    body TEXT NOT NULL,
    changed_by TEXT NOT NULL,
    changed_at_ms BIGINT NOT NULL,
    PRIMARY KEY (organization_id, kind, version)
);

CREATE TABLE work_orders (
    id BIGINT NOT NULL PRIMARY KEY,
    org_path TEXT COLLATE "C" NOT NULL,
    terminal_id BIGINT NOT NULL REFERENCES terminals (id),
    kind TEXT NOT NULL CHECK (kind IN ('inspection', 'repair', 'replace_sim', 'replace_terminal', 'sign_in', 'teach_operator')),
    -- What it was opened for: 'due:tamper', 'incident:12', 'person:repair'. One open order for one thing at one terminal.
    dedup_key TEXT COLLATE "C" NOT NULL,
    -- The due reason it was opened for.
    reason TEXT,
    incident_id BIGINT,
    state TEXT NOT NULL CHECK (state IN ('open', 'assigned', 'in_progress', 'waiting_for_proof', 'closed', 'cancelled')),
    urgency BIGINT NOT NULL,
    due_ms BIGINT NOT NULL,
    assignee_id BIGINT,
    assignee_name TEXT,
    opened_by TEXT NOT NULL,
    -- JSON as it was when the order opened, with where it came from and its version.
    checklist TEXT NOT NULL,
    -- JSON by item.
    answers TEXT NOT NULL,
    -- JSON: when, by whom, and what the terminal had counted until then.
    done TEXT,
    -- Whose check-ins are the proof: the terminal itself, or the one that replaced it.
    proof_terminal_id BIGINT,
    expected_firmware TEXT,
    -- Check-ins of that terminal that were looked at.
    judged BIGINT NOT NULL,
    -- JSON: the check-in that proved it, or the latest that did not.
    proof TEXT,
    outcome TEXT CHECK (outcome IN ('proven', 'unproven')),
    state_since_ms BIGINT NOT NULL,
    deadline_ms BIGINT,
    reminders BIGINT NOT NULL,
    opened_at_ms BIGINT NOT NULL,
    closed_at_ms BIGINT,
    version BIGINT NOT NULL
);
CREATE UNIQUE INDEX work_orders_live ON work_orders (terminal_id, dedup_key) WHERE state NOT IN ('closed', 'cancelled');
CREATE INDEX work_orders_by_org ON work_orders (org_path, id);
CREATE INDEX work_orders_by_state ON work_orders (state, org_path, id);
CREATE INDEX work_orders_by_terminal ON work_orders (terminal_id, id);
CREATE INDEX work_orders_by_assignee ON work_orders (assignee_id, id) WHERE assignee_id IS NOT NULL;
CREATE INDEX work_orders_deadline ON work_orders (deadline_ms) WHERE deadline_ms IS NOT NULL;

-- What happened to a work order, and who did it.
CREATE TABLE work_order_events (
    order_id BIGINT NOT NULL REFERENCES work_orders (id),
    seq BIGINT NOT NULL,
    at_ms BIGINT NOT NULL,
    actor_kind TEXT NOT NULL CHECK (actor_kind IN ('operator', 'api_key', 'system')),
    actor_id BIGINT NOT NULL,
    actor_name TEXT NOT NULL,
    event TEXT NOT NULL,
    note TEXT NOT NULL,
    -- JSON: the signals that a check-in showed.
    evidence TEXT,
    PRIMARY KEY (order_id, seq)
);

-- Attempts and operators' errors by store and week, folded from failures and counters. `week` is whole weeks since 1970.
CREATE TABLE store_weeks (
    week BIGINT NOT NULL,
    org_path TEXT COLLATE "C" NOT NULL,
    merchant_no TEXT COLLATE "C" NOT NULL,
    store_name TEXT COLLATE "C" NOT NULL,
    model TEXT COLLATE "C" NOT NULL,
    attempts BIGINT NOT NULL,
    cancelled BIGINT NOT NULL,
    pin BIGINT NOT NULL,
    amount BIGINT NOT NULL,
    not_signed_in BIGINT NOT NULL,
    reader BIGINT NOT NULL,
    PRIMARY KEY (week, org_path, merchant_no, store_name, model)
);

-- Until which count of its transactions a terminal's attempts are in `store_weeks`.
CREATE TABLE counted_attempts (
    terminal_id BIGINT NOT NULL PRIMARY KEY,
    day BIGINT NOT NULL,
    transactions BIGINT NOT NULL
);

INSERT INTO id_counters (name, next) VALUES ('work_orders', 1);
