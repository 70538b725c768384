//! Bytes that one writes and many read, each from the beginning.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;

/// The bytes will not come to their end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the stream was given up before its end")]
pub struct Aborted;

/// Locks whatever a panic elsewhere left: each change below is whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What was written so far, and who waits for more.
#[derive(Debug, Default)]
pub(crate) struct Log(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// What some reader may still need.
    chunks: VecDeque<Bytes>,
    /// How many chunks were there before these.
    forgotten: usize,
    /// The size of these.
    bytes: usize,
    /// The most bytes that are kept; `None`: all.
    limit: Option<usize>,
    /// The limit was passed: what all have read is forgotten, and nobody can begin any more.
    sealed: bool,
    end: Option<Result<(), Aborted>>,
    readers: BTreeMap<u64, Place>,
    next_reader: u64,
}

/// How far a reader is.
#[derive(Debug, Default)]
struct Place {
    next: usize,
    waker: Option<Waker>,
    /// It was too far behind.
    cut: bool,
}

impl State {
    /// Forgets what nobody needs, and gives up readers for whom too much would have to be kept.
    fn trim(&mut self) {
        let last = self.forgotten + self.chunks.len().saturating_sub(1);
        loop {
            let places = self.readers.values().filter(|place| !place.cut);
            let slowest = places.map(|place| place.next).min().unwrap_or(usize::MAX);
            while self.forgotten < slowest
                && let Some(chunk) = self.chunks.pop_front()
            {
                self.forgotten += 1;
                self.bytes -= chunk.len();
            }
            // What came last is everybody's, however large.
            if self.limit.is_none_or(|limit| self.bytes <= limit) || slowest >= last {
                return;
            }
            for place in self.readers.values_mut().filter(|place| place.next == slowest) {
                place.cut = true;
            }
        }
    }
}

impl Log {
    pub(crate) fn with_limit(bytes: usize) -> Self {
        Self(Mutex::new(State { limit: Some(bytes), ..State::default() }))
    }

    pub(crate) fn push(&self, bytes: Bytes) {
        let mut state = lock(&self.0);
        if state.end.is_none() && !bytes.is_empty() {
            state.bytes += bytes.len();
            state.chunks.push_back(bytes);
            state.sealed |= state.limit.is_some_and(|limit| state.bytes > limit);
            if state.sealed {
                state.trim();
            }
        }
        wake_all(state);
    }

    /// The first end counts.
    pub(crate) fn end(&self, end: Result<(), Aborted>) {
        let mut state = lock(&self.0);
        state.end.get_or_insert(end);
        wake_all(state);
    }

    /// Tells whether a new reader would get all from the beginning.
    pub(crate) fn is_whole(&self) -> bool {
        !lock(&self.0).sealed
    }

    fn add_reader(&self) -> u64 {
        let mut state = lock(&self.0);
        let id = state.next_reader;
        state.next_reader += 1;
        let cut = state.sealed;
        state.readers.insert(id, Place { cut, ..Place::default() });
        id
    }

    fn readers(&self) -> usize {
        lock(&self.0).readers.len()
    }
}

/// Wakes everybody who waits, after the lock is gone.
fn wake_all(mut state: MutexGuard<'_, State>) {
    let wakers: Vec<Waker> =
        state.readers.values_mut().filter_map(|place| place.waker.take()).collect();
    drop(state);
    wakers.into_iter().for_each(Waker::wake);
}

/// Something that a reader may drive has moved: whoever is still there looks.
impl Wake for Log {
    fn wake(self: Arc<Self>) {
        wake_all(lock(&self.0));
    }
}

/// The writing end. Dropped without an end, it is aborted.
#[derive(Debug, Default)]
pub struct Broadcast {
    log: Arc<Log>,
}

impl Broadcast {
    /// Makes one with nothing in it.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds bytes, and wakes readers. Nothing happens after the end.
    pub fn push(&self, bytes: Bytes) {
        self.log.push(bytes);
    }

    /// All was written.
    pub fn finish(self) {
        self.log.end(Ok(()));
    }

    /// No more will be written, though it is not all. Readers get what there is, and then [`Aborted`].
    pub fn abort(self) {
        self.log.end(Err(Aborted));
    }

    /// Returns a reader that starts at the first byte.
    pub fn reader(&self) -> Reader {
        Reader::new(&self.log)
    }

    /// Returns how many readers there are: whether somebody cares when the writer's own client has left.
    pub fn readers(&self) -> usize {
        self.log.readers()
    }
}

impl Drop for Broadcast {
    fn drop(&mut self) {
        self.log.end(Err(Aborted));
    }
}

/// The reading end. A clone starts at the first byte.
#[derive(Debug)]
pub struct Reader {
    log: Arc<Log>,
    id: u64,
    next: usize,
}

impl Reader {
    pub(crate) fn new(log: &Arc<Log>) -> Self {
        Self { id: log.add_reader(), log: Arc::clone(log), next: 0 }
    }

    /// Returns the next bytes: `None` after the last, [`Aborted`] where they break off. Cancel-safe.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Aborted>>> {
        let mut guard = lock(&self.log.0);
        let state = &mut *guard;
        let place = state.readers.entry(self.id).or_default();
        if place.cut {
            return Poll::Ready(Some(Err(Aborted)));
        }
        let bytes = self.next.checked_sub(state.forgotten).and_then(|at| state.chunks.get(at));
        if let Some(bytes) = bytes.cloned() {
            self.next += 1;
            place.next = self.next;
            if state.sealed {
                state.trim();
            }
            return Poll::Ready(Some(Ok(bytes)));
        }
        match state.end {
            Some(Ok(())) => Poll::Ready(None),
            Some(Err(aborted)) => Poll::Ready(Some(Err(aborted))),
            None => {
                let slot = &mut place.waker;
                if !slot.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
                    *slot = Some(context.waker().clone());
                }
                Poll::Pending
            }
        }
    }

    /// Tells whether nothing was read yet, so that whoever reads may still start anew elsewhere.
    pub const fn is_at_start(&self) -> bool {
        self.next == 0
    }

    /// Forgets that this reader waits: it is about to move by itself.
    pub(crate) fn stay_awake(&self) {
        if let Some(place) = lock(&self.log.0).readers.get_mut(&self.id) {
            place.waker = None;
        }
    }

    pub(crate) const fn log(&self) -> &Arc<Log> {
        &self.log
    }
}

impl Clone for Reader {
    fn clone(&self) -> Self {
        Self::new(&self.log)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut state = lock(&self.log.0);
        state.readers.remove(&self.id);
        if state.sealed {
            state.trim();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flight::tests::{Count, poll};

    fn next(reader: &mut Reader, count: &Arc<Count>) -> Poll<Option<Result<Bytes, Aborted>>> {
        poll(count, |context| reader.poll_next(context))
    }

    fn bytes(text: &'static str) -> Poll<Option<Result<Bytes, Aborted>>> {
        Poll::Ready(Some(Ok(Bytes::from_static(text.as_bytes()))))
    }

    #[test]
    fn each_reader_gets_all_from_the_beginning() {
        let broadcast = Broadcast::new();
        let count = Count::new();
        let mut early = broadcast.reader();
        assert!(next(&mut early, &count).is_pending() && early.is_at_start());
        broadcast.push(Bytes::from_static(b"a"));
        assert_eq!(count.wakes(), 1);
        broadcast.push(Bytes::from_static(b"b"));
        assert_eq!(count.wakes(), 1, "nobody waited any more");
        assert_eq!(next(&mut early, &count), bytes("a"));
        let mut late = broadcast.reader();
        assert_eq!(broadcast.readers(), 2);
        broadcast.finish();
        for reader in [&mut late, &mut early.clone()] {
            assert_eq!(next(reader, &count), bytes("a"));
            assert_eq!(next(reader, &count), bytes("b"));
            assert_eq!(next(reader, &count), Poll::Ready(None));
        }
        assert_eq!(next(&mut early, &count), bytes("b"));
        assert_eq!(next(&mut early, &count), Poll::Ready(None));
    }

    #[test]
    fn readers_of_a_writer_that_vanished_are_told() {
        let broadcast = Broadcast::new();
        let count = Count::new();
        let mut reader = broadcast.reader();
        broadcast.push(Bytes::from_static(b"a"));
        drop(broadcast);
        assert_eq!(next(&mut reader, &count), bytes("a"));
        assert_eq!(next(&mut reader, &count), Poll::Ready(Some(Err(Aborted))));
    }

    #[test]
    fn a_reader_that_left_is_not_woken() {
        let broadcast = Broadcast::new();
        let count = Count::new();
        let mut reader = broadcast.reader();
        assert!(next(&mut reader, &count).is_pending());
        drop(reader);
        broadcast.push(Bytes::from_static(b"a"));
        assert_eq!((count.wakes(), broadcast.readers()), (0, 0));
        broadcast.abort();
    }
}
