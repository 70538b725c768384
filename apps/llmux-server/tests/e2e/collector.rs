//! A collector of OpenTelemetry's spans, over gRPC as tonic serves it, and over HTTP.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value as Wire;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::Span as Message;
use prost::Message as _;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tonic::codegen::Service as _;

use crate::client::PATIENCE;

/// What the collector does with the spans that it gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mood {
    #[default]
    Takes,
    /// Never answers.
    Frozen,
    /// Says that they are none.
    Refuses,
    /// Takes all but one.
    TakesAllButOne,
}

/// A span as it came.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    pub(crate) message: Message,
    pub(crate) attributes: BTreeMap<String, Value>,
    /// Of the process.
    pub(crate) resource: BTreeMap<String, Value>,
}

impl Span {
    pub(crate) fn name(&self) -> &str {
        &self.message.name
    }

    pub(crate) fn trace_id(&self) -> String {
        hex(&self.message.trace_id)
    }

    pub(crate) fn span_id(&self) -> String {
        hex(&self.message.span_id)
    }

    pub(crate) fn parent(&self) -> String {
        hex(&self.message.parent_span_id)
    }

    /// The value of an attribute; null if there is none.
    pub(crate) fn get(&self, name: &str) -> &Value {
        self.attributes.get(name).unwrap_or(&Value::Null)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn attributes(list: Vec<KeyValue>) -> BTreeMap<String, Value> {
    let mut all = BTreeMap::new();
    for KeyValue { key, value, .. } in list {
        let old = all.insert(key.clone(), json_of(value));
        assert_eq!(old, None, "{key} is there twice");
    }
    all
}

fn json_of(value: Option<AnyValue>) -> Value {
    match value.and_then(|value| value.value) {
        Some(Wire::StringValue(text)) => json!(text),
        Some(Wire::BoolValue(is)) => json!(is),
        Some(Wire::IntValue(number)) => json!(number),
        Some(Wire::DoubleValue(number)) => json!(number),
        Some(Wire::ArrayValue(list)) => {
            list.values.into_iter().map(|it| json_of(Some(it))).collect()
        }
        other => panic!("no attribute of ours: {other:?}"),
    }
}

#[derive(Default)]
struct State {
    mood: Mutex<Mood>,
    spans: Mutex<Vec<Span>>,
    /// The paths and headers of HTTP requests.
    heads: Mutex<Vec<(String, http::HeaderMap)>>,
    calls: Mutex<usize>,
    changed: Notify,
}

impl State {
    /// Does with a message what the mood wants; returns how many spans were not wanted.
    async fn take(&self, request: ExportTraceServiceRequest) -> Result<u64, ()> {
        *self.calls.lock().unwrap() += 1;
        self.changed.notify_waiters();
        let mood = *self.mood.lock().unwrap();
        match mood {
            Mood::Frozen => std::future::pending().await,
            Mood::Refuses => return Err(()),
            Mood::Takes | Mood::TakesAllButOne => {}
        }
        for from in request.resource_spans {
            let resource = attributes(from.resource.unwrap_or_default().attributes);
            for message in from.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                let attributes = attributes(message.attributes.clone());
                let span = Span { message, attributes, resource: resource.clone() };
                self.spans.lock().unwrap().push(span);
            }
        }
        self.changed.notify_waiters();
        Ok(u64::from(mood == Mood::TakesAllButOne))
    }
}

fn answer(rejected: u64) -> ExportTraceServiceResponse {
    let partial_success = (rejected > 0).then(|| ExportTracePartialSuccess {
        rejected_spans: i64::try_from(rejected).unwrap(),
        error_message: "not wanted".to_owned(),
    });
    ExportTraceServiceResponse { partial_success }
}

struct Grpc(Arc<State>);

#[tonic::async_trait]
impl TraceService for Grpc {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        let taken = self.0.take(request.into_inner()).await;
        let refused = |()| tonic::Status::invalid_argument("these are no spans");
        taken.map(|rejected| tonic::Response::new(answer(rejected))).map_err(refused)
    }
}

/// A running collector. It goes on until the test's runtime ends.
pub(crate) struct Collector {
    pub(crate) address: SocketAddr,
    protocol: &'static str,
    state: Arc<State>,
}

impl Collector {
    /// Starts one that speaks gRPC.
    pub(crate) async fn grpc() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        Self::grpc_on(listener)
    }

    pub(crate) fn grpc_on(listener: TcpListener) -> Self {
        Self::serve(listener, "grpc", |stream, state| async move {
            let server = TraceServiceServer::new(Grpc(state));
            let service = service_fn(move |request: Request<Incoming>| {
                // An answer needs the service no longer than its first poll.
                let mut server = server.clone();
                async move { server.call(request).await }
            });
            let _ended = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        })
    }

    /// Starts one that speaks HTTP.
    pub(crate) async fn http() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        Self::serve(listener, "http", |stream, state| async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let state = Arc::clone(&state);
                async move { take_http(&state, request).await }
            });
            let _ended = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        })
    }

    fn serve<F: Future<Output = ()> + Send + 'static>(
        listener: TcpListener,
        protocol: &'static str,
        connection: impl Fn(TcpStream, Arc<State>) -> F + Send + 'static,
    ) -> Self {
        let address = listener.local_addr().expect("a bound socket has an address");
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(connection(stream, Arc::clone(&shared)));
            }
        });
        Self { address, protocol, state }
    }

    pub(crate) fn set(&self, mood: Mood) {
        *self.state.mood.lock().unwrap() = mood;
    }

    /// The section of the configuration that sends spans here.
    pub(crate) fn tracing(&self) -> Value {
        json!({"enabled": true, "endpoint": self.address.to_string(), "protocol": self.protocol})
    }

    /// The paths and headers of the requests that came over HTTP.
    pub(crate) fn heads(&self) -> Vec<(String, http::HeaderMap)> {
        self.state.heads.lock().unwrap().clone()
    }

    /// All spans so far.
    pub(crate) fn spans(&self) -> Vec<Span> {
        self.state.spans.lock().unwrap().clone()
    }

    /// Waits for `count` spans, and takes them.
    pub(crate) async fn take(&self, count: usize) -> Vec<Span> {
        self.wait(|| self.state.spans.lock().unwrap().len() >= count).await;
        let spans = std::mem::take(&mut *self.state.spans.lock().unwrap());
        assert_eq!(spans.len(), count, "{spans:#?}");
        spans
    }

    /// Waits until spans were offered `count` times.
    pub(crate) async fn called(&self, count: usize) {
        self.wait(|| *self.state.calls.lock().unwrap() >= count).await;
    }

    async fn wait(&self, done: impl Fn() -> bool) {
        let wait = async {
            loop {
                let changed = self.state.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if done() {
                    return;
                }
                changed.await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, wait).await;
        waited.unwrap_or_else(|_| panic!("not in time; spans: {:#?}", self.spans()));
    }
}

async fn take_http(
    state: &State,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let (head, body) = request.into_parts();
    state.heads.lock().unwrap().push((head.uri.path().to_owned(), head.headers));
    let bytes = body.collect().await?.to_bytes();
    let message = ExportTraceServiceRequest::decode(bytes).expect("the body is a message of OTLP");
    Ok(match state.take(message).await {
        Ok(rejected) => Response::new(answer(rejected).encode_to_vec().into()),
        Err(()) => {
            let mut response = Response::new(Full::default());
            *response.status_mut() = http::StatusCode::BAD_REQUEST;
            response
        }
    })
}
