//! Limits and budgets, enforced exactly within one process.
//!
//! A request has several [`Scope`]s: its key, user, team and so on, each for all models or for one. [`Limiter::scopes`]
//! finds their counters; [`Limiter::reserve`] takes a place, tokens and a slot in all of them or in none, once for a
//! request; [`Limiter::reserve_money`] takes money in all of them or in none, once for each attempt. What is refused is
//! counted nowhere. Both return a guard that gives back when it is dropped, so that nothing leaks, however a request
//! ends. There is no clock here and no I/O: the monotonic time rules the rates, the wall clock the budgets' windows.
//!
//! **Rates** are sliding windows with a resolution of a second: no 60 seconds, wherever they begin, hold more requests
//! than the limit, nor more tokens, but for what requests used above their estimates.
//!
//! **Budgets.** The spend of a window is what was settled; admission looks at what was settled and what is reserved.
//! An attempt is charged to the window in which it was reserved: it was admitted to that budget, and the next window
//! starts with all its money. The database must do the same ([`MoneyReservation::at_ms`]).
//!
//! **Where the spend comes from.** A scope that is first seen has spent an unknown amount, and gets no money
//! ([`MoneyRefused::Unknown`]) until [`Limiter::load`] brings what the database has. From then on the limiter knows
//! better than the database, which lags behind by what is not written yet: later answers are ignored. What was settled
//! here and is not yet reported with [`Limiter::recorded`] counts on top of what the database says, and keeps the scope
//! in memory; so a scope that was forgotten and comes back finds all its spend in the database. A process that starts
//! must write what it kept on disk before it loads anything. If a budget gets another period or start, its window is
//! loaded anew; reservations stay.
//!
//! ```
//! use std::time::Instant;
//! use llmux_auth::limits::{Budget, Demand, Limiter, Limits, MoneyRefused, Scope, ScopeKind};
//!
//! # #[expect(clippy::disallowed_methods)]
//! # fn clock() -> (Instant, i64) { (Instant::now(), 1_700_000_000_000) }
//! # fn spend_in_database(_: &Scope, _: i64) -> i64 { 0 }
//! let (now, wall_ms) = clock();
//! let limiter = Limiter::new(now);
//! let budget = Budget { max_nanos: Some(5_000), soft_nanos: None, period: "1mo".parse().ok(), started_ms: wall_ms };
//! let limits = Limits { requests_per_minute: Some(60), budget: Some(budget), ..Limits::default() };
//! let scopes = limiter.scopes(&[(Scope::new(ScopeKind::Key, "k1"), limits)]);
//!
//! let request = limiter.reserve(&scopes, Demand { tokens: 900 }, now)?;
//! assert_eq!(request.standing().requests.map(|quota| quota.remaining), Some(59));
//! let attempt = match limiter.reserve_money(&scopes, 3_000, wall_ms) {
//!     Err(MoneyRefused::Unknown(unloaded)) => {
//!         for it in unloaded {
//!             limiter.load(&it.scope, it.window_start_ms, spend_in_database(&it.scope, it.window_start_ms));
//!         }
//!         limiter.reserve_money(&scopes, 3_000, wall_ms)
//!     }
//!     other => other,
//! }?;
//! attempt.settle(2_500);
//! request.settle_tokens(700, now);
//! assert!(limiter.reserve_money(&scopes, 2_501, wall_ms).is_err());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod errors;
mod limiter;
mod purse;
mod rates;
mod reservation;
mod scope;
mod store;
#[cfg(test)]
mod tests;

pub use errors::{BudgetExceeded, Exceeded, Limit, MoneyRefused, Quota, Standing, Unloaded};
pub use limiter::{Counted, Demand, Limiter, Scopes};
pub use reservation::{MoneyReservation, Reservation};
pub use scope::{Budget, Limits, Scope, ScopeKind};
pub use store::{Actual, Asked, CounterStore};
