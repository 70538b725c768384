-- Amounts are whole nano-dollars (US), times Unix milliseconds, lists and objects JSON texts.
-- In limits and budgets NULL is no limit and 0 nothing.

CREATE TABLE organizations (
    organization_id TEXT NOT NULL CONSTRAINT "organizations.organization_id" PRIMARY KEY,
    organization_alias TEXT CONSTRAINT "organizations.organization_alias" UNIQUE,
    metadata TEXT NOT NULL,
    models TEXT NOT NULL,
    rpm_limit INTEGER,
    tpm_limit INTEGER,
    max_parallel_requests INTEGER,
    model_rpm_limit TEXT NOT NULL,
    model_tpm_limit TEXT NOT NULL,
    max_budget INTEGER,
    soft_budget INTEGER,
    budget_duration TEXT,
    budget_reset_at INTEGER,
    model_max_budget TEXT NOT NULL,
    spend INTEGER NOT NULL,
    model_spend TEXT NOT NULL,
    budget_anchor_at INTEGER NOT NULL,
    spend_since INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    created_by TEXT,
    updated_at INTEGER NOT NULL,
    updated_by TEXT
) STRICT;
CREATE INDEX organizations_created ON organizations (created_at, organization_id);

CREATE TABLE teams (
    team_id TEXT NOT NULL CONSTRAINT "teams.team_id" PRIMARY KEY,
    team_alias TEXT CONSTRAINT "teams.team_alias" UNIQUE,
    organization_id TEXT CONSTRAINT "teams.organization_id" REFERENCES organizations ON DELETE RESTRICT,
    tags TEXT NOT NULL,
    metadata TEXT NOT NULL,
    blocked INTEGER NOT NULL,
    models TEXT NOT NULL,
    rpm_limit INTEGER,
    tpm_limit INTEGER,
    max_parallel_requests INTEGER,
    model_rpm_limit TEXT NOT NULL,
    model_tpm_limit TEXT NOT NULL,
    max_budget INTEGER,
    soft_budget INTEGER,
    budget_duration TEXT,
    budget_reset_at INTEGER,
    model_max_budget TEXT NOT NULL,
    spend INTEGER NOT NULL,
    model_spend TEXT NOT NULL,
    budget_anchor_at INTEGER NOT NULL,
    spend_since INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;
CREATE INDEX teams_created ON teams (created_at, team_id);
CREATE INDEX teams_organization ON teams (organization_id, created_at, team_id);
CREATE INDEX teams_search ON teams (lower(team_alias));

CREATE TABLE users (
    user_id TEXT NOT NULL CONSTRAINT "users.user_id" PRIMARY KEY,
    user_alias TEXT,
    user_email TEXT CONSTRAINT "users.user_email" UNIQUE,
    user_role TEXT NOT NULL,
    metadata TEXT NOT NULL,
    models TEXT NOT NULL,
    rpm_limit INTEGER,
    tpm_limit INTEGER,
    max_parallel_requests INTEGER,
    model_rpm_limit TEXT NOT NULL,
    model_tpm_limit TEXT NOT NULL,
    max_budget INTEGER,
    soft_budget INTEGER,
    budget_duration TEXT,
    budget_reset_at INTEGER,
    model_max_budget TEXT NOT NULL,
    spend INTEGER NOT NULL,
    model_spend TEXT NOT NULL,
    budget_anchor_at INTEGER NOT NULL,
    spend_since INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;
CREATE INDEX users_created ON users (created_at, user_id);
CREATE INDEX users_role ON users (user_role, created_at, user_id);
CREATE INDEX users_search_id ON users (lower(user_id));
CREATE INDEX users_search_email ON users (lower(user_email));
CREATE INDEX users_search_alias ON users (lower(user_alias));

-- Keys go with their team and user: a key without them would have fewer limits than before.
CREATE TABLE keys (
    token TEXT NOT NULL CONSTRAINT "keys.token" UNIQUE,
    token_id TEXT NOT NULL CONSTRAINT "keys.token_id" PRIMARY KEY,
    key_name TEXT NOT NULL,
    key_alias TEXT CONSTRAINT "keys.key_alias" UNIQUE,
    key_type TEXT NOT NULL,
    user_id TEXT CONSTRAINT "keys.user_id" REFERENCES users ON DELETE CASCADE,
    team_id TEXT CONSTRAINT "keys.team_id" REFERENCES teams ON DELETE CASCADE,
    organization_id TEXT CONSTRAINT "keys.organization_id" REFERENCES organizations ON DELETE RESTRICT,
    tags TEXT NOT NULL,
    metadata TEXT NOT NULL,
    blocked INTEGER NOT NULL,
    expires INTEGER,
    models TEXT NOT NULL,
    rpm_limit INTEGER,
    tpm_limit INTEGER,
    max_parallel_requests INTEGER,
    model_rpm_limit TEXT NOT NULL,
    model_tpm_limit TEXT NOT NULL,
    max_budget INTEGER,
    soft_budget INTEGER,
    budget_duration TEXT,
    budget_reset_at INTEGER,
    model_max_budget TEXT NOT NULL,
    spend INTEGER NOT NULL,
    model_spend TEXT NOT NULL,
    budget_anchor_at INTEGER NOT NULL,
    spend_since INTEGER NOT NULL,
    last_used_at INTEGER,
    created_at INTEGER NOT NULL,
    created_by TEXT,
    updated_at INTEGER NOT NULL,
    updated_by TEXT
) STRICT;
CREATE INDEX keys_created ON keys (created_at, token_id);
CREATE INDEX keys_user ON keys (user_id, created_at, token_id);
CREATE INDEX keys_team ON keys (team_id, created_at, token_id);
CREATE INDEX keys_organization ON keys (organization_id, created_at, token_id);
CREATE INDEX keys_search ON keys (lower(key_alias));

CREATE TABLE team_members (
    team_id TEXT NOT NULL CONSTRAINT "team_members.team_id" REFERENCES teams ON DELETE CASCADE,
    user_id TEXT NOT NULL CONSTRAINT "team_members.user_id" REFERENCES users ON DELETE CASCADE,
    role TEXT NOT NULL,
    max_budget INTEGER,
    soft_budget INTEGER,
    budget_duration TEXT,
    budget_reset_at INTEGER,
    model_max_budget TEXT NOT NULL,
    spend INTEGER NOT NULL,
    model_spend TEXT NOT NULL,
    budget_anchor_at INTEGER NOT NULL,
    spend_since INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    CONSTRAINT "team_members.key" PRIMARY KEY (team_id, user_id)
) STRICT;
CREATE INDEX team_members_user ON team_members (user_id, team_id);

CREATE TABLE organization_members (
    organization_id TEXT NOT NULL
        CONSTRAINT "organization_members.organization_id" REFERENCES organizations ON DELETE CASCADE,
    user_id TEXT NOT NULL CONSTRAINT "organization_members.user_id" REFERENCES users ON DELETE CASCADE,
    user_role TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    CONSTRAINT "organization_members.key" PRIMARY KEY (organization_id, user_id)
) STRICT;
CREATE INDEX organization_members_user ON organization_members (user_id, organization_id);

CREATE TABLE audit_log (
    id TEXT NOT NULL CONSTRAINT "audit_log.id" PRIMARY KEY,
    updated_at INTEGER NOT NULL,
    changed_by TEXT NOT NULL,
    changed_by_api_key TEXT,
    action TEXT NOT NULL,
    table_name TEXT NOT NULL,
    object_id TEXT NOT NULL,
    request_id TEXT,
    before_value TEXT,
    updated_values TEXT
) STRICT;
CREATE INDEX audit_log_time ON audit_log (updated_at, id);
CREATE INDEX audit_log_writer ON audit_log (changed_by, updated_at, id);
CREATE INDEX audit_log_object ON audit_log (object_id, updated_at, id);
CREATE INDEX audit_log_table ON audit_log (table_name, updated_at, id);
CREATE INDEX audit_log_action ON audit_log (action, updated_at, id);

-- No references to tenants: what was used stays written down when they are gone.
CREATE TABLE usage_records (
    id TEXT NOT NULL CONSTRAINT "usage_records.id" PRIMARY KEY,
    request_id TEXT NOT NULL,
    start_time INTEGER NOT NULL,
    end_time INTEGER NOT NULL,
    token_id TEXT,
    team_id TEXT,
    user_id TEXT,
    organization_id TEXT,
    end_user TEXT,
    model TEXT NOT NULL,
    upstream_model TEXT,
    deployment_id TEXT,
    provider TEXT,
    call_type TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    status TEXT NOT NULL,
    status_code INTEGER,
    error_code TEXT,
    cache_hit INTEGER NOT NULL,
    stream INTEGER NOT NULL,
    prompt_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    total_tokens INTEGER NOT NULL,
    cached_tokens INTEGER NOT NULL,
    cache_write_tokens INTEGER NOT NULL,
    reasoning_tokens INTEGER NOT NULL,
    spend INTEGER NOT NULL,
    time_to_first_token_ms INTEGER,
    request_tags TEXT NOT NULL,
    metadata TEXT NOT NULL
) STRICT;
CREATE INDEX usage_records_time ON usage_records (start_time, id);
CREATE INDEX usage_records_request ON usage_records (request_id, start_time, id);
CREATE INDEX usage_records_key ON usage_records (token_id, start_time, id);
CREATE INDEX usage_records_team ON usage_records (team_id, start_time, id);
CREATE INDEX usage_records_user ON usage_records (user_id, start_time, id);
CREATE INDEX usage_records_organization ON usage_records (organization_id, start_time, id);
CREATE INDEX usage_records_model ON usage_records (model, start_time, id);

-- Sums of each day in UTC, counted in days since 1970-01-01; '' stands for none. log_records counts the records that
-- are still there.
CREATE TABLE daily_usage (
    day INTEGER NOT NULL,
    token_id TEXT NOT NULL,
    team_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    organization_id TEXT NOT NULL,
    model TEXT NOT NULL,
    provider TEXT NOT NULL,
    log_records INTEGER NOT NULL,
    api_requests INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    failed_attempts INTEGER NOT NULL,
    cache_hits INTEGER NOT NULL,
    prompt_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    total_tokens INTEGER NOT NULL,
    spend INTEGER NOT NULL,
    CONSTRAINT "daily_usage.key" PRIMARY KEY (day, token_id, team_id, user_id, organization_id, model, provider)
) STRICT, WITHOUT ROWID;
CREATE INDEX daily_usage_key ON daily_usage (token_id, day);
CREATE INDEX daily_usage_team ON daily_usage (team_id, day);
CREATE INDEX daily_usage_user ON daily_usage (user_id, day);
CREATE INDEX daily_usage_organization ON daily_usage (organization_id, day);

-- The same without tenants: few rows, for what spans all of them.
CREATE TABLE daily_totals (
    day INTEGER NOT NULL,
    model TEXT NOT NULL,
    provider TEXT NOT NULL,
    log_records INTEGER NOT NULL,
    api_requests INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    failed_attempts INTEGER NOT NULL,
    cache_hits INTEGER NOT NULL,
    prompt_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    total_tokens INTEGER NOT NULL,
    spend INTEGER NOT NULL,
    CONSTRAINT "daily_totals.key" PRIMARY KEY (day, model, provider)
) STRICT, WITHOUT ROWID;

-- The same of each team and each organization: both have many keys, whose rows would have to be read one by one.
CREATE TABLE daily_groups (
    kind TEXT NOT NULL,
    day INTEGER NOT NULL,
    id TEXT NOT NULL,
    log_records INTEGER NOT NULL,
    api_requests INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    failed_attempts INTEGER NOT NULL,
    cache_hits INTEGER NOT NULL,
    prompt_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    total_tokens INTEGER NOT NULL,
    spend INTEGER NOT NULL,
    CONSTRAINT "daily_groups.key" PRIMARY KEY (kind, day, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX daily_groups_id ON daily_groups (kind, id, day);
