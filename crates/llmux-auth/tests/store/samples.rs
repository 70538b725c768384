//! Plain objects to begin with.

use llmux_auth::tenants::{
    AuditRecord, Budget, Key, KeyHash, KeyType, Limits, MemberRole, Money, Organization,
    OrganizationMember, OrganizationRole, Role, Team, TeamMember, UnixMillis, UsageRecord,
    UsageStatus, User,
};
use serde_json::Map;

/// A Sunday at noon.
pub(crate) const NOW: UnixMillis = UnixMillis(1_795_348_800_000);

pub(crate) fn key(name: &str) -> Key {
    Key {
        token: KeyHash::of(name),
        token_id: name.to_owned(),
        key_name: "sk-...1234".to_owned(),
        key_alias: None,
        key_type: KeyType::Default,
        user_id: None,
        team_id: None,
        organization_id: None,
        tags: Vec::new(),
        metadata: Map::new(),
        blocked: false,
        expires: None,
        limits: Limits::default(),
        budget: Budget::new(NOW),
        last_used_at: None,
        created_at: NOW,
        created_by: None,
        updated_at: NOW,
        updated_by: None,
    }
}

pub(crate) fn team(id: &str) -> Team {
    Team {
        team_id: id.to_owned(),
        team_alias: None,
        organization_id: None,
        tags: Vec::new(),
        metadata: Map::new(),
        blocked: false,
        limits: Limits::default(),
        budget: Budget::new(NOW),
        created_at: NOW,
        updated_at: NOW,
    }
}

pub(crate) fn user(id: &str) -> User {
    User {
        user_id: id.to_owned(),
        user_alias: None,
        user_email: None,
        user_role: Role::InternalUser,
        metadata: Map::new(),
        limits: Limits::default(),
        budget: Budget::new(NOW),
        created_at: NOW,
        updated_at: NOW,
    }
}

pub(crate) fn organization(id: &str) -> Organization {
    Organization {
        organization_id: id.to_owned(),
        organization_alias: None,
        metadata: Map::new(),
        limits: Limits::default(),
        budget: Budget::new(NOW),
        created_at: NOW,
        created_by: None,
        updated_at: NOW,
        updated_by: None,
    }
}

pub(crate) fn team_member(team_id: &str, user_id: &str) -> TeamMember {
    TeamMember {
        team_id: team_id.to_owned(),
        user_id: user_id.to_owned(),
        role: MemberRole::User,
        budget: Budget::new(NOW),
        created_at: NOW,
        updated_at: NOW,
    }
}

pub(crate) fn organization_member(organization_id: &str, user_id: &str) -> OrganizationMember {
    OrganizationMember {
        organization_id: organization_id.to_owned(),
        user_id: user_id.to_owned(),
        user_role: OrganizationRole::InternalUser,
        created_at: NOW,
        updated_at: NOW,
    }
}

pub(crate) fn audit(id: &str, at: UnixMillis) -> AuditRecord {
    AuditRecord {
        id: id.to_owned(),
        updated_at: at,
        changed_by: "admin".to_owned(),
        changed_by_api_key: None,
        action: "created".to_owned(),
        table_name: "key".to_owned(),
        object_id: "k".to_owned(),
        request_id: None,
        before_value: None,
        updated_values: Some(serde_json::json!({"models": ["a"], "max_budget": null})),
    }
}

/// A record that cost so many nano-dollars.
pub(crate) fn usage(id: &str, nanos: i64, at: UnixMillis) -> UsageRecord {
    UsageRecord {
        id: id.to_owned(),
        request_id: format!("request-{id}"),
        start_time: at,
        end_time: at.plus(900),
        token_id: None,
        team_id: None,
        user_id: None,
        organization_id: None,
        end_user: None,
        model: "gpt".to_owned(),
        upstream_model: Some("gpt-4o".to_owned()),
        deployment_id: Some("gpt#0".to_owned()),
        provider: Some("openai".to_owned()),
        call_type: "chat_completion".to_owned(),
        attempt: 1,
        status: UsageStatus::Success,
        status_code: Some(200),
        error_code: None,
        cache_hit: false,
        stream: true,
        prompt_tokens: 10,
        completion_tokens: 5,
        total_tokens: 15,
        cached_tokens: 3,
        cache_write_tokens: 0,
        reasoning_tokens: 2,
        spend: Money::from_nanos(nanos),
        time_to_first_token_ms: Some(120),
        request_tags: Vec::new(),
        metadata: Map::new(),
    }
}
