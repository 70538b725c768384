//! What all workers share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use llmux_auth::Gate;

use crate::catalog::Catalog;
use crate::config::Settings;
use crate::log::Log;
use crate::tenants::Tenants;
use crate::upstream::Upstream;

/// The gateway's state: settings, models, who may call.
pub(crate) struct Gateway {
    pub(crate) settings: Settings,
    pub(crate) catalog: Catalog,
    pub(crate) gate: Gate,
    pub(crate) tenants: Tenants,
    pub(crate) log: Log,
    /// Start of the process in Unix seconds: `created` of all models.
    pub(crate) started: u64,
    draining: AtomicBool,
    in_flight: AtomicUsize,
}

impl Gateway {
    pub(crate) fn new(
        settings: Settings,
        catalog: Catalog,
        gate: Gate,
        tenants: Tenants,
        log: Log,
    ) -> Arc<Self> {
        let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        Arc::new(Self {
            settings,
            catalog,
            gate,
            tenants,
            log,
            started,
            draining: AtomicBool::new(false),
            in_flight: AtomicUsize::new(0),
        })
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

/// What one worker thread has: the shared state and connections of its own.
#[derive(Clone)]
pub(crate) struct Worker {
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) upstream: Upstream,
}
