//! What a configuration file may say: one struct per section, every key with its default. The doc comments are the
//! descriptions of the JSON schema and of the reference in `docs/configuration.md`.

use std::borrow::Cow;
use std::collections::BTreeMap;

use llmux_types::Secret;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::units::{Period, Size};

/// The configuration of LLMux.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
#[schemars(title = "LLMux configuration")]
pub(super) struct FileConfig {
    /// Refuse to start when a provider names a variable that is not set, or lacks a key it needs. Otherwise such a
    /// provider is disabled with a warning.
    pub(super) strict_env: bool,
    /// Drop parameters that a vendor cannot honour instead of answering 400.
    pub(super) drop_params: bool,
    pub(super) server: Server,
    pub(super) auth: Auth,
    pub(super) database: Database,
    pub(super) redis: Redis,
    /// Where requests may go. Left out: every vendor whose key variable is set, with its well-known models.
    pub(super) providers: Vec<Provider>,
    pub(super) routing: Routing,
    pub(super) cache: Cache,
    pub(super) rate_limit: RateLimit,
    pub(super) budget: Budget,
    pub(super) spend: Spend,
    pub(super) spool: Spool,
    pub(super) stream: Stream,
    pub(super) logging: Logging,
    pub(super) metrics: Metrics,
    pub(super) tracing: Tracing,
    /// File in the format of LiteLLM's price map, merged over the built-in prices.
    pub(super) pricing_file: String,
}

/// Where and how the server listens.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Server {
    /// IP address to listen on, or `localhost`. `0.0.0.0` or `::` for all interfaces.
    pub(super) host: String,
    /// Port of the data plane. 0 takes any free port.
    pub(super) port: u16,
    /// Port of the management API and the metrics. 0: they are on the main port.
    pub(super) admin_port: u16,
    /// Longest that a request's head, or its body, may take to arrive.
    pub(super) read_timeout: Period,
    /// Longest that one blocked write towards a client may wait. Never a limit on the length of a call or a stream.
    pub(super) write_timeout: Period,
    /// Longest that a keep-alive connection may wait for its next request.
    pub(super) idle_timeout: Period,
    /// Time that requests in flight have to finish after SIGTERM or SIGINT.
    pub(super) shutdown_grace: Period,
    /// Largest request body; a larger one is answered with 413.
    pub(super) max_body_bytes: Size,
    /// Worker threads. 0: one per core.
    pub(super) workers: u16,
    /// Addresses or CIDRs whose `Forwarded` and `X-Forwarded-For` headers are believed.
    pub(super) trusted_proxies: Vec<String>,
    pub(super) tls: Tls,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            host: "127.0.0.1".to_owned(),
            port: 8080,
            admin_port: 0,
            read_timeout: Period::seconds(30),
            write_timeout: Period::seconds(120),
            idle_timeout: Period::seconds(75),
            shutdown_grace: Period::seconds(60),
            max_body_bytes: Size::mebibytes(32),
            workers: 0,
            trusted_proxies: Vec::new(),
            tls: Tls::default(),
        }
    }
}

/// The server's own certificate. Both files or none.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Tls {
    /// PEM file with the certificate chain. Serves HTTPS and HTTP/2.
    pub(super) cert: String,
    /// PEM file with the private key.
    pub(super) key: String,
}

/// Who may call.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Auth {
    /// Whether the data plane needs a key. `auto`: when a master key is set, a database is configured, or
    /// `server.host` is not loopback.
    pub(super) enabled: Toggle,
    /// Key of the management plane, good for the data plane too. Default: `${LLMUX_MASTER_KEY:}`; without one a random
    /// key is made at the first start and kept in the data folder.
    #[serde(skip_serializing)]
    #[schemars(with = "String")]
    pub(super) master_key: Option<Secret>,
}

/// Where tenants, keys and spend live.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Database {
    /// `auto`: on when `url` or `host` is given, or `DB_HOST` is set.
    pub(super) enabled: Toggle,
    /// `postgres://...`, or `sqlite:///path/llmux.db`. Instead of it the parts below may be given.
    #[serde(skip_serializing)]
    #[schemars(with = "String")]
    pub(super) url: Option<Secret>,
    /// Host name. Default: `${DB_HOST:}`.
    pub(super) host: String,
    /// Port. Default: `${DB_PORT:5432}`.
    pub(super) port: u16,
    /// User. Default: `${DB_USER:llmux}`.
    pub(super) user: String,
    /// Password. Default: `${DB_PASSWORD:}`.
    #[serde(skip_serializing)]
    #[schemars(with = "String")]
    pub(super) password: Option<Secret>,
    /// Name of the database. Default: `${DB_NAME:llmux}`.
    pub(super) database: String,
    /// How far TLS is demanded.
    pub(super) ssl_mode: SslMode,
    /// PEM file with the certificate authority of the database.
    pub(super) ca_file: String,
    /// Most connections open at once.
    pub(super) max_open_conns: u32,
    /// Allow a second process on the same database before limits are shared.
    pub(super) allow_replicas: bool,
}

impl Default for Database {
    fn default() -> Self {
        Self {
            enabled: Toggle::Auto,
            url: None,
            host: String::new(),
            port: 5432,
            user: "llmux".to_owned(),
            password: None,
            database: "llmux".to_owned(),
            ssl_mode: SslMode::Prefer,
            ca_file: String::new(),
            max_open_conns: 25,
            allow_replicas: false,
        }
    }
}

/// Where gateways share what they have: the response cache, in this version. A change needs a restart.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Redis {
    /// `host:port`, or `redis(s)://user:pass@host:port/db`. Default: `${REDIS_ADDR:}`.
    #[serde(skip_serializing)]
    #[schemars(with = "String")]
    pub(super) addr: Option<Secret>,
    /// Password. Default: `${REDIS_PASSWORD:}`.
    #[serde(skip_serializing)]
    #[schemars(with = "String")]
    pub(super) password: Option<Secret>,
    /// Number of the database, 0 to 255; 0 with a cluster.
    pub(super) db: u32,
    /// Addresses of a cluster's nodes: `host:port`, or `rediss://host:port` with TLS. Instead of `addr`.
    pub(super) cluster_addrs: Vec<String>,
    /// Addresses of sentinels, written like those of a cluster. Instead of `addr`.
    pub(super) sentinel_addrs: Vec<String>,
    /// Name of the sentinels' master.
    pub(super) sentinel_master: String,
    /// PEM file with the certificate authority of the server. Without it the system's authorities count.
    pub(super) ca_file: String,
}

/// One upstream account.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Provider {
    /// Unique name: letters, digits, `-`, `_`, `.`. Clients may ask for `<name>/<model>`.
    pub(super) name: String,
    /// Vendor: `openai`, `azure`, `anthropic`, `gemini`, `mock`, or a compatible vendor of the built-in table.
    #[serde(rename = "type")]
    pub(super) vendor: String,
    /// Credential of the account. May be empty for servers without authentication.
    #[serde(skip_serializing)]
    #[schemars(with = "String")]
    pub(super) api_key: Option<Secret>,
    /// Where the vendor answers; every type but `azure` has a default. OpenAI-like: with the version segment
    /// (`https://host/v1`); anthropic, gemini, azure: without.
    pub(super) base_url: String,
    /// Azure's `api-version`; `headers.api-version` is the same.
    pub(super) api_version: String,
    /// Headers added to each upstream request.
    #[serde(skip_serializing)]
    #[schemars(with = "BTreeMap<String, String>")]
    pub(super) headers: BTreeMap<String, Secret>,
    /// Longest for a whole call; for a stream: until the first event with output.
    pub(super) timeout: Period,
    /// Longest silence within a stream.
    pub(super) stream_idle_timeout: Period,
    /// Longest for a connection to be made.
    pub(super) connect_timeout: Period,
    /// Most calls at once. Over it another deployment is tried. 0: no limit.
    pub(super) max_concurrent: u32,
    /// Share of the traffic among deployments of the same model name.
    pub(super) weight: u32,
    /// Tags that requests may ask for, of all its models.
    pub(super) tags: Vec<String>,
    /// What clients may ask for: names, wildcards such as `vendor/*`, or maps.
    pub(super) models: Vec<ModelEntry>,
}

impl Default for Provider {
    fn default() -> Self {
        Self {
            name: String::new(),
            vendor: String::new(),
            api_key: None,
            base_url: String::new(),
            api_version: String::new(),
            headers: BTreeMap::new(),
            timeout: Period::seconds(600),
            stream_idle_timeout: Period::seconds(120),
            connect_timeout: Period::seconds(5),
            max_concurrent: 0,
            weight: 1,
            tags: Vec::new(),
            models: Vec::new(),
        }
    }
}

/// A model: its name, or a map.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(untagged)]
pub(super) enum ModelEntry {
    Name(String),
    Model(Box<Model>),
}

/// One deployment.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Model {
    /// What clients ask for.
    pub(super) name: String,
    /// What the provider is asked for. Default: the same name. Azure: the deployment's name.
    pub(super) upstream: String,
    /// Share of the traffic. Default: the provider's.
    #[schemars(with = "u32")]
    pub(super) weight: Option<u32>,
    /// Most requests per minute. Over it another deployment is tried. 0: none.
    #[schemars(with = "u64")]
    pub(super) rpm: Option<u64>,
    /// Most tokens per minute, of requests and answers together. 0: none.
    #[schemars(with = "u64")]
    pub(super) tpm: Option<u64>,
    /// Tags that requests may ask for, besides the provider's.
    pub(super) tags: Vec<String>,
    /// Price of an input token in USD.
    #[schemars(with = "f64", range(min = 0.0))]
    pub(super) input_cost_per_token: Option<f64>,
    /// Price of an output token in USD.
    #[schemars(with = "f64", range(min = 0.0))]
    pub(super) output_cost_per_token: Option<f64>,
    /// Longest for a whole call. Default: the provider's.
    #[schemars(with = "Period")]
    pub(super) timeout: Option<Period>,
}

/// Which deployment is tried, and what happens after a failure.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Routing {
    /// How a deployment is chosen.
    pub(super) strategy: Strategy,
    /// Strategy per model name.
    pub(super) model_strategy: BTreeMap<String, Strategy>,
    /// Whether another deployment may be tried after a failure. `false`: retries stay on the first one.
    pub(super) fallback_enabled: bool,
    /// Further attempts after the first, over all models of the request together.
    pub(super) retry_count: u32,
    /// Wait before the first further attempt; doubled for each next one.
    pub(super) retry_backoff: Period,
    /// Longest wait between two attempts.
    pub(super) retry_max_backoff: Period,
    /// Random part of the wait, from 0 to 1.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub(super) retry_jitter: f64,
    /// How long a failing deployment is left alone. 0: never.
    pub(super) cooldown_period: Period,
    /// Failures within a minute, at least half of the calls, after which a deployment is left alone. 429 and a refused
    /// credential act at once. The only deployment of a model is never left alone.
    pub(super) allowed_fails: u32,
    /// How much slower than the fastest a deployment may be and still be chosen by `lowest-latency`.
    #[schemars(range(min = 0.0))]
    pub(super) latency_buffer: f64,
    /// Whether a deployment needs one or all of a request's tags.
    pub(super) tag_match: TagMatch,
    /// Name of the provider that takes model names which nothing else matches.
    pub(super) default_provider: String,
    /// Models to go on with when all deployments of one have failed, are busy or out of use.
    pub(super) fallbacks: BTreeMap<String, Vec<String>>,
    /// Models to go on with when a request does not fit the context window.
    pub(super) context_window_fallbacks: BTreeMap<String, Vec<String>>,
    /// Models to go on with when the vendor refuses the content.
    pub(super) content_policy_fallbacks: BTreeMap<String, Vec<String>>,
}

impl Default for Routing {
    fn default() -> Self {
        Self {
            strategy: Strategy::SimpleShuffle,
            model_strategy: BTreeMap::new(),
            fallback_enabled: true,
            retry_count: 3,
            retry_backoff: Period::millis(100),
            retry_max_backoff: Period::seconds(5),
            retry_jitter: 0.2,
            cooldown_period: Period::seconds(60),
            allowed_fails: 3,
            latency_buffer: 0.1,
            tag_match: TagMatch::Any,
            default_provider: String::new(),
            fallbacks: BTreeMap::new(),
            context_window_fallbacks: BTreeMap::new(),
            content_policy_fallbacks: BTreeMap::new(),
        }
    }
}

/// Response cache.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Cache {
    /// Whether answers of chat completions, completions and embeddings are kept and given again.
    pub(super) enabled: bool,
    /// Where answers are kept: in this process, in Redis, or in this process in front of Redis.
    #[serde(rename = "type")]
    pub(super) kind: CacheType,
    /// How long an answer is good, however often it is given.
    pub(super) ttl: Period,
    /// Prefix of the keys in a shared cache; a flush empties it.
    pub(super) namespace: String,
    /// Who shares answers: nobody but the key itself, its team, its organization, all.
    pub(super) scope: CacheScope,
    pub(super) memory: CacheMemory,
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            enabled: false,
            kind: CacheType::Local,
            ttl: Period::seconds(3600),
            namespace: "llmux".to_owned(),
            scope: CacheScope::Key,
            memory: CacheMemory::default(),
        }
    }
}

/// The part of the cache in this process.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct CacheMemory {
    /// Most memory for answers. When it is full, those go that are used least.
    pub(super) max_bytes: Size,
    /// Largest answer that is kept, in Redis, too.
    pub(super) max_item_bytes: Size,
    /// How long an answer stays in memory, at most as long as `cache.ttl`.
    pub(super) ttl: Period,
}

impl Default for CacheMemory {
    fn default() -> Self {
        Self {
            max_bytes: Size::mebibytes(256),
            max_item_bytes: Size::mebibytes(1),
            ttl: Period::seconds(600),
        }
    }
}

/// Limits of keys that set none.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RateLimit {
    /// `null`: no limit; 0: nothing.
    pub(super) requests_per_minute: Option<u64>,
    /// `null`: no limit; 0: nothing.
    pub(super) tokens_per_minute: Option<u64>,
    /// Shared counters are gone: count in this process (`true`) or answer 503 (`false`). There are none yet.
    pub(super) fail_open: bool,
}

impl Default for RateLimit {
    fn default() -> Self {
        Self { requests_per_minute: None, tokens_per_minute: None, fail_open: true }
    }
}

/// How money is reserved.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Budget {
    /// A model without a price costs nothing (`allow`) or is refused (`block`).
    pub(super) on_missing_price: OnMissingPrice,
    /// Output tokens reserved for a request that names no maximum.
    pub(super) assumed_output_tokens: u32,
    /// Reserve the model's maximum, so that spend never passes the budget.
    pub(super) strict: bool,
}

impl Default for Budget {
    fn default() -> Self {
        Self { on_missing_price: OnMissingPrice::Allow, assumed_output_tokens: 4096, strict: false }
    }
}

/// Spend records.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Spend {
    /// How long records are kept. 0: for ever.
    pub(super) retention: Period,
}

/// Records on their way to the database.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Spool {
    /// Most disk space.
    pub(super) max_bytes: Size,
    /// A full spool refuses requests, or drops records and counts them.
    pub(super) on_full: OnFull,
}

impl Default for Spool {
    fn default() -> Self {
        Self { max_bytes: Size::mebibytes(1024), on_full: OnFull::Reject }
    }
}

/// Streamed answers.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Stream {
    /// Silence after which a comment keeps a client's connection alive.
    pub(super) keep_alive: Period,
    /// Whether vendors are asked for a stream's usage. `auto`: unless the vendor is known to refuse that.
    pub(super) include_usage: Toggle,
}

impl Default for Stream {
    fn default() -> Self {
        Self { keep_alive: Period::seconds(15), include_usage: Toggle::Auto }
    }
}

/// The log on standard output.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Logging {
    /// Least important level that is shown: off, error, warn, info, debug or trace; by module in a list such as
    /// `info,llmux_server::proxy=debug`. Default: `${LOG_LEVEL:info}`.
    pub(super) level: String,
    /// One JSON object a line, or text for people.
    pub(super) format: LogFormat,
    /// Log what is asked and answered, cut at 16 KiB each.
    pub(super) content: bool,
}

impl Default for Logging {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: LogFormat::Json, content: false }
    }
}

/// Prometheus metrics.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Metrics {
    /// Whether they are served.
    pub(super) enabled: bool,
    /// Path of the route. On `server.admin_port` if that is set, else on the main port.
    pub(super) path: String,
    /// Whether reading them needs a key, any valid one.
    pub(super) require_auth: bool,
    /// Add families by key and team, for at most 1000 keys; implies `require_auth`.
    pub(super) tenant_labels: bool,
    /// Also serve them under LiteLLM's names, for its dashboards.
    pub(super) litellm_names: bool,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            enabled: true,
            path: "/metrics".to_owned(),
            require_auth: false,
            tenant_labels: false,
            litellm_names: false,
        }
    }
}

/// OpenTelemetry traces.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Tracing {
    /// Whether spans are exported.
    pub(super) enabled: bool,
    /// Collector's address: host:port, or a URL. Default: `${OTEL_EXPORTER_OTLP_ENDPOINT:localhost:4317}`; with
    /// `protocol: http` `localhost:4318`.
    pub(super) endpoint: String,
    /// OTLP over gRPC, or over HTTP as protobuf.
    pub(super) protocol: Protocol,
    /// Name of this service in the traces.
    pub(super) service_name: String,
    /// Share of the requests that are traced, from 0 to 1; those that come with a `traceparent` do as it says.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub(super) sample_rate: f64,
}

impl Default for Tracing {
    fn default() -> Self {
        Self {
            enabled: false,
            endpoint: "localhost:4317".to_owned(),
            protocol: Protocol::Grpc,
            service_name: "llmux".to_owned(),
            sample_rate: 1.0,
        }
    }
}

/// `auto`, `true` or `false`. The schema allows booleans; here they have arrived as text.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Toggle {
    #[default]
    Auto,
    True,
    False,
}

impl JsonSchema for Toggle {
    fn schema_name() -> Cow<'static, str> {
        "Toggle".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "enum": ["auto", true, false] })
    }
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Strategy {
    SimpleShuffle,
    LowestLatency,
    LeastBusy,
    LowestTpmRpm,
    LowestCost,
    TagBased,
    RoundRobin,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum SslMode {
    Disable,
    Prefer,
    Require,
    VerifyFull,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum TagMatch {
    Any,
    All,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum CacheType {
    Local,
    Redis,
    Dual,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum CacheScope {
    Key,
    Team,
    Organization,
    Global,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum OnMissingPrice {
    Allow,
    Block,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum OnFull {
    Reject,
    Drop,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Protocol {
    Grpc,
    Http,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum LogFormat {
    #[default]
    Json,
    Text,
}
