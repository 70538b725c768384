//! One call for all requests that ask the same at the same time, and the keeping of its answer.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap};
use http::{Response, StatusCode};
use llmux_auth::Admitted;
use llmux_cache::{Aborted, CacheKey, Entry, Kind, Leader, Source, WeakShared};

use super::Call;
use super::cached::unix_ms;
use super::shared::SharedReply;
use crate::ask::Ask;
use crate::attempt::Resolved;
use crate::body::Reply;
use crate::cache::Backend;
use crate::error::ApiError;
use crate::exchange::{Exchange, Noted, Outcome};
use crate::gateway::{Gateway, Worker};
use crate::metrics::Unkept;

/// What those who wait for a call find.
#[derive(Clone, Debug)]
pub(crate) enum Published {
    /// The answer is coming.
    Coming(WeakShared<Flight>, Arc<Notes>),
    /// The answer is there, and on its way into the cache.
    Made(Arc<Entry>),
}

/// Where an answer is kept, and how.
pub(super) struct Keep {
    pub(super) backend: Arc<Backend>,
    pub(super) key: CacheKey,
    pub(super) kind: Kind,
    pub(super) ttl: Duration,
    /// The largest answer that is kept.
    pub(super) max_item_bytes: u64,
}

/// The head of an answer that several get.
#[derive(Clone, Debug)]
pub(super) struct Head {
    status: StatusCode,
    headers: HeaderMap,
}

impl Head {
    /// Takes out what the vendor said to the request that began the call.
    pub(super) fn without_vendor(mut self) -> Self {
        let names: Vec<_> = self.headers.keys().cloned().collect();
        for name in names.iter().filter(|name| name.as_str().starts_with("llm_provider-")) {
            self.headers.remove(name);
        }
        self
    }

    pub(super) fn respond(self, reply: Box<SharedReply>) -> Response<Reply> {
        let mut response = Response::new(Reply::Shared(reply));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }
}

/// Why there is no answer.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) error: ApiError,
    /// It would have been the same for everybody: vendors were asked, and failed. What the gateway refuses one request is
    /// that one's own affair: its budget, its limits.
    pub(super) is_shared: bool,
}

/// What a call says to all who wait for it, beside the bytes of its answer.
#[derive(Debug, Default)]
pub(crate) struct Notes(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    head: Option<Result<Head, Failure>>,
    noted: Noted,
    has_output: bool,
    end: Option<Outcome>,
}

impl Notes {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the head of the answer, or why there is none; `None`: neither is known yet.
    pub(super) fn head(&self) -> Option<Result<Head, Failure>> {
        self.lock().head.clone()
    }

    /// Returns what is known of the call.
    pub(super) fn noted(&self) -> Noted {
        self.lock().noted.clone()
    }

    /// Tells whether something came that a client can show.
    pub(super) fn has_output(&self) -> bool {
        self.lock().has_output
    }

    /// Returns how the answer ended; `None`: it goes on.
    pub(super) fn end(&self) -> Option<Outcome> {
        self.lock().end
    }

    fn set_head(&self, head: Result<Head, Failure>, exchange: &Exchange) {
        let mut state = self.lock();
        state.noted = exchange.noted();
        state.has_output = exchange.has_output();
        state.head = Some(head);
    }

    fn set_end(&self, exchange: &Exchange) {
        let mut state = self.lock();
        state.noted = exchange.noted();
        state.end = Some(exchange.line.outcome);
    }
}

/// What asking came to.
struct Asked {
    result: Result<Response<Reply>, ApiError>,
    exchange: Box<Exchange>,
    admitted: Admitted,
}

/// An answer on its way.
struct Answering {
    status: StatusCode,
    content_type: String,
    reply: Reply,
    exchange: Box<Exchange>,
    /// Until the answer has ended.
    admitted: Option<Admitted>,
}

impl Answering {
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        let exchange = &mut *self.exchange;
        match &mut self.reply {
            Reply::Whole(bytes) => {
                exchange.line.outcome = Outcome::Ok;
                let bytes = std::mem::take(bytes);
                Poll::Ready(Ok((!bytes.is_empty()).then_some(bytes)))
            }
            Reply::Events(events) => Poll::Ready(Ok(ready!(events.poll_next(context, exchange)))),
            Reply::Bytes(through) => through.poll_next(context, exchange),
            // No call answers with another one's answer.
            Reply::Shared(_) => Poll::Ready(Ok(None)),
        }
    }
}

enum Phase {
    /// Vendors are asked.
    Asking(Pin<Box<dyn Future<Output = Asked> + Send>>),
    Answering(Box<Answering>),
    Over,
}

/// A call that belongs to all who wait for it. It is admitted and charged as the request that began it, whoever stays.
pub(crate) struct Flight {
    gateway: Arc<Gateway>,
    phase: Phase,
    notes: Arc<Notes>,
    /// Others may find it.
    leader: Option<Leader<Published>>,
    /// `None`: the answer is not to be kept.
    keep: Option<Keep>,
    /// The answer so far, as long as it may be kept.
    parts: Vec<Bytes>,
    /// Its size in bytes, and the most with which it is kept in mind until its end.
    size: usize,
    limit: usize,
}

impl Flight {
    pub(super) fn new(
        worker: &Worker,
        exchange: &Exchange,
        admitted: Admitted,
        ask: Ask,
        resolved: Resolved,
        keep: Option<Keep>,
        limit: usize,
    ) -> Self {
        let gateway = Arc::clone(&worker.gateway);
        let (worker, snapshot) = (worker.clone(), Arc::clone(&exchange.snapshot));
        let mut exchange = exchange.aside();
        let asking = async move {
            let call = Call::new(&worker, &snapshot, &admitted, &ask, resolved).showing_usage();
            let result = call.answer(&mut exchange).await;
            Asked { result, exchange, admitted }
        };
        Self {
            gateway,
            phase: Phase::Asking(Box::pin(asking)),
            notes: Arc::default(),
            leader: None,
            keep,
            parts: Vec::new(),
            size: 0,
            limit,
        }
    }

    pub(super) fn notes(&self) -> Arc<Notes> {
        Arc::clone(&self.notes)
    }

    /// Takes the leadership for those who may find the call.
    pub(super) fn lead(&mut self, leader: Leader<Published>) {
        self.leader = Some(leader);
    }

    fn advance(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Aborted>>> {
        if let Phase::Asking(asking) = &mut self.phase {
            let asked = ready!(asking.as_mut().poll(context));
            self.phase = self.asked(asked);
        }
        let Phase::Answering(answering) = &mut self.phase else { return Poll::Ready(None) };
        let item = ready!(answering.poll_next(context));
        if answering.exchange.has_output() {
            self.notes.lock().has_output = true;
        }
        let has_ended = answering.exchange.line.outcome != Outcome::Cancelled;
        if let Ok(Some(bytes)) = &item {
            self.collect(bytes);
        }
        if has_ended {
            // Before its last bytes leave: they are a whole answer then, and in the cache.
            self.settle();
        }
        match item {
            Ok(Some(bytes)) => Poll::Ready(Some(Ok(bytes))),
            Ok(None) => {
                self.phase = Phase::Over;
                Poll::Ready(None)
            }
            Err(_) => Poll::Ready(Some(Err(Aborted))),
        }
    }

    fn asked(&mut self, asked: Asked) -> Phase {
        let Asked { result, exchange, admitted } = asked;
        match result {
            Ok(response) => {
                let (head, reply) = response.into_parts();
                let content_type = head.headers.get(CONTENT_TYPE);
                let content_type = content_type.and_then(|value| value.to_str().ok());
                let content_type = content_type.unwrap_or_default().to_owned();
                let status = head.status;
                self.notes.set_head(Ok(Head { status, headers: head.headers }), &exchange);
                if exchange.labels.is_fallback() {
                    // It is another model's: once the asked one is back, its answers are wanted.
                    self.keep = None;
                }
                let admitted = Some(admitted);
                let answering = Answering { status, content_type, reply, exchange, admitted };
                Phase::Answering(Box::new(answering))
            }
            Err(error) => {
                admitted.finish(exchange.tokens(), Instant::now());
                let is_shared = error.refusal.is_none() && exchange.line.attempts > 0;
                self.notes.set_head(Err(Failure { error, is_shared }), &exchange);
                self.decline();
                Phase::Over
            }
        }
    }

    /// Keeps bytes in mind until the end, unless there are too many of them; nobody can join then either.
    fn collect(&mut self, bytes: &Bytes) {
        self.size += bytes.len();
        if self.size > self.limit {
            self.parts = Vec::new();
            self.decline();
        } else if self.keep.is_some() {
            self.parts.push(bytes.clone());
        }
    }

    /// Ends the part that the request which began the call has in it.
    fn settle(&mut self) {
        let Phase::Answering(answering) = &mut self.phase else { return };
        let Some(admitted) = answering.admitted.take() else { return };
        admitted.finish(answering.exchange.tokens(), Instant::now());
        self.notes.set_end(&answering.exchange);
        if answering.exchange.line.outcome != Outcome::Ok || answering.status != StatusCode::OK {
            return self.decline();
        }
        let Some(keep) = self.keep.take() else { return self.decline() };
        let parts = std::mem::take(&mut self.parts);
        let entry = match self.size <= self.limit {
            true => entry(answering, &keep, &parts),
            false => Err(Unkept::TooLarge),
        };
        match entry {
            Ok(entry) => self.store(keep, Arc::new(entry)),
            Err(unkept) => {
                self.gateway.metrics.unkept(unkept);
                self.decline();
            }
        }
    }

    /// Keeps an answer, and gives it to those who come until it is kept.
    fn store(&mut self, keep: Keep, entry: Arc<Entry>) {
        let leader = self.leader.take();
        let now = unix_ms();
        if let Some(local) = keep.backend.memory_alone() {
            local.keep(&keep.key, Arc::clone(&entry), now);
            if let Some(leader) = leader {
                leader.finish(entry);
            }
            return;
        }
        if let Some(leader) = &leader {
            leader.publish(Published::Made(Arc::clone(&entry)));
        }
        // No client waits for Redis to have it.
        self.gateway.tenants.runtime().spawn(async move {
            keep.backend.cache().put(&keep.key, Arc::clone(&entry), now).await;
            if let Some(leader) = leader {
                leader.finish(entry);
            }
        });
    }

    /// There is nothing to share any more.
    fn decline(&mut self) {
        if let Some(leader) = self.leader.take() {
            leader.decline();
        }
    }
}

/// Makes of an answer what is kept of it.
fn entry(answering: &Answering, keep: &Keep, parts: &[Bytes]) -> Result<Entry, Unkept> {
    let ttl = u64::try_from(keep.ttl.as_millis()).unwrap_or(u64::MAX);
    let usage = answering.exchange.usage();
    let now = unix_ms();
    // A copy in any case: parts may be slices of what was read.
    let all = parts.concat();
    let entry = match &answering.reply {
        Reply::Whole(_) => {
            Entry::whole(keep.kind, all.into(), &answering.content_type, usage, now, ttl)
        }
        Reply::Events(_) => Entry::stream(keep.kind, &all, usage, now, ttl),
        Reply::Bytes(_) | Reply::Shared(_) => Err(llmux_cache::Unfit::Unreadable),
    };
    let entry = entry.map_err(Unkept::Unfit)?;
    if entry.size() as u64 > keep.max_item_bytes { Err(Unkept::TooLarge) } else { Ok(entry) }
}

impl Source for Flight {
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Aborted>>> {
        // A panic would leave the others waiting for ever.
        let advance = AssertUnwindSafe(|| self.advance(context));
        catch_unwind(advance).unwrap_or_else(|_| {
            self.phase = Phase::Over;
            self.decline();
            let mut state = self.notes.lock();
            let failure = Failure { error: ApiError::internal(), is_shared: false };
            state.head.get_or_insert(Err(failure));
            state.end.get_or_insert(Outcome::Error);
            Poll::Ready(Some(Err(Aborted)))
        })
    }
}

impl Drop for Flight {
    /// All have left in the middle: what the vendor said until then belongs into the record.
    fn drop(&mut self) {
        let Phase::Answering(answering) = &mut self.phase else { return };
        let Some(admitted) = answering.admitted.take() else { return };
        let exchange = &mut answering.exchange;
        match &mut answering.reply {
            Reply::Whole(_) | Reply::Shared(_) => {}
            Reply::Events(events) => events.abandon(exchange),
            Reply::Bytes(through) => through.abandon(exchange),
        }
        admitted.finish(exchange.tokens(), Instant::now());
        self.notes.set_end(exchange);
    }
}
