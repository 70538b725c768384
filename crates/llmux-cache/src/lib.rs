#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod broadcast;
mod controls;
mod dual;
mod entry;
mod flight;
mod fold;
mod json;
mod key;
mod local;
#[cfg(feature = "redis")]
mod redis;
mod replay;
mod shared;
mod store;

pub use broadcast::{Aborted, Broadcast, Reader};
pub use controls::{Controls, InvalidControls};
pub use dual::Dual;
pub use entry::{Entry, Form, Kind, Unfit};
pub use flight::{Flights, Follower, Joined, Leader, Outcome, Within};
pub use fold::fold;
pub use key::{Asker, CacheKey, Question, Scope};
pub use local::{Local, LocalConfig};
#[cfg(feature = "redis")]
pub use redis::{InvalidRedis, Redis, RedisConfig};
pub use replay::replay;
pub use shared::{Shared, Source, WeakShared};
pub use store::{BoxFuture, Cache, Flushed, Stats};
