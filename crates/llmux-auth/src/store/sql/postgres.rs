mod closing;
mod exclusive;
mod listen;
mod tls;

use std::fmt;
use std::future::{Future, poll_fn};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use deadpool_postgres::{
    Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime, Timeouts,
};
use llmux_types::Secret;
use tokio::runtime::Handle;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::private::BytesMut;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

use super::engine::Engine;
use super::migrate::{Migration, migrations};
use super::value::{Row, Value};
use super::{Answer, Backend, BoxFuture, Dialect, Mode, Session, StoreError};
use crate::store::{Changes, Store};
use crate::tenants::UnixMillis;

const MIGRATIONS: &[Migration] =
    migrations!("postgres", 1 "0001_tenants_and_usage" 2 "0002_smaller_usage_indexes");

/// The key of the lock under which one process migrates: any number that nobody else uses.
const MIGRATION_LOCK: i64 = 0x6c6c_6d75_785f_6462;

/// After which silence the other end of a connection is asked whether it is still there.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// How many statements a connection keeps prepared.
const STATEMENTS: usize = 256;

/// How often a transaction is tried that PostgreSQL ends for the sake of another one.
const TRIES: u32 = 5;

/// Whether the connection is encrypted, and who is at its other end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SslMode {
    /// Never encrypted.
    Disable,
    /// Encrypted if the server offers it, whoever it is.
    #[default]
    Prefer,
    /// Encrypted, whoever the server is; with a `ca_file` its certificate must be from there.
    Require,
    /// Encrypted, and the server's certificate must be valid for its name.
    VerifyFull,
}

/// Where the shared database is, and how it is used.
#[derive(Clone, Debug)]
pub struct PostgresConfig {
    /// Its address: `postgres://user:password@host:port/database`, or PostgreSQL's `key=value` form.
    pub url: Secret,
    /// Whether the connection is encrypted.
    pub ssl_mode: SslMode,
    /// The certificates of authorities that the server's may be from, in PEM; absent: the system's.
    pub ca_file: Option<PathBuf>,
    /// How many connections there are at most, at least 1.
    pub max_connections: usize,
    /// How long a connection may take to be made.
    pub connect_timeout: Duration,
    /// How long a call waits for a connection that is free.
    pub wait_timeout: Duration,
    /// How long a statement may take on the server.
    pub statement_timeout: Duration,
    /// Whether the database is for this process alone: another one that wants the same is refused as long as this
    /// store lives.
    pub exclusive: bool,
}

impl PostgresConfig {
    /// Connects to the database and brings its schema up to date; if another process is at it, waits. Must be called in a
    /// tokio runtime, which does the work: it must live as long as the store. The store's answers may be awaited anywhere,
    /// and a call that was begun is finished even if nobody waits for its answer.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] if the address or the certificates cannot be read, [`StoreError::Unavailable`] if the
    /// server cannot be reached, [`StoreError::Taken`] if the database is wanted exclusively and another process has it
    /// so, [`StoreError::Corrupt`] if the schema is of a newer version.
    pub async fn connect(&self, now: UnixMillis) -> Result<Arc<dyn Store>, StoreError> {
        let backend = Postgres::new(self)?;
        if self.exclusive {
            let is_taken = Arc::clone(&backend.is_taken);
            let closing = backend.open.closing();
            exclusive::keep(Arc::clone(&backend.connector), is_taken, closing).await?;
        }
        Ok(Arc::new(Engine::migrated(backend, MIGRATIONS, now).await?))
    }

    /// Takes an address, with ten connections, 5 s to make or get one and 30 s for a statement, and not exclusively.
    pub fn new(url: Secret) -> Self {
        Self {
            url,
            ssl_mode: SslMode::Prefer,
            ca_file: None,
            max_connections: 10,
            connect_timeout: Duration::from_secs(5),
            wait_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(30),
            exclusive: false,
        }
    }
}

/// The connections to the server.
pub(crate) struct Postgres {
    pool: Pool,
    connector: Arc<listen::Connector>,
    runtime: Handle,
    /// Whether another process has the database that this one wants for itself.
    is_taken: Arc<AtomicBool>,
    open: closing::Open,
}

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Postgres").field("status", &self.pool.status()).finish_non_exhaustive()
    }
}

impl Postgres {
    fn new(config: &PostgresConfig) -> Result<Self, StoreError> {
        // The driver's error may quote the address, and with it the password.
        let mut address: tokio_postgres::Config = config
            .url
            .expose()
            .parse()
            .map_err(|_| StoreError::invalid("url", "is not an address of PostgreSQL"))?;
        address.application_name("llmux");
        address.connect_timeout(config.connect_timeout);
        address.ssl_mode(match config.ssl_mode {
            SslMode::Disable => tokio_postgres::config::SslMode::Disable,
            SslMode::Prefer => tokio_postgres::config::SslMode::Prefer,
            SslMode::Require | SslMode::VerifyFull => tokio_postgres::config::SslMode::Require,
        });
        // A server that vanished is noticed within a minute, here and there: else changes would not be heard of, and
        // locks of a vanished gateway would stay.
        address.keepalives_idle(KEEPALIVE);
        address.keepalives_interval(KEEPALIVE / 3);
        address.keepalives_retries(3);
        address.tcp_user_timeout(2 * KEEPALIVE);
        let options =
            address.get_options().map(|options| format!("{options} ")).unwrap_or_default();
        address.options(format!(
            "{options}-c statement_timeout={} -c idle_in_transaction_session_timeout=60000 \
             -c tcp_keepalives_idle={} -c tcp_keepalives_interval={} -c tcp_keepalives_count=3",
            config.statement_timeout.as_millis(),
            KEEPALIVE.as_secs(),
            KEEPALIVE.as_secs() / 3,
        ));
        let tls = tls::connector(config.ssl_mode, config.ca_file.as_deref())?;
        // A connection is looked at before it is used again; the server may have been restarted.
        let recycling = ManagerConfig { recycling_method: RecyclingMethod::Verified };
        let manager = Manager::from_config(address.clone(), tls.clone(), recycling);
        let pool = Pool::builder(manager)
            .max_size(config.max_connections.max(1))
            .runtime(Runtime::Tokio1)
            .timeouts(Timeouts {
                wait: Some(config.wait_timeout),
                create: Some(config.connect_timeout),
                recycle: Some(config.connect_timeout),
            })
            .build()
            .map_err(|error| StoreError::unavailable_by("the pool cannot be made", error))?;
        Ok(Self {
            pool,
            connector: Arc::new(listen::Connector::new(address, tls)),
            runtime: Handle::current(),
            is_taken: Arc::default(),
            open: closing::Open::new(),
        })
    }
}

impl Backend for Postgres {
    type Session = PostgresSession;

    fn run<T, W>(&self, mode: Mode, work: W) -> Answer<'_, T>
    where
        T: Send + 'static,
        W: for<'s> FnOnce(&'s mut PostgresSession) -> BoxFuture<'s, Result<T, StoreError>>
            + Clone
            + Send
            + 'static,
    {
        Box::pin(async move {
            if self.is_taken.load(Ordering::Relaxed) {
                return Err(StoreError::Taken);
            }
            // In a task of its own: a caller who leaves must not take half a transaction, and the connection, along.
            let pool = self.pool.clone();
            let task = self.runtime.spawn(async move { transaction(&pool, mode, work).await });
            match task.await {
                Ok(result) => result,
                Err(error) if error.is_panic() => {
                    Err(StoreError::corrupt_by("a transaction panicked", error))
                }
                Err(error) => Err(StoreError::unavailable_by("the runtime has ended", error)),
            }
        })
    }

    fn changes(&self) -> Answer<'_, Option<Box<dyn Changes>>> {
        Box::pin(async move {
            let (connector, closing) = (Arc::clone(&self.connector), self.open.closing());
            let listener = self.runtime.spawn(listen::Listener::new(connector, closing));
            let listener = listener
                .await
                .map_err(|error| StoreError::unavailable_by("the runtime has ended", error))??;
            Ok(Some(Box::new(listener) as Box<dyn Changes>))
        })
    }
}

/// Runs a transaction, anew if PostgreSQL ended it for the sake of another one: that is nothing that callers did.
async fn transaction<T, W>(pool: &Pool, mode: Mode, work: W) -> Result<T, StoreError>
where
    W: for<'s> FnOnce(&'s mut PostgresSession) -> BoxFuture<'s, Result<T, StoreError>> + Clone,
{
    for _ in 1..TRIES {
        match attempt(pool, mode, work.clone()).await {
            Err(error) if is_conflict(&error) => {}
            result => return result,
        }
    }
    attempt(pool, mode, work).await
}

async fn attempt<T, W>(pool: &Pool, mode: Mode, work: W) -> Result<T, StoreError>
where
    W: for<'s> FnOnce(&'s mut PostgresSession) -> BoxFuture<'s, Result<T, StoreError>>,
{
    let client = pool.get().await.map_err(pool_failure)?;
    let mut session = PostgresSession { client: Some(client) };
    // Whatever the server's default is: a lock that was waited for must show what was committed meanwhile.
    let begin = match mode {
        Mode::Write => "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE",
        Mode::Read => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
    };
    session.script(begin).await?;
    let result = work(&mut session).await;
    session.script(if result.is_ok() { "COMMIT" } else { "ROLLBACK" }).await?;
    session.release();
    result
}

/// Tells whether the same transaction may succeed if it is run again at once.
fn is_conflict(error: &StoreError) -> bool {
    let StoreError::Unavailable { source: Some(source), .. } = error else { return false };
    let code = source.downcast_ref::<tokio_postgres::Error>().and_then(tokio_postgres::Error::code);
    code.is_some_and(|code| {
        [SqlState::T_R_DEADLOCK_DETECTED, SqlState::T_R_SERIALIZATION_FAILURE].contains(code)
    })
}

/// A connection in a transaction. If it is dropped before the transaction's end (its caller left, or the connection
/// failed) it is closed, so that nobody goes on with a half-done transaction.
#[derive(Debug)]
pub(crate) struct PostgresSession {
    client: Option<Object>,
}

impl Drop for PostgresSession {
    fn drop(&mut self) {
        if let Some(client) = self.client.take() {
            drop(Object::take(client));
        }
    }
}

impl PostgresSession {
    fn client(&self) -> Result<&Object, StoreError> {
        self.client.as_ref().ok_or_else(|| StoreError::unavailable("the connection is released"))
    }

    /// Gives the connection back to the pool.
    fn release(mut self) {
        // Each statement takes memory on the server, too, and filters make many.
        if let Some(client) = &self.client
            && client.statement_cache.size() > STATEMENTS
        {
            client.statement_cache.clear();
        }
        drop(self.client.take());
    }

    async fn rows(&self, sql: &str, parameters: Vec<Value>) -> Result<Vec<Row>, StoreError> {
        let client = self.client()?;
        let statement = client.prepare_cached(sql).await.map_err(failure)?;
        let rows = client.query(&statement, &references(&parameters)).await.map_err(failure)?;
        rows.iter().map(|row| (0..row.len()).map(|index| value(row, index)).collect()).collect()
    }
}

fn references(parameters: &[Value]) -> Vec<&(dyn ToSql + Sync)> {
    parameters.iter().map(|value| value as &(dyn ToSql + Sync)).collect()
}

fn value(row: &tokio_postgres::Row, index: usize) -> Result<Value, StoreError> {
    let kind = row.columns()[index].type_();
    let value = if *kind == Type::INT8 {
        row.try_get::<_, Option<i64>>(index).map(|value| value.map(Value::Int))
    } else if *kind == Type::INT4 {
        row.try_get::<_, Option<i32>>(index).map(|value| value.map(|n| Value::Int(n.into())))
    } else if *kind == Type::BOOL {
        row.try_get::<_, Option<bool>>(index).map(|value| value.map(Value::Bool))
    } else {
        row.try_get::<_, Option<String>>(index).map(|value| value.map(Value::Text))
    };
    value
        .map(|value| value.unwrap_or(Value::Null))
        .map_err(|error| StoreError::corrupt_by("a column has an unexpected type", error))
}

impl ToSql for Value {
    fn to_sql(
        &self,
        kind: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match self {
            Self::Null => Ok(IsNull::Yes),
            Self::Int(value) => value.to_sql_checked(kind, out),
            Self::Bool(value) => value.to_sql_checked(kind, out),
            Self::Text(text) => text.to_sql_checked(kind, out),
            Self::Texts(texts) => texts.to_sql_checked(kind, out),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

impl Session for PostgresSession {
    fn dialect(&self) -> Dialect {
        Dialect::Postgres
    }

    fn query(
        &mut self,
        sql: &str,
        parameters: Vec<Value>,
    ) -> impl Future<Output = Result<Vec<Row>, StoreError>> + Send {
        self.rows(sql, parameters)
    }

    async fn execute_each(
        &mut self,
        sql: &str,
        parameters: Vec<Vec<Value>>,
    ) -> Result<u64, StoreError> {
        let client = self.client()?;
        let statement = client.prepare_cached(sql).await.map_err(failure)?;
        let parameters: Vec<Vec<&(dyn ToSql + Sync)>> =
            parameters.iter().map(|row| references(row)).collect();
        let runs = parameters.iter().map(|row| client.execute(&statement, row)).collect();
        let mut changed = 0;
        for result in in_pipeline(runs).await {
            changed += result.map_err(failure)?;
        }
        Ok(changed)
    }

    async fn script(&mut self, sql: &str) -> Result<(), StoreError> {
        self.client()?.batch_execute(sql).await.map_err(failure)
    }

    async fn lock_migrations(&mut self) -> Result<(), StoreError> {
        // Held to the transaction's end. Another process may migrate for long.
        self.script(&format!(
            "SET LOCAL statement_timeout = 0; SELECT pg_advisory_xact_lock({MIGRATION_LOCK})"
        ))
        .await
    }

    async fn notify(&mut self, change: String) -> Result<(), StoreError> {
        let parameters = [listen::CHANNEL.to_owned(), change].map(Value::Text).to_vec();
        self.execute("SELECT pg_notify($1, $2)", parameters).await.map(|_| ())
    }
}

/// Sends all statements before it waits for the first answer, and returns the answers in their order.
async fn in_pipeline<F: Future>(runs: Vec<F>) -> Vec<F::Output> {
    let mut runs: Vec<Pin<Box<F>>> = runs.into_iter().map(Box::pin).collect();
    let mut results: Vec<Option<F::Output>> = runs.iter().map(|_| None).collect();
    let (mut are_sent, mut done) = (false, 0);
    poll_fn(move |context| {
        for (index, run) in runs.iter_mut().enumerate().skip(done) {
            if results[index].is_none() {
                if let Poll::Ready(value) = run.as_mut().poll(context) {
                    results[index] = Some(value);
                } else if are_sent {
                    // Answers come in order: the further ones are not here, either.
                    break;
                }
            }
        }
        are_sent = true;
        done += results.iter().skip(done).take_while(|result| result.is_some()).count();
        if done < results.len() {
            return Poll::Pending;
        }
        Poll::Ready(results.iter_mut().filter_map(Option::take).collect())
    })
    .await
}

fn pool_failure(error: PoolError) -> StoreError {
    match error {
        PoolError::Backend(error) => failure(error),
        other => StoreError::unavailable_by("there is no connection", other),
    }
}

fn failure(error: tokio_postgres::Error) -> StoreError {
    let Some(answer) = error.as_db_error() else {
        return StoreError::unavailable_by("PostgreSQL cannot be talked to", error);
    };
    // Constraints are named `table.column`; those of several columns are named `table.key`.
    let constraint = answer.constraint().unwrap_or_default();
    let field = match constraint.split_once('.') {
        Some((_, "key")) => constraint_field(constraint),
        Some((_, column)) => column,
        None => constraint,
    }
    .to_owned();
    let code = answer.code();
    if *code == SqlState::UNIQUE_VIOLATION {
        return StoreError::Conflict { field };
    }
    if *code == SqlState::FOREIGN_KEY_VIOLATION {
        return StoreError::MissingReference { field };
    }
    let class = &code.code()[..2];
    // Syntax, names, types, data, sizes: nothing that another try would mend.
    if matches!(class, "42" | "22" | "23" | "0A" | "21" | "3F" | "54") {
        StoreError::corrupt_by("PostgreSQL refused a statement", error)
    } else {
        StoreError::unavailable_by("PostgreSQL failed", error)
    }
}

/// The last column of a primary key, as SQLite names it.
fn constraint_field(constraint: &str) -> &'static str {
    match constraint {
        "daily_usage.key" | "daily_totals.key" => "provider",
        "daily_groups.key" => "id",
        _ => "user_id",
    }
}
