//! The keys that are in use, and the database they come from.
//!
//! No request waits for the database but the first one of a key. What is known of a key is read anew in the background
//! when it is [`FRESH`] old and used, before its next use when it is [`STALE`] old, and at once when this process, or one
//! that shares the database, has changed it. While the database cannot be reached, known keys go on for [`OUTAGE`].

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use http::request::Parts;
use llmux_auth::limits::{Limiter, Scope, ScopeKind, Unloaded};
use llmux_auth::store::{Change, KeySnapshot, Store, StoreError};
use llmux_auth::tenants::{KeyHash, KeyRef, UnixMillis, UsageRecord};
use llmux_auth::{Caller, Denied, Presented, Tenant};
use llmux_types::Money;
use quick_cache::sync::Cache;
use tokio::runtime::Handle;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use crate::config::Database;
use crate::error::ApiError;
use crate::gateway::Gateway;
use crate::headers;

/// How old what is known of a key may be before it is read anew in the background.
const FRESH: Duration = Duration::from_secs(15);
/// How old it may be before it is read anew first.
const STALE: Duration = Duration::from_secs(60);
/// How old it may be while the database cannot be reached.
const OUTAGE: Duration = Duration::from_mins(10);
/// How long a request waits for what is stale to be read anew, while there is something to go on with.
const PATIENCE: Duration = Duration::from_millis(500);
/// For how long the database is left alone after it did not answer.
const RETRY: Duration = Duration::from_secs(1);
/// How long a request waits to learn what was spent.
const LOAD: Duration = Duration::from_secs(5);
/// How long a transaction of usage records may take.
const COMMIT: Duration = Duration::from_secs(30);
/// For how long a key that does not exist is not looked for again.
const UNKNOWN: Duration = Duration::from_secs(5);
/// The keys that are remembered.
const CAPACITY: usize = 50_000;
/// No key is shorter, in bytes.
const SHORTEST_KEY: usize = 32;

/// Returns the wall clock's time.
pub(crate) fn wall_clock() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// Opens the configured database.
pub(crate) async fn open(database: &Database) -> Result<Arc<dyn Store>, StoreError> {
    match database {
        Database::Sqlite(path) => {
            llmux_auth::store::SqliteConfig::new(path).open(wall_clock()).await
        }
        Database::Postgres(config) => config.connect(wall_clock()).await,
    }
}

/// What is known of one key.
struct Known {
    /// `None`: there is no such key.
    tenant: Option<Arc<Tenant>>,
    read_at: Instant,
    /// It may have changed since.
    is_stale: AtomicBool,
    is_reading: AtomicBool,
    /// The database did not answer when it was read last, so many milliseconds after `read_at`. 0: it did.
    failed_after: AtomicU64,
}

impl Known {
    fn new(tenant: Option<Arc<Tenant>>) -> Arc<Self> {
        Arc::new(Self {
            tenant,
            read_at: Instant::now(),
            is_stale: AtomicBool::new(false),
            is_reading: AtomicBool::new(false),
            failed_after: AtomicU64::new(0),
        })
    }

    /// Tells whether the database did not answer a moment ago: not each request must find that out.
    fn just_failed(&self) -> bool {
        let failed = match self.failed_after.load(Ordering::Relaxed) {
            0 => return false,
            failed => Duration::from_millis(failed),
        };
        let just = self.read_at.elapsed() < failed + RETRY;
        if just {
            self.is_reading.store(false, Ordering::Relaxed);
        }
        just
    }

    fn note_failure(&self) {
        let after = u64::try_from(self.read_at.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.failed_after.store(after.max(1), Ordering::Relaxed);
        self.is_reading.store(false, Ordering::Relaxed);
    }
}

type Digest = [u8; 32];

struct Inner {
    store: Arc<dyn Store>,
    limiter: Arc<Limiter>,
    known: Cache<Digest, Arc<Known>>,
    /// Counts changes by this process: what was read before one is not kept after it.
    changes: AtomicU64,
    /// Counts what is heard of changes by others: what was read before is not trusted after it.
    rumours: AtomicU64,
    /// Reads of keys.
    reads: AtomicU64,
    /// Held while records are written and while spend is read: a record is in both the database's sum and the limiter's
    /// account of what is recorded, or in neither.
    recording: Mutex<()>,
}

/// See the [module](self).
#[derive(Clone)]
pub(crate) struct Tenants {
    inner: Arc<Inner>,
    /// Where the database is talked to.
    runtime: Handle,
}

impl fmt::Debug for Tenants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tenants").field("known", &self.inner.known.len()).finish_non_exhaustive()
    }
}

impl Tenants {
    /// Makes the cache in front of `store`, which is talked to on `runtime`.
    pub(crate) fn new(store: Arc<dyn Store>, runtime: Handle) -> Self {
        let inner = Arc::new(Inner {
            store,
            limiter: Limiter::new(Instant::now()),
            known: Cache::new(CAPACITY),
            changes: AtomicU64::new(0),
            rumours: AtomicU64::new(0),
            reads: AtomicU64::new(0),
            recording: Mutex::new(()),
        });
        Self { inner, runtime }
    }

    /// Returns the database. Its answers may be awaited on any thread.
    pub(crate) fn store(&self) -> &Arc<dyn Store> {
        &self.inner.store
    }

    /// Returns where the database is talked to: what runs there goes on when a client leaves.
    pub(crate) const fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Returns the limits and budgets of this process.
    pub(crate) fn limiter(&self) -> &Arc<Limiter> {
        &self.inner.limiter
    }

    /// Returns how often the database was asked for a key.
    pub(crate) fn reads(&self) -> u64 {
        self.inner.reads.load(Ordering::Relaxed)
    }

    /// Returns how many keys are remembered.
    pub(crate) fn cached(&self) -> usize {
        self.inner.known.len()
    }

    /// Finds the key of a credential.
    pub(crate) async fn find(
        &self,
        presented: &Presented,
        key: Option<&str>,
    ) -> Result<Option<Arc<Tenant>>, ApiError> {
        let Presented::Other(digest) = *presented else { return Ok(None) };
        let Some(known) = self.inner.known.get(&digest) else {
            if key.is_none_or(|key| key.len() < SHORTEST_KEY) {
                return Ok(None);
            }
            return match self.read(digest).await {
                Ok(read) => Ok(read?),
                Err(_) => Err(ApiError::internal()),
            };
        };
        let age = known.read_at.elapsed();
        let is_stale = known.is_stale.load(Ordering::Relaxed);
        let fresh = if known.tenant.is_some() { FRESH } else { UNKNOWN };
        if age < fresh && !is_stale {
            return Ok(known.tenant.clone());
        }
        let is_usable = known.tenant.is_some() && age < OUTAGE;
        if is_usable && (known.is_reading.swap(true, Ordering::Relaxed) || known.just_failed()) {
            return Ok(known.tenant.clone());
        }
        let reading = self.read(digest);
        if is_usable && age < STALE && !is_stale {
            return Ok(known.tenant.clone());
        }
        let read = match tokio::time::timeout(PATIENCE, reading).await {
            Ok(Ok(read)) => read,
            Ok(Err(_)) => return Err(ApiError::internal()),
            // It goes on in the background.
            Err(_) if is_usable => return Ok(known.tenant.clone()),
            Err(_) => return Err(ApiError::database_unavailable()),
        };
        match read {
            Err(StoreError::Unavailable { .. }) if is_usable => Ok(known.tenant.clone()),
            read => Ok(read?),
        }
    }

    /// Begins to read a key anew.
    fn read(&self, digest: Digest) -> JoinHandle<Result<Option<Arc<Tenant>>, StoreError>> {
        let this = self.clone();
        self.runtime.spawn(async move { this.inner.read(digest).await })
    }

    /// Forgets what a change concerns. Called after each write that succeeded.
    pub(crate) fn forget(&self, change: &Change) {
        self.inner.forget(change);
    }

    /// Has all keys read anew before they are used again: what counts for them by default has changed.
    pub(crate) fn defaults_changed(&self) {
        self.inner.suspect(&Change::Everything);
    }

    /// Reads what was spent in scopes, for the limiter.
    pub(crate) async fn load(&self, unloaded: Vec<Unloaded>) -> Result<(), ApiError> {
        let this = self.clone();
        let load = self
            .runtime
            .spawn(async move { tokio::time::timeout(LOAD, this.inner.load(&unloaded)).await });
        match load.await {
            Ok(Ok(loaded)) => Ok(loaded?),
            Ok(Err(_)) => Err(ApiError::database_unavailable()),
            Err(_) => Err(ApiError::internal()),
        }
    }

    /// Writes usage records down.
    ///
    /// # Errors
    /// The database's. Nothing is written then.
    pub(crate) async fn commit(&self, records: &[UsageRecord]) -> Result<(), StoreError> {
        let _recording = self.inner.recording.lock().await;
        let append = self.inner.store.append_usage(records);
        // If it is done all the same, the database knows the records when they come again.
        let appended = tokio::time::timeout(COMMIT, append).await;
        appended.map_err(|_| StoreError::Unavailable {
            reason: "it does not answer".to_owned(),
            source: None,
        })??;
        for record in records {
            self.inner.limiter.recorded_usage(record);
        }
        Ok(())
    }

    /// Listens to changes made by others until the process ends.
    pub(crate) async fn follow(self) {
        let mut changes = match self.inner.store.changes().await {
            Ok(Some(changes)) => changes,
            Ok(None) => return,
            Err(error) => {
                tracing::error!(%error, "changes made by others are seen late");
                return;
            }
        };
        while let Some(change) = changes.next().await {
            self.inner.suspect(&change);
        }
    }
}

impl Inner {
    async fn read(&self, digest: Digest) -> Result<Option<Arc<Tenant>>, StoreError> {
        let changes = self.changes.load(Ordering::SeqCst);
        let rumours = self.rumours.load(Ordering::SeqCst);
        self.reads.fetch_add(1, Ordering::Relaxed);
        let token = KeyHash::from_digest(&digest);
        let result = self.store.snapshot(&token, wall_clock()).await;
        let snapshot = match result {
            Ok(snapshot) => snapshot,
            Err(error) => {
                if let Some(known) = self.known.get(&digest) {
                    known.note_failure();
                }
                return Err(error);
            }
        };
        let tenant = snapshot.map(|snapshot| Arc::new(Tenant::from(snapshot)));
        let known = Known::new(tenant.clone());
        self.known.insert(digest, Arc::clone(&known));
        if self.rumours.load(Ordering::SeqCst) != rumours {
            known.is_stale.store(true, Ordering::Relaxed);
        }
        if self.changes.load(Ordering::SeqCst) != changes {
            // It may have been read before the change.
            self.known.remove(&digest);
        }
        Ok(tenant)
    }

    async fn load(&self, unloaded: &[Unloaded]) -> Result<(), StoreError> {
        let _recording = self.recording.lock().await;
        for it in unloaded {
            let spent = self.spent(&it.scope, it.window_start_ms).await?;
            self.limiter.load(&it.scope, it.window_start_ms, spent.nanos());
        }
        Ok(())
    }

    /// Reads what was spent in a scope. The key may belong elsewhere by now: each scope is read by its own id.
    async fn spent(&self, scope: &Scope, since_ms: i64) -> Result<Money, StoreError> {
        let (store, now, id) = (&self.store, wall_clock(), &*scope.id);
        let budget = match scope.kind {
            ScopeKind::Key => {
                let key = KeyRef::TokenId(id.to_owned());
                store.key(&key, now).await?.map(|key| key.budget)
            }
            ScopeKind::User => store.user(id, now).await?.map(|user| user.budget),
            ScopeKind::Team => store.team(id, now).await?.map(|team| team.budget),
            ScopeKind::Organization => store.organization(id, now).await?.map(|it| it.budget),
            ScopeKind::TeamMember => match llmux_auth::member_ids(id) {
                None => None,
                Some((team, user)) => {
                    store.team_member(team, user, now).await?.map(|member| member.budget)
                }
            },
            ScopeKind::EndUser => None,
        };
        // What is gone has spent nothing, and has no budget either.
        let spent = |budget| llmux_auth::spent(&budget, scope.model.as_deref(), since_ms);
        Ok(budget.map_or(Money::ZERO, spent))
    }

    /// Forgets what this process changed.
    fn forget(&self, change: &Change) {
        self.changes.fetch_add(1, Ordering::SeqCst);
        self.known.retain(|_, known| match &known.tenant {
            Some(tenant) => !concerns(change, tenant),
            // A new key may be what was looked for in vain.
            None => !matches!(change, Change::Key(_)),
        });
    }

    /// Has what another process may have changed read anew before it is used again. While the database is away, which is
    /// when it says that all may have changed, known keys go on.
    fn suspect(&self, change: &Change) {
        self.rumours.fetch_add(1, Ordering::SeqCst);
        self.known.retain(|_, known| match &known.tenant {
            Some(tenant) => {
                if concerns(change, tenant) {
                    known.is_stale.store(true, Ordering::Relaxed);
                }
                true
            }
            None => !matches!(change, Change::Key(_) | Change::Everything),
        });
    }
}

fn concerns(change: &Change, snapshot: &KeySnapshot) -> bool {
    let key = &snapshot.key;
    match change {
        Change::Everything => true,
        Change::Key(token) => *token == key.token,
        Change::Team(id) => key.team_id.as_ref() == Some(id),
        Change::User(id) => key.user_id.as_ref() == Some(id),
        Change::Organization(id) => {
            let found = snapshot.organization.as_ref().map(|found| &found.organization_id);
            found == Some(id)
                || key.organization_id.as_ref() == Some(id)
                || snapshot.organization_roles.iter().any(|(other, _)| other == id)
        }
    }
}

/// Finds out who is calling the data plane.
pub(crate) async fn caller(gateway: &Gateway, head: &Parts) -> Result<Caller, ApiError> {
    let map = &head.headers;
    let key = headers::presented_key(map);
    let presented = gateway.gate.look(key);
    let found = gateway.tenants.find(&presented, key).await?;
    let (host, origin) = (headers::host(&head.uri, map), headers::origin(map));
    Ok(gateway.gate.identify(&presented, found, host, origin, wall_clock())?)
}

/// Refuses web pages of others where the plane is open to this machine only. Nobody needs a key.
pub(crate) fn no_web_page(gateway: &Gateway, head: &Parts) -> Result<(), Denied> {
    let nothing = gateway.gate.look(None);
    let (host, origin) = (headers::host(&head.uri, &head.headers), headers::origin(&head.headers));
    match gateway.gate.identify(&nothing, None, host, origin, wall_clock()) {
        Err(denied @ Denied::OriginNotAllowed) => Err(denied),
        _ => Ok(()),
    }
}

/// Finds out who is calling the management plane.
pub(crate) async fn manager(gateway: &Gateway, head: &Parts) -> Result<Caller, ApiError> {
    let key = headers::presented_key(&head.headers);
    let presented = gateway.gate.look(key);
    let found = gateway.tenants.find(&presented, key).await?;
    Ok(gateway.gate.administer(&presented, found, wall_clock())?)
}
