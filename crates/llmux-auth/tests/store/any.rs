//! Objects with arbitrary values in all fields.

use std::collections::BTreeMap;

use llmux_auth::tenants::{
    AuditRecord, Budget, Key, KeyHash, KeyType, Limits, MemberRole, ModelBudget, ModelSpend, Money,
    Organization, OrganizationMember, OrganizationRole, Role, Team, TeamMember, UnixMillis,
    UsageRecord, UsageStatus, User,
};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use serde_json::{Map, Value};

/// Draws one value.
pub(crate) fn draw<S: Strategy>(runner: &mut TestRunner, strategy: &S) -> S::Value {
    strategy.new_tree(runner).unwrap().current()
}

fn text() -> impl Strategy<Value = String> {
    "[^\u{0}]{0,12}"
}

fn id() -> impl Strategy<Value = String> {
    "[^\u{0}]{1,12}[a-z0-9]{12}"
}

fn maybe() -> impl Strategy<Value = Option<String>> {
    option::of(id())
}

fn money() -> impl Strategy<Value = Money> {
    any::<i64>().prop_map(Money::from_nanos)
}

/// An amount that JSON keeps to the nano-dollar.
fn json_money() -> impl Strategy<Value = Money> {
    (0..2_000_000_000_000_000_i64).prop_map(Money::from_nanos)
}

fn number() -> impl Strategy<Value = u64> {
    (0..=i64::MAX).prop_map(i64::cast_unsigned)
}

fn time() -> impl Strategy<Value = UnixMillis> {
    (0..4_000_000_000_000_i64).prop_map(UnixMillis)
}

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-1000_i32..1000).prop_map(|n| Value::from(f64::from(n) / 4.0)),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            btree_map(any::<String>(), inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn metadata() -> impl Strategy<Value = Map<String, Value>> {
    btree_map(any::<String>(), json(), 0..4).prop_map(|map| map.into_iter().collect())
}

fn counts() -> impl Strategy<Value = BTreeMap<String, u64>> {
    btree_map(any::<String>(), any::<u64>(), 0..3)
}

fn limits() -> impl Strategy<Value = Limits> {
    let numbers = (option::of(number()), option::of(number()), option::of(number()));
    (vec(any::<String>(), 0..3), numbers, counts(), counts()).prop_map(
        |(
            models,
            (rpm_limit, tpm_limit, max_parallel_requests),
            model_rpm_limit,
            model_tpm_limit,
        )| {
            Limits {
                models,
                rpm_limit,
                tpm_limit,
                max_parallel_requests,
                model_rpm_limit,
                model_tpm_limit,
            }
        },
    )
}

/// A budget as it is in the window of `now`: reading does not change it.
fn budget(now: UnixMillis) -> impl Strategy<Value = Budget> {
    let duration = || {
        option::of(
            select(vec!["30s", "1h", "7d", "2w", "1mo"]).prop_map(|text| text.parse().unwrap()),
        )
    };
    let model = (json_money(), duration(), json_money(), time());
    let amounts = (option::of(money()), option::of(money()), money());
    (amounts, duration(), btree_map(any::<String>(), model, 0..3), (0..=now.0, 0..=now.0)).prop_map(
        move |((max_budget, soft_budget, spend), budget_duration, models, (anchor, since))| {
            let mut budget = Budget {
                max_budget,
                soft_budget,
                budget_duration,
                spend_since: UnixMillis(since),
                budget_anchor_at: UnixMillis(anchor),
                ..Budget::default()
            };
            for (model, (max_budget, budget_duration, spend, since)) in models {
                budget.model_spend.insert(model.clone(), ModelSpend { spend, since });
                budget.model_max_budget.insert(model, ModelBudget { max_budget, budget_duration });
            }
            budget.roll(now);
            budget.spend = spend;
            budget
        },
    )
}

pub(crate) fn key(now: UnixMillis) -> impl Strategy<Value = Key> {
    let names = (id(), any::<[u8; 32]>(), text(), maybe(), select(KeyType::ALL));
    let rest = (vec(any::<String>(), 0..3), metadata(), any::<bool>(), option::of(time()));
    let times = (option::of(time()), time(), maybe(), time(), maybe());
    (names, rest, times, limits(), budget(now)).prop_map(
        |(names, (tags, metadata, blocked, expires), times, limits, budget)| {
            let (token_id, secret, key_name, key_alias, key_type) = names;
            let (last_used_at, created_at, created_by, updated_at, updated_by) = times;
            Key {
                token: KeyHash::of(&format!("{secret:?}")),
                token_id,
                key_name,
                key_alias,
                key_type,
                user_id: None,
                team_id: None,
                organization_id: None,
                tags,
                metadata,
                blocked,
                expires,
                limits,
                budget,
                last_used_at,
                created_at,
                created_by,
                updated_at,
                updated_by,
            }
        },
    )
}

pub(crate) fn team(now: UnixMillis) -> impl Strategy<Value = Team> {
    let rest = (vec(any::<String>(), 0..3), metadata(), any::<bool>());
    (id(), maybe(), rest, limits(), budget(now), time(), time()).prop_map(
        |(
            team_id,
            team_alias,
            (tags, metadata, blocked),
            limits,
            budget,
            created_at,
            updated_at,
        )| {
            Team {
                team_id,
                team_alias,
                organization_id: None,
                tags,
                metadata,
                blocked,
                limits,
                budget,
                created_at,
                updated_at,
            }
        },
    )
}

pub(crate) fn user(now: UnixMillis) -> impl Strategy<Value = User> {
    let names = (id(), option::of(text()), maybe(), select(Role::ALL));
    (names, metadata(), limits(), budget(now), time(), time()).prop_map(
        |(names, metadata, limits, budget, created_at, updated_at)| {
            let (user_id, user_alias, user_email, user_role) = names;
            User {
                user_id,
                user_alias,
                user_email,
                user_role,
                metadata,
                limits,
                budget,
                created_at,
                updated_at,
            }
        },
    )
}

pub(crate) fn organization(now: UnixMillis) -> impl Strategy<Value = Organization> {
    let times = (time(), maybe(), time(), maybe());
    (id(), maybe(), metadata(), limits(), budget(now), times).prop_map(
        |(organization_id, organization_alias, metadata, limits, budget, times)| {
            let (created_at, created_by, updated_at, updated_by) = times;
            Organization {
                organization_id,
                organization_alias,
                metadata,
                limits,
                budget,
                created_at,
                created_by,
                updated_at,
                updated_by,
            }
        },
    )
}

pub(crate) fn team_member(now: UnixMillis) -> impl Strategy<Value = TeamMember> {
    (select(MemberRole::ALL), budget(now), time(), time()).prop_map(
        |(role, budget, created_at, updated_at)| TeamMember {
            team_id: String::new(),
            user_id: String::new(),
            role,
            budget,
            created_at,
            updated_at,
        },
    )
}

pub(crate) fn organization_member() -> impl Strategy<Value = OrganizationMember> {
    (select(OrganizationRole::ALL), time(), time()).prop_map(
        |(user_role, created_at, updated_at)| OrganizationMember {
            organization_id: String::new(),
            user_id: String::new(),
            user_role,
            created_at,
            updated_at,
        },
    )
}

pub(crate) fn audit() -> impl Strategy<Value = AuditRecord> {
    // `null` in a column and `null` in JSON are one.
    let value = || option::of(json().prop_filter("not null", |value| !value.is_null()));
    let names = (text(), maybe(), text(), text(), text(), maybe());
    (id(), time(), names, value(), value()).prop_map(
        |(id, updated_at, names, before_value, updated_values)| {
            let (changed_by, changed_by_api_key, action, table_name, object_id, request_id) = names;
            AuditRecord {
                id,
                updated_at,
                changed_by,
                changed_by_api_key,
                action,
                table_name,
                object_id,
                request_id,
                before_value,
                updated_values,
            }
        },
    )
}

pub(crate) fn usage() -> impl Strategy<Value = UsageRecord> {
    let ids = (id(), id(), maybe(), maybe(), maybe(), maybe(), maybe());
    let what = (text(), option::of(text()), option::of(text()), option::of(text()), text());
    let how = (1_u32..9, select(UsageStatus::ALL), any::<Option<u16>>(), option::of(text()));
    let tokens = proptest::array::uniform6(0..1_u64 << 40);
    let rest =
        (any::<(bool, bool)>(), option::of(number()), vec(any::<String>(), 0..3), metadata());
    let spend = (0..1_i64 << 50).prop_map(Money::from_nanos);
    (ids, what, how, tokens, rest, (time(), time(), spend)).prop_map(
        |(ids, what, how, tokens, rest, (start_time, end_time, spend))| {
            let (id, request_id, token_id, team_id, user_id, organization_id, end_user) = ids;
            let (model, upstream_model, deployment_id, provider, call_type) = what;
            let (attempt, status, status_code, error_code) = how;
            let ((cache_hit, stream), time_to_first_token_ms, request_tags, metadata) = rest;
            let [
                prompt_tokens,
                completion_tokens,
                total_tokens,
                cached_tokens,
                cache_write_tokens,
                reasoning_tokens,
            ] = tokens;
            UsageRecord {
                id,
                request_id,
                start_time,
                end_time,
                token_id,
                team_id,
                user_id,
                organization_id,
                end_user,
                model,
                upstream_model,
                deployment_id,
                provider,
                call_type,
                attempt,
                status,
                status_code,
                error_code,
                cache_hit,
                stream,
                prompt_tokens,
                completion_tokens,
                total_tokens,
                cached_tokens,
                cache_write_tokens,
                reasoning_tokens,
                spend,
                time_to_first_token_ms,
                request_tags,
                metadata,
            }
        },
    )
}
