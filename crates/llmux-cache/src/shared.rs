//! A stream that several read and any of them drives: none is needed more than another.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError, Weak};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use crate::broadcast::{Aborted, Log, Reader, lock};

/// Where bytes come from, pulled.
pub trait Source: Send {
    /// Returns the next bytes; `None` after the last.
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Aborted>>>;
}

/// One reader of a source that it shares with its clones. Each gets all bytes from the beginning. The source moves as fast
/// as the fastest of them pulls, without a task of its own; it is dropped at its end, or when the last reader leaves. What it
/// gave is kept until all readers have left.
pub struct Shared<S> {
    source: Arc<Place<S>>,
    reader: Reader,
}

/// A way to a shared source that does not keep it alive: what waits in a flight.
pub struct WeakShared<S> {
    source: Weak<Place<S>>,
    log: Arc<Log>,
}

/// Where the source is, until its end.
struct Place<S> {
    source: Mutex<Option<S>>,
    /// A reader came while another one moved the source, and waits.
    turned_away: AtomicBool,
}

impl<S> Place<S> {
    /// Takes the source, unless another reader has it: that one will wake those who were turned away.
    fn take(&self) -> Option<MutexGuard<'_, Option<S>>> {
        let once = || match self.source.try_lock() {
            Ok(source) => Some(source),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        };
        once().or_else(|| {
            self.turned_away.store(true, Ordering::SeqCst);
            // The other one may have looked for us just before.
            once()
        })
    }

    /// Wakes those who were turned away, after the source is free again.
    fn call_back(&self, log: &Arc<Log>) {
        if self.turned_away.swap(false, Ordering::SeqCst) {
            Waker::from(Arc::clone(log)).wake();
        }
    }
}

impl<S: Source> Shared<S> {
    /// Starts to share a source.
    pub fn new(source: S) -> Self {
        Self::of(source, Log::default())
    }

    /// Starts to share a source of which at most so many bytes are kept. When there are more, nobody can join any more,
    /// what all have read is forgotten, and a reader who is further behind gets [`Aborted`]. What came last is kept for
    /// all, however large it is.
    pub fn with_limit(source: S, bytes: usize) -> Self {
        Self::of(source, Log::with_limit(bytes))
    }

    fn of(source: S, log: Log) -> Self {
        let source = Mutex::new(Some(source));
        let place = Place { source, turned_away: AtomicBool::new(false) };
        Self { source: Arc::new(place), reader: Reader::new(&Arc::new(log)) }
    }

    /// Returns a way to this source for others.
    pub fn downgrade(&self) -> WeakShared<S> {
        WeakShared { source: Arc::downgrade(&self.source), log: Arc::clone(self.reader.log()) }
    }

    /// Changes the source, unless it has ended: to give it its leadership once it can be found.
    pub fn with_source<T>(&self, change: impl FnOnce(&mut S) -> T) -> Option<T> {
        let changed = lock(&self.source.source).as_mut().map(change);
        self.source.call_back(self.reader.log());
        changed
    }

    /// Tells whether nothing was read yet.
    pub const fn is_at_start(&self) -> bool {
        self.reader.is_at_start()
    }

    /// Returns the next bytes: `None` after the last, [`Aborted`] where they break off. Cancel-safe: others go on.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Aborted>>> {
        loop {
            // This reader waits from here on: whatever moves from now wakes it.
            if let ready @ Poll::Ready(_) = self.reader.poll_next(context) {
                return ready;
            }
            let Some(mut place) = self.source.take() else {
                // Another reader is moving the source, and wakes us when it has.
                return Poll::Pending;
            };
            let log = self.reader.log();
            let polled = place.as_mut().map(|source| {
                // The source wakes all readers, since the one that polled last may be gone.
                let everybody = Waker::from(Arc::clone(log));
                source.poll_next(&mut Context::from_waker(&everybody))
            });
            let mut over = None;
            match polled {
                // It ended between the two looks.
                None => {}
                Some(Poll::Pending) => {
                    drop(place);
                    self.source.call_back(log);
                    return Poll::Pending;
                }
                Some(Poll::Ready(Some(Ok(bytes)))) => {
                    self.reader.stay_awake();
                    log.push(bytes);
                }
                Some(Poll::Ready(ended)) => {
                    self.reader.stay_awake();
                    log.end(ended.map_or(Ok(()), |_| Err(Aborted)));
                    over = place.take();
                }
            }
            drop(place);
            self.source.call_back(log);
            drop(over);
        }
    }
}

impl<S> Clone for Shared<S> {
    fn clone(&self) -> Self {
        Self { source: Arc::clone(&self.source), reader: self.reader.clone() }
    }
}

impl<S> fmt::Debug for Shared<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("reader", &self.reader).finish_non_exhaustive()
    }
}

impl<S> WeakShared<S> {
    /// Returns a reader that starts at the first byte. `None`: all readers have left, so that the source is gone; or the
    /// beginning is forgotten.
    pub fn upgrade(&self) -> Option<Shared<S>> {
        let source = self.source.upgrade()?;
        self.log.is_whole().then(|| Shared { source, reader: Reader::new(&self.log) })
    }
}

impl<S> Clone for WeakShared<S> {
    fn clone(&self) -> Self {
        Self { source: Weak::clone(&self.source), log: Arc::clone(&self.log) }
    }
}

impl<S> fmt::Debug for WeakShared<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WeakShared").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;
    use crate::flight::tests::{Count, poll};

    /// A source whose bytes a test hands in.
    #[derive(Default)]
    struct Pipe {
        items: VecDeque<Option<Bytes>>,
        waker: Option<Waker>,
        dropped: bool,
    }

    struct Outlet(Arc<Mutex<Pipe>>);

    impl Source for Outlet {
        fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Aborted>>> {
            let mut pipe = lock(&self.0);
            match pipe.items.pop_front() {
                Some(item) => Poll::Ready(item.map(Ok)),
                None => {
                    pipe.waker = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        }
    }

    impl Drop for Outlet {
        fn drop(&mut self) {
            lock(&self.0).dropped = true;
        }
    }

    fn give(pipe: &Mutex<Pipe>, item: Option<&'static str>) {
        let mut inside = lock(pipe);
        inside.items.push_back(item.map(|text| Bytes::from_static(text.as_bytes())));
        let waker = inside.waker.take();
        drop(inside);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn next(shared: &mut Shared<Outlet>, count: &Arc<Count>) -> Poll<Option<String>> {
        poll(count, |context| shared.poll_next(context))
            .map(|item| item.map(|bytes| String::from_utf8(bytes.unwrap().to_vec()).unwrap()))
    }

    fn text(text: &str) -> Poll<Option<String>> {
        Poll::Ready(Some(text.to_owned()))
    }

    #[test]
    fn any_reader_drives_and_the_first_may_leave() {
        let pipe = Arc::new(Mutex::new(Pipe::default()));
        let mut first = Shared::new(Outlet(Arc::clone(&pipe)));
        let mut second = first.downgrade().upgrade().unwrap();
        let (one, two) = (Count::new(), Count::new());
        assert!(next(&mut second, &two).is_pending());
        assert!(next(&mut first, &one).is_pending());
        give(&pipe, Some("a"));
        assert_eq!((one.wakes(), two.wakes()), (1, 1), "the source wakes all");
        assert_eq!(next(&mut first, &one), text("a"));
        assert!(next(&mut first, &one).is_pending());
        drop(first);
        give(&pipe, Some("b"));
        assert_eq!(next(&mut second, &two), text("a"));
        assert_eq!(next(&mut second, &two), text("b"));
        assert!(next(&mut second, &two).is_pending());
        let before = two.wakes();
        give(&pipe, None);
        assert_eq!(two.wakes(), before + 1);
        assert_eq!(next(&mut second, &two), Poll::Ready(None));
        assert!(lock(&pipe).dropped, "an ended source is not kept");
        let mut late = second.clone();
        assert_eq!(next(&mut late, &two), text("a"));
        assert_eq!(next(&mut late, &two), text("b"));
        assert_eq!(next(&mut late, &two), Poll::Ready(None));
    }

    #[test]
    fn a_slow_reader_holds_nobody_up() {
        let pipe = Arc::new(Mutex::new(Pipe::default()));
        let mut fast = Shared::new(Outlet(Arc::clone(&pipe)));
        let _slow = fast.clone();
        let count = Count::new();
        for item in ["a", "b"] {
            give(&pipe, Some(item));
            assert_eq!(next(&mut fast, &count), text(item));
        }
    }

    #[test]
    fn beyond_its_limit_nobody_joins_and_who_is_far_behind_is_cut_off() {
        let pipe = Arc::new(Mutex::new(Pipe::default()));
        let mut fast = Shared::with_limit(Outlet(Arc::clone(&pipe)), 4);
        let weak = fast.downgrade();
        let mut near = fast.clone();
        let mut far = fast.clone();
        let count = Count::new();
        for item in ["aa", "bb"] {
            give(&pipe, Some(item));
            assert_eq!(next(&mut fast, &count), text(item));
            assert_eq!(next(&mut near, &count), text(item));
        }
        assert!(weak.upgrade().is_some());
        for item in ["cc", "larger than the limit"] {
            give(&pipe, Some(item));
            assert_eq!(next(&mut fast, &count), text(item));
            assert_eq!(next(&mut near, &count), text(item));
        }
        assert!(weak.upgrade().is_none());
        let cut = poll(&count, |context| far.poll_next(context));
        assert_eq!(cut, Poll::Ready(Some(Err(Aborted))));
        give(&pipe, None);
        assert_eq!(next(&mut fast, &count), Poll::Ready(None));
        assert_eq!(next(&mut near, &count), Poll::Ready(None));
    }

    #[test]
    fn one_large_item_reaches_all() {
        let pipe = Arc::new(Mutex::new(Pipe::default()));
        let mut first = Shared::with_limit(Outlet(Arc::clone(&pipe)), 1);
        let mut second = first.clone();
        let count = Count::new();
        give(&pipe, Some("large"));
        give(&pipe, None);
        for reader in [&mut first, &mut second] {
            assert_eq!(next(reader, &count), text("large"));
            assert_eq!(next(reader, &count), Poll::Ready(None));
        }
    }

    #[test]
    fn the_source_goes_with_its_last_reader_even_while_it_waits() {
        let pipe = Arc::new(Mutex::new(Pipe::default()));
        let mut first = Shared::new(Outlet(Arc::clone(&pipe)));
        let second = first.clone();
        let weak = first.downgrade();
        assert!(next(&mut first, &Count::new()).is_pending());
        drop(first);
        assert!(!lock(&pipe).dropped);
        drop(second);
        assert!(lock(&pipe).dropped && weak.upgrade().is_none());
    }

    #[test]
    fn readers_on_threads_each_get_everything() {
        let pipe = Arc::new(Mutex::new(Pipe::default()));
        let first = Shared::new(Outlet(Arc::clone(&pipe)));
        let expected: String = (0..200).map(|number| format!("{number},")).collect();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                let mut shared = first.clone();
                let expected = &expected;
                scope.spawn(move || {
                    let thread = std::thread::current();
                    let waker = Waker::from(Arc::new(Unpark(thread)));
                    let mut got = String::new();
                    loop {
                        match shared.poll_next(&mut Context::from_waker(&waker)) {
                            Poll::Pending => std::thread::park(),
                            Poll::Ready(None) => break,
                            Poll::Ready(Some(bytes)) => {
                                got.push_str(std::str::from_utf8(&bytes.unwrap()).unwrap());
                            }
                        }
                    }
                    assert_eq!(&got, expected);
                });
            }
            for number in 0..200 {
                let text: &'static str = Box::leak(format!("{number},").into_boxed_str());
                give(&pipe, Some(text));
            }
            give(&pipe, None);
        });
    }

    struct Unpark(std::thread::Thread);

    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    /// A source during whose move another reader comes.
    struct Busy {
        other: Arc<Mutex<Option<Shared<Self>>>>,
        count: Arc<Count>,
        item: Option<Bytes>,
    }

    impl Source for Busy {
        fn poll_next(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Aborted>>> {
            if let Some(other) = lock(&self.other).as_mut() {
                assert!(poll(&self.count, |context| other.poll_next(context)).is_pending());
            }
            self.item.take().map_or(Poll::Pending, |item| Poll::Ready(Some(Ok(item))))
        }
    }

    #[test]
    fn a_reader_that_comes_while_the_source_moves_is_woken_afterwards() {
        for item in [None, Some(Bytes::from_static(b"a"))] {
            let (first, second) = (Count::new(), Count::new());
            let other = Arc::new(Mutex::new(None));
            let count = Arc::clone(&second);
            let mut shared = Shared::new(Busy { other: Arc::clone(&other), count, item });
            *lock(&other) = Some(shared.clone());
            let moved = poll(&first, |context| shared.poll_next(context));
            let wakes = second.wakes();
            assert!(wakes > 0, "{moved:?}: nobody calls it back");
            // The first one may never come again: the other goes on by itself.
            let came = lock(&other).take();
            drop(shared);
            drop(came);
        }
    }
}
