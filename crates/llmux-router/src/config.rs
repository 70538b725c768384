use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How a router chooses and when it stops using a deployment.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// How to choose among eligible deployments.
    pub strategy: Builtin,
    /// How long a failing deployment gets no calls. 0 switches cooldowns off.
    pub cooldown: Duration,
    /// A cooldown begins when at least this many calls, and at least half of all calls, failed within a minute.
    /// Rate limits (429) and refused credentials begin one at once.
    pub allowed_fails: u32,
    /// `lowest-latency` treats deployments as equal that are slower than the fastest by at most this share: 0.1 is 10 %.
    pub latency_buffer: f64,
    /// Whether a deployment must have one or all of a request's tags.
    pub tag_match: TagMatch,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            strategy: Builtin::SimpleShuffle,
            cooldown: Duration::from_secs(60),
            allowed_fails: 3,
            latency_buffer: 0.1,
            tag_match: TagMatch::Any,
        }
    }
}

/// The strategies that come with the crate. Their text form is the name in lower case with hyphens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Builtin {
    /// By chance, in proportion to the weights; where none has a weight, to requests per minute, else to tokens per
    /// minute, else evenly.
    #[default]
    SimpleShuffle,
    /// The one that is expected to answer first: a stream by the time to its first output, then by its speed; a whole
    /// answer by its duration, which depends on its length. Failures make a deployment count as slower. Deployments
    /// that nothing is known of, or nothing recent, get single calls.
    LowestLatency,
    /// The one with the fewest calls in flight relative to its weight. Recent failures count as calls in flight:
    /// otherwise a deployment that fails at once would always be the least busy.
    LeastBusy,
    /// The one that has used the smallest share of its own limits per minute, calls in flight included. One without
    /// limits has used nothing of them; among equals the one with the fewest tokens is taken.
    LowestTpmRpm,
    /// The one where this request is expected to cost the least. One without a price ranks with the dearest known.
    LowestCost,
    /// One that has the request's tags, else one tagged `default`; by chance as in `simple-shuffle`.
    TagBased,
    /// One after another, as often as its weight says and evenly mixed.
    RoundRobin,
}

impl Builtin {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::SimpleShuffle,
        Self::LowestLatency,
        Self::LeastBusy,
        Self::LowestTpmRpm,
        Self::LowestCost,
        Self::TagBased,
        Self::RoundRobin,
    ];

    /// Returns the name used in configurations and decisions.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SimpleShuffle => "simple-shuffle",
            Self::LowestLatency => "lowest-latency",
            Self::LeastBusy => "least-busy",
            Self::LowestTpmRpm => "lowest-tpm-rpm",
            Self::LowestCost => "lowest-cost",
            Self::TagBased => "tag-based",
            Self::RoundRobin => "round-robin",
        }
    }
}

/// A name that no built-in strategy has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no strategy is called {0:?}")]
pub struct UnknownStrategy(pub String);

impl FromStr for Builtin {
    type Err = UnknownStrategy;

    fn from_str(name: &str) -> Result<Self, UnknownStrategy> {
        let found = Self::ALL.into_iter().find(|strategy| strategy.as_str() == name);
        found.ok_or_else(|| UnknownStrategy(name.to_owned()))
    }
}

/// How the tags of a request and those of a deployment are compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TagMatch {
    /// One in common is enough.
    #[default]
    Any,
    /// The deployment must have all of the request's.
    All,
}
