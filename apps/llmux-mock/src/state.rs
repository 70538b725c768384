//! What all connections of one mock share.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tokio::sync::Notify;

use crate::reply::Reply;
use crate::vendor::{Key, Prepared};
use crate::{Options, Received};

/// Requests kept; the oldest go first.
const RECORD_LIMIT: usize = 10_000;
/// Bytes of request bodies kept.
const RECORD_BYTES: usize = 256 << 20;
/// Prepared answers kept.
const PREPARED_LIMIT: usize = 256;

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) options: Options,
    /// Unix seconds at which the mock started: `created` of all its answers.
    pub(crate) created: u64,
    scripts: Mutex<Scripts>,
    /// Replies waiting in `scripts`, so that the usual request takes no lock.
    scripted: AtomicUsize,
    record: Mutex<Record>,
    prepared: Mutex<HashMap<Key, Arc<Prepared>>>,
    open: AtomicUsize,
    abandoned: AtomicUsize,
    connections: AtomicUsize,
    requests: AtomicUsize,
    pub(crate) changed: Notify,
}

#[derive(Debug, Default)]
struct Scripts {
    any: VecDeque<Reply>,
    by_path: Vec<(String, VecDeque<Reply>)>,
}

#[derive(Debug, Default)]
struct Record {
    requests: VecDeque<Received>,
    bytes: usize,
}

impl State {
    pub(crate) fn new(options: Options) -> Self {
        let created =
            SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        Self {
            options,
            created,
            scripts: Mutex::default(),
            scripted: AtomicUsize::new(0),
            record: Mutex::default(),
            prepared: Mutex::default(),
            open: AtomicUsize::new(0),
            abandoned: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            requests: AtomicUsize::new(0),
            changed: Notify::new(),
        }
    }

    pub(crate) fn script(&self, path_part: Option<&str>, reply: Reply) {
        let mut scripts = lock(&self.scripts);
        match path_part {
            None => scripts.any.push_back(reply),
            Some(part) => match scripts.by_path.iter_mut().find(|(known, _)| known == part) {
                Some((_, queue)) => queue.push_back(reply),
                None => scripts.by_path.push((part.to_owned(), VecDeque::from([reply]))),
            },
        }
        self.scripted.fetch_add(1, Ordering::Release);
    }

    /// Takes the scripted reply that is due for `path`, if any.
    pub(crate) fn take_script(&self, path: &str) -> Option<Reply> {
        if self.scripted.load(Ordering::Acquire) == 0 {
            return None;
        }
        let mut scripts = lock(&self.scripts);
        let reply = scripts
            .by_path
            .iter_mut()
            .filter(|(part, _)| path.contains(part.as_str()))
            .find_map(|(_, queue)| queue.pop_front())
            .or_else(|| scripts.any.pop_front())?;
        self.scripted.fetch_sub(1, Ordering::Release);
        Some(reply)
    }

    pub(crate) fn scripted(&self) -> usize {
        self.scripted.load(Ordering::Acquire)
    }

    /// Counts a request of which nothing is kept.
    pub(crate) fn count(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn record(&self, request: impl FnOnce() -> Received) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        if self.options.record {
            let request = request();
            let mut record = lock(&self.record);
            record.bytes += request.body.len();
            record.requests.push_back(request);
            while record.requests.len() > RECORD_LIMIT
                || (record.bytes > RECORD_BYTES && record.requests.len() > 1)
            {
                if let Some(oldest) = record.requests.pop_front() {
                    record.bytes -= oldest.body.len();
                }
            }
        }
        self.changed.notify_waiters();
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        lock(&self.record).requests.iter().cloned().collect()
    }

    pub(crate) fn clear(&self) {
        let mut scripts = lock(&self.scripts);
        *scripts = Scripts::default();
        self.scripted.store(0, Ordering::Release);
        drop(scripts);
        *lock(&self.record) = Record::default();
        self.abandoned.store(0, Ordering::Relaxed);
        self.requests.store(0, Ordering::Relaxed);
    }

    /// Returns the prepared answer for `key`, made by `make` the first time.
    pub(crate) fn prepared(&self, key: Key, make: impl FnOnce() -> Prepared) -> Arc<Prepared> {
        if let Some(known) = lock(&self.prepared).get(&key) {
            return Arc::clone(known);
        }
        let made = Arc::new(make());
        let mut prepared = lock(&self.prepared);
        if prepared.len() >= PREPARED_LIMIT {
            prepared.clear();
        }
        prepared.insert(key, Arc::clone(&made));
        made
    }

    pub(crate) fn connected(&self) -> usize {
        self.connections.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }

    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::Acquire)
    }

    pub(crate) fn abandoned(&self) -> usize {
        self.abandoned.load(Ordering::Acquire)
    }
}

/// A request being answered. Dropped before [`Open::finish`], it counts as abandoned by its client.
#[derive(Debug)]
pub(crate) struct Open {
    state: Arc<State>,
    finished: bool,
}

impl Open {
    pub(crate) fn new(state: Arc<State>) -> Self {
        state.open.fetch_add(1, Ordering::AcqRel);
        Self { state, finished: false }
    }

    pub(crate) fn finish(&mut self) {
        self.finished = true;
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.state.open.fetch_sub(1, Ordering::AcqRel);
        if !self.finished {
            self.state.abandoned.fetch_add(1, Ordering::AcqRel);
        }
        self.state.changed.notify_waiters();
    }
}

/// Bytes as text for JSON: as they are if UTF-8, else `None`.
pub(crate) fn as_text(bytes: &Bytes) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

/// A panic elsewhere leaves nothing half done in these values.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
