-- A file that is taken in by a job in the background. The rows lie as a plain table without card data in the blob storage,
-- under the job's number, until the job has ended.
CREATE TABLE import_jobs (
    id TEXT NOT NULL PRIMARY KEY,
    organization_id BIGINT NOT NULL REFERENCES organizations (id),
    org_path TEXT NOT NULL,
    kind TEXT NOT NULL,
    -- Within its kind: a channel's number, or a name.
    source TEXT NOT NULL,
    file_name TEXT NOT NULL,
    -- Of the file as it was sent.
    file_sha256 TEXT NOT NULL,
    -- An earlier import of the same file.
    repeats TEXT,
    encoding TEXT NOT NULL,
    -- JSON list.
    headings TEXT NOT NULL,
    -- JSON: which column is which field, and how its cells are written.
    mapping TEXT NOT NULL,
    dry_run BIGINT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('draft', 'waiting', 'running', 'done', 'failed', 'cancelled')),
    -- 1 while the plain table is kept.
    has_file BIGINT NOT NULL,
    rows_total BIGINT NOT NULL,
    -- The cursor: moves in the transaction of the rows.
    rows_done BIGINT NOT NULL,
    accepted BIGINT NOT NULL,
    changed BIGINT NOT NULL,
    duplicates BIGINT NOT NULL,
    refused BIGINT NOT NULL,
    -- Cells that held card data and were masked.
    card_cells BIGINT NOT NULL,
    -- JSON: field and problem, of a draft that cannot start or a job that failed.
    problem TEXT,
    created_by TEXT NOT NULL,
    created_at_ms BIGINT NOT NULL,
    started_at_ms BIGINT,
    finished_at_ms BIGINT,
    -- A server works on it until then.
    lease_until_ms BIGINT NOT NULL,
    attempts BIGINT NOT NULL
);
CREATE INDEX import_jobs_by_org ON import_jobs (org_path, id);
CREATE INDEX import_jobs_by_state ON import_jobs (state, id);
CREATE INDEX import_jobs_by_file ON import_jobs (file_sha256, id);

-- The refused rows of a job in blocks, as JSON with line, field, problem and cells.
CREATE TABLE import_errors (
    import_id TEXT NOT NULL REFERENCES import_jobs (id),
    block BIGINT NOT NULL,
    refused TEXT NOT NULL,
    PRIMARY KEY (import_id, block)
);

-- How a source writes, for its next file.
CREATE TABLE import_mappings (
    organization_id BIGINT NOT NULL REFERENCES organizations (id),
    kind TEXT NOT NULL,
    source TEXT NOT NULL,
    org_path TEXT NOT NULL,
    mapping TEXT NOT NULL,
    updated_at_ms BIGINT NOT NULL,
    PRIMARY KEY (organization_id, kind, source)
);

-- Whose a terminal was and when. The first binding that is known of a terminal holds for all the time before it too.
CREATE TABLE terminal_bindings (
    id BIGINT NOT NULL PRIMARY KEY,
    terminal_id BIGINT NOT NULL REFERENCES terminals (id),
    merchant_no TEXT NOT NULL,
    merchant_name TEXT,
    terminal_no TEXT,
    store_name TEXT,
    from_ms BIGINT NOT NULL,
    to_ms BIGINT,
    actor TEXT NOT NULL,
    reason TEXT NOT NULL
);
-- One open binding a terminal.
CREATE UNIQUE INDEX terminal_bindings_open ON terminal_bindings (terminal_id) WHERE to_ms IS NULL;
CREATE INDEX terminal_bindings_by_terminal ON terminal_bindings (terminal_id, from_ms);
CREATE INDEX terminal_bindings_by_merchant ON terminal_bindings (merchant_no, terminal_id);

INSERT INTO terminal_bindings (id, terminal_id, merchant_no, merchant_name, terminal_no, store_name, from_ms, to_ms, actor, reason)
SELECT id, id, merchant_no, merchant_name, terminal_no, store_name, 0, NULL, 'system', 'registered'
FROM terminals WHERE merchant_no IS NOT NULL;

CREATE TABLE merchants (
    id BIGINT NOT NULL PRIMARY KEY,
    organization_id BIGINT NOT NULL REFERENCES organizations (id),
    org_path TEXT NOT NULL,
    merchant_no TEXT NOT NULL,
    name TEXT NOT NULL,
    -- Where it is another than digits 8 to 11 of the number say.
    mcc TEXT,
    -- Contracted rate, millionths.
    rate_ppm BIGINT,
    risk_class TEXT,
    created_by TEXT NOT NULL,
    created_at_ms BIGINT NOT NULL,
    version BIGINT NOT NULL,
    UNIQUE (organization_id, merchant_no)
);
CREATE INDEX merchants_by_org ON merchants (org_path, id);
CREATE INDEX merchants_by_no ON merchants (merchant_no);

-- Numbers that settled in place of a bound one, or are said to be another number of the same merchant. `bound_no` is the
-- merchant's own. First seen: under review; nobody is accused before a person has looked.
CREATE TABLE merchant_numbers (
    id BIGINT NOT NULL PRIMARY KEY,
    org_path TEXT NOT NULL,
    bound_no TEXT NOT NULL,
    number TEXT NOT NULL,
    -- As the channel writes it.
    name TEXT,
    state TEXT NOT NULL CHECK (state IN ('open', 'requested', 'alias', 'foreign')),
    -- Settled payments that were seen under it, and when.
    payments BIGINT NOT NULL,
    first_seen_ms BIGINT,
    last_seen_ms BIGINT,
    reason TEXT NOT NULL,
    valid_from_ms BIGINT,
    valid_to_ms BIGINT,
    requested_by_kind TEXT,
    requested_by_id BIGINT,
    requested_by TEXT,
    decided_by TEXT,
    decided_at_ms BIGINT,
    version BIGINT NOT NULL,
    UNIQUE (org_path, bound_no, number)
);
CREATE INDEX merchant_numbers_by_state ON merchant_numbers (org_path, state, id);
CREATE INDEX merchant_numbers_by_number ON merchant_numbers (number);

-- Where settled payments come from. The secret leaves the database by no interface but once, when it is made.
CREATE TABLE feed_channels (
    id BIGINT NOT NULL PRIMARY KEY,
    organization_id BIGINT NOT NULL REFERENCES organizations (id),
    org_path TEXT NOT NULL,
    name TEXT NOT NULL,
    secret TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created_at_ms BIGINT NOT NULL,
    last_row_at_ms BIGINT,
    deleted_at_ms BIGINT
);
CREATE INDEX feed_channels_by_org ON feed_channels (org_path, id);

-- One settled (or failed) payment as a channel tells it.
CREATE TABLE channel_transactions (
    id BIGINT NOT NULL PRIMARY KEY,
    channel_id BIGINT NOT NULL REFERENCES feed_channels (id),
    -- The terminal's organization, or the channel's where no terminal is known.
    org_path TEXT NOT NULL,
    -- Which payment it is, within its channel: a number that its mapping vouches for, else a hash.
    ref_key TEXT NOT NULL,
    -- Hash of what the row says: the same again changes nothing.
    digest TEXT NOT NULL,
    terminal_id BIGINT,
    sn TEXT NOT NULL,
    at_ms BIGINT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('processing', 'success', 'failure')),
    amount_fen BIGINT NOT NULL,
    settle_fen BIGINT,
    fee_fen BIGINT,
    withdraw_fen BIGINT,
    -- JSON list of {kind, amount_fen}; absent when the channel says nothing of them.
    second_orders TEXT,
    rate_ppm BIGINT,
    capped BIGINT,
    merchant_no TEXT,
    merchant_name TEXT,
    mcc TEXT,
    ref_no TEXT,
    trace_no TEXT,
    batch_no TEXT,
    -- JSON: kinds of payment and order, response code, settlement date.
    detail TEXT NOT NULL,
    import_id TEXT,
    received_at_ms BIGINT NOT NULL,
    -- How surely the terminal's own event was found.
    match_quality TEXT NOT NULL CHECK (match_quality IN ('none', 'ref', 'trace', 'weak')),
    matched_event TEXT,
    -- What it shows: not looked at yet, not comparable, in order, a fee, under review, or one of the four symptoms.
    result TEXT NOT NULL,
    -- What was lacking where it is not comparable.
    lacking TEXT,
    severity TEXT NOT NULL,
    -- When it is looked at next.
    due_ms BIGINT,
    UNIQUE (channel_id, ref_key)
);
CREATE INDEX channel_transactions_due ON channel_transactions (due_ms) WHERE due_ms IS NOT NULL;
CREATE INDEX channel_transactions_by_org ON channel_transactions (org_path, at_ms, result, status);
CREATE INDEX channel_transactions_by_terminal ON channel_transactions (terminal_id, at_ms);
CREATE INDEX channel_transactions_by_merchant ON channel_transactions (merchant_no, at_ms);
CREATE INDEX channel_transactions_by_time ON channel_transactions (received_at_ms);

-- Hours of terminals that call nobody, in which something was paid: what the cohort cells count for them, each once.
CREATE TABLE exposure_slots (
    terminal_id BIGINT NOT NULL,
    hour_ms BIGINT NOT NULL,
    cohort_id BIGINT NOT NULL,
    failed BIGINT NOT NULL,
    PRIMARY KEY (terminal_id, hour_ms)
) WITHOUT ROWID;
CREATE INDEX exposure_slots_by_time ON exposure_slots (hour_ms);

INSERT INTO id_counters (name, next) VALUES
    ('terminal_bindings', (SELECT COALESCE(MAX(id), 0) + 1 FROM terminals)), ('merchants', 1), ('merchant_numbers', 1),
    ('feed_channels', 1), ('channel_transactions', 1);
