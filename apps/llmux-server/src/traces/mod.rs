//! OpenTelemetry traces: a span for each request, one for each call to a vendor.
//!
//! A span is a value that is finished in one go when its request or call ends, put into a bounded queue, and sent to the
//! collector by a task of the control runtime. Nothing of it runs on a request's way while traces are off, and nothing
//! that waits does when they are on. See `docs/adr/0009-spans-are-values.md`.

mod connect;
mod context;
mod export;
mod queue;
mod span;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::header::{HeaderMap, HeaderValue};
use llmux_auth::tenants::UsageStatus;
use llmux_providers::Endpoint;
use llmux_router::Why;
use llmux_types::{FailureClass, Money, Usage};
use memchr::memmem;
use serde::Deserialize;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use self::context::{Parent, traceparent};
pub(crate) use self::context::{TRACEPARENT, TRACESTATE, tracestate};
use self::export::Exporter;
use self::queue::Queue;
use self::span::{Place, Span, Value};
use crate::catalog::Deployment;
use crate::config;
use crate::exchange::{AccessLine, Lookup, Outcome};

/// How long the end of the process waits for the collector.
const FLUSH_TIME: Duration = Duration::from_secs(2);

/// Where finished spans go; nowhere if traces are off.
#[derive(Clone, Debug)]
pub(crate) struct Traces(Option<Arc<Queue>>);

impl Traces {
    /// Makes the way from requests to the collector; the second is `None` if traces are off.
    pub(crate) fn start(settings: &config::Tracing, runtime: &Handle) -> (Self, Option<Exporting>) {
        if !settings.enabled {
            return (Self(None), None);
        }
        let queue = Arc::new(Queue::default());
        let (stop, stopped) = watch::channel(false);
        let exporter = Exporter::new(Arc::clone(&queue), settings);
        let task = runtime.spawn(exporter.run(stopped));
        (Self(Some(queue)), Some(Exporting { stop, task }))
    }

    /// Decides whether a request is traced: as its parent was, else by chance. `None` if traces are off.
    pub(crate) fn begin(
        &self,
        settings: &config::Tracing,
        headers: &HeaderMap,
    ) -> Option<Box<RequestTrace>> {
        let queue = self.0.as_ref()?;
        let parent = Parent::of(headers);
        let sampled = match parent {
            Some(parent) => parent.sampled,
            None => fastrand::f64() < settings.sample_rate,
        };
        Some(Box::new(RequestTrace {
            queue: Arc::clone(queue),
            sampled,
            place: Place {
                trace_id: parent.map_or_else(|| fastrand::u128(1..), |parent| parent.trace_id),
                span_id: fastrand::u64(1..),
                parent: parent.map(|parent| parent.span_id),
                // What others say of a trace that is not this one says nothing.
                state: parent.and_then(|_| tracestate(headers)),
                started: SystemTime::now(),
            },
            call: 0,
        }))
    }

    /// Returns how many spans the collector took, and how many it did not get.
    pub(crate) fn counts(&self) -> (u64, u64) {
        self.0.as_ref().map(|queue| queue.counts()).unwrap_or_default()
    }
}

/// The task that sends spans.
pub(crate) struct Exporting {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Exporting {
    /// Sends what is left, as far as the collector takes it soon.
    pub(crate) async fn finish(self) {
        self.stop.send_replace(true);
        let abort = self.task.abort_handle();
        match tokio::time::timeout(FLUSH_TIME, self.task).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "the export of traces panicked"),
            Err(_) => {
                abort.abort();
                tracing::warn!("the trace collector does not take the last spans in time");
            }
        }
    }
}

/// A request's span until it ends.
#[derive(Clone, Debug)]
pub(crate) struct RequestTrace {
    queue: Arc<Queue>,
    sampled: bool,
    place: Place,
    /// The span of the last call to a vendor.
    call: u64,
}

impl RequestTrace {
    /// Returns the id of the trace, if it is recorded.
    pub(crate) fn recorded_id(&self) -> Option<String> {
        self.sampled.then(|| format!("{:032x}", self.place.trace_id))
    }

    /// Begins the span of a call to a vendor. `None`: the request is not recorded.
    pub(crate) fn call(&mut self, about: CallAbout<'_>) -> Option<Box<CallTrace>> {
        self.call = fastrand::u64(1..);
        self.sampled.then(|| {
            Box::new(CallTrace {
                queue: Arc::clone(&self.queue),
                place: Place {
                    span_id: self.call,
                    parent: Some(self.place.span_id),
                    started: SystemTime::now(),
                    ..self.place.clone()
                },
                operation: operation(about.endpoint),
                request_model: about.model.to_owned(),
                stream: about.stream,
                number: about.number,
                decision: about.decision,
                response_model: None,
                finish_reason: None,
            })
        })
    }

    /// Returns the headers that tell the vendor where the call belongs.
    pub(crate) fn headers(&self) -> (HeaderValue, Option<&HeaderValue>) {
        let span_id = if self.call == 0 { self.place.span_id } else { self.call };
        (traceparent(self.place.trace_id, span_id, self.sampled), self.place.state.as_ref())
    }

    /// Ends the span.
    pub(crate) fn end(self, line: &AccessLine) {
        if !self.sampled {
            return;
        }
        // A client's own words are no names of spans.
        let method = match line.method.as_str() {
            method @ ("GET" | "HEAD" | "POST" | "PUT" | "DELETE" | "PATCH" | "OPTIONS") => method,
            _ => "_OTHER",
        };
        let name = match line.route {
            "" => method.to_owned(),
            route => format!("{method} {route}"),
        };
        let mut span = Span::server(self.place, name);
        span.set("http.request.method", method.to_owned());
        if !line.route.is_empty() {
            span.set("http.route", line.route);
        }
        span.set("http.response.status_code", u64::from(line.status));
        span.set("client.address", line.client_ip.to_string());
        span.set("llmux.request_id", line.request_id.to_str().unwrap_or_default().to_owned());
        span.set_some("llmux.caller", line.caller.as_ref().map(|it| it.as_str().to_owned()));
        span.set_some("llmux.key_alias", line.key_alias().map(str::to_owned));
        span.set_some("llmux.team", line.team().map(str::to_owned));
        span.set_some("llmux.model", line.model.clone());
        span.set_some("llmux.provider", line.provider.clone());
        span.set_some("llmux.deployment", line.deployment.clone());
        span.set_some("llmux.cache", line.cache.map(Lookup::as_str));
        span.set("llmux.attempts", u64::from(line.attempts));
        span.set("llmux.stream", line.stream);
        span.set("llmux.outcome", line.outcome.as_str());
        span.set_some("llmux.cost_usd", line.cost.map(dollars));
        let overhead = line.overhead.map(|time| time.as_micros() as f64 / 1000.0);
        span.set_some("llmux.overhead_ms", overhead);
        if line.outcome == Outcome::Error {
            let code = line.error.clone().unwrap_or_else(|| line.status.to_string());
            // A client's own mistake is no failure of the server.
            if !(400..500).contains(&line.status) {
                span.fail(code.clone());
            }
            span.set("error.type", code);
        }
        self.queue.push(span);
    }
}

/// What is known of a call before it is made.
#[derive(Debug)]
pub(crate) struct CallAbout<'a> {
    pub(crate) endpoint: Endpoint,
    /// What the vendor is asked for.
    pub(crate) model: &'a str,
    pub(crate) stream: bool,
    /// 1 for a request's first call.
    pub(crate) number: u32,
    /// Why the deployment was chosen.
    pub(crate) decision: Option<Why>,
}

/// How a call ended.
#[derive(Debug)]
pub(crate) struct CallEnd<'a> {
    pub(crate) deployment: &'a Deployment,
    pub(crate) status: UsageStatus,
    pub(crate) status_code: Option<u16>,
    /// The kind of failure.
    pub(crate) class: Option<FailureClass>,
    pub(crate) usage: Option<Usage>,
    pub(crate) first_output: Option<Duration>,
    pub(crate) cost: Option<Money>,
}

/// The span of a call to a vendor until it ends.
#[derive(Debug)]
pub(crate) struct CallTrace {
    queue: Arc<Queue>,
    place: Place,
    operation: &'static str,
    request_model: String,
    stream: bool,
    number: u32,
    decision: Option<Why>,
    response_model: Option<String>,
    finish_reason: Option<String>,
}

impl CallTrace {
    /// Takes note of the model that a whole answer names.
    pub(crate) fn note_answer(&mut self, json: &[u8]) {
        self.response_model = model_of(json);
    }

    /// Takes note of the model that the beginning of a stream names.
    pub(crate) fn note_opening(&mut self, bytes: &[u8]) {
        if self.response_model.is_none() {
            self.response_model = model_in(bytes);
        }
    }

    pub(crate) fn note_finish(&mut self, reason: Option<&str>) {
        self.finish_reason = reason.map(str::to_owned);
    }

    /// Ends the span.
    pub(crate) fn end(self, end: &CallEnd<'_>) {
        let provider = &end.deployment.provider;
        let name = format!("{} {}", self.operation, self.request_model);
        let mut span = Span::client(self.place, name);
        span.set("gen_ai.operation.name", self.operation);
        span.set("gen_ai.provider.name", provider_name(provider.vendor.name));
        span.set("gen_ai.request.model", self.request_model);
        if self.stream {
            span.set("gen_ai.request.stream", true);
            let first = end.first_output.map(|time| time.as_secs_f64());
            span.set_some("gen_ai.response.time_to_first_chunk", first);
        }
        span.set_some("gen_ai.response.model", self.response_model);
        let reasons = self.finish_reason.map(Value::One);
        span.set_some("gen_ai.response.finish_reasons", reasons);
        if let Some(usage) = end.usage {
            span.set_some("gen_ai.usage.input_tokens", usage.prompt_tokens);
            span.set_some("gen_ai.usage.output_tokens", usage.completion_tokens);
            let cached = usage.cached_tokens.filter(|&tokens| tokens > 0);
            span.set_some("gen_ai.usage.cache_read.input_tokens", cached);
            let written = usage.cache_write_tokens.filter(|&tokens| tokens > 0);
            span.set_some("gen_ai.usage.cache_creation.input_tokens", written);
            let reasoning = usage.reasoning_tokens.filter(|&tokens| tokens > 0);
            span.set_some("gen_ai.usage.reasoning.output_tokens", reasoning);
        }
        span.set("server.address", provider.origin.host().to_owned());
        span.set("server.port", u64::from(provider.origin.port()));
        span.set_some("http.response.status_code", end.status_code.map(u64::from));
        span.set("llmux.provider", provider.name.clone());
        span.set("llmux.deployment", end.deployment.id.clone());
        span.set("llmux.attempt", u64::from(self.number));
        span.set_some("llmux.decision", self.decision.map(|why| why.to_string()));
        span.set("llmux.outcome", end.status.as_str());
        span.set_some("llmux.cost_usd", end.cost.map(dollars));
        if let Some(class) = end.class {
            span.set("error.type", class.as_str());
            span.fail(class.as_str());
        }
        self.queue.push(span);
    }
}

fn dollars(money: Money) -> f64 {
    money.nanos() as f64 / 1e9
}

/// Returns the name of an operation; what the conventions have none for is named alike.
pub(crate) const fn operation(endpoint: Endpoint) -> &'static str {
    match endpoint {
        Endpoint::ChatCompletions | Endpoint::Responses | Endpoint::Messages => "chat",
        Endpoint::Completions => "text_completion",
        Endpoint::Embeddings => "embeddings",
        Endpoint::Moderations => "moderation",
        Endpoint::ImagesGenerations => "image_generation",
        Endpoint::AudioSpeech => "speech",
        Endpoint::AudioTranscriptions => "transcription",
        Endpoint::AudioTranslations => "translation",
        Endpoint::CountTokens => "count_tokens",
    }
}

/// Returns the name that the conventions have for a vendor, else ours.
pub(crate) fn provider_name(vendor: &'static str) -> &'static str {
    match vendor {
        "azure" => "azure.ai.openai",
        "gemini" => "gcp.gemini",
        "mistral" => "mistral_ai",
        "xai" => "x_ai",
        other => other,
    }
}

/// Finds the model's name in a whole answer.
fn model_of(json: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Names<'a> {
        #[serde(borrow)]
        model: Option<Cow<'a, str>>,
        #[serde(borrow, rename = "modelVersion")]
        version: Option<Cow<'a, str>>,
    }
    let names: Names<'_> = serde_json::from_slice(json).ok()?;
    names.model.or(names.version).map(Cow::into_owned)
}

/// Finds the model's name in the first events of a stream, which have it before anything that looks like it: inside of
/// texts quotes are escaped.
fn model_in(bytes: &[u8]) -> Option<String> {
    const LONGEST: usize = 256;
    let named = |name: &str| {
        let at = memmem::find(bytes, name.as_bytes())?;
        let rest = bytes[at + name.len()..].trim_ascii_start().strip_prefix(b":")?;
        let rest = rest.trim_ascii_start().strip_prefix(b"\"")?;
        let end = memchr::memchr(b'"', rest).filter(|&end| end <= LONGEST)?;
        std::str::from_utf8(&rest[..end]).ok().map(str::to_owned)
    };
    named("\"model\"").or_else(|| named("\"modelVersion\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_of_an_answer_is_found() {
        assert_eq!(model_of(br#"{"a":{"model":"x"},"model":"m"}"#).as_deref(), Some("m"));
        assert_eq!(model_of(br#"{"modelVersion":"g"}"#).as_deref(), Some("g"));
        assert_eq!(model_of(br#"{"model":3}"#), None);
        assert_eq!(model_of(b"["), None);
        let opening = b"data: {\"text\":\"\\\"model\\\":\\\"no\\\"\",\"model\" : \"m\"}\n\n";
        assert_eq!(model_in(opening).as_deref(), Some("m"));
        assert_eq!(model_in(b"{\"modelVersion\":\"g\"}").as_deref(), Some("g"));
        assert_eq!(model_in(b"data: {\"model\":null}"), None);
        assert_eq!(model_in(b"data: {\"model\":\"cut"), None);
    }
}
