//! Who may call.
#![forbid(unsafe_code)]
