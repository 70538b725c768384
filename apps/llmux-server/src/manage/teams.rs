//! `/team/*`.

use bytes::Bytes;
use llmux_auth::roles::{Action, Target};
use llmux_auth::store::{Change, KeyFilter, MemberFilter, StoreError, TeamFilter};
use llmux_auth::tenants::{
    Budget, Key, KeyPatch, KeyRef, Limits, MemberRole, Money, Patch, Team, TeamMember,
    TeamMemberPatch, TeamPatch,
};
use serde::Serialize;
use serde_json::{Map, Value};

use super::audit::{Entry, shown};
use super::fields::{BUDGET, Fields, Kind, Known, LIMITS, all};
use super::{Call, json, keys, new_id, users};
use crate::error::ApiError;

pub(super) const TEAM: &Known = &[
    ("team_alias", Kind::Name),
    ("organization_id", Kind::Name),
    ("tags", Kind::Names),
    ("metadata", Kind::Object),
    ("blocked", Kind::Flag),
];

pub(super) const MEMBER: &Known = &[("role", Kind::MemberRole)];

/// A member as clients see one.
#[derive(Serialize)]
struct Member {
    /// What LiteLLM calls the member's `max_budget`.
    max_budget_in_team: Option<Money>,
    #[serde(flatten)]
    member: TeamMember,
}

impl From<TeamMember> for Member {
    fn from(member: TeamMember) -> Self {
        Self { max_budget_in_team: member.budget.max_budget, member }
    }
}

/// A team as clients see one.
#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    team: &'a Team,
    members_with_roles: Vec<Member>,
}

async fn members(call: &Call, team_id: &str) -> Result<Vec<TeamMember>, ApiError> {
    let filter = MemberFilter { group_id: Some(team_id.to_owned()), user_id: None };
    all(|page| call.store().list_team_members(&filter, page, call.now)).await
}

async fn answer(call: &Call, team: &Team) -> Result<Bytes, ApiError> {
    let members = members(call, &team.team_id).await?.into_iter().map(Member::from);
    Ok(json(&Shown { team, members_with_roles: members.collect() }))
}

async fn find(call: &Call, team_id: &str) -> Result<Team, ApiError> {
    let team = call.store().team(team_id, call.now).await?;
    call.found(team, "team", team_id)
}

fn target(team: &Team) -> Target<'_> {
    Target::Team { team_id: Some(&team.team_id), organization_id: team.organization_id.as_deref() }
}

fn members_of(team: &Team) -> Target<'_> {
    Target::TeamMembers { team_id: &team.team_id, organization_id: team.organization_id.as_deref() }
}

/// Takes what a member can be given.
fn member_patch(fields: &mut Fields) -> Result<TeamMemberPatch, ApiError> {
    let in_team = fields.take("max_budget_in_team");
    let mut patch: TeamMemberPatch = fields.patch(&[MEMBER, BUDGET])?;
    if let Some(value) = in_team {
        let name = "max_budget_in_team";
        if !patch.max_budget.is_keep() {
            let message = "`max_budget_in_team` means the same as `max_budget`: give one of them.";
            return Err(ApiError::invalid(name, message));
        }
        let mut given = Fields::of_one(name, value);
        patch.max_budget = given.option(name, Kind::Money)?.map_or(Patch::Clear, Patch::Set);
    }
    Ok(patch)
}

/// Takes a list of members.
fn read_members(
    call: &Call,
    fields: &mut Fields,
    names: &[&'static str],
    team_id: &str,
) -> Result<Vec<TeamMember>, ApiError> {
    let mut found: Vec<TeamMember> = Vec::new();
    for mut fields in fields.objects(names, "user_id")? {
        let user_id = fields.need(&["user_id"])?;
        let patch = member_patch(&mut fields)?;
        if found.iter().any(|other| other.user_id == user_id) {
            return Err(fields.invalid("user_id", "another than those before"));
        }
        // Clients of LiteLLM send it beside the id.
        if !matches!(fields.take("user_email"), None | Some(Value::Null)) {
            return Err(fields.invalid("user_email", "left out: members are named by `user_id`"));
        }
        fields.finish()?;
        let mut member = TeamMember {
            team_id: team_id.to_owned(),
            user_id,
            role: MemberRole::User,
            budget: Budget::new(call.now),
            created_at: call.now,
            updated_at: call.now,
        };
        patch.apply(&mut member, call.now);
        found.push(member);
    }
    Ok(found)
}

/// `POST /team/new`. Members that are no users yet become some.
pub(super) async fn new(call: &Call, mut fields: Fields) -> Result<Bytes, ApiError> {
    let team_id = match fields.option("team_id", Kind::Name)? {
        Some(team_id) => team_id,
        None => new_id()?,
    };
    let patch: TeamPatch = fields.patch(&[TEAM, LIMITS, BUDGET])?;
    let names = &["members_with_roles", "members", "member"];
    let members = read_members(call, &mut fields, names, &team_id)?;
    fields.finish()?;
    let mut team = Team {
        team_id,
        team_alias: None,
        organization_id: None,
        tags: Vec::new(),
        metadata: Map::new(),
        blocked: false,
        limits: Limits::default(),
        budget: Budget::new(call.now),
        created_at: call.now,
        updated_at: call.now,
    };
    patch.apply(&mut team, call.now);
    let organization_id = team.organization_id.as_deref();
    call.allow(Action::Create, &Target::Team { team_id: None, organization_id })?;
    let mut inserted = call.store().insert_team(&team, &members).await;
    if is_unknown_user(&inserted) {
        add_users(call, &members).await?;
        inserted = call.store().insert_team(&team, &members).await;
    }
    inserted?;
    forget(call, &team.team_id, &members);
    let entry = Entry {
        action: "created",
        table: "team",
        object_id: &team.team_id,
        before: None,
        after: with_members(&team, &members),
    };
    call.audit(entry).await?;
    answer(call, &team).await
}

fn is_unknown_user(result: &Result<(), StoreError>) -> bool {
    matches!(result, Err(StoreError::MissingReference { field }) if field == "user_id")
}

async fn add_users(call: &Call, members: &[TeamMember]) -> Result<(), ApiError> {
    users::add_missing(call, members.iter().map(|member| member.user_id.as_str())).await
}

fn forget(call: &Call, team_id: &str, members: &[TeamMember]) {
    call.forget(&Change::Team(team_id.to_owned()));
    for member in members {
        call.forget(&Change::User(member.user_id.clone()));
    }
}

fn with_members(team: &Team, members: &[TeamMember]) -> Option<Value> {
    let mut value = shown(team)?;
    value["members_with_roles"] = serde_json::to_value(members).ok()?;
    Some(value)
}

/// `POST /team/update`.
pub(super) async fn update(call: &Call, mut fields: Fields) -> Result<Bytes, ApiError> {
    let team_id = fields.need(&["team_id"])?;
    let patch: TeamPatch = fields.patch(&[TEAM, LIMITS, BUDGET])?;
    fields.finish()?;
    let before = find(call, &team_id).await?;
    let names_only = TeamPatch {
        team_alias: patch.team_alias.clone(),
        metadata: patch.metadata.clone(),
        ..TeamPatch::default()
    };
    let action = if names_only == patch { Action::Change } else { Action::Limit };
    call.allow(action, &target(&before))?;
    let mut after = before.clone();
    patch.clone().apply(&mut after, call.now);
    let moves = after.organization_id != before.organization_id;
    if moves && !call.actor.is_proxy_admin() {
        return Err(ApiError::not_permitted());
    }
    let after = changed(call, "updated", &team_id, patch).await?;
    if moves {
        move_keys(call, &after).await?;
    }
    answer(call, &after).await
}

/// Makes the keys of a team that has moved spend for its new organization.
async fn move_keys(call: &Call, team: &Team) -> Result<(), ApiError> {
    let filter = KeyFilter { team_id: Some(team.team_id.clone()), ..KeyFilter::default() };
    let keys: Vec<Key> = all(|page| call.store().list_keys(&filter, page, call.now)).await?;
    for key in keys {
        if key.organization_id.is_none() || key.organization_id == team.organization_id {
            continue;
        }
        let organization_id = team.organization_id.clone().map_or(Patch::Clear, Patch::Set);
        let patch = KeyPatch { organization_id, ..KeyPatch::default() };
        keys::changed(call, "updated", &KeyRef::TokenId(key.token_id), patch).await?;
    }
    Ok(())
}

async fn changed(
    call: &Call,
    action: &'static str,
    team_id: &str,
    patch: TeamPatch,
) -> Result<Team, ApiError> {
    let updated = call.store().update_team(team_id, patch, call.now).await?;
    call.forget(&Change::Team(team_id.to_owned()));
    let entry = Entry {
        action,
        table: "team",
        object_id: team_id,
        before: shown(&updated.before),
        after: shown(&updated.after),
    };
    call.audit(entry).await?;
    Ok(updated.after)
}

/// `POST /team/block` and `/team/unblock`.
pub(super) async fn set_blocked(
    call: &Call,
    mut fields: Fields,
    blocked: bool,
) -> Result<Bytes, ApiError> {
    let team_id = fields.need(&["team_id"])?;
    fields.finish()?;
    let team = find(call, &team_id).await?;
    call.allow(Action::Limit, &target(&team))?;
    let patch = TeamPatch { blocked: Patch::Set(blocked), ..TeamPatch::default() };
    let action = if blocked { "blocked" } else { "unblocked" };
    let team = changed(call, action, &team_id, patch).await?;
    answer(call, &team).await
}

/// `POST /team/delete`: with their members and keys.
pub(super) async fn delete(call: &Call, mut fields: Fields) -> Result<Bytes, ApiError> {
    let team_ids = fields.need_some(&["team_ids", "team_id"])?;
    fields.finish()?;
    let mut members = Vec::new();
    for team_id in &team_ids {
        let team = find(call, team_id).await?;
        call.allow(Action::Delete, &target(&team))?;
        members.push(self::members(call, team_id).await?);
    }
    let deleted = call.store().delete_teams(&team_ids).await?;
    for (team, members) in deleted.iter().zip(&members) {
        forget(call, &team.team_id, members);
    }
    for (team, members) in deleted.iter().zip(&members) {
        let entry = Entry {
            action: "deleted",
            table: "team",
            object_id: &team.team_id,
            before: with_members(team, members),
            after: None,
        };
        call.audit(entry).await?;
    }
    #[derive(Serialize)]
    struct Deleted {
        deleted_teams: Vec<String>,
    }
    Ok(json(&Deleted { deleted_teams: team_ids }))
}

/// `POST /team/member_add`. Members that are no users yet become some.
pub(super) async fn member_add(call: &Call, mut fields: Fields) -> Result<Bytes, ApiError> {
    let team_id = fields.need(&["team_id"])?;
    let common: Option<Money> = fields.option("max_budget_in_team", Kind::Money)?;
    let mut members = read_members(call, &mut fields, &["members", "member"], &team_id)?;
    if members.is_empty() {
        return Err(fields.missing("members"));
    }
    fields.finish()?;
    for member in &mut members {
        member.budget.max_budget = member.budget.max_budget.or(common);
    }
    let team = find(call, &team_id).await?;
    call.allow(Action::Create, &members_of(&team))?;
    check_belong(call, &team, &members).await?;
    let mut added = call.store().add_team_members(&members).await;
    if is_unknown_user(&added) {
        add_users(call, &members).await?;
        added = call.store().add_team_members(&members).await;
    }
    added?;
    forget(call, &team_id, &members);
    let entry = Entry {
        action: "members added",
        table: "team",
        object_id: &team_id,
        before: None,
        after: serde_json::to_value(&members).ok(),
    };
    call.audit(entry).await?;
    answer(call, &team).await
}

/// Lets an admin of a team that belongs to an organization add only members of that: who else is there is for the
/// organization's admins to say.
async fn check_belong(call: &Call, team: &Team, members: &[TeamMember]) -> Result<(), ApiError> {
    let Some(organization_id) = &team.organization_id else { return Ok(()) };
    let target = Target::OrganizationMembers { organization_id };
    if call.actor.may(Action::Create, &target) {
        return Ok(());
    }
    for member in members {
        if !keys::is_member(call, &member.user_id, None, Some(organization_id)).await? {
            return Err(ApiError::not_permitted());
        }
    }
    Ok(())
}

/// `POST /team/member_delete`: with the keys that the members have in the team.
pub(super) async fn member_delete(call: &Call, mut fields: Fields) -> Result<Bytes, ApiError> {
    let team_id = fields.need(&["team_id"])?;
    let user_ids = fields.need_some(&["user_ids", "user_id"])?;
    fields.finish()?;
    let team = find(call, &team_id).await?;
    call.allow(Action::Delete, &members_of(&team))?;
    let deleted = call.store().delete_team_members(&team_id, &user_ids).await?;
    forget(call, &team_id, &deleted);
    let entry = Entry {
        action: "members removed",
        table: "team",
        object_id: &team_id,
        before: serde_json::to_value(&deleted).ok(),
        after: None,
    };
    call.audit(entry).await?;
    for user_id in user_ids {
        let filter = KeyFilter {
            team_id: Some(team_id.clone()),
            user_id: Some(user_id),
            ..KeyFilter::default()
        };
        let keys: Vec<Key> = all(|page| call.store().list_keys(&filter, page, call.now)).await?;
        keys::delete_all(call, keys).await?;
    }
    answer(call, &team).await
}

/// `POST /team/member_update`.
pub(super) async fn member_update(call: &Call, mut fields: Fields) -> Result<Bytes, ApiError> {
    let team_id = fields.need(&["team_id"])?;
    let user_id = fields.need(&["user_id"])?;
    let patch = member_patch(&mut fields)?;
    fields.finish()?;
    let team = find(call, &team_id).await?;
    call.allow(Action::Limit, &members_of(&team))?;
    let role_only = TeamMemberPatch { role: patch.role.clone(), ..TeamMemberPatch::default() };
    if call.actor.user_id() == Some(user_id.as_str()) && patch != role_only {
        // An admin of the team does not raise the own budget.
        call.allow(Action::Limit, &target(&team))?;
    }
    let updated = call.store().update_team_member(&team_id, &user_id, patch, call.now).await?;
    forget(call, &team_id, std::slice::from_ref(&updated.after));
    let entry = Entry {
        action: "member updated",
        table: "team",
        object_id: &team_id,
        before: shown(&updated.before),
        after: shown(&updated.after),
    };
    call.audit(entry).await?;
    Ok(json(&Member::from(updated.after)))
}

/// `GET /team/info`.
pub(super) async fn info(call: &Call, mut query: Fields) -> Result<Bytes, ApiError> {
    let team_id = query.text("team_id")?.ok_or_else(|| query.missing("team_id"))?;
    query.finish()?;
    let team = find(call, &team_id).await?;
    call.allow(Action::Read, &target(&team))?;
    answer(call, &team).await
}

/// `GET /team/list`: of those that the caller may see.
pub(super) async fn list(call: &Call, mut query: Fields) -> Result<Bytes, ApiError> {
    let mut filter = TeamFilter {
        organization_id: query.text("organization_id")?,
        user_id: query.text("user_id")?,
        team_alias: query.text("team_alias")?,
        search: query.text("search")?,
        ..TeamFilter::default()
    };
    let paging = query.paging()?;
    query.finish()?;
    filter.within = call.within()?;
    let listed = paging.list(|page| call.store().list_teams(&filter, page, call.now)).await?;
    Ok(json(&listed))
}
