//! Memory in front of a shared store.

use std::sync::Arc;

use crate::store::{BoxFuture, Cache, Flushed, Stats};
use crate::{CacheKey, Entry, Local};

/// A local cache in front of another one, which it is filled from. The local one keeps an entry for the shorter of its own
/// time to live and what the entry has left: never longer than the shared one.
///
/// A removal or a flush reaches the local cache of this process only; others keep what they have for at most
/// [`LocalConfig::ttl`](crate::LocalConfig::ttl).
#[derive(Debug)]
pub struct Dual<S> {
    local: Local,
    shared: S,
}

impl<S: Cache> Dual<S> {
    /// Puts `local` in front of `shared`.
    pub const fn new(local: Local, shared: S) -> Self {
        Self { local, shared }
    }

    /// Returns the cache in front.
    pub const fn local(&self) -> &Local {
        &self.local
    }

    /// Returns the cache behind it.
    pub const fn shared(&self) -> &S {
        &self.shared
    }
}

impl<S: Cache> Cache for Dual<S> {
    fn get<'a>(&'a self, key: &'a CacheKey, now_ms: u64) -> BoxFuture<'a, Option<Arc<Entry>>> {
        Box::pin(async move {
            if let Some(entry) = self.local.find(key, now_ms) {
                return Some(entry);
            }
            let entry = self.shared.get(key, now_ms).await?;
            self.local.keep(key, Arc::clone(&entry), now_ms);
            Some(entry)
        })
    }

    fn put<'a>(&'a self, key: &'a CacheKey, entry: Arc<Entry>, now_ms: u64) -> BoxFuture<'a, ()> {
        self.local.keep(key, Arc::clone(&entry), now_ms);
        self.shared.put(key, entry, now_ms)
    }

    fn remove<'a>(&'a self, key: &'a CacheKey) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            self.shared.remove(key).await;
            // Last, so that nobody fills it again from the other one meanwhile.
            self.local.remove(key).await;
        })
    }

    fn flush<'a>(&'a self, namespace: &'a str) -> BoxFuture<'a, Flushed> {
        Box::pin(async move {
            let shared = self.shared.flush(namespace).await;
            let local = self.local.flush(namespace).await;
            Flushed { removed: shared.removed + local.removed, complete: shared.complete }
        })
    }

    fn stats(&self) -> Vec<Stats> {
        let mut stats = self.local.stats();
        stats.extend(self.shared.stats());
        stats
    }
}
