//! The checked configuration. Nothing here is optional where the program needs a value, and nothing in it needs the
//! environment any more.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use llmux_auth::DefaultLimits;
use llmux_auth::store::PostgresConfig;
use llmux_cache::{RedisConfig, Scope};
use llmux_providers::Vendor;
use llmux_router::{Builtin, Fallbacks, RetryPolicy};
use llmux_types::{PriceTable, Secret};

use super::fixed::Fixed;

/// Everything the server needs to know to run.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) source: Source,
    /// What a reload does not apply.
    pub(crate) fixed: Fixed,
    pub(crate) server: Server,
    pub(crate) auth: Auth,
    /// Enabled providers, in the order of the configuration; names are unique.
    pub(crate) providers: Vec<Provider>,
    pub(crate) routing: Routing,
    /// The built-in prices with `pricing_file` over them.
    pub(crate) prices: PriceTable,
    /// Drop parameters that a vendor cannot honour instead of answering 400.
    pub(crate) drop_params: bool,
    pub(crate) stream: Stream,
    pub(crate) logging: Logging,
    pub(crate) metrics: Metrics,
    pub(crate) tracing: Tracing,
    pub(crate) database: Database,
    pub(crate) cache: Cache,
    /// Where Redis is; `None`: there is none. A change needs a restart.
    pub(crate) redis: Option<RedisConfig>,
    /// Limits of keys that set none.
    pub(crate) default_limits: DefaultLimits,
    pub(crate) budget: Budget,
    /// How long usage records are kept; `None`: for ever.
    pub(crate) retention: Option<Duration>,
    pub(crate) spool: Spool,
    /// `LLMUX_DATA_DIR`, else `data` in the working directory.
    pub(crate) data_dir: PathBuf,
    /// To be logged once the log is set up: disabled providers, keys whose feature is not built yet.
    pub(crate) warnings: Vec<String>,
}

/// What a configuration was read from.
#[derive(Clone, Debug, Default)]
pub(crate) struct Source {
    /// The configuration file, as it was named; `None`: there is none.
    pub(crate) path: Option<String>,
    /// SHA-256 of the configuration file in hexadecimal digits.
    pub(crate) checksum: Option<String>,
    /// The file says nothing.
    pub(crate) is_empty: bool,
    /// All files whose content matters, also such as may come to exist.
    pub(crate) files: Vec<PathBuf>,
}

#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) host: IpAddr,
    pub(crate) port: u16,
    /// 0: the management plane is on the main port.
    pub(crate) admin_port: u16,
    /// The longest a request's head, or its body, may take to arrive.
    pub(crate) read_timeout: Duration,
    /// The longest that one blocked write towards a client may wait.
    pub(crate) write_timeout: Duration,
    /// The longest a keep-alive connection may wait for its next request.
    pub(crate) idle_timeout: Duration,
    pub(crate) shutdown_grace: Duration,
    pub(crate) max_body_bytes: usize,
    /// Number of worker threads; never 0.
    pub(crate) workers: usize,
    pub(crate) trusted_proxies: Vec<ipnet::IpNet>,
    pub(crate) tls: Option<Tls>,
}

/// PEM files of the server's own certificate.
#[derive(Clone, Debug)]
pub(crate) struct Tls {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

#[derive(Clone, Debug)]
pub(crate) struct Auth {
    /// Whether the data plane needs a key (`auth.enabled`, with `auto` resolved).
    pub(crate) data_plane_needs_key: bool,
    /// `None`: one is made at the first start and kept in the data folder.
    pub(crate) master_key: Option<Secret>,
}

/// Where tenants, keys and spend live.
#[derive(Clone, Debug)]
pub(crate) enum Database {
    /// A file, for this process only.
    Sqlite(PathBuf),
    /// A server, exclusively unless replicas are allowed.
    Postgres(PostgresConfig),
}

/// How money is reserved.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    /// Refuse models without a price instead of carrying them for nothing.
    pub(crate) block_unpriced: bool,
    /// Output tokens that are reserved, at most, for a request that names no maximum.
    pub(crate) assumed_output_tokens: u64,
    /// Reserve the most that a model can answer, so that spend never passes a budget.
    pub(crate) strict: bool,
}

/// Usage records on their way to the database.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spool {
    /// The most bytes that wait on the disk.
    pub(crate) max_bytes: u64,
    /// Whether a full spool refuses requests; otherwise it drops records.
    pub(crate) reject_when_full: bool,
}

#[derive(Debug)]
pub(crate) struct Provider {
    pub(crate) name: String,
    pub(crate) vendor: &'static Vendor,
    /// `None` for servers without authentication.
    pub(crate) api_key: Option<Secret>,
    /// Absolute http or https URL without a trailing slash, a query, a fragment or credentials.
    pub(crate) base_url: String,
    /// Azure's `api-version`.
    pub(crate) api_version: Option<String>,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) timeout: Duration,
    pub(crate) stream_idle_timeout: Duration,
    pub(crate) connect_timeout: Duration,
    /// 0: no limit.
    pub(crate) max_concurrent: u32,
    pub(crate) models: Vec<Model>,
}

/// One deployment: a model of a provider.
#[derive(Debug)]
pub(crate) struct Model {
    /// What clients ask for; `*` in it makes it a wildcard.
    pub(crate) name: String,
    /// What the provider is asked for; `None`: the same name (a wildcard: the asked name, less `<provider>/`).
    pub(crate) upstream: Option<String>,
    /// The model's weight, else the provider's if that is not the usual 1.
    pub(crate) weight: Option<u32>,
    /// Requests per minute; `None`: no limit.
    pub(crate) rpm: Option<u64>,
    /// Tokens per minute; `None`: no limit.
    pub(crate) tpm: Option<u64>,
    /// The provider's tags and the model's.
    pub(crate) tags: Vec<String>,
    /// Its own price of an input token in pico-dollars; `None`: the table's.
    pub(crate) input_price: Option<u64>,
    /// Its own price of an output token in pico-dollars; `None`: the table's.
    pub(crate) output_price: Option<u64>,
    /// The model's timeout, else the provider's.
    pub(crate) timeout: Duration,
}

impl Model {
    /// Returns the wildcard of the default provider.
    pub(crate) fn any(timeout: Duration) -> Self {
        Self {
            name: "*".to_owned(),
            upstream: None,
            weight: None,
            rpm: None,
            tpm: None,
            tags: Vec::new(),
            input_price: None,
            output_price: None,
            timeout,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Routing {
    /// How deployments are chosen and when they are left alone.
    pub(crate) router: llmux_router::Config,
    /// Strategies of single models, by their configured names.
    pub(crate) model_strategy: BTreeMap<String, Builtin>,
    pub(crate) retry: RetryPolicy,
    /// Models that a request may go on with; all of them exist.
    pub(crate) fallbacks: Fallbacks,
    /// Name of the provider that takes names nothing else matches.
    pub(crate) default_provider: Option<String>,
}

#[derive(Debug)]
pub(crate) struct Stream {
    /// Idle time after which a comment keeps a client's connection alive.
    pub(crate) keep_alive: Duration,
    pub(crate) include_usage: IncludeUsage,
}

/// Whether upstreams are asked for the usage of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IncludeUsage {
    /// Unless the vendor is known to refuse the question.
    Auto,
    Always,
    Never,
}

#[derive(Clone, Debug)]
pub(crate) struct Logging {
    /// A level, or a list of levels by module: `info,llmux_server::proxy=debug`.
    pub(crate) level: String,
    pub(crate) format: LogFormat,
    /// Whether what is asked and answered is logged.
    pub(crate) content: bool,
}

/// OpenTelemetry traces.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tracing {
    pub(crate) enabled: bool,
    pub(crate) collector: Collector,
    pub(crate) protocol: TraceProtocol,
    pub(crate) service_name: String,
    /// Share of the requests without a parent that are traced, from 0 to 1.
    pub(crate) sample_rate: f64,
    /// Attributes of the process besides its name.
    pub(crate) resource: Vec<(String, String)>,
}

/// Where spans are sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Collector {
    pub(crate) https: bool,
    pub(crate) host: String,
    pub(crate) port: u16,
    /// `host:port`, as in a URL.
    pub(crate) authority: String,
    /// Empty for gRPC.
    pub(crate) path: String,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
}

/// How spans are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TraceProtocol {
    Grpc,
    /// Protobuf in HTTP/1.1.
    Http,
}

/// The response cache.
#[derive(Clone, Debug)]
pub(crate) struct Cache {
    pub(crate) enabled: bool,
    pub(crate) kind: CacheKind,
    /// How long an answer is good.
    pub(crate) ttl: Duration,
    pub(crate) namespace: Arc<str>,
    pub(crate) scope: Scope,
    /// The most memory for answers.
    pub(crate) memory_bytes: u64,
    /// The largest answer that is kept, wherever that is.
    pub(crate) max_item_bytes: u64,
    /// How long an answer stays in memory.
    pub(crate) memory_ttl: Duration,
}

/// Where answers are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CacheKind {
    /// In memory.
    Local,
    /// In Redis.
    Redis,
    /// In memory in front of Redis.
    Dual,
}

impl CacheKind {
    /// Returns the word used in configurations.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Redis => "redis",
            Self::Dual => "dual",
        }
    }
}

/// Prometheus metrics.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    pub(crate) enabled: bool,
    pub(crate) path: String,
    /// Whether reading them needs a key. True if they show tenants.
    pub(crate) require_auth: bool,
    /// Whether keys and teams have series of their own.
    pub(crate) tenant_labels: bool,
    /// Whether they are also served under LiteLLM's names.
    pub(crate) litellm_names: bool,
}

impl Metrics {
    /// Tells whether they are served at this path.
    pub(crate) fn is_at(&self, path: &str) -> bool {
        self.enabled && self.path == path
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFormat {
    Json,
    Text,
}
