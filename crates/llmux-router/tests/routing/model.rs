//! A second opinion on who is eligible: keeps every call as it happened and adds up when asked.

use std::time::{Duration, Instant};

use llmux_router::{CooldownReason, Failure, FailureClass, Outcome, Request};

use super::support::seconds;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) weight: u32,
    pub(crate) rpm: Option<u64>,
    pub(crate) max_concurrent: Option<u32>,
    pub(crate) tags: u8,
}

/// How good a choice one is; lower is better, `None` is not eligible.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rank {
    Fresh,
    Standby,
    Tried,
    Cooling,
    CoolingAndTried,
}

#[derive(Clone, Copy, Debug)]
struct Cooldown {
    reason: CooldownReason,
    until: Instant,
    /// Its trial is out since then.
    trial: Option<Instant>,
}

impl Cooldown {
    fn rests(&self, now: Instant) -> bool {
        self.until > now || self.trial.is_some_and(|since| now < since + seconds(30))
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Modelled {
    pub(crate) id: usize,
    pub(crate) settings: Settings,
    pub(crate) in_flight: u32,
    /// Seconds in which requests were placed that count for the limit.
    placed: Vec<u64>,
    /// Seconds in which calls ended, and whether badly.
    ended: Vec<(u64, bool)>,
    cooldown: Option<Cooldown>,
}

/// A call as the model knows it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    pub(crate) id: usize,
    second: u64,
    trial: bool,
    against_cooldown: bool,
}

#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) deployments: Vec<Modelled>,
    epoch: Instant,
}

const LIMIT: u64 = 60;

fn silenced(cooldown: Option<Cooldown>, now: Instant) -> bool {
    cooldown.is_some_and(|it| {
        it.until > now && matches!(it.reason, CooldownReason::Manual | CooldownReason::RateLimited)
    })
}

impl Modelled {
    pub(crate) fn new(id: usize, settings: Settings) -> Self {
        Self { id, settings, in_flight: 0, placed: Vec::new(), ended: Vec::new(), cooldown: None }
    }

    fn requests(&self, second: u64) -> u64 {
        self.placed.iter().filter(|&&placed| placed + LIMIT > second).count() as u64
    }

    fn cool(&mut self, reason: CooldownReason, until: Instant) {
        match &mut self.cooldown {
            Some(cooldown) if cooldown.until >= until => cooldown.trial = None,
            cooldown => *cooldown = Some(Cooldown { reason, until, trial: None }),
        }
    }

    fn recover(&mut self) {
        self.cooldown = None;
        self.ended.clear();
    }
}

impl Model {
    pub(crate) fn new(epoch: Instant) -> Self {
        Self { deployments: Vec::new(), epoch }
    }

    pub(crate) fn second(&self, now: Instant) -> u64 {
        (now - self.epoch).as_secs()
    }

    /// Says how good a choice the deployment at `index` is.
    pub(crate) fn rank(
        &self,
        index: usize,
        request: &Request<'_>,
        tags: Option<u8>,
        now: Instant,
    ) -> Option<Rank> {
        let it = &self.deployments[index];
        let full = it.settings.max_concurrent.is_some_and(|most| it.in_flight >= most);
        let limited = it.settings.rpm.is_some_and(|most| it.requests(self.second(now)) >= most);
        let foreign = tags.is_some_and(|tags| tags & it.settings.tags == 0);
        if request.excluded.contains(&index) || request.full.contains(&index) {
            return None;
        }
        if full || limited || foreign {
            return None;
        }
        let tried = request.tried.contains(&index);
        let Some(cooldown) = it.cooldown.filter(|it| it.rests(now)) else {
            return Some(match (tried, it.settings.weight) {
                (true, _) => Rank::Tried,
                (false, 0) => Rank::Standby,
                (false, _) => Rank::Fresh,
            });
        };
        let alone = self.deployments.len() == 1;
        let usable = match cooldown.reason {
            CooldownReason::Failures | CooldownReason::Credential => true,
            CooldownReason::RateLimited => alone,
            CooldownReason::Manual => false,
        };
        usable.then_some(if tried { Rank::CoolingAndTried } else { Rank::Cooling })
    }

    /// What the router did.
    pub(crate) fn picked(&mut self, index: usize, now: Instant) -> Call {
        let second = self.second(now);
        let it = &mut self.deployments[index];
        it.in_flight += 1;
        it.placed.push(second);
        let (mut trial, mut against_cooldown) = (false, false);
        if let Some(cooldown) = &mut it.cooldown {
            against_cooldown = cooldown.rests(now);
            if !against_cooldown {
                cooldown.trial = Some(now);
                trial = true;
            }
        }
        Call { id: it.id, second, trial, against_cooldown }
    }

    pub(crate) fn recorded(&mut self, call: Call, outcome: Outcome, now: Instant) {
        let alone = self.deployments.len() == 1;
        let second = self.second(now);
        let Some(it) = self.deployments.iter_mut().find(|it| it.id == call.id) else { return };
        it.in_flight -= 1;
        let shows = call.trial || call.against_cooldown;
        let give_back = |it: &mut Modelled| {
            if let Some(at) = it.placed.iter().position(|&placed| placed == call.second) {
                it.placed.remove(at);
            }
        };
        let proof = match outcome {
            Outcome::Success(_) => {
                if shows && !silenced(it.cooldown, now) {
                    it.recover();
                }
                it.ended.push((second, false));
                return;
            }
            Outcome::Unsent => {
                give_back(it);
                None
            }
            Outcome::Cancelled => None,
            Outcome::Failure(failure) => {
                if failure.class == FailureClass::Connect {
                    give_back(it);
                }
                if failure.class.is_request_fault() && shows && !silenced(it.cooldown, now) {
                    it.recover();
                }
                Some(failure)
            }
        };
        let cools =
            proof.and_then(|failure| failed(it, &failure, shows, second)).filter(|_| !alone);
        match cools {
            Some((reason, _))
                if matches!(reason, CooldownReason::Failures | CooldownReason::Credential)
                    && silenced(it.cooldown, now) => {}
            Some((reason, period)) => it.cool(reason, now + period),
            None if call.trial => {
                if let Some(cooldown) = &mut it.cooldown {
                    cooldown.trial = None;
                }
            }
            None => {}
        }
    }

    pub(crate) fn set_cooldown(&mut self, index: usize, period: Option<Duration>, now: Instant) {
        let it = &mut self.deployments[index];
        it.recover();
        if let Some(period) = period.filter(|period| !period.is_zero()) {
            it.cool(CooldownReason::Manual, now + period);
        }
    }

    pub(crate) fn reconfigure(&mut self, settings: &[(usize, Settings)]) {
        let old = std::mem::take(&mut self.deployments);
        for &(id, settings) in settings {
            let known = old.iter().find(|it| it.id == id).cloned();
            let known = known.unwrap_or_else(|| Modelled::new(id, settings));
            self.deployments.push(Modelled { settings, ..known });
        }
    }
}

/// Notes a failure; returns the cooldown it leads to.
fn failed(
    it: &mut Modelled,
    failure: &Failure,
    shows: bool,
    second: u64,
) -> Option<(CooldownReason, Duration)> {
    match failure.class {
        class if class.is_request_fault() => None,
        FailureClass::Forbidden => None,
        FailureClass::Credential => Some((CooldownReason::Credential, seconds(60))),
        FailureClass::RateLimited => {
            Some((CooldownReason::RateLimited, failure.retry_after.unwrap_or(seconds(60))))
        }
        _ => {
            it.ended.push((second, true));
            let minute = it.ended.iter().filter(|(ended, _)| ended + LIMIT > second);
            let (calls, bad) = minute
                .fold((0, 0), |(calls, bad), (_, badly)| (calls + 1, bad + usize::from(*badly)));
            let too_many = bad >= 3 && 2 * bad >= calls;
            (shows || too_many).then_some((CooldownReason::Failures, seconds(60)))
        }
    }
}
