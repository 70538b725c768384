//! Chooses among deployments.
#![forbid(unsafe_code)]
