use std::time::Instant;

/// One deployment of a model: an endpoint that can answer for it.
#[derive(Clone, Debug)]
pub struct Deployment {
    id: String,
    weight: u32,
    max_concurrent: u32,
}

impl Deployment {
    /// Makes a deployment that takes its share of calls by `weight`. 0 means that it is used only when no other is
    /// eligible.
    pub fn new(id: impl Into<String>, weight: u32) -> Self {
        Self { id: id.into(), weight, max_concurrent: 0 }
    }

    /// Limits the calls in flight; 0 is no limit. Over the limit other deployments are tried.
    #[must_use]
    pub const fn with_max_concurrent(mut self, calls: u32) -> Self {
        self.max_concurrent = calls;
        self
    }

    /// Returns the name used in logs and headers.
    pub fn id(&self) -> &str {
        &self.id
    }
}

/// What a pick depends on besides the state of the deployments.
#[derive(Clone, Copy, Debug, Default)]
pub struct Request<'a> {
    /// Deployments that already failed this request: chosen again only when no other is eligible.
    pub tried: &'a [usize],
    /// Deployments that this request may never use.
    pub excluded: &'a [usize],
    /// A uniformly random number; equal inputs give equal picks.
    pub random: u64,
}

/// The right to make one call to a deployment. Hand it back with [`Router::record`]; the call counts as in flight
/// until then.
#[must_use = "a pick counts as a call in flight until it is recorded"]
#[derive(Debug)]
pub struct Pick {
    index: usize,
}

impl Pick {
    /// Returns the position of the deployment, in the order they were given to [`Router::new`].
    pub const fn index(&self) -> usize {
        self.index
    }
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The vendor answered.
    Success,
    /// The deployment failed.
    Failure,
    /// The request itself was at fault: says nothing about the deployment.
    Rejected,
    /// The client left before the end.
    Cancelled,
}

/// Why no deployment can take the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoRoute {
    /// The request may use none of them.
    #[error("no deployment may serve the request")]
    Excluded,
    /// All of them have as many calls in flight as they may.
    #[error("all deployments are busy")]
    Busy,
}

#[derive(Debug)]
struct State {
    deployment: Deployment,
    in_flight: u32,
}

/// The deployments of one model.
#[derive(Debug)]
pub struct Router {
    states: Vec<State>,
}

impl Router {
    /// Makes a router over `deployments`.
    pub fn new(deployments: impl IntoIterator<Item = Deployment>) -> Self {
        let states =
            deployments.into_iter().map(|deployment| State { deployment, in_flight: 0 }).collect();
        Self { states }
    }

    /// Chooses a deployment by weighted chance among those that are not excluded, not full and, while others
    /// remain, not tried.
    ///
    /// # Errors
    /// [`NoRoute`] if none is eligible.
    pub fn pick(&mut self, request: &Request<'_>, _now: Instant) -> Result<Pick, NoRoute> {
        let allowed = |index: &usize| !request.excluded.contains(index);
        let free = |index: &usize| {
            let state = &self.states[*index];
            state.deployment.max_concurrent == 0
                || state.in_flight < state.deployment.max_concurrent
        };
        let untried = |index: &usize| !request.tried.contains(index);

        if !(0..self.states.len()).any(|index| allowed(&index)) {
            return Err(NoRoute::Excluded);
        }
        let eligible = |index: &usize| allowed(index) && free(index);
        let index = self
            .weighted(request.random, |index| eligible(index) && untried(index))
            .or_else(|| self.weighted(request.random, eligible))
            .ok_or(NoRoute::Busy)?;
        self.states[index].in_flight += 1;
        Ok(Pick { index })
    }

    /// Draws among the eligible with a chance proportional to their weights; uniformly if all weigh 0.
    fn weighted(&self, random: u64, eligible: impl Fn(&usize) -> bool) -> Option<usize> {
        let candidates = || (0..self.states.len()).filter(|index| eligible(index));
        let weight = |index: usize| u64::from(self.states[index].deployment.weight);
        let total: u64 = candidates().map(weight).sum();
        if total == 0 {
            let count = candidates().count() as u64;
            return candidates().nth(scale(random, count) as usize);
        }
        let mut ticket = scale(random, total);
        candidates().find(|&index| {
            let weight = weight(index);
            let hit = ticket < weight;
            ticket = ticket.saturating_sub(weight);
            hit
        })
    }

    /// Tells the router how the call ended.
    #[expect(clippy::needless_pass_by_value, reason = "a pick is used up by its record")]
    pub fn record(&mut self, pick: Pick, _outcome: Outcome, _now: Instant) {
        let state = &mut self.states[pick.index];
        state.in_flight = state.in_flight.saturating_sub(1);
    }

    /// Returns the deployment at `index`.
    ///
    /// # Panics
    /// If there is none: indexes come from a [`Pick`] of the same router.
    pub fn deployment(&self, index: usize) -> &Deployment {
        &self.states[index].deployment
    }

    /// Returns the calls in flight at `index`.
    ///
    /// # Panics
    /// If there is no such deployment.
    pub fn in_flight(&self, index: usize) -> u32 {
        self.states[index].in_flight
    }

    /// Tells whether a deployment that is neither tried nor excluded is left.
    pub fn has_untried(&self, tried: &[usize], excluded: &[usize]) -> bool {
        (0..self.states.len()).any(|index| !tried.contains(&index) && !excluded.contains(&index))
    }
}

/// Maps a uniform 64-bit number to `0..bound` (0 if `bound` is 0).
fn scale(random: u64, bound: u64) -> u64 {
    ((u128::from(random) * u128::from(bound)) >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    fn start() -> Instant {
        Instant::now()
    }

    fn router(weights: &[u32]) -> Router {
        Router::new(
            weights.iter().enumerate().map(|(i, &weight)| Deployment::new(i.to_string(), weight)),
        )
    }

    /// A spread of random numbers that covers the whole range evenly.
    fn draws(count: u64) -> impl Iterator<Item = u64> {
        (0..count).map(move |i| i * (u64::MAX / count) + u64::MAX / (2 * count))
    }

    #[test]
    fn shares_follow_the_weights() {
        let mut router = router(&[3, 1, 0]);
        let mut counts = [0; 3];
        for random in draws(4000) {
            let pick =
                router.pick(&Request { random, ..Request::default() }, start()).expect("free");
            counts[pick.index()] += 1;
            router.record(pick, Outcome::Success, start());
        }
        assert_eq!(counts, [3000, 1000, 0]);
    }

    #[test]
    fn weight_zero_is_the_last_resort() {
        let mut router = router(&[1, 0]);
        let request = Request { tried: &[0], ..Request::default() };
        let pick = router.pick(&request, start()).expect("free");
        assert_eq!(pick.index(), 1);
        router.record(pick, Outcome::Success, start());
    }

    #[test]
    fn tried_ones_come_back_only_when_no_other_is_left() {
        let mut router = router(&[1, 1, 1]);
        for random in draws(100) {
            let request = Request { tried: &[0, 2], random, ..Request::default() };
            let pick = router.pick(&request, start()).expect("free");
            assert_eq!(pick.index(), 1);
            router.record(pick, Outcome::Failure, start());
        }
        let request = Request { tried: &[0, 1, 2], ..Request::default() };
        let pick = router.pick(&request, start()).expect("a tried one");
        router.record(pick, Outcome::Failure, start());
    }

    #[test]
    fn excluded_ones_are_never_chosen() {
        let mut router = router(&[1, 1]);
        let request = Request { excluded: &[0], tried: &[1], ..Request::default() };
        let pick = router.pick(&request, start()).expect("the tried one");
        assert_eq!(pick.index(), 1);
        let request = Request { excluded: &[0, 1], ..Request::default() };
        assert_eq!(router.pick(&request, start()).expect_err("none"), NoRoute::Excluded);
        router.record(pick, Outcome::Success, start());
    }

    #[test]
    fn a_full_deployment_passes_the_call_on_and_takes_calls_again_after_a_record() {
        let mut router =
            Router::new([Deployment::new("a", 1).with_max_concurrent(1), Deployment::new("b", 0)]);
        let first = router.pick(&Request::default(), start()).expect("a is free");
        let second = router.pick(&Request::default(), start()).expect("b is free");
        assert_eq!((first.index(), second.index()), (0, 1));
        let request = Request { excluded: &[1], ..Request::default() };
        assert_eq!(router.pick(&request, start()).expect_err("a is full"), NoRoute::Busy);
        router.record(first, Outcome::Cancelled, start());
        assert_eq!(router.in_flight(0), 0);
        let third = router.pick(&Request::default(), start()).expect("a is free again");
        assert_eq!(third.index(), 0);
        router.record(second, Outcome::Success, start());
        router.record(third, Outcome::Success, start());
    }
}
