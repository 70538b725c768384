//! LISTEN on a connection of its own, which is made anew when it is lost.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_postgres::{AsyncMessage, Client};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::closing::Closing;
use super::{BoxFuture, StoreError, failure};
use crate::store::{Change, Changes};
use crate::tenants::KeyHash;

/// On which channel writers tell of changes.
pub(super) const CHANNEL: &str = "llmux_tenants";

/// How many changes may wait to be taken; beyond that the server keeps them.
const QUEUE: usize = 1024;

/// How long to wait before the second try to connect; each further wait is twice as long, up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(50);
/// The longest wait between two tries to connect.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// Makes connections that are not of the pool.
pub(super) struct Connector {
    address: tokio_postgres::Config,
    tls: MakeRustlsConnect,
}

impl Connector {
    pub(super) const fn new(address: tokio_postgres::Config, tls: MakeRustlsConnect) -> Self {
        Self { address, tls }
    }

    /// Connects. Returns the client, and what it is told unasked; when that ends the connection is lost.
    pub(super) async fn connect(&self) -> Result<(Client, mpsc::Receiver<Change>), StoreError> {
        let (client, mut connection) =
            self.address.connect(self.tls.clone()).await.map_err(failure)?;
        let (sender, changes) = mpsc::channel(QUEUE);
        tokio::spawn(async move {
            while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await
            {
                if let AsyncMessage::Notification(told) = message
                    && sender.send(change(told.payload())).await.is_err()
                {
                    return;
                }
            }
        });
        Ok((client, changes))
    }

    async fn listen(&self) -> Result<Hearing, StoreError> {
        let (client, changes) = self.connect().await?;
        client.batch_execute(&format!("LISTEN {CHANNEL}")).await.map_err(failure)?;
        Ok(Hearing { changes, _client: client })
    }
}

/// What one notification means. One that is not understood may mean anything.
fn change(payload: &str) -> Change {
    match payload.split_once(':') {
        Some(("key", hash)) => KeyHash::from_hex(hash).map_or(Change::Everything, Change::Key),
        Some(("team", id)) => Change::Team(id.to_owned()),
        Some(("user", id)) => Change::User(id.to_owned()),
        Some(("organization", id)) => Change::Organization(id.to_owned()),
        _ => Change::Everything,
    }
}

/// One connection that listens.
struct Hearing {
    changes: mpsc::Receiver<Change>,
    // The connection is open as long as its client is.
    _client: Client,
}

/// Hears changes. When the connection is lost everything may have changed: it says so at once, and again when it
/// listens anew, since in between it heard nothing.
pub(super) struct Listener {
    connector: Arc<Connector>,
    hearing: Option<Hearing>,
    closing: Closing,
}

impl Listener {
    pub(super) async fn new(
        connector: Arc<Connector>,
        closing: Closing,
    ) -> Result<Self, StoreError> {
        let hearing = Some(connector.listen().await?);
        Ok(Self { connector, hearing, closing })
    }
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listener").field("lost", &self.hearing.is_none()).finish_non_exhaustive()
    }
}

impl Changes for Listener {
    fn next(&mut self) -> BoxFuture<'_, Option<Change>> {
        Box::pin(async move {
            let Self { connector, hearing, closing } = self;
            if let Some(heard) = hearing {
                let change = closing.or(heard.changes.recv()).await?;
                if change.is_none() {
                    *hearing = None;
                }
                return Some(change.unwrap_or(Change::Everything));
            }
            let mut wait = FIRST_WAIT;
            loop {
                if let Ok(heard) = closing.or(connector.listen()).await? {
                    *hearing = Some(heard);
                    return Some(Change::Everything);
                }
                closing.or(tokio::time::sleep(wait)).await?;
                wait = (wait * 2).min(LONGEST_WAIT);
            }
        })
    }
}
