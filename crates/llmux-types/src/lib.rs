//! Plain data shared by the LLMux crates: no I/O, no clock, no environment.
#![forbid(unsafe_code)]

mod secret;

pub use secret::Secret;
