//! Keeps a database for one process, by a lock on a connection of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::mpsc;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::closing::Closing;
use super::listen::{Connector, LONGEST_WAIT};
use super::{StoreError, failure};
use crate::store::Change;

/// The lock's key: any number that nobody else uses, and another than that of migrations.
const LOCK: i64 = 0x6c6c_6d75_785f_6f6e;

/// How long the lock is waited for: one who is just leaving, or was killed, still holds it for a moment.
const WAIT: &str = "3s";

/// A connection that holds the lock as long as it is open.
struct Held {
    lost: mpsc::Receiver<Change>,
    _client: Client,
}

async fn take(connector: &Connector) -> Result<Held, StoreError> {
    let (client, lost) = connector.connect().await?;
    let sql = format!("SET lock_timeout = '{WAIT}'; SELECT pg_advisory_lock({LOCK})");
    client.batch_execute(&sql).await.map_err(|error| {
        if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) {
            StoreError::Taken
        } else {
            failure(error)
        }
    })?;
    Ok(Held { lost, _client: client })
}

/// Takes the database for this process, until the store is dropped. When the connection is lost the lock is taken
/// again; `is_taken` tells whether another process was faster and has it.
pub(super) async fn keep(
    connector: Arc<Connector>,
    is_taken: Arc<AtomicBool>,
    mut closing: Closing,
) -> Result<(), StoreError> {
    let mut held = Some(take(&connector).await?);
    tokio::spawn(async move {
        loop {
            let ended = match &mut held {
                Some(held) => closing.or(held.lost.recv()).await.is_none(),
                None => closing.or(tokio::time::sleep(LONGEST_WAIT)).await.is_none(),
            };
            if ended {
                return;
            }
            let Some(result) = closing.or(take(&connector)).await else { return };
            is_taken.store(matches!(result, Err(StoreError::Taken)), Ordering::Relaxed);
            held = result.ok();
        }
    });
    Ok(())
}
