//! One suite of behaviour, run against each backend; and what Redis alone can do to them.
#![expect(
    clippy::disallowed_methods,
    reason = "the tests find their server in the environment, and run others"
)]
#![expect(clippy::unwrap_used, clippy::panic, reason = "in tests both are failures")]

mod faults;
mod local;
mod servers;
mod suite;
mod topologies;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use llmux_cache::{
    Asker, Cache, CacheKey, Dual, Entry, Kind, Local, LocalConfig, Question, Redis, RedisConfig,
    Scope,
};
use llmux_types::Secret;

/// A moment, in Unix milliseconds.
const NOW: u64 = 1_795_348_800_000;

/// Long enough for a loaded machine: most tests are not about time.
const PATIENT: Duration = Duration::from_secs(20);

/// Runs a test in a runtime of its own.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

/// A namespace that no other test has.
fn namespace() -> Arc<str> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)).into()
}

fn key(namespace: &Arc<str>, question: &str) -> CacheKey {
    let body = format!("{{\"messages\":\"{question}\"}}");
    let question = Question {
        scope: Scope::Global,
        asker: Asker::default(),
        route: "/v1/chat/completions",
        model: "m",
        tags: &[],
        body: body.as_bytes(),
    };
    CacheKey::derive(namespace, &question).unwrap()
}

/// An answer made now.
fn answer(text: &str, ttl_ms: u64) -> Arc<Entry> {
    let body = format!(
        "{{\"choices\":[{{\"message\":{{\"content\":\"{text}\"}},\"finish_reason\":\"stop\"}}]}}"
    );
    Arc::new(
        Entry::whole(Kind::Chat, Bytes::from(body), "application/json", None, NOW, ttl_ms).unwrap(),
    )
}

fn local() -> Local {
    Local::new(LocalConfig::default())
}

/// The Redis of the test run.
fn redis_url() -> String {
    std::env::var("LLMUX_TEST_REDIS_URL").expect(
        "LLMUX_TEST_REDIS_URL names a Redis for tests; `cargo xtask with-services` starts one",
    )
}

fn config(addr: &str) -> RedisConfig {
    RedisConfig { addr: Secret::new(addr), timeout: PATIENT, ..RedisConfig::default() }
}

async fn connected(config: &RedisConfig) -> Redis {
    let redis = Redis::open(config).unwrap();
    assert!(redis.ready(PATIENT).await, "there is no Redis");
    redis
}

async fn redis() -> Redis {
    connected(&config(&redis_url())).await
}

/// A test for each function, with a cache that `open` makes for it alone.
macro_rules! each {
    ($open:expr; $($name:ident)*) => {$(
        #[test]
        fn $name() {
            crate::block_on(async {
                let cache = $open.await;
                crate::suite::$name(&cache).await;
            });
        }
    )*};
}

macro_rules! all {
    ($open:expr) => {
        crate::each! { $open;
            what_is_put_is_found_until_it_expires
            hits_do_not_prolong_a_life
            a_new_answer_replaces_the_old_one
            what_is_removed_is_gone
            namespaces_are_flushed_one_by_one
            a_large_namespace_is_flushed_whole
            answers_that_are_too_large_are_not_kept
            expired_answers_are_not_kept
            hits_and_misses_are_counted
        }
    };
}

use {all, each};

mod in_memory {
    crate::all! { async { crate::local() } }
}

mod in_redis {
    crate::all! { crate::redis() }
}

mod in_both {
    crate::all! { async { llmux_cache::Dual::new(crate::local(), crate::redis().await) } }
}

#[test]
fn a_shared_answer_comes_to_be_local() {
    block_on(async {
        let (namespace, config) = (namespace(), config(&redis_url()));
        let writer = connected(&config).await;
        let short = LocalConfig { ttl: Duration::from_secs(10), ..LocalConfig::default() };
        let reader = Dual::new(Local::new(short), connected(&config).await);
        let key = key(&namespace, "a");
        writer.put(&key, answer("a", 60_000), NOW).await;
        assert!(reader.get(&key, NOW).await.is_some());
        writer.remove(&key).await;
        assert!(reader.get(&key, NOW + 9_999).await.is_some(), "from memory");
        assert!(
            reader.get(&key, NOW + 10_000).await.is_none(),
            "memory keeps it for a shorter time"
        );
        writer.put(&key, answer("a", 5_000), NOW).await;
        assert!(reader.get(&key, NOW + 1_000).await.is_some());
        writer.remove(&key).await;
        assert!(reader.get(&key, NOW + 5_000).await.is_none(), "not longer than the answer lives");
        let stats = reader.stats();
        assert_eq!(stats.iter().map(|stats| stats.tier).collect::<Vec<_>>(), ["local", "redis"]);
        assert_eq!((stats[0].hits, stats[1].hits), (1, 2));
    });
}
