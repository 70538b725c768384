//! OpenAI's dialect: what its replies, streams and errors mean.

mod rejection;
mod relay;
mod reply;

pub use rejection::Rejection;
pub use relay::{Progress, Relay, StreamFailure};
pub use reply::{Reply, Summary};
