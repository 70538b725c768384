//! Vendors that fail: what the client is told, and when another deployment answers instead.

use serde_json::{Value, json};

use crate::bytes::items;
use crate::client::Response;
use crate::harness::{ANSWER, Gateway, STOP, ask, once, provider, role, text};
use crate::replay::{Reply, Step, Vendor, data};

/// A failure of the vendor before any output, and the status that the client gets when nothing is left to try.
struct Fault {
    name: &'static str,
    reply: Reply,
    status: u16,
}

pub(crate) fn failed(status: u16) -> Reply {
    let kind = if status == 429 { "requests" } else { "server_error" };
    Reply::json(
        status,
        format!(
            r#"{{"error":{{"message":"the vendor said {status}","type":"{kind}","param":null,"code":null}}}}"#
        ),
    )
}

/// Failures of a whole answer as of a stream.
fn faults() -> Vec<Fault> {
    let statuses =
        [(500, 502), (502, 502), (503, 503), (529, 503), (504, 504), (408, 504), (429, 429)];
    let mut faults: Vec<Fault> = statuses
        .iter()
        .map(|(theirs, status)| Fault { name: "status", reply: failed(*theirs), status: *status })
        .collect();
    faults.extend([
        Fault { name: "hang", reply: Reply::silent(), status: 504 },
        Fault {
            name: "closed without an answer",
            reply: Reply::json(200, "{}").after(Step::Cut),
            status: 502,
        },
        Fault {
            name: "not HTTP",
            reply: Reply::raw(b"\x00\x01 nonsense \xff\r\n\r\n"),
            status: 502,
        },
        Fault {
            name: "half a head",
            reply: Reply::raw(b"HTTP/1.1 200 OK\r\ncontent-ty"),
            status: 502,
        },
        Fault {
            name: "a web page",
            reply: Reply::whole(200, "text/html", b"<html>captive portal</html>"),
            status: 502,
        },
        Fault { name: "an empty body", reply: Reply::json(200, ""), status: 502 },
        Fault {
            name: "an error page",
            reply: Reply::whole(500, "text/html", b"<html>oops</html>"),
            status: 502,
        },
    ]);
    faults
}

fn whole_faults() -> Vec<Fault> {
    let mut faults = faults();
    let half = &ANSWER[..ANSWER.len() / 2];
    let mut chunked = Reply::stream(vec![Step::Write(half.as_bytes().to_vec())]);
    chunked.headers = Reply::json(200, "").headers;
    faults.extend([
        Fault { name: "garbage JSON", reply: Reply::json(200, half), status: 502 },
        Fault {
            name: "a cut body",
            reply: Reply::json(200, half).with_length(ANSWER.len()).cut(),
            status: 502,
        },
        Fault { name: "a cut chunked body", reply: chunked.cut(), status: 502 },
        Fault {
            name: "a hang in the body",
            reply: Reply::json(200, half).with_length(ANSWER.len()).hang(),
            status: 504,
        },
    ]);
    faults
}

fn stream_faults() -> Vec<Fault> {
    let mut faults = faults();
    faults.extend([
        Fault { name: "an empty stream", reply: Reply::stream(vec![]), status: 502 },
        Fault { name: "an opening and no more", reply: Reply::events([role()]), status: 502 },
        Fault {
            name: "a cut opening",
            reply: Reply::stream(vec![data(&role()), Step::Cut]),
            status: 502,
        },
        Fault {
            name: "a cut event",
            reply: Reply::stream(vec![Step::Write(b"data: {\"choi".to_vec()), Step::Cut]),
            status: 502,
        },
        Fault {
            name: "a hanging opening",
            reply: Reply::stream(vec![data(&role()), Step::Hang]),
            status: 504,
        },
        Fault {
            name: "garbage events",
            reply: Reply::events(["garbage", "{\"choices\":"]),
            status: 502,
        },
        Fault {
            name: "garbage bytes",
            reply: Reply::stream(vec![Step::Write(b"\xff\xfe\x00nonsense\n\n".to_vec())]),
            status: 502,
        },
    ]);
    faults
}

impl Reply {
    fn cut(mut self) -> Self {
        self.steps.push(Step::Cut);
        self
    }

    fn hang(mut self) -> Self {
        self.steps.push(Step::Hang);
        self
    }
}

pub(crate) fn impatient(mut provider: Value) -> Value {
    provider["timeout"] = json!("400ms");
    provider
}

pub(crate) async fn call(gateway: &Gateway, model: &str, stream: bool) -> Response {
    if stream { gateway.open(model).await.whole().await } else { gateway.chat(&ask(model)).await }
}

pub(crate) fn good(stream: bool) -> Reply {
    if stream {
        Reply::events([&role(), &text("fine"), STOP, "[DONE]"])
    } else {
        Reply::json(200, ANSWER)
    }
}

#[track_caller]
pub(crate) fn assert_good(response: &Response, stream: bool, what: &str) {
    assert_eq!(response.status, 200, "{what}: {}", response.text());
    if stream {
        let got = items(&response.body);
        assert_eq!(got.len(), 4, "{what}: {got:?}");
        assert!(got[3].is_done(), "{what}: {got:?}");
    } else {
        assert_eq!(response.json()["choices"][0]["message"]["content"], "hello", "{what}");
    }
}

async fn assert_each_fault_has_its_status(faults: Vec<Fault>, stream: bool) {
    let vendor = Vendor::start().await;
    let gateway = Gateway::start(once(vec![impatient(provider(&vendor, "m"))])).await;
    for fault in faults {
        vendor.script("m", [fault.reply]);
        let response = call(&gateway, "m", stream).await;
        assert_eq!(response.status, fault.status, "{}: {}", fault.name, response.text());
        let error = response.error();
        if fault.name == "status" {
            assert!(
                error["message"].as_str().unwrap().contains("the vendor said"),
                "the vendor's message is kept: {error}"
            );
        }
        if matches!(response.status, 429 | 503) {
            assert!(
                response.header("retry-after").is_some(),
                "{}: {:?}",
                fault.name,
                response.headers
            );
        }
        assert_eq!(response.header("x-llmux-attempts"), Some("1"), "{}", fault.name);
    }
}

#[tokio::test]
async fn each_fault_of_a_whole_answer_has_its_status() {
    assert_each_fault_has_its_status(whole_faults(), false).await;
}

#[tokio::test]
async fn each_fault_of_a_stream_has_its_status() {
    assert_each_fault_has_its_status(stream_faults(), true).await;
}

/// Two providers of one model `m`: `bad` and `good`.
fn pair(vendor: &Vendor) -> Vec<Value> {
    let one = |name: &str| json!({"name": name, "type": "openai", "api_key": "k", "base_url": vendor.url(name), "models": ["m"]});
    vec![impatient(one("bad")), one("good")]
}

async fn assert_each_fault_falls_back(faults: Vec<Fault>, stream: bool) {
    for fault in faults {
        let vendor = Vendor::start().await;
        let gateway = Gateway::start(json!({"providers": pair(&vendor), "routing": {"retry_count": 1, "retry_backoff": "1ms"}})).await;
        vendor.script("bad", [fault.reply.clone()]);
        vendor.script("good", [good(stream)]);
        let mut met = false;
        for _ in 0..60 {
            vendor.forget();
            let response = call(&gateway, "m", stream).await;
            assert_good(&response, stream, fault.name);
            met = !vendor.seen("bad").is_empty();
            assert_eq!(
                response.header("x-llmux-attempts"),
                Some(if met { "2" } else { "1" }),
                "{}",
                fault.name
            );
            assert_eq!(vendor.seen("good").len(), 1, "{}", fault.name);
            if met {
                break;
            }
        }
        assert!(met, "{}: both deployments get their share", fault.name);
    }
}

#[tokio::test]
async fn each_fault_of_a_whole_answer_goes_to_the_next_deployment() {
    assert_each_fault_falls_back(whole_faults(), false).await;
}

#[tokio::test]
async fn each_fault_of_a_stream_goes_to_the_next_deployment() {
    assert_each_fault_falls_back(stream_faults(), true).await;
}

/// A base URL at which connections are refused for as long as the socket lives.
pub(crate) fn refusing() -> (tokio::net::TcpSocket, String) {
    // Bound and never listened on: nobody else gets the port.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("http://{}/v1", socket.local_addr().unwrap());
    (socket, url)
}

#[tokio::test]
async fn a_refused_connection_is_502_and_goes_to_the_next_deployment() {
    let vendor = Vendor::start().await;
    vendor.script("good", [Reply::json(200, ANSWER)]);
    let (_socket, refused) = refusing();
    let down = |name: &str, model: &str| json!({"name": name, "type": "openai", "api_key": "k", "base_url": refused, "models": [model]});
    let mut up = provider(&vendor, "good");
    up["models"] = json!(["pair"]);
    let gateway = Gateway::start(json!({
        "providers": [down("down", "lone"), down("down2", "pair"), up],
        "routing": {"retry_count": 1, "retry_backoff": "1ms"},
    }))
    .await;
    let response = gateway.chat(&ask("lone")).await;
    assert_eq!(response.status, 502, "{}", response.text());
    response.error();
    assert!(
        !response.text().contains(&refused),
        "internal addresses stay inside: {}",
        response.text()
    );
    let mut met = false;
    for _ in 0..60 {
        let response = gateway.chat(&ask("pair")).await;
        assert_good(&response, false, "refused");
        met = met || response.header("x-llmux-attempts") == Some("2");
    }
    assert!(met, "the refusing deployment was tried");
}

#[tokio::test]
async fn a_lone_deployment_is_retried() {
    let vendor = Vendor::start().await;
    let gateway = Gateway::start(json!({
        "providers": [impatient(provider(&vendor, "m"))],
        "routing": {"retry_count": 3, "retry_backoff": "1ms"},
    }))
    .await;
    for status in [500, 502, 503, 529, 408, 429] {
        vendor.forget();
        vendor.script("m", [failed(status), failed(status), Reply::json(200, ANSWER)]);
        let response = gateway.chat(&ask("m")).await;
        assert_good(&response, false, "third time lucky");
        assert_eq!(response.header("x-llmux-attempts"), Some("3"), "{status}");
        assert_eq!(vendor.seen("m").len(), 3, "{status}");
        let bodies = vendor.seen("m");
        assert!(
            bodies.iter().all(|seen| seen.body == bodies[0].body),
            "every attempt sends the same bytes"
        );
    }
    vendor.forget();
    vendor.script("m", [failed(500)]);
    assert_eq!(gateway.chat(&ask("m")).await.status, 502);
    assert_eq!(vendor.seen("m").len(), 4, "one attempt and retry_count more");
}

#[tokio::test]
async fn client_mistakes_are_not_retried_and_keep_the_vendors_error() {
    let vendor = Vendor::start().await;
    let gateway = Gateway::start(
        json!({"providers": pair(&vendor), "routing": {"retry_count": 3, "retry_backoff": "1ms"}}),
    )
    .await;
    for status in [400, 404, 413, 422] {
        for stream in [false, true] {
            vendor.forget();
            let body = format!(
                r#"{{"error":{{"message":"your fault","type":"invalid_request_error","param":"messages[0]","code":"bad_thing","more":{{"x":{status}}}}}}}"#
            );
            vendor.script("bad", [Reply::json(status, &body)]);
            vendor.script("good", [Reply::json(status, &body)]);
            let response = call(&gateway, "m", stream).await;
            assert_eq!(response.status, status, "{}", response.text());
            let error = response.error();
            assert_eq!(
                (
                    &error["message"],
                    &error["type"],
                    &error["param"],
                    &error["code"],
                    &error["more"]["x"]
                ),
                (
                    &json!("your fault"),
                    &json!("invalid_request_error"),
                    &json!("messages[0]"),
                    &json!("bad_thing"),
                    &json!(status)
                )
            );
            assert_eq!(vendor.seen_in_all(), 1, "{status} is not retried");
        }
    }
}

#[tokio::test]
async fn an_error_of_an_unknown_shape_gets_our_envelope() {
    let vendor = Vendor::start().await;
    let gateway = Gateway::start(once(vec![provider(&vendor, "m")])).await;
    for (body, message) in [
        (r#"{"detail":"too clever"}"#, "too clever"),
        (r#"{"code":"invalid-argument","error":"too clever"}"#, "too clever"),
        (r#"{"message":"too clever"}"#, "too clever"),
        (r#"{"error":{"message":"too clever"}}"#, "too clever"),
        (
            r#"[{"error":{"code":400,"message":"too clever","status":"INVALID_ARGUMENT"}}]"#,
            "too clever",
        ),
        ("too clever", ""),
        ("", ""),
    ] {
        vendor.script("m", [Reply::json(400, body)]);
        let response = gateway.chat(&ask("m")).await;
        assert_eq!(response.status, 400, "{body}: {}", response.text());
        assert!(
            response.error()["message"].as_str().unwrap().contains(message),
            "{body}: {}",
            response.text()
        );
    }
}

#[tokio::test]
async fn our_credential_refused_is_not_the_clients_fault() {
    let vendor = Vendor::start().await;
    let gateway = Gateway::start(once(vec![provider(&vendor, "m")])).await;
    let quota = r#"{"error":{"message":"You exceeded your current quota","type":"insufficient_quota","param":null,"code":"insufficient_quota"}}"#;
    let key = r#"{"error":{"message":"Incorrect API key provided: sk-ven***dor","type":"invalid_request_error","param":null,"code":"invalid_api_key"}}"#;
    for (status, body) in [(401, key), (402, quota), (429, quota)] {
        vendor.script("m", [Reply::json(status, body)]);
        for stream in [false, true] {
            let response = call(&gateway, "m", stream).await;
            assert_eq!(response.status, 502, "{status}: {}", response.text());
            let error = response.error();
            let named = error["type"] == "upstream_authentication_error"
                || error["code"] == "upstream_authentication_error";
            assert!(named, "{error}");
            assert!(!response.text().contains("sk-ven"), "no part of our key: {error}");
        }
    }
}

#[tokio::test]
async fn refused_credentials_go_to_the_next_deployment() {
    for status in [401, 402, 403] {
        let vendor = Vendor::start().await;
        let gateway = Gateway::start(json!({"providers": pair(&vendor), "routing": {"retry_count": 3, "retry_backoff": "1ms"}})).await;
        vendor.script(
            "bad",
            [Reply::json(
                status,
                r#"{"error":{"message":"no","type":"x","param":null,"code":null}}"#,
            )],
        );
        vendor.script("good", [Reply::json(200, ANSWER)]);
        for _ in 0..60 {
            let response = gateway.chat(&ask("m")).await;
            assert_good(&response, false, "the good one answers");
            if !vendor.seen("bad").is_empty() {
                assert_eq!(response.header("x-llmux-attempts"), Some("2"));
                break;
            }
        }
        assert!(!vendor.seen("bad").is_empty(), "{status}");
    }
}

#[tokio::test]
async fn a_403_of_all_deployments_is_the_vendors_403() {
    let vendor = Vendor::start().await;
    let gateway = Gateway::start(
        json!({"providers": pair(&vendor), "routing": {"retry_count": 3, "retry_backoff": "1ms"}}),
    )
    .await;
    let body = r#"{"error":{"message":"not in your country","type":"invalid_request_error","param":null,"code":"unsupported_country"}}"#;
    vendor.script("bad", [Reply::json(403, body)]);
    vendor.script("good", [Reply::json(403, body)]);
    let response = gateway.chat(&ask("m")).await;
    assert_eq!(response.status, 403, "{}", response.text());
    assert_eq!(response.error()["code"], "unsupported_country");
    assert_eq!((vendor.seen("bad").len(), vendor.seen("good").len()), (1, 1));
}

#[tokio::test]
async fn a_vendors_retry_after_reaches_the_client() {
    let vendor = Vendor::start().await;
    let gateway = Gateway::start(once(vec![provider(&vendor, "m")])).await;
    for status in [429, 503] {
        vendor.script("m", [failed(status).with("retry-after", "7")]);
        let response = gateway.chat(&ask("m")).await;
        assert_eq!((response.status, response.header("retry-after")), (status, Some("7")));
    }
}

#[tokio::test]
async fn without_fallback_retries_stay_on_the_first_deployment() {
    let vendor = Vendor::start().await;
    let gateway = Gateway::start(json!({
        "providers": pair(&vendor),
        "routing": {"retry_count": 2, "retry_backoff": "1ms", "fallback_enabled": false},
    }))
    .await;
    vendor.script("bad", [failed(500)]);
    vendor.script("good", [Reply::json(200, ANSWER)]);
    for _ in 0..60 {
        vendor.forget();
        let response = gateway.chat(&ask("m")).await;
        if response.status == 200 {
            assert_eq!((vendor.seen("bad").len(), vendor.seen("good").len()), (0, 1));
        } else {
            assert_eq!(response.status, 502);
            assert_eq!((vendor.seen("bad").len(), vendor.seen("good").len()), (3, 0));
            assert_eq!(response.header("x-llmux-attempts"), Some("3"));
            return;
        }
    }
    panic!("the bad deployment was never tried");
}

#[tokio::test]
async fn the_clients_timeout_may_only_shorten() {
    let vendor = Vendor::start().await;
    let gateway = Gateway::start(once(vec![
        impatient(provider(&vendor, "short")),
        provider(&vendor, "long"),
    ]))
    .await;
    vendor.script("short", [Reply::silent()]);
    vendor.script("long", [Reply::silent()]);
    for (model, timeout) in [("long", "300ms"), ("short", "10m")] {
        let response = gateway
            .send(
                "POST",
                "/v1/chat/completions",
                &[("x-llmux-timeout", timeout)],
                ask(model).to_string().as_bytes(),
            )
            .await
            .whole()
            .await;
        assert_eq!(response.status, 504, "{model}: {}", response.text());
        response.error();
        assert_eq!(vendor.only(model).header("x-llmux-timeout"), None);
    }
}

#[tokio::test]
async fn a_stale_pooled_connection_is_replaced_unseen() {
    let vendor = Vendor::start().await;
    let gateway = Gateway::start(once(vec![provider(&vendor, "m")])).await;
    // The vendor closes its connection right after each answer without announcing it.
    let closing = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{ANSWER}",
        ANSWER.len()
    );
    vendor.script("m", [Reply::raw(closing.as_bytes())]);
    for _ in 0..20 {
        let response = gateway.chat(&ask("m")).await;
        assert_good(&response, false, "a fresh connection is taken");
        assert_eq!(response.header("x-llmux-attempts"), Some("1"));
    }
}

/// Each fault that the mock vendor knows, and what comes of it: the status, and for streams how often `[DONE]` and an
/// error event came.
const MOCK_FAULTS: &[(&str, u16, usize, usize)] = &[
    ("", 200, 1, 0),
    ("done=0", 200, 1, 0),
    ("done=2", 200, 1, 0),
    ("first-byte=50ms", 200, 1, 0),
    ("gap=5ms;chunks=10", 200, 1, 0),
    ("status=529", 503, 0, 0),
    ("status=429;retry-after=2", 429, 0, 0),
    ("cut", 502, 0, 0),
    ("cut=0", 502, 0, 0),
    ("cut=1", 502, 0, 0),
    ("cut=3", 200, 0, 1),
    ("cut=3;reset", 200, 0, 1),
    ("cut-bytes=10", 502, 0, 0),
    ("hang", 504, 0, 0),
    ("hang=1", 504, 0, 0),
    ("hang=3", 200, 0, 1),
    ("garbage", 502, 0, 0),
    ("garbage=bytes", 502, 0, 0),
    ("content-type=text/html", 200, 1, 0),
    ("error-event=1", 502, 0, 0),
    ("error-event=3", 200, 0, 1),
];

#[tokio::test]
async fn each_fault_of_the_mock_vendor_ends_as_promised_in_a_stream() {
    let mock = llmux_mock::Mock::start(llmux_mock::Options::default()).await.unwrap();
    let providers = MOCK_FAULTS.iter().enumerate().map(|(index, (fault, ..))| {
        json!({
            "name": format!("p{index}"),
            "type": "openai",
            "api_key": "k",
            "base_url": format!("{}/v1", mock.url()),
            "headers": {"x-mock-fault": fault},
            "timeout": "700ms",
            "stream_idle_timeout": "700ms",
            "models": [format!("m{index}")],
        })
    });
    let gateway = Gateway::start(once(providers.collect())).await;
    for (index, (fault, status, dones, errors)) in MOCK_FAULTS.iter().enumerate() {
        mock.clear();
        let response = gateway.open(&format!("m{index}")).await.whole().await;
        assert_eq!(response.status, *status, "{fault}: {}", response.text());
        if *status == 200 {
            let got = items(&response.body);
            let failed = got.iter().filter(|item| item.json()["error"].is_object()).count();
            let ended = got.iter().filter(|item| item.is_done()).count();
            assert_eq!((ended, failed), (*dones, *errors), "{fault}: {got:?}");
        } else {
            response.error();
        }
        // A kept connection that dies before it has answered anything is replaced once.
        let most = if *fault == "cut" { 2 } else { 1 };
        let received = mock.received().len();
        assert!((1..=most).contains(&received), "{fault}: {received} requests");
    }
}
