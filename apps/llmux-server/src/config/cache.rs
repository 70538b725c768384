//! Checks of the response cache and of Redis.

use std::path::Path;
use std::sync::Arc;

use llmux_cache::{RedisConfig, Scope};
use llmux_types::Secret;

use super::check::Check;
use super::file::{self, CacheScope, CacheType};
use super::settings::{Cache, CacheKind};

/// Tells whether the file says where Redis is.
fn is_given(config: &file::Redis) -> bool {
    config.addr.as_ref().is_some_and(|addr| !addr.is_empty())
        || !config.cluster_addrs.is_empty()
        || !config.sentinel_addrs.is_empty()
}

/// Finds Redis, if there is one.
pub(super) fn redis(check: &mut Check<'_>, working_dir: &Path) -> Option<RedisConfig> {
    let config = &check.config.redis;
    if !is_given(config) {
        if !config.sentinel_master.is_empty() {
            check.problem("redis.sentinel_addrs", "is empty: where are the sentinels?");
        }
        return None;
    }
    let given = |secret: &Option<Secret>| secret.clone().filter(|secret| !secret.is_empty());
    let db = u8::try_from(config.db);
    if db.is_err() {
        check.problem("redis.db", "must be from 0 to 255");
    }
    let found = RedisConfig {
        addr: given(&config.addr).unwrap_or_else(|| Secret::new("")),
        cluster_addrs: config.cluster_addrs.clone(),
        sentinel_addrs: config.sentinel_addrs.clone(),
        sentinel_master: config.sentinel_master.clone(),
        password: given(&config.password),
        // The number in the address counts where this one says nothing.
        db: db.ok().filter(|db| *db != 0),
        ca_file: (!config.ca_file.is_empty()).then(|| working_dir.join(&config.ca_file)),
        // What may be kept is decided before Redis is asked: the limit may change without a restart.
        max_item_bytes: u64::MAX,
        ..RedisConfig::default()
    };
    if let Err(wrong) = found.check() {
        let path = wrong.field().map_or("redis".to_owned(), |field| format!("redis.{field}"));
        let text = wrong.to_string();
        // The path says it already.
        let text = wrong
            .field()
            .and_then(|field| text.strip_prefix(&format!("`{field}` ")).map(str::to_owned))
            .unwrap_or(text);
        check.missing(&path, &text);
    }
    let warning = "redis: only the response cache uses it in this version; limits, budgets and cooldowns are each gateway's own";
    check.warnings.push(warning.to_owned());
    Some(found)
}

/// Checks the cache.
pub(super) fn check(check: &mut Check<'_>, data_plane_needs_key: bool) -> Cache {
    let config = &check.config.cache;
    check.positive("cache.ttl", config.ttl);
    check.positive("cache.memory.ttl", config.memory.ttl);
    for (path, size) in [
        ("cache.memory.max_bytes", config.memory.max_bytes),
        ("cache.memory.max_item_bytes", config.memory.max_item_bytes),
    ] {
        if size.bytes() == 0 {
            check.problem(path, "must be more than 0");
        }
    }
    if config.namespace.is_empty() || config.namespace.chars().any(char::is_control) {
        check.problem("cache.namespace", "must not be empty or hold control characters");
    }
    let kind = match config.kind {
        CacheType::Local => CacheKind::Local,
        CacheType::Redis => CacheKind::Redis,
        CacheType::Dual => CacheKind::Dual,
    };
    if config.enabled && kind != CacheKind::Local && !is_given(&check.config.redis) {
        let message = format!(
            "{} needs Redis: set redis.addr, redis.cluster_addrs or redis.sentinel_addrs",
            kind.as_str()
        );
        check.problem("cache.type", message);
    }
    if config.enabled && !data_plane_needs_key {
        let warning = "cache.enabled is true and the data plane needs no key: calls without one share their answers, \
                       whatever cache.scope is";
        check.warnings.push(warning.to_owned());
    }
    Cache {
        enabled: config.enabled,
        kind,
        ttl: config.ttl.duration(),
        namespace: Arc::from(config.namespace.as_str()),
        scope: match config.scope {
            CacheScope::Key => Scope::Key,
            CacheScope::Team => Scope::Team,
            CacheScope::Organization => Scope::Organization,
            CacheScope::Global => Scope::Global,
        },
        memory_bytes: config.memory.max_bytes.bytes(),
        max_item_bytes: config.memory.max_item_bytes.bytes(),
        memory_ttl: config.memory.ttl.duration(),
    }
}
