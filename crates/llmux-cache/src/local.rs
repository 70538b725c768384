//! Entries in memory.

use std::future::ready;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use quick_cache::sync::Cache as QuickCache;
use quick_cache::{Lifecycle, OptionsBuilder, Weighter};

use crate::store::{BoxFuture, Cache, Flushed, Stats};
use crate::{CacheKey, Entry};

/// What an entry costs beside its bytes, about.
const OVERHEAD: u64 = 256;

/// How much memory is used, and for how long (`cache.memory`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalConfig {
    /// The most bytes of all entries together.
    pub max_bytes: u64,
    /// The most bytes of one entry; larger ones are not kept.
    pub max_item_bytes: u64,
    /// The longest that an entry is kept here, which may be less than its own life.
    pub ttl: Duration,
}

impl Default for LocalConfig {
    fn default() -> Self {
        Self { max_bytes: 256 << 20, max_item_bytes: 1 << 20, ttl: Duration::from_secs(600) }
    }
}

/// Entries in the memory of this process. When it is full, the entries go that are used least: those used again stay
/// before those that were only written, whatever time they have left.
#[derive(Debug)]
pub struct Local {
    entries: QuickCache<Hashed, Slot, ByBytes, BuildHasherDefault<FirstBytes>, Evictions>,
    max_item_bytes: AtomicU64,
    /// What fills a shard is refused by it.
    largest: u64,
    /// In milliseconds.
    ttl: AtomicU64,
    evictions: Arc<AtomicU64>,
    hits: AtomicU64,
    misses: AtomicU64,
    stores: AtomicU64,
    too_large: AtomicU64,
}

impl Local {
    /// Makes an empty cache.
    pub fn new(config: LocalConfig) -> Self {
        let evictions = Arc::new(AtomicU64::new(0));
        // Each shard must have room for several of the largest entries, or they would push out all others.
        let shards =
            (config.max_bytes / config.max_item_bytes.saturating_mul(16).max(1)).clamp(1, 16);
        let shards = 1_usize << shards.ilog2();
        let options = OptionsBuilder::new()
            .shards(shards)
            .estimated_items_capacity(
                usize::try_from(config.max_bytes / 4096).unwrap_or(usize::MAX).max(32 * shards),
            )
            .weight_capacity(config.max_bytes)
            .build()
            .expect("both capacities are set");
        let entries = QuickCache::with_options(
            options,
            ByBytes,
            BuildHasherDefault::default(),
            Evictions(Arc::clone(&evictions)),
        );
        let largest = (entries.shard_capacity() / 10 * 9).saturating_sub(OVERHEAD);
        Self {
            entries,
            max_item_bytes: AtomicU64::new(config.max_item_bytes.min(largest)),
            largest,
            ttl: AtomicU64::new(milliseconds(config.ttl)),
            evictions,
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            stores: AtomicU64::new(0),
            too_large: AtomicU64::new(0),
        }
    }

    /// Changes, for entries that are written from now on, how large they may be and how long they are kept here. The
    /// most bytes of all together stay, and what an entry may have of them.
    pub fn set_limits(&self, max_item_bytes: u64, ttl: Duration) {
        self.max_item_bytes.store(max_item_bytes.min(self.largest), Ordering::Relaxed);
        self.ttl.store(milliseconds(ttl), Ordering::Relaxed);
    }

    /// Finds an entry; see [`Cache::get`].
    pub fn find(&self, key: &CacheKey, now_ms: u64) -> Option<Arc<Entry>> {
        let hash = Hashed(*key.hash());
        let found = self.entries.get(&hash).filter(|slot| {
            let fresh = now_ms < slot.expires_ms;
            if !fresh {
                // Unless it was written anew just now.
                self.entries.remove_if(&hash, |slot| now_ms >= slot.expires_ms);
            }
            fresh
        });
        let count = if found.is_some() { &self.hits } else { &self.misses };
        count.fetch_add(1, Ordering::Relaxed);
        found.map(|slot| slot.entry)
    }

    /// Keeps an entry; see [`Cache::put`].
    pub fn keep(&self, key: &CacheKey, entry: Arc<Entry>, now_ms: u64) {
        let ttl = self.ttl.load(Ordering::Relaxed);
        let expires_ms = entry.expires_ms().min(now_ms.saturating_add(ttl));
        if entry.size() as u64 > self.max_item_bytes.load(Ordering::Relaxed) {
            self.too_large.fetch_add(1, Ordering::Relaxed);
            // What it would have replaced is out of date.
            self.entries.remove(&Hashed(*key.hash()));
        } else if now_ms < expires_ms {
            self.stores.fetch_add(1, Ordering::Relaxed);
            let namespace = key.shared_namespace();
            self.entries.insert(Hashed(*key.hash()), Slot { namespace, entry, expires_ms });
        }
    }

    fn flush_now(&self, namespace: &str) -> Flushed {
        let removed = AtomicU64::new(0);
        self.entries.retain(|_, slot| {
            let keep = &*slot.namespace != namespace;
            removed.fetch_add(u64::from(!keep), Ordering::Relaxed);
            keep
        });
        Flushed { removed: removed.into_inner(), complete: true }
    }
}

impl Cache for Local {
    fn get<'a>(&'a self, key: &'a CacheKey, now_ms: u64) -> BoxFuture<'a, Option<Arc<Entry>>> {
        Box::pin(ready(self.find(key, now_ms)))
    }

    fn put<'a>(&'a self, key: &'a CacheKey, entry: Arc<Entry>, now_ms: u64) -> BoxFuture<'a, ()> {
        self.keep(key, entry, now_ms);
        Box::pin(ready(()))
    }

    fn remove<'a>(&'a self, key: &'a CacheKey) -> BoxFuture<'a, ()> {
        self.entries.remove(&Hashed(*key.hash()));
        Box::pin(ready(()))
    }

    fn flush<'a>(&'a self, namespace: &'a str) -> BoxFuture<'a, Flushed> {
        Box::pin(ready(self.flush_now(namespace)))
    }

    fn stats(&self) -> Vec<Stats> {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        vec![Stats {
            tier: "local",
            hits: read(&self.hits),
            misses: read(&self.misses),
            stores: read(&self.stores),
            evictions: read(&self.evictions),
            too_large: read(&self.too_large),
            failures: 0,
            skipped: 0,
            entries: Some(self.entries.len() as u64),
            bytes: Some(self.entries.weight()),
            healthy: true,
        }]
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[derive(Clone, Debug)]
struct Slot {
    namespace: Arc<str>,
    entry: Arc<Entry>,
    expires_ms: u64,
}

/// A hash that is hashed by its first bytes: it is as good as random.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Hashed([u8; 32]);

impl Hash for Hashed {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(&self.0[..8]);
    }
}

#[derive(Debug, Default)]
struct FirstBytes(u64);

impl Hasher for FirstBytes {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }
}

#[derive(Clone, Debug)]
struct ByBytes;

impl Weighter<Hashed, Slot> for ByBytes {
    fn weight(&self, _key: &Hashed, slot: &Slot) -> u64 {
        slot.entry.size() as u64 + OVERHEAD
    }
}

/// Counts what makes room for others.
#[derive(Clone, Debug)]
struct Evictions(Arc<AtomicU64>);

impl Lifecycle<Hashed, Slot> for Evictions {
    type RequestState = ();

    fn before_evict(&self, (): &mut (), _key: &Hashed, _slot: &mut Slot) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}
