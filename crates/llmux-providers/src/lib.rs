#![doc = include_str!("../README.md")]
//!
//! ## Where to begin
//!
//! - [`vendor`] finds a vendor in the built-in table, [`Target`] says where one call goes.
//! - Where client and vendor speak one dialect, bytes are relayed: [`JsonRequest`] and [`MultipartRequest`] look at a
//!   client's body without parsing all of it and make the few edits that an attempt needs; [`openai::Reply`],
//!   [`openai::Relay`] and their namesakes in [`anthropic`] read usage, finish reason and errors beside the bytes.
//! - Where they do not, [`openai::read_request`] reads the client's request into the canonical chat, a [`ChatCodec`] says it
//!   in the vendor's words and reads the answer, [`openai::write_response`] and [`openai::Translation`] write it for the
//!   client.
//! - [`openai::Rejection`] explains a failed call.
#![forbid(unsafe_code)]

pub mod anthropic;
mod codec;
mod estimate;
mod facts;
mod fault;
pub mod gemini;
mod json;
mod multipart;
pub mod openai;
mod request;
pub mod sse;
mod stream;
mod target;
mod vendor;

pub use codec::{
    ChatCodec, ChatDecoder, DecodeError, EmbeddingsCodec, EncodeError, Encoding, Outgoing,
};
pub use multipart::MultipartRequest;
pub use request::{Invalid, JsonRequest, RequestEdits};
pub use stream::{ClientStream, Progress, StreamFailure, Summary};
pub use target::{Endpoint, Target, Unsupported};
pub use vendor::{Dialect, StreamUsage, Vendor, vendor, vendors};
