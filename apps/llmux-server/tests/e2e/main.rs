//! The real binary against vendors that replay recorded traffic or act a script, seen from outside.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod auth;
mod books;
mod breaks;
mod budgets;
mod bytes;
mod client;
mod connections;
mod control;
mod costs;
mod crashes;
mod errors;
mod failover;
mod fallbacks;
mod faults;
mod fixtures;
mod harness;
mod headers;
mod limits;
mod load;
mod manage;
mod manage_fields;
mod manage_keys;
mod manage_organizations;
mod manage_roles;
mod manage_teams;
mod manage_users;
mod rates;
mod replay;
mod routing;
mod sockets;
mod spend;
mod strategies;
mod streams;
mod table;
mod translation;
