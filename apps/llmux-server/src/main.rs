//! The LLMux gateway.

mod ask;
mod attempt;
mod body;
mod cache;
mod catalog;
mod charge;
mod cli;
mod collect;
mod config;
mod content;
mod control;
mod demo;
mod error;
mod exchange;
mod gateway;
mod headers;
mod json_line;
mod log;
mod manage;
mod metrics;
mod mock;
mod names;
mod openapi;
mod proxy;
mod recorder;
mod redact;
mod reload;
mod routes;
mod run;
mod serve;
mod spool;
mod stalled;
mod tenants;
mod timed_io;
mod tls;
mod traces;
mod trim;
mod upstream;

use std::process::ExitCode;

/// Cheaper for many small allocations on many threads than the system's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    trim::refuse_huge_pages();
    cli::main()
}
