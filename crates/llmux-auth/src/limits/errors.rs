//! Why something does not fit, and how much is left.

use std::time::Duration;

use super::Scope;

/// Which limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Requests per minute.
    Requests,
    /// Tokens per minute.
    Tokens,
    /// Requests at the same time.
    Parallel,
}

impl Limit {
    /// Returns the name used in errors and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Requests => "requests per minute",
            Self::Tokens => "tokens per minute",
            Self::Parallel => "parallel requests",
        }
    }
}

/// A request does not fit into a limit. Nothing was counted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the limit of {value} {} of the {scope} is reached", .limit.as_str())]
pub struct Exceeded {
    /// The scope that has to wait longest.
    pub scope: Scope,
    /// The limit.
    pub limit: Limit,
    /// Its value.
    pub value: u64,
    /// How long until the request fits into all rates of all scopes, if nothing else comes. `None` if nobody knows:
    /// a slot is free when another request ends.
    pub retry_after: Option<Duration>,
    /// The limit is 0: waiting is in vain.
    pub permanent: bool,
    /// What is left, for the headers of the answer.
    pub standing: Standing,
}

/// What is left of the tightest limits of a request's scopes: those with the least left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Of the requests per minute; `None` if no scope limits them.
    pub requests: Option<Quota>,
    /// Of the tokens per minute; `None` if no scope limits them.
    pub tokens: Option<Quota>,
}

/// What is left of a limit per minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// The limit.
    pub limit: u64,
    /// What is left of it.
    pub remaining: u64,
    /// How long until all of it is, if nothing else comes.
    pub reset: Duration,
}

impl Quota {
    /// Keeps the tighter one.
    pub(super) fn tighten(slot: &mut Option<Self>, other: Self) {
        let key = |quota: &Self| (quota.remaining, quota.limit);
        if slot.as_ref().is_none_or(|held| key(&other) < key(held)) {
            *slot = Some(other);
        }
    }
}

/// Money cannot be reserved. Nothing was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MoneyRefused {
    /// A budget does not have it.
    #[error(transparent)]
    Exceeded(#[from] BudgetExceeded),
    /// It is not known what was spent: load it with [`Limiter::load`](super::Limiter::load) and ask again.
    #[error("the spend of {} scopes is not loaded", .0.len())]
    Unknown(Vec<Unloaded>),
}

/// A budget does not have what an attempt may cost.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the budget of the {scope} {}", self.fault())]
pub struct BudgetExceeded {
    /// The first such scope, in the order in which they were named.
    pub scope: Scope,
    /// The budget, in nano-dollars.
    pub max_nanos: i64,
    /// What was spent of it in this window, in nano-dollars.
    pub settled_nanos: i64,
    /// What attempts that are under way may cost, in nano-dollars.
    pub reserved_nanos: i64,
    /// What the refused attempt may cost at most, in nano-dollars.
    pub asked_nanos: i64,
    /// When the next window starts, in milliseconds since 1970; `None` if the budget has no period.
    pub resets_at_ms: Option<i64>,
}

impl BudgetExceeded {
    /// Tells whether all of the budget is spent, so that nothing fits, whatever it costs. Otherwise a cheaper attempt may
    /// fit, or this one when those under way turn out to be cheaper than they may be.
    pub const fn is_used_up(&self) -> bool {
        self.settled_nanos >= self.max_nanos
    }

    const fn fault(&self) -> &'static str {
        if self.is_used_up() {
            "is used up"
        } else {
            "does not have room for what the call may cost"
        }
    }
}

/// A scope whose spend must be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unloaded {
    /// The scope.
    pub scope: Scope,
    /// The start of the window whose spend is wanted, in milliseconds since 1970.
    pub window_start_ms: i64,
}
