//! Whether a deployment may be called.

use std::time::{Duration, Instant};

use serde::Serialize;

/// Why a deployment cools down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CooldownReason {
    /// Too many of its calls failed.
    Failures,
    /// It answered 429.
    RateLimited,
    /// It refuses our credential or account.
    Credential,
    /// [`Router::set_cooldown`](crate::Router::set_cooldown) was called.
    Manual,
}

impl CooldownReason {
    /// Returns the name used in logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Failures => "failures",
            Self::RateLimited => "rate_limited",
            Self::Credential => "credential",
            Self::Manual => "manual",
        }
    }

    /// Tells whether calling nonetheless is better than calling nobody. A vendor that asked for silence, or an
    /// operator who did, is left alone.
    pub(crate) const fn may_be_overruled(self) -> bool {
        matches!(self, Self::Failures | Self::Credential)
    }
}

/// How many cooldowns have begun, by their reasons.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cooldowns {
    counts: [u64; 4],
}

impl Cooldowns {
    const REASONS: [CooldownReason; 4] = [
        CooldownReason::Failures,
        CooldownReason::RateLimited,
        CooldownReason::Credential,
        CooldownReason::Manual,
    ];

    pub(crate) fn count(&mut self, reason: CooldownReason) {
        let counts = Self::REASONS.iter().zip(&mut self.counts);
        counts.filter(|(other, _)| **other == reason).for_each(|(_, count)| *count += 1);
    }

    /// Returns the names of all reasons with their counts.
    pub fn by_reason(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Self::REASONS.iter().zip(self.counts).map(|(reason, count)| (reason.as_str(), count))
    }
}

/// Failures count as calls in flight for `least-busy`, and fade within seconds.
const PENALTY_MEMORY: Duration = Duration::from_secs(10);

/// The longest that the outcome of a trial is waited for, before another call is one too.
const TRIAL_TIME: Duration = Duration::from_secs(30);

/// A pause in the use of a deployment.
#[derive(Clone, Copy, Debug)]
struct Cooldown {
    reason: CooldownReason,
    until: Instant,
    /// The pause is over, and since then one call is out to see whether the deployment works again.
    probing: Option<Instant>,
}

/// What the health of a deployment allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fitness {
    /// Any call.
    Well,
    /// One call, to see whether it works again.
    Trial,
    /// Nothing while another deployment is left.
    Cooling { reason: CooldownReason, left: Duration },
    /// The same until the trial has ended.
    Probing { reason: CooldownReason },
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Health {
    cooldown: Option<Cooldown>,
}

impl Health {
    pub(crate) fn fitness(&self, now: Instant) -> Fitness {
        let Some(cooldown) = self.cooldown else { return Fitness::Well };
        let left = cooldown.until.saturating_duration_since(now);
        let reason = cooldown.reason;
        if left > Duration::ZERO {
            Fitness::Cooling { reason, left }
        } else if cooldown.probing.is_some_and(|since| now < since + TRIAL_TIME) {
            Fitness::Probing { reason }
        } else {
            Fitness::Trial
        }
    }

    /// Begins a cooldown, or makes a running one longer.
    pub(crate) fn cool(&mut self, reason: CooldownReason, until: Instant) {
        match &mut self.cooldown {
            Some(cooldown) if cooldown.until >= until => cooldown.probing = None,
            cooldown => *cooldown = Some(Cooldown { reason, until, probing: None }),
        }
    }

    /// Sends the one call that is allowed after a cooldown.
    pub(crate) const fn begin_trial(&mut self, now: Instant) {
        if let Some(cooldown) = &mut self.cooldown {
            cooldown.probing = Some(now);
        }
    }

    /// Ends a trial that showed nothing: the next call is one again.
    pub(crate) const fn end_trial(&mut self) {
        if let Some(cooldown) = &mut self.cooldown {
            cooldown.probing = None;
        }
    }

    /// Ends the cooldown.
    pub(crate) const fn recover(&mut self) {
        self.cooldown = None;
    }
}

/// A count of failures that fades.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Penalty {
    value: f64,
    at: Option<Instant>,
}

impl Penalty {
    pub(crate) fn at(&self, now: Instant) -> f64 {
        match self.at {
            None => 0.0,
            Some(at) => {
                let age = now.saturating_duration_since(at).as_secs_f64();
                self.value * (-age / PENALTY_MEMORY.as_secs_f64()).exp()
            }
        }
    }

    pub(crate) fn add(&mut self, now: Instant) {
        *self = Self { value: self.at(now) + 1.0, at: Some(now) };
    }
}
