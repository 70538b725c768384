//! Documentation with Rust in it, as documentation tests: it compiles and does what it says.
#![forbid(unsafe_code)]

/// `docs/embedding.md`.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/embedding.md")]
struct Embedding;
