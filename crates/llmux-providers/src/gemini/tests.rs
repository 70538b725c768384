//! What requests and answers become, row by row.

mod requests;
mod streams;
