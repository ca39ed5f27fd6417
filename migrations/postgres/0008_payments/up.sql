-- The short form of a successful transaction, from terminals whose profile asks for it. Kept as failures are.
CREATE TABLE payments (
    terminal_id BIGINT NOT NULL,
    event_id TEXT COLLATE "C" NOT NULL,
    -- The terminal's clock, and the same moment by the server's as far as the terminal's error was measured.
    occurred_at_ms BIGINT NOT NULL,
    at_ms BIGINT NOT NULL,
    received_at_ms BIGINT NOT NULL,
    -- The organization at that time.
    org_path TEXT COLLATE "C" NOT NULL,
    transaction_type TEXT NOT NULL,
    amount_fen BIGINT NOT NULL,
    batch_no TEXT,
    trace_no TEXT,
    ref_no TEXT COLLATE "C",
    merchant_no_sent TEXT,
    terminal_no_sent TEXT,
    merchant_no_resp TEXT,
    PRIMARY KEY (terminal_id, event_id)
);
-- A channel's record names the reference number and the date, or else the terminal and about when it was; trace, batch
-- and amount tell apart the few of one terminal within minutes.
CREATE INDEX payments_by_ref ON payments (ref_no, at_ms) WHERE ref_no IS NOT NULL;
CREATE INDEX payments_by_terminal ON payments (terminal_id, at_ms);
CREATE INDEX payments_by_org ON payments (org_path, at_ms);
CREATE INDEX payments_by_time ON payments (received_at_ms);

-- Which failures no terminal reported: typed, sent by a program, or read from a file.
CREATE TABLE imported_failures (
    terminal_id BIGINT NOT NULL,
    event_id TEXT COLLATE "C" NOT NULL,
    source TEXT NOT NULL CHECK (source IN ('rest', 'file')),
    -- Terminal, batch, trace, date and kind of the transaction, where all are known: the same one comes in once.
    dedup_key TEXT COLLATE "C",
    import_id TEXT,
    created_by TEXT NOT NULL,
    created_at_ms BIGINT NOT NULL,
    PRIMARY KEY (terminal_id, event_id)
);
CREATE UNIQUE INDEX imported_failures_by_key ON imported_failures (dedup_key) WHERE dedup_key IS NOT NULL;
CREATE INDEX imported_failures_by_time ON imported_failures (created_at_ms);

-- What a person saw of one transaction in UnionPay's query or on the issuer's bill.
CREATE TABLE lookups (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    org_path TEXT COLLATE "C" NOT NULL,
    terminal_id BIGINT NOT NULL,
    -- The transaction as the terminal reported it, if it did.
    event_id TEXT COLLATE "C",
    at_ms BIGINT NOT NULL,
    amount_fen BIGINT,
    ref_no TEXT COLLATE "C",
    level TEXT NOT NULL CHECK (level IN ('L2', 'L3')),
    source TEXT NOT NULL CHECK (source IN ('unionpay_app', '95516', 'issuer_bill')),
    merchant_name TEXT,
    merchant_no TEXT,
    mcc TEXT,
    looked_up_at_ms BIGINT NOT NULL,
    note TEXT NOT NULL,
    -- JSON: what the rules say about it, by the tables of this hash.
    judgement TEXT NOT NULL,
    tables_hash TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created_at_ms BIGINT NOT NULL,
    -- A mistake is taken back, never edited.
    withdrawn_by TEXT,
    withdrawn_at_ms BIGINT
);
CREATE INDEX lookups_by_org ON lookups (org_path, id);
CREATE INDEX lookups_by_terminal ON lookups (terminal_id, at_ms);
CREATE INDEX lookups_by_time ON lookups (created_at_ms);

-- What was shown to a merchant about one transaction, as it was then; `sha256` is of `content`.
CREATE TABLE evidence_packs (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    org_path TEXT COLLATE "C" NOT NULL,
    terminal_id BIGINT NOT NULL,
    event_id TEXT COLLATE "C" NOT NULL,
    content TEXT NOT NULL,
    sha256 TEXT COLLATE "C" NOT NULL,
    created_by TEXT NOT NULL,
    created_at_ms BIGINT NOT NULL
);
CREATE INDEX evidence_packs_by_org ON evidence_packs (org_path, id);
CREATE INDEX evidence_packs_by_hash ON evidence_packs (sha256);
CREATE INDEX evidence_packs_by_event ON evidence_packs (terminal_id, event_id, id);
CREATE INDEX evidence_packs_by_time ON evidence_packs (created_at_ms);
