#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod chat;
pub mod embeddings;
mod failure;
mod prices;
mod secret;
mod usage;

pub use failure::{ErrorEnvelope, ErrorObject, FailureClass};
pub use prices::{Capabilities, ModelInfo, lookup, model_info};
pub use secret::Secret;
pub use usage::Usage;
