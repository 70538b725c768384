//! The management API: keys, teams, users and organizations, with the field names of LiteLLM's proxy.
//!
//! A call is carried out to its end even if its client leaves: what was changed is in the audit log.

mod activity;
mod audit;
mod audit_log;
mod described;
mod fields;
mod keys;
mod organizations;
mod spend;
mod teams;
mod users;

use std::sync::Arc;

use bytes::Bytes;
use http::{Response, StatusCode};
use llmux_auth::Caller;
use llmux_auth::roles::{Action, Actor, Reach, Target};
use llmux_auth::store::{Change, Store, StoreError, Within};
use llmux_auth::tenants::UnixMillis;
use serde::Serialize;

use crate::body::Reply;
use crate::error::ApiError;
use crate::exchange::Exchange;
use crate::gateway::Gateway;
use crate::routes::json_text_response;
use crate::tenants::wall_clock;
pub(crate) use audit::Entry;
pub(crate) use described::{operation, schemas};
use fields::Fields;

/// What a route does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    KeyGenerate,
    KeyUpdate,
    KeyDelete,
    KeyBlock,
    KeyUnblock,
    KeyRegenerate,
    KeyInfo,
    KeyList,
    TeamNew,
    TeamUpdate,
    TeamDelete,
    TeamBlock,
    TeamUnblock,
    TeamMemberAdd,
    TeamMemberDelete,
    TeamMemberUpdate,
    TeamInfo,
    TeamList,
    UserNew,
    UserUpdate,
    UserDelete,
    UserInfo,
    UserList,
    OrganizationNew,
    OrganizationUpdate,
    OrganizationDelete,
    OrganizationMemberAdd,
    OrganizationMemberUpdate,
    OrganizationMemberDelete,
    OrganizationInfo,
    OrganizationList,
    OrganizationMembers,
    SpendLogs,
    SpendKeys,
    SpendTeams,
    SpendUsers,
    GlobalActivity,
    GlobalModels,
    GlobalProviders,
    AuditLogs,
}

impl Operation {
    /// Tells whether there is a method of HTTP that means what is done, besides `POST`, which always does.
    pub(crate) const fn has_own_method(self) -> bool {
        matches!(
            self,
            Self::OrganizationUpdate
                | Self::OrganizationDelete
                | Self::OrganizationMemberUpdate
                | Self::OrganizationMemberDelete
        )
    }

    async fn run(self, call: &Call, query: Option<&str>, body: &[u8]) -> Result<Bytes, ApiError> {
        let body = || Fields::of_body(body);
        let query = || Fields::of_query(query);
        let (store, actor, now) = (call.store(), &call.actor, call.now);
        match self {
            Self::KeyGenerate => keys::generate(call, body()?).await,
            Self::KeyUpdate => keys::update(call, body()?).await,
            Self::KeyDelete => keys::delete(call, body()?).await,
            Self::KeyBlock => keys::set_blocked(call, body()?, true).await,
            Self::KeyUnblock => keys::set_blocked(call, body()?, false).await,
            Self::KeyRegenerate => keys::regenerate(call, body()?).await,
            Self::KeyInfo => keys::info(call, query()?).await,
            Self::KeyList => keys::list(call, query()?).await,
            Self::TeamNew => teams::new(call, body()?).await,
            Self::TeamUpdate => teams::update(call, body()?).await,
            Self::TeamDelete => teams::delete(call, body()?).await,
            Self::TeamBlock => teams::set_blocked(call, body()?, true).await,
            Self::TeamUnblock => teams::set_blocked(call, body()?, false).await,
            Self::TeamMemberAdd => teams::member_add(call, body()?).await,
            Self::TeamMemberDelete => teams::member_delete(call, body()?).await,
            Self::TeamMemberUpdate => teams::member_update(call, body()?).await,
            Self::TeamInfo => teams::info(call, query()?).await,
            Self::TeamList => teams::list(call, query()?).await,
            Self::UserNew => users::new(call, body()?).await,
            Self::UserUpdate => users::update(call, body()?).await,
            Self::UserDelete => users::delete(call, body()?).await,
            Self::UserInfo => users::info(call, query()?).await,
            Self::UserList => users::list(call, query()?).await,
            Self::OrganizationNew => organizations::new(call, body()?).await,
            Self::OrganizationUpdate => organizations::update(call, body()?).await,
            Self::OrganizationDelete => organizations::delete(call, body()?).await,
            Self::OrganizationMemberAdd => organizations::member_add(call, body()?).await,
            Self::OrganizationMemberUpdate => organizations::member_update(call, body()?).await,
            Self::OrganizationMemberDelete => organizations::member_delete(call, body()?).await,
            Self::OrganizationInfo => organizations::info(call, query()?).await,
            Self::OrganizationList => organizations::list(call, query()?).await,
            Self::OrganizationMembers => organizations::members(call, query()?).await,
            Self::SpendLogs => spend::logs(store, actor, query()?, now).await,
            Self::SpendKeys => spend::keys(store, actor, query()?, now).await,
            Self::SpendTeams => spend::teams(store, actor, query()?, now).await,
            Self::SpendUsers => spend::users(store, actor, query()?, now).await,
            Self::GlobalActivity => activity::activity(store, actor, query()?, now).await,
            Self::GlobalModels => activity::models(store, actor, query()?, now).await,
            Self::GlobalProviders => activity::providers(store, actor, query()?, now).await,
            Self::AuditLogs => audit_log::logs(store, actor, query()?, now).await,
        }
    }
}

/// Answers one call.
pub(crate) async fn call(
    gateway: &Arc<Gateway>,
    operation: Operation,
    caller: &Caller,
    query: Option<&str>,
    body: Bytes,
    exchange: &Exchange,
) -> Result<Response<Reply>, ApiError> {
    let call = Call::new(gateway, caller, exchange);
    let query = query.map(str::to_owned);
    let run = async move { operation.run(&call, query.as_deref(), &body).await };
    let text = gateway.tenants.runtime().spawn(run).await;
    let text = text.unwrap_or_else(|_| Err(ApiError::internal()))?;
    Ok(json_text_response(StatusCode::OK, text))
}

/// One call: who asks, and when.
pub(crate) struct Call {
    gateway: Arc<Gateway>,
    actor: Actor,
    request_id: String,
    now: UnixMillis,
}

impl Call {
    pub(crate) fn new(gateway: &Arc<Gateway>, caller: &Caller, exchange: &Exchange) -> Self {
        Self {
            gateway: Arc::clone(gateway),
            actor: Actor::of(caller),
            request_id: exchange.line.request_id.to_str().unwrap_or_default().to_owned(),
            now: wall_clock(),
        }
    }

    fn store(&self) -> &dyn Store {
        &**self.gateway.tenants.store()
    }

    /// Makes caches forget what was changed.
    fn forget(&self, change: &Change) {
        self.gateway.tenants.forget(change);
    }

    /// Refuses what the caller may not do.
    pub(crate) fn allow(&self, action: Action, target: &Target<'_>) -> Result<(), ApiError> {
        if self.actor.may(action, target) { Ok(()) } else { Err(ApiError::not_permitted()) }
    }

    /// Returns who is written down as the author.
    fn by(&self) -> Option<String> {
        Some(self.actor.name().to_owned()).filter(|name| !name.is_empty())
    }

    /// Returns what a list may show, unless that is everything; refuses who may see no list.
    fn within(&self) -> Result<Option<Within>, ApiError> {
        within(&self.actor)
    }

    /// Finds what an id names, or says that there is no such thing; who may not see everything must not learn that.
    fn found<T>(&self, found: Option<T>, what: &'static str, id: &str) -> Result<T, ApiError> {
        found.ok_or_else(|| {
            if self.actor.reads_everything() {
                StoreError::NotFound { what, id: id.to_owned() }.into()
            } else {
                ApiError::not_permitted()
            }
        })
    }

    /// Finds what a field refers to, like [`Call::found`].
    fn referred<T>(&self, found: Option<T>, field: &str) -> Result<T, ApiError> {
        found.ok_or_else(|| {
            if self.actor.reads_everything() {
                StoreError::MissingReference { field: field.to_owned() }.into()
            } else {
                ApiError::not_permitted()
            }
        })
    }
}

/// Returns what a caller with a user may read; `None`: everything. Others have no lists.
fn within(actor: &Actor) -> Result<Option<Within>, ApiError> {
    let reach = actor.reach();
    if reach.everything {
        return Ok(None);
    }
    let user_id = Some(reach.user_id.ok_or_else(ApiError::not_permitted)?);
    let Reach { team_ids, organization_ids, .. } = reach;
    Ok(Some(Within { user_id, team_ids, organization_ids }))
}

/// Makes the text of an answer.
fn json(body: &impl Serialize) -> Bytes {
    let text = serde_json::to_vec(body).expect("texts and numbers are always JSON");
    Bytes::from(text)
}

fn random<const N: usize>() -> Result<[u8; N], ApiError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| {
        tracing::error!(%error, "the system gives no random numbers");
        ApiError::internal()
    })?;
    Ok(bytes)
}

/// Makes an id for something that was given none.
fn new_id() -> Result<String, ApiError> {
    let bytes: [u8; 16] = random()?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
