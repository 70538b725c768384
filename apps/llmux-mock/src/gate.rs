use std::sync::Arc;

use tokio::sync::Semaphore;

/// A handle with which a test lets the mock send its next event.
///
/// A new gate is shut. Clones share one gate.
#[derive(Debug, Clone)]
pub struct Gate(Arc<Semaphore>);

impl Gate {
    /// Makes a gate that lets nothing through.
    pub fn new() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }

    /// Lets the next `events` events through; they may be asked for later.
    pub fn release(&self, events: usize) {
        self.0.add_permits(events);
    }

    /// Lets everything through from now on.
    pub fn open(&self) {
        self.0.close();
    }

    /// Waits for one release and uses it up. Cancel-safe.
    pub(crate) async fn pass(self) {
        if let Ok(permit) = self.0.acquire().await {
            permit.forget();
        }
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}
