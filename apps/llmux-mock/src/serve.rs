//! Connections, and the path of one request: receive, pick the reply, answer.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::Received;
use crate::body::{Body, HANG, Severed, Step};
use crate::reply::{After, Garbage, Reply};
use crate::state::{Open, State, as_text};
use crate::syntax;
use crate::vendor::{self, Call, Prepared};
use crate::wire::{Wire, WireFaults};

const FAULT_HEADER: &str = "x-mock-fault";

pub(crate) async fn accept(listener: TcpListener, state: Arc<State>) {
    // Owned here, so that the connections end with the listener.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(stream, Arc::clone(&state)));
                }
                // Out of file descriptors, most likely: some will come back.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

struct Connection {
    state: Arc<State>,
    faults: Arc<WireFaults>,
    number: usize,
}

async fn connection(stream: TcpStream, state: Arc<State>) {
    let number = state.connected();
    // Only latency would suffer.
    let _ = stream.set_nodelay(true);
    let http2 = speaks_http2(&stream).await;
    let faults = Arc::new(WireFaults::default());
    let io = TokioIo::new(Wire::new(stream, Arc::clone(&faults)));
    let connection = Arc::new(Connection { state, faults, number });
    let service = service_fn(move |request| respond(Arc::clone(&connection), request));
    // A connection that fails is the client's business or a fault that was asked for.
    if http2 {
        let _ = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(10_000)
            .serve_connection(io, service)
            .await;
    } else {
        let _ = http1::Builder::new().timer(TokioTimer::new()).serve_connection(io, service).await;
    }
}

/// Looks whether the client begins with HTTP/2's preface. No HTTP/1 method begins with `PRI`.
async fn speaks_http2(stream: &TcpStream) -> bool {
    let mut start = [0; 3];
    loop {
        match stream.peek(&mut start).await {
            Ok(3) => return &start == b"PRI",
            Ok(length @ 1..3) if start[..length] == b"PRI"[..length] => {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            _ => return false,
        }
    }
}

async fn respond(
    connection: Arc<Connection>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Severed> {
    let state = &connection.state;
    let (head, body) = request.into_parts();
    if let Some(route) = head.uri.path().strip_prefix("/_mock/") {
        let mut open = Open::new(Arc::clone(state));
        let body = body.collect().await.map_err(|_| Severed)?.to_bytes();
        open.finish();
        return Ok(control(state, &head.method, route, &body, open));
    }
    let mut open = Open::new(Arc::clone(state));
    let body = body.collect().await.map_err(|_| Severed)?.to_bytes();
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    state.record(|| received(&head, path, &body, connection.number));

    let reply = match head.headers.get(FAULT_HEADER) {
        Some(fault) => {
            match fault.to_str().map_err(|_| "not ASCII".to_owned()).and_then(syntax::parse) {
                Ok(reply) => Some(reply),
                Err(problem) => {
                    let problem = format!("{FAULT_HEADER}: {problem}\n");
                    return Ok(plain(StatusCode::BAD_REQUEST, "text/plain", problem.into(), open));
                }
            }
        }
        None => state.take_script(path),
    };
    let latency = reply.as_ref().and_then(|reply| reply.latency).unwrap_or(state.options.latency);
    if !latency.is_zero() {
        tokio::time::sleep(latency).await;
    }
    let call = Call { method: &head.method, uri: &head.uri, headers: &head.headers, body: &body };
    let Some(reply) = reply else {
        let answer = vendor::answer(state, &call);
        return Ok(unscripted(&connection, &answer, open));
    };
    if reply.cut == Some(After::Nothing) {
        connection.faults.reset.fetch_or(reply.reset, Ordering::Relaxed);
        open.finish();
        return Err(Severed);
    }
    if reply.hang == Some(After::Nothing) {
        tokio::time::sleep(HANG).await;
        open.finish();
        return Err(Severed);
    }
    if reply.garbage == Some(Garbage::Bytes) {
        connection.faults.nonsense.store(true, Ordering::Relaxed);
        let mut response = plain(StatusCode::OK, "text/plain", Bytes::new(), open);
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        return Ok(response);
    }
    Ok(scripted(&connection, vendor::scripted_answer(state, &call, &reply), reply, open))
}

fn received(head: &Parts, path: &str, body: &Bytes, connection: usize) -> Received {
    let headers = head.headers.iter();
    let headers = headers
        .map(|(name, value)| {
            (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        })
        .collect();
    Received {
        method: head.method.to_string(),
        path: path.to_owned(),
        headers,
        body: body.clone(),
        connection,
    }
}

/// The usual answer: with no gap to keep, a stream leaves at once.
fn unscripted(connection: &Connection, answer: &Prepared, open: Open) -> Response<Body> {
    let body = if !answer.stream {
        Body::whole(answer.whole.clone(), open)
    } else if connection.state.options.chunk_gap.is_zero() {
        Body::played(
            vec![Step::Send(answer.whole.clone())],
            None,
            Arc::clone(&connection.faults),
            open,
        )
    } else {
        let steps = steps(connection, &answer.events, true, &Reply::default());
        Body::played(steps, None, Arc::clone(&connection.faults), open)
    };
    head(answer, body)
}

fn scripted(connection: &Connection, answer: Prepared, reply: Reply, open: Open) -> Response<Body> {
    let length =
        (!answer.stream).then(|| answer.events.iter().map(|event| event.len() as u64).sum());
    let steps = steps(connection, &answer.events, answer.stream, &reply);
    let body = match length {
        Some(0) => Body::whole(Bytes::new(), open),
        _ => Body::played(steps, length, Arc::clone(&connection.faults), open),
    };
    let mut response = head(&answer, body);
    for (name, value) in &reply.headers {
        if let (Ok(name), Ok(value)) =
            (HeaderName::try_from(name.as_str()), HeaderValue::try_from(value.as_str()))
        {
            response.headers_mut().insert(name, value);
        }
    }
    if let Some(Ok(value)) = reply.content_type.as_deref().map(HeaderValue::try_from) {
        response.headers_mut().insert(CONTENT_TYPE, value);
    }
    response
}

/// Lays out what happens while `events` are sent.
fn steps(connection: &Connection, events: &[Bytes], stream: bool, reply: &Reply) -> Vec<Step> {
    let gap = reply.gap.unwrap_or(connection.state.options.chunk_gap);
    let pieces = reply.events.as_deref().unwrap_or_default();
    let mut steps = Vec::with_capacity(events.len() * 3 + 2);
    if let Some(wait) = reply.first_byte {
        steps.extend([Step::Flush, Step::Sleep(wait)]);
    }
    let mut bytes_left = reply.cut_bytes;
    for (index, event) in events.iter().enumerate() {
        if let Some(end) = ends_at(reply, index) {
            steps.extend(end);
            return steps;
        }
        if index > 0 && !gap.is_zero() {
            steps.push(Step::Sleep(gap));
        }
        steps.extend(reply.gate.clone().map(Step::Wait));
        steps.extend(pieces.get(index).and_then(|piece| piece.gate.clone()).map(Step::Wait));
        match &mut bytes_left {
            Some(left) if *left <= event.len() => {
                steps.push(Step::Send(event.slice(..*left)));
                steps.extend(cut(reply.reset));
                return steps;
            }
            Some(left) => *left -= event.len(),
            None => {}
        }
        steps.push(Step::Send(event.clone()));
        steps.push(Step::Flush);
    }
    if stream {
        // Asked for at or behind the last event: everything but the proper end of the body.
        let end = ends_at(reply, events.len())
            .or_else(|| reply.cut.map(|_| cut(reply.reset)))
            .or_else(|| reply.cut_bytes.map(|_| cut(reply.reset)))
            .or_else(|| reply.hang.map(|_| hang()));
        steps.extend(end.into_iter().flatten());
    }
    if matches!(steps.last(), Some(Step::Flush)) {
        steps.pop();
    }
    steps
}

fn ends_at(reply: &Reply, event: usize) -> Option<Vec<Step>> {
    if reply.hang == Some(After::Events(event)) {
        Some(hang())
    } else if reply.cut == Some(After::Events(event)) {
        Some(cut(reply.reset))
    } else {
        None
    }
}

fn cut(reset: bool) -> Vec<Step> {
    vec![Step::Flush, Step::Cut { reset }]
}

fn hang() -> Vec<Step> {
    vec![Step::Flush, Step::Sleep(HANG), Step::Cut { reset: false }]
}

fn head(answer: &Prepared, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = answer.status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(answer.content_type));
    headers.insert(answer.request_id, HeaderValue::from_static("req_mock"));
    response
}

fn plain(
    status: StatusCode,
    content_type: &'static str,
    body: Bytes,
    open: Open,
) -> Response<Body> {
    let mut response = Response::new(Body::whole(body, open));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

pub(crate) fn load_script(state: &State, json: &[u8]) -> Result<(), String> {
    for entry in syntax::script(json)? {
        for _ in 0..entry.times {
            state.script(entry.path.as_deref(), entry.reply.clone());
        }
    }
    Ok(())
}

/// Serves `/_mock/`.
fn control(
    state: &State,
    method: &Method,
    route: &str,
    body: &Bytes,
    open: Open,
) -> Response<Body> {
    let json = |value: serde_json::Value, open| {
        plain(StatusCode::OK, "application/json", value.to_string().into(), open)
    };
    match (method, route) {
        (&Method::POST, "script") => match load_script(state, body) {
            Ok(()) => json(serde_json::json!({"scripted": state.scripted()}), open),
            Err(problem) => {
                plain(StatusCode::BAD_REQUEST, "text/plain", format!("{problem}\n").into(), open)
            }
        },
        (&Method::GET, "received") => json(state.received().iter().map(shown).collect(), open),
        (&Method::POST, "reset") => {
            state.clear();
            json(serde_json::json!({}), open)
        }
        (&Method::GET, "stats") => json(
            serde_json::json!({
                "requests": state.requests(),
                // This one does not count.
                "open": state.open() - 1,
                "abandoned": state.abandoned(),
                "connections": state.connections(),
                "scripted": state.scripted(),
            }),
            open,
        ),
        _ => plain(StatusCode::NOT_FOUND, "text/plain", "no such control route\n".into(), open),
    }
}

fn shown(request: &Received) -> serde_json::Value {
    let body = as_text(&request.body);
    serde_json::json!({
        "method": request.method,
        "path": request.path,
        "headers": request.headers,
        "body": body,
        "body_bytes": request.body.len(),
        "connection": request.connection,
    })
}
