//! The task that sends finished spans to the collector.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans};
use prost::Message as _;
use tokio::sync::watch;

use super::connect::{Connection, Refused, Target};
use super::queue::Queue;
use super::span::{Span, Value, attribute};
use crate::config;

/// How long a span waits, at most, for others to be sent with.
const INTERVAL: Duration = Duration::from_secs(1);

/// How long the collector may take, connecting included.
const ANSWER_TIME: Duration = Duration::from_secs(10);

/// How often spans are sent before they are given up, and the wait before the second time; it doubles.
const TRIES: u32 = 5;
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// See the [module](self).
pub(super) struct Exporter {
    queue: Arc<Queue>,
    target: Target,
    resource: Resource,
    connection: Option<Connection>,
    /// The last spans were not taken, and the log says so.
    is_failing: bool,
}

impl Exporter {
    pub(super) fn new(queue: Arc<Queue>, settings: &config::Tracing) -> Self {
        let mut attributes = vec![
            attribute("service.name", Value::from(settings.service_name.clone())),
            attribute("service.version", Value::from(env!("CARGO_PKG_VERSION"))),
            attribute("process.pid", Value::from(u64::from(std::process::id()))),
            attribute("telemetry.sdk.name", Value::from("llmux")),
            attribute("telemetry.sdk.language", Value::from("rust")),
            attribute("telemetry.sdk.version", Value::from(env!("CARGO_PKG_VERSION"))),
        ];
        let more = settings.resource.iter();
        attributes.extend(more.map(|(name, value)| attribute(name, Value::from(value.clone()))));
        Self {
            queue,
            target: Target::new(settings.collector.clone(), settings.protocol),
            resource: Resource { attributes, ..Resource::default() },
            connection: None,
            is_failing: false,
        }
    }

    /// Sends spans until told to stop, and then those that are left, as long as the collector takes them.
    pub(super) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        loop {
            let queue = Arc::clone(&self.queue);
            tokio::select! {
                () = queue.full.notified() => {}
                () = tokio::time::sleep(INTERVAL) => {}
                // An error means that nobody is left to tell: that is the end as well.
                _ = stop.wait_for(|stop| *stop) => {}
            }
            loop {
                let spans = self.queue.take();
                if spans.is_empty() {
                    break;
                }
                self.deliver(spans, &mut stop).await;
            }
            if is_over(&stop) {
                return;
            }
        }
    }

    /// Sends spans, again where that may help, and counts what became of them.
    async fn deliver(&mut self, spans: Vec<Span>, stop: &mut watch::Receiver<bool>) {
        let count = spans.len() as u64;
        let body = self.encoded(spans);
        let mut wait = FIRST_WAIT;
        for tries in 1..=TRIES {
            let refused = match self.send(body.clone()).await {
                Ok(rejected) => {
                    let rejected = rejected.min(count);
                    self.queue.note_exported(count - rejected);
                    self.queue.note_dropped(rejected);
                    if std::mem::take(&mut self.is_failing) {
                        tracing::info!("the trace collector takes spans again");
                    }
                    return;
                }
                Err(refused) => refused,
            };
            if !std::mem::replace(&mut self.is_failing, true) {
                tracing::warn!(error = %refused, "the trace collector does not take spans");
            }
            let again = matches!(refused, Refused::ForNow(_)) && tries < TRIES;
            if !again || is_over(stop) {
                break;
            }
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                _ = stop.wait_for(|stop| *stop) => {}
            }
            wait *= 2;
        }
        self.queue.note_dropped(count);
    }

    async fn send(&mut self, body: Bytes) -> Result<u64, Refused> {
        // A connection that failed is not used again, and one that was cut off in a call neither.
        let kept = self.connection.take();
        let sending = async {
            // It may have been closed while it lay idle.
            if let Some(mut connection) = kept
                && let Ok(rejected) = self.target.send(&mut connection, body.clone()).await
            {
                return Ok((rejected, connection));
            }
            let mut connection = self.target.connect().await?;
            let rejected = self.target.send(&mut connection, body).await?;
            Ok((rejected, connection))
        };
        let late = || Err(Refused::ForNow("it does not answer in time".to_owned()));
        let sent = tokio::time::timeout(ANSWER_TIME, sending).await.unwrap_or_else(|_| late());
        let (rejected, connection) = sent?;
        self.connection = Some(connection);
        Ok(rejected)
    }

    fn encoded(&self, spans: Vec<Span>) -> Bytes {
        let scope = InstrumentationScope {
            name: "llmux".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..InstrumentationScope::default()
        };
        let spans = ScopeSpans {
            scope: Some(scope),
            spans: spans.into_iter().map(Span::into_message).collect(),
            ..ScopeSpans::default()
        };
        let resource = Some(self.resource.clone());
        let spans =
            ResourceSpans { resource, scope_spans: vec![spans], ..ResourceSpans::default() };
        let message = ExportTraceServiceRequest { resource_spans: vec![spans] };
        self.target.framed(&message.encode_to_vec())
    }
}

fn is_over(stop: &watch::Receiver<bool>) -> bool {
    *stop.borrow() || stop.has_changed().is_err()
}
