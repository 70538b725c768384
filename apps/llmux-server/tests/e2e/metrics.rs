//! The metrics, as Prometheus reads them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use serde_json::{Value, json};

use crate::auth::MASTER;
use crate::client::{PATIENCE, Request, send};
use crate::collector::Collector;
use crate::control::managed;
use crate::crashes::{Line, relayed};
use crate::harness::{ANSWER, Gateway, STOP, USAGE, ask, provider, role, serving, text};
use crate::redis::Redis;
use crate::replay::{Gate, Reply, Step, Vendor, data};
use crate::scrape::Scrape;

const AS_MASTER: [(&str, &str); 1] = [("x-api-key", MASTER)];

/// A row of the table in `docs/observability.md`.
#[derive(Debug)]
struct Family {
    name: String,
    kind: String,
    labels: BTreeSet<String>,
}

/// The families that the documentation names.
fn documented() -> Vec<Family> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/observability.md");
    let text = std::fs::read_to_string(path).unwrap();
    let (_, table) = text.split_once("<!-- families:").unwrap();
    let (table, _) = table.split_once("<!-- end of families").unwrap();
    let rows = table.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let bare = |text: &str| text.trim_matches('`').to_owned();
        Family {
            name: bare(cells[1]),
            kind: cells[2].to_owned(),
            labels: cells[3].split(", ").map(bare).filter(|label| !label.is_empty()).collect(),
        }
    })
    .collect()
}

fn priced(name: &str) -> Value {
    json!({"name": name, "input_cost_per_token": 0.000_001, "output_cost_per_token": 0.000_002})
}

impl Gateway {
    /// Makes a chat request with a key; returns the status.
    async fn ask_with(&self, key: &str, model: &str) -> u16 {
        self.chat_with(model, &[("x-api-key", key)]).await.status
    }

    /// Scrapes until what is wanted is seen.
    async fn scraped(&self, headers: &[(&str, &str)], wanted: impl Fn(&Scrape) -> bool) -> Scrape {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let scrape = self.scrape(headers).await;
            if wanted(&scrape) {
                return scrape;
            }
            assert!(Instant::now() < deadline, "{scrape:#?}");
        }
    }
}

/// What never changes while a gateway runs: it is enough that it is there and not 0.
const CONSTANT: [&str; 4] =
    ["llmux_build_info", "llmux_database_up", "process_max_fds", "process_start_time_seconds"];

/// The families that differ between two scrapes.
fn moved(before: &Scrape, after: &Scrape) -> BTreeSet<String> {
    let differs = |family: &&String| before.of_family(family) != after.of_family(family);
    after.kinds.keys().filter(differs).cloned().collect()
}

#[tokio::test]
async fn each_declared_family_moves_and_is_as_the_documentation_says() {
    let vendor = Vendor::start().await;
    let gate = Gate::new();
    vendor.script("good", [Reply::json(200, ANSWER)]);
    vendor.script("held", [Reply::json(200, ANSWER).after(Step::Gate(gate.clone()))]);
    vendor.script("bad", [Reply::json(500, "{}")]);
    vendor.script("short", [Reply::json(200, ANSWER.replace(r#""stop""#, r#""length""#))]);
    let stream = vec![data(&role()), data(&text("hi")), data(STOP), data(USAGE), data("[DONE]")];
    vendor.script("stream", [Reply::stream(stream)]);
    let names = ["good", "held", "bad", "stream", "short"];
    let mut redis = Redis::start();
    let mut providers: Vec<Value> =
        names.iter().map(|name| serving(&vendor, name, priced(name))).collect();
    providers[0]["models"] = json!([priced("good"), "without-a-price"]);
    let routing = json!({"retry_backoff": "1ms", "retry_count": 1, "fallbacks": {"bad": ["good"]}});
    let mut configuration = managed(providers, routing);
    configuration["metrics"] = json!({"tenant_labels": true});
    let collector = Collector::grpc().await;
    configuration["tracing"] = collector.tracing();
    configuration["redis"] = json!({"addr": redis.address()});
    let small = json!({"max_bytes": "16KiB", "max_item_bytes": "4KiB"});
    configuration["cache"] = json!({"enabled": true, "type": "dual", "memory": small});
    // No record fits.
    let mut dropping = configuration.clone();
    dropping["cache"] = json!({});
    dropping["spool"] = json!({"max_bytes": "1", "on_full": "drop"});
    let mut gateway = Gateway::start(configuration.clone()).await;

    let redis_is_up = |scrape: &Scrape| scrape.sum("llmux_redis_up", &[]) == 1.0;
    let first = gateway.scraped(&AS_MASTER, redis_is_up).await;
    let budget = json!({"max_budget": 100, "budget_duration": "1d", "rpm_limit": 1000});
    let key = gateway.key(budget).await.secret;
    assert_eq!(gateway.ask_with(&key, "good").await, 200);
    assert_eq!(gateway.ask_with(&key, "bad").await, 200);
    assert_eq!(gateway.ask_with(&key, "without-a-price").await, 200);
    assert_eq!(gateway.open("stream").await.whole().await.status, 200);
    assert_eq!(gateway.ask_with("sk-unknown-key-of-forty-characters-length", "good").await, 200);
    assert_eq!(gateway.administer("POST", "/key/generate", "{}").await.status, 200);
    assert_eq!(gateway.get("/key/list").await.status, 401);
    assert_eq!(gateway.ask_with(&key, "short").await, 200);
    for seed in 0..60 {
        let mut body = ask("good");
        body["seed"] = json!(seed);
        assert_eq!(gateway.chat(&body).await.status, 200);
    }
    gateway.cool("bad/bad", 600.0).await;

    gateway.write_file(b"providers: [");
    assert_eq!(gateway.reload().await.status, 400);

    // While a call is out.
    let call = async { assert_eq!(gateway.ask_with(&key, "held").await, 200) };
    let look = async {
        vendor.arrived("held", 1).await;
        let during = gateway.scrape(&AS_MASTER).await;
        gate.open();
        during
    };
    let ((), during) = tokio::join!(call, look);
    assert_eq!(during.sum("llmux_requests_in_flight", &[]), 2.0, "the call and the scrape");
    assert_eq!(during.sum("llmux_deployment_in_flight", &[("deployment", "held/held")]), 1.0);
    assert_eq!(during.sum("llmux_reserved_requests", &[]), 1.0);
    assert!(during.sum("llmux_reserved_dollars", &[]) > 0.0);

    // Between an answer and its record's arrival in the database.
    let deadline = Instant::now() + PATIENCE;
    let waiting = loop {
        assert_eq!(gateway.ask_with(&key, "good").await, 200);
        let scrape = gateway.scrape(&AS_MASTER).await;
        let value = |name| scrape.sum(name, &[]);
        if value("llmux_spool_backlog_bytes") > 0.0 && value("llmux_spool_lag_seconds") > 0.0 {
            break scrape;
        }
        assert!(Instant::now() < deadline, "no record was seen on its way");
    };
    redis.kill();
    let mut after = ask("good");
    after["seed"] = json!("after");
    assert_eq!(gateway.chat(&after).await.status, 200);
    gateway.apply(configuration).await;
    let last = gateway
        .scraped(&AS_MASTER, |scrape| {
            let value = |name| scrape.sum(name, &[]);
            value("llmux_spool_backlog_bytes") == 0.0
                && value("llmux_redis_up") == 0.0
                && scrape.sum("llmux_trace_spans_total", &[("outcome", "exported")]) > 0.0
        })
        .await;
    assert_eq!(last.sum("llmux_spool_lag_seconds", &[]), 0.0);

    let dropping = Gateway::start(dropping).await;
    let none_dropped = dropping.scrape(&AS_MASTER).await;
    assert_eq!(dropping.chat(&ask("good")).await.status, 200);
    let dropped = dropping.scrape(&AS_MASTER).await;
    assert_eq!(dropped.sum("llmux_spool_dropped_records_total", &[]), 1.0);

    let pairs =
        [(&first, &during), (&during, &waiting), (&waiting, &last), (&none_dropped, &dropped)];
    let moved: BTreeSet<String> =
        pairs.iter().flat_map(|(before, after)| moved(before, after)).collect();
    let documented = documented();
    for family in &documented {
        let name = &family.name;
        if CONSTANT.contains(&name.as_str()) {
            assert!(last.sum(name, &[]) > 0.0, "{name} is 0");
        } else {
            assert!(moved.contains(name), "{name} does not move");
        }
        assert_eq!(last.kinds.get(name), Some(&family.kind), "{name}");
        for (series, labels) in last.of_family(name).into_keys() {
            let mut found: BTreeSet<String> = labels.keys().cloned().collect();
            found.remove("le");
            assert_eq!(found, family.labels, "{series}");
        }
    }
    let names: BTreeSet<&String> = documented.iter().map(|family| &family.name).collect();
    assert_eq!(last.kinds.keys().collect::<BTreeSet<_>>(), names, "each family is documented");
    assert_deployed_files_use(&last);
}

/// Asserts that the dashboard and the alert rules name what is exported, and nothing else, and that nothing is left out
/// of the dashboard.
fn assert_deployed_files_use(scrape: &Scrape) {
    let exported: BTreeSet<&str> = scrape.series.keys().map(|(name, _)| name.as_str()).collect();
    let labels: BTreeSet<&str> =
        scrape.series.keys().flat_map(|(_, labels)| labels.keys().map(String::as_str)).collect();
    let mut used = BTreeMap::new();
    for file in ["deploy/grafana/llmux.json", "deploy/prometheus/alerts.yml"] {
        let path = format!("{}/../../{file}", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(path).unwrap();
        let is_word = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
        let words = text.split(|letter| !is_word(letter));
        let ours = ["llmux_", "process_", "gen_ai_client_"];
        let names: BTreeSet<&str> =
            words.filter(|word| ours.iter().any(|begin| word.starts_with(begin))).collect();
        assert!(names.len() > 10, "{file} uses {names:?}");
        for name in &names {
            assert!(exported.contains(name), "{file} uses {name}, which is not exported");
        }
        for group in text.split("by (").skip(1) {
            let (list, _) = group.split_once(')').unwrap();
            for label in list.split(", ") {
                // Prometheus adds these two.
                let known = labels.contains(label) || matches!(label, "instance" | "job");
                assert!(known, "{file} groups by {label}, which no series has");
            }
        }
        used.insert(file, names.into_iter().map(str::to_owned).collect::<BTreeSet<_>>());
    }
    for family in scrape.kinds.keys() {
        let shown = used["deploy/grafana/llmux.json"].iter().any(|name| name.starts_with(family));
        assert!(shown, "the dashboard does not show {family}");
    }
}

#[tokio::test]
async fn clients_cannot_make_series() {
    let vendor = Vendor::start().await;
    vendor.script("a", [Reply::json(200, ANSWER)]);
    let mut provider = provider(&vendor, "a");
    provider["models"] = json!(["m", "wild/*"]);
    let gateway = Gateway::start(managed(vec![provider], json!({"retry_count": 0}))).await;
    let ask_all = async |random: &str| {
        let headers = [("x-request-id", random), ("x-llmux-tags", random), ("user-agent", random)];
        assert_eq!(gateway.chat_with(random, &headers).await.status, 404);
        assert_eq!(gateway.chat_with(&format!("wild/{random}"), &headers).await.status, 200);
        assert_eq!(gateway.chat_with("m", &headers).await.status, 200);
        assert_eq!(gateway.get(&format!("/{random}/chat")).await.status, 404);
        assert_eq!(gateway.get(&format!("/v1/models/{random}")).await.status, 404);
        let method = format!("X{}", random.to_uppercase());
        let bytes = format!("{method} /v1/models HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n");
        let response = crate::client::send_raw(gateway.address, bytes.as_bytes()).await;
        assert_eq!(response.whole().await.status, 405);
        let body =
            json!({"model": "m", "input": random, "user": random, "metadata": {"tags": [random]}});
        assert_eq!(gateway.post("/v1/embeddings", body.to_string()).await.status, 200);
    };
    ask_all("first").await;
    gateway.scrape(&[]).await;
    let before = gateway.scrape(&[]).await.keys();
    for number in 0..1000 {
        ask_all(&format!("r{number}")).await;
    }
    let after = gateway.scrape(&[]).await;
    assert_eq!(after.keys(), before);
    let count = |labels: &[(&str, &str)]| after.sum("llmux_requests_total", labels);
    let chat = "/v1/chat/completions";
    assert_eq!(count(&[("route", chat), ("model", "unknown"), ("status", "404")]), 1001.0);
    assert_eq!(count(&[("route", chat), ("model", "wild/*"), ("status", "200")]), 1001.0);
    let labels = after.series.keys().flat_map(|(_, labels)| labels.values());
    let texts: BTreeSet<&String> = labels.collect();
    assert!(!texts.iter().any(|text| text.contains("first") || text.contains("r99")), "{texts:?}");
}

#[tokio::test]
async fn errors_and_refusals_are_counted_once_each_under_their_names() {
    let vendor = Vendor::start().await;
    let ok = || Reply::json(200, ANSWER);
    vendor.script("a", [ok()]);
    vendor.script("limited", [ok()]);
    vendor.script("failing", [Reply::json(500, "{}")]);
    vendor.script("cut", [Reply::stream(vec![data(&text("hi")), Step::Cut])]);
    vendor.script("long", [Reply::stream(vec![data(&text("hi")), Step::Hang])]);
    let mut limited = priced("limited");
    limited["rpm"] = json!(1);
    let mut providers: Vec<Value> = ["a", "failing", "cut", "long"]
        .iter()
        .map(|name| serving(&vendor, name, priced(name)))
        .collect();
    providers.push(serving(&vendor, "limited", limited));
    let gateway = Gateway::start(managed(providers, json!({"retry_count": 0}))).await;

    let rated = gateway.key(json!({"rpm_limit": 1})).await.secret;
    assert_eq!(
        (gateway.ask_with(&rated, "a").await, gateway.ask_with(&rated, "a").await),
        (200, 429)
    );
    let poor = gateway.key(json!({"max_budget": 0})).await.secret;
    assert_eq!(gateway.ask_with(&poor, "a").await, 402);
    let narrow = gateway.key(json!({"models": ["cut"], "tags": ["t"]})).await.secret;
    assert_eq!(gateway.ask_with(&narrow, "a").await, 403);
    let tags = [("x-api-key", narrow.as_str()), ("x-llmux-tags", "other")];
    assert_eq!(gateway.chat_with("cut", &tags).await.status, 403);
    let manager = gateway.key(json!({"key_type": "management"})).await.secret;
    assert_eq!(gateway.ask_with(&manager, "a").await, 403);
    let blocked = gateway.key(json!({"blocked": true})).await.secret;
    assert_eq!(gateway.ask_with(&blocked, "a").await, 401);
    assert_eq!(gateway.get("/spend/logs").await.status, 401);
    assert_eq!(gateway.chat_with("a", &[("origin", "http://evil.example")]).await.status, 403);
    let statuses =
        [gateway.chat(&ask("limited")).await.status, gateway.chat(&ask("limited")).await.status];
    assert_eq!(statuses, [200, 429]);
    assert_eq!(gateway.chat(&ask("failing")).await.status, 502);
    assert_eq!(gateway.open("cut").await.whole().await.status, 200);
    let mut left = gateway.open("long").await;
    left.next_event().await.unwrap();
    drop(left);

    let long = [("model", "long"), ("outcome", "cancelled"), ("status", "200")];
    let scrape = gateway.scraped(&[], |it| it.sum("llmux_requests_total", &long) == 1.0).await;
    let refusals: BTreeMap<(String, String), f64> = scrape
        .of_family("llmux_refusals_total")
        .into_iter()
        .map(|((_, labels), count)| ((labels["reason"].clone(), labels["scope"].clone()), count))
        .collect();
    let wanted = [
        (("budget", "key"), 1.0),
        (("key", "key"), 2.0),
        (("model", ""), 1.0),
        (("origin", ""), 1.0),
        (("rate_limit", "deployment"), 1.0),
        (("rate_limit", "key"), 1.0),
        (("route", "key"), 1.0),
        (("tag", ""), 1.0),
    ];
    let wanted =
        wanted.map(|((reason, scope), count)| ((reason.to_owned(), scope.to_owned()), count));
    assert_eq!(refusals, BTreeMap::from(wanted));
    for (model, provider, status, outcome, count) in [
        ("a", "a", "200", "ok", 1.0),
        ("a", "", "429", "error", 1.0),
        ("a", "", "402", "error", 1.0),
        ("a", "", "403", "error", 2.0),
        ("unknown", "", "401", "error", 1.0),
        ("unknown", "", "403", "error", 1.0),
        ("limited", "", "429", "error", 1.0),
        ("failing", "failing", "502", "error", 1.0),
        ("cut", "cut", "200", "error", 1.0),
        ("long", "long", "200", "cancelled", 1.0),
    ] {
        let labels =
            [("model", model), ("provider", provider), ("status", status), ("outcome", outcome)];
        assert_eq!(scrape.sum("llmux_requests_total", &labels), count, "{labels:?} in {scrape:#?}");
    }
    for (deployment, outcome, class) in [
        ("a/a", "success", ""),
        ("failing/failing", "failure", "server"),
        ("cut/cut", "failure", "malformed"),
        ("long/long", "cancelled", ""),
    ] {
        let labels = [("deployment", deployment), ("outcome", outcome), ("class", class)];
        assert_eq!(scrape.sum("llmux_attempts_total", &labels), 1.0, "{labels:?} in {scrape:#?}");
    }
    // 3 tokens in and 2 out, twice.
    let tokens = |kind| scrape.sum("llmux_tokens_total", &[("model", "a"), ("kind", kind)]);
    assert_eq!((tokens("input"), tokens("output")), (3.0, 2.0));
    assert_eq!(scrape.sum("llmux_spend_dollars_total", &[("model", "a")]), 0.000_007);
}

#[tokio::test]
async fn reading_metrics_needs_a_key_only_where_that_is_wanted() {
    let vendor = Vendor::start().await;
    let start = async |metrics: Value| {
        let mut configuration = managed(vec![provider(&vendor, "a")], json!({}));
        configuration["metrics"] = metrics;
        Gateway::start(configuration).await
    };
    let open = start(json!({})).await;
    open.scrape(&[]).await;
    open.scrape(&[("x-api-key", "sk-wrong")]).await;
    for headers in [[("origin", "http://evil.example")], [("host", "evil.example")]] {
        let response = open.send("GET", "/metrics", &headers, b"").await.whole().await;
        response.assert_error(403, "permission_error", Some("origin_not_allowed"));
    }
    assert_eq!(open.send("HEAD", "/metrics", &[], b"").await.status, 200);
    let response = open.post("/metrics", "").await;
    assert_eq!((response.status, response.header("allow")), (405, Some("GET, HEAD")));
    for path in ["/v1/metrics", "/metrics/", "/openai/metrics"] {
        assert_eq!(open.get(path).await.status, 404, "{path}");
    }
    assert!(!open.printed().contains("no effect"), "{}", open.printed());

    for settings in [json!({"require_auth": true}), json!({"tenant_labels": true})] {
        let closed = start(settings).await;
        for headers in [&[][..], &[("x-api-key", "sk-wrong")]] {
            let response = closed.send("GET", "/metrics", headers, b"").await.whole().await;
            response.assert_error(401, "authentication_error", Some("invalid_api_key"));
        }
        let key = closed.key(json!({})).await.secret;
        closed.scrape(&[("x-api-key", &key)]).await;
        closed.scrape(&AS_MASTER).await;
    }

    let moved = start(json!({"path": "/internal/metrics"})).await;
    assert_eq!(moved.get("/internal/metrics").await.status, 200);
    assert_eq!(moved.get("/metrics").await.status, 404);
    let off = start(json!({"enabled": false})).await;
    off.get("/metrics").await.assert_error(404, "invalid_request_error", Some("unknown_url"));
}

#[tokio::test]
async fn with_an_admin_port_metrics_are_only_there() {
    let vendor = Vendor::start().await;
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let admin = socket.local_addr().unwrap();
    drop(socket);
    let mut configuration = managed(vec![provider(&vendor, "a")], json!({}));
    configuration["server"] = json!({"admin_port": admin.port()});
    let gateway = Gateway::start(configuration).await;
    gateway.get("/metrics").await.assert_error(404, "invalid_request_error", Some("unknown_url"));
    let request = Request { method: "GET", path: "/metrics", headers: &[], body: b"" };
    let response = send(admin, &request).await.whole().await;
    assert_eq!(response.status, 200, "{}", response.text());
    Scrape::parse(&response.text());
}

#[tokio::test]
async fn tenants_are_counted_by_their_ids() {
    let vendor = Vendor::start().await;
    vendor.script("a", [Reply::json(200, ANSWER)]);
    let mut configuration =
        managed(vec![serving(&vendor, "a", priced("a"))], json!({"retry_count": 0}));
    configuration["metrics"] = json!({"tenant_labels": true});
    let gateway = Gateway::start(configuration).await;
    let team = json!({"team_id": "crew"}).to_string();
    assert_eq!(gateway.administer("POST", "/team/new", &team).await.status, 200);
    let made = json!({"team_id": "crew", "key_alias": "alias"}).to_string();
    let made = gateway.administer("POST", "/key/generate", &made).await.json();
    let key = made["key"].as_str().unwrap();
    let id = made["token_id"].as_str().unwrap();
    assert_eq!((gateway.ask_with(key, "a").await, gateway.ask_with(key, "nope").await), (200, 404));
    assert_eq!(gateway.ask_with(MASTER, "a").await, 200);
    assert_eq!(gateway.chat(&ask("a")).await.status, 200);
    // Not on the data plane.
    assert_eq!(gateway.send("GET", "/key/info", &[("x-api-key", key)], b"").await.status, 200);

    let response = gateway.send("GET", "/metrics", &AS_MASTER, b"").await.whole().await;
    let shown = response.text();
    assert!(!shown.contains(key) && !shown.contains("alias"), "{shown}");
    let scrape = Scrape::parse(&shown);
    for (key_id, team_id, requests, dollars) in [
        (id, "crew", 2.0, 0.000_007),
        ("master", "", 1.0, 0.000_007),
        ("anonymous", "", 1.0, 0.000_007),
    ] {
        let labels = [("key_id", key_id), ("team_id", team_id)];
        assert_eq!(scrape.sum("llmux_tenant_requests_total", &labels), requests, "{labels:?}");
        assert_eq!(scrape.sum("llmux_tenant_spend_dollars_total", &labels), dollars, "{labels:?}");
        let tokens = |kind| {
            let labels = [("key_id", key_id), ("team_id", team_id), ("kind", kind)];
            scrape.sum("llmux_tenant_tokens_total", &labels)
        };
        assert_eq!((tokens("input"), tokens("output")), (3.0, 2.0), "{labels:?}");
    }
}

#[tokio::test]
async fn a_database_that_is_gone_is_shown_as_gone_until_it_is_back() {
    let vendor = Vendor::start().await;
    let (_books, relay, configuration) = relayed(&vendor).await;
    let gateway = Gateway::start(configuration).await;
    let shows = |up: f64| move |scrape: &Scrape| scrape.sum("llmux_database_up", &[]) == up;
    gateway.scraped(&[], shows(1.0)).await;
    relay.set(Line::Cut);
    gateway.scraped(&[], shows(0.0)).await;
    relay.set(Line::Up);
    gateway.scraped(&[], shows(1.0)).await;
}

#[tokio::test]
async fn the_numbers_are_also_under_litellms_names_where_that_is_wanted() {
    let vendor = Vendor::start().await;
    vendor.script("good", [Reply::json(200, ANSWER)]);
    vendor.script("bad", [Reply::json(500, "{}")]);
    let stream = vec![data(&role()), data(&text("hi")), data(STOP), data(USAGE), data("[DONE]")];
    vendor.script("stream", [Reply::stream(stream)]);
    let names = ["good", "bad", "stream"];
    let providers: Vec<Value> =
        names.iter().map(|name| serving(&vendor, name, priced(name))).collect();
    let routing = json!({"retry_count": 1, "retry_backoff": "1ms", "fallbacks": {"bad": ["good"]}});
    let mut configuration = json!({"providers": providers, "routing": routing});
    let plain = Gateway::start(configuration.clone()).await;
    assert_eq!(plain.chat(&ask("good")).await.status, 200);
    let ours = plain.scrape(&[]).await;
    assert!(!ours.kinds.keys().any(|name| name.starts_with("litellm_")), "{ours:#?}");

    configuration["metrics"] = json!({"litellm_names": true});
    let gateway = Gateway::start(configuration).await;
    assert_eq!(gateway.chat(&ask("good")).await.status, 200);
    assert_eq!(gateway.chat(&ask("bad")).await.status, 200);
    assert_eq!(gateway.chat(&ask("unknown")).await.status, 404);
    assert_eq!(gateway.open("stream").await.whole().await.status, 200);
    // Times are folded now and then.
    let total = "litellm_request_total_latency_metric_count";
    let scrape = gateway.scraped(&[], |scrape| scrape.sum(total, &[]) >= 3.0).await;
    let chat = "/v1/chat/completions";
    for (name, labels, value) in [
        (
            "litellm_proxy_total_requests_metric_total",
            &[("requested_model", "good"), ("route", chat), ("status_code", "200")][..],
            1.0,
        ),
        (
            "litellm_proxy_failed_requests_metric_total",
            &[("requested_model", "unknown"), ("exception_status", "404")],
            1.0,
        ),
        ("litellm_spend_metric_total", &[("model", "good")], 0.000_014),
        ("litellm_total_tokens_metric_total", &[("model", "good")], 10.0),
        ("litellm_input_tokens_metric_total", &[("model", "stream")], 3.0),
        ("litellm_output_tokens_metric_total", &[("model", "stream")], 2.0),
        (total, &[("model", "good"), ("requested_model", "good")], 1.0),
        ("litellm_llm_api_latency_metric_count", &[("model", "good")], 2.0),
        ("litellm_llm_api_time_to_first_token_metric_count", &[("model", "stream")], 1.0),
        ("litellm_overhead_latency_metric_count", &[], 3.0),
        ("litellm_in_flight_requests", &[], 1.0),
        ("litellm_deployment_state", &[("model_id", "bad/bad")], 0.0),
        (
            "litellm_deployment_failure_responses_total",
            &[("model_id", "bad/bad"), ("litellm_model_name", "bad"), ("api_provider", "bad")],
            1.0,
        ),
        ("litellm_deployment_success_responses_total", &[("requested_model", "good")], 2.0),
        ("litellm_deployment_total_requests_total", &[("model_id", "good/good")], 2.0),
    ] {
        assert_eq!(scrape.sum(name, labels), value, "{name} {labels:?} of {scrape:#?}");
    }
    let known = |name: &String| !name.starts_with("litellm_");
    let kinds: BTreeSet<_> = scrape.kinds.keys().filter(|name| known(name)).collect();
    assert!(ours.kinds.keys().all(|name| kinds.contains(name)), "ours stay");
}
