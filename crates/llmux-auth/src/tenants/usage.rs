use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::entities::named;
use super::{Money, UnixMillis};

named! {
    /// How an attempt ended.
    UsageStatus {
        /// The client was answered.
        Success = "success",
        /// It failed, perhaps after a part of the answer.
        Failure = "failure",
        /// The client left.
        Cancelled = "cancelled",
    }
}

/// What one attempt at an upstream, or one answer from the cache, used and cost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageRecord {
    /// The gateway's own id of the record: a record counts once, however often it is handed in.
    pub id: String,
    /// The request it belongs to.
    pub request_id: String,
    /// When the attempt began. Its day and its budgets' windows follow from it.
    pub start_time: UnixMillis,
    /// When it ended.
    pub end_time: UnixMillis,
    /// The key's id.
    pub token_id: Option<String>,
    /// The key's team.
    pub team_id: Option<String>,
    /// The key's user.
    pub user_id: Option<String>,
    /// The key's or team's organization.
    pub organization_id: Option<String>,
    /// The end user that the client named.
    pub end_user: Option<String>,
    /// The configured name of the model.
    pub model: String,
    /// The upstream's name of the model.
    pub upstream_model: Option<String>,
    /// The deployment that was called.
    pub deployment_id: Option<String>,
    /// The provider that was called.
    pub provider: Option<String>,
    /// The kind of call, for example `chat_completion`.
    pub call_type: String,
    /// Which attempt of its request this is, from 1 on; 0 if the cache answered. A request is counted with its first, or
    /// with its answer from the cache.
    pub attempt: u32,
    /// How it ended.
    pub status: UsageStatus,
    /// The HTTP status that the upstream gave.
    pub status_code: Option<u16>,
    /// The code of its error.
    pub error_code: Option<String>,
    /// Whether the cache answered.
    pub cache_hit: bool,
    /// Whether the answer was streamed.
    pub stream: bool,
    /// Tokens of the prompt, with cached ones.
    pub prompt_tokens: u64,
    /// Tokens of the answer, with reasoning.
    pub completion_tokens: u64,
    /// All tokens.
    pub total_tokens: u64,
    /// Tokens of the prompt read from the upstream's cache.
    pub cached_tokens: u64,
    /// Tokens of the prompt written to the upstream's cache.
    pub cache_write_tokens: u64,
    /// Tokens of reasoning.
    pub reasoning_tokens: u64,
    /// What it cost.
    pub spend: Money,
    /// Milliseconds until the first output.
    pub time_to_first_token_ms: Option<u64>,
    /// The tags of the request.
    #[serde(default)]
    pub request_tags: Vec<String>,
    /// Further details.
    #[serde(default)]
    pub metadata: Map<String, Value>,
}

/// Sums over usage records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageTotals {
    /// Requests: records of a first attempt, or of an answer from the cache.
    pub api_requests: u64,
    /// Records.
    pub attempts: u64,
    /// Records that are not a success.
    pub failed_attempts: u64,
    /// Records of answers from the cache.
    pub cache_hits: u64,
    /// Tokens of prompts.
    pub prompt_tokens: u64,
    /// Tokens of answers.
    pub completion_tokens: u64,
    /// All tokens.
    pub total_tokens: u64,
    /// What they cost.
    pub spend: Money,
}

/// The sums of one key, team, user, organization, model, provider or day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpendRow {
    /// Its id or name, or the day; empty for what belongs to none.
    pub name: String,
    /// Its sums.
    #[serde(flatten)]
    pub totals: UsageTotals,
}
