//! One request's record: made when it arrives, settled and logged when its last byte has left or its client has.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use llmux_auth::Caller;
use llmux_auth::limits::Standing;
use llmux_auth::tenants::Key;
use llmux_providers::Summary;
use llmux_router::Why;
use llmux_types::{Money, Usage};
use serde::{Serialize, Serializer};

use crate::charge::Charged;
use crate::config::LogFormat;
use crate::content::Content;
use crate::gateway::{Gateway, Snapshot};
use crate::json_line::JsonLine;
use crate::metrics::{Ended, Labels};
use crate::timed_io::BusyGuard;
use crate::traces::RequestTrace;

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    Ok,
    Error,
    /// The client left before the end.
    Cancelled,
}

impl Outcome {
    /// Returns the name used in logs and metrics.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Error => "error",
            Self::Cancelled => "cancelled",
        }
    }
}

/// What the cache had to do with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Lookup {
    /// The answer was kept, or came by a call that another request had begun.
    Hit,
    Miss,
    /// It was not asked.
    Bypass,
}

impl Lookup {
    /// Returns the name used in logs and headers.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::Bypass => "bypass",
        }
    }
}

/// What is known of a call that another request may be told, too.
#[derive(Clone, Debug, Default)]
pub(crate) struct Noted {
    provider: Option<String>,
    deployment: Option<String>,
    upstream_model: Option<String>,
    decision: Option<Why>,
    attempts: u32,
    pub(crate) error: Option<String>,
    pub(crate) usage: Option<Usage>,
    cost: Option<Money>,
    soft_budget: Option<String>,
    pub(crate) finish_reason: Option<String>,
    labels: Labels,
    waited: Duration,
}

/// What the line in the access log tells.
#[derive(Debug)]
pub(crate) struct AccessLine {
    time: String,
    pub(crate) request_id: HeaderValue,
    /// Of the trace that the request is recorded in.
    trace_id: Option<String>,
    pub(crate) client_ip: std::net::IpAddr,
    pub(crate) method: http::Method,
    /// The route, not the path: bounded, and free of what clients put into paths.
    pub(crate) route: &'static str,
    pub(crate) caller: Option<Caller>,
    /// As the client asked.
    pub(crate) model: Option<String>,
    pub(crate) provider: Option<String>,
    pub(crate) deployment: Option<String>,
    pub(crate) upstream_model: Option<String>,
    /// Why the last deployment was chosen.
    pub(crate) decision: Option<Why>,
    pub(crate) attempts: u32,
    pub(crate) cache: Option<Lookup>,
    pub(crate) stream: bool,
    pub(crate) status: u16,
    pub(crate) outcome: Outcome,
    /// What failed: the code of the error that the client got, or the kind of failure inside a stream.
    pub(crate) error: Option<String>,
    usage: Option<Usage>,
    /// What the provider charges for the last attempt, in US dollars; absent where a price is not known.
    pub(crate) cost: Option<Money>,
    /// Who has spent a soft budget.
    pub(crate) soft_budget: Option<String>,
    finish_reason: Option<String>,
    /// From the request's arrival to the first output.
    first_output: Option<Duration>,
    /// From the request's arrival to the last byte.
    duration: Duration,
    /// Of the time until the answer began, the part that was ours.
    pub(crate) overhead: Option<Duration>,
    pub(crate) bytes_in: usize,
    pub(crate) bytes_out: usize,
}

impl AccessLine {
    /// Returns the key that called, if one did.
    fn key(&self) -> Option<&Key> {
        self.caller.as_ref()?.tenant().map(|tenant| &tenant.key)
    }

    /// Returns the name that somebody gave the key.
    pub(crate) fn key_alias(&self) -> Option<&str> {
        self.key()?.key_alias.as_deref()
    }

    /// Returns the team that the key spends for.
    pub(crate) fn team(&self) -> Option<&str> {
        self.key()?.team_id.as_deref()
    }

    /// Writes the line as JSON.
    fn json(&self) -> Vec<u8> {
        let mut line = JsonLine::with_capacity(1024);
        line.text("timestamp", &self.time);
        line.text("level", "INFO");
        line.text("message", "request");
        line.text("request_id", self.request_id.to_str().unwrap_or_default());
        line.maybe("trace_id", self.trace_id.as_deref());
        line.plain("client_ip", self.client_ip);
        line.text("method", self.method.as_str());
        line.text("route", self.route);
        line.maybe("caller", self.caller.as_ref().map(Caller::as_str));
        line.maybe("key_alias", self.key_alias());
        line.maybe("team", self.team());
        line.maybe("model", self.model.as_deref());
        line.maybe("provider", self.provider.as_deref());
        line.maybe("deployment", self.deployment.as_deref());
        line.maybe("upstream_model", self.upstream_model.as_deref());
        if let Some(why) = self.decision {
            line.plain("decision", why);
        }
        line.integer("attempts", self.attempts);
        line.maybe("cache", self.cache.map(Lookup::as_str));
        line.bare("stream", self.stream);
        line.integer("status", self.status);
        line.text("outcome", self.outcome.as_str());
        line.maybe("error", self.error.as_deref());
        if let Some(usage) = &self.usage {
            line.members(usage);
        }
        if let Some(cost) = self.cost {
            line.bare("cost", cost);
        }
        line.maybe("soft_budget", self.soft_budget.as_deref());
        line.maybe("finish_reason", self.finish_reason.as_deref());
        if let Some(time) = self.first_output {
            line.milliseconds("ttft_ms", time);
        }
        line.milliseconds("duration_ms", self.duration);
        if let Some(time) = self.overhead {
            line.milliseconds("overhead_ms", time);
        }
        line.integer("bytes_in", self.bytes_in);
        line.integer("bytes_out", self.bytes_out);
        line.end()
    }
}

fn as_text<S: Serializer>(value: &HeaderValue, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(value.to_str().unwrap_or_default())
}

/// The line about what was asked and answered.
#[derive(Debug, Serialize)]
struct ContentLine<'a> {
    #[serde(rename = "timestamp")]
    time: &'a str,
    level: &'static str,
    message: &'static str,
    #[serde(serialize_with = "as_text")]
    request_id: &'a HeaderValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<&'a str>,
    request: serde_json::Value,
    answer: serde_json::Value,
}

/// See the module.
pub(crate) struct Exchange {
    gateway: Arc<Gateway>,
    /// The configuration that the request came in with.
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) line: AccessLine,
    pub(crate) labels: Labels,
    pub(crate) started: Instant,
    /// What is left of the caller's limits.
    pub(crate) standing: Standing,
    /// What all attempts so far used.
    tokens: u64,
    /// Time spent waiting for others before the answer began: the client's body, vendors, the wait between attempts.
    pub(crate) waited: Duration,
    logged: bool,
    /// What is asked and answered, if that is to be logged.
    content: Option<Box<Content>>,
    /// `None` if traces are off.
    pub(crate) trace: Option<Box<RequestTrace>>,
    /// `None`: it stands for no request of its own.
    busy: Option<BusyGuard>,
}

impl Exchange {
    pub(crate) fn open(
        gateway: &Arc<Gateway>,
        snapshot: Arc<Snapshot>,
        busy: BusyGuard,
        request_id: HeaderValue,
        client_ip: std::net::IpAddr,
        method: &http::Method,
    ) -> Box<Self> {
        gateway.enter();
        let line = AccessLine {
            time: String::new(),
            request_id,
            trace_id: None,
            client_ip,
            method: method.clone(),
            route: "",
            caller: None,
            model: None,
            provider: None,
            deployment: None,
            upstream_model: None,
            decision: None,
            attempts: 0,
            cache: None,
            stream: false,
            // What nginx calls a client that closed the connection before it was answered.
            status: 499,
            outcome: Outcome::Cancelled,
            error: None,
            usage: None,
            cost: None,
            soft_budget: None,
            finish_reason: None,
            first_output: None,
            duration: Duration::ZERO,
            overhead: None,
            bytes_in: 0,
            bytes_out: 0,
        };
        Box::new(Self {
            gateway: Arc::clone(gateway),
            snapshot,
            line,
            labels: Labels::default(),
            started: Instant::now(),
            standing: Standing::default(),
            tokens: 0,
            waited: Duration::ZERO,
            logged: true,
            content: None,
            trace: None,
            busy: Some(busy),
        })
    }

    /// Finds the request's place in the client's trace, or begins a trace.
    pub(crate) fn join_trace(&mut self, headers: &HeaderMap) {
        self.trace = self.gateway.traces.begin(&self.snapshot.settings.tracing, headers);
        self.line.trace_id = self.trace.as_ref().and_then(|trace| trace.recorded_id());
    }

    /// Makes a record for a call that is made for this request, and perhaps for others. It is neither logged nor counted.
    pub(crate) fn aside(&self) -> Box<Self> {
        let line = AccessLine {
            time: String::new(),
            request_id: self.line.request_id.clone(),
            method: self.line.method.clone(),
            caller: self.line.caller.clone(),
            model: self.line.model.clone(),
            provider: None,
            deployment: None,
            upstream_model: None,
            trace_id: None,
            error: None,
            soft_budget: None,
            finish_reason: None,
            ..self.line
        };
        Box::new(Self {
            gateway: Arc::clone(&self.gateway),
            snapshot: Arc::clone(&self.snapshot),
            line,
            labels: self.labels,
            started: self.started,
            standing: self.standing,
            tokens: 0,
            waited: Duration::ZERO,
            logged: false,
            content: None,
            trace: self.trace.clone(),
            busy: None,
        })
    }

    /// Returns what is known of the call that this record is for.
    pub(crate) fn noted(&self) -> Noted {
        let line = &self.line;
        Noted {
            provider: line.provider.clone(),
            deployment: line.deployment.clone(),
            upstream_model: line.upstream_model.clone(),
            decision: line.decision,
            attempts: line.attempts,
            error: line.error.clone(),
            usage: line.usage,
            cost: line.cost,
            soft_budget: line.soft_budget.clone(),
            finish_reason: line.finish_reason.clone(),
            labels: self.labels,
            waited: self.waited,
        }
    }

    /// Takes over what is known of the call that was made for this request. Returns how long that waited for others.
    pub(crate) fn take_over(&mut self, noted: Noted) -> Duration {
        let line = &mut self.line;
        line.provider = noted.provider;
        line.deployment = noted.deployment;
        line.upstream_model = noted.upstream_model;
        line.decision = noted.decision;
        line.attempts = noted.attempts;
        line.error = noted.error;
        line.usage = noted.usage;
        line.cost = noted.cost;
        line.soft_budget = noted.soft_budget;
        line.finish_reason = noted.finish_reason;
        self.labels = noted.labels;
        noted.waited
    }

    /// Returns what the vendor counted.
    pub(crate) const fn usage(&self) -> Option<Usage> {
        self.line.usage
    }

    /// Tells whether there was output.
    pub(crate) const fn has_output(&self) -> bool {
        self.line.first_output.is_some()
    }

    /// Keeps a request that nobody asks about, such as a health check, out of the log and the traces.
    pub(crate) fn unlogged(&mut self) {
        self.logged = false;
        self.trace = None;
    }

    /// Takes note of what is asked, if that is to be logged.
    pub(crate) fn note_request(&mut self, body: &Bytes) {
        if self.snapshot.settings.logging.content {
            self.content = Some(Box::new(Content::new(body.clone())));
        }
    }

    /// Takes note of bytes that the client gets.
    pub(crate) fn note_bytes(&mut self, bytes: &[u8]) {
        self.line.bytes_out += bytes.len();
        if let Some(content) = &mut self.content {
            content.add(bytes);
        }
    }

    /// Takes note of what the vendor said beside the answer.
    pub(crate) fn note(&mut self, summary: Summary) {
        self.line.usage = summary.usage;
        self.line.finish_reason = summary.finish_reason;
    }

    /// Takes note of what an attempt used and cost.
    pub(crate) const fn note_charged(&mut self, charged: Charged) {
        self.line.cost = charged.cost;
        self.tokens = self.tokens.saturating_add(charged.tokens);
    }

    /// Returns the tokens that all attempts used.
    pub(crate) const fn tokens(&self) -> u64 {
        self.tokens
    }

    /// Takes note of the first output.
    pub(crate) fn note_output(&mut self) {
        if self.line.first_output.is_none() {
            self.line.first_output = Some(self.started.elapsed());
        }
    }

    /// Takes note of a failure, in the words of the error's code.
    pub(crate) fn note_error(&mut self, error: &llmux_types::ErrorObject) {
        let code = error
            .code
            .as_ref()
            .map(|code| code.as_str().map_or_else(|| code.to_string(), str::to_owned));
        self.line.error = Some(code.unwrap_or_else(|| error.kind.clone()));
        self.line.outcome = Outcome::Error;
    }

    /// Counts the request, which has ended.
    fn measure(&self) {
        let line = &self.line;
        self.gateway.metrics.ended(&Ended {
            route: line.route,
            labels: self.labels,
            status: line.status,
            outcome: line.outcome,
            caller: line.caller.as_ref(),
            duration: self.started.elapsed(),
            overhead: line.overhead.filter(|_| line.attempts > 0),
            first_output: line.first_output.filter(|_| line.stream),
        });
    }

    /// Returns the part of the time so far that was not spent waiting for others.
    pub(crate) fn overhead(&self) -> Duration {
        self.started.elapsed().saturating_sub(self.waited)
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if self.busy.is_none() {
            return;
        }
        self.measure();
        if let Some(trace) = self.trace.take() {
            trace.end(&self.line);
        }
        let log = &self.gateway.log;
        if self.logged && (log.access() || self.content.is_some()) {
            let line = &mut self.line;
            line.duration = self.started.elapsed();
            line.time = humantime::format_rfc3339_micros(SystemTime::now()).to_string();
        }
        if self.logged
            && log.access()
            && let Some(bytes) = rendered(self.line.json(), log.format())
        {
            log.line(bytes);
        }
        if let Some(content) = self.content.take() {
            let (request, answer) = content.shown(&log.redactor());
            let line = ContentLine {
                time: &self.line.time,
                level: "INFO",
                message: "content",
                request_id: &self.line.request_id,
                trace_id: self.line.trace_id.as_deref(),
                request,
                answer,
            };
            let bytes = serde_json::to_vec(&line).ok();
            if let Some(bytes) = bytes.and_then(|bytes| rendered(bytes, log.format())) {
                log.line(bytes);
            }
        }
        self.gateway.leave();
    }
}

/// Puts a line of JSON into the format of the log.
fn rendered(mut bytes: Vec<u8>, format: LogFormat) -> Option<Vec<u8>> {
    if format == LogFormat::Text {
        let fields: serde_json::Map<String, serde_json::Value> =
            serde_json::from_slice(&bytes).ok()?;
        let text =
            |name: &str| fields.get(name).and_then(|value| value.as_str()).unwrap_or_default();
        let mut out = format!("{}  {} {}:", text("timestamp"), text("level"), text("message"));
        for (name, value) in &fields {
            if !matches!(name.as_str(), "timestamp" | "level" | "message") && !value.is_null() {
                out.push_str(&format!(" {name}={value}"));
            }
        }
        bytes = out.into_bytes();
    }
    bytes.push(b'\n');
    Some(bytes)
}
