//! A Redis that dies, freezes, or was never there: misses, within bounds, and no error.

use std::time::{Duration, Instant};

use llmux_cache::{Cache, Dual, Redis, RedisConfig};

use crate::servers::Server;
use crate::{NOW, PATIENT, answer, block_on, config, connected, key, local, namespace};

const TIMEOUT: Duration = Duration::from_millis(50);

/// Fails instead of hanging.
async fn bounded<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENT, future).await.expect("an answer within the bound")
}

fn hasty(addr: &str) -> RedisConfig {
    RedisConfig { timeout: TIMEOUT, pause: Duration::from_secs(3600), ..config(addr) }
}

/// A thousand calls cost a few timeouts: the others are not made.
async fn misses_quickly(cache: &Redis) {
    let key = key(&namespace(), "a");
    bounded(async {
        for _ in 0..500 {
            assert_eq!(cache.get(&key, NOW).await, None);
            cache.put(&key, answer("a", 60_000), NOW).await;
        }
        cache.remove(&key).await;
    })
    .await;
    let stats = cache.stats().remove(0);
    assert!(stats.failures >= 1 && stats.failures + stats.skipped >= 1_001, "{stats:?}");
    assert!(stats.skipped >= 990 && !stats.healthy, "{stats:?}");
}

/// Goes on asking, as a gateway does, until answers are kept again.
async fn recovers(cache: &Redis) {
    let key = key(&namespace(), "b");
    let start = Instant::now();
    while start.elapsed() < PATIENT * 3 {
        cache.ready(Duration::from_millis(200)).await;
        cache.put(&key, answer("b", 60_000), NOW).await;
        if cache.get(&key, NOW).await.is_some() {
            assert!(cache.stats()[0].healthy);
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("it does not come back: {:?}", cache.stats());
}

#[test]
fn a_killed_redis_is_a_miss_and_comes_back() {
    let mut server = Server::start(&[]);
    block_on(async {
        let cache = connected(&hasty(&server.address())).await;
        server.kill();
        misses_quickly(&cache).await;
        let _again = Server::on(server.port, &[]);
        recovers(&cache).await;
    });
}

#[test]
fn a_frozen_redis_is_a_miss_and_comes_back() {
    let server = Server::start(&[]);
    block_on(async {
        let cache = connected(&hasty(&server.address())).await;
        server.freeze();
        misses_quickly(&cache).await;
        let flushed = bounded(cache.flush("space")).await;
        assert!(!flushed.complete, "{flushed:?}");
        server.thaw();
        recovers(&cache).await;
    });
}

#[test]
fn a_dead_redis_is_tried_once_in_each_pause() {
    let server = Server::start(&[]);
    block_on(async {
        let pause = Duration::from_millis(300);
        let cache = connected(&RedisConfig { pause, ..hasty(&server.address()) }).await;
        server.freeze();
        let key = key(&namespace(), "a");
        let start = Instant::now();
        let mut calls = 0;
        while start.elapsed() < pause * 4 {
            cache.get(&key, NOW).await;
            calls += 1;
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let tries = u64::try_from(start.elapsed().as_millis() / pause.as_millis()).unwrap() + 1;
        let stats = cache.stats().remove(0);
        assert!((1..=tries).contains(&stats.failures), "{stats:?} within {:?}", start.elapsed());
        assert_eq!(stats.failures + stats.skipped, calls);
        server.thaw();
    });
}

#[test]
fn a_redis_that_was_never_there_stops_nobody() {
    block_on(async {
        let server = Server::start(&[]);
        let address = server.address();
        drop(server);
        let cache = Redis::open(&hasty(&address)).unwrap();
        misses_quickly(&cache).await;
        assert_eq!(cache.flush("space").await, llmux_cache::Flushed::default());
    });
}

#[test]
fn memory_goes_on_without_redis() {
    let mut server = Server::start(&[]);
    block_on(async {
        let cache = Dual::new(local(), connected(&hasty(&server.address())).await);
        server.kill();
        let namespace = namespace();
        let key = key(&namespace, "a");
        cache.put(&key, answer("a", 60_000), NOW).await;
        assert!(cache.get(&key, NOW).await.is_some());
        let flushed = cache.flush(&namespace).await;
        assert!(!flushed.complete, "{flushed:?}");
        assert_eq!(cache.get(&key, NOW).await, None);
    });
}

#[test]
fn many_at_once_wait_no_longer_than_one() {
    let server = Server::start(&[]);
    block_on(async {
        let cache = std::sync::Arc::new(connected(&hasty(&server.address())).await);
        server.freeze();
        let key = key(&namespace(), "a");
        let asking: Vec<_> = (0..200)
            .map(|_| {
                let (cache, key) = (cache.clone(), key.clone());
                tokio::spawn(async move { cache.get(&key, NOW).await })
            })
            .collect();
        bounded(async {
            for asked in asking {
                assert_eq!(asked.await.unwrap(), None);
            }
        })
        .await;
        server.thaw();
    });
}
