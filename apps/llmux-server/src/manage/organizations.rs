//! `/organization/*`.

use bytes::Bytes;
use llmux_auth::roles::{Action, Target};
use llmux_auth::store::{Change, MemberFilter, OrganizationFilter, StoreError};
use llmux_auth::tenants::{
    Budget, Limits, Organization, OrganizationMember, OrganizationMemberPatch, OrganizationPatch,
    OrganizationRole, Patch,
};
use serde::Serialize;
use serde_json::{Map, Value};

use super::audit::{Entry, shown};
use super::fields::{BUDGET, Fields, Kind, Known, LIMITS, all};
use super::{Call, json, new_id, users};
use crate::error::ApiError;

pub(super) const ORGANIZATION: &Known =
    &[("organization_alias", Kind::Name), ("metadata", Kind::Object)];

/// An organization as clients see one.
#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    organization: &'a Organization,
    members: Vec<OrganizationMember>,
}

async fn members_of(
    call: &Call,
    organization_id: &str,
) -> Result<Vec<OrganizationMember>, ApiError> {
    let filter = MemberFilter { group_id: Some(organization_id.to_owned()), user_id: None };
    all(|page| call.store().list_organization_members(&filter, page)).await
}

async fn answer(call: &Call, organization: &Organization) -> Result<Bytes, ApiError> {
    let members = members_of(call, &organization.organization_id).await?;
    Ok(json(&Shown { organization, members }))
}

async fn find(call: &Call, organization_id: &str) -> Result<Organization, ApiError> {
    let organization = call.store().organization(organization_id, call.now).await?;
    call.found(organization, "organization", organization_id)
}

/// Takes a member's role, by either of its names.
fn role(fields: &mut Fields) -> Result<Patch<OrganizationRole>, ApiError> {
    let (name, value) = fields.take_any(&["user_role", "role"])?;
    match value {
        None => Ok(Patch::Keep),
        Some(Value::Null) => Ok(Patch::Clear),
        Some(value) => fields.read(name, Kind::OrganizationRole, value).map(Patch::Set),
    }
}

/// Takes a list of members.
fn read_members(
    call: &Call,
    fields: &mut Fields,
    organization_id: &str,
) -> Result<Vec<OrganizationMember>, ApiError> {
    let mut found: Vec<OrganizationMember> = Vec::new();
    for mut fields in fields.objects(&["members", "member"], "user_id")? {
        let user_id = fields.need(&["user_id"])?;
        let user_role = role(&mut fields)?;
        if found.iter().any(|other| other.user_id == user_id) {
            return Err(fields.invalid("user_id", "another than those before"));
        }
        if !matches!(fields.take("user_email"), None | Some(Value::Null)) {
            return Err(fields.invalid("user_email", "left out: members are named by `user_id`"));
        }
        fields.finish()?;
        let mut member = OrganizationMember {
            organization_id: organization_id.to_owned(),
            user_id,
            user_role: OrganizationRole::InternalUser,
            created_at: call.now,
            updated_at: call.now,
        };
        OrganizationMemberPatch { user_role }.apply(&mut member, call.now);
        found.push(member);
    }
    Ok(found)
}

fn forget(call: &Call, organization_id: &str, members: &[OrganizationMember]) {
    call.forget(&Change::Organization(organization_id.to_owned()));
    for member in members {
        call.forget(&Change::User(member.user_id.clone()));
    }
}

fn is_unknown_user(result: &Result<(), StoreError>) -> bool {
    matches!(result, Err(StoreError::MissingReference { field }) if field == "user_id")
}

async fn add_users(call: &Call, members: &[OrganizationMember]) -> Result<(), ApiError> {
    users::add_missing(call, members.iter().map(|member| member.user_id.as_str())).await
}

fn with_members(organization: &Organization, members: &[OrganizationMember]) -> Option<Value> {
    let mut value = shown(organization)?;
    value["members"] = serde_json::to_value(members).ok()?;
    Some(value)
}

/// `POST /organization/new`. Members that are no users yet become some.
pub(super) async fn new(call: &Call, mut fields: Fields) -> Result<Bytes, ApiError> {
    let organization_id = match fields.option("organization_id", Kind::Name)? {
        Some(organization_id) => organization_id,
        None => new_id()?,
    };
    let patch: OrganizationPatch = fields.patch(&[ORGANIZATION, LIMITS, BUDGET])?;
    let members = read_members(call, &mut fields, &organization_id)?;
    fields.finish()?;
    call.allow(Action::Create, &Target::Organization { organization_id: None })?;
    let by = call.by();
    let mut organization = Organization {
        organization_id,
        organization_alias: None,
        metadata: Map::new(),
        limits: Limits::default(),
        budget: Budget::new(call.now),
        created_at: call.now,
        created_by: by.clone(),
        updated_at: call.now,
        updated_by: by.clone(),
    };
    patch.apply(&mut organization, by, call.now);
    let mut inserted = call.store().insert_organization(&organization, &members).await;
    if is_unknown_user(&inserted) {
        add_users(call, &members).await?;
        inserted = call.store().insert_organization(&organization, &members).await;
    }
    inserted?;
    forget(call, &organization.organization_id, &members);
    let entry = Entry {
        action: "created",
        table: "organization",
        object_id: &organization.organization_id,
        before: None,
        after: with_members(&organization, &members),
    };
    call.audit(entry).await?;
    answer(call, &organization).await
}

/// `PATCH /organization/update`.
pub(super) async fn update(call: &Call, mut fields: Fields) -> Result<Bytes, ApiError> {
    let organization_id = fields.need(&["organization_id"])?;
    let patch: OrganizationPatch = fields.patch(&[ORGANIZATION, LIMITS, BUDGET])?;
    fields.finish()?;
    let target = Target::Organization { organization_id: Some(&organization_id) };
    call.allow(Action::Limit, &target)?;
    let updated =
        call.store().update_organization(&organization_id, patch, call.by(), call.now).await?;
    call.forget(&Change::Organization(organization_id.clone()));
    let entry = Entry {
        action: "updated",
        table: "organization",
        object_id: &organization_id,
        before: shown(&updated.before),
        after: shown(&updated.after),
    };
    call.audit(entry).await?;
    answer(call, &updated.after).await
}

/// `DELETE /organization/delete`: not while they have teams or keys.
pub(super) async fn delete(call: &Call, mut fields: Fields) -> Result<Bytes, ApiError> {
    let organization_ids = fields.need_some(&["organization_ids", "organization_id"])?;
    fields.finish()?;
    let mut members = Vec::new();
    for organization_id in &organization_ids {
        let target = Target::Organization { organization_id: Some(organization_id) };
        call.allow(Action::Delete, &target)?;
        members.push(members_of(call, organization_id).await?);
    }
    let deleted = call.store().delete_organizations(&organization_ids).await?;
    for (organization, members) in deleted.iter().zip(&members) {
        forget(call, &organization.organization_id, members);
    }
    for (organization, members) in deleted.iter().zip(&members) {
        let entry = Entry {
            action: "deleted",
            table: "organization",
            object_id: &organization.organization_id,
            before: with_members(organization, members),
            after: None,
        };
        call.audit(entry).await?;
    }
    #[derive(Serialize)]
    struct Deleted {
        deleted_organizations: Vec<String>,
    }
    Ok(json(&Deleted { deleted_organizations: organization_ids }))
}

/// `POST /organization/member_add`. Members that are no users yet become some.
pub(super) async fn member_add(call: &Call, mut fields: Fields) -> Result<Bytes, ApiError> {
    let organization_id = fields.need(&["organization_id"])?;
    let members = read_members(call, &mut fields, &organization_id)?;
    if members.is_empty() {
        return Err(fields.missing("members"));
    }
    fields.finish()?;
    let target = Target::OrganizationMembers { organization_id: &organization_id };
    call.allow(Action::Create, &target)?;
    let organization = find(call, &organization_id).await?;
    let mut added = call.store().add_organization_members(&members).await;
    if is_unknown_user(&added) {
        add_users(call, &members).await?;
        added = call.store().add_organization_members(&members).await;
    }
    added?;
    forget(call, &organization_id, &members);
    let entry = Entry {
        action: "members added",
        table: "organization",
        object_id: &organization_id,
        before: None,
        after: serde_json::to_value(&members).ok(),
    };
    call.audit(entry).await?;
    answer(call, &organization).await
}

/// `PATCH /organization/member_update`.
pub(super) async fn member_update(call: &Call, mut fields: Fields) -> Result<Bytes, ApiError> {
    let organization_id = fields.need(&["organization_id"])?;
    let user_id = fields.need(&["user_id"])?;
    let patch = OrganizationMemberPatch { user_role: role(&mut fields)? };
    fields.finish()?;
    let target = Target::OrganizationMembers { organization_id: &organization_id };
    call.allow(Action::Change, &target)?;
    let updated = call
        .store()
        .update_organization_member(&organization_id, &user_id, patch, call.now)
        .await?;
    forget(call, &organization_id, std::slice::from_ref(&updated.after));
    let entry = Entry {
        action: "member updated",
        table: "organization",
        object_id: &organization_id,
        before: shown(&updated.before),
        after: shown(&updated.after),
    };
    call.audit(entry).await?;
    Ok(json(&updated.after))
}

/// `DELETE /organization/member_delete`. Places in the organization's teams stay.
pub(super) async fn member_delete(call: &Call, mut fields: Fields) -> Result<Bytes, ApiError> {
    let organization_id = fields.need(&["organization_id"])?;
    let user_ids = fields.need_some(&["user_ids", "user_id"])?;
    fields.finish()?;
    let target = Target::OrganizationMembers { organization_id: &organization_id };
    call.allow(Action::Delete, &target)?;
    let organization = find(call, &organization_id).await?;
    let deleted = call.store().delete_organization_members(&organization_id, &user_ids).await?;
    forget(call, &organization_id, &deleted);
    let entry = Entry {
        action: "members removed",
        table: "organization",
        object_id: &organization_id,
        before: serde_json::to_value(&deleted).ok(),
        after: None,
    };
    call.audit(entry).await?;
    answer(call, &organization).await
}

/// `GET /organization/info`.
pub(super) async fn info(call: &Call, mut query: Fields) -> Result<Bytes, ApiError> {
    let organization_id =
        query.text("organization_id")?.ok_or_else(|| query.missing("organization_id"))?;
    query.finish()?;
    let target = Target::Organization { organization_id: Some(&organization_id) };
    call.allow(Action::Read, &target)?;
    let organization = find(call, &organization_id).await?;
    answer(call, &organization).await
}

/// `GET /organization/list`: of one who may not read all, those that the caller is an admin of.
pub(super) async fn list(call: &Call, mut query: Fields) -> Result<Bytes, ApiError> {
    let filter = OrganizationFilter {
        user_id: query.text("user_id")?,
        organization_alias: query.text("organization_alias")?,
    };
    let paging = query.paging()?;
    query.finish()?;
    let reach = call.actor.reach();
    if reach.everything {
        let listed =
            paging.list(|page| call.store().list_organizations(&filter, page, call.now)).await?;
        return Ok(json(&listed));
    }
    let foreign = filter.user_id.is_some() && filter.user_id != reach.user_id;
    if reach.organization_ids.is_empty() || foreign {
        return Err(ApiError::not_permitted());
    }
    let mut found: Vec<Organization> = Vec::new();
    for organization_id in &reach.organization_ids {
        let organization = call.store().organization(organization_id, call.now).await?;
        let wanted = |it: &Organization| {
            filter.organization_alias.is_none()
                || it.organization_alias == filter.organization_alias
        };
        found.extend(organization.filter(wanted));
    }
    found.sort_by(|a, b| {
        (b.created_at, &b.organization_id).cmp(&(a.created_at, &a.organization_id))
    });
    Ok(json(&paging.of(found)))
}

/// `GET /organization/members`.
pub(super) async fn members(call: &Call, mut query: Fields) -> Result<Bytes, ApiError> {
    let organization_id =
        query.text("organization_id")?.ok_or_else(|| query.missing("organization_id"))?;
    let paging = query.paging()?;
    query.finish()?;
    let target = Target::OrganizationMembers { organization_id: &organization_id };
    call.allow(Action::Read, &target)?;
    find(call, &organization_id).await?;
    let filter = MemberFilter { group_id: Some(organization_id), user_id: None };
    let listed = paging.list(|page| call.store().list_organization_members(&filter, page)).await?;
    Ok(json(&listed))
}
