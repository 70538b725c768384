//! What the response cache has beyond single requests: where answers are kept, and the calls under way that several
//! requests wait for. It outlives configurations.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use llmux_cache::{
    BoxFuture, Cache, Dual, Flights, Flushed, InvalidRedis, Local, LocalConfig, Redis, RedisConfig,
    Stats,
};
use tokio::runtime::Handle;

use crate::config::{self, CacheKind};
use crate::proxy::Published;

/// How long the start waits for Redis.
const CONNECT: Duration = Duration::from_secs(1);

/// Where answers are kept.
#[derive(Debug)]
pub(crate) struct Backend {
    place: Place,
    memory_bytes: u64,
}

#[derive(Debug)]
enum Place {
    Local(Local),
    Redis(Redis),
    Dual(Dual<Redis>),
}

impl Backend {
    /// Makes an empty one. Connects to Redis by tasks of `runtime`.
    fn open(
        settings: &config::Cache,
        redis: Option<&RedisConfig>,
        runtime: &Handle,
    ) -> Result<Self, InvalidRedis> {
        let local = || {
            Local::new(LocalConfig {
                max_bytes: settings.memory_bytes,
                max_item_bytes: settings.max_item_bytes,
                ttl: settings.memory_ttl,
            })
        };
        let shared = || {
            let _entered = runtime.enter();
            redis.map_or(Err(InvalidRedis::Servers), Redis::open)
        };
        let place = match settings.kind {
            CacheKind::Local => Place::Local(local()),
            CacheKind::Redis => Place::Redis(shared()?),
            CacheKind::Dual => Place::Dual(Dual::new(local(), shared()?)),
        };
        Ok(Self { place, memory_bytes: settings.memory_bytes })
    }

    const fn kind(&self) -> CacheKind {
        match self.place {
            Place::Local(_) => CacheKind::Local,
            Place::Redis(_) => CacheKind::Redis,
            Place::Dual(_) => CacheKind::Dual,
        }
    }

    pub(crate) fn cache(&self) -> &dyn Cache {
        match &self.place {
            Place::Local(local) => local,
            Place::Redis(redis) => redis,
            Place::Dual(dual) => dual,
        }
    }

    /// Returns the part in memory.
    fn local(&self) -> Option<&Local> {
        match &self.place {
            Place::Local(local) => Some(local),
            Place::Redis(_) => None,
            Place::Dual(dual) => Some(dual.local()),
        }
    }

    /// Returns the cache if nothing of it needs waiting for.
    pub(crate) const fn memory_alone(&self) -> Option<&Local> {
        match &self.place {
            Place::Local(local) => Some(local),
            Place::Redis(_) | Place::Dual(_) => None,
        }
    }

    fn redis(&self) -> Option<&Redis> {
        match &self.place {
            Place::Local(_) => None,
            Place::Redis(redis) => Some(redis),
            Place::Dual(dual) => Some(dual.shared()),
        }
    }
}

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct ResponseCache {
    /// `None` until the cache is switched on.
    backend: RwLock<Option<Arc<Backend>>>,
    /// Where Redis is, from the start of the process to its end.
    redis: Option<RedisConfig>,
    /// Where Redis is talked to.
    runtime: Handle,
    /// Calls whose answer comes whole.
    pub(crate) whole: Flights<Published>,
    /// Calls whose answer comes as a stream.
    pub(crate) streams: Flights<Published>,
}

impl ResponseCache {
    /// Makes the cache of these settings.
    ///
    /// # Errors
    /// [`InvalidRedis`] if Redis is configured so that it cannot work. That it is away is no error.
    pub(crate) fn new(
        settings: &config::Cache,
        redis: Option<RedisConfig>,
        runtime: Handle,
    ) -> Result<Self, InvalidRedis> {
        let (whole, streams) = (Flights::new(), Flights::new());
        let cache = Self { backend: RwLock::default(), redis, runtime, whole, streams };
        let backend = cache.prepare(settings)?;
        cache.install(backend, settings);
        Ok(cache)
    }

    /// Makes what other settings need, if that is not there: kept answers stay, unless the type of the cache or the size
    /// of its memory is another one; a cache that is switched off keeps them until it is switched on again. Where Redis is
    /// does not change.
    ///
    /// # Errors
    /// [`InvalidRedis`] if the settings need Redis and there was none when the process started.
    pub(crate) fn prepare(
        &self,
        settings: &config::Cache,
    ) -> Result<Option<Arc<Backend>>, InvalidRedis> {
        if !settings.enabled {
            return Ok(None);
        }
        let fits = |backend: &&Arc<Backend>| {
            let same_size = backend.memory_bytes == settings.memory_bytes;
            backend.kind() == settings.kind && (same_size || backend.local().is_none())
        };
        if self.backend().as_ref().filter(fits).is_some() {
            return Ok(None);
        }
        Backend::open(settings, self.redis.as_ref(), &self.runtime).map(|it| Some(Arc::new(it)))
    }

    /// Goes on with other settings, for which a backend was [prepared](Self::prepare) if they need one.
    pub(crate) fn install(&self, prepared: Option<Arc<Backend>>, settings: &config::Cache) {
        if let Some(backend) = prepared {
            let mut place = self.backend.write().unwrap_or_else(PoisonError::into_inner);
            let before = place.replace(backend);
            drop(place);
            // Its end may take a moment.
            drop(before);
        } else if settings.enabled
            && let Some(local) = self.backend().as_ref().and_then(|backend| backend.local())
        {
            local.set_limits(settings.max_item_bytes, settings.memory_ttl);
        }
    }

    /// Returns where answers are kept; `None`: the cache was never on.
    pub(crate) fn backend(&self) -> Option<Arc<Backend>> {
        self.backend.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits a moment for Redis, if it is used, and warns if it is not there.
    pub(crate) async fn greet(&self) {
        let backend = self.backend();
        let Some(redis) = backend.as_ref().and_then(|backend| backend.redis()) else { return };
        if !redis.ready(CONNECT).await {
            tracing::warn!("Redis does not answer: until it does, its part of the cache is empty");
        }
    }

    /// Tells whether Redis answers; `None`: it is not used.
    pub(crate) async fn ping(&self, limit: Duration) -> Option<bool> {
        let backend = self.backend();
        let redis = backend.as_ref().and_then(|backend| backend.redis())?;
        Some(redis.ready(limit).await)
    }

    /// Forgets all answers of a namespace.
    pub(crate) fn flush(&self, namespace: Arc<str>) -> BoxFuture<'static, Flushed> {
        let backend = self.backend();
        Box::pin(async move {
            match backend {
                Some(backend) => backend.cache().flush(&namespace).await,
                None => Flushed { removed: 0, complete: true },
            }
        })
    }

    /// Returns what happened so far in each place.
    pub(crate) fn stats(&self) -> Vec<Stats> {
        self.backend().map_or_else(Vec::new, |backend| backend.cache().stats())
    }

    /// Returns how many calls are under way that others may wait for.
    pub(crate) fn under_way(&self) -> usize {
        self.whole.len() + self.streams.len()
    }
}
