//! All that is measured: names, labels, meanings. Whatever is exported is declared here, once; the table in
//! `docs/observability.md` is made from it.

/// How values of a family are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Only grows, from the start of the process on.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Observations, counted in buckets.
    Histogram,
}

impl Kind {
    /// Returns the name in Prometheus's text format.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A name, and what its series mean.
#[derive(Debug)]
pub(crate) struct Family {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) labels: &'static [&'static str],
    pub(crate) help: &'static str,
    /// Upper bounds of a histogram's buckets.
    pub(crate) buckets: &'static [f64],
}

impl Family {
    const fn new(
        kind: Kind,
        name: &'static str,
        labels: &'static [&'static str],
        help: &'static str,
    ) -> Self {
        Self { name, kind, labels, help, buckets: &[] }
    }

    const fn counter(
        name: &'static str,
        labels: &'static [&'static str],
        help: &'static str,
    ) -> Self {
        Self::new(Kind::Counter, name, labels, help)
    }

    const fn gauge(
        name: &'static str,
        labels: &'static [&'static str],
        help: &'static str,
    ) -> Self {
        Self::new(Kind::Gauge, name, labels, help)
    }

    const fn histogram(
        name: &'static str,
        labels: &'static [&'static str],
        help: &'static str,
        buckets: &'static [f64],
    ) -> Self {
        Self { buckets, ..Self::new(Kind::Histogram, name, labels, help) }
    }
}

/// From a local answer to the longest of thoughts, in seconds.
const CALL: &[f64] = &[
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0,
    640.0,
];
/// In seconds.
const FIRST_OUTPUT: &[f64] =
    &[0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0, 10.0, 30.0, 60.0];
/// In seconds.
const OVERHEAD: &[f64] = &[
    0.000_05, 0.000_1, 0.000_2, 0.000_3, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5,
];

pub(crate) static REQUESTS: Family = Family::counter(
    "llmux_requests_total",
    &["route", "model", "provider", "status", "outcome"],
    "Requests that ended. `provider`: of the last attempt. `status`: what the client got, 499 if it left before. \
     `outcome`: ok, error or cancelled; a stream may fail after status 200.",
);
pub(crate) static DURATION: Family = Family::histogram(
    "llmux_request_duration_seconds",
    &["route", "model", "outcome"],
    "From a request's arrival to the last byte of its answer.",
    CALL,
);
pub(crate) static FIRST: Family = Family::histogram(
    "llmux_time_to_first_output_seconds",
    &["model", "provider"],
    "From the arrival of a request for a stream to its first output.",
    FIRST_OUTPUT,
);
pub(crate) static OVERHEAD_TIME: Family = Family::histogram(
    "llmux_overhead_seconds",
    &["route"],
    "Of the time until an answer began, the part that was the gateway's own. Requests that reached a provider.",
    OVERHEAD,
);
pub(crate) static IN_FLIGHT: Family = Family::gauge(
    "llmux_requests_in_flight",
    &[],
    "Requests whose answers are not complete, the scrape among them.",
);
pub(crate) static CONFIGS: Family = Family::counter(
    "llmux_config_loads_total",
    &["outcome"],
    "Configurations that were read. `outcome`: applied, that of the start among them, or rejected.",
);
pub(crate) static CONFIG_OK: Family = Family::gauge(
    "llmux_config_last_load_successful",
    &[],
    "1: the files hold what counts. 0: they have problems, and what was applied before still counts.",
);
pub(crate) static CONFIG_TIME: Family = Family::gauge(
    "llmux_config_last_load_success_timestamp_seconds",
    &[],
    "When the configuration that counts was loaded, in Unix time.",
);
pub(crate) static ATTEMPTS: Family = Family::counter(
    "llmux_attempts_total",
    &["deployment", "provider", "outcome", "class"],
    "Calls to providers that ended. `outcome`: success, failure or cancelled. `class`: the kind of failure.",
);
pub(crate) static UPSTREAM: Family = Family::histogram(
    "llmux_upstream_duration_seconds",
    &["deployment", "provider"],
    "From a call's start to its end, streams to their last event. Cancelled calls are left out.",
    CALL,
);
pub(crate) static RETRIES: Family = Family::counter(
    "llmux_retries_total",
    &["model", "provider"],
    "Attempts after a request's first, by the model and provider that were tried.",
);
pub(crate) static FALLBACKS: Family = Family::counter(
    "llmux_fallbacks_total",
    &["model", "fallback"],
    "Requests for `model` that went on with the model `fallback`.",
);
pub(crate) static TOKENS: Family = Family::counter(
    "llmux_tokens_total",
    &["model", "provider", "kind"],
    "Tokens that were charged. `kind`: input or output; cached and cache_write are parts of input, reasoning of output.",
);
pub(crate) static SPEND: Family = Family::counter(
    "llmux_spend_dollars_total",
    &["model", "provider"],
    "What attempts cost, in US dollars.",
);
/// As the semantic conventions of OpenTelemetry advise, in seconds.
const OPERATION: &[f64] =
    &[0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92];
/// As the semantic conventions advise, in tokens.
const TOKEN_COUNT: &[f64] = &[
    1.0,
    4.0,
    16.0,
    64.0,
    256.0,
    1024.0,
    4096.0,
    16384.0,
    65536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
];
pub(crate) static GEN_AI_DURATION: Family = Family::histogram(
    "gen_ai_client_operation_duration_seconds",
    &["gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model", "error_type"],
    "OpenTelemetry's metric of calls to providers that ended, but for those whose client left. `error_type`: the kind of failure.",
    OPERATION,
);
pub(crate) static GEN_AI_TOKENS: Family = Family::histogram(
    "gen_ai_client_token_usage",
    &["gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model", "gen_ai_token_type"],
    "OpenTelemetry's metric of the tokens of a call. `gen_ai_token_type`: input or output.",
    TOKEN_COUNT,
);
pub(crate) static UNPRICED: Family = Family::counter(
    "llmux_unpriced_attempts_total",
    &["model", "provider"],
    "Attempts that were charged nothing, or not all, because a price is not known.",
);
pub(crate) static REFUSALS: Family = Family::counter(
    "llmux_refusals_total",
    &["reason", "scope"],
    "Requests that the gateway itself refused. `scope`: whose limit or budget it was, where one was.",
);
pub(crate) static DEPLOYMENT_IN_FLIGHT: Family = Family::gauge(
    "llmux_deployment_in_flight",
    &["deployment", "model", "provider"],
    "Calls that a deployment has not answered.",
);
pub(crate) static DEPLOYMENT_COOLING: Family = Family::gauge(
    "llmux_deployment_cooling",
    &["deployment", "model", "provider"],
    "1 while a deployment cools down, else 0.",
);
pub(crate) static DEPLOYMENT_REQUESTS: Family = Family::gauge(
    "llmux_deployment_requests_last_minute",
    &["deployment", "model", "provider"],
    "Calls of the last minute, what `rpm` limits.",
);
pub(crate) static DEPLOYMENT_TOKENS: Family = Family::gauge(
    "llmux_deployment_tokens_last_minute",
    &["deployment", "model", "provider"],
    "Tokens of the last minute, what `tpm` limits.",
);
pub(crate) static COOLDOWNS: Family = Family::counter(
    "llmux_cooldowns_total",
    &["deployment", "model", "provider", "reason"],
    "Cooldowns that began. `reason`: failures, rate_limited, credential or manual.",
);
pub(crate) static RESERVED_REQUESTS: Family = Family::gauge(
    "llmux_reserved_requests",
    &[],
    "Requests under way that hold a place in limits.",
);
pub(crate) static RESERVED_DOLLARS: Family = Family::gauge(
    "llmux_reserved_dollars",
    &[],
    "What attempts under way may cost, as far as budgets count it, in US dollars.",
);
pub(crate) static LIMIT_SCOPES: Family = Family::gauge(
    "llmux_limit_scopes",
    &[],
    "Keys, users, teams and so on whose limits and budgets are being followed.",
);
pub(crate) static KEYS_CACHED: Family =
    Family::gauge("llmux_keys_cached", &[], "Keys that are remembered, unknown ones included.");
pub(crate) static KEY_READS: Family =
    Family::counter("llmux_key_reads_total", &[], "Reads of keys from the database.");
pub(crate) static DATABASE_UP: Family = Family::gauge(
    "llmux_database_up",
    &[],
    "1 if the database answered when it was last asked, which is every 5 seconds, else 0.",
);
pub(crate) static CACHE_REQUESTS: Family = Family::counter(
    "llmux_cache_requests_total",
    &["model", "result"],
    "Requests that the response cache had a part in. `result`: hit, shared (by a call that another request had begun), \
     miss or bypass.",
);
pub(crate) static CACHE_LOOKUP: Family = Family::histogram(
    "llmux_cache_lookup_seconds",
    &[],
    "How long the response cache took to find an answer, or not to.",
    OVERHEAD,
);
pub(crate) static CACHE_UNKEPT: Family = Family::counter(
    "llmux_cache_unkept_answers_total",
    &["reason"],
    "Whole answers that were not kept. `reason`: too_large, truncated (by a limit or a filter), cut, error, empty or unreadable.",
);
pub(crate) static CACHE_READS: Family = Family::counter(
    "llmux_cache_reads_total",
    &["tier", "result"],
    "Looks into the places where answers are kept. `tier`: local or redis. `result`: hit or miss.",
);
pub(crate) static CACHE_WRITES: Family =
    Family::counter("llmux_cache_writes_total", &["tier"], "Answers that were kept.");
pub(crate) static CACHE_FAILURES: Family = Family::counter(
    "llmux_cache_failures_total",
    &["tier", "kind"],
    "Reads and writes that did not come about. `kind`: failed (an error, or no answer in time), or skipped, since there was \
     no answer shortly before.",
);
pub(crate) static CACHE_EVICTIONS: Family = Family::counter(
    "llmux_cache_evictions_total",
    &[],
    "Answers that made room for others in memory.",
);
pub(crate) static CACHE_ENTRIES: Family =
    Family::gauge("llmux_cache_entries", &[], "Answers in memory, expired ones among them.");
pub(crate) static CACHE_BYTES: Family =
    Family::gauge("llmux_cache_bytes", &[], "Size of the answers in memory.");
pub(crate) static CACHE_CALLS: Family = Family::gauge(
    "llmux_cache_calls_in_flight",
    &[],
    "Calls that requests which ask the same at this moment wait for.",
);
pub(crate) static REDIS_UP: Family = Family::gauge(
    "llmux_redis_up",
    &[],
    "1 if Redis answered when it was last asked, which is every 5 seconds, else 0. Without a cache in Redis there is no value.",
);
pub(crate) static SPOOL_BYTES: Family = Family::gauge(
    "llmux_spool_backlog_bytes",
    &[],
    "Usage records that the database does not have yet.",
);
pub(crate) static SPOOL_LAG: Family = Family::gauge(
    "llmux_spool_lag_seconds",
    &[],
    "Age of the oldest usage record that the database does not have yet; 0 if it has all.",
);
pub(crate) static SPOOL_DROPPED: Family = Family::counter(
    "llmux_spool_dropped_records_total",
    &[],
    "Usage records that were given up because the spool was full.",
);
pub(crate) static TRACE_SPANS: Family = Family::counter(
    "llmux_trace_spans_total",
    &["outcome"],
    "Spans of traces. `outcome`: exported, or dropped because the collector was slow, gone or did not want them.",
);
pub(crate) static TENANT_REQUESTS: Family = Family::counter(
    "llmux_tenant_requests_total",
    &["key_id", "team_id"],
    "Requests on the data plane that ended, by who made them. With metrics.tenant_labels.",
);
pub(crate) static TENANT_TOKENS: Family = Family::counter(
    "llmux_tenant_tokens_total",
    &["key_id", "team_id", "kind"],
    "Tokens that were charged. `kind`: input or output. With metrics.tenant_labels.",
);
pub(crate) static TENANT_SPEND: Family = Family::counter(
    "llmux_tenant_spend_dollars_total",
    &["key_id", "team_id"],
    "What attempts cost, in US dollars. With metrics.tenant_labels.",
);
pub(crate) static BUILD_INFO: Family =
    Family::gauge("llmux_build_info", &["version"], "Always 1. `version`: of the gateway.");
pub(crate) static PROCESS_CPU: Family = Family::counter(
    "process_cpu_seconds_total",
    &[],
    "Processor time that the process used, in the kernel and outside.",
);
pub(crate) static PROCESS_RESIDENT: Family =
    Family::gauge("process_resident_memory_bytes", &[], "Memory of the process that is in RAM.");
pub(crate) static PROCESS_VIRTUAL: Family =
    Family::gauge("process_virtual_memory_bytes", &[], "Address space of the process.");
pub(crate) static PROCESS_FDS: Family =
    Family::gauge("process_open_fds", &[], "Files and sockets that are open.");
pub(crate) static PROCESS_MAX_FDS: Family =
    Family::gauge("process_max_fds", &[], "Files and sockets that may be open.");
pub(crate) static PROCESS_START: Family = Family::gauge(
    "process_start_time_seconds",
    &[],
    "When the process started, in seconds since 1970.",
);

/// All families.
pub(crate) static ALL: &[&Family] = &[
    &REQUESTS,
    &DURATION,
    &FIRST,
    &OVERHEAD_TIME,
    &IN_FLIGHT,
    &CONFIGS,
    &CONFIG_OK,
    &CONFIG_TIME,
    &ATTEMPTS,
    &UPSTREAM,
    &RETRIES,
    &FALLBACKS,
    &TOKENS,
    &SPEND,
    &GEN_AI_DURATION,
    &GEN_AI_TOKENS,
    &UNPRICED,
    &REFUSALS,
    &DEPLOYMENT_IN_FLIGHT,
    &DEPLOYMENT_COOLING,
    &DEPLOYMENT_REQUESTS,
    &DEPLOYMENT_TOKENS,
    &COOLDOWNS,
    &RESERVED_REQUESTS,
    &RESERVED_DOLLARS,
    &LIMIT_SCOPES,
    &KEYS_CACHED,
    &KEY_READS,
    &DATABASE_UP,
    &CACHE_REQUESTS,
    &CACHE_LOOKUP,
    &CACHE_UNKEPT,
    &CACHE_READS,
    &CACHE_WRITES,
    &CACHE_FAILURES,
    &CACHE_EVICTIONS,
    &CACHE_ENTRIES,
    &CACHE_BYTES,
    &CACHE_CALLS,
    &REDIS_UP,
    &SPOOL_BYTES,
    &SPOOL_LAG,
    &SPOOL_DROPPED,
    &TRACE_SPANS,
    &TENANT_REQUESTS,
    &TENANT_TOKENS,
    &TENANT_SPEND,
    &BUILD_INFO,
    &PROCESS_CPU,
    &PROCESS_RESIDENT,
    &PROCESS_VIRTUAL,
    &PROCESS_FDS,
    &PROCESS_MAX_FDS,
    &PROCESS_START,
];
