//! The life of the process: data folder, workers, signals, the end.

use std::fs::File;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use llmux_auth::store::StoreError;
use llmux_auth::{Gate, Plane};
use llmux_types::Secret;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::cache::ResponseCache;
use crate::catalog::Catalog;
use crate::config::{Database, Settings, Sources};
use crate::error::chain;
use crate::gateway::{Gateway, Parts, Snapshot, Worker};
use crate::log::Log;
use crate::metrics::{self, Metrics};
use crate::mock::FakeVendor;
use crate::recorder::{RecordError, Recorder, housekeeping};
use crate::redact;
use crate::reload::{self, Reloading, Trigger};
use crate::routes::Port;
use crate::serve::{Phase, Server, check_free, listen};
use crate::spool::Spool;
use crate::tenants::{self, Tenants};
use crate::timed_io::Busy;
use crate::tls::{self, Certificates};
use crate::traces::Traces;
use crate::trim::keep_trimmed;
use crate::upstream::{Upstream, tls_client_config};

/// Why the server did not run, or did not run to a clean end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    #[error("{0}")]
    Configuration(String),
    #[error("cannot listen on {address}: {source}")]
    Bind { address: SocketAddr, source: io::Error },
    #[error("the data folder {path} is in use by another process")]
    DataInUse { path: String },
    #[error("cannot use the data folder {path}: {source}")]
    Data { path: String, source: io::Error },
    #[error(
        "another gateway uses this database. Limits are not shared yet: each gateway would enforce them for itself. \
         database.allow_replicas: true allows that"
    )]
    DatabaseInUse,
    #[error("{}", chain(.0))]
    Store(StoreError),
    #[error(transparent)]
    Tls(#[from] tls::Unusable),
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl RunError {
    /// Returns the exit code that the command line promises.
    pub(crate) const fn exit_code(&self) -> u8 {
        match self {
            Self::Configuration(_)
            | Self::Tls(_)
            | Self::Data { .. }
            | Self::Store(_)
            | Self::Record(_)
            | Self::Io(_) => 1,
            Self::Bind { .. } | Self::DataInUse { .. } | Self::DatabaseInUse => 3,
        }
    }
}

impl From<StoreError> for RunError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Taken => Self::DatabaseInUse,
            other => Self::Store(other),
        }
    }
}

/// Runs the gateway until a signal ends it. `announce` is told the addresses once all of them take connections.
pub(crate) fn run(
    sources: Sources,
    mut settings: Settings,
    announce: impl FnOnce(&Addresses) + Send + 'static,
) -> Result<(), RunError> {
    raise_file_limit();
    let control = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // From here on no signal kills the process half way.
    let signals = control.block_on(async { Signals::listen() })?;
    let _lock = lock_data_folder(&settings.data_dir)?;
    let log = Log::start(&settings.logging)?;
    let warnings = std::mem::take(&mut settings.warnings);
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    let mut fake_vendor = FakeVendor::default();
    fake_vendor.serve(&mut settings)?;
    let master_key = match settings.auth.master_key.clone() {
        Some(key) => key,
        None => kept_master_key(&settings.data_dir)?,
    };
    settings.auth.master_key.get_or_insert_with(|| master_key.clone());
    log.hide(redact::secrets_of(&settings));
    let loopback = settings.server.host.is_loopback();
    let plane = match (settings.auth.data_plane_needs_key, loopback) {
        (true, _) => Plane::Keyed,
        (false, true) => Plane::OpenLoopback { https: settings.server.tls.is_some() },
        (false, false) => {
            tracing::warn!(
                "the data plane is open to everyone who can reach {}",
                settings.server.host
            );
            Plane::Open
        }
    };
    if matches!(&settings.database, Database::Postgres(config) if !config.exclusive) {
        tracing::warn!(
            "limits and budgets are enforced by each gateway for itself: several together let more through"
        );
    }
    let store = control.block_on(tenants::open(&settings.database))?;
    let tenants = Tenants::new(store, control.handle().clone());
    control.spawn(tenants.clone().follow());
    let spool = Arc::new(Spool::open(&settings.data_dir.join("spool"), settings.spool)?);
    let mut recorder = Recorder::new(Arc::clone(&spool), tenants.clone());
    // What an earlier process left behind must be in the database before anybody asks what was spent.
    let replayed = control.block_on(recorder.drain())?;
    if replayed > 0 {
        tracing::info!(records = replayed, "usage records of an earlier start are written");
    }
    let (stop_recording, stop) = watch::channel(false);
    let recording = control.spawn(recorder.run(stop, settings.server.shutdown_grace));
    let metrics = Metrics::new(&settings.metrics);
    let catalog = Catalog::new(&settings, &metrics, None)
        .map_err(|error| RunError::Configuration(error.to_string()))?;
    let gate = Gate::new(&master_key, plane);
    let certificates = settings.server.tls.as_ref().map(Certificates::new).transpose()?;
    let acceptor = certificates.as_ref().map(Certificates::acceptor).transpose()?;

    let (main, listeners) = bind(&settings, settings.server.port)?;
    let mut all: Vec<_> =
        listeners.into_iter().map(|listener| vec![(Port::Main, listener)]).collect();
    let mut addresses = Addresses { main, admin: None };
    if settings.server.admin_port > 0 {
        let (admin, listeners) = bind(&settings, settings.server.admin_port)?;
        addresses.admin = Some(admin);
        for (worker, listener) in all.iter_mut().zip(listeners) {
            worker.push((Port::Admin, listener));
        }
    }

    let cache = open_cache(&settings, &control)?;
    let reloading = Reloading::new(sources, &mut settings, warnings, certificates, fake_vendor);
    let (traces, exporting) = Traces::start(&settings.tracing, control.handle());
    let gateway = Gateway::new(Parts {
        snapshot: Snapshot::new(settings, catalog),
        gate,
        tenants,
        spool,
        log: log.clone(),
        metrics,
        traces,
        reloading,
        cache,
    });
    control.spawn(metrics::upkeep(Arc::clone(&gateway)));
    control.spawn(housekeeping(Arc::clone(&gateway)));
    control.spawn(reload::watch(Arc::clone(&gateway)));
    control.spawn(keep_trimmed());
    let (phase, told) = watch::channel(Phase::Running);
    let connections = Busy::default();
    let tls = tls_client_config();
    let mut workers = Vec::new();
    for (number, listeners) in all.into_iter().enumerate() {
        let worker =
            Worker { gateway: Arc::clone(&gateway), upstream: Upstream::new(Arc::clone(&tls)) };
        let servers = listeners.into_iter().map(|(port, listener)| {
            let server = Server {
                worker: worker.clone(),
                port,
                tls: acceptor.clone(),
                phase: told.clone(),
                connections: connections.clone(),
            };
            (server, listener)
        });
        workers.push(spawn_worker(number, worker.upstream.clone(), servers.collect())?);
    }
    drop(told);
    let snapshot = gateway.current();
    tracing::info!(
        address = %addresses.main,
        https = snapshot.settings.server.tls.is_some(),
        admin = addresses.admin.map(tracing::field::display),
        models = snapshot.catalog.listed().len(),
        providers = snapshot.settings.providers.len(),
        "listening"
    );
    // On a thread of its own: it may use the gateway, whose database is talked to from here.
    let announced = control.spawn_blocking(move || announce(&addresses));
    if control.block_on(announced).is_err() {
        tracing::error!("the announcement panicked");
    }

    control.block_on(until_the_end(&gateway, &phase, &connections, signals));
    for worker in workers {
        if worker.join().is_err() {
            tracing::error!("a worker thread panicked");
        }
    }
    if let Some(exporting) = exporting {
        control.block_on(exporting.finish());
    }
    stop_recording.send_replace(true);
    if control.block_on(recording).is_err() {
        tracing::error!("the recording of usage panicked");
    }
    // Not longer for what still talks to a database that does not answer.
    control.shutdown_timeout(Duration::from_secs(1));
    tracing::info!("stopped");
    log.flush();
    Ok(())
}

/// Makes the response cache, and gives Redis a moment to be there.
fn open_cache(settings: &Settings, control: &Runtime) -> Result<ResponseCache, RunError> {
    let redis = settings.redis.clone();
    let cache = ResponseCache::new(&settings.cache, redis, control.handle().clone())
        .map_err(|error| RunError::Configuration(format!("redis: {error}")))?;
    control.block_on(cache.greet());
    Ok(cache)
}

/// Where the server listens.
pub(crate) struct Addresses {
    pub(crate) main: SocketAddr,
    pub(crate) admin: Option<SocketAddr>,
}

/// The signals that mean something to the process.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for one that ends the process; SIGHUP reads the configuration anew meanwhile.
    async fn end(&mut self, gateway: &Arc<Gateway>) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hangup.recv() => {
                    let gateway = Arc::clone(gateway);
                    // Problems are logged.
                    tokio::task::spawn_blocking(move || drop(gateway.reload(Trigger::Asked { expected: None })));
                }
            }
        }
    }
}

/// Waits for a signal, then for what is open.
async fn until_the_end(
    gateway: &Arc<Gateway>,
    phase: &watch::Sender<Phase>,
    connections: &Busy,
    mut signals: Signals,
) {
    signals.end(gateway).await;
    let grace = gateway.current().settings.server.shutdown_grace;
    tracing::info!(in_flight = gateway.in_flight(), "draining");
    gateway.drain();
    phase.send_replace(Phase::Draining);
    let drained = async {
        while connections.is_busy() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        () = drained => {}
        () = tokio::time::sleep(grace) => {
            tracing::warn!(in_flight = gateway.in_flight(), "shutdown_grace is over, requests are cut off");
        }
        () = signals.end(gateway) => tracing::warn!("second signal, requests are cut off"),
    }
    phase.send_replace(Phase::Stopped);
}

fn spawn_worker(
    number: usize,
    upstream: Upstream,
    servers: Vec<(Server, std::net::TcpListener)>,
) -> io::Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
        runtime.block_on(async {
            tokio::spawn(keep_trimmed());
            tokio::spawn(async move {
                loop {
                    tokio::time::sleep(Duration::from_secs(10)).await;
                    upstream.close_idle();
                }
            });
            let running: Vec<_> = servers
                .into_iter()
                .map(|(server, listener)| tokio::spawn(server.run(listener)))
                .collect();
            for server in running {
                match server.await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => tracing::error!(%error, "a listener failed"),
                    Err(error) => tracing::error!(%error, "a listener panicked"),
                }
            }
        });
    })
}

/// Binds one listener for each worker. The first bind is a plain one: SO_REUSEPORT would share a port with another
/// process without a word.
fn bind(
    settings: &Settings,
    port: u16,
) -> Result<(SocketAddr, Vec<std::net::TcpListener>), RunError> {
    let mut address = SocketAddr::new(settings.server.host, port);
    let fault = |source| RunError::Bind { address, source };
    check_free(address).map_err(fault)?;
    let first = listen(address).map_err(fault)?;
    address = first.local_addr().map_err(fault)?;
    let mut listeners = vec![first];
    for _ in 1..settings.server.workers {
        listeners.push(listen(address).map_err(|source| RunError::Bind { address, source })?);
    }
    Ok((address, listeners))
}

/// Makes the data folder and takes it for this process.
fn lock_data_folder(path: &Path) -> Result<File, RunError> {
    let shown = path.display().to_string();
    let fault = |source| RunError::Data { path: shown.clone(), source };
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(fault)?;
    let lock = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path.join("lock"))
        .map_err(fault)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(std::fs::TryLockError::WouldBlock) => Err(RunError::DataInUse { path: shown }),
        Err(std::fs::TryLockError::Error(source)) => Err(fault(source)),
    }
}

/// Reads the master key that an earlier start made, or makes one.
fn kept_master_key(data_dir: &Path) -> Result<Secret, RunError> {
    let path = data_dir.join("master_key");
    let shown = path.display().to_string();
    let fault = |source| RunError::Data { path: shown.clone(), source };
    match std::fs::read_to_string(&path) {
        Ok(key) if !key.trim().is_empty() => {
            tracing::info!(file = shown, "the master key of an earlier start is used");
            return Ok(Secret::new(key.trim()));
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(fault(error)),
    }
    let mut random = [0_u8; 32];
    getrandom::fill(&mut random).map_err(|error| fault(io::Error::other(error)))?;
    let digits: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let key = format!("sk-{digits}");
    // Written beside and renamed: a start that is killed half way leaves no half key.
    let new = data_dir.join("master_key.new");
    let mut options = File::options();
    let mut file =
        options.create(true).write(true).truncate(true).mode(0o600).open(&new).map_err(fault)?;
    writeln!(file, "{key}").and_then(|()| file.sync_all()).map_err(fault)?;
    std::fs::rename(&new, &path).map_err(fault)?;
    tracing::warn!(
        file = shown,
        "no master key is configured: one was made and is kept in this file"
    );
    Ok(Secret::new(key))
}

/// Raises the number of files this process may open to what the system allows: each stream needs two.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}
