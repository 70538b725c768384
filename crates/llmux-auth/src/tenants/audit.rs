use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::UnixMillis;

/// One management write. The writer removes secrets before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRecord {
    /// Its id.
    pub id: String,
    /// When it was done.
    pub updated_at: UnixMillis,
    /// The user who did it, or a word for the master key's holder.
    pub changed_by: String,
    /// The id of the key that was used.
    pub changed_by_api_key: Option<String>,
    /// What was done, for example `created`.
    pub action: String,
    /// To which kind of object, for example `key`.
    pub table_name: String,
    /// To which one.
    pub object_id: String,
    /// The request that asked for it.
    pub request_id: Option<String>,
    /// The object before.
    pub before_value: Option<Value>,
    /// What was written.
    pub updated_values: Option<Value>,
}
