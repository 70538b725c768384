//! The canonical embeddings: texts in, vectors out.

use serde_json::{Map, Value};

use crate::Usage;

/// A request for embeddings.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EmbeddingsRequest {
    /// The texts, each of which gets a vector.
    pub inputs: Vec<String>,
    /// The length of the vectors; `None`: the model's own.
    pub dimensions: Option<u64>,
    /// How the client wants to read the vectors. Nothing to vendors.
    pub encoding_format: EncodingFormat,
    /// The end user.
    pub user: Option<String>,
    /// All fields of the client's request that have no member above, by name.
    pub others: Map<String, Value>,
}

/// How vectors are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EncodingFormat {
    /// Numbers in JSON.
    #[default]
    Float,
    /// The bytes of little-endian `f32`s in base64.
    Base64,
}

/// The vectors.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EmbeddingsResponse {
    /// One for each input, in order.
    pub embeddings: Vec<Vec<f32>>,
    /// The tokens, where the vendor counts them.
    pub usage: Option<Usage>,
}
