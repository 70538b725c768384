//! The project's tasks: `cargo xtask <task>`.
fn main() {}
