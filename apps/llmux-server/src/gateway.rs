//! What all workers share.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use bytes::Bytes;
use llmux_auth::Gate;
use llmux_auth::tenants::UnixMillis;

use crate::cache::ResponseCache;
use crate::catalog::Catalog;
use crate::config::Settings;
use crate::log::Log;
use crate::metrics::Metrics;
use crate::openapi;
use crate::reload::Reloading;
use crate::routes::{self, Port};
use crate::spool::Spool;
use crate::tenants::Tenants;
use crate::traces::Traces;
use crate::upstream::Upstream;

/// What the configuration says, and the models that came of it. It never changes: a reload makes another.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) settings: Settings,
    pub(crate) catalog: Catalog,
    /// The OpenAPI documents of the main port and of the management plane's own, made when they are first asked for.
    openapi: [OnceLock<Bytes>; 2],
}

impl Snapshot {
    pub(crate) fn new(settings: Settings, catalog: Catalog) -> Self {
        Self { settings, catalog, openapi: Default::default() }
    }

    /// Returns the OpenAPI document of what a port answers.
    pub(crate) fn described(&self, port: Port) -> Bytes {
        let [main, admin] = &self.openapi;
        let place = if port == Port::Main { main } else { admin };
        let make = || {
            let document = openapi::document(routes::at(port, &self.settings), &self.settings);
            Bytes::from(document.to_string())
        };
        place.get_or_init(make).clone()
    }
}

/// The gateway's state: configuration, who may call, what is counted.
pub(crate) struct Gateway {
    current: ArcSwap<Snapshot>,
    pub(crate) gate: Gate,
    pub(crate) tenants: Tenants,
    pub(crate) spool: Arc<Spool>,
    pub(crate) cache: ResponseCache,
    ids: RecordIds,
    pub(crate) log: Log,
    pub(crate) metrics: Metrics,
    pub(crate) traces: Traces,
    /// Start of the process in Unix seconds: `created` of all models.
    pub(crate) started: u64,
    pub(crate) reloading: Reloading,
    draining: AtomicBool,
    in_flight: AtomicUsize,
}

/// What a gateway is made of.
pub(crate) struct Parts {
    pub(crate) snapshot: Snapshot,
    pub(crate) gate: Gate,
    pub(crate) tenants: Tenants,
    pub(crate) spool: Arc<Spool>,
    pub(crate) log: Log,
    pub(crate) metrics: Metrics,
    pub(crate) traces: Traces,
    pub(crate) reloading: Reloading,
    pub(crate) cache: ResponseCache,
}

impl Gateway {
    pub(crate) fn new(parts: Parts) -> Arc<Self> {
        let Parts { snapshot, gate, tenants, spool, log, metrics, traces, reloading, cache } =
            parts;
        let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        Arc::new(Self {
            current: ArcSwap::from_pointee(snapshot),
            gate,
            tenants,
            spool,
            cache,
            ids: RecordIds::new(),
            log,
            metrics,
            traces,
            started,
            reloading,
            draining: AtomicBool::new(false),
            in_flight: AtomicUsize::new(0),
        })
    }

    /// Returns the configuration of this moment. What belongs together is read from one snapshot: a request keeps the
    /// one that it came in with.
    pub(crate) fn current(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Makes another configuration count.
    pub(crate) fn replace(&self, snapshot: Snapshot) {
        self.current.store(Arc::new(snapshot));
    }

    /// Makes the id of a usage record.
    pub(crate) fn record_id(&self, now: UnixMillis) -> String {
        self.ids.next(now)
    }

    /// Stops taking new calls; those in flight go on.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    pub(crate) fn enter(&self) {
        self.in_flight.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn leave(&self) {
        self.in_flight.fetch_sub(1, Ordering::SeqCst);
    }

    /// Returns the requests whose answers are not complete.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::SeqCst)
    }
}

/// Makes ids of usage records. They are ours, never a client's: what has a known id counts for nothing.
#[derive(Debug)]
struct RecordIds {
    /// Drawn at the start of the process.
    process: u64,
    count: AtomicU64,
}

impl RecordIds {
    fn new() -> Self {
        let mut bytes = [0; 8];
        // Without the system's randomness the time must do: two processes do not start in one nanosecond.
        let time = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let drawn = getrandom::fill(&mut bytes).map(|()| u64::from_le_bytes(bytes));
        let process = drawn.unwrap_or_else(|_| time() as u64);
        Self { process, count: AtomicU64::new(0) }
    }

    /// Begins with the time, so that records lie in the database in the order in which they are made.
    fn next(&self, now: UnixMillis) -> String {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        format!("{:012x}-{:016x}-{count:x}", now.0, self.process)
    }
}

/// What one worker thread has: the shared state and connections of its own.
#[derive(Clone)]
pub(crate) struct Worker {
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) upstream: Upstream,
}
