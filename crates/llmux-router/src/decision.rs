//! Why a router chose what it chose.

use std::fmt;
use std::time::{Duration, Instant};

use serde::{Serialize, Serializer};

use crate::call::Request;
use crate::health::{CooldownReason, Cooldowns, Fitness};
use crate::router::Router;
use crate::strategy::{Chooser, Measure};

/// Why no deployment can take the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoRoute {
    /// The request may use none of them.
    #[error("no deployment may serve the request")]
    Excluded,
    /// None has the request's tags, and none is tagged `default`.
    #[error("no deployment has the request's tags")]
    Tags,
    /// They have as many calls in flight as they may; a place can become free at any moment.
    #[error("all deployments are busy")]
    Busy,
    /// Their limits per minute are used up.
    #[error("the limits of all deployments are used up")]
    Limited {
        /// When the first has room again; `None`: never, a limit is 0.
        retry_after: Option<Duration>,
    },
    /// They are cooling down.
    #[error("all deployments are cooling down")]
    Cooling {
        /// Why the one that is back first is cooling.
        reason: CooldownReason,
        /// When the first is back.
        retry_after: Duration,
    },
}

impl NoRoute {
    /// Returns when it is worth asking again, where that is known.
    pub const fn retry_after(self) -> Option<Duration> {
        match self {
            Self::Limited { retry_after } => retry_after,
            Self::Cooling { retry_after, .. } => Some(retry_after),
            Self::Busy | Self::Excluded | Self::Tags => None,
        }
    }

    /// Returns the reason that ends first.
    #[must_use]
    pub fn sooner(self, other: Self) -> Self {
        if other.urgency() < self.urgency() { other } else { self }
    }

    const fn urgency(self) -> Duration {
        match self {
            Self::Busy => Duration::ZERO,
            Self::Limited { retry_after: Some(wait) } | Self::Cooling { retry_after: wait, .. } => {
                wait
            }
            Self::Limited { retry_after: None } => Duration::from_secs(u64::MAX - 1),
            Self::Excluded | Self::Tags => Duration::MAX,
        }
    }
}

/// Why a deployment was not a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Exclusion {
    /// The request may not use it.
    NotAllowed,
    /// Its tags do not match.
    Tags,
    /// It has as many calls in flight as it may.
    Busy,
    /// Its requests or tokens of the minute are used up.
    Limited,
    /// It is cooling down.
    Cooling {
        /// Why.
        #[serde(rename = "cooldown")]
        reason: CooldownReason,
        /// For how much longer, in milliseconds.
        #[serde(rename = "left_ms", serialize_with = "milliseconds")]
        left: Duration,
    },
    /// Its cooldown is over, and one call is out to see whether it works again.
    Probing {
        /// Why it was cooling down.
        #[serde(rename = "cooldown")]
        reason: CooldownReason,
    },
    /// It failed this request before, and another is left.
    Tried,
    /// Its weight is 0, and another is left.
    Standby,
}

fn milliseconds<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

/// The short form of a decision, which each pick carries. Shown as in `lowest-latency 2/3 expected_ms=210.0`: the
/// strategy, candidates of deployments, and the figure that the chosen one had.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Why {
    /// What chose.
    pub strategy: &'static str,
    /// Deployments of the model.
    pub deployments: usize,
    /// Those among which was chosen.
    pub candidates: usize,
    /// Those that failed this request before.
    pub tried: usize,
    /// What the strategy saw in the chosen one.
    pub measure: Measure,
    /// All others were worse off than this one, which is cooling down.
    pub overruled: bool,
}

impl fmt::Display for Why {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { strategy, deployments, candidates, tried, measure, overruled } = self;
        write!(out, "{strategy} {candidates}/{deployments} {measure}")?;
        if *tried > 0 {
            write!(out, " tried={tried}")?;
        }
        if *overruled {
            out.write_str(" cooling")?;
        }
        Ok(())
    }
}

/// The state of a deployment at one moment.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Snapshot {
    /// Its name.
    pub deployment: String,
    /// 1 if none was set.
    pub weight: u32,
    /// Its tags.
    pub tags: Vec<String>,
    /// Calls without an outcome so far.
    pub in_flight: u32,
    /// The most calls in flight; `None`: no limit.
    pub max_concurrent: Option<u32>,
    /// The most requests of a minute; `None`: no limit.
    pub rpm: Option<u64>,
    /// The most tokens of a minute; `None`: no limit.
    pub tpm: Option<u64>,
    /// Requests of the last minute.
    pub requests: u64,
    /// Tokens of the last minute, reserved ones included.
    pub tokens: u64,
    /// Calls of the last minute that ended well or badly by the deployment's own doing.
    pub calls: u64,
    /// Those that ended badly.
    pub failures: u64,
    /// `available`, `cooling`, `trial` (the next call shows whether it works again), `probing` (that call is out).
    pub state: &'static str,
    /// Why it is not simply available.
    pub cooldown: Option<CooldownReason>,
    /// For how much longer it cools down, in milliseconds.
    pub cooldown_left_ms: Option<u64>,
    /// How many cooldowns have begun.
    #[serde(skip)]
    pub cooldowns: Cooldowns,
    /// Recent mean time to the first output of a stream, in milliseconds.
    pub first_output_ms: Option<f64>,
    /// Recent mean duration of a whole answer of usual length, in milliseconds.
    pub latency_ms: Option<f64>,
    /// Share of recent calls that ended well, 0 to 1.
    pub success_rate: f64,
}

/// A candidate of a decision.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Considered {
    /// Its position in the router.
    #[serde(skip)]
    pub index: usize,
    /// What the strategy compares.
    pub measure: Measure,
    /// Its state.
    #[serde(flatten)]
    pub snapshot: Snapshot,
}

/// A deployment that was no candidate.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Excluded {
    /// Its position in the router.
    #[serde(skip)]
    pub index: usize,
    /// Its name.
    pub deployment: String,
    /// Why.
    #[serde(flatten)]
    pub exclusion: Exclusion,
    /// When the reason is gone, in milliseconds, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

/// What a router would do with a request, and why. Made by [`Router::explain`].
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Decision {
    /// What chooses.
    pub strategy: &'static str,
    /// The position of the chosen deployment.
    #[serde(skip)]
    pub index: Option<usize>,
    /// The chosen deployment.
    pub chosen: Option<String>,
    /// Why it was chosen, or why none was.
    pub why: String,
    /// Those among which was chosen.
    pub candidates: Vec<Considered>,
    /// All others.
    pub excluded: Vec<Excluded>,
}

impl Router {
    /// Says what [`Router::pick`] would choose for the same request at the same moment, and why. A dry run: no call
    /// counts as in flight, no turn is taken.
    ///
    /// # Examples
    /// ```
    /// use std::time::Instant;
    /// use llmux_router::{Builtin, Config, Deployment, Exclusion, Request, Router};
    ///
    /// let config = Config { strategy: Builtin::RoundRobin, ..Config::default() };
    /// let mut router = Router::new(config, [Deployment::new("a"), Deployment::new("b")]);
    /// let request = Request { tried: &[0], ..Request::default() };
    /// let now = Instant::now();
    ///
    /// let decision = router.explain(&request, now);
    /// assert_eq!(decision.chosen.as_deref(), Some("b"));
    /// assert_eq!(decision.excluded[0].exclusion, Exclusion::Tried);
    ///
    /// let pick = router.pick(&request, now)?;
    /// assert_eq!(pick.why().to_string(), decision.why);
    /// # Ok::<(), llmux_router::NoRoute>(())
    /// ```
    pub fn explain(&mut self, request: &Request<'_>, now: Instant) -> Decision {
        let result = self.would_choose(request, now);
        let asked = self.asked(request);
        let (index, why, members) = match &result {
            Ok((index, why, members)) => (Some(*index), why.to_string(), members.as_slice()),
            Err(no_route) => (None, no_route.to_string(), [].as_slice()),
        };
        let measure = |index| match &self.chooser {
            Chooser::Builtin(strategy) => self.measure(*strategy, index, request, now, members),
            Chooser::Own(_) => Measure::Own,
        };
        let candidates = members.iter().map(|&index| Considered {
            index,
            measure: measure(index),
            snapshot: self.snapshot_of(index, now),
        });
        let candidates = candidates.collect();
        let others = (0..self.states.len()).filter(|index| !members.contains(index));
        let excluded = others.map(|index| {
            let standing = match &asked {
                Ok(asked) => self.standing(index, asked, now),
                Err(_) => (None, Some(Exclusion::Tags)),
            };
            let exclusion = standing.1.unwrap_or(Exclusion::NotAllowed);
            let wait = match exclusion {
                Exclusion::Limited => self.limit_wait(index, request, now),
                Exclusion::Cooling { left, .. } => Some(left),
                _ => None,
            };
            Excluded {
                index,
                deployment: self.states[index].deployment.id.clone(),
                exclusion,
                retry_after_ms: wait.map(whole_milliseconds),
            }
        });
        let excluded = excluded.collect();
        let chosen = index.map(|index| self.states[index].deployment.id.clone());
        Decision { strategy: self.strategy(), index, chosen, why, candidates, excluded }
    }

    /// Returns the state of the deployment at `index`.
    ///
    /// # Panics
    /// If there is no such deployment.
    pub fn snapshot(&mut self, index: usize, now: Instant) -> Snapshot {
        self.roll(now);
        self.snapshot_of(index, now)
    }

    fn snapshot_of(&self, index: usize, now: Instant) -> Snapshot {
        let state = &self.states[index];
        let deployment = &state.deployment;
        let sum = state.window.sum();
        let (name, cooldown, left) = match state.health.fitness(now) {
            Fitness::Well => ("available", None, None),
            Fitness::Trial => ("trial", None, None),
            Fitness::Probing { reason } => ("probing", Some(reason), None),
            Fitness::Cooling { reason, left } => ("cooling", Some(reason), Some(left)),
        };
        let ms = |seconds: f64| seconds * 1e3;
        let usual = self.expected_output(&Request::default());
        Snapshot {
            deployment: deployment.id.clone(),
            weight: state.weight,
            tags: deployment.tags.clone(),
            in_flight: state.in_flight,
            max_concurrent: deployment.max_concurrent,
            rpm: deployment.limits.requests,
            tpm: deployment.limits.tokens,
            requests: sum.requests,
            tokens: sum.tokens,
            calls: sum.calls,
            failures: sum.failures,
            state: name,
            cooldown,
            cooldown_left_ms: left.map(whole_milliseconds),
            cooldowns: *state.cooldowns,
            first_output_ms: state.speed.first_output.get().map(ms),
            latency_ms: state.speed.whole.at(usual).map(ms),
            success_rate: state.speed.success_rate(),
        }
    }

    /// Returns the position of the deployment of that name.
    pub fn index_of(&self, id: &str) -> Option<usize> {
        self.states.iter().position(|state| state.deployment.id == id)
    }
}

fn whole_milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_micros().div_ceil(1000)).unwrap_or(u64::MAX)
}
