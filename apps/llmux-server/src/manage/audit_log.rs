//! `GET /audit/logs`: who changed what, for those who may read everything.

use bytes::Bytes;
use llmux_auth::roles::{Action, Actor, Target};
use llmux_auth::store::{AuditFilter, Store};
use llmux_auth::tenants::UnixMillis;

use super::fields::Fields;
use super::json;
use super::spend::days;
use crate::error::ApiError;

/// Lists changes, newest first.
pub(super) async fn logs(
    store: &dyn Store,
    actor: &Actor,
    mut query: Fields,
    now: UnixMillis,
) -> Result<Bytes, ApiError> {
    if !actor.may(Action::Read, &Target::Gateway) {
        return Err(ApiError::not_permitted());
    }
    let (first, last) = days(&mut query, now)?;
    let filter = AuditFilter {
        changed_by: query.text_of(&["changed_by", "actor_id"])?,
        action: query.text("action")?,
        table_name: query.text_of(&["table_name", "object_type"])?,
        object_id: query.text("object_id")?,
        start: Some(first.start()),
        end: Some(last.plus(1).start()),
    };
    let paging = query.paging()?;
    query.finish()?;
    Ok(json(&paging.list(|page| store.list_audit(&filter, page)).await?))
}
