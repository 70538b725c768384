//! `cargo xtask sim`: the router's simulator, which is an example of its crate.

use crate::Outcome;
use crate::workspace::{cargo, succeeds};

/// Runs the simulator with these arguments.
pub(crate) fn run(arguments: &[&str]) -> Outcome {
    let example = ["run", "--release", "-q", "-p", "llmux-router", "--example", "sim", "--"];
    succeeds(cargo().args(example).args(arguments))
}
