use std::fmt;
use std::fs::{self, OpenOptions};
use std::future::{Future, ready};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, ErrorCode, OpenFlags, ToSql, params_from_iter};
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::engine::Engine;
use super::migrate::{Migration, migrations};
use super::value::{Row, Value};
use super::{Answer, Backend, BoxFuture, Dialect, Mode, Session, StoreError};
use crate::store::{Changes, Store};
use crate::tenants::UnixMillis;

const MIGRATIONS: &[Migration] =
    migrations!("sqlite", 1 "0001_tenants_and_usage" 2 "0002_smaller_usage_indexes");

/// How long a connection waits for a lock: another process may use the same file, for example to back it up.
const BUSY: Duration = Duration::from_secs(5);

/// How often a new file's kind of journal is set, if other processes do the same.
const JOURNAL_TRIES: u32 = 100;

/// How much of a statement is kept prepared.
const STATEMENTS: usize = 256;

/// When a commit is on the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Synchronous {
    /// What is committed survives the end of the process, however it ends. A power cut may take the last commits with
    /// it, but leaves a sound database.
    #[default]
    Normal,
    /// What is committed survives a power cut, too. Each commit waits for the disk.
    Full,
}

/// Where and how the embedded database is kept.
#[derive(Clone, Debug)]
pub struct SqliteConfig {
    /// The file. It is made if it is not there, readable by its owner only; so is its folder.
    pub path: PathBuf,
    /// When a commit is on the disk.
    pub synchronous: Synchronous,
    /// How many may read at the same time, at least 1.
    pub readers: usize,
    /// How many writes may wait for their turn, at least 1; further ones wait to be taken.
    pub queue: usize,
}

impl SqliteConfig {
    /// Opens or makes the file, and brings its schema up to date. Must be called in a tokio runtime, and so must the
    /// store's methods. One thread writes while others read.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if the file cannot be opened, [`StoreError::Corrupt`] if it is no database of this or an
    /// older version.
    pub async fn open(&self, now: UnixMillis) -> Result<Arc<dyn Store>, StoreError> {
        let config = self.clone();
        let backend = tokio::task::spawn_blocking(move || Sqlite::open(&config))
            .await
            .map_err(|error| StoreError::unavailable_by("the opening was cut off", error))??;
        Ok(Arc::new(Engine::migrated(backend, MIGRATIONS, now).await?))
    }

    /// Takes a file, with four readers and a queue of 1024 writes.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), synchronous: Synchronous::Normal, readers: 4, queue: 1024 }
    }
}

type Job = Box<dyn FnOnce(&mut SqliteSession) + Send>;

/// The connections to the file. The writer's thread ends when this is dropped.
pub(crate) struct Sqlite {
    path: PathBuf,
    writer: mpsc::Sender<Job>,
    readers: Arc<Readers>,
}

struct Readers {
    idle: Mutex<Vec<SqliteSession>>,
    permits: Arc<Semaphore>,
}

impl fmt::Debug for Sqlite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sqlite").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Sqlite {
    fn open(config: &SqliteConfig) -> Result<Self, StoreError> {
        // SQLite would take `:memory:`, and an empty name, for something else than a file.
        let config = &SqliteConfig { path: Path::new(".").join(&config.path), ..config.clone() };
        let failed =
            |error| StoreError::unavailable_by("the database's file cannot be made", error);
        prepare_file(&config.path).map_err(failed)?;
        let mut writer = SqliteSession::open(config, false)?;
        let readers = (0..config.readers.max(1))
            .map(|_| SqliteSession::open(config, true))
            .collect::<Result<Vec<_>, _>>()?;
        let (sender, mut jobs) = mpsc::channel::<Job>(config.queue.max(1));
        std::thread::Builder::new()
            .name("llmux-sqlite".to_owned())
            .spawn(move || {
                while let Some(job) = jobs.blocking_recv() {
                    job(&mut writer);
                }
            })
            .map_err(|error| StoreError::unavailable_by("the writer cannot be started", error))?;
        let permits = Arc::new(Semaphore::new(readers.len()));
        let readers = Arc::new(Readers { idle: Mutex::new(readers), permits });
        Ok(Self { path: config.path.clone(), writer: sender, readers })
    }
}

/// Makes the file for its owner only; SQLite gives the files beside it the same mode.
fn prepare_file(path: &Path) -> std::io::Result<()> {
    let mut folder = fs::DirBuilder::new();
    folder.recursive(true);
    let mut file = OpenOptions::new();
    file.create(true).append(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
        folder.mode(0o700);
        file.mode(0o600);
    }
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        folder.create(parent)?;
    }
    file.open(path).map(|_| ())
}

impl Backend for Sqlite {
    type Session = SqliteSession;

    fn run<T, W>(&self, mode: Mode, work: W) -> Answer<'_, T>
    where
        T: Send + 'static,
        W: for<'s> FnOnce(&'s mut SqliteSession) -> BoxFuture<'s, Result<T, StoreError>>
            + Clone
            + Send
            + 'static,
    {
        match mode {
            Mode::Write => Box::pin(async move {
                let (reply, answer) = oneshot::channel();
                let job: Job = Box::new(move |session| {
                    // Nobody may wait for the answer any more; the write is done all the same.
                    let _ = reply.send(session.transaction("BEGIN IMMEDIATE", work));
                });
                let closed = || StoreError::unavailable("the writer has ended");
                self.writer.send(job).await.map_err(|_| closed())?;
                answer.await.map_err(|_| closed())?
            }),
            Mode::Read => Box::pin(async move {
                let readers = Arc::clone(&self.readers);
                let permit = Arc::clone(&readers.permits)
                    .acquire_owned()
                    .await
                    .map_err(|_| StoreError::unavailable("the store is closed"))?;
                tokio::task::spawn_blocking(move || {
                    let idle = || readers.idle.lock().unwrap_or_else(PoisonError::into_inner);
                    let Some(mut session) = idle().pop() else {
                        return Err(StoreError::unavailable("no reader is idle"));
                    };
                    let result = session.transaction("BEGIN", work);
                    idle().push(session);
                    drop(permit);
                    result
                })
                .await
                .map_err(|error| StoreError::unavailable_by("the reading was cut off", error))?
            }),
        }
    }

    fn changes(&self) -> Answer<'_, Option<Box<dyn Changes>>> {
        Box::pin(ready(Ok(None)))
    }
}

/// One connection.
pub(crate) struct SqliteSession {
    connection: Connection,
}

impl fmt::Debug for SqliteSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteSession").finish_non_exhaustive()
    }
}

impl SqliteSession {
    fn open(config: &SqliteConfig, read_only: bool) -> Result<Self, StoreError> {
        let access = if read_only {
            OpenFlags::SQLITE_OPEN_READ_ONLY
        } else {
            OpenFlags::SQLITE_OPEN_READ_WRITE
        };
        let connection =
            Connection::open_with_flags(&config.path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)
                .map_err(failure)?;
        connection.busy_timeout(BUSY).map_err(failure)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        let synchronous = match config.synchronous {
            Synchronous::Normal => "NORMAL",
            Synchronous::Full => "FULL",
        };
        // Readers rely on the writer, which is opened first, for the journal's mode: it stays with the file.
        // A checkpoint waits for the disk: after 40 MB, in which the same pages were written many times, it costs less
        // than after SQLite's 4 MB.
        let journal = if read_only {
            ""
        } else {
            "PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 10000;"
        };
        connection
            .execute_batch(&format!(
                "PRAGMA synchronous = {synchronous}; PRAGMA foreign_keys = ON; \
                 PRAGMA temp_store = MEMORY; PRAGMA cache_size = -8192; PRAGMA mmap_size = 268435456;"
            ))
            .map_err(failure)?;
        // SQLite does not wait here for another process that is opening the new file; it does where a transaction begins.
        let mut tries = JOURNAL_TRIES;
        while let Err(error) = connection.execute_batch(journal) {
            if error.sqlite_error_code() != Some(ErrorCode::DatabaseBusy) || tries == 0 {
                return Err(failure(error));
            }
            tries -= 1;
            connection.execute_batch("BEGIN IMMEDIATE; COMMIT").map_err(failure)?;
        }
        Ok(Self { connection })
    }

    fn transaction<T, W>(&mut self, begin: &str, work: W) -> Result<T, StoreError>
    where
        W: for<'s> FnOnce(&'s mut Self) -> BoxFuture<'s, Result<T, StoreError>>,
    {
        self.connection.execute_batch(begin).map_err(failure)?;
        // A panic must not leave the transaction open for the next one, nor end the only writer.
        let result = catch_unwind(AssertUnwindSafe(|| finish(work(self))))
            .unwrap_or_else(|_| Err(StoreError::corrupt("a transaction panicked")))
            .and_then(|value| {
                self.connection.execute_batch("COMMIT").map_err(failure)?;
                Ok(value)
            });
        if result.is_err() && !self.connection.is_autocommit() {
            self.connection.execute_batch("ROLLBACK").map_err(failure)?;
        }
        result
    }
}

/// Runs a future whose steps all are ready at once, since each statement blocks.
fn finish<T>(future: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => {
            Err(StoreError::corrupt("a transaction waited for something else than SQLite"))
        }
    }
}

/// `$1` is a name in SQLite, `?1` a number.
fn numbered(sql: &str) -> String {
    sql.replace('$', "?")
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self {
            Self::Null => ToSqlOutput::Borrowed(ValueRef::Null),
            Self::Int(value) => ToSqlOutput::from(*value),
            Self::Bool(value) => ToSqlOutput::from(i64::from(*value)),
            Self::Text(text) => ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes())),
            Self::Texts(texts) => ToSqlOutput::from(
                serde_json::to_string(texts)
                    .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?,
            ),
        })
    }
}

impl Session for SqliteSession {
    fn dialect(&self) -> Dialect {
        Dialect::Sqlite
    }

    fn query(
        &mut self,
        sql: &str,
        parameters: Vec<Value>,
    ) -> impl Future<Output = Result<Vec<Row>, StoreError>> + Send {
        ready(self.rows(sql, &parameters).map_err(failure))
    }

    fn execute_each(
        &mut self,
        sql: &str,
        parameters: Vec<Vec<Value>>,
    ) -> impl Future<Output = Result<u64, StoreError>> + Send {
        let run = || {
            let mut statement = self.connection.prepare_cached(&numbered(sql))?;
            let mut changed = 0;
            for row in parameters {
                changed += statement.execute(params_from_iter(row))? as u64;
            }
            Ok(changed)
        };
        ready(run().map_err(failure))
    }

    fn script(&mut self, sql: &str) -> impl Future<Output = Result<(), StoreError>> + Send {
        ready(self.connection.execute_batch(sql).map_err(failure))
    }

    fn lock_migrations(&mut self) -> impl Future<Output = Result<(), StoreError>> + Send {
        // Every write transaction begins with the lock on the file.
        ready(Ok(()))
    }

    fn notify(&mut self, _change: String) -> impl Future<Output = Result<(), StoreError>> + Send {
        // The file belongs to this process.
        ready(Ok(()))
    }
}

impl SqliteSession {
    fn rows(&self, sql: &str, parameters: &[Value]) -> rusqlite::Result<Vec<Row>> {
        let mut statement = self.connection.prepare_cached(&numbered(sql))?;
        let columns = statement.column_count();
        let mut rows = statement.query(params_from_iter(parameters))?;
        let mut all = Vec::new();
        while let Some(row) = rows.next()? {
            let value = |index| {
                Ok(match row.get_ref(index)? {
                    ValueRef::Integer(value) => Value::Int(value),
                    ValueRef::Text(text) => Value::Text(String::from_utf8_lossy(text).into_owned()),
                    // No column has such a type: loading says so.
                    ValueRef::Null | ValueRef::Real(_) | ValueRef::Blob(_) => Value::Null,
                })
            };
            all.push((0..columns).map(value).collect::<rusqlite::Result<_>>()?);
        }
        Ok(all)
    }
}

fn failure(error: rusqlite::Error) -> StoreError {
    let rusqlite::Error::SqliteFailure(code, message) = &error else {
        return StoreError::corrupt_by("SQLite refused a statement", error);
    };
    let message = message.as_deref().unwrap_or_default();
    match code.code {
        ErrorCode::ConstraintViolation => {
            // "UNIQUE constraint failed: keys.key_alias"; of several columns the last one tells most.
            if let Some(columns) = message.strip_prefix("UNIQUE constraint failed: ") {
                let field = columns.rsplit('.').next().unwrap_or(columns).to_owned();
                return StoreError::Conflict { field };
            }
            StoreError::corrupt_by("a constraint failed", error)
        }
        ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt | ErrorCode::TypeMismatch => {
            StoreError::corrupt_by("SQLite cannot read it", error)
        }
        ErrorCode::Unknown => StoreError::corrupt_by("SQLite refused a statement", error),
        _ => StoreError::unavailable_by("SQLite failed", error),
    }
}
