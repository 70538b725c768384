#![doc = include_str!("../README.md")]
//!
//! ## The proof
//!
//! [`Admitted`] is the only way to an upstream, and only [`Gate::admit`] makes one.
//!
//! ```compile_fail
//! let forged = llmux_auth::Admitted { caller: llmux_auth::Caller::Anonymous };
//! ```
#![forbid(unsafe_code)]

mod allow;
mod gate;
pub mod limits;
mod origin;
mod period;
pub mod roles;
pub mod store;
mod tenant;
pub mod tenants;

pub use gate::{Admitted, Caller, Denied, Gate, Plane, Presented, Request};
pub use period::{InvalidPeriod, Period};
pub use tenant::{DefaultLimits, Refused, Tenant, member_ids, spent};
