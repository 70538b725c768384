//! LISTEN on a connection of its own.

use std::future::poll_fn;

use tokio::sync::mpsc;
use tokio_postgres::{AsyncMessage, Client};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{BoxFuture, StoreError, failure};
use crate::store::{Change, Changes};
use crate::tenants::KeyHash;

/// On which channel writers tell of changes.
pub(super) const CHANNEL: &str = "llmux_tenants";

/// How many changes may wait to be taken; beyond that the server keeps them.
const QUEUE: usize = 1024;

/// Makes connections that listen.
pub(super) struct Connector {
    address: tokio_postgres::Config,
    tls: MakeRustlsConnect,
}

impl Connector {
    pub(super) const fn new(address: tokio_postgres::Config, tls: MakeRustlsConnect) -> Self {
        Self { address, tls }
    }

    pub(super) async fn listen(&self) -> Result<Listener, StoreError> {
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
        client.batch_execute(&format!("LISTEN {CHANNEL}")).await.map_err(failure)?;
        Ok(Listener { changes, _client: client, lost: false })
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

/// Hears changes until the connection is lost. Then it says that everything may have changed, and ends: the caller
/// listens anew.
pub(super) struct Listener {
    changes: mpsc::Receiver<Change>,
    // The connection is open as long as its client is.
    _client: Client,
    lost: bool,
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listener").field("lost", &self.lost).finish_non_exhaustive()
    }
}

impl Changes for Listener {
    fn next(&mut self) -> BoxFuture<'_, Option<Change>> {
        Box::pin(async move {
            if self.lost {
                return None;
            }
            let change = self.changes.recv().await;
            self.lost = change.is_none();
            Some(change.unwrap_or(Change::Everything))
        })
    }
}
