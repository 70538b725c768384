//! LLM vendors without I/O.
#![forbid(unsafe_code)]

mod vendor;

pub use vendor::{Dialect, Vendor, vendor, vendors};
