//! A data-plane request, from the client's bytes to the answer.

mod admission;
mod answer;
mod cached;
mod flight;
mod resolve;
mod shared;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderValue};
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use llmux_auth::Admitted;
use llmux_providers::openai::{self, AnswerHead, Relay, Translation};
use llmux_providers::{
    ChatCodec, ClientStream, Dialect, EmbeddingsCodec, EncodeError, Encoding, Endpoint, Invalid,
    Outgoing, Summary, anthropic,
};
use llmux_router::{FallbackKind, Left, NoRoute, Step};
use llmux_types::FailureClass;
use tokio::time::Instant;

pub(crate) use self::resolve::{next_model, resolve};

use self::admission::{admit, not_allowed};
use self::answer::{Answer, refusal};
use self::cached::Cached;
use crate::ask::Ask;
use crate::attempt::{Attempt, Facts, Resolved};
use crate::body::{Events, Reply, StreamTimes, Through};
use crate::catalog::Deployment;
use crate::charge::Produced;
use crate::collect::{CollectError, collect, read_body};
use crate::config::IncludeUsage;
use crate::error::{ApiError, Failed};
use crate::exchange::Exchange;
use crate::gateway::{Snapshot, Worker};
use crate::headers;
use crate::tenants;
use crate::traces::CallAbout;
use crate::upstream::UpstreamBody;

pub(crate) use self::flight::Published;
pub(crate) use self::shared::SharedReply;

/// The largest answer that is kept in memory until it is whole, in bytes: images come as base64 in JSON.
const MAX_REPLY_BYTES: usize = 256 * 1024 * 1024;

/// A body that takes longer is not looked at with what was known of its key before.
const PROMPT: Duration = Duration::from_millis(50);

/// Answers a call of `endpoint`. `path_model` is the model that stands in the path, if one does.
pub(crate) async fn call(
    worker: &Worker,
    endpoint: Endpoint,
    path_model: Option<String>,
    head: http::request::Parts,
    body: &mut Incoming,
    exchange: &mut Exchange,
) -> Result<(Response<Reply>, Option<Admitted>), ApiError> {
    let gateway = &worker.gateway;
    exchange.labels.begin();
    let caller = tenants::caller(gateway, &head).await?;
    exchange.line.caller = Some(caller.clone());
    if gateway.is_draining() {
        return Err(ApiError::shutting_down());
    }
    if gateway.spool.refuses() {
        return Err(ApiError::spool_full());
    }

    let snapshot = Arc::clone(&exchange.snapshot);
    let limit = snapshot.settings.server.max_body_bytes;
    let body = read_body(&head.headers, body, limit, exchange).await?;
    exchange.note_request(&body);
    // A body may take its time, and the key may be blocked meanwhile.
    let caller =
        if exchange.waited > PROMPT { tenants::caller(gateway, &head).await? } else { caller };
    let ask = Ask::look(endpoint, head.headers, path_model, body, exchange)?;
    let controls = cached::controls(&snapshot.settings.cache, &ask, exchange)?;
    let resolved = resolve(&snapshot, endpoint, &ask.model)
        .map_err(|error| not_allowed(&caller, &ask).unwrap_or(error))?;
    exchange.labels.ask(&resolved.route.deployments[0].meter);
    let admitted = admit(gateway, &caller, &ask, &resolved, exchange).await?;
    let settings = &snapshot.settings.cache;
    let of = |controls| Cached::of(gateway, settings, controls, &admitted, &ask, &resolved);
    if let Some(cached) = controls.and_then(of) {
        return cached::answer(worker, cached, admitted, ask, resolved, exchange).await;
    }
    let answered = Call::new(worker, &snapshot, &admitted, &ask, resolved).answer(exchange).await;
    match answered {
        Ok(response) => Ok((response, Some(admitted))),
        Err(error) => {
            admitted.finish(exchange.tokens(), std::time::Instant::now());
            Err(error)
        }
    }
}

/// One request on its way to an answer.
struct Call<'a> {
    worker: &'a Worker,
    /// The configuration that the request came in with.
    snapshot: &'a Snapshot,
    admitted: &'a Admitted,
    ask: &'a Ask,
    facts: Facts<'a>,
    /// The model that is tried.
    resolved: Resolved,
    /// Its deployments that failed this request.
    tried: Vec<usize>,
    /// The models so far, in all their spellings, the one asked for first. Empty until another is looked for.
    visited: Vec<String>,
    /// Its stream tells the usage, whether the client asked for it or not.
    shows_usage: bool,
}

impl<'a> Call<'a> {
    fn new(
        worker: &'a Worker,
        snapshot: &'a Snapshot,
        admitted: &'a Admitted,
        ask: &'a Ask,
        resolved: Resolved,
    ) -> Self {
        let (tried, visited) = (Vec::new(), Vec::new());
        let (facts, shows_usage) = (ask.facts(), false);
        Self { worker, snapshot, admitted, ask, facts, resolved, tried, visited, shows_usage }
    }

    /// Lets the stream tell the usage to those who share it.
    fn showing_usage(self) -> Self {
        Self { shows_usage: true, ..self }
    }

    /// Tries deployments until one answers or the retry policy gives up.
    async fn answer(mut self, exchange: &mut Exchange) -> Result<Response<Reply>, ApiError> {
        // Why a vendor could not be asked: the answer, if no other is left.
        let mut unsaid: Option<ApiError> = None;
        // The failure that the client is told if no attempt ends better.
        let mut worst: Option<Failed> = None;
        loop {
            let attempt = match (self.place(worst.is_none(), exchange).await, worst.take()) {
                (Ok(attempt), failed) => {
                    worst = failed;
                    attempt
                }
                (Err(_), Some(failed)) => return Err(self.give_up(failed)),
                (Err(error), None) => return Err(unsaid.unwrap_or(error)),
            };
            let ready = match self.prepare(&attempt.deployment) {
                Ok(prepared) => self.charge(&attempt, prepared, exchange).await,
                Err(Unsaid::Invalid(invalid)) => {
                    attempt.unsent();
                    return Err(invalid.into());
                }
                Err(other) => Err(other.into()),
            };
            let (prepared, charge) = match ready {
                Ok(ready) => ready,
                Err(error) => {
                    self.resolved.unable.push(attempt.index);
                    attempt.unsent();
                    unsaid = Some(error);
                    if let Some(failed) = worst.take() {
                        worst = Some(self.go_on(failed, exchange).await?);
                    }
                    continue;
                }
            };
            let mut attempt = attempt;
            attempt.begin(charge);
            self.admitted.note_sent();
            exchange.line.attempts += 1;
            let (metrics, attempts) = (&self.worker.gateway.metrics, exchange.line.attempts);
            metrics.began(&mut exchange.labels, &attempt.deployment.meter, attempts);
            exchange.line.deployment = Some(attempt.deployment.id.clone());
            exchange.line.provider = Some(attempt.deployment.provider.name.clone());
            exchange.line.decision = attempt.why();
            attempt.trace = exchange.trace.as_mut().and_then(|trace| {
                trace.call(CallAbout {
                    endpoint: self.ask.endpoint,
                    model: &prepared.model,
                    stream: self.ask.stream,
                    number: attempts,
                    decision: attempt.why(),
                })
            });
            self.tried.push(attempt.index);
            if !self.snapshot.settings.routing.retry.fallback {
                self.stay_at(attempt.index);
            }

            let (attempt, failed) = match self.attempt(attempt, prepared, exchange).await {
                Ok(response) => return Ok(response),
                Err(failed) => failed,
            };
            // The vendor's words may repeat what was asked.
            let said = self.snapshot.settings.logging.content.then_some(&*failed.message);
            tracing::debug!(
                request_id = exchange.line.request_id.to_str().unwrap_or_default(),
                deployment = attempt.deployment.id,
                class = failed.class.as_str(),
                status = failed.status_code(),
                said,
                "attempt failed"
            );
            let refused =
                matches!(failed.class, FailureClass::Credential | FailureClass::Forbidden);
            if refused {
                self.resolved.unable.push(attempt.index);
            }
            exchange.note_charged(attempt.fail(&failed));
            let failed = self.go_on(failed, exchange).await;
            // One refusal says nothing where another deployment failed for a while only.
            worst = match (failed, worst) {
                (Ok(_), Some(other)) if refused => Some(other),
                (Ok(failed), _) => Some(failed),
                (Err(_), Some(other)) if refused => return Err(self.give_up(other)),
                (Err(error), _) => return Err(error),
            };
        }
    }

    /// Does what the retry policy wants after a failure: returns when the next attempt is due.
    ///
    /// # Errors
    /// The client's answer, if there is to be no other attempt.
    async fn go_on(&mut self, failed: Failed, exchange: &mut Exchange) -> Result<Failed, ApiError> {
        if failed.is_deadline() || self.is_over(Duration::ZERO) {
            return Err(self.give_up(failed));
        }
        let next = FallbackKind::of(failed.class).and_then(|kind| self.next_model(kind));
        let left = Left { models: next.is_some(), ..self.resolved.left(&self.tried, &self.facts) };
        let policy = &self.snapshot.settings.routing.retry;
        let attempts = exchange.line.attempts;
        match (policy.after(&failed.failure(), attempts, left, fastrand::u64(..)), next) {
            (Step::Elsewhere, _) => {}
            (Step::NextModel, Some(next)) => self.go_on_with(next),
            (Step::Again { delay }, _) if !self.is_over(delay) => {
                tokio::time::sleep(delay).await;
                exchange.waited += delay;
            }
            _ => return Err(self.give_up(failed)),
        }
        Ok(failed)
    }

    /// Makes the client's answer of the last failure.
    fn give_up(&self, mut failed: Failed) -> ApiError {
        if failed.class == FailureClass::RateLimited {
            // Another deployment may be back before the one that failed last.
            let earliest = self.resolved.left(&[], &self.facts).again;
            let earliest = earliest.filter(|wait| !wait.is_zero());
            failed.retry_after = [failed.retry_after, earliest].into_iter().flatten().min();
        }
        failed.into()
    }

    /// Tells whether the client's time will have run out after `delay`.
    fn is_over(&self, delay: Duration) -> bool {
        self.ask.deadline.is_some_and(|deadline| Instant::now() + delay >= deadline)
    }

    fn stay_at(&mut self, index: usize) {
        let all = 0..self.resolved.route.deployments.len();
        self.resolved.excluded = all.filter(|&other| other != index).collect();
    }

    /// Finds the next fallback model that has deployments for the endpoint.
    fn next_model(&mut self, kind: FallbackKind) -> Option<Resolved> {
        if self.visited.is_empty() {
            self.visited.push(self.ask.model.clone());
            self.visited.extend(self.resolved.names().map(str::to_owned));
        }
        loop {
            let next = next_model(self.snapshot, self.ask.endpoint, kind, &self.visited)?;
            if self.admitted.may_use(&next.route.name, &next.name) {
                return Some(next);
            }
            self.visited.extend(next.names().map(str::to_owned));
        }
    }

    fn go_on_with(&mut self, next: Resolved) {
        self.visited.extend(next.names().map(str::to_owned));
        self.resolved = next;
        self.tried.clear();
    }

    /// Takes a place at a deployment of the model, else of the next one that has a place; with `patient` waits a
    /// little while all are full.
    async fn place(
        &mut self,
        patient: bool,
        exchange: &mut Exchange,
    ) -> Result<Box<Attempt>, ApiError> {
        match self.resolved.pick(&self.tried, &self.facts) {
            Ok(attempt) => Ok(attempt),
            // A request that belongs to certain deployments must not slip to a model that does not ask.
            Err(NoRoute::Tags) => Err(NoRoute::Tags.into()),
            Err(no_route) => self.place_elsewhere(no_route, patient, exchange).await,
        }
    }

    async fn place_elsewhere(
        &mut self,
        mut no_route: NoRoute,
        patient: bool,
        exchange: &mut Exchange,
    ) -> Result<Box<Attempt>, ApiError> {
        const STEP: Duration = Duration::from_millis(20);
        let patience = self.snapshot.settings.routing.retry.max_backoff;
        let give_up = Instant::now() + patience;
        let mut models = vec![(self.resolved.clone(), self.visited.clone())];
        while let Some(next) = self.next_model(FallbackKind::General) {
            self.go_on_with(next);
            match self.resolved.pick(&self.tried, &self.facts) {
                Ok(attempt) => return Ok(attempt),
                Err(error) => no_route = no_route.sooner(error),
            }
            models.push((self.resolved.clone(), self.visited.clone()));
        }
        while patient && no_route == NoRoute::Busy && Instant::now() < give_up {
            if self.is_over(STEP) {
                return Err(ApiError::deadline());
            }
            tokio::time::sleep(STEP).await;
            exchange.waited += STEP;
            for (resolved, visited) in &models {
                if let Ok(attempt) = resolved.pick(&self.tried, &self.facts) {
                    self.resolved = resolved.clone();
                    self.visited.clone_from(visited);
                    return Ok(attempt);
                }
            }
        }
        Err(no_route.into())
    }

    /// Makes one call.
    async fn attempt(
        &self,
        attempt: Box<Attempt>,
        prepared: Prepared,
        exchange: &mut Exchange,
    ) -> Result<Response<Reply>, (Box<Attempt>, Failed)> {
        let started = Instant::now();
        let result = self.exchange(attempt, prepared, started, exchange).await;
        exchange.waited += started.elapsed();
        result.map_err(|(attempt, mut failed)| {
            failed.redact(&attempt.deployment.provider.secrets);
            (attempt, failed)
        })
    }

    async fn exchange(
        &self,
        attempt: Box<Attempt>,
        prepared: Prepared,
        started: Instant,
        exchange: &mut Exchange,
    ) -> Result<Response<Reply>, (Box<Attempt>, Failed)> {
        let mut attempt = attempt;
        let deployment = Arc::clone(&attempt.deployment);
        let deployment = &*deployment;
        let until = started + deployment.timeout;
        let until = self.ask.deadline.map_or(until, |deadline| deadline.min(until));
        // A client that does not wait says nothing about the deployment.
        let by_client = self.ask.deadline == Some(until);
        let overdue = || if by_client { Failed::deadline() } else { Failed::timeout() };
        let sent = tokio::time::timeout_at(until, self.send(deployment, &prepared, exchange));
        let response = match sent.await {
            Ok(Ok(answered)) => answered,
            Ok(Err(failed)) => return Err((attempt, failed)),
            Err(_) => return Err((attempt, overdue())),
        };

        let (head, body) = response.into_parts();
        attempt.note_status(head.status);
        let vendor = headers::from_vendor(&head.headers, &deployment.provider.secrets);
        let content_type = head.headers.get(CONTENT_TYPE).cloned();
        let mut answer = Answer { status: head.status, content_type, headers: vendor };
        if !head.status.is_success() {
            let failed = refusal(&head, answer.headers, body, prepared.way, until).await;
            return Err((attempt, failed));
        }
        if head.headers.get(CONTENT_ENCODING).is_some_and(|value| value != "identity") {
            let message = "The provider encoded its answer though it was not asked to.";
            return Err((attempt, Failed::new(FailureClass::Malformed, message)));
        }

        let endpoint = self.ask.endpoint;
        // A vendor's own codec knows its streams better than their label does: Gemini also streams a JSON array.
        let knows_streams = matches!(prepared.way, Way::Chat(_)) || !answer.is("json");
        if answer.is("text/event-stream") || (self.must_stream() && knows_streams) {
            let stream = self.stream(&prepared, exchange);
            let settings = &self.snapshot.settings;
            let times = StreamTimes {
                keep_alive: settings.stream.keep_alive,
                idle: deployment.provider.stream_idle_timeout,
                first_output: until,
                deadline: self.ask.deadline,
            };
            let events = Events::open(attempt, body, stream, times).await?;
            if !answer.is("text/event-stream") {
                // Some vendors call it something else; clients go by the label.
                answer.content_type = None;
            }
            return Ok(answer.respond(Reply::Events(events)));
        }
        if endpoint.answers_json() || answer.is("json") {
            return match self.whole(body, &prepared, until, &mut attempt, exchange).await {
                Err(failed) if by_client && failed.class == FailureClass::Timeout => {
                    Err((attempt, Failed::deadline()))
                }
                Ok(bytes) => {
                    exchange.note_output();
                    exchange.note_charged(attempt.succeed());
                    answer.content_type.get_or_insert(HeaderValue::from_static("application/json"));
                    Ok(answer.respond(Reply::Whole(bytes)))
                }
                Err(failed) => Err((attempt, failed)),
            };
        }
        let idle = deployment.provider.stream_idle_timeout;
        Ok(answer.respond(Reply::Bytes(Through::new(attempt, body, idle, self.ask.deadline))))
    }

    /// Tells whether the answer must be a stream of events, whatever its content type says.
    const fn must_stream(&self) -> bool {
        self.ask.stream && self.ask.endpoint.streams_events()
    }

    /// Refuses a whole answer where a stream was asked for.
    fn refuse_unstreamed(&self) -> Result<(), Box<Failed>> {
        if self.must_stream() {
            let message = "The provider did not answer with a stream.";
            return Err(Box::new(Failed::new(FailureClass::Malformed, message)));
        }
        Ok(())
    }

    /// Says the request in the vendor's words.
    fn prepare(&self, deployment: &Deployment) -> Result<Prepared, Unsaid> {
        let ask = self.ask;
        let model = deployment.upstream_model(&self.resolved.asked);
        let target = deployment.target(model);
        let way = Way::to(target.vendor.dialect, ask.endpoint).ok_or(Unsaid::Unsupported)?;
        let settings = &self.snapshot.settings;
        let encoding = || Encoding {
            base_url: target.base_url,
            model,
            drop_params: settings.drop_params,
            max_output_tokens: deployment.most_output(model),
        };
        let outgoing = match way {
            Way::Relay => {
                let streams =
                    matches!(ask.endpoint, Endpoint::ChatCompletions | Endpoint::Completions);
                let ask_usage = streams
                    && match settings.stream.include_usage {
                        IncludeUsage::Auto => target.takes_stream_options(),
                        IncludeUsage::Always => true,
                        IncludeUsage::Never => false,
                    };
                let url = target.url(ask.endpoint).map_err(|_| Unsaid::Unsupported)?;
                let (body, hide_usage) = ask.edited(model, ask_usage);
                return Ok(Prepared {
                    outgoing: Outgoing { url, headers: target.dialect_headers(), body },
                    way,
                    hide_usage,
                    model: model.to_owned(),
                });
            }
            Way::Chat(codec) => codec.encode(ask.chat()?, &encoding())?,
            Way::Embeddings(codec) => codec.encode(ask.embeddings()?, &encoding())?,
        };
        Ok(Prepared { outgoing, way, hide_usage: false, model: model.to_owned() })
    }

    /// Sends the request; returns the head of the answer.
    async fn send(
        &self,
        deployment: &Deployment,
        prepared: &Prepared,
        exchange: &mut Exchange,
    ) -> Result<Response<UpstreamBody>, Failed> {
        let provider = &deployment.provider;
        let outgoing = &prepared.outgoing;
        let unusable = |_| Failed::new(FailureClass::Connect, "The provider's URL is unusable.");
        let uri: http::Uri = outgoing.url.parse().map_err(unusable)?;
        exchange.line.upstream_model = Some(prepared.model.clone());
        let request_id = &exchange.line.request_id;
        let trace = exchange.trace.as_deref();
        let request = || {
            let mut request = Request::new(Full::new(outgoing.body.clone()));
            *request.method_mut() = http::Method::POST;
            *request.uri_mut() = uri.clone();
            let (client, dialect) = (&self.ask.headers, &outgoing.headers);
            let is_multipart = self.ask.endpoint.is_multipart();
            let content_type = client.get(CONTENT_TYPE).filter(|_| is_multipart);
            *request.headers_mut() =
                headers::to_vendor(client, content_type, provider, dialect, request_id, trace);
            request
        };
        let upstream = &self.worker.upstream;
        let sent =
            upstream.send(self.admitted, &provider.origin, provider.connect_timeout, request);
        Ok(sent.await.inspect_err(|error| {
            use std::error::Error as _;
            let source = error.source().map(ToString::to_string);
            tracing::debug!(provider = provider.name, %error, source, "call failed");
        })?)
    }

    /// Makes what turns the vendor's stream into the client's.
    fn stream(&self, prepared: &Prepared, exchange: &Exchange) -> Box<dyn ClientStream> {
        let ask = self.ask;
        match prepared.way {
            Way::Chat(codec) => {
                let head = self.answer_head(exchange);
                let shows_usage = self.shows_usage || ask.usage_asked();
                Box::new(Translation::new(codec.decoder(), head, shows_usage))
            }
            _ if ask.endpoint.is_anthropic() => Box::new(anthropic::Relay::new(ask.model.as_str())),
            _ => {
                let hides_usage = prepared.hide_usage && !self.shows_usage;
                Box::new(Relay::new(ask.endpoint, ask.model.as_str(), hides_usage))
            }
        }
    }

    /// Returns the members of an answer that a vendor of another dialect does not give.
    fn answer_head(&self, exchange: &Exchange) -> AnswerHead {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        AnswerHead {
            id: format!("chatcmpl-{}", exchange.line.request_id.to_str().unwrap_or_default()),
            model: self.ask.model.clone(),
            created: now.as_secs(),
        }
    }

    /// Reads a whole JSON answer; returns it in the client's words.
    async fn whole(
        &self,
        mut body: UpstreamBody,
        prepared: &Prepared,
        until: Instant,
        attempt: &mut Attempt,
        exchange: &mut Exchange,
    ) -> Result<Bytes, Failed> {
        let read = tokio::time::timeout_at(until, collect(&mut body, MAX_REPLY_BYTES)).await;
        let bytes = read.map_err(|_| Failed::timeout())?.map_err(|error| {
            let message = match error {
                CollectError::TooLarge => "The provider's answer is too large.",
                CollectError::Broken => "The provider's answer was cut off.",
            };
            Failed::new(FailureClass::Malformed, message)
        })?;
        if let Some(trace) = &mut attempt.trace {
            trace.note_answer(&bytes);
        }
        let malformed =
            |_| Failed::new(FailureClass::Malformed, "The provider's answer is not valid JSON.");
        let (bytes, summary) = match prepared.way {
            Way::Chat(codec) => {
                let response = codec.decode(&bytes)?;
                let first = response.choices.first().and_then(|choice| choice.finish_reason);
                let summary = Summary {
                    usage: response.usage,
                    finish_reason: first.map(|reason| reason.as_str().to_owned()),
                };
                let head = self.answer_head(exchange);
                (Bytes::from(openai::write_response(&response, &head)), summary)
            }
            Way::Embeddings(codec) => {
                let response = codec.decode(&bytes)?;
                let summary = Summary { usage: response.usage, finish_reason: None };
                let format = self.ask.embeddings().map(|request| request.encoding_format);
                let format = format.unwrap_or_default();
                let written = openai::write_embeddings(&response, &self.ask.model, format);
                (Bytes::from(written), summary)
            }
            Way::Relay if self.ask.endpoint.is_anthropic() => {
                let reply = anthropic::Reply::look(bytes).map_err(malformed)?;
                attempt.note(Produced { usage: reply.summary().usage, bytes: 0 });
                self.refuse_unstreamed().map_err(|failed| *failed)?;
                (reply.with_model(&self.ask.model), reply.summary().clone())
            }
            Way::Relay => {
                let reply = openai::Reply::look(bytes, self.ask.endpoint).map_err(malformed)?;
                attempt.note(Produced { usage: reply.summary().usage, bytes: 0 });
                if let Some(rejection) = reply.rejection() {
                    return Err(Failed::rejected(Box::new(rejection)));
                }
                if reply.lacks_choices() {
                    let message = "The provider's answer has no choices.";
                    return Err(Failed::new(FailureClass::Malformed, message));
                }
                self.refuse_unstreamed().map_err(|failed| *failed)?;
                (reply.with_model(&self.ask.model), reply.summary().clone())
            }
        };
        attempt.note(Produced { usage: summary.usage, bytes: bytes.len() as u64 });
        attempt.note_finish(&summary);
        exchange.note(summary);
        Ok(bytes)
    }
}

/// How a client's endpoint reaches a vendor.
#[derive(Clone, Copy)]
enum Way {
    /// Both speak one dialect: bytes pass.
    Relay,
    Chat(&'static dyn ChatCodec),
    Embeddings(&'static dyn EmbeddingsCodec),
}

impl Way {
    fn to(dialect: Dialect, endpoint: Endpoint) -> Option<Self> {
        if dialect.has(endpoint) {
            return Some(Self::Relay);
        }
        match endpoint {
            Endpoint::ChatCompletions => dialect.chat_codec().map(Self::Chat),
            Endpoint::Embeddings => dialect.embeddings_codec().map(Self::Embeddings),
            _ => None,
        }
    }
}

/// A request in the words of one deployment's vendor.
struct Prepared {
    outgoing: Outgoing,
    way: Way,
    /// Only we asked for the usage of the stream.
    hide_usage: bool,
    /// What the vendor is asked for.
    model: String,
}

/// Why a request cannot be said in a vendor's words.
enum Unsaid {
    Unsupported,
    /// Not as the client's dialect defines it: no vendor will take it.
    Invalid(Invalid),
    /// This vendor has no words for it; another may.
    Encode(EncodeError),
}

impl From<Invalid> for Unsaid {
    fn from(invalid: Invalid) -> Self {
        Self::Invalid(invalid)
    }
}

impl From<EncodeError> for Unsaid {
    fn from(error: EncodeError) -> Self {
        Self::Encode(error)
    }
}

impl From<Unsaid> for ApiError {
    fn from(unsaid: Unsaid) -> Self {
        match unsaid {
            Unsaid::Unsupported => Self::unsupported_endpoint(),
            Unsaid::Invalid(invalid) => invalid.into(),
            Unsaid::Encode(error) => error.into(),
        }
    }
}
