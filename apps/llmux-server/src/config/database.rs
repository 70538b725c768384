//! Checks of where tenants, keys and spend live, and of how money and limits are kept.

use std::path::{Path, PathBuf};

use llmux_auth::DefaultLimits;
use llmux_auth::store::{PostgresConfig, SslMode};
use llmux_types::Secret;

use super::check::Check;
use super::file::{self, FileConfig, Toggle};
use super::settings::{Budget, Database, Spool};

/// Returns the key that switches a database on.
pub(super) fn reason(config: &FileConfig) -> Option<&'static str> {
    let given = |secret: &Option<Secret>| secret.as_ref().is_some_and(|secret| !secret.is_empty());
    match config.database.enabled {
        Toggle::False => None,
        Toggle::True => Some("database.enabled"),
        Toggle::Auto if given(&config.database.url) => Some("database.url"),
        Toggle::Auto if !config.database.host.is_empty() => Some("database.host"),
        Toggle::Auto => None,
    }
}

/// Finds the database: the configured one, else a file in the data folder.
pub(super) fn check(check: &mut Check<'_>, working_dir: &Path, data_dir: &Path) -> Database {
    let config = &check.config.database;
    let embedded = || Database::Sqlite(data_dir.join("llmux.db"));
    let Some(reason) = reason(check.config) else { return embedded() };
    let url = config.url.as_ref().map(Secret::expose).filter(|url| !url.is_empty());
    match url {
        Some(url) if url.starts_with("postgres://") || url.starts_with("postgresql://") => {
            postgres(check, working_dir, Secret::new(url))
        }
        Some(url) => match url.strip_prefix("sqlite://") {
            Some(path) if path.starts_with('/') && path.len() > 1 => {
                Database::Sqlite(PathBuf::from(path))
            }
            _ => {
                let message = "expected postgres://user:password@host:port/database or sqlite:///path/to/file.db";
                check.problem("database.url", message);
                embedded()
            }
        },
        None if config.host.is_empty() => {
            let message = "there is neither `url` nor `host`: give one, or leave the embedded database to `enabled: auto`";
            check.problem(reason, message);
            embedded()
        }
        None => {
            let secret = config.password.as_ref().map_or("", Secret::expose);
            let parts = [
                ("host", config.host.as_str()),
                ("port", &config.port.to_string()),
                ("user", &config.user),
                ("password", secret),
                ("dbname", &config.database),
            ];
            let parts = parts.into_iter().filter(|(_, value)| !value.is_empty());
            let text: Vec<_> =
                parts.map(|(key, value)| format!("{key}={}", quoted(value))).collect();
            postgres(check, working_dir, Secret::new(text.join(" ")))
        }
    }
}

/// Quotes a value for PostgreSQL's `key=value` form.
/// <https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING-KEYWORD-VALUE>
fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\\', r"\\").replace('\'', r"\'"))
}

fn postgres(check: &mut Check<'_>, working_dir: &Path, url: Secret) -> Database {
    let config = &check.config.database;
    let ca_file = (!config.ca_file.is_empty()).then(|| working_dir.join(&config.ca_file));
    let postgres = PostgresConfig {
        ssl_mode: match config.ssl_mode {
            file::SslMode::Disable => SslMode::Disable,
            file::SslMode::Prefer => SslMode::Prefer,
            file::SslMode::Require => SslMode::Require,
            file::SslMode::VerifyFull => SslMode::VerifyFull,
        },
        ca_file,
        exclusive: !config.allow_replicas,
        max_connections: usize::try_from(config.max_open_conns).unwrap_or(usize::MAX),
        ..PostgresConfig::new(url)
    };
    if config.max_open_conns == 0 {
        check.problem("database.max_open_conns", "must be at least 1");
    }
    if check.config.auth.master_key.as_ref().is_none_or(Secret::is_empty) {
        let message = "is needed with PostgreSQL, whose keys several gateways may share: set LLMUX_MASTER_KEY, for example to the output of `openssl rand -hex 32`";
        check.problem("auth.master_key", message);
    }
    Database::Postgres(postgres)
}

pub(super) const fn default_limits(config: &FileConfig) -> DefaultLimits {
    DefaultLimits {
        requests_per_minute: config.rate_limit.requests_per_minute,
        tokens_per_minute: config.rate_limit.tokens_per_minute,
    }
}

pub(super) fn budget(config: &FileConfig) -> Budget {
    Budget {
        block_unpriced: matches!(config.budget.on_missing_price, file::OnMissingPrice::Block),
        assumed_output_tokens: u64::from(config.budget.assumed_output_tokens),
        strict: config.budget.strict,
    }
}

pub(super) fn spool(config: &FileConfig) -> Spool {
    Spool {
        max_bytes: config.spool.max_bytes.bytes(),
        reject_when_full: matches!(config.spool.on_full, file::OnFull::Reject),
    }
}
