-- What is in force on the layers above the single terminal: one profile for each name on a layer.
CREATE TABLE config_layers (
    -- 'global', 'organization:17' or 'group:17:vip'.
    layer TEXT NOT NULL,
    profile_name TEXT NOT NULL,
    -- The organization on which the layer hangs.
    organization_id BIGINT NOT NULL REFERENCES organizations (id),
    org_path TEXT NOT NULL,
    tag TEXT,
    profile_id BIGINT NOT NULL REFERENCES profiles (id),
    -- What was in force before, for terminals that are taken back.
    previous_profile_id BIGINT,
    since_ms BIGINT NOT NULL,
    -- 1 while the layer's terminals are being told, in the order of path and id (for groups: of id).
    spreading BIGINT NOT NULL,
    spread_path TEXT NOT NULL,
    spread_id BIGINT NOT NULL,
    PRIMARY KEY (layer, profile_name)
) WITHOUT ROWID;
CREATE INDEX config_layers_by_path ON config_layers (org_path, layer, profile_name);
CREATE INDEX config_layers_by_organization ON config_layers (organization_id);
CREATE INDEX config_layers_spreading ON config_layers (layer, profile_name) WHERE spreading = 1;

-- What one terminal takes on a layer instead of the layer's own: staged by a rollout, held back from one, or, on the
-- layer 'terminal', assigned to it.
CREATE TABLE terminal_layers (
    terminal_id BIGINT NOT NULL REFERENCES terminals (id),
    layer TEXT NOT NULL,
    profile_name TEXT NOT NULL,
    -- NULL: nothing of this name.
    profile_id BIGINT REFERENCES profiles (id),
    -- What the terminal took on this layer before.
    previous_profile_id BIGINT,
    since_ms BIGINT NOT NULL,
    PRIMARY KEY (terminal_id, layer, profile_name)
) WITHOUT ROWID;

-- Canonical bytes of merged parameters, by their SHA-256.
CREATE TABLE effective_configs (
    hash TEXT NOT NULL PRIMARY KEY,
    body TEXT NOT NULL,
    used_at_ms BIGINT NOT NULL
);
CREATE INDEX effective_configs_by_use ON effective_configs (used_at_ms);
CREATE INDEX terminals_by_desired_config ON terminals (desired_config_hash);

-- Terminals that go on reporting another config hash than the one they were told.
CREATE TABLE config_drifts (
    terminal_id BIGINT NOT NULL PRIMARY KEY,
    expected TEXT NOT NULL,
    since_ms BIGINT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('watching', 'repairing', 'alarmed')),
    state_since_ms BIGINT NOT NULL
);
CREATE INDEX config_drifts_by_state ON config_drifts (state, terminal_id);

-- The config hash that the terminal was told while it reported another, and how many check-ins since then did so too.
ALTER TABLE terminal_states ADD COLUMN config_told TEXT;
ALTER TABLE terminal_states ADD COLUMN config_misses BIGINT;

-- What terminals were assigned so far is what their own layer holds.
INSERT INTO terminal_layers (terminal_id, layer, profile_name, profile_id, previous_profile_id, since_ms)
SELECT terminals.id, 'terminal', profiles.name, profiles.id, NULL, profiles.created_at_ms
FROM terminals
JOIN profiles ON profiles.id = (SELECT MAX(same.id) FROM profiles AS same WHERE same.hash = terminals.desired_config_hash);
INSERT INTO effective_configs (hash, body, used_at_ms)
SELECT hash, body, created_at_ms FROM profiles WHERE id IN (SELECT MAX(id) FROM profiles GROUP BY hash);
