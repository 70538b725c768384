//! The suite on SQLite, and what only SQLite does.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use llmux_auth::store::{SqliteConfig, Store, StoreError, Synchronous};

use crate::samples::{NOW, key, usage};
use crate::{all, block_on};

/// A store in a folder of its own.
pub(crate) struct Opened {
    pub(crate) store: Arc<dyn Store>,
    folder: Folder,
}

/// A folder that goes with its test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name =
            format!("llmux-store-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        Self(std::env::temp_dir().join(name))
    }

    fn file(&self) -> PathBuf {
        self.0.join("data").join("llmux.db")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

async fn open() -> Opened {
    let folder = Folder::new();
    let store = SqliteConfig::new(folder.file()).open(NOW).await.unwrap();
    Opened { store, folder }
}

all!(open);

#[test]
fn what_was_written_is_there_when_the_file_is_opened_again() {
    block_on(async {
        let opened = open().await;
        opened.store.insert_key(&key("k")).await.unwrap();
        let mut config = SqliteConfig::new(opened.folder.file());
        config.synchronous = Synchronous::Full;
        let again = config.open(NOW.plus(1)).await.unwrap();
        assert!(again.snapshot(&key("k").token, NOW).await.unwrap().is_some());
        // Two stores on one file do not disturb each other.
        again.append_usage(&[usage("a", 1, NOW)]).await.unwrap();
        assert_eq!(opened.store.append_usage(&[usage("a", 1, NOW)]).await.unwrap(), 0);
    });
}

#[test]
fn processes_that_open_a_new_file_at_once_migrate_once() {
    block_on(async {
        let folder = Folder::new();
        let config = SqliteConfig::new(folder.file());
        let opens = (0..8).map(|_| config.open(NOW)).collect();
        for store in crate::suite::at_once(opens).await {
            store.unwrap().ping().await.unwrap();
        }
        let file = rusqlite::Connection::open(folder.file()).unwrap();
        let count = "SELECT count(*) FROM schema_migrations";
        assert_eq!(file.query_row(count, [], |row| row.get(0)), Ok(2));
    });
}

#[cfg(unix)]
#[test]
fn only_the_owner_can_read_the_files() {
    use std::os::unix::fs::PermissionsExt as _;
    block_on(async {
        let opened = open().await;
        opened.store.insert_key(&key("k")).await.unwrap();
        let folder = opened.folder.file().parent().unwrap().to_owned();
        assert_eq!(std::fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
        let files: Vec<_> = std::fs::read_dir(folder).unwrap().map(Result::unwrap).collect();
        assert!(files.len() > 1, "{files:?}");
        for file in files {
            assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{file:?}");
        }
    });
}

#[test]
fn a_schema_of_a_newer_or_another_version_is_refused() {
    block_on(async {
        for (change, message) in [
            ("INSERT INTO schema_migrations VALUES (99, 'future', '', 0)", "newer"),
            ("UPDATE schema_migrations SET checksum = 'x' WHERE version = 1", "not the one"),
        ] {
            let folder = Folder::new();
            drop(SqliteConfig::new(folder.file()).open(NOW).await.unwrap());
            rusqlite::Connection::open(folder.file()).unwrap().execute_batch(change).unwrap();
            let error = SqliteConfig::new(folder.file()).open(NOW).await.unwrap_err();
            assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");
            assert!(error.to_string().contains(message), "{error}");
        }
    });
}

#[test]
fn a_file_that_is_no_database_is_refused() {
    block_on(async {
        let folder = Folder::new();
        std::fs::create_dir_all(folder.file().parent().unwrap()).unwrap();
        std::fs::write(
            folder.file(),
            "not a database, but long enough to look like one at first".repeat(90),
        )
        .unwrap();
        let error = SqliteConfig::new(folder.file()).open(NOW).await.unwrap_err();
        assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");
    });
}

#[test]
fn nobody_else_changes_the_file() {
    block_on(async {
        assert!(open().await.store.changes().await.unwrap().is_none());
    });
}
