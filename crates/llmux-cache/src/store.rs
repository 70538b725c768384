//! Where entries are kept.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::{CacheKey, Entry};

/// A boxed future: beside I/O a box is nothing, and `dyn Cache` needs it.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Keeps entries until they expire. No method fails: what cannot be read is a miss, what cannot be written is lost. All are
/// bounded in time and may be dropped half-way. `now_ms` is Unix time in milliseconds.
pub trait Cache: Send + Sync + fmt::Debug {
    /// Finds an entry that has not expired. Finding it does not prolong its life.
    fn get<'a>(&'a self, key: &'a CacheKey, now_ms: u64) -> BoxFuture<'a, Option<Arc<Entry>>>;

    /// Keeps an entry until it expires, instead of the one that is there. Entries that are too large are passed over.
    fn put<'a>(&'a self, key: &'a CacheKey, entry: Arc<Entry>, now_ms: u64) -> BoxFuture<'a, ()>;

    /// Forgets an entry.
    fn remove<'a>(&'a self, key: &'a CacheKey) -> BoxFuture<'a, ()>;

    /// Forgets all entries of a namespace.
    fn flush<'a>(&'a self, namespace: &'a str) -> BoxFuture<'a, Flushed>;

    /// Returns what happened so far, for each place that entries are kept in, the nearest first.
    fn stats(&self) -> Vec<Stats>;
}

/// What a flush did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flushed {
    /// Entries that are gone, counted for each place they were in.
    pub removed: u64,
    /// Whether all are gone: a store could not be reached if not.
    pub complete: bool,
}

/// What happened in one place since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// `local` or `redis`.
    pub tier: &'static str,
    /// Entries found.
    pub hits: u64,
    /// Entries not found, expired ones and failures included.
    pub misses: u64,
    /// Entries written.
    pub stores: u64,
    /// Entries that made room for others.
    pub evictions: u64,
    /// Entries not kept because of their size.
    pub too_large: u64,
    /// Calls that failed or took too long.
    pub failures: u64,
    /// Calls that were not made since the store did not answer shortly before.
    pub skipped: u64,
    /// Entries kept now, expired ones that nobody asked for included; `None` where others share the store.
    pub entries: Option<u64>,
    /// Their size in bytes.
    pub bytes: Option<u64>,
    /// Whether the store answered last.
    pub healthy: bool,
}
