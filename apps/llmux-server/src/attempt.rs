//! The choice of a deployment for a request, and the place that it takes there.

use std::sync::Arc;
use std::time::{Duration, Instant};

use llmux_auth::tenants::UsageStatus;
use llmux_providers::Summary;
use llmux_router::{Decision, Left, Measured, NoRoute, Outcome, Pick, Request, Router, Why};
use llmux_types::FailureClass;

use crate::catalog::{Deployment, Route};
use crate::charge::{Charge, Charged, End, Produced};
use crate::error::Failed;
use crate::names::{is_pattern, own};
use crate::traces::{CallEnd, CallTrace};

/// A route, and what of it one request may use.
#[derive(Clone, Debug)]
pub(crate) struct Resolved {
    pub(crate) route: Arc<Route>,
    /// The name that was looked up.
    pub(crate) name: String,
    /// Deployments of other providers than the one the client named.
    pub(crate) excluded: Vec<usize>,
    /// Deployments that cannot take the request, as far as is known.
    pub(crate) unable: Vec<usize>,
    /// The model's name without the provider's, where the client put that before it.
    pub(crate) asked: String,
}

/// One call's place at a deployment, and its money. Dropped without a word it counts as cancelled.
#[derive(Debug)]
pub(crate) struct Attempt {
    route: Arc<Route>,
    pick: Option<Pick>,
    pub(crate) deployment: Arc<Deployment>,
    pub(crate) index: usize,
    started: Instant,
    /// From the start to the first output.
    first_output: Option<Duration>,
    /// From the moment on when the vendor gets to see the call.
    charge: Option<Charge>,
    /// The vendor's HTTP status.
    status_code: Option<u16>,
    produced: Produced,
    /// The client's time was over.
    is_left: bool,
    /// `None` if the request is not recorded.
    pub(crate) trace: Option<Box<CallTrace>>,
}

impl Attempt {
    /// Returns why this deployment was chosen.
    pub(crate) fn why(&self) -> Option<Why> {
        self.pick.as_ref().map(|pick| *pick.why())
    }

    /// Takes the money for the call that is now made.
    pub(crate) fn begin(&mut self, charge: Charge) {
        self.charge = Some(charge);
    }

    /// Takes note of the status that the vendor answered with.
    pub(crate) const fn note_status(&mut self, status: http::StatusCode) {
        self.status_code = Some(status.as_u16());
    }

    /// Takes note of what has come so far.
    pub(crate) const fn note(&mut self, produced: Produced) {
        self.produced = produced;
    }

    /// Takes note of why the answer ended.
    pub(crate) fn note_finish(&mut self, summary: &Summary) {
        if let Some(trace) = &mut self.trace {
            trace.note_finish(summary.finish_reason.as_deref());
        }
    }

    /// Takes note of the first output.
    pub(crate) fn note_output(&mut self) {
        if self.first_output.is_none() {
            self.first_output = Some(self.started.elapsed());
            if let Some(pick) = self.pick.as_mut().filter(|pick| pick.is_trial()) {
                self.route.router().note_output(pick, Instant::now());
            }
        }
    }

    pub(crate) fn succeed(mut self: Box<Self>) -> Charged {
        let usage = self.produced.usage.unwrap_or_default();
        let sum =
            || Some(usage.prompt_tokens?.saturating_add(usage.completion_tokens.unwrap_or(0)));
        self.record(Outcome::Success(Measured {
            first_output: self.first_output,
            duration: self.started.elapsed(),
            output_tokens: usage.completion_tokens,
            total_tokens: usage.total_tokens.or_else(sum),
        }));
        self.settle(UsageStatus::Success, None)
    }

    pub(crate) fn fail(mut self: Box<Self>, failed: &Failed) -> Charged {
        self.record(match failed.is_deadline() {
            true => Outcome::Cancelled,
            false => Outcome::Failure(failed.failure()),
        });
        self.status_code = self.status_code.or_else(|| failed.status_code());
        self.is_left = failed.is_deadline();
        self.settle(UsageStatus::Failure, Some(failed.class))
    }

    /// The client left.
    pub(crate) fn cancel(mut self: Box<Self>) -> Charged {
        self.record(Outcome::Cancelled);
        self.settle(UsageStatus::Cancelled, None)
    }

    /// Gives the place back unused.
    pub(crate) fn unsent(mut self: Box<Self>) {
        self.record(Outcome::Unsent);
    }

    fn settle(&mut self, status: UsageStatus, class: Option<FailureClass>) -> Charged {
        let Some(charge) = self.charge.take() else { return Charged::default() };
        self.deployment.meter.ended(status, class, self.started.elapsed());
        let end = End {
            status,
            status_code: self.status_code,
            error: class.map(FailureClass::as_str),
            first_output: self.first_output,
            by_client: self.is_left || status == UsageStatus::Cancelled,
        };
        let charged = charge.settle(&end, &self.produced);
        if let Some(trace) = self.trace.take() {
            trace.end(&CallEnd {
                deployment: &self.deployment,
                status,
                status_code: self.status_code,
                class,
                usage: self.produced.usage,
                first_output: self.first_output,
                cost: charged.cost,
            });
        }
        charged
    }

    fn record(&mut self, outcome: Outcome) {
        if let Some(pick) = self.pick.take() {
            self.deployment.provider.leave();
            self.route.router().record(pick, outcome, Instant::now());
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.record(Outcome::Cancelled);
        self.settle(UsageStatus::Cancelled, None);
    }
}

/// What the choice of a deployment depends on besides the deployments.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts<'a> {
    pub(crate) tags: &'a [String],
    pub(crate) stream: bool,
    /// Estimated.
    pub(crate) input_tokens: u64,
    /// Of all answers together.
    pub(crate) max_output_tokens: Option<u64>,
    /// Whether all vendors read that maximum alike.
    pub(crate) is_sure: bool,
    /// How many answers are asked for.
    pub(crate) choices: u64,
}

impl Resolved {
    /// Returns the model's name in limits, budgets and records: the configured one; that of a wildcard is the wanted
    /// one without the provider's.
    pub(crate) fn counted_as(&self) -> &str {
        if !is_pattern(&self.route.name) {
            return &self.route.name;
        }
        let of = |deployment: &Arc<Deployment>| own(&deployment.provider.name, &self.asked);
        self.route.deployments.iter().find_map(of).unwrap_or(&self.asked)
    }

    /// Returns all names that fallback lists may know the model by.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        [&self.name, &self.asked, &self.route.name].into_iter().map(String::as_str)
    }

    /// Takes a place at the deployment that the router chooses.
    pub(crate) fn pick(&self, tried: &[usize], facts: &Facts<'_>) -> Result<Box<Attempt>, NoRoute> {
        let route = &self.route;
        let mut full = self.full();
        loop {
            let request = Request { full: &full, ..self.request(tried, facts) };
            let now = Instant::now();
            let mut router = route.router();
            let moved = self.moved(&router, &request);
            let pick = match &moved {
                Some(moved) => router.pick(&moved.of(&request), now)?,
                None => router.pick(&request, now)?,
            };
            let index = match moved {
                Some(_) => route.position(router.deployment(pick.index()).id()),
                None => Some(pick.index()),
            };
            drop(router);
            let index = index.expect("what the route does not have is excluded");
            let deployment = Arc::clone(&route.deployments[index]);
            if deployment.provider.enter() {
                return Ok(Box::new(Attempt {
                    route: Arc::clone(route),
                    pick: Some(pick),
                    deployment,
                    index,
                    started: now,
                    first_output: None,
                    charge: None,
                    status_code: None,
                    produced: Produced::default(),
                    is_left: false,
                    trace: None,
                }));
            }
            // The last place went to another worker since we looked.
            route.router().record(pick, Outcome::Unsent, now);
            full.push(index);
        }
    }

    /// Returns the deployments whose provider has no place left.
    fn full(&self) -> Vec<usize> {
        let is_full = |index: &usize| self.route.deployments[*index].provider.is_full();
        (0..self.route.deployments.len()).filter(is_full).collect()
    }

    fn request<'a>(&'a self, tried: &'a [usize], facts: &Facts<'a>) -> Request<'a> {
        Request {
            tried,
            excluded: &self.excluded,
            unable: &self.unable,
            full: &[],
            tags: facts.tags,
            stream: facts.stream,
            input_tokens: facts.input_tokens,
            max_output_tokens: facts.max_output_tokens,
            random: fastrand::u64(..),
        }
    }

    /// Says which deployments are left for the request.
    pub(crate) fn left(&self, tried: &[usize], facts: &Facts<'_>) -> Left {
        let full = self.full();
        let request = Request { full: &full, ..self.request(tried, facts) };
        let mut router = self.route.router();
        match self.moved(&router, &request) {
            Some(moved) => router.left(&moved.of(&request), Instant::now()),
            None => router.left(&request, Instant::now()),
        }
    }

    /// Says what [`Resolved::pick`] would do, and why; `None` if another configuration changed the deployments.
    pub(crate) fn explain(&self, facts: &Facts<'_>) -> Option<Decision> {
        let full = self.full();
        let request = Request { full: &full, ..self.request(&[], facts) };
        let mut router = self.route.router();
        self.route.is_current(&router).then(|| router.explain(&request, Instant::now()))
    }

    /// Finds the route's deployments in a router that another configuration changed; `None`: they are where they were.
    fn moved(&self, router: &Router, request: &Request<'_>) -> Option<Moved> {
        if self.route.is_current(router) {
            return None;
        }
        let position = |&index: &usize| router.index_of(&self.route.deployments[index].id);
        let all = |indexes: &[usize]| indexes.iter().filter_map(position).collect();
        let is_new = |&index: &usize| self.route.position(router.deployment(index).id()).is_none();
        let mut excluded: Vec<usize> = all(request.excluded);
        excluded.extend((0..router.len()).filter(is_new));
        Some(Moved {
            tried: all(request.tried),
            excluded,
            unable: all(request.unable),
            full: all(request.full),
        })
    }
}

/// The deployments that matter for a request, at their positions in a changed router. Its new ones are excluded.
struct Moved {
    tried: Vec<usize>,
    excluded: Vec<usize>,
    unable: Vec<usize>,
    full: Vec<usize>,
}

impl Moved {
    fn of<'a>(&'a self, request: &Request<'a>) -> Request<'a> {
        Request {
            tried: &self.tried,
            excluded: &self.excluded,
            unable: &self.unable,
            full: &self.full,
            ..*request
        }
    }
}
