//! `/key/*`.

use bytes::Bytes;
use llmux_auth::Presented;
use llmux_auth::roles::{Action, KeyTarget, Target};
use llmux_auth::store::{Change, KeyFilter, MemberFilter, Page, StoreError};
use llmux_auth::tenants::{
    Budget, Key, KeyPatch, KeyRef, KeyType, Limits, NewKey, Patch, Period, UnixMillis, mask,
};
use serde::Serialize;
use serde_json::{Map, Value};

use super::audit::{Entry, shown};
use super::fields::{BUDGET, Fields, Kind, Known, LIMITS};
use super::{Call, json, random};
use crate::error::ApiError;

pub(super) const KEY: &Known = &[
    ("key_alias", Kind::Name),
    ("key_type", Kind::KeyType),
    ("user_id", Kind::Name),
    ("team_id", Kind::Name),
    ("organization_id", Kind::Name),
    ("tags", Kind::Names),
    ("metadata", Kind::Object),
    ("blocked", Kind::Flag),
    ("expires", Kind::Time),
];

/// The longest key of somebody's own choice, in bytes.
const LONGEST_KEY: usize = 256;

/// A key when its secret is shown, once.
#[derive(Serialize)]
struct Secret<'a> {
    key: &'a str,
    #[serde(flatten)]
    object: &'a Key,
}

/// What else counts in who may do something with a key.
struct Place {
    /// The key's organization, or else its team's.
    organization_id: Option<String>,
    /// The organization that the key's team belongs to, if the key has a team.
    team_organization: Option<Option<String>>,
    /// Whether the user is a member of the team or organization.
    is_member: bool,
}

impl Place {
    async fn of(call: &Call, key: &Key) -> Result<Self, ApiError> {
        let team = match &key.team_id {
            None => None,
            Some(team_id) => {
                let team = call.store().team(team_id, call.now).await?;
                Some(call.referred(team, "team_id")?)
            }
        };
        let team_organization = team.map(|team| team.organization_id);
        let organization_id = match &team_organization {
            Some(Some(organization_id)) => Some(organization_id.clone()),
            _ => key.organization_id.clone(),
        };
        let is_member = match &key.user_id {
            Some(user_id) if !call.actor.is_proxy_admin() => {
                is_member(call, user_id, key.team_id.as_deref(), organization_id.as_deref()).await?
            }
            _ => false,
        };
        Ok(Self { organization_id, team_organization, is_member })
    }

    fn target<'a>(&'a self, key: &'a Key) -> Target<'a> {
        Target::Key(KeyTarget {
            token_id: Some(&key.token_id),
            user_id: key.user_id.as_deref(),
            team_id: key.team_id.as_deref(),
            organization_id: self.organization_id.as_deref(),
            key_type: key.key_type,
            is_member: self.is_member,
        })
    }

    /// Refuses a key of a team that would spend for another organization.
    fn check_organization(&self, key: &Key) -> Result<(), ApiError> {
        match (&key.organization_id, &self.team_organization) {
            (Some(own), Some(team)) if team.as_ref() != Some(own) => {
                let message = "`organization_id` is not that of the key's team.";
                Err(ApiError::invalid("organization_id", message))
            }
            _ => Ok(()),
        }
    }
}

pub(super) async fn is_member(
    call: &Call,
    user_id: &str,
    team_id: Option<&str>,
    organization_id: Option<&str>,
) -> Result<bool, ApiError> {
    if let Some(team_id) = team_id {
        return Ok(call.store().team_member(team_id, user_id, call.now).await?.is_some());
    }
    let Some(organization_id) = organization_id else { return Ok(false) };
    let filter = MemberFilter {
        group_id: Some(organization_id.to_owned()),
        user_id: Some(user_id.to_owned()),
    };
    let listed = call.store().list_organization_members(&filter, Page::first(1)).await?;
    Ok(listed.total > 0)
}

/// Finds a key by itself, its hash or its id.
async fn find(call: &Call, text: &str) -> Result<Key, ApiError> {
    let key = call.store().key(&KeyRef::parse(text), call.now).await?;
    call.found(key, "key", &mask(text))
}

/// Takes what a key can be given.
fn patch(call: &Call, fields: &mut Fields) -> Result<KeyPatch, ApiError> {
    let mut patch: KeyPatch = fields.patch(&[KEY, LIMITS, BUDGET])?;
    let Some(duration) = fields.take("duration") else { return Ok(patch) };
    if !patch.expires.is_keep() {
        let message =
            "`duration` and `expires` both say how long the key is valid: give one of them.";
        return Err(ApiError::invalid("duration", message));
    }
    patch.expires = match duration {
        Value::Null => Patch::Clear,
        Value::String(text) if text == "-1" => Patch::Clear,
        Value::String(text) => {
            let period: Period = text.parse().map_err(|_| {
                fields
                    .invalid("duration", "a duration such as 30s, 24h, 30d or 1mo, or -1 for ever")
            })?;
            Patch::Set(UnixMillis(period.window_end(call.now.0, call.now.0)))
        }
        _ => return Err(fields.invalid("duration", "a text such as 30s, 24h, 30d or 1mo")),
    };
    Ok(patch)
}

/// Takes a key of the client's own choice, or makes one.
fn secret(call: &Call, fields: &mut Fields, name: &str) -> Result<NewKey, ApiError> {
    let wanted = "32 to 256 visible ASCII characters, and look neither like a hash nor like an id";
    let own = match fields.take(name) {
        None | Some(Value::Null) => return Ok(NewKey::generate(random()?)),
        Some(Value::String(own)) => own,
        Some(_) => return Err(fields.invalid(name, wanted)),
    };
    if own.len() > LONGEST_KEY || !own.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(fields.invalid(name, wanted));
    }
    if call.gateway.gate.look(Some(&own)) == Presented::Master {
        return Err(StoreError::Conflict { field: name.to_owned() }.into());
    }
    NewKey::own(own).map_err(|_| fields.invalid(name, wanted))
}

/// Says which field a key's conflict is about.
fn conflict(error: StoreError, name: &str) -> ApiError {
    match error {
        StoreError::Conflict { field } if field == "token" => {
            StoreError::Conflict { field: name.to_owned() }.into()
        }
        other => other.into(),
    }
}

/// `POST /key/generate`.
pub(super) async fn generate(call: &Call, mut fields: Fields) -> Result<Bytes, ApiError> {
    let new = secret(call, &mut fields, "key")?;
    let mut patch = patch(call, &mut fields)?;
    fields.finish()?;
    let by = call.by();
    // Keys that a user makes are the user's own, unless the user says otherwise.
    let own = call.actor.user_id().filter(|_| !call.actor.is_proxy_admin());
    if let (Patch::Keep, Some(user_id)) = (&patch.user_id, own) {
        patch.user_id = Patch::Set(user_id.to_owned());
    }
    // The key of somebody else is for models: with its user's rights its maker would have them.
    let foreign = matches!(&patch.user_id, Patch::Set(user_id) if Some(user_id.as_str()) != own);
    if foreign && patch.key_type.is_keep() && !call.actor.is_proxy_admin() {
        patch.key_type = Patch::Set(KeyType::LlmApi);
    }
    let mut key = Key {
        token: new.token,
        token_id: NewKey::token_id(random()?),
        key_name: new.key_name,
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
        budget: Budget::new(call.now),
        last_used_at: None,
        created_at: call.now,
        created_by: by.clone(),
        updated_at: call.now,
        updated_by: by.clone(),
    };
    patch.apply(&mut key, by, call.now);
    let place = Place::of(call, &key).await?;
    call.allow(Action::Create, &place.target(&key))?;
    place.check_organization(&key)?;
    call.store().insert_key(&key).await.map_err(|error| conflict(error, "key"))?;
    call.forget(&Change::Key(key.token.clone()));
    let entry = Entry {
        action: "created",
        table: "key",
        object_id: &key.token_id,
        before: None,
        after: shown(&key),
    };
    call.audit(entry).await?;
    Ok(json(&Secret { key: new.secret.expose(), object: &key }))
}

/// `POST /key/update`.
pub(super) async fn update(call: &Call, mut fields: Fields) -> Result<Bytes, ApiError> {
    let name = fields.need(&["key", "token", "token_id"])?;
    let patch = patch(call, &mut fields)?;
    fields.finish()?;
    let before = find(call, &name).await?;
    let place = Place::of(call, &before).await?;
    call.allow(Action::Change, &place.target(&before))?;
    let mut after = before.clone();
    patch.clone().apply(&mut after, None, call.now);
    let whose = |key: &Key| {
        (key.user_id.clone(), key.team_id.clone(), key.organization_id.clone(), key.key_type)
    };
    if whose(&before) != whose(&after) {
        let next = Place::of(call, &after).await?;
        call.allow(Action::Create, &next.target(&after))?;
        let leaves =
            place.organization_id.is_some() && place.organization_id != next.organization_id;
        if leaves && !call.actor.is_proxy_admin() {
            return Err(ApiError::not_permitted());
        }
        next.check_organization(&after)?;
    }
    let key = KeyRef::TokenId(before.token_id);
    changed(call, "updated", &key, patch).await
}

/// `POST /key/block` and `/key/unblock`.
pub(super) async fn set_blocked(
    call: &Call,
    mut fields: Fields,
    blocked: bool,
) -> Result<Bytes, ApiError> {
    let name = fields.need(&["key", "token", "token_id"])?;
    fields.finish()?;
    let key = find(call, &name).await?;
    let place = Place::of(call, &key).await?;
    call.allow(Action::Limit, &place.target(&key))?;
    let patch = KeyPatch { blocked: Patch::Set(blocked), ..KeyPatch::default() };
    let action = if blocked { "blocked" } else { "unblocked" };
    changed(call, action, &KeyRef::TokenId(key.token_id), patch).await
}

pub(super) async fn changed(
    call: &Call,
    action: &'static str,
    key: &KeyRef,
    patch: KeyPatch,
) -> Result<Bytes, ApiError> {
    let updated = call.store().update_key(key, patch, call.by(), call.now).await?;
    call.forget(&Change::Key(updated.after.token.clone()));
    let entry = Entry {
        action,
        table: "key",
        object_id: &updated.after.token_id,
        before: shown(&updated.before),
        after: shown(&updated.after),
    };
    call.audit(entry).await?;
    Ok(json(&updated.after))
}

/// `POST /key/regenerate`: the old secret is worth nothing from then on.
pub(super) async fn regenerate(call: &Call, mut fields: Fields) -> Result<Bytes, ApiError> {
    let name = fields.need(&["key", "token", "token_id"])?;
    let new = secret(call, &mut fields, "new_key")?;
    fields.finish()?;
    let key = find(call, &name).await?;
    let place = Place::of(call, &key).await?;
    call.allow(Action::Create, &place.target(&key))?;
    if key.token == new.token {
        return Err(StoreError::Conflict { field: "new_key".to_owned() }.into());
    }
    let id = KeyRef::TokenId(key.token_id);
    let updated = call
        .store()
        .regenerate_key(&id, new.token, new.key_name, call.by(), call.now)
        .await
        .map_err(|error| conflict(error, "new_key"))?;
    for key in [&updated.before, &updated.after] {
        call.forget(&Change::Key(key.token.clone()));
    }
    let entry = Entry {
        action: "regenerated",
        table: "key",
        object_id: &updated.after.token_id,
        before: shown(&updated.before),
        after: shown(&updated.after),
    };
    call.audit(entry).await?;
    Ok(json(&Secret { key: new.secret.expose(), object: &updated.after }))
}

/// `POST /key/delete`.
pub(super) async fn delete(call: &Call, mut fields: Fields) -> Result<Bytes, ApiError> {
    let (field, aliases) = fields.take_any(&["key_aliases", "key_alias"])?;
    let keys = match aliases {
        None | Some(Value::Null) => {
            let names = fields.need_some(&["keys", "key"])?;
            fields.finish()?;
            let mut keys = Vec::new();
            for name in &names {
                keys.push(find(call, name).await?);
            }
            keys
        }
        Some(value) => {
            let mut given = Fields::of_one(field, value);
            let aliases = given.need_some(&["key_aliases", "key_alias"])?;
            fields.finish()?;
            let mut keys = Vec::new();
            for alias in aliases {
                let key = call.store().key(&KeyRef::Alias(alias.clone()), call.now).await?;
                keys.push(call.found(key, "key", &alias)?);
            }
            keys
        }
    };
    for key in &keys {
        let place = Place::of(call, key).await?;
        call.allow(Action::Delete, &place.target(key))?;
    }
    let deleted = delete_all(call, keys).await?;
    #[derive(Serialize)]
    struct Deleted {
        deleted_keys: Vec<String>,
    }
    Ok(json(&Deleted { deleted_keys: deleted }))
}

/// Deletes keys that the caller may delete, and returns their ids.
pub(super) async fn delete_all(call: &Call, keys: Vec<Key>) -> Result<Vec<String>, ApiError> {
    let mut ids: Vec<String> = keys.into_iter().map(|key| key.token_id).collect();
    ids.sort();
    ids.dedup();
    let refs: Vec<KeyRef> = ids.iter().cloned().map(KeyRef::TokenId).collect();
    let deleted = call.store().delete_keys(&refs).await?;
    for key in &deleted {
        call.forget(&Change::Key(key.token.clone()));
    }
    for key in &deleted {
        let entry = Entry {
            action: "deleted",
            table: "key",
            object_id: &key.token_id,
            before: shown(key),
            after: None,
        };
        call.audit(entry).await?;
    }
    Ok(ids)
}

/// `GET /key/info`: without a parameter, the key that was presented.
pub(super) async fn info(call: &Call, mut query: Fields) -> Result<Bytes, ApiError> {
    let name = query.text("key")?;
    let name = match (name, call.actor.token_id()) {
        (Some(name), _) => name,
        (None, Some(own)) => own.to_owned(),
        (None, None) => return Err(query.missing("key")),
    };
    query.finish()?;
    let key = find(call, &name).await?;
    let place = Place::of(call, &key).await?;
    call.allow(Action::Read, &place.target(&key))?;
    Ok(json(&key))
}

/// `GET /key/list`: of those that the caller may see.
pub(super) async fn list(call: &Call, mut query: Fields) -> Result<Bytes, ApiError> {
    let mut filter = KeyFilter {
        user_id: query.text("user_id")?,
        team_id: query.text("team_id")?,
        organization_id: query.text("organization_id")?,
        key_alias: query.text("key_alias")?,
        search: query.text("search")?,
        ..KeyFilter::default()
    };
    let paging = query.paging()?;
    query.finish()?;
    filter.within = call.within()?;
    let listed = paging.list(|page| call.store().list_keys(&filter, page, call.now)).await?;
    Ok(json(&listed))
}
