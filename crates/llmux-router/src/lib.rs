//! Chooses among the deployments of a model and decides on retries.
//!
//! Everything here is a value that takes the time and the chance as arguments: no clock, no random source, no
//! runtime, no lock. A [`Router`] holds the deployments of one model; [`RetryPolicy`] says what follows a failure.
//!
//! ```
//! use std::time::{Duration, Instant};
//! use llmux_router::{Deployment, Outcome, Request, Router};
//!
//! # #[expect(clippy::disallowed_methods, reason = "the example plays the caller, who owns the clock")]
//! # fn now() -> Instant { Instant::now() }
//! let mut router = Router::new([Deployment::new("openai/gpt-4o", 3), Deployment::new("azure/gpt-4o", 1)]);
//! let pick = router.pick(&Request { random: 42, ..Request::default() }, now()).expect("two are free");
//! println!("calling {}", router.deployment(pick.index()).id());
//! router.record(pick, Outcome::Success, now());
//! ```
#![forbid(unsafe_code)]

mod retry;
mod router;

pub use retry::{Failure, RetryPolicy, Step};
pub use router::{Deployment, NoRoute, Outcome, Pick, Request, Router};
