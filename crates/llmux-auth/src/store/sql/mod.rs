//! The store in SQL: everything is written once, over a [`Session`] that either database gives. What differs between
//! them is in [`Dialect`].

mod audit;
mod engine;
mod keys;
mod members;
mod migrate;
mod organizations;
#[cfg(feature = "postgres")]
pub(super) mod postgres;
mod record;
mod records;
mod rollup;
#[cfg(feature = "sqlite")]
pub(super) mod sqlite;
mod statement;
mod teams;
mod usage;
mod users;
mod value;

use std::future::Future;

use super::{Answer, BoxFuture, StoreError};
use value::{Row, Value};

/// What one database says differently from the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    #[cfg(feature = "sqlite")]
    Sqlite,
    #[cfg(feature = "postgres")]
    Postgres,
}

impl Dialect {
    /// The end of a SELECT whose rows are going to be changed. SQLite has one writer at a time.
    pub(crate) const fn for_update(self) -> &'static str {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite => "",
            // Not FOR UPDATE, which would hold up inserts that refer to the row.
            #[cfg(feature = "postgres")]
            Self::Postgres => " FOR NO KEY UPDATE",
        }
    }

    /// What follows a column that is among the ids in the list parameter `$number`.
    pub(crate) fn among(self, number: usize) -> String {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite => format!("IN (SELECT value FROM json_each(${number}))"),
            // Unlike a subquery, this is looked up in an index even beside an OR.
            #[cfg(feature = "postgres")]
            Self::Postgres => format!("= ANY(${number}::text[])"),
        }
    }

    /// The condition that `columns` are among the ids in as many list parameters from `$first` on.
    pub(crate) fn any(self, columns: &[&str], first: usize) -> String {
        let names = columns.join(", ");
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite => {
                let lists: Vec<String> = (0..columns.len())
                    .map(|i| format!("json_each(${}) list{i}", first + i))
                    .collect();
                let values: Vec<String> =
                    (0..columns.len()).map(|i| format!("list{i}.value")).collect();
                let same: String =
                    (1..columns.len()).map(|i| format!(" AND list{i}.key = list0.key")).collect();
                format!(
                    "({names}) IN (SELECT {} FROM {} WHERE TRUE{same})",
                    values.join(", "),
                    lists.join(", ")
                )
            }
            #[cfg(feature = "postgres")]
            Self::Postgres => {
                let lists: Vec<String> =
                    (0..columns.len()).map(|i| format!("unnest(${}::text[])", first + i)).collect();
                format!("({names}) IN (SELECT {})", lists.join(", "))
            }
        }
    }
}

/// An open transaction. Parameters are `$1`, `$2` and so on.
pub(crate) trait Session: Send {
    /// What this database says differently.
    fn dialect(&self) -> Dialect;

    /// Runs a statement and returns its rows.
    fn query(
        &mut self,
        sql: &str,
        parameters: Vec<Value>,
    ) -> impl Future<Output = Result<Vec<Row>, StoreError>> + Send;

    /// Runs a statement once for each list of parameters. Returns how many rows changed in all.
    fn execute_each(
        &mut self,
        sql: &str,
        parameters: Vec<Vec<Value>>,
    ) -> impl Future<Output = Result<u64, StoreError>> + Send;

    /// Runs a script.
    fn script(&mut self, sql: &str) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Waits until no other process migrates.
    fn lock_migrations(&mut self) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Tells the other processes of a change once the transaction is committed.
    fn notify(&mut self, change: String) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Runs a statement once. Returns how many rows changed.
    fn execute(
        &mut self,
        sql: &str,
        parameters: Vec<Value>,
    ) -> impl Future<Output = Result<u64, StoreError>> + Send {
        self.execute_each(sql, vec![parameters])
    }
}

/// How a transaction is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Reads one state of the database.
    Read,
    /// Writes.
    Write,
}

/// A database.
pub(crate) trait Backend: Send + Sync + std::fmt::Debug + 'static {
    type Session: Session + 'static;

    /// Runs `work` in a transaction, which is committed if it returns `Ok`. It may be run several times, until a
    /// transaction goes through.
    fn run<T, W>(&self, mode: Mode, work: W) -> Answer<'_, T>
    where
        T: Send + 'static,
        W: for<'s> FnOnce(&'s mut Self::Session) -> BoxFuture<'s, Result<T, StoreError>>
            + Clone
            + Send
            + 'static;

    /// Starts to listen for changes by others.
    fn changes(&self) -> Answer<'_, Option<Box<dyn super::Changes>>>;
}
