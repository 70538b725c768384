//! Bodies of answers: whole ones, and those that are pulled from a vendor while the client reads. No task and no
//! queue stands between the two, so that a client that reads slowly slows its vendor down, and one that leaves
//! cancels the call.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt as _;
use llmux_auth::Admitted;
use llmux_providers::{ClientStream, StreamFailure, Summary};
use llmux_types::FailureClass;
use tokio::time::{Instant, Sleep};

use crate::attempt::Attempt;
use crate::charge::Produced;
use crate::error::Failed;
use crate::exchange::{Exchange, Outcome};
use crate::proxy::SharedReply;
use crate::stalled;
use crate::upstream::UpstreamBody;

/// How much of a whole answer is given out at once, in bytes: a client's progress is seen in these steps.
pub(crate) const PIECE: usize = 256 * 1024;

/// An answer before it is bound to its exchange.
pub(crate) enum Reply {
    Whole(Bytes),
    /// Server-sent events.
    Events(Box<Events>),
    /// Any other bytes, passed on as they come.
    Bytes(Box<Through>),
    /// The answer of a call that others may wait for, too.
    Shared(Box<SharedReply>),
}

/// The body of a response. What the request reserved and its log line are settled when it is dropped, at its end or
/// when the client leaves.
pub(crate) struct Body {
    reply: Reply,
    exchange: Box<Exchange>,
    admitted: Option<Admitted>,
}

impl Body {
    pub(crate) fn new(reply: Reply, exchange: Box<Exchange>, admitted: Option<Admitted>) -> Self {
        // A client may give no window for the very first byte.
        stalled::offer();
        Self { reply, exchange, admitted }
    }
}

impl Drop for Body {
    /// The client may have left in the middle: what the vendor said until then belongs into the record.
    fn drop(&mut self) {
        let exchange = &mut self.exchange;
        match &mut self.reply {
            Reply::Whole(_) => {}
            Reply::Events(events) => events.abandon(exchange),
            Reply::Bytes(through) => through.abandon(exchange),
            Reply::Shared(shared) => shared.abandon(exchange),
        }
        if let Some(admitted) = self.admitted.take() {
            admitted.finish(exchange.tokens(), std::time::Instant::now());
        }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let Self { reply, exchange, .. } = self.get_mut();
        stalled::taken();
        let bytes = match reply {
            Reply::Whole(bytes) => {
                if exchange.line.outcome == Outcome::Cancelled {
                    exchange.line.outcome = Outcome::Ok;
                }
                let piece = bytes.split_to(bytes.len().min(PIECE));
                Ok((!piece.is_empty()).then_some(piece))
            }
            Reply::Events(events) => Ok(ready!(events.poll_next(context, exchange))),
            Reply::Bytes(through) => ready!(through.poll_next(context, exchange)),
            Reply::Shared(shared) => ready!(shared.poll_next(context, exchange)),
        };
        Poll::Ready(match bytes {
            Ok(Some(bytes)) => {
                exchange.note_bytes(&bytes);
                stalled::offer();
                Some(Ok(Frame::data(bytes)))
            }
            Ok(None) => None,
            Err(error) => Some(Err(error)),
        })
    }

    fn is_end_stream(&self) -> bool {
        matches!(&self.reply, Reply::Whole(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match &self.reply {
            Reply::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Reply::Bytes(through) => through.upstream.size_hint(),
            Reply::Events(_) | Reply::Shared(_) => SizeHint::default(),
        }
    }
}

/// When a stream has waited too long, and for what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StreamTimes {
    /// Silence after which a comment is sent to the client.
    pub(crate) keep_alive: Duration,
    /// Silence of the vendor after which the stream has failed.
    pub(crate) idle: Duration,
    /// When the first output must have come.
    pub(crate) first_output: Instant,
    /// When the client's time for the whole request is over.
    pub(crate) deadline: Option<Instant>,
}

impl StreamTimes {
    fn is_over(&self, now: Instant) -> bool {
        self.deadline.is_some_and(|deadline| now >= deadline)
    }

    /// Says whose time ran out.
    fn overdue(&self, now: Instant) -> Failed {
        if self.is_over(now) { Failed::deadline() } else { Failed::timeout() }
    }
}

/// A stream of events on its way from the vendor to the client.
pub(crate) struct Events {
    /// `None` once the stream has ended.
    upstream: Option<UpstreamBody>,
    stream: Box<dyn ClientStream>,
    /// What the client gets next.
    out: BytesMut,
    /// Came in the same read as output that the client must get first.
    failure: Option<StreamFailure>,
    times: StreamTimes,
    /// When the vendor last sent something.
    heard: Instant,
    /// When the client last got something.
    told: Instant,
    timer: Pin<Box<Sleep>>,
    attempt: Option<Box<Attempt>>,
}

impl Events {
    /// Reads a stream until its first event with output, its end, or the first keep-alive is due. Until then the
    /// client knows nothing of it, and another deployment can be tried.
    ///
    /// # Errors
    /// The attempt with its failure, if the stream fails before that.
    pub(crate) async fn open(
        mut attempt: Box<Attempt>,
        upstream: UpstreamBody,
        stream: Box<dyn ClientStream>,
        times: StreamTimes,
    ) -> Result<Box<Self>, (Box<Attempt>, Failed)> {
        let now = Instant::now();
        let hold = now + times.keep_alive;
        let mut events = Box::new(Self {
            upstream: Some(upstream),
            stream,
            out: BytesMut::new(),
            failure: None,
            times,
            heard: now,
            told: now,
            timer: Box::pin(tokio::time::sleep_until(hold)),
            attempt: None,
        });
        let until = hold.min(times.first_output);
        match tokio::time::timeout_at(until, events.read_opening(&mut attempt)).await {
            Ok(Ok(())) => {}
            Ok(Err(failure)) => return Err((attempt, failure.into())),
            // From here on comments keep the client waiting.
            Err(_) if hold < times.first_output => {}
            Err(_) => return Err((attempt, times.overdue(Instant::now()))),
        }
        if events.stream.progress().output {
            attempt.note_output();
        }
        events.attempt = Some(attempt);
        Ok(events)
    }

    async fn read_opening(&mut self, attempt: &mut Attempt) -> Result<(), StreamFailure> {
        while let Some(upstream) = &mut self.upstream {
            match upstream.frame().await {
                Some(Ok(frame)) => {
                    self.heard = Instant::now();
                    let Ok(bytes) = frame.into_data() else { continue };
                    let fed = self.stream.feed(&bytes, &mut self.out);
                    if let Some(trace) = &mut attempt.trace {
                        trace.note_opening(&bytes);
                    }
                    let progress = self.stream.progress();
                    // The client may leave at the next wait.
                    attempt.note(self.produced(&self.stream.summary()));
                    match fed {
                        // The output is the client's, and so is what comes after it.
                        Err(failure) if progress.output => {
                            self.failure = Some(failure);
                            return Ok(());
                        }
                        Err(failure) => return Err(failure),
                        Ok(_) if progress.output || progress.ended => return Ok(()),
                        Ok(_) => {}
                    }
                }
                Some(Err(_)) => return Err(StreamFailure::Truncated),
                None => {
                    self.stream.finish(&mut self.out)?;
                    self.upstream = None;
                }
            }
        }
        Ok(())
    }

    /// Returns the client's next bytes; `None` at the end.
    pub(crate) fn poll_next(
        &mut self,
        context: &mut Context<'_>,
        exchange: &mut Exchange,
    ) -> Poll<Option<Bytes>> {
        loop {
            if self.stream.progress().output {
                exchange.note_output();
                if let Some(attempt) = &mut self.attempt {
                    attempt.note_output();
                }
            }
            if self.times.deadline.is_some()
                && self.attempt.is_some()
                && self.times.is_over(Instant::now())
            {
                self.fail(Failed::deadline(), exchange);
            } else if let Some(failure) = self.failure.take() {
                self.fail_stream(failure, exchange);
            } else if self.stream.progress().ended && self.attempt.is_some() {
                self.succeed(exchange);
            }
            if !self.out.is_empty() {
                self.told = Instant::now();
                return Poll::Ready(Some(self.out.split().freeze()));
            }
            let Some(upstream) = &mut self.upstream else { return Poll::Ready(None) };
            match Pin::new(upstream).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => {
                    self.heard = Instant::now();
                    if let Ok(bytes) = frame.into_data()
                        && let Err(failure) = self.stream.feed(&bytes, &mut self.out)
                    {
                        self.failure = Some(failure);
                    }
                }
                Poll::Ready(Some(Err(_))) => self.failure = Some(StreamFailure::Truncated),
                Poll::Ready(None) => self.failure = self.stream.finish(&mut self.out).err(),
                Poll::Pending => ready!(self.poll_silence(context, exchange)),
            }
        }
    }

    /// Waits while the vendor is silent: ready when a comment, or the failure, has been written.
    fn poll_silence(&mut self, context: &mut Context<'_>, exchange: &mut Exchange) -> Poll<()> {
        loop {
            let now = Instant::now();
            let limit = if self.stream.progress().output {
                self.heard + self.times.idle
            } else {
                self.times.first_output
            };
            let limit = self.times.deadline.map_or(limit, |deadline| deadline.min(limit));
            let keep_alive = self.told + self.times.keep_alive;
            if now >= limit {
                self.fail(self.times.overdue(now), exchange);
                return Poll::Ready(());
            }
            if now >= keep_alive {
                self.out.extend_from_slice(b": keep-alive\n\n");
                return Poll::Ready(());
            }
            // Moved only when it fires, or fires too late: events that come in time touch no timer.
            let due = limit.min(keep_alive);
            if self.timer.is_elapsed() || due < self.timer.deadline() {
                self.timer.as_mut().reset(due);
            }
            ready!(self.timer.as_mut().poll(context));
        }
    }

    fn succeed(&mut self, exchange: &mut Exchange) {
        if let Some(upstream) = self.upstream.take() {
            upstream.drain();
        }
        exchange.line.outcome = Outcome::Ok;
        if let Some(attempt) = self.settled(exchange) {
            exchange.note_charged(attempt.succeed());
        }
    }

    /// The client is gone.
    pub(crate) fn abandon(&mut self, exchange: &mut Exchange) {
        self.upstream = None;
        if let Some(attempt) = self.settled(exchange) {
            exchange.note_charged(attempt.cancel());
        }
    }

    /// Ends the attempt's part in the stream: returns it with all that came of it.
    fn settled(&mut self, exchange: &mut Exchange) -> Option<Box<Attempt>> {
        let mut attempt = self.attempt.take()?;
        let summary = self.stream.summary();
        attempt.note(self.produced(&summary));
        attempt.note_finish(&summary);
        exchange.note(summary);
        Some(attempt)
    }

    fn produced(&self, summary: &Summary) -> Produced {
        let progress = self.stream.progress();
        // Some output has no text to count.
        Produced { usage: summary.usage, bytes: progress.produced.max(progress.output.into()) }
    }

    fn fail_stream(&mut self, failure: StreamFailure, exchange: &mut Exchange) {
        let told = matches!(failure, StreamFailure::Told(_));
        let mut failed = Failed::from(failure);
        if let Some(attempt) = &self.attempt {
            failed.redact(&attempt.deployment.provider.secrets);
        }
        if told {
            self.end_failed(failed, exchange);
        } else {
            self.fail(failed, exchange);
        }
    }

    /// Tells the client inside its stream.
    fn fail(&mut self, failed: Failed, exchange: &mut Exchange) {
        let event = self.stream.error_event(&failed.in_stream());
        self.out.extend_from_slice(&event);
        self.end_failed(failed, exchange);
    }

    fn end_failed(&mut self, failed: Failed, exchange: &mut Exchange) {
        // Dropping what is left of it cancels the call at the vendor.
        self.upstream = None;
        if let Some(attempt) = self.settled(exchange) {
            exchange.note_charged(attempt.fail(&failed));
        }
        exchange.note_error(&failed.in_stream());
    }
}

/// Bytes on their way from the vendor to the client, of an answer that is neither JSON nor events.
pub(crate) struct Through {
    upstream: UpstreamBody,
    idle: Duration,
    /// When the client's time for the whole request is over.
    deadline: Option<Instant>,
    heard: Instant,
    timer: Pin<Box<Sleep>>,
    attempt: Option<Box<Attempt>>,
    /// Bytes so far.
    passed: u64,
}

impl Through {
    pub(crate) fn new(
        attempt: Box<Attempt>,
        upstream: UpstreamBody,
        idle: Duration,
        deadline: Option<Instant>,
    ) -> Box<Self> {
        let now = Instant::now();
        let due = deadline.map_or(now + idle, |deadline| deadline.min(now + idle));
        let timer = Box::pin(tokio::time::sleep_until(due));
        Box::new(Self {
            upstream,
            idle,
            deadline,
            heard: now,
            timer,
            attempt: Some(attempt),
            passed: 0,
        })
    }

    /// Returns the client's next bytes; `None` at the end.
    pub(crate) fn poll_next(
        &mut self,
        context: &mut Context<'_>,
        exchange: &mut Exchange,
    ) -> Poll<io::Result<Option<Bytes>>> {
        loop {
            match Pin::new(&mut self.upstream).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => {
                    self.heard = Instant::now();
                    exchange.note_output();
                    let Ok(bytes) = frame.into_data() else { continue };
                    self.passed += bytes.len() as u64;
                    if let Some(attempt) = &mut self.attempt {
                        attempt.note(Produced { usage: None, bytes: self.passed });
                    }
                    if self.upstream.is_end_stream() {
                        // Whoever knows the length will not ask again.
                        self.succeed(exchange);
                    }
                    return Poll::Ready(Ok(Some(bytes)));
                }
                Poll::Ready(None) => {
                    self.succeed(exchange);
                    return Poll::Ready(Ok(None));
                }
                // There is no place for an error in these bytes: the connection says it by breaking.
                Poll::Ready(Some(Err(error))) => {
                    let message = "The provider's answer was cut off.";
                    self.fail(&Failed::new(FailureClass::Malformed, message), exchange);
                    return Poll::Ready(Err(io::Error::other(error)));
                }
                Poll::Pending => {
                    let due = self.heard + self.idle;
                    let due = self.deadline.map_or(due, |deadline| deadline.min(due));
                    if Instant::now() >= due {
                        let failed = match self.deadline == Some(due) {
                            true => Failed::deadline(),
                            false => Failed::timeout(),
                        };
                        self.fail(&failed, exchange);
                        return Poll::Ready(Err(io::Error::from(io::ErrorKind::TimedOut)));
                    }
                    if self.timer.is_elapsed() {
                        self.timer.as_mut().reset(due);
                    }
                    ready!(self.timer.as_mut().poll(context));
                }
            }
        }
    }

    fn succeed(&mut self, exchange: &mut Exchange) {
        exchange.line.outcome = Outcome::Ok;
        if let Some(attempt) = self.attempt.take() {
            exchange.note_charged(attempt.succeed());
        }
    }

    /// The client is gone.
    pub(crate) fn abandon(&mut self, exchange: &mut Exchange) {
        if let Some(attempt) = self.attempt.take() {
            exchange.note_charged(attempt.cancel());
        }
    }

    fn fail(&mut self, failed: &Failed, exchange: &mut Exchange) {
        exchange.line.outcome = Outcome::Error;
        if let Some(attempt) = self.attempt.take() {
            exchange.note_charged(attempt.fail(failed));
        }
    }
}
