//! The seam for counters outside of this process.

use std::future::Future;

use super::{Limits, Scope};

/// Where counters live when several processes share them.
///
/// Two calls are enough, and each is one step in the store: one script over the counters of all scopes. What is
/// reserved is a lease there that expires, since a process may die; the store's clock decides, not the caller's.
/// Requests and money differ in the demand only: a request asks for `{requests: 1, tokens, slots: 1}` once, each of its
/// attempts for `{nanos}`.
///
/// [`Limiter`](super::Limiter) needs neither futures nor leases; this is how it fits:
/// ```
/// use std::future::{Future, ready};
/// use std::sync::Arc;
/// use llmux_auth::limits::{
///     Actual, Asked, CounterStore, Demand, Exceeded, Limiter, Limits, MoneyRefused, MoneyReservation, Reservation, Scope,
/// };
///
/// /// The limiter at one moment. A server reads its clock here.
/// struct Local { limiter: Arc<Limiter>, now: fn() -> std::time::Instant, wall_ms: fn() -> i64 }
///
/// enum Held { Request(Reservation), Money(MoneyReservation) }
/// enum Refused { Limit(Box<Exceeded>), Money(MoneyRefused) }
///
/// impl CounterStore for Local {
///     type Held = Held;
///     type Refused = Refused;
///
///     fn reserve(&self, scopes: &[(Scope, Limits)], asked: Asked) -> impl Future<Output = Result<Held, Refused>> + Send {
///         let scopes = self.limiter.scopes(scopes);
///         ready(match asked {
///             Asked::Request { tokens } => self.limiter.reserve(&scopes, Demand { tokens }, (self.now)())
///                 .map(Held::Request).map_err(Refused::Limit),
///             Asked::Attempt { nanos } => self.limiter.reserve_money(&scopes, nanos, (self.wall_ms)())
///                 .map(Held::Money).map_err(Refused::Money),
///         })
///     }
///
///     fn settle(&self, held: Held, actual: Actual) -> impl Future<Output = ()> + Send {
///         match (held, actual) {
///             (Held::Request(held), Actual::Tokens(tokens)) => held.settle_tokens(tokens, (self.now)()),
///             (Held::Request(held), Actual::Nothing) => held.refund(),
///             (Held::Money(held), Actual::Nanos(nanos)) => held.settle(nanos),
///             _ => {} // Dropped: slots and money go back, the estimate of the tokens stays.
///         }
///         ready(())
///     }
/// }
/// ```
pub trait CounterStore: Send + Sync {
    /// What is reserved. Lost without [`settle`](Self::settle), it ends by itself: here by `Drop`, elsewhere as a lease
    /// that is renewed while the request lives.
    type Held: Send;
    /// Why something does not fit.
    type Refused: Send;

    /// Reserves in all scopes, or in none. Cancel-safe: a reservation whose future was dropped ends by itself.
    ///
    /// # Errors
    /// `Refused` if it does not fit; nothing is counted then.
    fn reserve(
        &self,
        scopes: &[(Scope, Limits)],
        asked: Asked,
    ) -> impl Future<Output = Result<Self::Held, Self::Refused>> + Send;

    /// Ends a reservation with what was used. Done at most once for each; a store that cannot be reached keeps it
    /// in its own queue.
    fn settle(&self, held: Self::Held, actual: Actual) -> impl Future<Output = ()> + Send;
}

/// What is asked of a [`CounterStore`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// A place for a request, its tokens and a slot.
    Request {
        /// The estimate of the tokens.
        tokens: u64,
    },
    /// Money for an attempt.
    Attempt {
        /// Nano-dollars.
        nanos: i64,
    },
}

/// What was used of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Actual {
    /// A request used so many tokens.
    Tokens(u64),
    /// An attempt cost so many nano-dollars.
    Nanos(i64),
    /// Nothing: no vendor saw it.
    Nothing,
    /// Nobody knows.
    Unknown,
}
