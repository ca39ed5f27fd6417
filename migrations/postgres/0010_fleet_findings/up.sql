-- An incident that another one explains is folded under it, and nobody is told of it while that one lasts.
ALTER TABLE incidents ADD COLUMN parent_id BIGINT;
ALTER TABLE incidents ADD COLUMN masked_since_ms BIGINT;
CREATE INDEX incidents_by_parent ON incidents (parent_id, id) WHERE parent_id IS NOT NULL;

-- Until then a terminal on WiFi or cable is asked to call in more often.
ALTER TABLE terminal_states ADD COLUMN poll_until_ms BIGINT;
CREATE INDEX terminals_by_iccid ON terminals (iccid) WHERE iccid IS NOT NULL;

-- When each part of the pass ran last, and how far it got: one server of many does it.
CREATE TABLE fleet_passes (
    name TEXT NOT NULL PRIMARY KEY,
    at_ms BIGINT NOT NULL,
    reached BIGINT NOT NULL
);

-- What is usual in an hour of the week (UTC, 0 = Thursday 00:00, as Unix time began).
CREATE TABLE fleet_baselines (
    code_group TEXT NOT NULL,
    hour_of_week BIGINT NOT NULL,
    -- Failed slots in a thousand million attempts.
    rate_ppb BIGINT NOT NULL,
    weeks BIGINT NOT NULL,
    PRIMARY KEY (code_group, hour_of_week)
);

-- What each rule said last.
CREATE TABLE fleet_rules (
    rule TEXT NOT NULL PRIMARY KEY,
    judged_at_ms BIGINT NOT NULL,
    verdict TEXT NOT NULL CHECK (verdict IN ('hit', 'info', 'clear', 'insufficient')),
    missing TEXT
);

-- What the rules found, with the incident it became.
CREATE TABLE fleet_findings (
    id BIGINT NOT NULL PRIMARY KEY,
    rule TEXT NOT NULL,
    dedup_key TEXT COLLATE "C" NOT NULL,
    org_path TEXT COLLATE "C" NOT NULL,
    subject TEXT NOT NULL,
    verdict TEXT NOT NULL CHECK (verdict IN ('hit', 'info')),
    affected BIGINT NOT NULL,
    -- JSON, the latest.
    evidence TEXT NOT NULL,
    incident_id BIGINT,
    first_seen_ms BIGINT NOT NULL,
    last_seen_ms BIGINT NOT NULL,
    -- Since when it is not seen any more.
    ended_at_ms BIGINT
);
CREATE INDEX fleet_findings_by_key ON fleet_findings (rule, dedup_key, id);
CREATE INDEX fleet_findings_by_org ON fleet_findings (org_path, id);
CREATE INDEX fleet_findings_open ON fleet_findings (last_seen_ms) WHERE ended_at_ms IS NULL;

-- Payments of each terminal since it was made, as they were at the start of a day.
CREATE TABLE terminal_tallies (
    day BIGINT NOT NULL,
    terminal_id BIGINT NOT NULL,
    attempts BIGINT NOT NULL,
    PRIMARY KEY (day, terminal_id)
);

-- Days on which a terminal failed far more than its like.
CREATE TABLE terminal_suspicions (
    terminal_id BIGINT NOT NULL,
    day BIGINT NOT NULL,
    PRIMARY KEY (terminal_id, day)
);
CREATE INDEX terminal_suspicions_by_day ON terminal_suspicions (day);

-- Terminals that must not call in and do.
CREATE TABLE barred_calls (
    terminal_id BIGINT NOT NULL PRIMARY KEY,
    first_ms BIGINT NOT NULL,
    last_ms BIGINT NOT NULL,
    calls BIGINT NOT NULL
);
CREATE INDEX barred_calls_by_time ON barred_calls (last_ms);

CREATE TABLE terminal_certificates (
    terminal_id BIGINT NOT NULL PRIMARY KEY,
    expires_at_ms BIGINT NOT NULL
);
CREATE INDEX terminal_certificates_by_expiry ON terminal_certificates (expires_at_ms);

CREATE TABLE sim_cards (
    iccid TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    organization_id BIGINT NOT NULL REFERENCES organizations (id),
    org_path TEXT COLLATE "C" NOT NULL,
    carrier TEXT,
    pool TEXT,
    plan_mb BIGINT,
    expires_at_ms BIGINT,
    changed_at_ms BIGINT NOT NULL
);
CREATE INDEX sim_cards_by_org ON sim_cards (org_path, iccid);
CREATE INDEX sim_cards_by_pool ON sim_cards (pool, iccid) WHERE pool IS NOT NULL;
CREATE INDEX sim_cards_by_expiry ON sim_cards (expires_at_ms) WHERE expires_at_ms IS NOT NULL;

-- A month of one terminal's network, by how it was connected. Payments in good, in weak and in unknown signal, and those
-- that did not get through.
CREATE TABLE terminal_networks (
    terminal_id BIGINT NOT NULL,
    access TEXT NOT NULL,
    carrier TEXT NOT NULL,
    region TEXT NOT NULL,
    attempts_strong BIGINT NOT NULL,
    failed_strong BIGINT NOT NULL,
    attempts_weak BIGINT NOT NULL,
    failed_weak BIGINT NOT NULL,
    attempts_other BIGINT NOT NULL,
    failed_other BIGINT NOT NULL,
    -- JSON: samples by band, loss, stages.
    measured TEXT NOT NULL,
    computed_at_ms BIGINT NOT NULL,
    PRIMARY KEY (terminal_id, access, carrier)
);
CREATE INDEX terminal_networks_by_region ON terminal_networks (region, access, carrier);

-- A store's network and what to change about it.
CREATE TABLE store_networks (
    id BIGINT NOT NULL PRIMARY KEY,
    org_path TEXT COLLATE "C" NOT NULL,
    merchant_no TEXT,
    merchant_name TEXT,
    store_name TEXT,
    region TEXT NOT NULL,
    terminals BIGINT NOT NULL,
    attempts BIGINT NOT NULL,
    failed BIGINT NOT NULL,
    -- 0 (worst) to 100; 1000 where there is too little to judge by.
    score BIGINT NOT NULL,
    -- JSON: what was measured, why this score, what to change.
    body TEXT NOT NULL,
    computed_at_ms BIGINT NOT NULL
);
CREATE INDEX store_networks_by_score ON store_networks (score, id, org_path);
CREATE INDEX store_networks_by_age ON store_networks (computed_at_ms);

INSERT INTO fleet_passes (name, at_ms, reached) VALUES
    ('rules', 0, 0), ('hours', 0, 0), ('offline', 0, 0), ('days', 0, 0), ('expiry', 0, 0), ('networks', 0, 0);
INSERT INTO id_counters (name, next) VALUES ('fleet_findings', 1);
