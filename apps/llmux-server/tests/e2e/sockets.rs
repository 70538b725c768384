//! Connections on both sides: reuse, back-pressure, slow clients, TLS, the admin port, limits of a deployment.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::bytes::items;
use crate::client::{PATIENCE, Request, Response};
use crate::harness::{ANSWER, Gateway, STOP, ask, once, provider, role, text};
use crate::replay::{Gate, Reply, Step, Vendor, data};

#[tokio::test]
async fn connections_to_a_vendor_are_kept_and_used_again() {
    let vendor = Vendor::start().await;
    let mut configuration = once(vec![provider(&vendor, "m")]);
    configuration["server"] = json!({"workers": 1});
    let gateway = Gateway::start(configuration).await;
    vendor.script("m", [Reply::json(200, ANSWER)]);
    for _ in 0..20 {
        assert_eq!(gateway.chat(&ask("m")).await.status, 200);
    }
    vendor.script("m", [Reply::events([&text("hi"), STOP, "[DONE]"])]);
    for _ in 0..20 {
        assert_eq!(gateway.open("m").await.whole().await.status, 200);
    }
    vendor.script("m", [Reply::json(400, r#"{"error":{"message":"no"}}"#)]);
    for _ in 0..20 {
        assert_eq!(gateway.chat(&ask("m")).await.status, 400);
    }
    assert_eq!(vendor.seen("m").len(), 60);
    assert_eq!(vendor.connections(), 1, "one request at a time needs one connection");
}

#[tokio::test]
async fn a_connection_is_not_used_again_after_a_broken_answer() {
    let vendor = Vendor::start().await;
    let gateway = Gateway::start(once(vec![provider(&vendor, "m")])).await;
    // More bytes than announced: they must not become the next caller's answer.
    let poison = r#"HTTP/1.1 200 OK
content-type: application/json
content-length: 2

{"id":"someone else's"}"#;
    let smuggled = format!(
        "{}{ANSWER}",
        poison.replace('\n', "\r\n").replace("content-length: 2", "content-length: 23")
    );
    vendor.script("m", [Reply::raw(smuggled.as_bytes()), Reply::json(200, ANSWER)]);
    let first = gateway.chat(&ask("m")).await;
    assert!(
        first.status == 502 || first.text() == r#"{"id":"someone else's"}"#,
        "{}",
        first.text()
    );
    for _ in 0..5 {
        assert_eq!(gateway.chat(&ask("m")).await.text(), ANSWER.replace("served", "m"));
    }
}

#[tokio::test]
async fn a_client_may_wait_for_leave_to_send_its_body() {
    let vendor = Vendor::start().await;
    let gateway = Gateway::start(once(vec![provider(&vendor, "m")])).await;
    vendor.script("m", [Reply::json(200, ANSWER)]);
    let body = ask("m").to_string();
    let headers = [("expect", "100-continue")];
    let request = Request {
        method: "POST",
        path: "/v1/chat/completions",
        headers: &headers,
        body: body.as_bytes(),
    };
    let bytes = request.bytes(gateway.address);
    let (head, body) = bytes.split_at(bytes.len() - body.len());
    let mut socket = TcpStream::connect(gateway.address).await.unwrap();
    socket.write_all(head).await.unwrap();
    let mut leave = [0; 25];
    tokio::time::timeout(PATIENCE, socket.read_exact(&mut leave)).await.unwrap().unwrap();
    assert_eq!(&leave, b"HTTP/1.1 100 Continue\r\n\r\n");
    socket.write_all(body).await.unwrap();
    assert_eq!(Response::read(socket).await.whole().await.status, 200);
}

/// An event of a megabyte.
fn megabyte() -> Step {
    data(&text(&"0123456789abcdef".repeat(64 * 1024)))
}

#[tokio::test]
async fn a_client_that_does_not_read_slows_the_vendor_down() {
    const EVENTS: usize = 100;
    let vendor = Vendor::start().await;
    let gateway = Gateway::start(once(vec![provider(&vendor, "m")])).await;
    let mut steps = vec![megabyte(); EVENTS];
    steps.extend([data(STOP), data("[DONE]")]);
    vendor.script("m", [Reply::stream(steps)]);
    let mut response = gateway.open("m").await;
    // Until the vendor stands still, or has got rid of everything.
    let mut before = usize::MAX;
    loop {
        let written = vendor.steps_done();
        if written == before || written > EVENTS {
            break;
        }
        before = written;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(before < 40, "{before} MB of {EVENTS} left the vendor and nobody had read one");
    assert!(response.finish().await);
    assert_eq!(items(&response.body).len(), EVENTS + 2);
}

#[tokio::test]
async fn a_blocked_write_ends_after_its_timeout_and_cancels_the_vendors_call() {
    let vendor = Vendor::start().await;
    let mut configuration = once(vec![provider(&vendor, "m")]);
    configuration["server"] = json!({"write_timeout": "500ms"});
    let gateway = Gateway::start(configuration).await;
    let mut steps = vec![megabyte(); 100];
    steps.push(Step::Hang);
    vendor.script("m", [Reply::stream(steps)]);
    let response = gateway.open("m").await;
    vendor.abandoned(1).await;
    drop(response);
}

#[tokio::test]
async fn a_long_stream_is_not_cut_by_the_timeouts_of_whole_calls() {
    let vendor = Vendor::start().await;
    let mut deployment = provider(&vendor, "m");
    deployment["timeout"] = json!("600ms");
    let mut configuration = once(vec![deployment]);
    configuration["server"] =
        json!({"write_timeout": "600ms", "read_timeout": "600ms", "idle_timeout": "600ms"});
    let gateway = Gateway::start(configuration).await;
    let gate = Gate::new();
    let mut steps = vec![data(&role())];
    for _ in 0..10 {
        steps.extend([data(&text("more")), Step::Gate(gate.clone())]);
    }
    steps.extend([data(STOP), data("[DONE]")]);
    vendor.script("m", [Reply::stream(steps)]);
    let mut response = gateway.open("m").await;
    response.next_event().await.unwrap();
    for _ in 0..10 {
        assert!(response.next_event().await.unwrap().json()["error"].is_null());
        // The vendor thinks; this is what is tested, not a wait for something.
        tokio::time::sleep(Duration::from_millis(200)).await;
        gate.open();
    }
    let response = response.whole().await;
    assert!(items(&response.body).last().unwrap().is_done(), "{}", response.text());
}

#[tokio::test]
async fn a_full_deployment_leaves_the_call_to_another() {
    let vendor = Vendor::start().await;
    let gate = Gate::new();
    let full = |name: &str| {
        let steps = vec![data(&text(name)), Step::Gate(gate.clone()), data(STOP), data("[DONE]")];
        vendor.script(name, [Reply::stream(steps)]);
        json!({"name": name, "type": "openai", "api_key": "k", "base_url": vendor.url(name), "models": ["m"], "max_concurrent": 1})
    };
    let mut configuration = once(vec![full("a"), full("b")]);
    // The limit is the process's, so it must hold across workers.
    configuration["server"] = json!({"workers": 2});
    let gateway = Gateway::start(configuration).await;
    for _ in 0..10 {
        let (mut first, mut second) = (gateway.open("m").await, gateway.open("m").await);
        let (one, two) = (first.next_event().await.unwrap(), second.next_event().await.unwrap());
        assert_ne!(one, two, "the second call goes where there is room");
        gate.open();
        gate.open();
        assert!(first.finish().await && second.finish().await);
    }
    assert_eq!((vendor.seen("a").len(), vendor.seen("b").len()), (10, 10));
}

#[tokio::test]
async fn tls_works_towards_clients_and_towards_vendors() {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    let folder = std::env::temp_dir().join(format!("llmux-e2e-tls-{}-{next}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    std::fs::write(&cert, pair.cert.pem()).unwrap();
    std::fs::write(&key, pair.signing_key.serialize_pem()).unwrap();

    // The first gateway serves TLS; to the others it is the vendor.
    let vendor = Vendor::start().await;
    let mut configuration = once(vec![provider(&vendor, "m")]);
    configuration["server"] = json!({"tls": {"cert": cert, "key": key}});
    let inner = Gateway::start(configuration).await;
    let outer = once(vec![json!({
        "name": "inner",
        "type": "openai",
        "base_url": format!("https://localhost:{}/v1", inner.address.port()),
        "models": ["m"],
    })]);
    let trusting =
        Gateway::start_with(outer.clone(), &[("SSL_CERT_FILE", cert.to_str().unwrap())]).await;
    vendor.script("m", [Reply::json(200, ANSWER)]);
    for _ in 0..3 {
        let response = trusting.chat(&ask("m")).await;
        assert_eq!((response.status, response.text()), (200, ANSWER.replace("served", "m")));
    }
    let gate = Gate::new();
    let steps = vec![data(&text("hi")), Step::Gate(gate.clone()), data(STOP), data("[DONE]")];
    vendor.script("m", [Reply::stream(steps)]);
    let mut response = trusting.open("m").await;
    assert_eq!(response.next_event().await.unwrap().json()["choices"][0]["delta"]["content"], "hi");
    gate.open();
    let response = response.whole().await;
    assert!(items(&response.body).last().unwrap().is_done(), "{}", response.text());
    // A client that leaves is felt through both.
    vendor.script("m", [Reply::stream(vec![data(&text("hi")), Step::Hang])]);
    let mut response = trusting.open("m").await;
    response.next_event().await.unwrap();
    drop(response);
    vendor.abandoned(1).await;

    // Who does not trust the certificate does not talk to it.
    vendor.forget();
    let distrusting = Gateway::start(outer).await;
    let response = distrusting.chat(&ask("m")).await;
    assert_eq!(response.status, 502, "{}", response.text());
    response.error();
    assert_eq!(vendor.seen_in_all(), 0);
    std::fs::remove_dir_all(&folder).unwrap();
}

#[tokio::test]
async fn an_admin_port_takes_the_management_plane_away() {
    let vendor = Vendor::start().await;
    vendor.script("m", [Reply::json(200, ANSWER)]);
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let admin = socket.local_addr().unwrap();
    drop(socket);
    let mut configuration = once(vec![provider(&vendor, "m")]);
    configuration["server"] = json!({"admin_port": admin.port()});
    let gateway = Gateway::start(configuration).await;
    assert_eq!(gateway.chat(&ask("m")).await.status, 200);
    assert_eq!(gateway.get("/spend/logs").await.status, 404);
    let request = Request { method: "GET", path: "/spend/logs", headers: &[], body: b"" };
    let response = crate::client::send(admin, &request).await.whole().await;
    response.assert_error(401, "authentication_error", Some("invalid_api_key"));
    let body = ask("m").to_string();
    let request = Request {
        method: "POST",
        path: "/v1/chat/completions",
        headers: &[],
        body: body.as_bytes(),
    };
    assert_eq!(crate::client::send(admin, &request).await.whole().await.status, 404);
}

#[tokio::test]
async fn an_http2_client_that_leaves_one_stream_cancels_only_that() {
    let vendor = Vendor::start().await;
    let gateway = Gateway::start(once(vec![provider(&vendor, "a"), provider(&vendor, "b")])).await;
    let gate = Gate::new();
    vendor.script("a", [Reply::stream(vec![data(&text("hi")), Step::Hang])]);
    let steps = vec![data(&text("hi")), Step::Gate(gate.clone()), data(STOP), data("[DONE]")];
    vendor.script("b", [Reply::stream(steps)]);
    let socket = TcpStream::connect(gateway.address).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(socket))
            .await
            .unwrap();
    tokio::spawn(connection);
    let mut open = async |model: &str| {
        let mut body = ask(model);
        body["stream"] = json!(true);
        let uri = format!("http://{}/v1/chat/completions", gateway.address);
        let request = hyper::Request::post(uri).header("content-type", "application/json");
        let body = Full::new(hyper::body::Bytes::from(body.to_string()));
        sender.send_request(request.body(body).unwrap()).await.unwrap().into_body()
    };
    let (mut first, mut second) = (open("a").await, open("b").await);
    assert!(first.frame().await.is_some() && second.frame().await.is_some());
    drop(first);
    vendor.abandoned(1).await;
    gate.open();
    let rest = second.collect().await.unwrap().to_bytes();
    assert!(items(&rest).last().unwrap().is_done(), "{rest:?}");
}

#[tokio::test]
async fn an_http2_client_that_gives_no_window_is_left_after_the_write_timeout() {
    let vendor = Vendor::start().await;
    let mut configuration = once(vec![provider(&vendor, "m")]);
    configuration["server"] = json!({"write_timeout": "500ms"});
    let gateway = Gateway::start(configuration).await;
    vendor.script("m", [Reply::stream(vec![megabyte(), Step::Hang])]);
    let socket = TcpStream::connect(gateway.address).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(1000)
        .handshake(TokioIo::new(socket))
        .await
        .unwrap();
    tokio::spawn(connection);
    let mut body = ask("m");
    body["stream"] = json!(true);
    let request = hyper::Request::post(format!("http://{}/v1/chat/completions", gateway.address))
        .header("content-type", "application/json")
        .body(Full::new(hyper::body::Bytes::from(body.to_string())))
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    // Never read, and so no window given.
    vendor.abandoned(1).await;
    drop(response);
}
