DELETE FROM id_counters WHERE name = 'alert_rules';
DROP TABLE alert_hours;
DROP TABLE alert_rules;

CREATE TABLE alert_deliveries_old (
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
-- What was held is sent by the older program, what was withdrawn has failed.
INSERT INTO alert_deliveries_old
SELECT alert_id, channel_id,
    CASE state WHEN 'held' THEN 'pending' WHEN 'withdrawn' THEN 'failed' ELSE state END,
    attempts, refusals, status, error, attempted_at_ms, finished_at_ms
FROM alert_deliveries;
DROP TABLE alert_deliveries;
ALTER TABLE alert_deliveries_old RENAME TO alert_deliveries;
CREATE INDEX alert_deliveries_by_state ON alert_deliveries (state, channel_id, alert_id);

ALTER TABLE alert_channels DROP COLUMN version;
ALTER TABLE alert_channels DROP COLUMN digest_done_ms;
ALTER TABLE alert_channels DROP COLUMN digest_since_ms;
ALTER TABLE alert_channels DROP COLUMN rate_at_ms;
ALTER TABLE alert_channels DROP COLUMN rate_per_min;
ALTER TABLE alert_channels DROP COLUMN batch_s;
ALTER TABLE alert_channels DROP COLUMN paused_at_ms;
ALTER TABLE alert_channels DROP COLUMN language;
