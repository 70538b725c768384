//! Clients, vendors and virtual time around a router. Each request takes the way it takes through a server: pick,
//! call, record, and after a failure whatever the retry policy says.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use llmux_router::{Builtin, Config, NoRoute, Outcome, Pick, Request, RetryPolicy, Router, Step};

use crate::random::Random;
use crate::scenarios::{Arrivals, Scenario};
use crate::vendor::{Ask, Load, milliseconds};

/// As the server's settings are by default.
const RETRY: RetryPolicy = RetryPolicy {
    count: 3,
    backoff: Duration::from_millis(100),
    max_backoff: Duration::from_secs(5),
    jitter: 0.2,
    fallback: true,
};
/// How often a request asks again while every deployment is full.
const BUSY_STEP: Duration = Duration::from_millis(20);

/// A request that is over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Done {
    /// When the client sent it.
    pub(crate) begun: Duration,
    /// The deployment that answered, and after what time: to the first output of a stream, or the end of a whole
    /// answer. `None`: the client was told of a failure.
    pub(crate) answer: Option<(usize, Duration)>,
    pub(crate) attempts: u32,
    /// In pico-dollars.
    pub(crate) cost: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// A client comes.
    Arrive,
    /// A request asks the router.
    Ask(usize),
    /// The call of a request ends.
    End(usize),
}

/// A request under way.
#[derive(Debug)]
struct Task {
    begun: Duration,
    ask: Ask,
    random: Random,
    tried: Vec<usize>,
    call: Option<(Pick, Duration, Outcome)>,
}

/// Runs a scenario with one strategy; the same seed gives the same result. Returns its requests in the order in which
/// they ended.
pub(crate) fn run(scenario: &Scenario, strategy: Builtin, seed: u64) -> Vec<Done> {
    let config = Config { strategy, ..Config::default() };
    let deployments = scenario.vendors.iter().map(|vendor| vendor.deployment());
    let mut simulation = Simulation {
        scenario,
        seed,
        start: start(),
        now: Duration::ZERO,
        router: Router::new(config, deployments),
        loads: scenario.vendors.iter().map(|_| Load::default()).collect(),
        arrivals: Random::new(seed, u64::MAX),
        tasks: Vec::new(),
        events: BinaryHeap::new(),
        serial: 0,
        done: Vec::new(),
    };
    match scenario.arrivals {
        Arrivals::PerSecond(_) => simulation.next_client(),
        Arrivals::Clients { number, .. } => (0..number).for_each(|_| simulation.next_client()),
    }
    while let Some(Reverse((at, _, event))) = simulation.events.pop() {
        simulation.now = at;
        match event {
            Event::Arrive => simulation.arrive(),
            Event::Ask(id) => simulation.ask(id),
            Event::End(id) => simulation.end(id),
        }
    }
    let idle = |index| simulation.router.in_flight(index) == 0;
    assert!((0..scenario.vendors.len()).all(idle), "every pick was recorded");
    simulation.done
}

#[expect(
    clippy::disallowed_methods,
    reason = "any instant will do: only what is added to it counts"
)]
fn start() -> Instant {
    Instant::now()
}

struct Simulation<'a> {
    scenario: &'a Scenario,
    seed: u64,
    start: Instant,
    /// Since the start.
    now: Duration,
    router: Router,
    loads: Vec<Load>,
    arrivals: Random,
    tasks: Vec<Task>,
    /// By time; what happens at the same time keeps its order.
    events: BinaryHeap<Reverse<(Duration, u64, Event)>>,
    serial: u64,
    done: Vec<Done>,
}

impl Simulation<'_> {
    fn schedule(&mut self, after: Duration, event: Event) {
        self.serial += 1;
        self.events.push(Reverse((self.now + after, self.serial, event)));
    }

    /// Lets the next client come after a while, if the scenario lasts so long.
    fn next_client(&mut self) {
        let mean = match self.scenario.arrivals {
            Arrivals::PerSecond(requests) => 1e3 / requests,
            Arrivals::Clients { pause_ms, .. } => pause_ms,
        };
        let after = milliseconds(self.arrivals.exponential(mean));
        if (self.now + after).as_secs() < self.scenario.seconds {
            self.schedule(after, Event::Arrive);
        }
    }

    fn arrive(&mut self) {
        let scenario = self.scenario;
        if matches!(scenario.arrivals, Arrivals::PerSecond(_)) {
            self.next_client();
        }
        let id = self.tasks.len();
        // Each request has its own chance: it is the same request under every strategy.
        let mut random = Random::new(self.seed, id as u64);
        let most = scenario.max_output.unwrap_or(u64::MAX);
        let ask = Ask {
            stream: random.chance(scenario.streams),
            input: random.lognormal(scenario.input_tokens, 0.8).ceil() as u64,
            output: (random.lognormal(scenario.output_tokens, 0.6).ceil() as u64).min(most),
        };
        self.tasks.push(Task { begun: self.now, ask, random, tried: Vec::new(), call: None });
        self.ask(id);
    }

    fn ask(&mut self, id: usize) {
        let now = self.now;
        let task = &mut self.tasks[id];
        let request = request(self.scenario, task.ask, &task.tried);
        let request = Request { random: task.random.next(), ..request };
        match self.router.pick(&request, self.start + now) {
            Ok(pick) => {
                let index = pick.index();
                let vendor = &self.scenario.vendors[index];
                let load = &mut self.loads[index];
                let (takes, outcome) = load.call(vendor, task.ask, now, &mut task.random);
                task.tried.push(index);
                task.call = Some((pick, now, outcome));
                self.schedule(takes, Event::End(id));
            }
            Err(NoRoute::Busy) if task.tried.is_empty() && now < task.begun + RETRY.max_backoff => {
                self.schedule(BUSY_STEP, Event::Ask(id));
            }
            Err(_) => self.finish(id, None, 0),
        }
    }

    fn end(&mut self, id: usize) {
        let task = &mut self.tasks[id];
        let (pick, began, outcome) = task.call.take().expect("only a call that began ends");
        let index = pick.index();
        self.loads[index].in_flight -= 1;
        let now = self.start + self.now;
        self.router.record(pick, outcome, now);
        let failure = match outcome {
            Outcome::Failure(failure) => failure,
            Outcome::Success(measured) => {
                let latency =
                    began + measured.first_output.unwrap_or(measured.duration) - task.begun;
                let cost = self.scenario.vendors[index].cost(task.ask.input, task.ask.output);
                return self.finish(id, Some((index, latency)), cost);
            }
            Outcome::Cancelled | Outcome::Unsent => return self.finish(id, None, 0),
        };
        let request = request(self.scenario, task.ask, &task.tried);
        let left = self.router.left(&request, now);
        let attempts = task.tried.len() as u32;
        match RETRY.after(&failure, attempts, left, task.random.next()) {
            Step::Elsewhere => self.ask(id),
            Step::Again { delay } => self.schedule(delay, Event::Ask(id)),
            Step::NextModel | Step::GiveUp => self.finish(id, None, 0),
        }
    }

    fn finish(&mut self, id: usize, answer: Option<(usize, Duration)>, cost: u64) {
        let task = &self.tasks[id];
        let attempts = task.tried.len() as u32;
        self.done.push(Done { begun: task.begun, answer, attempts, cost });
        if matches!(self.scenario.arrivals, Arrivals::Clients { .. }) {
            self.next_client();
        }
    }
}

/// What a server would tell the router of a request.
fn request<'a>(scenario: &Scenario, ask: Ask, tried: &'a [usize]) -> Request<'a> {
    Request {
        tried,
        stream: ask.stream,
        input_tokens: ask.input,
        max_output_tokens: scenario.max_output,
        ..Request::default()
    }
}
