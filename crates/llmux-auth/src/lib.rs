//! Who may call an LLM gateway, and the proof that a call was admitted.
//!
//! The gateway has two planes. The data plane (models) is open or needs a key; the management plane always needs one.
//! [`Gate`] decides, and [`Admitted`] is the only way to an upstream: only [`Gate::admit`] makes one.
//!
//! ```compile_fail
//! // There is no other way to make the proof.
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

pub use allow::AllowLists;
pub use gate::{Admitted, Caller, Denied, Gate, Plane, Presented, Request};
pub use period::{InvalidPeriod, Period};
pub use tenant::{DefaultLimits, Refused, Tenant, member_ids, spent};
