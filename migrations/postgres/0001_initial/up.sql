-- Conventions, the same on both databases: times are Unix milliseconds (*_ms), enumerations TEXT with a CHECK,
-- JSON is TEXT, truth values are 0 or 1. The program writes every value: no triggers, no defaults.
-- Text that is compared by range has the C collation, so that it sorts by bytes as in SQLite.

CREATE TABLE id_counters (
    name TEXT NOT NULL PRIMARY KEY,
    next BIGINT NOT NULL
);

CREATE TABLE settings (
    key TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
);

-- The reseller tree. `path` is '/1/4/17/': an organization's subtree is the range of paths that start with its own.
CREATE TABLE organizations (
    id BIGINT NOT NULL PRIMARY KEY,
    parent_id BIGINT REFERENCES organizations (id),
    path TEXT COLLATE "C" NOT NULL UNIQUE,
    level BIGINT NOT NULL,
    name TEXT NOT NULL,
    short_code TEXT NOT NULL UNIQUE,
    region TEXT,
    status TEXT NOT NULL CHECK (status IN ('active', 'suspended')),
    created_at_ms BIGINT NOT NULL,
    version BIGINT NOT NULL
);
CREATE INDEX organizations_by_parent ON organizations (parent_id, id);

CREATE TABLE operators (
    id BIGINT NOT NULL PRIMARY KEY,
    organization_id BIGINT NOT NULL REFERENCES organizations (id),
    org_path TEXT COLLATE "C" NOT NULL,
    login TEXT COLLATE "C" NOT NULL UNIQUE,
    name TEXT NOT NULL,
    password_hash TEXT NOT NULL,
    role TEXT NOT NULL CHECK (role IN ('platform_admin', 'release_manager', 'approver', 'org_admin', 'org_ops', 'field', 'auditor')),
    status TEXT NOT NULL CHECK (status IN ('active', 'disabled')),
    language TEXT NOT NULL CHECK (language IN ('zh-CN', 'en')),
    created_at_ms BIGINT NOT NULL,
    version BIGINT NOT NULL
);
CREATE INDEX operators_by_org ON operators (org_path, id);

-- Failed sign-ins in a row, by login whether it exists or not, so that a stranger cannot tell. Old rows are removed.
CREATE TABLE sign_in_failures (
    login_hash TEXT NOT NULL PRIMARY KEY,
    failures BIGINT NOT NULL,
    failed_at_ms BIGINT NOT NULL,
    locked_until_ms BIGINT NOT NULL
);
CREATE INDEX sign_in_failures_by_age ON sign_in_failures (failed_at_ms);

-- One row a signed-in browser or REST client; only hashes are kept. `family_hash` is of the part of the refresh token
-- that stays the same when the token is renewed: a family with another `refresh_hash` is an old token used again.
CREATE TABLE operator_sessions (
    id TEXT NOT NULL PRIMARY KEY,
    operator_id BIGINT NOT NULL REFERENCES operators (id),
    family_hash TEXT NOT NULL UNIQUE,
    refresh_hash TEXT NOT NULL UNIQUE,
    csrf_token TEXT NOT NULL,
    user_agent TEXT NOT NULL,
    created_at_ms BIGINT NOT NULL,
    expires_at_ms BIGINT NOT NULL,
    revoked_at_ms BIGINT
);
CREATE INDEX operator_sessions_by_operator ON operator_sessions (operator_id, created_at_ms);

CREATE TABLE api_keys (
    id BIGINT NOT NULL PRIMARY KEY,
    organization_id BIGINT NOT NULL REFERENCES organizations (id),
    org_path TEXT COLLATE "C" NOT NULL,
    created_by BIGINT NOT NULL REFERENCES operators (id),
    name TEXT NOT NULL,
    role TEXT NOT NULL CHECK (role IN ('platform_admin', 'release_manager', 'approver', 'org_admin', 'org_ops', 'field', 'auditor')),
    key_hash TEXT NOT NULL UNIQUE,
    key_prefix TEXT NOT NULL,
    created_at_ms BIGINT NOT NULL,
    expires_at_ms BIGINT NOT NULL,
    last_used_at_ms BIGINT,
    revoked_at_ms BIGINT
);
CREATE INDEX api_keys_by_org ON api_keys (org_path, id);

-- Hash chain: each entry's hash covers the one before it.
CREATE TABLE audit_entries (
    seq BIGINT NOT NULL PRIMARY KEY,
    at_ms BIGINT NOT NULL,
    actor_kind TEXT NOT NULL CHECK (actor_kind IN ('operator', 'api_key', 'terminal', 'system')),
    actor_id BIGINT NOT NULL,
    actor_name TEXT NOT NULL,
    org_path TEXT COLLATE "C" NOT NULL,
    action TEXT NOT NULL,
    object_kind TEXT NOT NULL,
    object_id TEXT NOT NULL,
    detail TEXT NOT NULL,
    request_id TEXT NOT NULL,
    previous_hash TEXT NOT NULL,
    hash TEXT COLLATE "C" NOT NULL
);
CREATE INDEX audit_entries_by_org ON audit_entries (org_path, seq);
CREATE INDEX audit_entries_by_object ON audit_entries (object_kind, object_id, seq);

CREATE TABLE models (
    code TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    capabilities TEXT NOT NULL,
    created_at_ms BIGINT NOT NULL
);

-- The registry: who and whose a terminal is, and what it should run. Written by operators and the planner only.
CREATE TABLE terminals (
    id BIGINT NOT NULL PRIMARY KEY,
    sn TEXT COLLATE "C" NOT NULL UNIQUE,
    sn_reversed TEXT COLLATE "C" NOT NULL UNIQUE,
    tusn TEXT UNIQUE,
    model TEXT NOT NULL REFERENCES models (code),
    hardware TEXT,
    organization_id BIGINT NOT NULL REFERENCES organizations (id),
    org_path TEXT COLLATE "C" NOT NULL,
    merchant_no TEXT COLLATE "C",
    merchant_name TEXT COLLATE "C",
    store_name TEXT COLLATE "C",
    terminal_no TEXT COLLATE "C",
    region TEXT NOT NULL,
    iccid TEXT,
    imei TEXT,
    notes TEXT,
    lifecycle TEXT NOT NULL CHECK (lifecycle IN ('stocked', 'allocated', 'bound', 'active', 'suspended', 'repair', 'lost', 'unbound', 'retired', 'blocked')),
    -- Grows when sessions must end; a session token of another epoch is refused.
    session_epoch BIGINT NOT NULL,
    public_key TEXT,
    enrolled_at_ms BIGINT,
    stream BIGINT NOT NULL,
    check_in_interval_s BIGINT,
    -- Desired state: grows with each change of the director document; 0 = none yet.
    assignment_version BIGINT NOT NULL,
    desired_config_hash TEXT,
    created_at_ms BIGINT NOT NULL,
    version BIGINT NOT NULL
);
CREATE INDEX terminals_by_org ON terminals (org_path, id);
CREATE INDEX terminals_by_model ON terminals (model, id);
-- For searches by the beginning of one of these.
CREATE INDEX terminals_by_merchant_no ON terminals (merchant_no);
CREATE INDEX terminals_by_merchant_name ON terminals (merchant_name);
CREATE INDEX terminals_by_store_name ON terminals (store_name);
CREATE INDEX terminals_by_terminal_no ON terminals (terminal_no);

CREATE TABLE terminal_tags (
    tag TEXT COLLATE "C" NOT NULL,
    terminal_id BIGINT NOT NULL REFERENCES terminals (id),
    PRIMARY KEY (tag, terminal_id)
);
CREATE INDEX terminal_tags_by_terminal ON terminal_tags (terminal_id, tag);

CREATE TABLE activation_codes (
    code_hash TEXT NOT NULL PRIMARY KEY,
    terminal_id BIGINT NOT NULL REFERENCES terminals (id),
    created_at_ms BIGINT NOT NULL,
    expires_at_ms BIGINT NOT NULL,
    used_at_ms BIGINT,
    used_public_key TEXT
);
CREATE INDEX activation_codes_by_terminal ON activation_codes (terminal_id, created_at_ms);

-- One file of terminals that was imported, or only tried.
CREATE TABLE terminal_imports (
    id TEXT NOT NULL PRIMARY KEY,
    organization_id BIGINT NOT NULL REFERENCES organizations (id),
    org_path TEXT COLLATE "C" NOT NULL,
    file_sha256 TEXT NOT NULL,
    dry_run BIGINT NOT NULL,
    -- JSON: what the answer said.
    result TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created_at_ms BIGINT NOT NULL
);
CREATE INDEX terminal_imports_by_org ON terminal_imports (org_path, created_at_ms);

-- The refused rows of an import as CSV, in blocks.
CREATE TABLE terminal_import_errors (
    import_id TEXT NOT NULL REFERENCES terminal_imports (id),
    block BIGINT NOT NULL,
    csv TEXT NOT NULL,
    PRIMARY KEY (import_id, block)
);

-- What a terminal reported last, and what the server's own clock saw. The row is made with the terminal, with
-- last_seen_ms = 0; after that check-ins write it.
CREATE TABLE terminal_states (
    terminal_id BIGINT NOT NULL PRIMARY KEY,
    stream BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    first_seen_ms BIGINT NOT NULL,
    last_seen_ms BIGINT NOT NULL,
    next_check_in_ms BIGINT NOT NULL,
    interval_s BIGINT NOT NULL,
    sampled_at_ms BIGINT NOT NULL,
    check_ins BIGINT NOT NULL,
    failures BIGINT NOT NULL,
    transactions_ok BIGINT NOT NULL,
    transactions_failed BIGINT NOT NULL,
    firmware TEXT COLLATE "C" NOT NULL,
    slot TEXT NOT NULL,
    agent TEXT NOT NULL,
    app TEXT,
    config_hash TEXT,
    access TEXT NOT NULL,
    carrier TEXT NOT NULL,
    signal TEXT NOT NULL,
    -- What the terminal list filters by, copied from the registry by whoever changes it there; never written by
    -- check-ins. `tags` is ',one,two,'.
    org_path TEXT COLLATE "C",
    model TEXT COLLATE "C",
    lifecycle TEXT COLLATE "C",
    region TEXT COLLATE "C",
    tags TEXT COLLATE "C",
    -- The rest of the last check-in, as JSON: terminal, condition, network, device.
    report TEXT NOT NULL
);
-- The two orders of the terminal list. Each index holds every column that the list filters by, so that a filter which
-- hardly any terminal meets costs one pass over a narrow index and never a look at the rows. A terminal's place in the
-- first does not depend on when it was seen: check-ins leave it alone.
CREATE INDEX terminal_states_by_id ON terminal_states (terminal_id, org_path, model, lifecycle, region, firmware, tags);
CREATE INDEX terminal_states_by_last_seen ON terminal_states (last_seen_ms, terminal_id, org_path, model, lifecycle, region, firmware, tags, interval_s);

-- The last signed manifest of each terminal.
CREATE TABLE terminal_manifests (
    terminal_id BIGINT NOT NULL PRIMARY KEY,
    counter BIGINT NOT NULL,
    received_at_ms BIGINT NOT NULL,
    body TEXT NOT NULL,
    signature TEXT NOT NULL
);

-- Conditions over time: at most one row a terminal and sampling slot.
CREATE TABLE condition_samples (
    terminal_id BIGINT NOT NULL,
    at_ms BIGINT NOT NULL,
    access TEXT NOT NULL,
    carrier TEXT NOT NULL,
    rsrp_dbm BIGINT,
    sinr_db BIGINT,
    rssi_dbm BIGINT,
    rtt_ms BIGINT,
    loss_percent BIGINT,
    battery_percent BIGINT,
    firmware TEXT COLLATE "C" NOT NULL,
    transactions_ok BIGINT NOT NULL,
    transactions_failed BIGINT NOT NULL,
    PRIMARY KEY (terminal_id, at_ms)
);
CREATE INDEX condition_samples_by_time ON condition_samples (at_ms);

-- One combination of coarse attributes. The id is a hash of them, so every server gives the same.
CREATE TABLE cohorts (
    id BIGINT NOT NULL PRIMARY KEY,
    org_path TEXT COLLATE "C" NOT NULL,
    model TEXT NOT NULL,
    hardware TEXT NOT NULL,
    firmware TEXT COLLATE "C" NOT NULL,
    app TEXT NOT NULL,
    config_hash TEXT NOT NULL,
    region TEXT NOT NULL,
    carrier TEXT NOT NULL,
    access TEXT NOT NULL,
    signal TEXT NOT NULL,
    in_update TEXT NOT NULL
);

-- Exposures and failures of one cohort in one hour.
CREATE TABLE cohort_cells (
    hour_ms BIGINT NOT NULL,
    cohort_id BIGINT NOT NULL REFERENCES cohorts (id),
    check_ins BIGINT NOT NULL,
    transactions_ok BIGINT NOT NULL,
    transactions_failed BIGINT NOT NULL,
    -- Terminal-slots: check-ins with at least one transaction, and those with at least one failed one.
    exposures BIGINT NOT NULL,
    failed_exposures BIGINT NOT NULL,
    failures BIGINT NOT NULL,
    PRIMARY KEY (hour_ms, cohort_id)
);

-- Failures of one cohort in one hour by outcome: 'code:30', 'stage:tls'.
CREATE TABLE cohort_outcomes (
    hour_ms BIGINT NOT NULL,
    cohort_id BIGINT NOT NULL REFERENCES cohorts (id),
    outcome TEXT NOT NULL,
    failures BIGINT NOT NULL,
    PRIMARY KEY (hour_ms, cohort_id, outcome)
);

-- One failed transaction with the condition it happened under.
CREATE TABLE failures (
    terminal_id BIGINT NOT NULL,
    event_id TEXT COLLATE "C" NOT NULL,
    occurred_at_ms BIGINT NOT NULL,
    received_at_ms BIGINT NOT NULL,
    org_path TEXT COLLATE "C" NOT NULL,
    cohort_id BIGINT NOT NULL,
    stage TEXT NOT NULL,
    response_code TEXT,
    transaction_type TEXT NOT NULL,
    amount_fen BIGINT,
    firmware TEXT COLLATE "C" NOT NULL,
    config_hash TEXT,
    access TEXT NOT NULL,
    carrier TEXT NOT NULL,
    signal TEXT NOT NULL,
    -- The whole event as JSON, its condition included.
    event TEXT NOT NULL,
    PRIMARY KEY (terminal_id, event_id)
);
CREATE INDEX failures_by_terminal ON failures (terminal_id, received_at_ms);
CREATE INDEX failures_by_org ON failures (org_path, received_at_ms);
CREATE INDEX failures_by_time ON failures (received_at_ms);

CREATE TABLE profiles (
    id BIGINT NOT NULL PRIMARY KEY,
    organization_id BIGINT NOT NULL REFERENCES organizations (id),
    org_path TEXT COLLATE "C" NOT NULL,
    name TEXT NOT NULL,
    -- Canonical bytes of the parameters; `hash` is their SHA-256.
    hash TEXT COLLATE "C" NOT NULL,
    body TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created_at_ms BIGINT NOT NULL,
    version BIGINT NOT NULL
);
CREATE INDEX profiles_by_org ON profiles (org_path, id);
CREATE INDEX profiles_by_hash ON profiles (hash);
CREATE UNIQUE INDEX profiles_by_name ON profiles (organization_id, name, version);

CREATE TABLE releases (
    id BIGINT NOT NULL PRIMARY KEY,
    organization_id BIGINT NOT NULL REFERENCES organizations (id),
    org_path TEXT COLLATE "C" NOT NULL,
    name TEXT NOT NULL,
    component TEXT NOT NULL,
    firmware_version TEXT NOT NULL,
    release_counter BIGINT NOT NULL,
    -- JSON list of model codes.
    models TEXT NOT NULL,
    min_from_counter BIGINT,
    -- JSON list of {component, release_counter}.
    requires TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    length_bytes BIGINT NOT NULL,
    notes TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('draft', 'approved', 'published', 'withdrawn')),
    created_by BIGINT NOT NULL,
    created_by_name TEXT NOT NULL,
    approved_by BIGINT,
    created_at_ms BIGINT NOT NULL,
    published_at_ms BIGINT,
    version BIGINT NOT NULL
);
CREATE INDEX releases_by_org ON releases (org_path, id);
-- Counters only grow: one release for a model, component and counter.
CREATE TABLE release_models (
    model TEXT NOT NULL REFERENCES models (code),
    component TEXT NOT NULL,
    release_counter BIGINT NOT NULL,
    release_id BIGINT NOT NULL REFERENCES releases (id),
    target_name TEXT NOT NULL,
    PRIMARY KEY (model, component, release_counter)
);
CREATE INDEX release_models_by_release ON release_models (release_id);

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
CREATE INDEX rollouts_by_org ON rollouts (org_path, id);
CREATE INDEX rollouts_by_state ON rollouts (state, id);

-- Assignments of a rollout by phase, kept with every step so that no page counts.
CREATE TABLE rollout_counts (
    rollout_id BIGINT NOT NULL REFERENCES rollouts (id),
    phase TEXT NOT NULL,
    n BIGINT NOT NULL,
    PRIMARY KEY (rollout_id, phase)
);

-- One terminal's part in a rollout.
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
-- At most one live assignment a terminal.
CREATE UNIQUE INDEX assignments_live ON assignments (terminal_id) WHERE live = 1;
CREATE INDEX assignments_by_terminal ON assignments (terminal_id, id);
CREATE INDEX assignments_by_phase ON assignments (rollout_id, phase, id);
CREATE INDEX assignments_due ON assignments (deadline_ms) WHERE live = 1;

-- Update timeline of a terminal.
CREATE TABLE update_events (
    terminal_id BIGINT NOT NULL,
    at_ms BIGINT NOT NULL,
    assignment_id BIGINT NOT NULL,
    phase TEXT NOT NULL,
    reason TEXT,
    detail TEXT,
    firmware TEXT COLLATE "C",
    PRIMARY KEY (terminal_id, assignment_id, at_ms, phase)
);

INSERT INTO id_counters (name, next) VALUES
    ('organizations', 1), ('operators', 1), ('api_keys', 1), ('terminals', 1), ('profiles', 1),
    ('releases', 1), ('rollouts', 1), ('assignments', 1), ('audit_entries', 1);
