//! OpenAI's dialect: what its replies, streams and errors mean.

mod embeddings;
mod rejection;
mod relay;
mod reply;

pub use embeddings::{parse_embeddings, write_embeddings};
pub use rejection::Rejection;
pub use relay::{Progress, Relay, StreamFailure};
pub use reply::{Reply, Summary};
