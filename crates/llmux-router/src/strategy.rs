//! How to choose among eligible deployments.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::config::Builtin;
use crate::deployment::Price;

/// A strategy of your own; see [`Router::with_strategy`](crate::Router::with_strategy).
///
/// # Examples
/// ```
/// use std::time::Instant;
/// use llmux_router::{Candidate, Config, Deployment, Draw, NoRoute, Request, Router, Strategy};
///
/// /// Always the first of those that are eligible.
/// #[derive(Debug)]
/// struct InOrder;
///
/// impl Strategy for InOrder {
///     fn name(&self) -> &'static str {
///         "in-order"
///     }
///
///     fn choose(&self, _: &[Candidate<'_>], _: Draw) -> usize {
///         0
///     }
/// }
///
/// let deployments = [Deployment::new("own hardware").max_concurrent(1), Deployment::new("cloud")];
/// let mut router =
///     Router::new(Config::default(), deployments).with_strategy(Box::new(InOrder));
/// let now = Instant::now();
/// let first = router.pick(&Request::default(), now)?;
/// let second = router.pick(&Request::default(), now)?;
/// assert_eq!((first.index(), second.index()), (0, 1));
/// # Ok::<(), NoRoute>(())
/// ```
pub trait Strategy: fmt::Debug + Send {
    /// Returns the name for decisions and logs.
    fn name(&self) -> &'static str;

    /// Returns an index into `candidates`, which is never empty. An index beyond its end chooses the last.
    ///
    /// Called for dry runs too: what must change with a pick changes in [`Strategy::picked`].
    fn choose(&self, candidates: &[Candidate<'_>], draw: Draw) -> usize;

    /// Takes note that the deployment `id` was picked.
    fn picked(&mut self, id: &str) {
        let _ = id;
    }
}

/// One eligible deployment, as a [`Strategy`] sees it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Candidate<'a> {
    /// Its name.
    pub id: &'a str,
    /// Its weight; 1 if none was set.
    pub weight: u32,
    /// Calls without an outcome so far.
    pub in_flight: u32,
    /// Requests of the last minute.
    pub requests: u64,
    /// Tokens of the last minute, reserved ones included.
    pub tokens: u64,
    /// The expected time to this request's first output (streams) or whole answer. `None`: nothing is known.
    pub latency: Option<Duration>,
    /// The share of recent calls that ended well, 0 to 1.
    pub success_rate: f64,
    /// Its price.
    pub price: Price,
}

/// The chance of one decision.
#[derive(Clone, Copy, Debug)]
pub struct Draw {
    /// A uniformly random number, from [`Request::random`](crate::Request::random).
    pub random: u64,
}

impl Draw {
    /// Returns a number below `bound`, 0 if that is 0.
    pub fn below(self, bound: u64) -> u64 {
        scale(self.random, bound)
    }
}

/// Maps a uniform 64-bit number to `0..bound` (0 if `bound` is 0).
pub(crate) fn scale(random: u64, bound: u64) -> u64 {
    ((u128::from(random) * u128::from(bound)) >> 64) as u64
}

/// What a strategy saw in a deployment: the figure it compared.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// The share of the draw.
    Weight(u64),
    /// Milliseconds expected until the first output, or the end of a whole answer, failures considered.
    ExpectedMs(f64),
    /// Nothing is known of its speed.
    Unmeasured,
    /// Nothing recent is known of its speed; the figure is the old expectation in milliseconds.
    Outdated(f64),
    /// Calls in flight and recent failures, relative to the weight.
    Busy(f64),
    /// The used share of the nearest limit, 0 to 1; this request included.
    LimitShare(f64),
    /// Expected cost of the request in pico-dollars.
    PicoDollars(u128),
    /// The price is unknown; the figure is the dearest known cost of the others, in pico-dollars.
    UnknownPrice(u128),
    /// Turns waited for, in units of weight.
    Turn(i64),
    /// A strategy of the embedder's own does not say.
    Own,
}

impl fmt::Display for Measure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Weight(weight) => write!(out, "weight={weight}"),
            Self::ExpectedMs(ms) => write!(out, "expected_ms={ms:.1}"),
            Self::Unmeasured => out.write_str("unmeasured"),
            Self::Outdated(ms) => write!(out, "outdated_ms={ms:.1}"),
            Self::Busy(busy) => write!(out, "busy={busy:.2}"),
            Self::LimitShare(share) => write!(out, "limit_share={share:.3}"),
            Self::PicoDollars(cost) => write!(out, "pico_dollars={cost}"),
            Self::UnknownPrice(cost) => write!(out, "price=unknown,assumed_pico_dollars={cost}"),
            Self::Turn(turn) => write!(out, "turn={turn}"),
            Self::Own => out.write_str("own"),
        }
    }
}

/// The name of what chooses: a built-in strategy or an embedder's own.
#[derive(Debug)]
pub(crate) enum Chooser {
    Builtin(Builtin),
    Own(Box<dyn Strategy>),
}

impl Chooser {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Builtin(builtin) => builtin.as_str(),
            Self::Own(own) => own.name(),
        }
    }
}

/// Draws among `candidates` with a chance proportional to their shares; evenly if all are 0.
pub(crate) fn draw(
    random: u64,
    candidates: &[usize],
    share: impl Fn(usize) -> u64,
) -> Option<usize> {
    let total = candidates.iter().fold(0_u64, |sum, &index| sum.saturating_add(share(index)));
    if total == 0 {
        let at = usize::try_from(scale(random, candidates.len() as u64)).ok()?;
        return candidates.get(at).copied();
    }
    let mut ticket = scale(random, total);
    candidates.iter().copied().find(|&index| {
        let share = share(index);
        let hit = ticket < share;
        ticket = ticket.saturating_sub(share);
        hit
    })
}

/// Collects into `kept` the candidates whose figure exceeds the smallest by at most the share `buffer`. `figures` has
/// one for each candidate.
pub(crate) fn within(candidates: &[usize], figures: &[f64], buffer: f64, kept: &mut Vec<usize>) {
    let least = figures.iter().copied().fold(f64::INFINITY, f64::min);
    // The last term takes in what differs by rounding only.
    let bound = least + least.abs() * buffer + 1e-12;
    kept.clear();
    let pairs = candidates.iter().zip(figures);
    kept.extend(pairs.filter(|(_, figure)| **figure <= bound).map(|(index, _)| *index));
}
