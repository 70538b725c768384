//! Response bodies: whole, or played step by step.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};

use crate::gate::Gate;
use crate::state::Open;
use crate::wire::WireFaults;

/// Longest that a hanging answer keeps its connection.
pub(crate) const HANG: Duration = Duration::from_secs(120);

/// Time for what was sent to leave before the connection is broken off.
const CUT_GRACE: Duration = Duration::from_millis(5);

/// The end of an answer that was broken off on purpose.
#[derive(Debug)]
pub(crate) struct Severed;

impl std::fmt::Display for Severed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("answer broken off as scripted")
    }
}

impl std::error::Error for Severed {}

/// One thing to do while a body is sent.
pub(crate) enum Step {
    Send(Bytes),
    /// Gives everything before it to the socket, so that it is a write of its own.
    Flush,
    Sleep(Duration),
    Wait(Gate),
    /// Breaks the connection off.
    Cut {
        reset: bool,
    },
}

pub(crate) enum Body {
    Whole { bytes: Bytes, open: Open },
    Played(Box<Player>),
}

pub(crate) struct Player {
    steps: std::vec::IntoIter<Step>,
    /// Length of the whole body, where the head says it.
    length: Option<u64>,
    waiting: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// The connection is to be broken off next.
    severing: bool,
    faults: Arc<WireFaults>,
    open: Open,
}

impl Body {
    pub(crate) fn whole(bytes: Bytes, mut open: Open) -> Self {
        if bytes.is_empty() {
            // Nobody polls a body that is known to be over.
            open.finish();
        }
        Self::Whole { bytes, open }
    }

    pub(crate) fn played(
        steps: Vec<Step>,
        length: Option<u64>,
        faults: Arc<WireFaults>,
        open: Open,
    ) -> Self {
        Self::Played(Box::new(Player {
            steps: steps.into_iter(),
            length,
            waiting: None,
            severing: false,
            faults,
            open,
        }))
    }
}

impl Player {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Severed>>> {
        loop {
            if let Some(waiting) = &mut self.waiting {
                std::task::ready!(waiting.as_mut().poll(cx));
                self.waiting = None;
            }
            if self.severing {
                return Poll::Ready(Some(Err(Severed)));
            }
            match self.steps.next() {
                None => {
                    self.open.finish();
                    return Poll::Ready(None);
                }
                Some(Step::Send(bytes)) => {
                    if let Some(length) = &mut self.length {
                        *length = length.saturating_sub(bytes.len() as u64);
                    }
                    if self.steps.len() == 0 {
                        self.open.finish();
                    }
                    return Poll::Ready(Some(Ok(Frame::data(bytes))));
                }
                Some(Step::Flush) => {
                    // hyper writes out what it has whenever the body is not ready.
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Some(Step::Sleep(wait)) => self.waiting = Some(Box::pin(tokio::time::sleep(wait))),
                Some(Step::Wait(gate)) => self.waiting = Some(Box::pin(gate.pass())),
                Some(Step::Cut { reset }) => {
                    // From here on it is not the client that breaks off.
                    self.open.finish();
                    self.faults.reset.fetch_or(reset, Ordering::Relaxed);
                    self.waiting = Some(Box::pin(tokio::time::sleep(CUT_GRACE)));
                    self.severing = true;
                }
            }
        }
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = Severed;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Severed>>> {
        match self.get_mut() {
            Self::Whole { bytes, open } => {
                open.finish();
                let bytes = std::mem::take(bytes);
                Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
            }
            Self::Played(player) => player.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole { bytes, .. } => bytes.is_empty(),
            Self::Played(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole { bytes, .. } => SizeHint::with_exact(bytes.len() as u64),
            Self::Played(player) => {
                player.length.map_or_else(SizeHint::default, SizeHint::with_exact)
            }
        }
    }
}
