//! `/user/*`.

use bytes::Bytes;
use llmux_auth::roles::{Action, Target};
use llmux_auth::store::{Change, KeyFilter, MemberFilter, Page, StoreError, UserFilter, Within};
use llmux_auth::tenants::{
    Budget, Limits, MemberRole, OrganizationMember, OrganizationRole, Role, TeamMember, User,
    UserPatch,
};
use serde::Serialize;
use serde_json::{Map, Value};

use super::audit::{Entry, shown};
use super::fields::{BUDGET, Fields, Kind, Known, LIMITS, all};
use super::{Call, json, new_id};
use crate::error::ApiError;

pub(super) const USER: &Known = &[
    ("user_alias", Kind::Name),
    ("user_email", Kind::Name),
    ("user_role", Kind::Role),
    ("metadata", Kind::Object),
];

fn user(call: &Call, user_id: String) -> User {
    User {
        user_id,
        user_alias: None,
        user_email: None,
        user_role: Role::InternalUser,
        metadata: Map::new(),
        limits: Limits::default(),
        budget: Budget::new(call.now),
        created_at: call.now,
        updated_at: call.now,
    }
}

async fn find(call: &Call, user_id: &str) -> Result<User, ApiError> {
    let user = call.store().user(user_id, call.now).await?;
    call.found(user, "user", user_id)
}

/// Makes internal users of those who are none.
pub(super) async fn add_missing(
    call: &Call,
    user_ids: impl Iterator<Item = &str>,
) -> Result<(), ApiError> {
    for user_id in user_ids {
        if call.store().user(user_id, call.now).await?.is_none() {
            match insert(call, &user(call, user_id.to_owned())).await {
                // Somebody else was faster.
                Err(Failed::Store(StoreError::Conflict { .. })) => {}
                Err(Failed::Store(error)) => return Err(error.into()),
                Err(Failed::Audit(error)) => return Err(error),
                Ok(()) => {}
            }
        }
    }
    Ok(())
}

enum Failed {
    Store(StoreError),
    Audit(ApiError),
}

async fn insert(call: &Call, user: &User) -> Result<(), Failed> {
    call.store().insert_user(user).await.map_err(Failed::Store)?;
    call.forget(&Change::User(user.user_id.clone()));
    let entry = Entry {
        action: "created",
        table: "user",
        object_id: &user.user_id,
        before: None,
        after: shown(user),
    };
    call.audit(entry).await.map_err(Failed::Audit)
}

/// A user as clients see one.
#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    user: &'a User,
    /// The ids of the user's teams.
    teams: Vec<String>,
    team_memberships: Vec<TeamMember>,
    organization_memberships: Vec<OrganizationMember>,
    /// How many keys the user has.
    key_count: u64,
}

async fn answer(call: &Call, user: &User) -> Result<Bytes, ApiError> {
    let user_id = Some(user.user_id.clone());
    let filter = MemberFilter { group_id: None, user_id: user_id.clone() };
    let store = call.store();
    let team_memberships: Vec<TeamMember> =
        all(|page| store.list_team_members(&filter, page, call.now)).await?;
    let organization_memberships: Vec<OrganizationMember> =
        all(|page| store.list_organization_members(&filter, page)).await?;
    let filter = KeyFilter { user_id, ..KeyFilter::default() };
    let keys = store.list_keys(&filter, Page::first(1), call.now).await?;
    Ok(json(&Shown {
        user,
        teams: team_memberships.iter().map(|member| member.team_id.clone()).collect(),
        team_memberships,
        organization_memberships,
        key_count: keys.total,
    }))
}

/// Takes the ids of what a user joins: texts, or objects that have them.
fn ids(
    fields: &mut Fields,
    names: &[&'static str],
    id: &'static str,
) -> Result<Vec<String>, ApiError> {
    let mut found = Vec::new();
    for mut fields in fields.objects(names, id)? {
        found.push(fields.need(&[id])?);
        fields.finish()?;
    }
    found.sort();
    found.dedup();
    Ok(found)
}

/// `POST /user/new`.
pub(super) async fn new(call: &Call, mut fields: Fields) -> Result<Bytes, ApiError> {
    let user_id = match fields.option("user_id", Kind::Name)? {
        Some(user_id) => user_id,
        None => new_id()?,
    };
    let patch: UserPatch = fields.patch(&[USER, LIMITS, BUDGET])?;
    let team_ids = ids(&mut fields, &["teams", "team_id"], "team_id")?;
    let organization_ids =
        ids(&mut fields, &["organizations", "organization_id"], "organization_id")?;
    fields.finish()?;
    call.allow(Action::Create, &Target::User { user_id: None })?;
    let mut user = user(call, user_id);
    patch.apply(&mut user, call.now);
    for team_id in &team_ids {
        let team = call.store().team(team_id, call.now).await?;
        call.referred(team, "teams")?;
    }
    for organization_id in &organization_ids {
        let organization = call.store().organization(organization_id, call.now).await?;
        call.referred(organization, "organizations")?;
    }
    insert(call, &user).await.map_err(|failed| match failed {
        Failed::Store(error) => error.into(),
        Failed::Audit(error) => error,
    })?;
    join(call, &user.user_id, team_ids, organization_ids).await?;
    answer(call, &user).await
}

async fn join(
    call: &Call,
    user_id: &str,
    team_ids: Vec<String>,
    organization_ids: Vec<String>,
) -> Result<(), ApiError> {
    let teams = team_ids.into_iter().map(|team_id| TeamMember {
        team_id,
        user_id: user_id.to_owned(),
        role: MemberRole::User,
        budget: Budget::new(call.now),
        created_at: call.now,
        updated_at: call.now,
    });
    let teams: Vec<TeamMember> = teams.collect();
    let organizations = organization_ids.into_iter().map(|organization_id| OrganizationMember {
        organization_id,
        user_id: user_id.to_owned(),
        user_role: OrganizationRole::InternalUser,
        created_at: call.now,
        updated_at: call.now,
    });
    let organizations: Vec<OrganizationMember> = organizations.collect();
    let mut joined: Vec<(&'static str, &str, Option<Value>)> = Vec::new();
    if !teams.is_empty() {
        call.store().add_team_members(&teams).await?;
        let entries = teams.iter().map(|it| ("team", it.team_id.as_str(), shown(&[it])));
        joined.extend(entries);
    }
    if !organizations.is_empty() {
        call.store().add_organization_members(&organizations).await?;
        let entries = organizations
            .iter()
            .map(|it| ("organization", it.organization_id.as_str(), shown(&[it])));
        joined.extend(entries);
    }
    call.forget(&Change::User(user_id.to_owned()));
    for (table, object_id, after) in joined {
        let entry = Entry { action: "members added", table, object_id, before: None, after };
        call.audit(entry).await?;
    }
    Ok(())
}

/// `POST /user/update`.
pub(super) async fn update(call: &Call, mut fields: Fields) -> Result<Bytes, ApiError> {
    let user_id = fields.need(&["user_id"])?;
    let patch: UserPatch = fields.patch(&[USER, LIMITS, BUDGET])?;
    fields.finish()?;
    call.allow(Action::Limit, &Target::User { user_id: Some(&user_id) })?;
    let updated = call.store().update_user(&user_id, patch, call.now).await?;
    call.forget(&Change::User(user_id.clone()));
    let entry = Entry {
        action: "updated",
        table: "user",
        object_id: &user_id,
        before: shown(&updated.before),
        after: shown(&updated.after),
    };
    call.audit(entry).await?;
    answer(call, &updated.after).await
}

/// `POST /user/delete`: with their places and keys.
pub(super) async fn delete(call: &Call, mut fields: Fields) -> Result<Bytes, ApiError> {
    let user_ids = fields.need_some(&["user_ids", "user_id"])?;
    fields.finish()?;
    for user_id in &user_ids {
        call.allow(Action::Delete, &Target::User { user_id: Some(user_id) })?;
    }
    let deleted = call.store().delete_users(&user_ids).await?;
    for user in &deleted {
        call.forget(&Change::User(user.user_id.clone()));
    }
    for user in &deleted {
        let entry = Entry {
            action: "deleted",
            table: "user",
            object_id: &user.user_id,
            before: shown(user),
            after: None,
        };
        call.audit(entry).await?;
    }
    #[derive(Serialize)]
    struct Deleted {
        deleted_users: Vec<String>,
    }
    Ok(json(&Deleted { deleted_users: user_ids }))
}

/// `GET /user/info`: without a parameter, the user of the key that was presented.
pub(super) async fn info(call: &Call, mut query: Fields) -> Result<Bytes, ApiError> {
    let user_id = match (query.text("user_id")?, call.actor.user_id()) {
        (Some(user_id), _) => user_id,
        (None, Some(own)) => own.to_owned(),
        (None, None) if call.actor.reads_everything() => return Err(query.missing("user_id")),
        (None, None) => return Err(ApiError::not_permitted()),
    };
    query.finish()?;
    call.allow(Action::Read, &Target::User { user_id: Some(&user_id) })?;
    let user = find(call, &user_id).await?;
    answer(call, &user).await
}

/// `GET /user/list`: who may not read all sees one user.
pub(super) async fn list(call: &Call, mut query: Fields) -> Result<Bytes, ApiError> {
    let (_, role) = query.take_any(&["role", "user_role"])?;
    let mut role = Fields::of_one("role", role.unwrap_or_default());
    let mut filter = UserFilter {
        team_id: query.text("team_id")?,
        organization_id: query.text("organization_id")?,
        role: role.option("role", Kind::Role)?,
        search: query.text("search")?,
        ..UserFilter::default()
    };
    let paging = query.paging()?;
    query.finish()?;
    let within = call.within()?;
    filter.within = within.map(|within| Within { user_id: within.user_id, ..Within::default() });
    let listed = paging.list(|page| call.store().list_users(&filter, page, call.now)).await?;
    Ok(json(&listed))
}
