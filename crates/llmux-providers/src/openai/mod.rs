//! OpenAI's dialect: what its replies, streams and errors mean, and how others' become its own.

mod answer;
mod chat;
mod embeddings;
mod fault;
mod rejection;
mod relay;
mod reply;
mod translation;

pub use answer::{AnswerHead, write_response};
pub use chat::read_request;
pub use embeddings::{parse_embeddings, write_embeddings};
pub use rejection::Rejection;
pub use relay::Relay;
pub use reply::Reply;
pub use translation::Translation;
