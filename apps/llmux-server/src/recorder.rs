//! From the spool into the database, and what else is done beside the requests.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use llmux_auth::store::StoreError;
use llmux_auth::tenants::{UnixMillis, UsageRecord};
use tokio::sync::watch;

use crate::error::chain;
use crate::gateway::Gateway;
use crate::spool::{Reader, Spool};
use crate::tenants::{Tenants, wall_clock};

/// How long the first record waits for others: a transaction costs much the same for one as for ten. Longer, up to the
/// second value, while there are many.
const LINGER: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(320));
/// So many records at once are many.
const MANY: u64 = 50;
/// Waits between attempts while the database is away.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// How often the last uses of keys are written down.
const TOUCH: Duration = Duration::from_secs(10);
/// The most rows that one statement deletes.
const EXPIRE: u32 = 1000;

/// Moves records from the spool to the database.
#[derive(Debug)]
pub(crate) struct Recorder {
    spool: Arc<Spool>,
    tenants: Tenants,
    reader: Reader,
    /// When keys, by their ids, were last used.
    uses: BTreeMap<String, UnixMillis>,
    touched: Instant,
    /// Of a batch with a bad record, those that were dealt with one by one.
    singly: BTreeSet<String>,
}

impl Recorder {
    pub(crate) fn new(spool: Arc<Spool>, tenants: Tenants) -> Self {
        let (reader, uses) = (Reader::default(), BTreeMap::new());
        Self { spool, tenants, reader, uses, touched: Instant::now(), singly: BTreeSet::new() }
    }

    /// Brings all that the spool has into the database; returns how many records that were.
    ///
    /// # Errors
    /// The database's. What it does not have stays in the spool.
    pub(crate) async fn drain(&mut self) -> Result<u64, RecordError> {
        let mut count = 0;
        loop {
            let (records, length) = self.reader.read(&self.spool)?;
            if length == 0 {
                return Ok(count);
            }
            self.commit(&records).await?;
            if let Some(last) = records.last() {
                self.spool.note_recorded(last.end_time);
            }
            self.reader.advance(&self.spool, length);
            count += records.len() as u64;
        }
    }

    async fn commit(&mut self, records: &[UsageRecord]) -> Result<(), RecordError> {
        match self.tenants.commit(records).await {
            Ok(()) => {}
            Err(StoreError::Invalid { .. }) => {
                // One that the database cannot take must not keep the others waiting.
                for record in records {
                    if self.singly.contains(&record.id) {
                        continue;
                    }
                    match self.tenants.commit(std::slice::from_ref(record)).await {
                        Ok(()) => {}
                        Err(error @ StoreError::Invalid { .. }) => self.refuse(record, &error)?,
                        Err(error) => return Err(error.into()),
                    }
                    self.singly.insert(record.id.clone());
                }
                self.singly.clear();
            }
            // Whatever is wrong with the database is not the records' fault: they wait.
            Err(error) => return Err(error.into()),
        }
        for record in records {
            if let Some(id) = &record.token_id {
                let last = self.uses.entry(id.clone()).or_insert(record.start_time);
                *last = record.start_time.max(*last);
            }
        }
        Ok(())
    }

    fn refuse(&self, record: &UsageRecord, error: &StoreError) -> Result<(), RecordError> {
        let id = &record.id;
        tracing::error!(id, error = %chain(error), "the database cannot take a usage record: it is put aside");
        let line = serde_json::to_vec(record).map_err(io::Error::other)?;
        self.spool.put_aside(&line)?;
        // The limiter must not wait for it.
        self.tenants.limiter().recorded_usage(record);
        Ok(())
    }

    /// Writes down when keys were last used.
    async fn touch(&mut self) {
        self.touched = Instant::now();
        if self.uses.is_empty() {
            return;
        }
        let uses: Vec<_> = std::mem::take(&mut self.uses).into_iter().collect();
        if let Err(error) = self.tenants.store().touch_last_used(&uses).await {
            tracing::warn!(error = %chain(&error), "the last uses of keys are not written down");
        }
    }

    /// Records until `stop` is told; then brings over what is left, for `grace` at most.
    pub(crate) async fn run(mut self, mut stop: watch::Receiver<bool>, grace: Duration) {
        let (mut wait, mut linger) = (RETRY.0, LINGER.0);
        while !*stop.borrow() {
            self.spool.retry();
            let drained = tokio::select! {
                drained = self.drain() => drained,
                // What was begun is begun anew below: the database knows what it has.
                _ = stop.changed() => break,
            };
            match drained {
                Ok(count) => {
                    wait = RETRY.0;
                    let next = if count > MANY { linger * 2 } else { linger / 2 };
                    linger = next.clamp(LINGER.0, LINGER.1);
                }
                Err(error) => {
                    tracing::error!(%error, backlog = self.spool.backlog(), "usage records wait in the spool");
                    if let Err(error) = self.spool.sync() {
                        tracing::error!(%error, "the spool is not safe on the disk");
                    }
                    tokio::select! {
                        () = tokio::time::sleep(wait) => {}
                        _ = stop.changed() => {}
                    }
                    wait = (wait * 2).min(RETRY.1);
                    continue;
                }
            }
            if self.touched.elapsed() >= TOUCH {
                self.touch().await;
            }
            let more = async {
                self.spool.appended.notified().await;
                tokio::time::sleep(linger).await;
            };
            tokio::select! {
                () = more => {}
                () = tokio::time::sleep(TOUCH) => {}
                _ = stop.changed() => {}
            }
        }
        self.spool.retry();
        match tokio::time::timeout(grace, self.drain()).await {
            Ok(Ok(_)) => self.touch().await,
            Ok(Err(error)) => {
                tracing::error!(%error, backlog = self.spool.backlog(), "usage records stay in the spool for the next start");
            }
            Err(_) => {
                tracing::error!(
                    backlog = self.spool.backlog(),
                    "usage records stay in the spool for the next start"
                );
            }
        }
    }
}

/// Why records stay in the spool.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordError {
    #[error("{}", chain(.0))]
    Store(#[from] StoreError),
    #[error("the spool cannot be read: {0}")]
    Spool(#[from] io::Error),
}

/// Forgets limits that nobody uses, and deletes usage records that are older than `spend.retention`.
pub(crate) async fn housekeeping(gateway: Arc<Gateway>) {
    let tenants = &gateway.tenants;
    let mut hour = Instant::now();
    loop {
        if let Some(retention) = gateway.current().settings.retention
            && hour <= Instant::now()
        {
            hour = Instant::now() + Duration::from_hours(1);
            expire(tenants, retention).await;
        }
        tokio::time::sleep(Duration::from_mins(1)).await;
        tenants.limiter().forget_idle(Instant::now());
    }
}

async fn expire(tenants: &Tenants, retention: Duration) {
    let millis = i64::try_from(retention.as_millis()).unwrap_or(i64::MAX);
    let before = UnixMillis(wall_clock().0.saturating_sub(millis));
    let mut deleted = 0;
    loop {
        match tenants.store().delete_usage_before(before, EXPIRE).await {
            Ok(0) => break,
            Ok(count) => deleted += count,
            Err(error) => {
                tracing::error!(error = %chain(&error), "old usage records are not deleted");
                break;
            }
        }
        // Others want to write, too.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    if deleted > 0 {
        tracing::info!(deleted, "old usage records are deleted");
    }
}
