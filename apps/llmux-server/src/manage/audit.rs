//! Writes down what was changed, by whom and from what, without secrets.

use llmux_auth::store::StoreError;
use llmux_auth::tenants::AuditRecord;
use serde::Serialize;
use serde_json::Value;

use super::{Call, new_id};
use crate::error::{ApiError, chain};

/// One change.
#[derive(Debug)]
pub(crate) struct Entry<'a> {
    /// What was done.
    pub(crate) action: &'static str,
    /// To which kind of object.
    pub(crate) table: &'static str,
    /// To which one.
    pub(crate) object_id: &'a str,
    /// The object before.
    pub(crate) before: Option<Value>,
    /// The object after, or what was written.
    pub(crate) after: Option<Value>,
}

impl Call {
    /// Appends to the audit log.
    pub(crate) async fn audit(&self, entry: Entry<'_>) -> Result<(), ApiError> {
        let Entry { action, table, object_id, before, after } = entry;
        let record = AuditRecord {
            id: new_id()?,
            updated_at: self.now,
            changed_by: self.actor.name().to_owned(),
            changed_by_api_key: self.actor.token_id().map(str::to_owned),
            action: action.to_owned(),
            table_name: table.to_owned(),
            object_id: object_id.to_owned(),
            request_id: Some(self.request_id.clone()),
            before_value: before,
            updated_values: after,
        };
        self.store().append_audit(&record).await.map_err(|error| {
            tracing::error!(
                error = %chain(&error), action, table, object_id, changed_by = record.changed_by,
                "a change was made and could not be written to the audit log"
            );
            ApiError::not_audited(matches!(error, StoreError::Unavailable { .. }))
        })
    }
}

/// An object as it stands in the audit log: without what names a key's secret.
pub(crate) fn shown(object: &impl Serialize) -> Option<Value> {
    let mut value = serde_json::to_value(object).ok()?;
    if let Value::Object(map) = &mut value {
        map.remove("token");
    }
    Some(value)
}
