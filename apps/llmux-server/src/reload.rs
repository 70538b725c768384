//! Another configuration while the gateway runs: on SIGHUP, when a file changes, when an administrator asks.
//!
//! The new snapshot is made and checked beside the one that counts, and takes its place in one step; requests keep the one
//! that they came in with. What cannot be applied keeps the old one. What the gateway has learned (statistics,
//! cooldowns, limits, cached answers, measurements) belongs to no snapshot, or goes over into the next.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use serde::Serialize;

use crate::catalog::Catalog;
use crate::config::{Fixed, Problem, Settings, Sources, load};
use crate::gateway::{Gateway, Snapshot};
use crate::mock::FakeVendor;
use crate::redact;
use crate::tls::Certificates;

/// How often the files are read. A change is applied when two readings in a row saw it: it may be half written.
const POLL: Duration = Duration::from_secs(1);

/// How often files that change while they are read are read again, and the wait between.
const READINGS: (u32, Duration) = (20, Duration::from_millis(25));

/// What the administrator is told of the configuration.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Status {
    /// The configuration file, as it was named; `null`: there is none.
    path: Option<String>,
    /// SHA-256 of the configuration file, in hexadecimal digits.
    checksum: Option<String>,
    /// When the configuration that counts was loaded.
    loaded_at: String,
    /// Configurations that were applied, the one of the start included.
    pub(crate) reload_count: u64,
    /// Configurations that were refused.
    pub(crate) rejected_count: u64,
    /// Keys whose values in the file count from the next start on only.
    restart_required: Vec<String>,
    warnings: Vec<String>,
    /// Why the last attempt failed; `null`: it did not.
    pub(crate) last_error: Option<Rejected>,
    /// When the configuration that counts was loaded, in Unix seconds.
    #[serde(skip)]
    pub(crate) loaded: f64,
}

/// A configuration that was not applied.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Rejected {
    at: String,
    problems: Vec<String>,
}

/// Why a configuration was not applied.
#[derive(Debug)]
pub(crate) enum ReloadError {
    /// The file is not the one that the administrator means. `None`: there is no file.
    Checksum(Option<String>),
    /// Its problems, without any secret.
    Rejected(Vec<String>),
    /// The files are just being changed.
    Unsteady,
}

/// Why a configuration is read.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Trigger<'a> {
    /// Somebody asked; with the SHA-256 that the configuration file must have, if that matters.
    Asked { expected: Option<&'a str> },
    /// The files changed to this content.
    Noticed { fingerprint: u64 },
}

/// What reloading needs to know.
pub(crate) struct Reloading {
    sources: Sources,
    /// What counts since the start.
    start: Fixed,
    certificates: Option<Arc<Certificates>>,
    state: Mutex<State>,
    /// Whether the last attempt failed: asked without waiting for the next one.
    rejected: AtomicBool,
}

struct State {
    status: Status,
    /// All files whose content matters.
    files: Vec<PathBuf>,
    /// Of the files when they were last loaded.
    seen: u64,
    fake_vendor: FakeVendor,
}

impl Reloading {
    /// `settings` are those of the start.
    pub(crate) fn new(
        sources: Sources,
        settings: &mut Settings,
        warnings: Vec<String>,
        certificates: Option<Arc<Certificates>>,
        fake_vendor: FakeVendor,
    ) -> Self {
        let now = SystemTime::now();
        let state = State {
            status: Status {
                path: settings.source.path.clone(),
                checksum: settings.source.checksum.clone(),
                loaded_at: text_of(now),
                reload_count: 1,
                rejected_count: 0,
                restart_required: Vec::new(),
                warnings,
                last_error: None,
                loaded: unix_seconds(now),
            },
            files: settings.source.files.clone(),
            seen: fingerprint(&settings.source.files),
            fake_vendor,
        };
        let start = std::mem::take(&mut settings.fixed);
        Self {
            sources,
            start,
            certificates,
            state: Mutex::new(state),
            rejected: AtomicBool::new(false),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Its fields are written one after the other, and none depends on another.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells whether the last attempt to apply a configuration failed.
    pub(crate) fn is_rejected(&self) -> bool {
        self.rejected.load(Ordering::Relaxed)
    }

    /// Returns what the administrator is told. Waits while a configuration is applied.
    pub(crate) fn status(&self) -> Status {
        self.state().status.clone()
    }
}

impl Gateway {
    /// Applies what the files say now; blocks.
    ///
    /// # Errors
    /// If there is a problem, which is logged; the configuration is as it was.
    pub(crate) fn reload(&self, trigger: Trigger<'_>) -> Result<Status, ReloadError> {
        let mut state = self.reloading.state();
        let files = state.files.clone();
        let (seen, loaded) = self.read(&files, trigger)?;
        let expected = match trigger {
            Trigger::Asked { expected } => expected,
            Trigger::Noticed { .. } => None,
        };
        let tried = self.apply(&mut state, loaded, expected);
        match &tried {
            Err(ReloadError::Unsteady) => return Err(ReloadError::Unsteady),
            // The new files were not there to be looked at before; a change of theirs in between is found by the next one.
            Ok(()) if files != state.files => state.seen = fingerprint(&state.files),
            Ok(()) => state.seen = seen,
            Err(ReloadError::Checksum(_)) => {
                return Err(ReloadError::Checksum(state.status.checksum.clone()));
            }
            Err(ReloadError::Rejected(problems)) => {
                state.seen = seen;
                tracing::error!(
                    problems = problems.join("; "),
                    "the configuration has problems: the one before still counts"
                );
                let at = text_of(SystemTime::now());
                let status = &mut state.status;
                status.rejected_count += 1;
                status.last_error = Some(Rejected { at, problems: problems.clone() });
            }
        }
        self.reloading.rejected.store(tried.is_err(), Ordering::Relaxed);
        tried.map(|()| state.status.clone())
    }

    /// Reads the configuration while no file changes: a half written one may look like a good one. Returns with it the
    /// content of the files.
    fn read(
        &self,
        files: &[PathBuf],
        trigger: Trigger<'_>,
    ) -> Result<(u64, Result<Settings, Vec<Problem>>), ReloadError> {
        for _ in 0..READINGS.0 {
            let seen = fingerprint(files);
            if matches!(trigger, Trigger::Noticed { fingerprint } if fingerprint != seen) {
                return Err(ReloadError::Unsteady);
            }
            let loaded = load(&self.reloading.sources);
            if fingerprint(files) == seen {
                return Ok((seen, loaded));
            }
            std::thread::sleep(READINGS.1);
        }
        tracing::warn!(
            "the configuration files changed while they were read: the one before still counts"
        );
        Err(ReloadError::Unsteady)
    }

    fn apply(
        &self,
        state: &mut State,
        loaded: Result<Settings, Vec<Problem>>,
        expected: Option<&str>,
    ) -> Result<(), ReloadError> {
        let rejected = |text: String| ReloadError::Rejected(vec![text]);
        let problems = |problems: Vec<Problem>| {
            ReloadError::Rejected(problems.iter().map(Problem::to_string).collect())
        };
        let mut settings = loaded.map_err(problems)?;
        let found = settings.source.checksum.as_deref();
        if expected.is_some_and(|expected| Some(expected) != found) {
            return Err(ReloadError::Checksum(settings.source.checksum));
        }
        let running = self.current();
        if settings.source.is_empty && !running.settings.source.is_empty {
            // What is just being written, or was cut off, begins like this.
            return Err(rejected("the configuration file is empty".to_owned()));
        }
        let restart_required = self.reloading.start.changed(&settings.fixed);
        settings.keep_fixed(&running.settings);
        let warnings = std::mem::take(&mut settings.warnings);
        state.fake_vendor.serve(&mut settings).map_err(|error| rejected(error.to_string()))?;
        let certificate = match (&self.reloading.certificates, &settings.server.tls) {
            (Some(certificates), Some(tls)) => {
                let read = Certificates::read(tls).map_err(|error| rejected(error.to_string()))?;
                Some((certificates, read))
            }
            _ => None,
        };
        let cache =
            self.cache.prepare(&settings.cache).map_err(|error| rejected(error.to_string()))?;
        let catalog = Catalog::new(&settings, &self.metrics, Some(&running.catalog))
            .map_err(|error| rejected(error.to_string()))?;

        // From here on nothing fails.
        if let Some((certificates, read)) = certificate {
            certificates.replace(read);
        }
        for warning in &warnings {
            tracing::warn!("{warning}");
        }
        if !restart_required.is_empty() {
            let keys = restart_required.join(", ");
            tracing::warn!(keys, "these keys count from the next start on");
        }
        let now = SystemTime::now();
        state.status = Status {
            path: settings.source.path.clone(),
            checksum: settings.source.checksum.clone(),
            loaded_at: text_of(now),
            reload_count: state.status.reload_count + 1,
            rejected_count: state.status.rejected_count,
            restart_required,
            warnings,
            last_error: None,
            loaded: unix_seconds(now),
        };
        state.files.clone_from(&settings.source.files);
        tracing::info!(
            checksum = state.status.checksum,
            models = catalog.listed().len(),
            providers = settings.providers.len(),
            "the configuration is applied"
        );
        self.log.apply(&settings.logging);
        // Requests that are under way have the secrets of before.
        let secrets = redact::secrets_of(&running.settings);
        self.log.hide(secrets.into_iter().chain(redact::secrets_of(&settings)));
        self.cache.install(cache, &settings.cache);
        let other_limits = settings.default_limits != running.settings.default_limits;
        self.replace(Snapshot::new(settings, catalog));
        if other_limits {
            self.tenants.defaults_changed();
        }
        Ok(())
    }
}

/// Applies changes of the files until the process ends. Their content is what counts: a file that is renamed over
/// another, or a folder of links that is switched as Kubernetes does it, is a change like any other.
pub(crate) async fn watch(gateway: Arc<Gateway>) {
    let mut changed = None;
    loop {
        tokio::time::sleep(POLL).await;
        let shared = Arc::clone(&gateway);
        let before = changed.take();
        let look = move || {
            let (files, seen) = {
                let state = shared.reloading.state();
                (state.files.clone(), state.seen)
            };
            let now = fingerprint(&files);
            if now == seen {
                return None;
            }
            if before == Some(now) {
                // Problems are logged.
                let _ = shared.reload(Trigger::Noticed { fingerprint: now });
                return None;
            }
            Some(now)
        };
        changed = tokio::task::spawn_blocking(look).await.unwrap_or_default();
    }
}

/// Tells the content of files from other contents.
fn fingerprint(files: &[PathBuf]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for file in files {
        // What cannot be read is another content than any other.
        std::fs::read(file).ok().hash(&mut hasher);
    }
    hasher.finish()
}

fn text_of(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}

fn unix_seconds(time: SystemTime) -> f64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
