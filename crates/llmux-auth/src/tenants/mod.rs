//! Whose calls the gateway carries: keys, and the teams, users and organizations they belong to.
//!
//! Field names in JSON are those of LiteLLM. In all limits and budgets `null` means no limit and `0` means nothing.
//! Amounts are US dollars in JSON and whole nano-dollars inside; times are RFC 3339 in JSON and Unix milliseconds inside.

mod audit;
mod credential;
mod entities;
mod limits;
mod patch;
mod patches;
mod time;
mod usage;

#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(crate) use credential::hex;

pub use crate::period::Period;
pub use audit::AuditRecord;
pub use credential::{KeyHash, KeyRef, NewKey, ShortKey, mask};
pub use entities::{
    Key, KeyType, MemberRole, Organization, OrganizationMember, OrganizationRole, Role, Team,
    TeamMember, User,
};
pub use limits::{Budget, Limits, ModelBudget, ModelSpend};
pub use llmux_types::Money;
pub use patch::Patch;
pub use patches::{
    KeyPatch, OrganizationMemberPatch, OrganizationPatch, TeamMemberPatch, TeamPatch, UserPatch,
};
pub use time::{Day, DayError, TimeError, UnixMillis};
pub use usage::{SpendRow, UsageRecord, UsageStatus, UsageTotals};
