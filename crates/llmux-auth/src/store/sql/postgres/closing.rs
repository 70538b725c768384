//! Tells what belongs to a store that the store was dropped.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use tokio::sync::watch;

/// The store's end: whoever holds a [`Closing`] hears of its drop.
#[derive(Debug)]
pub(super) struct Open {
    sender: watch::Sender<()>,
}

/// Ends what waits when the store is dropped.
#[derive(Clone, Debug)]
pub(super) struct Closing {
    receiver: watch::Receiver<()>,
}

impl Open {
    pub(super) fn new() -> Self {
        Self { sender: watch::Sender::new(()) }
    }

    pub(super) fn closing(&self) -> Closing {
        Closing { receiver: self.sender.subscribe() }
    }
}

impl Closing {
    /// Waits for `work`. `None`: the store was dropped before.
    pub(super) async fn or<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        let (mut work, mut closed) = (pin!(work), pin!(self.receiver.changed()));
        poll_fn(|context| {
            if let Poll::Ready(value) = work.as_mut().poll(context) {
                return Poll::Ready(Some(value));
            }
            // Nothing is ever sent: it is ready when the sender is gone.
            closed.as_mut().poll(context).map(|_| None)
        })
        .await
    }
}
