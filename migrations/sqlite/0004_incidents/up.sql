-- Failures and faults grouped under one cause, with evidence, owner and state. Kinds and events grow with the rules that
-- find them, so the program checks their names and the tables do not.
CREATE TABLE incidents (
    id BIGINT NOT NULL PRIMARY KEY,
    org_path TEXT NOT NULL,
    kind TEXT NOT NULL,
    -- What it is about, within its organization and kind: the same thing coming back finds its incident by it.
    dedup_key TEXT NOT NULL,
    level TEXT NOT NULL CHECK (level IN ('P1', 'P2', 'P3')),
    state TEXT NOT NULL CHECK (state IN ('open', 'acknowledged', 'mitigated', 'resolved')),
    -- What people call the thing it is about.
    subject TEXT NOT NULL,
    -- JSON, the latest.
    evidence TEXT NOT NULL,
    rollout_id BIGINT,
    release_id BIGINT,
    -- Terminals concerned; at most the first hundred are listed.
    affected BIGINT NOT NULL,
    owner_id BIGINT,
    owner_name TEXT,
    occurrences BIGINT NOT NULL,
    reminders BIGINT NOT NULL,
    opened_at_ms BIGINT NOT NULL,
    last_seen_ms BIGINT NOT NULL,
    state_since_ms BIGINT NOT NULL,
    resolved_at_ms BIGINT,
    -- When somebody is reminded of it; absent once it is resolved.
    due_ms BIGINT,
    version BIGINT NOT NULL
);
-- At most one unresolved incident about one thing.
CREATE UNIQUE INDEX incidents_unresolved ON incidents (org_path, kind, dedup_key) WHERE state <> 'resolved';
CREATE INDEX incidents_by_key ON incidents (org_path, kind, dedup_key, id);
CREATE INDEX incidents_by_org ON incidents (org_path, id);
CREATE INDEX incidents_by_state ON incidents (state, org_path, id);
CREATE INDEX incidents_by_rollout ON incidents (rollout_id, id) WHERE rollout_id IS NOT NULL;
CREATE INDEX incidents_due ON incidents (due_ms) WHERE due_ms IS NOT NULL;

CREATE TABLE incident_terminals (
    incident_id BIGINT NOT NULL REFERENCES incidents (id),
    terminal_id BIGINT NOT NULL,
    PRIMARY KEY (incident_id, terminal_id)
) WITHOUT ROWID;
CREATE INDEX incident_terminals_by_terminal ON incident_terminals (terminal_id, incident_id);

-- What happened to an incident, and who did it.
CREATE TABLE incident_events (
    incident_id BIGINT NOT NULL REFERENCES incidents (id),
    seq BIGINT NOT NULL,
    at_ms BIGINT NOT NULL,
    actor_kind TEXT NOT NULL CHECK (actor_kind IN ('operator', 'api_key', 'system')),
    actor_id BIGINT NOT NULL,
    actor_name TEXT NOT NULL,
    event TEXT NOT NULL,
    note TEXT NOT NULL,
    -- JSON as it was then; only where the incident opened.
    evidence TEXT,
    PRIMARY KEY (incident_id, seq)
) WITHOUT ROWID;

-- Outbox: written in the transaction of what it tells of, delivered afterwards. Texts are keys with parameters, so that
-- every reader gets them in their own language.
CREATE TABLE alerts (
    id BIGINT NOT NULL PRIMARY KEY,
    org_path TEXT NOT NULL,
    kind TEXT NOT NULL,
    level TEXT NOT NULL CHECK (level IN ('P1', 'P2', 'P3')),
    incident_id BIGINT,
    title_key TEXT NOT NULL,
    -- JSON object of texts.
    parameters TEXT NOT NULL,
    -- Raising the same thing twice is raising it once.
    dedup_key TEXT NOT NULL UNIQUE,
    state TEXT NOT NULL CHECK (state IN ('unrouted', 'pending', 'sent', 'failed', 'acknowledged')),
    created_at_ms BIGINT NOT NULL
);
CREATE INDEX alerts_by_org ON alerts (org_path, id);
CREATE INDEX alerts_by_incident ON alerts (incident_id, id) WHERE incident_id IS NOT NULL;

-- Where alerts go. `transport` is JSON with its secrets and never leaves the database by any interface.
CREATE TABLE alert_channels (
    id BIGINT NOT NULL PRIMARY KEY,
    organization_id BIGINT NOT NULL REFERENCES organizations (id),
    org_path TEXT NOT NULL,
    name TEXT NOT NULL,
    -- The least severe level that it is sent.
    level TEXT NOT NULL CHECK (level IN ('P1', 'P2', 'P3')),
    transport TEXT NOT NULL,
    -- Failed attempts in a row.
    failures BIGINT NOT NULL,
    -- Nothing is sent before this: back-off after failures, and the lease of the server that is at work on it.
    retry_at_ms BIGINT NOT NULL,
    last_error TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created_at_ms BIGINT NOT NULL,
    deleted_at_ms BIGINT
);
CREATE INDEX alert_channels_by_org ON alert_channels (org_path, id) WHERE deleted_at_ms IS NULL;

-- Delivery log: one alert to one channel.
CREATE TABLE alert_deliveries (
    alert_id BIGINT NOT NULL REFERENCES alerts (id),
    channel_id BIGINT NOT NULL REFERENCES alert_channels (id),
    state TEXT NOT NULL CHECK (state IN ('pending', 'sent', 'failed')),
    attempts BIGINT NOT NULL,
    -- Answers of the endpoint that say no to this very alert.
    refusals BIGINT NOT NULL,
    status BIGINT,
    error TEXT NOT NULL,
    attempted_at_ms BIGINT,
    finished_at_ms BIGINT,
    PRIMARY KEY (alert_id, channel_id)
) WITHOUT ROWID;
-- Not partial: a state that is a bound parameter would not be known to match.
CREATE INDEX alert_deliveries_by_state ON alert_deliveries (state, channel_id, alert_id);

INSERT INTO id_counters (name, next) VALUES ('incidents', 1), ('alerts', 1), ('alert_channels', 1);
