//! The mock as its users meet it: over HTTP, in each dialect, with each fault.
#![expect(clippy::unwrap_used, reason = "a step that fails fails its test")]

mod client;
mod faults;
mod program;
mod shapes;
mod streams;
