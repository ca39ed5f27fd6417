-- Payments settled under another merchant: few among many, and looked for by time.
CREATE INDEX channel_transactions_switched ON channel_transactions (at_ms, terminal_id) WHERE result = 'switched';

-- How much of a merchant's payments was compared, and how much of that was settled under another number, as of the latest
-- pass. Only of merchants with such payments; people look at it, and nobody is accused by it.
CREATE TABLE merchant_switches (
    -- Path of the channels' organization: its channels know the merchant.
    home TEXT NOT NULL,
    merchant_no TEXT NOT NULL,
    merchant_name TEXT,
    -- Path of the lowest organization that contains all of it.
    org_path TEXT NOT NULL,
    from_ms BIGINT NOT NULL,
    to_ms BIGINT NOT NULL,
    successful BIGINT NOT NULL,
    compared BIGINT NOT NULL,
    switched BIGINT NOT NULL,
    -- Under numbers that wait for a person: neither in order nor switched.
    review BIGINT NOT NULL,
    -- The newest payment that differed.
    newest_id BIGINT NOT NULL,
    verdict TEXT NOT NULL CHECK (verdict IN ('hit', 'clear', 'insufficient')),
    missing TEXT,
    -- JSON: circumstances in which it happens far more.
    splits TEXT NOT NULL,
    incident_id BIGINT,
    PRIMARY KEY (home, merchant_no)
) WITHOUT ROWID;
CREATE INDEX merchant_switches_by_org ON merchant_switches (org_path, switched);
CREATE INDEX merchant_switches_by_time ON merchant_switches (to_ms);

-- Since when people were told that a work order is past its due time.
ALTER TABLE work_orders ADD COLUMN overdue_told_ms BIGINT;
CREATE INDEX work_orders_overdue ON work_orders (due_ms)
WHERE overdue_told_ms IS NULL AND state NOT IN ('waiting_for_proof', 'closed', 'cancelled');

INSERT INTO fleet_passes (name, at_ms, reached) VALUES ('switches', 0, 0);
