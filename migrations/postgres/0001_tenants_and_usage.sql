-- Amounts are whole nano-dollars (US), times Unix milliseconds, lists and objects JSON texts.
-- Texts sort by their bytes, as they do in SQLite.
-- In limits and budgets NULL is no limit and 0 nothing.

CREATE TABLE organizations (
    organization_id TEXT COLLATE "C" NOT NULL CONSTRAINT "organizations.organization_id" PRIMARY KEY,
    organization_alias TEXT COLLATE "C" CONSTRAINT "organizations.organization_alias" UNIQUE,
    metadata TEXT NOT NULL,
    models TEXT NOT NULL,
    rpm_limit BIGINT,
    tpm_limit BIGINT,
    max_parallel_requests BIGINT,
    model_rpm_limit TEXT NOT NULL,
    model_tpm_limit TEXT NOT NULL,
    max_budget BIGINT,
    soft_budget BIGINT,
    budget_duration TEXT,
    budget_reset_at BIGINT,
    model_max_budget TEXT NOT NULL,
    spend BIGINT NOT NULL,
    model_spend TEXT NOT NULL,
    budget_anchor_at BIGINT NOT NULL,
    spend_since BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    created_by TEXT COLLATE "C",
    updated_at BIGINT NOT NULL,
    updated_by TEXT COLLATE "C"
);
CREATE INDEX organizations_created ON organizations (created_at, organization_id);

CREATE TABLE teams (
    team_id TEXT COLLATE "C" NOT NULL CONSTRAINT "teams.team_id" PRIMARY KEY,
    team_alias TEXT COLLATE "C" CONSTRAINT "teams.team_alias" UNIQUE,
    organization_id TEXT COLLATE "C" CONSTRAINT "teams.organization_id" REFERENCES organizations ON DELETE RESTRICT,
    tags TEXT NOT NULL,
    metadata TEXT NOT NULL,
    blocked BOOLEAN NOT NULL,
    models TEXT NOT NULL,
    rpm_limit BIGINT,
    tpm_limit BIGINT,
    max_parallel_requests BIGINT,
    model_rpm_limit TEXT NOT NULL,
    model_tpm_limit TEXT NOT NULL,
    max_budget BIGINT,
    soft_budget BIGINT,
    budget_duration TEXT,
    budget_reset_at BIGINT,
    model_max_budget TEXT NOT NULL,
    spend BIGINT NOT NULL,
    model_spend TEXT NOT NULL,
    budget_anchor_at BIGINT NOT NULL,
    spend_since BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE INDEX teams_created ON teams (created_at, team_id);
CREATE INDEX teams_organization ON teams (organization_id, created_at, team_id);
CREATE INDEX teams_search ON teams (lower(team_alias));

CREATE TABLE users (
    user_id TEXT COLLATE "C" NOT NULL CONSTRAINT "users.user_id" PRIMARY KEY,
    user_alias TEXT COLLATE "C",
    user_email TEXT COLLATE "C" CONSTRAINT "users.user_email" UNIQUE,
    user_role TEXT COLLATE "C" NOT NULL,
    metadata TEXT NOT NULL,
    models TEXT NOT NULL,
    rpm_limit BIGINT,
    tpm_limit BIGINT,
    max_parallel_requests BIGINT,
    model_rpm_limit TEXT NOT NULL,
    model_tpm_limit TEXT NOT NULL,
    max_budget BIGINT,
    soft_budget BIGINT,
    budget_duration TEXT,
    budget_reset_at BIGINT,
    model_max_budget TEXT NOT NULL,
    spend BIGINT NOT NULL,
    model_spend TEXT NOT NULL,
    budget_anchor_at BIGINT NOT NULL,
    spend_since BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE INDEX users_created ON users (created_at, user_id);
CREATE INDEX users_role ON users (user_role, created_at, user_id);
CREATE INDEX users_search_id ON users (lower(user_id));
CREATE INDEX users_search_email ON users (lower(user_email));
CREATE INDEX users_search_alias ON users (lower(user_alias));

-- Keys go with their team and user: a key without them would have fewer limits than before.
CREATE TABLE keys (
    token TEXT COLLATE "C" NOT NULL CONSTRAINT "keys.token" UNIQUE,
    token_id TEXT COLLATE "C" NOT NULL CONSTRAINT "keys.token_id" PRIMARY KEY,
    key_name TEXT NOT NULL,
    key_alias TEXT COLLATE "C" CONSTRAINT "keys.key_alias" UNIQUE,
    key_type TEXT COLLATE "C" NOT NULL,
    user_id TEXT COLLATE "C" CONSTRAINT "keys.user_id" REFERENCES users ON DELETE CASCADE,
    team_id TEXT COLLATE "C" CONSTRAINT "keys.team_id" REFERENCES teams ON DELETE CASCADE,
    organization_id TEXT COLLATE "C" CONSTRAINT "keys.organization_id" REFERENCES organizations ON DELETE RESTRICT,
    tags TEXT NOT NULL,
    metadata TEXT NOT NULL,
    blocked BOOLEAN NOT NULL,
    expires BIGINT,
    models TEXT NOT NULL,
    rpm_limit BIGINT,
    tpm_limit BIGINT,
    max_parallel_requests BIGINT,
    model_rpm_limit TEXT NOT NULL,
    model_tpm_limit TEXT NOT NULL,
    max_budget BIGINT,
    soft_budget BIGINT,
    budget_duration TEXT,
    budget_reset_at BIGINT,
    model_max_budget TEXT NOT NULL,
    spend BIGINT NOT NULL,
    model_spend TEXT NOT NULL,
    budget_anchor_at BIGINT NOT NULL,
    spend_since BIGINT NOT NULL,
    last_used_at BIGINT,
    created_at BIGINT NOT NULL,
    created_by TEXT COLLATE "C",
    updated_at BIGINT NOT NULL,
    updated_by TEXT COLLATE "C"
);
CREATE INDEX keys_created ON keys (created_at, token_id);
CREATE INDEX keys_user ON keys (user_id, created_at, token_id);
CREATE INDEX keys_team ON keys (team_id, created_at, token_id);
CREATE INDEX keys_organization ON keys (organization_id, created_at, token_id);
CREATE INDEX keys_search ON keys (lower(key_alias));

CREATE TABLE team_members (
    team_id TEXT COLLATE "C" NOT NULL CONSTRAINT "team_members.team_id" REFERENCES teams ON DELETE CASCADE,
    user_id TEXT COLLATE "C" NOT NULL CONSTRAINT "team_members.user_id" REFERENCES users ON DELETE CASCADE,
    role TEXT COLLATE "C" NOT NULL,
    max_budget BIGINT,
    soft_budget BIGINT,
    budget_duration TEXT,
    budget_reset_at BIGINT,
    model_max_budget TEXT NOT NULL,
    spend BIGINT NOT NULL,
    model_spend TEXT NOT NULL,
    budget_anchor_at BIGINT NOT NULL,
    spend_since BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    CONSTRAINT "team_members.key" PRIMARY KEY (team_id, user_id)
);
CREATE INDEX team_members_user ON team_members (user_id, team_id);

CREATE TABLE organization_members (
    organization_id TEXT COLLATE "C" NOT NULL
        CONSTRAINT "organization_members.organization_id" REFERENCES organizations ON DELETE CASCADE,
    user_id TEXT COLLATE "C" NOT NULL CONSTRAINT "organization_members.user_id" REFERENCES users ON DELETE CASCADE,
    user_role TEXT COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    CONSTRAINT "organization_members.key" PRIMARY KEY (organization_id, user_id)
);
CREATE INDEX organization_members_user ON organization_members (user_id, organization_id);

CREATE TABLE audit_log (
    id TEXT COLLATE "C" NOT NULL CONSTRAINT "audit_log.id" PRIMARY KEY,
    updated_at BIGINT NOT NULL,
    changed_by TEXT COLLATE "C" NOT NULL,
    changed_by_api_key TEXT COLLATE "C",
    action TEXT COLLATE "C" NOT NULL,
    table_name TEXT COLLATE "C" NOT NULL,
    object_id TEXT COLLATE "C" NOT NULL,
    request_id TEXT COLLATE "C",
    before_value TEXT,
    updated_values TEXT
);
CREATE INDEX audit_log_time ON audit_log (updated_at, id);
CREATE INDEX audit_log_writer ON audit_log (changed_by, updated_at, id);
CREATE INDEX audit_log_object ON audit_log (object_id, updated_at, id);
CREATE INDEX audit_log_table ON audit_log (table_name, updated_at, id);
CREATE INDEX audit_log_action ON audit_log (action, updated_at, id);

-- No references to tenants: what was used stays written down when they are gone.
CREATE TABLE usage_records (
    id TEXT COLLATE "C" NOT NULL CONSTRAINT "usage_records.id" PRIMARY KEY,
    request_id TEXT COLLATE "C" NOT NULL,
    start_time BIGINT NOT NULL,
    end_time BIGINT NOT NULL,
    token_id TEXT COLLATE "C",
    team_id TEXT COLLATE "C",
    user_id TEXT COLLATE "C",
    organization_id TEXT COLLATE "C",
    end_user TEXT COLLATE "C",
    model TEXT COLLATE "C" NOT NULL,
    upstream_model TEXT COLLATE "C",
    deployment_id TEXT COLLATE "C",
    provider TEXT COLLATE "C",
    call_type TEXT COLLATE "C" NOT NULL,
    attempt BIGINT NOT NULL,
    status TEXT COLLATE "C" NOT NULL,
    status_code BIGINT,
    error_code TEXT COLLATE "C",
    cache_hit BOOLEAN NOT NULL,
    stream BOOLEAN NOT NULL,
    prompt_tokens BIGINT NOT NULL,
    completion_tokens BIGINT NOT NULL,
    total_tokens BIGINT NOT NULL,
    cached_tokens BIGINT NOT NULL,
    cache_write_tokens BIGINT NOT NULL,
    reasoning_tokens BIGINT NOT NULL,
    spend BIGINT NOT NULL,
    time_to_first_token_ms BIGINT,
    request_tags TEXT NOT NULL,
    metadata TEXT NOT NULL
);
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
    day BIGINT NOT NULL,
    token_id TEXT COLLATE "C" NOT NULL,
    team_id TEXT COLLATE "C" NOT NULL,
    user_id TEXT COLLATE "C" NOT NULL,
    organization_id TEXT COLLATE "C" NOT NULL,
    model TEXT COLLATE "C" NOT NULL,
    provider TEXT COLLATE "C" NOT NULL,
    log_records BIGINT NOT NULL,
    api_requests BIGINT NOT NULL,
    attempts BIGINT NOT NULL,
    failed_attempts BIGINT NOT NULL,
    cache_hits BIGINT NOT NULL,
    prompt_tokens BIGINT NOT NULL,
    completion_tokens BIGINT NOT NULL,
    total_tokens BIGINT NOT NULL,
    spend BIGINT NOT NULL,
    CONSTRAINT "daily_usage.key" PRIMARY KEY (day, token_id, team_id, user_id, organization_id, model, provider)
);
CREATE INDEX daily_usage_key ON daily_usage (token_id, day);
CREATE INDEX daily_usage_team ON daily_usage (team_id, day);
CREATE INDEX daily_usage_user ON daily_usage (user_id, day);
CREATE INDEX daily_usage_organization ON daily_usage (organization_id, day);

-- The same without tenants: few rows, for what spans all of them.
CREATE TABLE daily_totals (
    day BIGINT NOT NULL,
    model TEXT COLLATE "C" NOT NULL,
    provider TEXT COLLATE "C" NOT NULL,
    log_records BIGINT NOT NULL,
    api_requests BIGINT NOT NULL,
    attempts BIGINT NOT NULL,
    failed_attempts BIGINT NOT NULL,
    cache_hits BIGINT NOT NULL,
    prompt_tokens BIGINT NOT NULL,
    completion_tokens BIGINT NOT NULL,
    total_tokens BIGINT NOT NULL,
    spend BIGINT NOT NULL,
    CONSTRAINT "daily_totals.key" PRIMARY KEY (day, model, provider)
);

-- The same of each team and each organization: both have many keys, whose rows would have to be read one by one.
CREATE TABLE daily_groups (
    kind TEXT COLLATE "C" NOT NULL,
    day BIGINT NOT NULL,
    id TEXT COLLATE "C" NOT NULL,
    log_records BIGINT NOT NULL,
    api_requests BIGINT NOT NULL,
    attempts BIGINT NOT NULL,
    failed_attempts BIGINT NOT NULL,
    cache_hits BIGINT NOT NULL,
    prompt_tokens BIGINT NOT NULL,
    completion_tokens BIGINT NOT NULL,
    total_tokens BIGINT NOT NULL,
    spend BIGINT NOT NULL,
    CONSTRAINT "daily_groups.key" PRIMARY KEY (kind, day, id)
);
CREATE INDEX daily_groups_id ON daily_groups (kind, id, day);
