-- What the gate keeps of its journal, so that a judgement reads only what is new; and what pages count, kept with every
-- step.

-- The evidence of a journal up to one of its lines.
CREATE TABLE gate_folds (
    rollout_id BIGINT NOT NULL PRIMARY KEY REFERENCES rollouts (id),
    -- Of the program that wrote it: what another version wrote is folded anew from the journal.
    version BIGINT NOT NULL,
    -- Number of the last line that is in it, of the last line before its first, and of the last that was cleared away.
    up_to BIGINT NOT NULL,
    since BIGINT NOT NULL,
    cleared_up_to BIGINT NOT NULL,
    state TEXT NOT NULL
);
-- Journals from before are folded at their next judgement.
INSERT INTO gate_folds SELECT DISTINCT rollout_id, 0, 0, 0, 0, '' FROM gate_events;

-- When a terminal last left the risk set, and the number of that line; 'silent': which silence stands in the journal.
CREATE TABLE gate_failed (
    rollout_id BIGINT NOT NULL REFERENCES rollouts (id),
    terminal_id BIGINT NOT NULL,
    class TEXT NOT NULL CHECK (class IN ('hard', 'payment', 'silent')),
    at_ms BIGINT NOT NULL,
    judged BIGINT NOT NULL,
    PRIMARY KEY (rollout_id, terminal_id, class)
) WITHOUT ROWID;
INSERT INTO gate_failed
SELECT rollout_id, terminal_id, class, MAX(at_ms), MAX(judged) FROM gate_events
WHERE verdict IN ('counted', 'suppressed_by_site') AND judged IS NOT NULL GROUP BY rollout_id, terminal_id, class;
INSERT INTO gate_failed
SELECT rollout_id, terminal_id, 'silent', MAX(at_ms), MAX(judged) FROM gate_events
WHERE event LIKE 'silent:%' AND judged IS NOT NULL GROUP BY rollout_id, terminal_id;

-- When a failure at a site was last counted, and the number of its line.
CREATE TABLE gate_sites (
    rollout_id BIGINT NOT NULL REFERENCES rollouts (id),
    site BIGINT NOT NULL,
    class TEXT NOT NULL CHECK (class IN ('hard', 'payment')),
    at_ms BIGINT NOT NULL,
    judged BIGINT NOT NULL,
    PRIMARY KEY (rollout_id, site, class)
) WITHOUT ROWID;
INSERT INTO gate_sites
SELECT rollout_id, site, class, MAX(at_ms), MAX(judged) FROM gate_events
WHERE verdict = 'counted' AND judged IS NOT NULL AND site <> 0 GROUP BY rollout_id, site, class;

-- Terminals that left the risk set, by minute.
CREATE TABLE gate_losses (
    rollout_id BIGINT NOT NULL REFERENCES rollouts (id),
    minute_ms BIGINT NOT NULL,
    cell BIGINT NOT NULL,
    arm TEXT NOT NULL CHECK (arm IN ('treated', 'control')),
    class TEXT NOT NULL CHECK (class IN ('hard', 'payment')),
    n BIGINT NOT NULL,
    PRIMARY KEY (rollout_id, minute_ms, cell, arm, class)
) WITHOUT ROWID;
INSERT INTO gate_losses
SELECT rollout_id, at_ms - at_ms % 60000, cell, arm, class, COUNT(*) FROM gate_events
WHERE verdict IN ('counted', 'suppressed_by_site') AND judged IS NOT NULL
GROUP BY rollout_id, at_ms - at_ms % 60000, cell, arm, class;

-- Assignments that are offered, under way or ended badly, by phase, reason and cell.
CREATE TABLE rollout_reasons (
    rollout_id BIGINT NOT NULL REFERENCES rollouts (id),
    phase TEXT NOT NULL,
    -- Empty where there is none.
    reason TEXT NOT NULL,
    cell BIGINT NOT NULL,
    n BIGINT NOT NULL,
    PRIMARY KEY (rollout_id, phase, reason, cell)
) WITHOUT ROWID;
INSERT INTO rollout_reasons
SELECT rollout_id, phase, COALESCE(reason, ''), cell, COUNT(*) FROM assignments
WHERE phase NOT IN ('waiting', 'succeeded', 'cancelled') GROUP BY rollout_id, phase, COALESCE(reason, ''), cell;

CREATE INDEX assignments_ended_badly ON assignments (rollout_id, org_path, id)
WHERE phase IN ('failed', 'rolled_back', 'timed_out');
