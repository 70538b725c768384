//! Whom a limit applies to, and which.

use std::fmt;
use std::sync::Arc;

use crate::Period;

/// What a scope is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ScopeKind {
    /// A key.
    Key,
    /// A user.
    User,
    /// A team.
    Team,
    /// One user in one team. The id names both.
    TeamMember,
    /// An organization.
    Organization,
    /// The end user that a client names.
    EndUser,
}

impl ScopeKind {
    /// Returns the name used in errors and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::User => "user",
            Self::Team => "team",
            Self::TeamMember => "team_member",
            Self::Organization => "organization",
            Self::EndUser => "end_user",
        }
    }
}

/// Whom a limit applies to: a key, a user and so on, for all models or for one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Scope {
    /// What it is.
    pub kind: ScopeKind,
    /// Its id, never the plaintext of a key.
    pub id: Arc<str>,
    /// The model, if the limits are those for one model.
    pub model: Option<Arc<str>>,
}

impl Scope {
    /// Makes the scope of all models.
    pub fn new(kind: ScopeKind, id: impl Into<Arc<str>>) -> Self {
        Self { kind, id: id.into(), model: None }
    }

    /// Makes the scope of one model of this scope.
    #[must_use]
    pub fn of_model(&self, model: impl Into<Arc<str>>) -> Self {
        Self { model: Some(model.into()), ..self.clone() }
    }
}

/// The kind and the model, without the id: fit for the eyes of clients.
impl fmt::Display for Scope {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.kind.as_str())?;
        match &self.model {
            Some(model) => write!(formatter, " (model {model})"),
            None => Ok(()),
        }
    }
}

/// The limits of a scope. `None` is no limit, 0 lets nothing through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Requests in any 60 seconds.
    pub requests_per_minute: Option<u64>,
    /// Tokens in any 60 seconds.
    pub tokens_per_minute: Option<u64>,
    /// Requests at the same time.
    pub parallel_requests: Option<u64>,
    /// Money. `None`: the scope's spend is not followed.
    pub budget: Option<Budget>,
}

impl Limits {
    /// Tells whether there is nothing to enforce.
    pub const fn is_empty(&self) -> bool {
        self.requests_per_minute.is_none()
            && self.tokens_per_minute.is_none()
            && self.parallel_requests.is_none()
            && self.budget.is_none()
    }
}

/// A budget: how much money a scope may spend in each of its windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// The most that may be spent, in nano-dollars. `None` is no limit, 0 lets nothing through.
    pub max_nanos: Option<i64>,
    /// The spend from which on a warning is due, in nano-dollars.
    pub soft_nanos: Option<i64>,
    /// The length of the windows; `None` is one window without an end.
    pub period: Option<Period>,
    /// When the first window started, in milliseconds since 1970.
    pub started_ms: i64,
}

impl Budget {
    /// Returns start (inclusive) and end (exclusive) of the window that `at_ms` is in, in milliseconds since 1970.
    pub fn window(&self, at_ms: i64) -> (i64, i64) {
        match self.period {
            Some(period) => period.window(self.started_ms, at_ms),
            None => (self.started_ms, i64::MAX),
        }
    }
}
