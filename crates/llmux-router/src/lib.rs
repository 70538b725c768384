#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod call;
mod choose;
mod config;
mod decision;
mod deployment;
mod fallback;
mod health;
mod record;
mod retry;
mod router;
mod speed;
mod strategy;
mod window;

pub use call::{Measured, Outcome, Pick, Request};
pub use config::{Builtin, Config, TagMatch, UnknownStrategy};
pub use decision::{Considered, Decision, Excluded, Exclusion, NoRoute, Snapshot, Why};
pub use deployment::{Deployment, Price};
pub use fallback::{FallbackKind, FallbackLists, FallbackLoop, Fallbacks};
pub use health::{CooldownReason, Cooldowns};
pub use llmux_types::FailureClass;
pub use retry::{Failure, Left, RetryPolicy, Step};
pub use router::Router;
pub use strategy::{Candidate, Draw, Measure, Strategy};
