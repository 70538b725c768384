//! The LLMux gateway.

mod config;

fn main() {}
