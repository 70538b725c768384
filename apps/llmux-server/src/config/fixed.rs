//! What counts only at the start: keys that a reload does not apply.

use llmux_types::Secret;
use serde_json::Value;

use super::Settings;
use super::file::FileConfig;

/// Keys, and sections as a whole.
const KEYS: &[&str] = &[
    "server.host",
    "server.port",
    "server.admin_port",
    "server.workers",
    "server.tls.cert",
    "server.tls.key",
    "auth.enabled",
    "database",
    "redis",
    "spool",
    "metrics",
    "tracing.enabled",
    "tracing.endpoint",
    "tracing.protocol",
    "tracing.service_name",
];

/// The values of the keys that a reload does not apply.
#[derive(Debug, Default)]
pub(crate) struct Fixed {
    values: Vec<Value>,
    secrets: [Option<Secret>; 5],
}

/// The keys of `Fixed::secrets`: no secret is written into a tree of values.
const SECRETS: [&str; 5] =
    ["auth.master_key", "database.url", "database.password", "redis.addr", "redis.password"];

impl Fixed {
    pub(super) fn of(config: &FileConfig) -> Self {
        let tree = serde_json::to_value(config).unwrap_or_default();
        let value = |key: &&str| {
            let pointer = format!("/{}", key.replace('.', "/"));
            tree.pointer(&pointer).cloned().unwrap_or_default()
        };
        let FileConfig { auth, database, redis, .. } = config;
        let secrets =
            [&auth.master_key, &database.url, &database.password, &redis.addr, &redis.password];
        Self { values: KEYS.iter().map(value).collect(), secrets: secrets.map(Clone::clone) }
    }

    /// Returns the keys whose values differ.
    pub(crate) fn changed(&self, other: &Self) -> Vec<String> {
        let mut changed = Vec::new();
        for (key, (ours, theirs)) in KEYS.iter().zip(self.values.iter().zip(&other.values)) {
            super::check::compare(ours, theirs, key, &mut changed);
        }
        let text = |secret: &Option<Secret>| secret.as_ref().map(|it| it.expose().to_owned());
        for (key, (ours, theirs)) in SECRETS.iter().zip(self.secrets.iter().zip(&other.secrets)) {
            if text(ours) != text(theirs) {
                changed.push((*key).to_owned());
            }
        }
        changed
    }
}

impl Settings {
    /// Keeps of another configuration what counts only at the start.
    pub(crate) fn keep_fixed(&mut self, running: &Self) {
        let (ours, theirs) = (&mut self.server, &running.server);
        (ours.host, ours.port, ours.admin_port) = (theirs.host, theirs.port, theirs.admin_port);
        (ours.workers, ours.tls) = (theirs.workers, theirs.tls.clone());
        self.auth = running.auth.clone();
        self.database = running.database.clone();
        self.redis = running.redis.clone();
        self.spool = running.spool;
        self.metrics = running.metrics.clone();
        let sample_rate = self.tracing.sample_rate;
        self.tracing = super::Tracing { sample_rate, ..running.tracing.clone() };
        self.data_dir.clone_from(&running.data_dir);
    }
}
