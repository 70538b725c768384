-- Most records have no team, user or organization: their index entries would only cost time.
DROP INDEX usage_records_key;
CREATE INDEX usage_records_key ON usage_records (token_id, start_time, id) WHERE token_id IS NOT NULL;
DROP INDEX usage_records_team;
CREATE INDEX usage_records_team ON usage_records (team_id, start_time, id) WHERE team_id IS NOT NULL;
DROP INDEX usage_records_user;
CREATE INDEX usage_records_user ON usage_records (user_id, start_time, id) WHERE user_id IS NOT NULL;
DROP INDEX usage_records_organization;
CREATE INDEX usage_records_organization ON usage_records (organization_id, start_time, id) WHERE organization_id IS NOT NULL;
