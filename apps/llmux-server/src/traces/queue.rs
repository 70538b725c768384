//! Finished spans on their way from the threads that serve requests to the exporter.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

use super::span::Span;

/// Spans that may wait for the collector, some megabytes. Over it spans are dropped and counted: a collector that is
/// slow or gone must not slow a request, and not fill the memory.
const CAPACITY: usize = 8192;

/// Spans that are sent together.
pub(super) const BATCH: usize = 512;

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: Mutex<Vec<Span>>,
    /// A batch is full.
    pub(super) full: Notify,
    exported: AtomicU64,
    dropped: AtomicU64,
}

impl Queue {
    /// Adds a span, or drops it if there is no room.
    pub(super) fn push(&self, span: Span) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() >= CAPACITY {
            drop(waiting);
            self.note_dropped(1);
            return;
        }
        waiting.push(span);
        let length = waiting.len();
        drop(waiting);
        // The exporter looks now and then; a busy gateway must not wake it for each span.
        if length == BATCH {
            self.full.notify_one();
        }
    }

    /// Takes the oldest spans, at most a batch.
    pub(super) fn take(&self) -> Vec<Span> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let length = waiting.len().min(BATCH);
        waiting.drain(..length).collect()
    }

    pub(super) fn note_exported(&self, spans: u64) {
        self.exported.fetch_add(spans, Ordering::Relaxed);
    }

    pub(super) fn note_dropped(&self, spans: u64) {
        self.dropped.fetch_add(spans, Ordering::Relaxed);
    }

    /// Returns how many spans the collector took, and how many it did not get.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.exported.load(Ordering::Relaxed), self.dropped.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::super::span::Place;
    use super::*;

    fn span(span_id: u64) -> Span {
        let place =
            Place { trace_id: 1, span_id, parent: None, state: None, started: SystemTime::now() };
        Span::server(place, String::new())
    }

    #[test]
    fn spans_over_the_capacity_are_dropped_and_counted() {
        let queue = Queue::default();
        for id in 0..CAPACITY + 3 {
            queue.push(span(id as u64));
        }
        assert_eq!(queue.counts(), (0, 3));
        let mut taken = Vec::new();
        loop {
            let batch = queue.take();
            assert!(batch.len() <= BATCH);
            if batch.is_empty() {
                break;
            }
            taken.extend(batch.into_iter().map(|span| span.into_message().span_id));
        }
        let ids: Vec<_> = (0..CAPACITY as u64).map(|id| id.to_be_bytes().to_vec()).collect();
        assert_eq!(taken, ids, "the oldest are kept, in their order");
        queue.push(span(1));
        assert_eq!((queue.take().len(), queue.counts()), (1, (0, 3)));
    }
}
