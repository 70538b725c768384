//! One rule, one line: what is refused, and in which words.

use super::{problems, provider, settings};

/// Files with exactly one problem, and its text.
const ONE_PROBLEM: &[(&str, &str)] = &[
    // Unknown keys, at each level.
    ("sever: {}\n", "sever (line 1): unknown key; did you mean `server`?"),
    ("zzz: 1\n", "zzz (line 1): unknown key"),
    ("server:\n  port: 1\n  prot: 2\n", "server.prot (line 3): unknown key; did you mean `port`?"),
    ("server: {tls: {crt: x}}\n", "server.tls.crt (line 1): unknown key; did you mean `cert`?"),
    ("cache: {memory: {max_size: 1}}\n", "cache.memory.max_size (line 1): unknown key"),
    // Types.
    ("server: 1\n", "server (line 1): expected a map of keys"),
    ("server: []\n", "server (line 1): expected a map of keys, not a list"),
    ("server:\n  port: {}\n", "server.port (line 2): expected a whole number, not a map"),
    ("server:\n  port: http\n", "server.port (line 2): expected a whole number, not `http`"),
    ("server:\n  port: 8080.5\n", "server.port (line 2): expected a whole number, not `8080.5`"),
    ("server:\n  port: 65536\n", "server.port (line 2): must be from 0 to 65535, not `65536`"),
    ("server:\n  port: -1\n", "server.port (line 2): must be from 0 to 65535, not `-1`"),
    ("server: {workers: -1}\n", "server.workers (line 1): must be from 0 to 65535, not `-1`"),
    ("strict_env: yes\n", "strict_env (line 1): expected true or false, not `yes`"),
    ("strict_env: 1\n", "strict_env (line 1): expected true or false, not `1`"),
    (
        "routing: {retry_count: many}\n",
        "routing.retry_count (line 1): expected a whole number, not `many`",
    ),
    ("routing: {retry_jitter: x}\n", "routing.retry_jitter (line 1): expected a number, not `x`"),
    (
        "routing: {retry_jitter: 1.1}\n",
        "routing.retry_jitter (line 1): must be from 0 to 1, not `1.1`",
    ),
    (
        "routing: {retry_jitter: -0.1}\n",
        "routing.retry_jitter (line 1): must be from 0 to 1, not `-0.1`",
    ),
    (
        "routing: {retry_jitter: .nan}\n",
        "routing.retry_jitter (line 1): expected a number, not `.nan`",
    ),
    ("tracing: {sample_rate: 2}\n", "tracing.sample_rate (line 1): must be from 0 to 1, not `2`"),
    ("providers: {}\n", "providers (line 1): expected a list, not a map"),
    ("providers: [openai]\n", "providers[0] (line 1): expected a map of keys"),
    ("providers:\n  -\n", "providers[0] (line 2): is empty, expected a map of keys"),
    ("server: {trusted_proxies: 10.0.0.1}\n", "server.trusted_proxies (line 1): expected a list"),
    (
        "routing: {model_strategy: []}\n",
        "routing.model_strategy (line 1): expected a map of keys, not a list",
    ),
    // Durations and sizes.
    (
        "server:\n  read_timeout: 30\n",
        "server.read_timeout (line 2): expected a duration such as 250ms, 30s, 5m, 1h or 7d, not `30`",
    ),
    (
        "stream: {keep_alive: 1 s}\n",
        "stream.keep_alive (line 1): expected a duration such as 250ms, 30s, 5m, 1h or 7d, not `1 s`",
    ),
    (
        "server: {max_body_bytes: 10MB}\n",
        "server.max_body_bytes (line 1): expected a size such as 512KiB, 10MiB or 1GiB, not `10MB`",
    ),
    ("server: {read_timeout: 0s}\n", "server.read_timeout (line 1): must be longer than 0"),
    ("server: {write_timeout: 0}\n", "server.write_timeout (line 1): must be longer than 0"),
    ("server: {idle_timeout: 0ms}\n", "server.idle_timeout (line 1): must be longer than 0"),
    ("server: {max_body_bytes: 0}\n", "server.max_body_bytes (line 1): must be more than 0"),
    ("stream: {keep_alive: 0s}\n", "stream.keep_alive (line 1): must be longer than 0"),
    // Choices.
    (
        "routing:\n  strategy: simple_shuffle\n",
        "routing.strategy (line 2): expected one of simple-shuffle, lowest-latency, least-busy, lowest-tpm-rpm, \
         lowest-cost, tag-based, round-robin, not `simple_shuffle`; did you mean `simple-shuffle`?",
    ),
    (
        "routing:\n  model_strategy:\n    gpt-4.1: cheapest\n",
        "routing.model_strategy.\"gpt-4.1\" (line 3): expected one of simple-shuffle, lowest-latency, least-busy, \
         lowest-tpm-rpm, lowest-cost, tag-based, round-robin, not `cheapest`",
    ),
    (
        "logging: {level: warning}\n",
        "logging.level (line 1): expected one of off, error, warn, info, debug, trace, or a list such as \
         info,llmux_server::proxy=debug",
    ),
    (
        "tracing: {endpoint: \"ftp://x\"}\n",
        "tracing.endpoint (line 1): expected host:port or an http or https URL",
    ),
    (
        "tracing: {endpoint: \"http://x/v1/traces\"}\n",
        "tracing.endpoint (line 1): has a path, which gRPC does not: `tracing.protocol: http` may be meant",
    ),
    ("tracing: {service_name: \"\"}\n", "tracing.service_name (line 1): must not be empty"),
    (
        "tracing: {protocol: thrift}\n",
        "tracing.protocol (line 1): expected one of grpc, http, not `thrift`",
    ),
    ("logging: {format: xml}\n", "logging.format (line 1): expected one of json, text, not `xml`"),
    ("auth: {enabled: on}\n", "auth.enabled (line 1): expected one of auto, true, false, not `on`"),
    (
        "cache: {type: disk}\n",
        "cache.type (line 1): expected one of local, redis, dual, not `disk`",
    ),
    // The server.
    ("server: {host: example.com}\n", "server.host (line 1): expected an IP address or localhost"),
    ("server: {host: \"\"}\n", "server.host (line 1): expected an IP address or localhost"),
    (
        "server:\n  admin_port: 8080\n",
        "server.admin_port (line 2): must differ from server.port; 0 serves both planes on the main port",
    ),
    (
        "server: {tls: {cert: config/config.yaml}}\n",
        "server.tls.key (line 1): both cert and key are needed",
    ),
    (
        "server: {tls: {key: config/config.yaml}}\n",
        "server.tls.cert (line 1): both cert and key are needed",
    ),
    (
        "server:\n  trusted_proxies:\n    - 10.0.0.0/8\n    - 10.0.0.0/33\n",
        "server.trusted_proxies[1] (line 4): expected an IP address or a CIDR such as 10.0.0.0/8",
    ),
    ("metrics: {path: metrics}\n", "metrics.path (line 1): must begin with `/`"),
    (
        "metrics: {path: \"/a b\"}\n",
        "metrics.path (line 1): may have letters, digits and - . _ ~ between its slashes",
    ),
    ("metrics: {path: /v1/models}\n", "metrics.path (line 1): is the path of another route"),
    ("metrics: {path: /key/metrics}\n", "metrics.path (line 1): is the path of another route"),
    // Keys and variables.
    (
        "auth:\n  master_key:\n",
        "auth.master_key (line 2): the master key is empty; `${LLMUX_MASTER_KEY:}` allows that, or leave the key out",
    ),
    (
        "auth:\n  master_key: \"\"\n",
        "auth.master_key (line 2): the master key is empty; `${LLMUX_MASTER_KEY:}` allows that, or leave the key out",
    ),
    (
        "auth:\n  master_key: ${EMPTY}\n",
        "auth.master_key (line 2): the master key is empty; `${LLMUX_MASTER_KEY:}` allows that, or leave the key out",
    ),
    (
        "auth:\n  master_key: ${NONE}\n",
        "auth.master_key (line 2): the variable NONE is not set; `${NONE:}` allows that",
    ),
    (
        "auth: {master_key: \"a\\nb\"}\n",
        "auth.master_key (line 1): begins or ends with a space, or holds characters that no header can carry",
    ),
    (
        "server:\n  host: ${NONE}\n",
        "server.host (line 2): the variable NONE is not set; `${NONE:}` allows that",
    ),
    ("pricing_file: ${x\n", "pricing_file (line 1): `${` without `}`; a literal dollar is `$$`"),
    (
        "pricing_file: ${}\n",
        "pricing_file (line 1): `${...}` must hold a variable's name; a literal dollar is `$$`",
    ),
    // Routing.
    (
        "routing: {default_provider: b}\n",
        "routing.default_provider (line 1): no provider has this name",
    ),
    // What there is not yet.
    (
        "database: {enabled: true}\n",
        "database.enabled (line 1): there is neither `url` nor `host`: give one, or leave the embedded database to \
         `enabled: auto`",
    ),
    (
        "database: {url: \"postgres://u:p@h/d\"}\n",
        "auth.master_key: is needed with PostgreSQL, whose keys several gateways may share: set LLMUX_MASTER_KEY, for \
         example to the output of `openssl rand -hex 32`",
    ),
    (
        "database: {url: \"mysql://h/d\"}\n",
        "database.url (line 1): expected postgres://user:password@host:port/database or sqlite:///path/to/file.db",
    ),
    (
        "database: {url: \"sqlite://llmux.db\"}\n",
        "database.url (line 1): expected postgres://user:password@host:port/database or sqlite:///path/to/file.db",
    ),
    (
        "auth: {master_key: sk-m}\ndatabase: {host: db, max_open_conns: 0}\n",
        "database.max_open_conns (line 2): must be at least 1",
    ),
    (
        "cache: {enabled: true, type: redis}\n",
        "cache.type (line 1): redis needs Redis: set redis.addr, redis.cluster_addrs or redis.sentinel_addrs",
    ),
    (
        "cache:\n  enabled: true\n  type: dual\nredis: {addr: \"${NONE:}\"}\n",
        "cache.type (line 3): dual needs Redis: set redis.addr, redis.cluster_addrs or redis.sentinel_addrs",
    ),
    ("cache: {ttl: 0s}\n", "cache.ttl (line 1): must be longer than 0"),
    ("cache: {memory: {ttl: 0s}}\n", "cache.memory.ttl (line 1): must be longer than 0"),
    ("cache: {memory: {max_bytes: 0}}\n", "cache.memory.max_bytes (line 1): must be more than 0"),
    (
        "cache: {memory: {max_item_bytes: 0}}\n",
        "cache.memory.max_item_bytes (line 1): must be more than 0",
    ),
    (
        "cache: {namespace: \"\"}\n",
        "cache.namespace (line 1): must not be empty or hold control characters",
    ),
    (
        "redis: {addr: \"localhost:6379\", cluster_addrs: [\"a:1\"]}\n",
        "redis (line 1): exactly one of `addr`, `cluster_addrs` and `sentinel_addrs` must be given",
    ),
    (
        "redis: {addr: \"http://localhost\"}\n",
        "redis.addr (line 1): must be host:port or a redis:// or rediss:// URL",
    ),
    (
        "redis: {cluster_addrs: [\"redis://\"]}\n",
        "redis.cluster_addrs (line 1): must be host:port or a redis:// or rediss:// URL",
    ),
    ("redis: {sentinel_addrs: [\"a:1\"]}\n", "redis.sentinel_master (line 1): is missing"),
    (
        "redis: {sentinel_master: main}\n",
        "redis.sentinel_addrs (line 1): is empty: where are the sentinels?",
    ),
    ("redis: {cluster_addrs: [\"a:1\"], db: 1}\n", "redis.db (line 1): must be 0 with a cluster"),
    ("redis: {addr: \"a:1\", db: 256}\n", "redis.db (line 1): must be from 0 to 255"),
    (
        "redis: {addr: \"rediss://a:1\", ca_file: none.pem}\n",
        "redis.ca_file (line 1): cannot be read as certificates in PEM",
    ),
    (
        "pricing_file: none.json\n",
        "pricing_file (line 1): cannot be read: No such file or directory (os error 2)",
    ),
    (
        "routing:\n  fallbacks:\n    m: [n]\nproviders: [{name: a, type: ollama, models: [m]}]\n",
        "routing.fallbacks.m[0] (line 3): no provider has the model `n`; did you mean `m`?",
    ),
    (
        "routing: {context_window_fallbacks: {mm: [m]}}\nproviders: [{name: a, type: ollama, models: [m]}]\n",
        "routing.context_window_fallbacks.mm (line 1): no provider has a model of this name; did you mean `m`?",
    ),
    (
        "routing: {content_policy_fallbacks: {m: [a/m, n], n: [m]}}\n\
         providers: [{name: a, type: ollama, models: [m, n]}]\n",
        "routing.content_policy_fallbacks.m (line 1): leads in a circle: m -> n -> m",
    ),
    (
        "routing: {model_strategy: {mm: least-busy}}\nproviders: [{name: a, type: ollama, models: [m]}]\n",
        "routing.model_strategy.mm (line 1): no provider has a model of this name; did you mean `m`?",
    ),
    (
        "routing: {model_strategy: {m: busiest}}\nproviders: [{name: a, type: ollama, models: [m]}]\n",
        "routing.model_strategy.m (line 1): expected one of simple-shuffle, lowest-latency, least-busy, lowest-tpm-rpm, \
         lowest-cost, tag-based, round-robin, not `busiest`",
    ),
];

#[test]
fn each_broken_rule_is_told_with_its_key_its_line_and_what_would_be_right() {
    for (file, problem) in ONE_PROBLEM {
        assert_eq!(problems(file, &[("EMPTY", "")]), [*problem], "{file}");
    }
}

/// Files that differ from one above in what makes them right.
const NO_PROBLEM: &[&str] = &[
    "",
    "# nothing\n",
    "server:\n",
    "server: {port: 0}\n",
    "server: {port: \"8081\", admin_port: 8082}\n",
    "server: {host: localhost}\n",
    "server: {host: \"::1\"}\n",
    "server: {shutdown_grace: 0s}\n",
    "server: {max_body_bytes: 1024}\n",
    "server: {trusted_proxies: [127.0.0.1, \"::1\", 10.0.0.0/8, \"fd00::/8\"]}\n",
    "server: {tls: {cert: \"\", key: \"\"}}\n",
    "server: {tls: {cert: config/config.yaml, key: config/config.yaml}}\n",
    "strict_env: \"false\"\n",
    "strict_env: False\n",
    "auth: {enabled: auto}\n",
    "auth: {enabled: true}\n",
    "auth: {enabled: \"false\"}\n",
    "auth: {master_key: \"${NONE:}\"}\n",
    "auth: {master_key: \"${EMPTY:}\"}\n",
    "routing: {retry_jitter: 0, retry_backoff: 0s, retry_count: 0}\n",
    "routing: {retry_jitter: 1}\n",
    "routing: {fallbacks: {}, default_provider: \"\"}\n",
    "database: {enabled: false, host: db, url: \"postgres://h/d\"}\n",
    "database: {host: \"${NONE:}\", port: \"${NONE:5432}\", password: \"${NONE:}\"}\n",
    "redis: {addr: \"${NONE:}\", cluster_addrs: []}\n",
    "database: {url: \"sqlite:///var/lib/llmux.db\"}\n",
    "auth: {master_key: sk-m}\ndatabase: {host: db, password: \"a'b\", allow_replicas: true}\n",
    "rate_limit: {requests_per_minute: 0, tokens_per_minute: 0}\n",
    "budget: {on_missing_price: block, strict: true}\n",
    "spend: {retention: 30d}\n",
    "spool: {on_full: drop}\n",
    "rate_limit: {requests_per_minute: null, tokens_per_minute: ~, fail_open: true}\n",
    "budget: {on_missing_price: allow, assumed_output_tokens: 4096, strict: false}\n",
    "spend: {retention: 0s}\n",
    "spool: {max_bytes: 1024MiB, on_full: reject}\n",
    "providers: []\n",
];

#[test]
fn what_the_rules_allow_has_no_problem() {
    for file in NO_PROBLEM {
        assert_eq!(settings(file, &[("EMPTY", "")]).warnings, Vec::<String>::new(), "{file}");
    }
}

#[test]
fn all_problems_are_told_at_once_in_the_order_of_their_lines() {
    let file = "\
server:
  port: x
  read_timeout: soon
  admin: 1
  host: nowhere
providers:
  - name: a
    type: opnai
    models: [m]
  - name: a
    type: ollama
    base_url: ftp://x
    models: [m, m]
routing:
  strategy: best
  default_provider: c
";
    let told = problems(file, &[("LLMUX_SERVER__WRITE_TIMEOUT", "x")]);
    let keys: Vec<&str> = told.iter().map(|text| text.split(": ").next().expect("a key")).collect();
    assert_eq!(
        keys,
        [
            "server.port (line 2)",
            "server.read_timeout (line 3)",
            "server.admin (line 4)",
            "server.host (line 5)",
            "providers[0].type (line 8)",
            "providers[1].name (line 10)",
            "providers[1].base_url (line 12)",
            "providers[1].models[1] (line 13)",
            "routing.strategy (line 15)",
            "routing.default_provider (line 16)",
            "server.write_timeout",
        ]
    );
}

#[test]
fn keys_without_effect_are_named_in_one_warning() {
    let file = provider(
        "rate_limit: {fail_open: false}
metrics: {litellm_names: true, path: /m}
",
    );
    let keys = "rate_limit.fail_open";
    assert_eq!(
        settings(&file, &[]).warnings,
        [format!("these keys have no effect in this version: {keys}")]
    );
}

#[test]
fn a_shared_cache_warns_of_what_is_not_shared_and_an_open_one_of_who_shares() {
    let redis = "redis: only the response cache uses it in this version; limits, budgets and cooldowns are each \
                 gateway's own";
    let open = "cache.enabled is true and the data plane needs no key: calls without one share their answers, \
                whatever cache.scope is";
    let warnings = |file: &str| settings(file, &[]).warnings;
    assert_eq!(
        warnings("redis: {addr: \"h:1\"}\ncache: {enabled: true, type: dual}\n"),
        [redis, open]
    );
    assert_eq!(warnings("cache: {enabled: true}\n"), [open]);
    assert_eq!(
        warnings("cache: {enabled: true}\nauth: {master_key: sk-m}\n"),
        Vec::<String>::new()
    );
    assert_eq!(warnings("cache: {type: redis}\n"), Vec::<String>::new());
    let shared = settings(
        "redis: {addr: \"redis://h:1/3\", password: p}\ncache: {enabled: true, type: redis, scope: team, ttl: 5m}\n",
        &[],
    );
    assert_eq!(shared.cache.kind.as_str(), "redis");
    assert_eq!((shared.cache.scope.as_str(), shared.cache.ttl.as_secs()), ("team", 300));
    let redis = shared.redis.expect("given");
    assert_eq!((redis.db, redis.password.expect("given").expose()), (None, "p"));
}

#[test]
fn defaults_written_out_are_silent() {
    let file = "\
drop_params: false
pricing_file: \"\"
cache: {enabled: false, type: local, ttl: 60m, namespace: llmux, scope: key}
tracing: {enabled: false, endpoint: \"localhost:4317\", protocol: grpc, service_name: llmux, sample_rate: 1}
logging: {level: info, format: json, content: false}
routing:
  strategy: simple-shuffle
  model_strategy: {m: simple-shuffle}
  cooldown_period: 1m
  allowed_fails: 3
  latency_buffer: 0.1
  tag_match: any
";
    assert_eq!(settings(file, &[]).warnings, Vec::<String>::new());
}

#[test]
fn secrets_are_in_no_problem() {
    let secret = "sk-very-secret";
    let file = "\
auth: {master_key: {a: sk-very-secret}, enabled: \"${KEY}\"}
database: {url: [sk-very-secret], password: [sk-very-secret], port: \"${KEY}\"}
redis: {addr: sk-very-secret}
server: {host: \"${KEY}\", port: \"${KEY}\", read_timeout: \"${KEY}\", max_body_bytes: \"x${KEY}\"}
strict_env: ${KEY}
routing: {strategy: \"${KEY}\", retry_jitter: \"${KEY}\", default_provider: \"${KEY}\"}
providers:
  - name: a/b
    type: ${KEY}
    api_key: [sk-very-secret]
    base_url: https://user:sk-very-secret@host
    headers: {authorization: \"sk-very-secret\\n\", \"b c\": sk-very-secret, d: [sk-very-secret]}
  - name: b
    type: ollama
    api_key: \"sk-very-secret\\n\"
    base_url: ${KEY}
    models: [\"${KEY}\\n\", \"\", {name: m, weight: \"${KEY}\", timeout: \"${KEY}\"}]
";
    let variables = [
        ("KEY", secret),
        ("LLMUX_SERVER__IDLE_TIMEOUT", secret),
        ("LLMUX_AUTH__MASTER_KEY__X", secret),
        ("LOG_LEVEL", secret),
        ("LLMUX_SERVER__TRUSTED_PROXIES", "[sk-very-secret"),
        ("LLMUX_LOGGING__FORMAT", secret),
        ("LLMUX__METRICS", secret),
    ];
    let told = problems(file, &variables).join("\n");
    assert!(told.lines().count() >= 20, "{told}");
    assert!(!told.contains("very-secret"), "{told}");
    for file in [
        "auth: sk-very-secret\n",
        "providers: [sk-very-secret]\n",
        "providers: sk-very-secret\n",
        "auth: {enabled: sk-very-secret-and-as-long-as-keys-are}\n",
    ] {
        let told = problems(file, &[]).join("\n");
        assert!(!told.contains("very-secret"), "{told}");
    }
}

#[test]
fn settings_do_not_print_secrets() {
    let file = provider(
        "    api_key: sk-very-secret\n    headers: {x-key: sk-very-secret}\nauth: {master_key: sk-very-secret}\n",
    );
    let printed = format!("{:?}", settings(&file, &[]));
    assert!(!printed.contains("very-secret"), "{printed}");
}
