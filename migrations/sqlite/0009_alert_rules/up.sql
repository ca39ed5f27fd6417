-- Channels: how they are written to, how fast, and whether they get a daily digest. NULL is the usual.
ALTER TABLE alert_channels ADD COLUMN language TEXT;
-- Since when nothing is sent; what comes waits.
ALTER TABLE alert_channels ADD COLUMN paused_at_ms BIGINT;
-- How long what is not urgent waits for company.
ALTER TABLE alert_channels ADD COLUMN batch_s BIGINT;
ALTER TABLE alert_channels ADD COLUMN rate_per_min BIGINT;
-- How far the messages sent have used up the rate.
ALTER TABLE alert_channels ADD COLUMN rate_at_ms BIGINT;
-- Since when it gets a digest each day, and the moment for which it got the last one.
ALTER TABLE alert_channels ADD COLUMN digest_since_ms BIGINT;
ALTER TABLE alert_channels ADD COLUMN digest_done_ms BIGINT;
ALTER TABLE alert_channels ADD COLUMN version BIGINT;

-- The delivery log with more states, the way by which a delivery came to be, and since when it waits.
CREATE TABLE alert_deliveries_new (
    alert_id BIGINT NOT NULL REFERENCES alerts (id),
    channel_id BIGINT NOT NULL REFERENCES alert_channels (id),
    state TEXT NOT NULL CHECK (state IN ('pending', 'held', 'sent', 'failed', 'withdrawn')),
    route TEXT NOT NULL CHECK (route IN ('direct', 'escalation', 'quiet', 'digest')),
    attempts BIGINT NOT NULL,
    -- Answers of the endpoint that say no to this very alert.
    refusals BIGINT NOT NULL,
    status BIGINT,
    error TEXT NOT NULL,
    queued_at_ms BIGINT NOT NULL,
    -- The alert with the digest that tells of it.
    digest_id BIGINT,
    attempted_at_ms BIGINT,
    finished_at_ms BIGINT,
    PRIMARY KEY (alert_id, channel_id)
) WITHOUT ROWID;
INSERT INTO alert_deliveries_new
SELECT d.alert_id, d.channel_id, d.state, 'direct', d.attempts, d.refusals, d.status, d.error, a.created_at_ms, NULL,
    d.attempted_at_ms, d.finished_at_ms
FROM alert_deliveries d JOIN alerts a ON a.id = d.alert_id;
DROP TABLE alert_deliveries;
ALTER TABLE alert_deliveries_new RENAME TO alert_deliveries;
CREATE INDEX alert_deliveries_by_state ON alert_deliveries (state, channel_id, alert_id);
CREATE INDEX alert_deliveries_by_channel ON alert_deliveries (channel_id, alert_id);
CREATE INDEX alert_deliveries_by_digest ON alert_deliveries (digest_id, channel_id) WHERE digest_id IS NOT NULL;

-- Which alerts of an organization go to which of its channels. Without a rule each channel gets all of its level.
CREATE TABLE alert_rules (
    id BIGINT NOT NULL PRIMARY KEY,
    organization_id BIGINT NOT NULL REFERENCES organizations (id),
    org_path TEXT NOT NULL,
    name TEXT NOT NULL,
    is_enabled BIGINT NOT NULL,
    -- JSON lists of names; an empty one means all.
    kinds TEXT NOT NULL,
    levels TEXT NOT NULL,
    models TEXT NOT NULL,
    delivery TEXT NOT NULL CHECK (delivery IN ('now', 'digest')),
    -- JSON list of lists of channels: the first at once, each further one when nobody took it on in time.
    steps TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created_at_ms BIGINT NOT NULL,
    version BIGINT NOT NULL
);
CREATE INDEX alert_rules_by_org ON alert_rules (org_path, id);

-- When the people of an organization are told: its time zone, its quiet hours, the time of its digest.
CREATE TABLE alert_hours (
    organization_id BIGINT NOT NULL PRIMARY KEY REFERENCES organizations (id),
    org_path TEXT NOT NULL,
    time_zone TEXT NOT NULL,
    -- Minutes of the day; NULL: no quiet hours.
    quiet_from_min BIGINT,
    quiet_until_min BIGINT,
    -- JSON list of the levels that break through.
    quiet_breaks TEXT NOT NULL,
    digest_at_min BIGINT NOT NULL,
    version BIGINT NOT NULL
);
CREATE INDEX alert_hours_by_org ON alert_hours (org_path);

INSERT INTO id_counters (name, next) VALUES ('alert_rules', 1);
