//! What each backend does.

use llmux_cache::{Cache, Form, Stats};

use crate::{NOW, answer, key, namespace};

pub(crate) async fn what_is_put_is_found_until_it_expires(cache: &impl Cache) {
    let key = key(&namespace(), "a");
    assert_eq!(cache.get(&key, NOW).await, None);
    let kept = answer("a", 60_000);
    cache.put(&key, kept.clone(), NOW).await;
    assert_eq!(cache.get(&key, NOW).await, Some(kept.clone()));
    assert_eq!(cache.get(&key, NOW + 59_999).await, Some(kept));
    assert_eq!(cache.get(&key, NOW + 60_000).await, None);
}

pub(crate) async fn hits_do_not_prolong_a_life(cache: &impl Cache) {
    let key = key(&namespace(), "a");
    cache.put(&key, answer("a", 60_000), NOW).await;
    for second in 0..60 {
        assert!(cache.get(&key, NOW + second * 1_000).await.is_some(), "{second}");
    }
    assert_eq!(cache.get(&key, NOW + 60_000).await, None);
}

pub(crate) async fn a_new_answer_replaces_the_old_one(cache: &impl Cache) {
    let key = key(&namespace(), "a");
    cache.put(&key, answer("old", 60_000), NOW).await;
    cache.put(&key, answer("new", 5_000), NOW).await;
    let found = cache.get(&key, NOW).await.unwrap();
    assert!(String::from_utf8(found.body(Form::Whole).to_vec()).unwrap().contains("new"));
    assert_eq!(cache.get(&key, NOW + 5_000).await, None, "with the new one's life");
}

pub(crate) async fn what_is_removed_is_gone(cache: &impl Cache) {
    let namespace = namespace();
    let (a, b) = (key(&namespace, "a"), key(&namespace, "b"));
    for key in [&a, &b] {
        cache.put(key, answer("x", 60_000), NOW).await;
    }
    cache.remove(&a).await;
    cache.remove(&a).await;
    assert_eq!(cache.get(&a, NOW).await, None);
    assert!(cache.get(&b, NOW).await.is_some());
}

pub(crate) async fn namespaces_are_flushed_one_by_one(cache: &impl Cache) {
    // Letters that mean something in patterns, and a namespace that begins like the other one.
    let first = format!("{}[a-z]*?\\", namespace()).into();
    let second = format!("{first}b").into();
    let (a, b) = (key(&first, "a"), key(&second, "a"));
    for key in [&a, &b] {
        cache.put(key, answer("x", 60_000), NOW).await;
    }
    let flushed = cache.flush(&first).await;
    assert!(flushed.complete && flushed.removed >= 1, "{flushed:?}");
    assert_eq!(cache.get(&a, NOW).await, None);
    assert!(cache.get(&b, NOW).await.is_some());
    let flushed = cache.flush("nobody's").await;
    assert!(flushed.complete && flushed.removed == 0, "{flushed:?}");
}

pub(crate) async fn a_large_namespace_is_flushed_whole(cache: &impl Cache) {
    let namespace = namespace();
    let keys: Vec<_> = (0..1_500).map(|number| key(&namespace, &number.to_string())).collect();
    for key in &keys {
        cache.put(key, answer("x", 60_000), NOW).await;
    }
    let flushed = cache.flush(&namespace).await;
    assert!(flushed.complete && flushed.removed >= 1_500, "{flushed:?}");
    for key in &keys {
        assert_eq!(cache.get(key, NOW).await, None);
    }
}

pub(crate) async fn answers_that_are_too_large_are_not_kept(cache: &impl Cache) {
    let key = key(&namespace(), "a");
    cache.put(&key, answer("small", 60_000), NOW).await;
    cache.put(&key, answer(&"x".repeat(1 << 20), 60_000), NOW).await;
    assert_eq!(cache.get(&key, NOW).await, None, "nor is what is out of date");
    assert!(cache.stats().iter().all(|stats| stats.too_large == 1));
}

pub(crate) async fn expired_answers_are_not_kept(cache: &impl Cache) {
    let key = key(&namespace(), "a");
    cache.put(&key, answer("a", 60_000), NOW + 60_000).await;
    assert_eq!(cache.get(&key, NOW).await, None);
    assert!(cache.stats().iter().all(|stats| stats.stores == 0));
}

pub(crate) async fn hits_and_misses_are_counted(cache: &impl Cache) {
    let key = key(&namespace(), "a");
    let nearest = |cache: &dyn Cache| cache.stats().remove(0);
    cache.get(&key, NOW).await;
    cache.put(&key, answer("a", 60_000), NOW).await;
    cache.get(&key, NOW).await;
    cache.get(&key, NOW).await;
    let Stats { hits, misses, stores, failures, healthy, .. } = nearest(cache);
    assert_eq!((hits, misses, stores, failures, healthy), (2, 1, 1, 0, true));
}
