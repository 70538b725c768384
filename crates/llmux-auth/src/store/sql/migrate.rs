//! Brings a database to the schema that this version knows.

use sha2::{Digest as _, Sha256};

use super::value::{Column as _, next};
use super::{Backend, Mode, Session, StoreError};
use crate::tenants::UnixMillis;

/// One step of the schema. Steps are never changed once they were published.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Migration {
    /// Its number, from 1 on without gaps.
    pub(crate) version: i64,
    /// What it is called.
    pub(crate) name: &'static str,
    /// What it does.
    pub(crate) sql: &'static str,
}

/// The steps of one database, from the files in `migrations/`.
macro_rules! migrations {
    ($folder:literal, $($version:literal $name:literal)*) => {
        &[$(super::migrate::Migration {
            version: $version,
            name: $name,
            sql: include_str!(concat!("../../../migrations/", $folder, "/", $name, ".sql")),
        }),*]
    };
}
pub(crate) use migrations;

/// Applies the steps that are missing, each in a transaction of its own, while no other process does.
pub(crate) async fn run<B: Backend>(
    backend: &B,
    steps: &'static [Migration],
    now: UnixMillis,
) -> Result<(), StoreError> {
    loop {
        let done =
            backend.run(Mode::Write, move |session| Box::pin(step(session, steps, now))).await?;
        if done {
            return Ok(());
        }
    }
}

/// Applies the next step. Returns whether there was none.
async fn step<S: Session>(
    session: &mut S,
    steps: &'static [Migration],
    now: UnixMillis,
) -> Result<bool, StoreError> {
    session.lock_migrations().await?;
    session
        .script(
            "CREATE TABLE IF NOT EXISTS schema_migrations (version BIGINT PRIMARY KEY, name TEXT NOT NULL, \
             checksum TEXT NOT NULL, applied_at BIGINT NOT NULL)",
        )
        .await?;
    let rows = session
        .query("SELECT version, name, checksum FROM schema_migrations ORDER BY version", Vec::new())
        .await?;
    let mut missing = steps.iter();
    for row in rows {
        let mut row = row.into_iter();
        let (version, name) = (next::<i64>(&mut row)?, next::<String>(&mut row)?);
        let Some(step) = missing.next().filter(|step| step.version == version) else {
            return Err(StoreError::corrupt(format!(
                "its schema has the step {version} ({name}), which this version of LLMux does not know; \
                 it was made by a newer one"
            )));
        };
        if next::<String>(&mut row)? != checksum(step) {
            return Err(StoreError::corrupt(format!(
                "the step {version} ({name}) of its schema is not the one that this version of LLMux has"
            )));
        }
    }
    let Some(step) = missing.next() else { return Ok(true) };
    session.script(step.sql).await?;
    let sql = "INSERT INTO schema_migrations (version, name, checksum, applied_at) VALUES ($1, $2, $3, $4)";
    let parameters = vec![
        step.version.store()?,
        step.name.to_owned().store()?,
        checksum(step).store()?,
        now.store()?,
    ];
    session.execute(sql, parameters).await?;
    Ok(false)
}

fn checksum(step: &Migration) -> String {
    crate::tenants::hex(&Sha256::digest(step.sql.as_bytes()))
}
