//! From what the file may say to what the server runs on.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use http::HeaderValue;
use ipnet::IpNet;
use llmux_types::PriceTable;
use serde_json::Value as Json;

use super::file::{self, FileConfig, Toggle};
use super::node::Origin;
use super::units::Period;
use super::walk::{Unset, Walk};
use super::{
    Auth, Fixed, IncludeUsage, Metrics, Problem, Server, Settings, Source, Sources, Stream, Tls,
    cache, providers, routing, sorted,
};
use super::{database, telemetry};

/// The state of the checks: what was read, and what was found so far.
pub(super) struct Check<'a> {
    pub(super) config: &'a FileConfig,
    pub(super) warnings: Vec<String>,
    pub(super) unset: BTreeMap<usize, Vec<Unset>>,
    origins: BTreeMap<String, Origin>,
    problems: Vec<Problem>,
}

impl Check<'_> {
    /// Notes a problem with the value of a key.
    pub(super) fn problem(&mut self, path: impl Into<String>, message: impl Into<String>) {
        let path = path.into();
        // A key that is not written stands where the thing that lacks it does.
        let mut origin = self.origins.get(&path);
        let mut outer = path.as_str();
        while let (None, Some((before, _))) = (origin, outer.rsplit_once('.')) {
            origin = self.origins.get(before);
            outer = before;
        }
        let problem = Problem::new(path.as_str(), origin.unwrap_or(&Origin::Unknown), message);
        self.problems.push(problem);
    }

    /// Notes that a key has no value, unless it has one that was found wrong or unset before.
    pub(super) fn missing(&mut self, path: &str, message: &str) {
        if !self.is_known_bad(path) {
            self.problem(path, message);
        }
    }

    /// Tells whether the key, or what it stands in, had a problem or an unset variable before.
    pub(super) fn is_known_bad(&self, path: &str) -> bool {
        let covers = |outer: &str| {
            path.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        self.problems.iter().any(|problem| covers(&problem.path))
            || self.unset.values().flatten().any(|unset| covers(&unset.path))
    }

    pub(super) fn is_given(&self, path: &str) -> bool {
        self.origins.contains_key(path)
    }

    pub(super) fn positive(&mut self, path: &str, period: Period) {
        if period.is_zero() {
            self.problem(path, "must be longer than 0");
        }
    }
}

/// Checks the merged configuration. Problems of the walk are told together with those found here.
pub(super) fn check(
    config: &FileConfig,
    walk: Walk<'_>,
    warnings: Vec<String>,
    sources: &Sources,
    mut source: Source,
) -> Result<Settings, Vec<Problem>> {
    let environment = walk.environment;
    let mut check = Check {
        config,
        warnings,
        unset: walk.unset,
        origins: walk.origins,
        problems: walk.problems,
    };
    let providers = providers::check(&mut check);
    let server = check_server(&mut check, &sources.working_dir);
    let auth = check_auth(&mut check, server.host);
    let routing = routing::check(&mut check, &providers);
    let prices = check_prices(&mut check, &sources.working_dir);
    check.positive("stream.keep_alive", config.stream.keep_alive);
    let metrics = check_metrics(&mut check);
    let logging = telemetry::logging(&mut check);
    let tracing = telemetry::tracing(&mut check, environment);
    let changed = changed(config);
    warn_of_no_effect(&mut check, &changed);
    let data_dir = environment.get("LLMUX_DATA_DIR").filter(|path| !path.is_empty());
    let data_dir = sources.working_dir.join(data_dir.map_or("data", String::as_str));
    let database = database::check(&mut check, &sources.working_dir, &data_dir);
    if !config.pricing_file.is_empty() {
        source.files.push(sources.working_dir.join(&config.pricing_file));
    }
    source.files.extend(server.tls.iter().flat_map(|tls| [tls.cert.clone(), tls.key.clone()]));
    let redis = cache::redis(&mut check, &sources.working_dir);
    let cache = cache::check(&mut check, auth.data_plane_needs_key);
    let settings = Settings {
        source,
        fixed: Fixed::of(config),
        server,
        auth,
        providers,
        routing,
        prices,
        drop_params: config.drop_params,
        stream: Stream {
            keep_alive: config.stream.keep_alive.duration(),
            include_usage: match config.stream.include_usage {
                Toggle::Auto => IncludeUsage::Auto,
                Toggle::True => IncludeUsage::Always,
                Toggle::False => IncludeUsage::Never,
            },
        },
        logging,
        metrics,
        tracing,
        database,
        cache,
        redis,
        default_limits: database::default_limits(config),
        budget: database::budget(config),
        retention: Some(config.spend.retention.duration()).filter(|time| !time.is_zero()),
        spool: database::spool(config),
        data_dir,
        warnings: check.warnings,
    };
    if check.problems.is_empty() { Ok(settings) } else { Err(sorted(check.problems)) }
}

/// Returns the text that an enumeration's value has in the file.
pub(super) fn text_of(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(Json::String(text)) => text,
        other => format!("{other:?}"),
    }
}

fn check_server(check: &mut Check<'_>, working_dir: &Path) -> Server {
    let config = &check.config.server;
    let host = match config.host.as_str() {
        "localhost" => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        host => host.parse().ok(),
    };
    if host.is_none() {
        check.problem("server.host", "expected an IP address or localhost");
    }
    if config.admin_port != 0 && config.admin_port == config.port {
        check.problem(
            "server.admin_port",
            "must differ from server.port; 0 serves both planes on the main port",
        );
    }
    for (path, period) in [
        ("server.read_timeout", config.read_timeout),
        ("server.write_timeout", config.write_timeout),
        ("server.idle_timeout", config.idle_timeout),
    ] {
        check.positive(path, period);
    }
    if config.max_body_bytes.bytes() == 0 {
        check.problem("server.max_body_bytes", "must be more than 0");
    }
    let mut trusted_proxies = Vec::new();
    for (index, text) in config.trusted_proxies.iter().enumerate() {
        match text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)) {
            Ok(network) => trusted_proxies.push(network),
            Err(_) if check.is_known_bad(&format!("server.trusted_proxies[{index}]")) => {}
            Err(_) => {
                let message = "expected an IP address or a CIDR such as 10.0.0.0/8";
                check.problem(format!("server.trusted_proxies[{index}]"), message);
            }
        }
    }
    Server {
        host: host.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        port: config.port,
        admin_port: config.admin_port,
        read_timeout: config.read_timeout.duration(),
        write_timeout: config.write_timeout.duration(),
        idle_timeout: config.idle_timeout.duration(),
        shutdown_grace: config.shutdown_grace.duration(),
        max_body_bytes: usize::try_from(config.max_body_bytes.bytes()).unwrap_or(usize::MAX),
        workers: match config.workers {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            workers => usize::from(workers),
        },
        trusted_proxies,
        tls: check_tls(check, working_dir),
    }
}

fn check_tls(check: &mut Check<'_>, working_dir: &Path) -> Option<Tls> {
    let config = &check.config.server.tls;
    let mut file = |key: &str, name: &str, other: &str| {
        let path = format!("server.tls.{key}");
        if name.is_empty() {
            if !other.is_empty() {
                check.problem(path, "both cert and key are needed");
            }
            return None;
        }
        let file: PathBuf = working_dir.join(name);
        if let Err(error) = std::fs::File::open(&file) {
            check.problem(path, format!("cannot be read: {error}"));
        }
        Some(file)
    };
    let cert = file("cert", &config.cert, &config.key);
    let key = file("key", &config.key, &config.cert);
    Some(Tls { cert: cert?, key: key? })
}

fn check_auth(check: &mut Check<'_>, host: IpAddr) -> Auth {
    let config = &check.config.auth;
    let master_key = config.master_key.clone().filter(|key| !key.is_empty());
    if let Some(key) = &master_key {
        let sane =
            HeaderValue::from_str(key.expose()).is_ok() && key.expose().trim() == key.expose();
        if !sane {
            check.problem(
                "auth.master_key",
                "begins or ends with a space, or holds characters that no header can carry",
            );
        }
    }
    if config.enabled == Toggle::False && !host.is_loopback() {
        let warning = "auth.enabled is false and server.host is not loopback: whoever reaches the port can spend";
        check.warnings.push(warning.to_owned());
    }
    let data_plane_needs_key = match config.enabled {
        Toggle::True => true,
        Toggle::False => false,
        Toggle::Auto => {
            master_key.is_some() || database::reason(check.config).is_some() || !host.is_loopback()
        }
    };
    Auth { data_plane_needs_key, master_key }
}

fn check_metrics(check: &mut Check<'_>) -> Metrics {
    let file::Metrics { enabled, path, require_auth, tenant_labels, litellm_names } =
        &check.config.metrics;
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "/-_.~".contains(letter);
    if !path.starts_with('/') {
        check.problem("metrics.path", "must begin with `/`");
    } else if !path.chars().all(is_plain) || path.len() == 1 {
        check.problem("metrics.path", "may have letters, digits and - . _ ~ between its slashes");
    } else if crate::routes::is_taken(path) {
        check.problem("metrics.path", "is the path of another route");
    }
    Metrics {
        enabled: *enabled,
        path: path.clone(),
        require_auth: *require_auth || *tenant_labels,
        tenant_labels: *tenant_labels,
        litellm_names: *litellm_names,
    }
}

fn check_prices(check: &mut Check<'_>, working_dir: &Path) -> PriceTable {
    let name = &check.config.pricing_file;
    if name.is_empty() {
        return PriceTable::default();
    }
    match std::fs::read_to_string(working_dir.join(name)) {
        Err(error) => check.problem("pricing_file", format!("cannot be read: {error}")),
        Ok(text) => match PriceTable::with_file(&text) {
            Ok(table) => return table,
            Err(problems) => {
                for problem in problems {
                    check.problem("pricing_file", problem.to_string());
                }
            }
        },
    }
    PriceTable::default()
}

/// Returns the paths of all keys, but those of providers and secrets, that differ from their default.
fn changed(config: &FileConfig) -> Vec<String> {
    let mut changed = Vec::new();
    if let (Ok(ours), Ok(default)) =
        (serde_json::to_value(config), serde_json::to_value(FileConfig::default()))
    {
        compare(&ours, &default, "", &mut changed);
    }
    changed
}

pub(super) fn compare(ours: &Json, default: &Json, path: &str, changed: &mut Vec<String>) {
    match (ours, default) {
        (Json::Object(ours), Json::Object(default)) if path.is_empty() || !default.is_empty() => {
            for (key, value) in ours.iter().filter(|(key, _)| *key != "providers") {
                compare(
                    value,
                    default.get(key).unwrap_or(&Json::Null),
                    &super::walk::join(path, key),
                    changed,
                );
            }
        }
        _ if ours != default => changed.push(path.to_owned()),
        _ => {}
    }
}

/// What is only missed, not unsafe, may be written and is named in one warning.
fn warn_of_no_effect(check: &mut Check<'_>, changed: &[String]) {
    let mut keys: Vec<String> = Vec::new();
    for path in changed {
        match path.split_once('.').unwrap_or((path, "")) {
            ("rate_limit", "fail_open") => {}
            _ => continue,
        }
        keys.push(path.clone());
    }
    if !keys.is_empty() {
        check
            .warnings
            .push(format!("these keys have no effect in this version: {}", keys.join(", ")));
    }
}
