#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod chat;
mod cost;
mod decimal;
pub mod embeddings;
mod failure;
mod money;
mod price_table;
mod prices;
mod pricing;
mod secret;
mod usage;

pub use cost::{Cost, Parts, Unpriced, cost, estimate};
pub use failure::{ErrorEnvelope, ErrorObject, FailureClass};
pub use money::{Money, MoneyError};
pub use price_table::{ModelPrices, PriceProblem, PriceTable};
pub use prices::{Capabilities, ModelInfo, lookup, model_info};
pub use pricing::{Prices, Unit, pico_dollars};
pub use secret::Secret;
pub use usage::{OpenAiUsage, SearchContext, ServiceTier, Usage, lenient_count};
