//! Traces, as a collector, a client and a vendor see them.

use std::time::Instant;

use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use serde_json::{Value, json};
use tokio::net::TcpSocket;

use crate::client::{PATIENCE, Request, send};
use crate::collector::{Collector, Mood, Span};
use crate::harness::{ANSWER, Gateway, STOP, USAGE, ask, once, provider, role, serving, text};
use crate::replay::{Gate, Reply, Step, Vendor, data};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

fn parent(flags: &str) -> String {
    format!("00-{TRACE}-{PARENT}-{flags}")
}

fn traced(collector: &Collector, providers: Vec<Value>) -> Value {
    let mut configuration = once(providers);
    configuration["tracing"] = collector.tracing();
    configuration
}

/// The one span of that kind.
#[track_caller]
fn only(spans: &[Span], kind: SpanKind) -> &Span {
    let found: Vec<_> = spans.iter().filter(|span| span.message.kind == kind as i32).collect();
    assert_eq!(found.len(), 1, "{spans:#?}");
    found[0]
}

/// Makes a request that belongs to a trace.
async fn with_parent(gateway: &Gateway, traceparent: &str) {
    let headers = [("traceparent", traceparent), ("tracestate", "a=1,b=2")];
    let response = gateway.chat_with("m", &headers).await;
    assert_eq!(response.status, 200, "{}", response.text());
}

#[tokio::test]
async fn a_request_and_its_call_join_the_clients_trace_and_the_vendor_joins_ours() {
    let vendor = Vendor::start().await;
    vendor.script("m", [Reply::json(200, ANSWER)]);
    let collector = Collector::grpc().await;
    let model = json!({"name": "m", "upstream": "real", "input_cost_per_token": 0.001, "output_cost_per_token": 0.002});
    let mut configuration = traced(&collector, vec![serving(&vendor, "m", model)]);
    configuration["tracing"]["service_name"] = json!("my-gateway");
    let gateway = Gateway::start(configuration).await;
    let headers = [
        ("traceparent", parent("01")),
        ("tracestate", "a=1,b=2".to_owned()),
        ("x-request-id", "r-1".to_owned()),
    ];
    let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    assert_eq!(gateway.chat_with("m", &headers).await.status, 200);
    let spans = collector.take(2).await;

    let server = only(&spans, SpanKind::Server);
    assert_eq!(server.name(), "POST /v1/chat/completions");
    assert_eq!((server.trace_id().as_str(), server.parent().as_str()), (TRACE, PARENT));
    for (name, value) in [
        ("http.request.method", json!("POST")),
        ("http.route", json!("/v1/chat/completions")),
        ("http.response.status_code", json!(200)),
        ("client.address", json!("127.0.0.1")),
        ("llmux.request_id", json!("r-1")),
        ("llmux.model", json!("m")),
        ("llmux.attempts", json!(1)),
        ("llmux.outcome", json!("ok")),
        ("llmux.cost_usd", json!(0.007)),
        ("error.type", Value::Null),
    ] {
        assert_eq!(server.get(name), &value, "{name}: {server:#?}");
    }
    let client = only(&spans, SpanKind::Client);
    assert_eq!(client.name(), "chat real");
    assert_eq!((client.trace_id().as_str(), client.parent()), (TRACE, server.span_id()));
    for (name, value) in [
        ("gen_ai.operation.name", json!("chat")),
        ("gen_ai.provider.name", json!("openai")),
        ("gen_ai.request.model", json!("real")),
        ("gen_ai.response.model", json!("served")),
        ("gen_ai.response.finish_reasons", json!(["stop"])),
        ("gen_ai.usage.input_tokens", json!(3)),
        ("gen_ai.usage.output_tokens", json!(2)),
        ("server.address", json!("127.0.0.1")),
        ("server.port", json!(vendor.address.port())),
        ("http.response.status_code", json!(200)),
        ("llmux.attempt", json!(1)),
        ("llmux.deployment", json!("m/m")),
        ("error.type", Value::Null),
    ] {
        assert_eq!(client.get(name), &value, "{name}: {client:#?}");
    }
    for span in &spans {
        assert_eq!(span.resource["service.name"], "my-gateway");
        assert!(span.message.status.is_none() && span.message.trace_state == "a=1,b=2");
        let Span { message, .. } = span;
        assert!(message.start_time_unix_nano <= message.end_time_unix_nano, "{span:#?}");
        assert!(!format!("{span:?}").contains("hello"), "content is in no span");
    }
    let (inner, outer) = (&client.message, &server.message);
    assert!(outer.start_time_unix_nano <= inner.start_time_unix_nano);
    assert!(inner.end_time_unix_nano <= outer.end_time_unix_nano);

    let seen = vendor.only("m");
    let ours = format!("00-{TRACE}-{}-01", client.span_id());
    assert_eq!(seen.header("traceparent"), Some(ours.as_str()));
    assert_eq!(seen.header("tracestate"), Some("a=1,b=2"));
    assert_eq!(gateway.logged("r-1")["trace_id"], TRACE);
}

#[tokio::test]
async fn a_stream_is_traced_to_its_end_and_over_http_too() {
    let vendor = Vendor::start().await;
    let events = vec![data(&role()), data(&text("hi")), data(STOP), data(USAGE), data("[DONE]")];
    vendor.script("m", [Reply::stream(events)]);
    let collector = Collector::http().await;
    let mut configuration = traced(&collector, vec![provider(&vendor, "m")]);
    configuration["tracing"]["endpoint"] = json!(format!("http://{}/otlp/", collector.address));
    let environment = [
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Basic%20abc,x-scope=one"),
        ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test,service.name=other"),
    ];
    let gateway = Gateway::start_with(configuration, &environment).await;
    assert_eq!(gateway.open("m").await.whole().await.status, 200);
    let spans = collector.take(2).await;
    let (server, client) = (only(&spans, SpanKind::Server), only(&spans, SpanKind::Client));
    assert_eq!((server.parent().as_str(), client.parent()), ("", server.span_id()));
    assert_eq!(server.get("llmux.stream"), true);
    assert_eq!(client.get("gen_ai.request.stream"), true);
    assert_eq!(client.get("gen_ai.response.model"), "served");
    assert_eq!(client.get("gen_ai.response.finish_reasons"), &json!(["stop"]));
    assert_eq!(client.get("gen_ai.usage.output_tokens"), 2);
    assert!(client.get("gen_ai.response.time_to_first_chunk").as_f64() > Some(0.0), "{client:#?}");
    let ours = format!("00-{}-{}-01", client.trace_id(), client.span_id());
    assert_eq!(vendor.only("m").header("traceparent"), Some(ours.as_str()));
    assert_eq!(vendor.only("m").header("tracestate"), None);
    assert_eq!(client.resource["deployment.environment.name"], "test");
    assert_eq!(client.resource["service.name"], "llmux");
    for (path, headers) in collector.heads() {
        assert_eq!(path, "/otlp/v1/traces");
        assert_eq!(headers["content-type"], "application/x-protobuf");
        assert_eq!(
            (&headers["authorization"], &headers["x-scope"]),
            (&"Basic abc".parse().unwrap(), &"one".parse().unwrap())
        );
    }
}

#[tokio::test]
async fn each_attempt_has_a_span_of_its_own() {
    let vendor = Vendor::start().await;
    vendor.script("bad", [Reply::json(500, r#"{"error":{"message":"no"}}"#)]);
    vendor.script("good", [Reply::json(200, ANSWER)]);
    let collector = Collector::grpc().await;
    let mut configuration =
        traced(&collector, vec![provider(&vendor, "bad"), provider(&vendor, "good")]);
    configuration["routing"] =
        json!({"retry_count": 1, "retry_backoff": "1ms", "fallbacks": {"bad": ["good"]}});
    let gateway = Gateway::start(configuration).await;
    assert_eq!(gateway.chat(&ask("bad")).await.status, 200);
    let spans = collector.take(3).await;
    let server = only(&spans, SpanKind::Server);
    assert_eq!(server.get("llmux.attempts"), 2);
    assert!(server.message.status.is_none(), "{server:#?}");
    let call = |number: u64| {
        let found = spans.iter().find(|span| span.get("llmux.attempt") == number);
        found.unwrap_or_else(|| panic!("no attempt {number}: {spans:#?}"))
    };
    let (first, second) = (call(1), call(2));
    assert_eq!(
        (first.get("error.type"), second.get("error.type")),
        (&json!("server"), &Value::Null)
    );
    assert_eq!(first.get("http.response.status_code"), 500);
    assert_eq!(first.message.status.as_ref().map(|it| it.code), Some(StatusCode::Error as i32));
    for (span, name) in [(first, "bad"), (second, "good")] {
        assert_eq!((span.parent(), span.trace_id()), (server.span_id(), server.trace_id()));
        let ours = format!("00-{}-{}-01", span.trace_id(), span.span_id());
        assert_eq!(vendor.only(name).header("traceparent"), Some(ours.as_str()));
    }
}

#[tokio::test]
async fn failures_and_clients_that_leave_are_told() {
    let vendor = Vendor::start().await;
    let gate = Gate::new();
    vendor.script("bad", [Reply::json(500, "{}")]);
    vendor.script("held", [Reply::json(200, ANSWER).after(Step::Gate(gate))]);
    let collector = Collector::grpc().await;
    let providers = vec![provider(&vendor, "bad"), provider(&vendor, "held")];
    let gateway = Gateway::start(traced(&collector, providers)).await;

    assert_eq!(gateway.chat(&ask("bad")).await.status, 502);
    let spans = collector.take(2).await;
    let server = only(&spans, SpanKind::Server);
    assert_eq!(server.get("http.response.status_code"), 502);
    assert_eq!(server.message.status.as_ref().map(|it| it.code), Some(StatusCode::Error as i32));
    assert!(server.get("error.type").is_string(), "{server:#?}");

    // A mistake of the client is none of the server.
    assert_eq!(gateway.chat(&ask("unknown")).await.status, 404);
    let spans = collector.take(1).await;
    assert_eq!(spans[0].get("error.type"), "model_not_found");
    assert!(spans[0].message.status.is_none(), "{spans:#?}");

    let body = ask("held").to_string();
    let request = Request {
        method: "POST",
        path: "/v1/chat/completions",
        headers: &[],
        body: body.as_bytes(),
    };
    let leave = async {
        vendor.arrived("held", 1).await;
    };
    tokio::select! {
        _ = send(gateway.address, &request) => panic!("the vendor has not answered"),
        () = leave => {}
    }
    let spans = collector.take(2).await;
    for span in &spans {
        assert_eq!(span.get("llmux.outcome"), "cancelled", "{span:#?}");
        assert!(span.message.status.is_none(), "{span:#?}");
    }
}

#[tokio::test]
async fn whoever_began_a_trace_decides_whether_it_is_recorded() {
    let vendor = Vendor::start().await;
    vendor.script("m", [Reply::json(200, ANSWER)]);
    let collector = Collector::grpc().await;
    for rate in [0.0, 1.0] {
        vendor.forget();
        let mut configuration = traced(&collector, vec![provider(&vendor, "m")]);
        configuration["tracing"]["sample_rate"] = json!(rate);
        let gateway = Gateway::start(configuration).await;
        with_parent(&gateway, &parent("00")).await;
        assert_eq!(gateway.chat(&ask("m")).await.status, 200);
        with_parent(&gateway, "this is no traceparent").await;
        with_parent(&gateway, &parent("01")).await;
        let recorded = if rate == 0.0 { 2 } else { 6 };
        let spans = collector.take(recorded).await;
        let joined: Vec<_> = spans.iter().filter(|span| span.trace_id() == TRACE).collect();
        assert_eq!(joined.len(), 2, "only those whose parent is recorded: {spans:#?}");

        // The vendor is told in each case.
        let flag = if rate == 0.0 { "00" } else { "01" };
        let told: Vec<String> = vendor
            .seen("m")
            .iter()
            .map(|seen| seen.header("traceparent").unwrap().to_owned())
            .collect();
        let states: Vec<_> = vendor
            .seen("m")
            .iter()
            .map(|seen| seen.header("tracestate").map(str::to_owned))
            .collect();
        assert!(
            told[0].starts_with(&format!("00-{TRACE}-")) && told[0].ends_with("-00"),
            "{told:?}"
        );
        assert!(!told[0].contains(PARENT), "our own span is the parent: {told:?}");
        assert!(!told[1].contains(TRACE) && told[1].ends_with(&format!("-{flag}")), "{told:?}");
        assert!(!told[2].contains(TRACE) && told[2].ends_with(&format!("-{flag}")), "{told:?}");
        assert!(
            told[3].starts_with(&format!("00-{TRACE}-")) && told[3].ends_with("-01"),
            "{told:?}"
        );
        let state = Some("a=1,b=2".to_owned());
        assert_eq!(states, [state.clone(), None, None, state], "it belongs to the client's trace");
    }
}

#[tokio::test]
async fn without_tracing_no_header_is_invented_and_the_clients_passes() {
    let vendor = Vendor::start().await;
    vendor.script("m", [Reply::json(200, ANSWER)]);
    let gateway = Gateway::start(once(vec![provider(&vendor, "m")])).await;
    let response = gateway.chat_with("m", &[("x-request-id", "untraced")]).await;
    assert_eq!(response.status, 200);
    let seen = vendor.only("m");
    assert_eq!((seen.header("traceparent"), seen.header("tracestate")), (None, None));
    assert_eq!(gateway.logged("untraced").get("trace_id"), None);
    vendor.forget();
    let sampled = parent("01");
    with_parent(&gateway, &sampled).await;
    let seen = vendor.only("m");
    assert_eq!(seen.header("traceparent"), Some(sampled.as_str()));
    assert_eq!(seen.header("tracestate"), Some("a=1,b=2"));
}

#[tokio::test]
async fn an_answer_from_the_cache_has_no_call() {
    let vendor = Vendor::start().await;
    vendor.script("m", [Reply::json(200, ANSWER)]);
    let collector = Collector::grpc().await;
    let mut configuration = traced(&collector, vec![provider(&vendor, "m")]);
    configuration["cache"] = json!({"enabled": true});
    configuration["metrics"] = json!({"litellm_names": true});
    let gateway = Gateway::start(configuration).await;
    assert_eq!(gateway.chat(&ask("m")).await.status, 200);
    let spans = collector.take(2).await;
    let (server, client) = (only(&spans, SpanKind::Server), only(&spans, SpanKind::Client));
    assert_eq!((server.get("llmux.cache"), client.parent()), (&json!("miss"), server.span_id()));
    let ours = format!("00-{}-{}-01", client.trace_id(), client.span_id());
    assert_eq!(vendor.only("m").header("traceparent"), Some(ours.as_str()));
    assert_eq!(gateway.chat(&ask("m")).await.status, 200);
    let spans = collector.take(1).await;
    assert_eq!(only(&spans, SpanKind::Server).get("llmux.cache"), "hit");
    let scrape = gateway.scrape(&[]).await;
    for name in ["litellm_cache_hits_metric_total", "litellm_cache_misses_metric_total"] {
        assert_eq!(scrape.sum(name, &[("model", "m")]), 1.0, "{scrape:#?}");
    }
}

#[tokio::test]
async fn health_checks_and_scrapes_are_not_traced() {
    let vendor = Vendor::start().await;
    let collector = Collector::grpc().await;
    let gateway = Gateway::start(traced(&collector, vec![provider(&vendor, "m")])).await;
    for path in ["/health", "/health/live", "/health/ready", "/metrics", "/v1/models"] {
        assert_eq!(gateway.get(path).await.status, 200);
    }
    let spans = collector.take(1).await;
    assert_eq!(spans[0].name(), "GET /v1/models");
}

#[tokio::test]
async fn spans_wait_for_a_collector_that_comes_back() {
    let vendor = Vendor::start().await;
    vendor.script("m", [Reply::json(200, ANSWER)]);
    // Its address is taken, but nobody listens there until the gateway has noticed.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    let mut configuration = once(vec![provider(&vendor, "m")]);
    configuration["tracing"] = json!({"enabled": true, "endpoint": address.to_string()});
    let gateway = Gateway::start(configuration).await;
    for _ in 0..3 {
        assert_eq!(gateway.chat(&ask("m")).await.status, 200);
    }
    gateway.prints("the trace collector does not take spans").await;
    let collector = Collector::grpc_on(socket.listen(16).unwrap());
    assert_eq!(collector.take(6).await.len(), 6);
    gateway.prints("the trace collector takes spans again").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_collector_slows_neither_requests_nor_the_end() {
    let vendor = Vendor::start().await;
    vendor.script("m", [Reply::json(200, ANSWER)]);
    let collector = Collector::grpc().await;
    collector.set(Mood::Frozen);
    let mut gateway = Gateway::start(traced(&collector, vec![provider(&vendor, "m")])).await;
    assert_eq!(gateway.chat(&ask("m")).await.status, 200);
    collector.called(1).await;
    for _ in 0..100 {
        assert_eq!(gateway.chat(&ask("m")).await.status, 200);
    }
    gateway.terminate();
    assert_eq!(gateway.exit_code(), Some(0));
    assert_eq!(collector.spans().len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_spans_are_sent_before_the_end() {
    let vendor = Vendor::start().await;
    vendor.script("m", [Reply::json(200, ANSWER)]);
    let collector = Collector::grpc().await;
    let mut gateway = Gateway::start(traced(&collector, vec![provider(&vendor, "m")])).await;
    for _ in 0..600 {
        assert_eq!(gateway.chat(&ask("m")).await.status, 200);
    }
    gateway.terminate();
    assert_eq!(gateway.exit_code(), Some(0));
    assert_eq!(collector.spans().len(), 1200);
}

#[tokio::test]
async fn spans_that_the_collector_does_not_want_are_counted() {
    let vendor = Vendor::start().await;
    vendor.script("m", [Reply::json(200, ANSWER)]);
    for collector in [Collector::grpc().await, Collector::http().await] {
        let gateway = Gateway::start(traced(&collector, vec![provider(&vendor, "m")])).await;
        let counted = async |outcome: &str| {
            gateway.scrape(&[]).await.sum("llmux_trace_spans_total", &[("outcome", outcome)])
        };
        let ask_until = async |outcome: &str, count: f64| {
            let deadline = Instant::now() + PATIENCE;
            assert_eq!(gateway.chat(&ask("m")).await.status, 200);
            while counted(outcome).await < count {
                assert!(Instant::now() < deadline, "{}", gateway.printed());
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        collector.set(Mood::Refuses);
        ask_until("dropped", 2.0).await;
        assert_eq!(counted("exported").await, 0.0);
        collector.set(Mood::TakesAllButOne);
        ask_until("exported", 1.0).await;
        assert_eq!(counted("dropped").await, 3.0);
    }
}

#[tokio::test]
async fn a_call_that_the_cache_keeps_is_traced_and_an_answer_from_it_has_none() {
    let vendor = Vendor::start().await;
    vendor.script("m", [Reply::json(200, ANSWER)]);
    let collector = Collector::grpc().await;
    let mut configuration = traced(&collector, vec![provider(&vendor, "m")]);
    configuration["cache"] = json!({"enabled": true, "scope": "global"});
    let gateway = Gateway::start(configuration).await;
    with_parent(&gateway, &parent("01")).await;
    let spans = collector.take(2).await;
    let (server, client) = (only(&spans, SpanKind::Server), only(&spans, SpanKind::Client));
    assert_eq!(client.parent(), server.span_id());
    assert_eq!(server.get("llmux.cache"), &json!("miss"));
    assert_eq!(
        vendor.only("m").header("traceparent"),
        Some(format!("00-{TRACE}-{}-01", client.span_id()).as_str())
    );
    with_parent(&gateway, &parent("01")).await;
    let spans = collector.take(1).await;
    assert_eq!(only(&spans, SpanKind::Server).get("llmux.cache"), &json!("hit"));
}
