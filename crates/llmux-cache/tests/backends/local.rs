//! What memory alone does.

use std::time::Duration;

use llmux_cache::{Cache, Local, LocalConfig};

use crate::{NOW, answer, key, namespace};

fn stats(cache: &Local) -> llmux_cache::Stats {
    cache.stats().remove(0)
}

#[test]
fn memory_is_bounded_by_bytes_and_keeps_what_is_used() {
    let namespace = namespace();
    let config =
        LocalConfig { max_bytes: 200_000, max_item_bytes: 10_000, ttl: Duration::from_secs(60) };
    let cache = Local::new(config);
    let used = key(&namespace, "used");
    cache.keep(&used, answer(&"x".repeat(4_000), 60_000), NOW);
    for number in 0..500 {
        cache.keep(&key(&namespace, &number.to_string()), answer(&"x".repeat(4_000), 60_000), NOW);
        assert!(cache.find(&used, NOW).is_some(), "after {number} others");
        assert!(stats(&cache).bytes.unwrap() <= 200_000);
    }
    let stats = stats(&cache);
    assert!(stats.evictions >= 400 && stats.entries.unwrap() >= 30, "{stats:?}");
}

#[test]
fn an_expired_answer_frees_its_memory_when_it_is_asked_for() {
    let cache = Local::new(LocalConfig::default());
    let key = key(&namespace(), "a");
    cache.keep(&key, answer("a", 1_000), NOW);
    assert_eq!(stats(&cache).entries, Some(1));
    assert!(cache.find(&key, NOW + 1_000).is_none());
    assert_eq!(
        (stats(&cache).entries, stats(&cache).bytes, stats(&cache).evictions),
        (Some(0), Some(0), 0)
    );
}

#[test]
fn memory_forgets_after_its_own_time() {
    let cache = Local::new(LocalConfig { ttl: Duration::from_secs(1), ..LocalConfig::default() });
    let key = key(&namespace(), "a");
    cache.keep(&key, answer("a", 60_000), NOW);
    assert!(cache.find(&key, NOW + 999).is_some());
    assert!(cache.find(&key, NOW + 1_000).is_none());
}

#[test]
fn an_answer_as_large_as_the_memory_is_refused_and_counted() {
    let config =
        LocalConfig { max_bytes: 10_000, max_item_bytes: 1 << 20, ttl: Duration::from_secs(60) };
    let cache = Local::new(config);
    let (namespace, small) = (namespace(), answer("a", 60_000));
    cache.keep(&key(&namespace, "small"), small, NOW);
    cache.keep(&key(&namespace, "large"), answer(&"x".repeat(9_900), 60_000), NOW);
    assert_eq!((stats(&cache).too_large, stats(&cache).stores, stats(&cache).evictions), (1, 1, 0));
    assert!(cache.find(&key(&namespace, "small"), NOW).is_some());
}
