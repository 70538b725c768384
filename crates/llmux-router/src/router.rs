use std::time::{Duration, Instant};

use crate::call::{Pick, Request};
use crate::choose::PICKS_PER_EXPLORATION;
use crate::config::{Builtin, Config, TagMatch};
use crate::decision::{Exclusion, NoRoute, Why};
use crate::deployment::Deployment;
use crate::health::{CooldownReason, Cooldowns, Fitness, Health, Penalty};
use crate::retry::Left;
use crate::speed::{Mean, Speed};
use crate::strategy::{Chooser, Strategy};
use crate::window::{Limits, Window};

/// A deployment and what is known of it. Each pick looks at all of them: what most do not need lies elsewhere, so that
/// a thousand fit into a processor's cache.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) in_flight: u32,
    /// 1 if none was set.
    pub(crate) weight: u32,
    /// Of a draw.
    pub(crate) share: u64,
    max_concurrent: Option<u32>,
    limits: Limits,
    pub(crate) health: Health,
    pub(crate) cooldowns: Box<Cooldowns>,
    pub(crate) window: Window,
    pub(crate) speed: Box<Speed>,
    pub(crate) penalty: Penalty,
    /// Until when its vendor asked for no call at its last failure.
    pub(crate) asked_until: Option<Instant>,
    /// The state of smooth weighted round-robin.
    pub(crate) turn: i64,
    pub(crate) serial: u64,
    pub(crate) deployment: Box<Deployment>,
}

impl State {
    fn new(deployment: Deployment, serial: u64) -> Self {
        Self {
            in_flight: 0,
            weight: 1,
            share: 1,
            max_concurrent: None,
            limits: Limits::default(),
            health: Health::default(),
            cooldowns: Box::default(),
            window: Window::new(),
            speed: Box::default(),
            penalty: Penalty::default(),
            asked_until: None,
            turn: 0,
            serial,
            deployment: Box::new(deployment),
        }
    }

    /// Tells whether nothing speaks against the deployment but perhaps the request.
    fn is_fresh(&self, demand: u64, now: Instant) -> bool {
        let is_well = matches!(self.health.fitness(now), Fitness::Well | Fitness::Trial);
        is_well && self.weight > 0 && !self.is_full() && self.fits(demand)
    }

    /// Begins a cooldown, or makes a running one longer.
    pub(crate) fn cool(&mut self, reason: CooldownReason, period: Duration, now: Instant) {
        if !matches!(self.health.fitness(now), Fitness::Cooling { .. }) {
            self.cooldowns.count(reason);
        }
        self.health.cool(reason, end_of(period, now));
    }

    fn is_full(&self) -> bool {
        self.max_concurrent.is_some_and(|most| self.in_flight >= most)
    }

    fn fits(&self, demand: u64) -> bool {
        let limits = &self.limits;
        (limits.requests.is_none() && limits.tokens.is_none()) || self.window.fits(limits, demand)
    }

    /// Returns the seconds until the first output of a stream or the end of a whole answer.
    pub(crate) fn expected(&self, stream: bool, output_tokens: f64) -> Option<f64> {
        let speed = &self.speed;
        let seconds =
            if stream { speed.first_output.get() } else { speed.whole.at(output_tokens) }?;
        // As many attempts are needed on average for one success.
        Some(seconds / speed.success_rate().max(0.05))
    }
}

/// How good a choice a deployment is; the best that is there is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Tier {
    Fresh,
    /// Its weight is 0.
    Standby,
    Tried,
    /// It is cooling down.
    Overruled,
    /// It is cooling down and was tried.
    OverruledTried,
}

/// More tokens than any call has: sums of a minute stay far from the end of the numbers, whatever a client claims.
pub(crate) const MOST_TOKENS: u64 = 1 << 40;

/// As good as forever.
const LONGEST_COOLDOWN: Duration = Duration::from_hours(24 * 365 * 100);

/// Returns the end of a cooldown that begins `now`.
pub(crate) fn end_of(period: Duration, now: Instant) -> Instant {
    now.checked_add(period.min(LONGEST_COOLDOWN)).unwrap_or(now)
}

/// Which deployments the tags of a request leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TagFilter {
    All,
    Matching,
    Default,
}

/// A request, and what is worked out of it once for all deployments.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) request: &'a Request<'a>,
    pub(crate) filter: TagFilter,
    /// The tokens that it is expected to take of a limit.
    pub(crate) demand: u64,
}

/// Memory that one pick leaves to the next.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    pub(crate) candidates: Vec<usize>,
    pub(crate) figures: Vec<f64>,
    pub(crate) kept: Vec<usize>,
}

/// The deployments of one model.
///
/// It holds no lock and no clock: share it behind a mutex, which is held for the microsecond that a call takes.
#[derive(Debug)]
pub struct Router {
    pub(crate) config: Config,
    pub(crate) chooser: Chooser,
    pub(crate) states: Vec<State>,
    epoch: Option<Instant>,
    /// The second that all windows were last moved to.
    rolled: u64,
    serials: u64,
    revision: u64,
    /// Output tokens of all deployments' answers.
    pub(crate) output_tokens: Mean,
    pub(crate) picks_since_exploration: u32,
    scratch: Scratch,
}

impl Router {
    /// Makes a router over `deployments`.
    pub fn new(config: Config, deployments: impl IntoIterator<Item = Deployment>) -> Self {
        let chooser = Chooser::Builtin(config.strategy);
        let mut router = Self {
            config: config.clone(),
            chooser,
            states: Vec::new(),
            epoch: None,
            rolled: 0,
            serials: 0,
            revision: 0,
            output_tokens: Mean::default(),
            picks_since_exploration: PICKS_PER_EXPLORATION,
            scratch: Scratch::default(),
        };
        router.reconfigure(config, deployments);
        router
    }

    /// Chooses by a strategy of your own from now on, until [`Router::reconfigure`].
    #[must_use]
    pub fn with_strategy(mut self, strategy: Box<dyn Strategy>) -> Self {
        self.chooser = Chooser::Own(strategy);
        self
    }

    /// Changes the configuration and the deployments. What is known of a deployment whose id stays, its calls in
    /// flight and its cooldown are kept; calls in flight to one that is gone may still be recorded.
    pub fn reconfigure(
        &mut self,
        config: Config,
        deployments: impl IntoIterator<Item = Deployment>,
    ) {
        let mut old = std::mem::take(&mut self.states);
        let ids: Vec<_> = old.iter().map(|state| state.deployment.id.clone()).collect();
        for deployment in deployments {
            let known = old.iter().position(|state| state.deployment.id == deployment.id);
            let state = match known {
                Some(index) => State { deployment: Box::new(deployment), ..old.swap_remove(index) },
                None => {
                    self.serials += 1;
                    State::new(deployment, self.serials)
                }
            };
            self.states.push(state);
        }
        if !self.states.iter().map(|state| &state.deployment.id).eq(&ids) {
            self.revision += 1;
        }
        settle(&mut self.states);
        self.rolled = 0;
        self.chooser = Chooser::Builtin(config.strategy);
        self.config = config;
    }

    /// Chooses a deployment. One that is cooling down, was tried, or has a weight of 0 is chosen only when no other
    /// is eligible; one that is excluded, over its limits, or pausing because its vendor or an operator asked for it,
    /// never.
    ///
    /// # Errors
    /// [`NoRoute`] if none is eligible.
    ///
    /// # Examples
    /// ```
    /// use std::time::{Duration, Instant};
    /// use llmux_router::{Config, Deployment, NoRoute, Outcome, Request, Router};
    ///
    /// let deployments = [Deployment::new("a").requests_per_minute(1), Deployment::new("b")];
    /// let mut router = Router::new(Config::default(), deployments);
    /// let now = Instant::now();
    ///
    /// // The request has failed at b already.
    /// let request = Request { tried: &[1], ..Request::default() };
    /// let pick = router.pick(&request, now)?;
    /// assert_eq!(pick.index(), 0);
    /// assert_eq!(router.in_flight(0), 1);
    /// router.record(pick, Outcome::Cancelled, now);
    ///
    /// // Now a has had its request of this minute, so b is better than nobody.
    /// assert_eq!(router.pick(&request, now)?.index(), 1);
    /// let never_b = Request { excluded: &[1], ..Request::default() };
    /// let retry_after = Some(Duration::from_secs(60));
    /// assert_eq!(router.pick(&never_b, now).unwrap_err(), NoRoute::Limited { retry_after });
    /// # Ok::<(), NoRoute>(())
    /// ```
    pub fn pick(&mut self, request: &Request<'_>, now: Instant) -> Result<Pick, NoRoute> {
        let mut scratch = std::mem::take(&mut self.scratch);
        let picked = self.pick_with(request, now, &mut scratch);
        self.scratch = scratch;
        picked
    }

    fn pick_with(
        &mut self,
        request: &Request<'_>,
        now: Instant,
        scratch: &mut Scratch,
    ) -> Result<Pick, NoRoute> {
        self.roll(now);
        let tier = self.select(request, now, &mut scratch.candidates)?;
        let (index, measure) = self.choose(request, now, scratch);
        let why = Why {
            strategy: self.chooser.name(),
            deployments: self.states.len(),
            candidates: scratch.candidates.len(),
            tried: request.tried.len(),
            measure,
            overruled: tier >= Tier::Overruled,
        };
        self.commit(index, &why, &scratch.candidates);
        let tokens = self.demand(request);
        let second = self.second(now);
        let state = &mut self.states[index];
        state.in_flight += 1;
        state.window.count(second, |counts| {
            counts.requests += 1;
            counts.tokens = counts.tokens.saturating_add(tokens);
        });
        let trial = state.health.fitness(now) == Fitness::Trial;
        if trial {
            state.health.begin_trial(now);
        }
        let (serial, overruled) = (state.serial, why.overruled);
        Ok(Pick { index, serial, at: now, second, tokens, trial, overruled, why })
    }

    /// Moves all windows on to `now`.
    pub(crate) fn roll(&mut self, now: Instant) {
        self.epoch.get_or_insert(now);
        let second = self.second(now);
        if second > self.rolled {
            self.rolled = second;
            for state in &mut self.states {
                state.window.roll(second);
            }
        }
    }

    fn since_epoch(&self, now: Instant) -> Duration {
        self.epoch.map_or(Duration::ZERO, |epoch| now.saturating_duration_since(epoch))
    }

    pub(crate) fn second(&self, now: Instant) -> u64 {
        // Windows begin at 60, so that a whole window lies before the first second.
        self.since_epoch(now).as_secs() + 60
    }

    /// Returns the tokens that a request is expected to take of a limit.
    pub(crate) fn demand(&self, request: &Request<'_>) -> u64 {
        let expected = self.expected_output(request);
        // Rounded up; without a call of the C library, since strategies ask for each deployment.
        let whole = expected as u64;
        let output = whole.saturating_add(u64::from((whole as f64) < expected));
        request.input_tokens.saturating_add(output).min(MOST_TOKENS)
    }

    /// Prepares a look at the deployments. Fails only for tags.
    pub(crate) fn asked<'a>(&self, request: &'a Request<'a>) -> Result<Asked<'a>, NoRoute> {
        let filter = self.tag_filter(request)?;
        Ok(Asked { request, filter, demand: self.demand(request) })
    }

    /// Finds out which deployments the request's tags leave. Their health plays no part: a request that belongs to
    /// one deployment must not slip to the default because that one is ill.
    fn tag_filter(&self, request: &Request<'_>) -> Result<TagFilter, NoRoute> {
        if !matches!(self.chooser, Chooser::Builtin(Builtin::TagBased)) {
            return Ok(TagFilter::All);
        }
        let any = |filter| {
            (0..self.states.len()).any(|index| {
                !request.excluded.contains(&index) && self.tags_match(index, request.tags, filter)
            })
        };
        if !request.tags.is_empty() && any(TagFilter::Matching) {
            Ok(TagFilter::Matching)
        } else if any(TagFilter::Default) {
            Ok(TagFilter::Default)
        } else if request.tags.is_empty() {
            Ok(TagFilter::All)
        } else {
            Err(NoRoute::Tags)
        }
    }

    fn tags_match(&self, index: usize, asked: &[String], filter: TagFilter) -> bool {
        let tags = &self.states[index].deployment.tags;
        match filter {
            TagFilter::All => true,
            TagFilter::Default => tags.iter().any(|tag| tag == "default"),
            TagFilter::Matching => match self.config.tag_match {
                TagMatch::Any => asked.iter().any(|tag| tags.contains(tag)),
                TagMatch::All => asked.iter().all(|tag| tags.contains(tag)),
            },
        }
    }

    /// Says how good a choice a deployment is, and what speaks against it.
    pub(crate) fn standing(
        &self,
        index: usize,
        asked: &Asked<'_>,
        now: Instant,
    ) -> (Option<Tier>, Option<Exclusion>) {
        let Asked { request, filter, demand } = *asked;
        let state = &self.states[index];
        if request.excluded.contains(&index) || request.unable.contains(&index) {
            return (None, Some(Exclusion::NotAllowed));
        }
        if !self.tags_match(index, request.tags, filter) {
            return (None, Some(Exclusion::Tags));
        }
        if state.is_full() || request.full.contains(&index) {
            return (None, Some(Exclusion::Busy));
        }
        let fitness = state.health.fitness(now);
        match fitness {
            Fitness::Well | Fitness::Trial => {}
            Fitness::Probing { reason } | Fitness::Cooling { reason, .. } => {
                // The only one is not left to a cooldown that began when there were others.
                let alone = self.states.len() == 1 && reason != CooldownReason::Manual;
                let overruled = (reason.may_be_overruled() || alone) && state.fits(demand);
                let tier = match request.tried.contains(&index) {
                    true => Tier::OverruledTried,
                    false => Tier::Overruled,
                };
                let exclusion = match fitness {
                    Fitness::Cooling { left, .. } => Exclusion::Cooling { reason, left },
                    _ => Exclusion::Probing { reason },
                };
                return (overruled.then_some(tier), Some(exclusion));
            }
        }
        if !state.fits(demand) {
            return (None, Some(Exclusion::Limited));
        }
        if request.tried.contains(&index) {
            return (Some(Tier::Tried), Some(Exclusion::Tried));
        }
        if state.weight == 0 {
            return (Some(Tier::Standby), Some(Exclusion::Standby));
        }
        (Some(Tier::Fresh), None)
    }

    /// Returns how long until a deployment that is over its limits has room for the request; `None`: never.
    pub(crate) fn limit_wait(
        &self,
        index: usize,
        request: &Request<'_>,
        now: Instant,
    ) -> Option<Duration> {
        let state = &self.states[index];
        let since = self.since_epoch(now) + Duration::from_secs(60);
        state.window.wait(&state.deployment.limits, self.demand(request), since)
    }

    /// Collects the candidates: the deployments of the best tier.
    fn select(
        &self,
        request: &Request<'_>,
        now: Instant,
        candidates: &mut Vec<usize>,
    ) -> Result<Tier, NoRoute> {
        let asked = self.asked(request)?;
        // Nearly every request is one that has failed nowhere yet, and nearly every deployment is well.
        let is_plain = [request.tried, request.excluded, request.unable, request.full]
            .iter()
            .all(|it| it.is_empty());
        let mut best: Option<Tier> = None;
        candidates.clear();
        for (index, state) in self.states.iter().enumerate() {
            let tier = if asked.filter != TagFilter::All
                && !self.tags_match(index, request.tags, asked.filter)
            {
                None
            } else if is_plain && state.is_fresh(asked.demand, now) {
                Some(Tier::Fresh)
            } else {
                self.standing(index, &asked, now).0
            };
            let Some(tier) = tier else { continue };
            if best.is_some_and(|best| tier > best) {
                continue;
            }
            if best.is_none_or(|best| tier < best) {
                candidates.clear();
                best = Some(tier);
            }
            candidates.push(index);
        }
        best.ok_or_else(|| self.no_route(&asked, now))
    }

    /// Says why there is no candidate, and when there may be one.
    fn no_route(&self, asked: &Asked<'_>, now: Instant) -> NoRoute {
        let request = asked.request;
        let mut found = NoRoute::Excluded;
        for index in 0..self.states.len() {
            let this = match self.standing(index, asked, now).1 {
                Some(Exclusion::Busy) => NoRoute::Busy,
                Some(Exclusion::Limited) => {
                    NoRoute::Limited { retry_after: self.limit_wait(index, request, now) }
                }
                Some(Exclusion::Cooling { reason, left }) => {
                    self.cooling(index, reason, left, request, now)
                }
                Some(Exclusion::Probing { reason }) => {
                    self.cooling(index, reason, Duration::from_secs(1), request, now)
                }
                _ => continue,
            };
            found = found.sooner(this);
        }
        found
    }

    /// Says when a deployment that is cooling down, for `left`, can take the request.
    fn cooling(
        &self,
        index: usize,
        reason: CooldownReason,
        left: Duration,
        request: &Request<'_>,
        now: Instant,
    ) -> NoRoute {
        match self.limit_wait(index, request, now) {
            // One that may be overruled is refused for its limits alone.
            Some(wait) if wait <= left && !reason.may_be_overruled() => {
                NoRoute::Cooling { reason, retry_after: left }
            }
            retry_after => NoRoute::Limited { retry_after },
        }
    }

    /// Chooses as [`Router::pick`] would, and changes nothing.
    pub(crate) fn would_choose(
        &mut self,
        request: &Request<'_>,
        now: Instant,
    ) -> Result<(usize, Why, Vec<usize>), NoRoute> {
        let mut scratch = Scratch::default();
        self.roll(now);
        let tier = self.select(request, now, &mut scratch.candidates)?;
        let (index, measure) = self.choose(request, now, &mut scratch);
        let why = Why {
            strategy: self.chooser.name(),
            deployments: self.states.len(),
            candidates: scratch.candidates.len(),
            tried: request.tried.len(),
            measure,
            overruled: tier >= Tier::Overruled,
        };
        Ok((index, why, scratch.candidates))
    }

    /// Begins a cooldown by hand, or ends any with `None`. During one begun by hand the deployment gets no calls, not
    /// even if it is the only one.
    ///
    /// # Panics
    /// If there is no deployment at `index`.
    pub fn set_cooldown(&mut self, index: usize, period: Option<Duration>, now: Instant) {
        let state = &mut self.states[index];
        state.health.recover();
        state.window.forget_failures();
        if let Some(period) = period.filter(|period| !period.is_zero()) {
            state.cool(CooldownReason::Manual, period, now);
        }
    }

    /// Returns the number of deployments.
    #[expect(clippy::len_without_is_empty, reason = "a router without deployments is of no use")]
    pub const fn len(&self) -> usize {
        self.states.len()
    }

    /// Returns the deployment at `index`.
    ///
    /// # Panics
    /// If there is none: indexes come from a [`Pick`] of the same router.
    pub fn deployment(&self, index: usize) -> &Deployment {
        &self.states[index].deployment
    }

    /// Returns a number that changes when [`Router::reconfigure`] changes which deployment is at which index.
    pub const fn revision(&self) -> u64 {
        self.revision
    }

    /// Returns the name of the strategy.
    pub fn strategy(&self) -> &'static str {
        self.chooser.name()
    }

    /// Returns the calls in flight at `index`.
    ///
    /// # Panics
    /// If there is no such deployment.
    pub fn in_flight(&self, index: usize) -> u32 {
        self.states[index].in_flight
    }

    /// Says what is left for a request after a failure, what [`RetryPolicy::after`](crate::RetryPolicy::after) asks.
    /// Fallback models are not the router's: add those with [`Left::models`].
    ///
    /// A deployment that refused our credential, or the request as forbidden, will do so again: put it into
    /// [`Request::unable`].
    pub fn left(&mut self, request: &Request<'_>, now: Instant) -> Left {
        self.roll(now);
        let mut candidates = Vec::new();
        let selected = self.select(request, now, &mut candidates);
        let again = match selected {
            Ok(_) => {
                let until = candidates.iter().map(|&index| self.states[index].asked_until);
                until
                    .map(|it| it.map_or(Duration::ZERO, |it| it.saturating_duration_since(now)))
                    .min()
            }
            Err(NoRoute::Busy) => Some(Duration::ZERO),
            Err(no_route) => no_route.retry_after(),
        };
        let deployments = matches!(selected, Ok(Tier::Fresh | Tier::Standby | Tier::Overruled));
        Left { deployments, models: false, again }
    }
}

/// Works out what follows from the settings of all. Shares of draws are weights, else requests per minute, else tokens per minute, else all the same.
fn settle(states: &mut [State]) {
    let any = |of: fn(&Deployment) -> Option<u64>| {
        states.iter().filter_map(|state| of(&state.deployment)).max().map(|most| (of, most))
    };
    let found = any(|it| it.weight.map(u64::from))
        // One without a weight has the usual one.
        .map(|(of, _)| (of, 1))
        // One without a limit is not smaller than the largest.
        .or_else(|| any(|it| it.limits.requests))
        .or_else(|| any(|it| it.limits.tokens));
    for state in states {
        state.limits = state.deployment.limits;
        state.max_concurrent = state.deployment.max_concurrent;
        state.weight = state.deployment.weight.unwrap_or(1);
        state.share = found.map_or(1, |(of, without)| of(&state.deployment).unwrap_or(without));
    }
}
