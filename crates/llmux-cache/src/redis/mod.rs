//! Entries in Redis.

mod breaker;
mod config;

use std::fmt;
use std::future::{Future, ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use fred::clients::Client;
use fred::error::{Error, ErrorKind};
use fred::interfaces::{ClientLike as _, ClusterInterface as _, KeysInterface as _};
use fred::types::config::Server;
use fred::types::{ConnectHandle, Expiration};
use tokio::time::{Instant, timeout};

use crate::store::{BoxFuture, Cache, Flushed, Stats};
use crate::{CacheKey, Entry};
use breaker::Breaker;

pub use config::{InvalidRedis, RedisConfig};

/// How many keys one step of a flush looks at.
const PAGE: u32 = 512;

/// The longest that one step of a flush takes: nobody's answer waits for it.
const STEP: Duration = Duration::from_secs(5);

/// Entries in Redis, shared by all who use it: one server, a cluster, or a server behind sentinels. Keys are
/// `<namespace>:cache:<hash>`, and Redis forgets them when they expire.
///
/// A call takes at most [`RedisConfig::timeout`]. After one that Redis did not answer, nothing is asked for
/// [`RedisConfig::pause`], then a single call tries: a dead Redis costs one timeout a second, not one a request.
pub struct Redis {
    client: Client,
    connection: ConnectHandle,
    clustered: bool,
    timeout: Duration,
    pause_ms: u64,
    max_item_bytes: u64,
    breaker: Breaker,
    start: Instant,
    hits: AtomicU64,
    misses: AtomicU64,
    stores: AtomicU64,
    too_large: AtomicU64,
    failures: AtomicU64,
    skipped: AtomicU64,
}

impl Redis {
    /// Starts to connect, in a task of the tokio runtime that this is called in, and keeps connecting. It does not wait: as
    /// long as there is no Redis, all is a miss. Calls may come from other runtimes that have timers.
    ///
    /// # Errors
    /// [`InvalidRedis`] if the configuration cannot work. That Redis is away is no error.
    ///
    /// # Panics
    /// If there is no tokio runtime with a timer.
    pub fn open(config: &RedisConfig) -> Result<Self, InvalidRedis> {
        let (client, clustered) = config.client()?;
        let connection = client.connect();
        let zero = || AtomicU64::new(0);
        Ok(Self {
            client,
            connection,
            clustered,
            timeout: config.timeout,
            pause_ms: u64::try_from(config.pause.as_millis()).unwrap_or(u64::MAX / 4),
            max_item_bytes: config.max_item_bytes,
            breaker: Breaker::default(),
            start: Instant::now(),
            hits: zero(),
            misses: zero(),
            stores: zero(),
            too_large: zero(),
            failures: zero(),
            skipped: zero(),
        })
    }

    /// Waits until Redis answers, at most this long. Tells whether it does, and if so, asks it again from now on.
    pub async fn ready(&self, limit: Duration) -> bool {
        let answers = async {
            self.client.wait_for_connect().await?;
            self.client.ping::<()>(None).await
        };
        let ready = matches!(timeout(limit, answers).await, Ok(Ok(())));
        if ready {
            self.breaker.close();
        }
        ready
    }

    /// Makes a call unless Redis did not answer shortly before. `None`: there is no answer.
    async fn call<T>(&self, call: impl Future<Output = Result<T, Error>>) -> Option<T> {
        if !self.breaker.allows(self.now(), self.pause_ms) {
            self.skipped.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        let (answer, answered) = match timeout(self.timeout, call).await {
            Ok(Ok(answer)) => (Some(answer), true),
            // Refusals come quickly and cost nothing.
            Ok(Err(error)) => (None, !is_absence(&error)),
            Err(_) => (None, false),
        };
        if answer.is_none() {
            self.failures.fetch_add(1, Ordering::Relaxed);
        }
        if answered {
            self.breaker.close();
        } else {
            self.breaker.open(self.now(), self.pause_ms);
        }
        answer
    }

    /// Milliseconds since the start, from 1.
    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX / 2) + 1
    }

    async fn find(&self, key: &CacheKey, now_ms: u64) -> Option<Arc<Entry>> {
        let bytes: Option<Bytes> = self.call(self.client.get(name(key))).await.flatten();
        let entry =
            bytes.and_then(|bytes| Entry::decode(&bytes)).filter(|entry| entry.is_fresh(now_ms));
        let count = if entry.is_some() { &self.hits } else { &self.misses };
        count.fetch_add(1, Ordering::Relaxed);
        entry.map(Arc::new)
    }

    async fn keep(&self, key: &CacheKey, entry: &Entry, now_ms: u64) {
        let left = entry.expires_ms().saturating_sub(now_ms);
        let Some(left) = i64::try_from(left).ok().filter(|left| *left > 0) else {
            return;
        };
        let bytes = Bytes::from(entry.encode());
        let set = self.client.set(name(key), bytes, Some(Expiration::PX(left)), None, false);
        if let Some(()) = self.call(set).await {
            self.stores.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Forgets the keys of one server that fit a pattern, and counts them.
    async fn flush_server(
        &self,
        server: Option<&Server>,
        pattern: &str,
        removed: &mut u64,
    ) -> Result<(), Error> {
        let mut cursor = "0".to_owned();
        loop {
            let step = async {
                let (next, keys): (String, Vec<Bytes>) = match server {
                    Some(server) => {
                        let node = self.client.with_cluster_node(server.clone());
                        node.scan_page(cursor.clone(), pattern, Some(PAGE), None).await?
                    }
                    None => {
                        self.client.scan_page(cursor.clone(), pattern, Some(PAGE), None).await?
                    }
                };
                if keys.is_empty() {
                    return Ok((next, 0));
                }
                // One by one: the keys of a server of a cluster belong to many slots.
                let pipeline = self.client.pipeline();
                for key in keys {
                    let () = pipeline.unlink(key).await?;
                }
                let counts: Vec<u64> = pipeline.all().await?;
                Ok::<_, Error>((next, counts.into_iter().sum::<u64>()))
            };
            let too_long = |_| Error::new(ErrorKind::Timeout, "no answer");
            let (next, count) = timeout(STEP, step).await.map_err(too_long)??;
            *removed += count;
            if next == "0" {
                return Ok(());
            }
            cursor = next;
        }
    }

    async fn flush_all(&self, namespace: &str) -> Flushed {
        let pattern = format!("{}:cache:*", escaped(namespace));
        let mut flushed = Flushed { removed: 0, complete: true };
        let servers: Vec<Option<Server>> = if self.clustered {
            let state = self.client.cached_cluster_state();
            state
                .map(|state| state.unique_primary_nodes().into_iter().map(Some).collect())
                .unwrap_or_default()
        } else {
            vec![None]
        };
        flushed.complete &= !servers.is_empty();
        for server in servers {
            let done = self.flush_server(server.as_ref(), &pattern, &mut flushed.removed).await;
            flushed.complete &= done.is_ok();
        }
        flushed
    }
}

impl Cache for Redis {
    fn get<'a>(&'a self, key: &'a CacheKey, now_ms: u64) -> BoxFuture<'a, Option<Arc<Entry>>> {
        Box::pin(self.find(key, now_ms))
    }

    fn put<'a>(&'a self, key: &'a CacheKey, entry: Arc<Entry>, now_ms: u64) -> BoxFuture<'a, ()> {
        if entry.size() as u64 > self.max_item_bytes {
            self.too_large.fetch_add(1, Ordering::Relaxed);
            // What it would have replaced is out of date.
            return self.remove(key);
        }
        Box::pin(async move { self.keep(key, &entry, now_ms).await })
    }

    fn remove<'a>(&'a self, key: &'a CacheKey) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            self.call(self.client.unlink::<(), _>(name(key))).await;
        })
    }

    fn flush<'a>(&'a self, namespace: &'a str) -> BoxFuture<'a, Flushed> {
        if self.client.is_connected() {
            Box::pin(self.flush_all(namespace))
        } else {
            Box::pin(ready(Flushed::default()))
        }
    }

    fn stats(&self) -> Vec<Stats> {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        vec![Stats {
            tier: "redis",
            hits: read(&self.hits),
            misses: read(&self.misses),
            stores: read(&self.stores),
            evictions: 0,
            too_large: read(&self.too_large),
            failures: read(&self.failures),
            skipped: read(&self.skipped),
            entries: None,
            bytes: None,
            healthy: self.breaker.is_closed() && self.client.is_connected(),
        }]
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // The task would go on connecting.
        self.connection.abort();
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

/// Tells whether an error means that nobody answered.
fn is_absence(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::IO | ErrorKind::Timeout | ErrorKind::Canceled | ErrorKind::Backpressure
    )
}

fn name(key: &CacheKey) -> String {
    format!("{}:cache:{}", key.namespace(), key.hex())
}

/// A namespace in a pattern stands for itself.
fn escaped(namespace: &str) -> String {
    let mut pattern = String::with_capacity(namespace.len());
    for letter in namespace.chars() {
        if matches!(letter, '*' | '?' | '[' | ']' | '\\' | '^' | '-') {
            pattern.push('\\');
        }
        pattern.push(letter);
    }
    pattern
}
