//! A router, a clock that stands still until it is moved, and repeatable chance.

use std::time::{Duration, Instant};

use llmux_router::{
    Builtin, Config, Deployment, Failure, FailureClass, Measured, NoRoute, Outcome, Pick, Request,
    Router,
};

/// Any moment; tests go on from here by adding to it.
#[expect(clippy::disallowed_methods, reason = "any instant will do")]
pub(crate) fn start() -> Instant {
    Instant::now()
}

pub(crate) fn milliseconds(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

pub(crate) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(crate) fn failure(class: FailureClass) -> Failure {
    Failure { class, retry_after: None }
}

/// An answer that came whole.
pub(crate) fn whole(duration: u64, output_tokens: u64) -> Measured {
    Measured {
        duration: milliseconds(duration),
        output_tokens: Some(output_tokens),
        ..Measured::default()
    }
}

/// An answer that came as a stream.
pub(crate) fn stream(first_output: u64, duration: u64, output_tokens: u64) -> Measured {
    Measured { first_output: Some(milliseconds(first_output)), ..whole(duration, output_tokens) }
}

pub(crate) const STREAM: Request<'static> = Request {
    tried: &[],
    excluded: &[],
    unable: &[],
    full: &[],
    tags: &[],
    stream: true,
    input_tokens: 0,
    max_output_tokens: None,
    random: 0,
};

/// SplitMix64.
#[derive(Debug)]
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[derive(Debug)]
pub(crate) struct Lab {
    pub(crate) router: Router,
    pub(crate) now: Instant,
    pub(crate) deployments: usize,
    chance: Chance,
}

impl Lab {
    pub(crate) fn with(config: Config, deployments: Vec<Deployment>) -> Self {
        let count = deployments.len();
        let router = Router::new(config, deployments);
        Self { router, now: start(), deployments: count, chance: Chance(1) }
    }

    pub(crate) fn of(strategy: Builtin, deployments: Vec<Deployment>) -> Self {
        Self::with(Config { strategy, ..Config::default() }, deployments)
    }

    pub(crate) fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    pub(crate) fn try_pick(&mut self, request: &Request<'_>) -> Result<Pick, NoRoute> {
        let request = Request { random: self.chance.next(), ..*request };
        self.router.pick(&request, self.now)
    }

    pub(crate) fn pick_for(&mut self, request: &Request<'_>) -> Pick {
        self.try_pick(request).expect("a deployment is eligible")
    }

    pub(crate) fn pick(&mut self) -> Pick {
        self.pick_for(&Request::default())
    }

    /// Picks the deployment at `index`, by excluding all others.
    pub(crate) fn pick_at(&mut self, index: usize) -> Pick {
        let others: Vec<usize> = (0..self.deployments).filter(|&other| other != index).collect();
        let pick = self.pick_for(&Request { excluded: &others, ..Request::default() });
        assert_eq!(pick.index(), index);
        pick
    }

    pub(crate) fn cancel(&mut self, pick: Pick) {
        self.router.record(pick, Outcome::Cancelled, self.now);
    }

    pub(crate) fn unsend(&mut self, pick: Pick) {
        self.router.record(pick, Outcome::Unsent, self.now);
    }

    pub(crate) fn succeed(&mut self, pick: Pick, measured: Measured) {
        self.router.record(pick, Outcome::Success(measured), self.now);
    }

    pub(crate) fn fail(&mut self, pick: Pick, class: FailureClass) {
        self.router.record(pick, Outcome::Failure(failure(class)), self.now);
    }

    /// Lets the deployment at `index` fail `times` in a row.
    pub(crate) fn fail_at(&mut self, index: usize, class: FailureClass, times: usize) {
        for _ in 0..times {
            let pick = self.pick_at(index);
            self.fail(pick, class);
        }
    }

    /// Lets the deployment at `index` answer.
    pub(crate) fn answer_at(&mut self, index: usize, measured: Measured) {
        let pick = self.pick_at(index);
        self.succeed(pick, measured);
    }

    /// Makes `calls` calls, each of which ends well before the next begins, and returns the deployments' shares.
    pub(crate) fn shares(&mut self, calls: u32, request: &Request<'_>) -> Vec<f64> {
        let mut counts = vec![0_u32; self.deployments];
        for _ in 0..calls {
            let pick = self.pick_for(request);
            counts[pick.index()] += 1;
            self.router.record(pick, Outcome::Success(Measured::default()), self.now);
        }
        counts.into_iter().map(|count| f64::from(count) / f64::from(calls)).collect()
    }

    /// Makes `calls` calls that do not end, and returns how many each deployment got.
    pub(crate) fn counts_in_flight(&mut self, calls: u32, request: &Request<'_>) -> Vec<u32> {
        for _ in 0..calls {
            // The call stays in flight: a pick does nothing by itself when it is dropped.
            drop(self.pick_for(request));
        }
        (0..self.deployments).map(|index| self.router.in_flight(index)).collect()
    }

    pub(crate) fn state(&mut self, index: usize) -> &'static str {
        self.router.snapshot(index, self.now).state
    }
}

/// Asserts that shares are what they should be, but for chance.
#[track_caller]
pub(crate) fn assert_shares(shares: &[f64], expected: &[f64]) {
    let close =
        shares.iter().zip(expected).all(|(share, expected)| (share - expected).abs() < 0.03);
    assert!(shares.len() == expected.len() && close, "{shares:?} instead of {expected:?}");
}
