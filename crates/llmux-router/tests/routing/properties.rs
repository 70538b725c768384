//! What holds after any history.

use std::time::{Duration, Instant};

use llmux_router::{
    Builtin, Config, Deployment, Failure, FailureClass, Measured, NoRoute, Outcome, Pick, Request,
    Router, TagMatch,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::model::{Call, Model, Rank, Settings};
use super::support::{Chance, milliseconds, seconds, start, stream, whole};

#[derive(Clone, Debug)]
enum Operation {
    Pick { tried: u8, excluded: u8, full: u8, tags: u8, stream: bool, random: u64 },
    Record { which: usize, ending: Ending },
    Pass { milliseconds: u64 },
    Cooldown { which: usize, seconds: Option<u64> },
    Reconfigure { strategy: Builtin, deployments: Vec<(usize, Settings)> },
}

#[derive(Clone, Copy, Debug)]
enum Ending {
    Whole,
    Stream,
    Cancelled,
    Unsent,
    Failed(FailureClass, Option<u64>),
}

impl Ending {
    fn outcome(self) -> Outcome {
        match self {
            Self::Whole => Outcome::Success(whole(700, 100)),
            Self::Stream => Outcome::Success(stream(150, 900, 30)),
            Self::Cancelled => Outcome::Cancelled,
            Self::Unsent => Outcome::Unsent,
            Self::Failed(class, asked) => {
                Outcome::Failure(Failure { class, retry_after: asked.map(seconds) })
            }
        }
    }
}

const CLASSES: [FailureClass; 11] = [
    FailureClass::Connect,
    FailureClass::Timeout,
    FailureClass::RateLimited,
    FailureClass::Overloaded,
    FailureClass::Server,
    FailureClass::Malformed,
    FailureClass::Credential,
    FailureClass::Forbidden,
    FailureClass::Request,
    FailureClass::ContextWindow,
    FailureClass::ContentPolicy,
];

fn ending() -> impl Strategy<Value = Ending> {
    let class = proptest::sample::select(&CLASSES[..]);
    prop_oneof![
        3 => Just(Ending::Whole),
        2 => Just(Ending::Stream),
        1 => Just(Ending::Cancelled),
        1 => Just(Ending::Unsent),
        6 => (class, option::of(0..90_u64)).prop_map(|(class, asked)| Ending::Failed(class, asked)),
    ]
}

fn settings() -> impl Strategy<Value = Settings> {
    (0..4_u32, option::weighted(0.3, 1..6_u64), option::weighted(0.3, 1..4_u32), 0..8_u8).prop_map(
        |(weight, rpm, max_concurrent, tags)| Settings { weight, rpm, max_concurrent, tags },
    )
}

/// One to five deployments out of six, in any order.
fn deployments() -> impl Strategy<Value = Vec<(usize, Settings)>> {
    let ids = Just((0..6).collect::<Vec<usize>>()).prop_shuffle();
    (ids, vec(settings(), 1..6)).prop_map(|(ids, settings)| ids.into_iter().zip(settings).collect())
}

fn strategy() -> impl Strategy<Value = Builtin> {
    proptest::sample::select(&Builtin::ALL[..])
}

/// Few of five bits, mostly none.
fn some() -> impl Strategy<Value = u8> {
    prop_oneof![3 => Just(0_u8), 1 => 0..32_u8]
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        8 => (some(), some(), some(), some(), any::<bool>(), any::<u64>()).prop_map(
            |(tried, excluded, full, tags, stream, random)| Operation::Pick {
                tried, excluded, full, tags, stream, random
            }
        ),
        6 => (any::<usize>(), ending()).prop_map(|(which, ending)| Operation::Record { which, ending }),
        3 => prop_oneof![0..3_000_u64, 0..70_000_u64].prop_map(|milliseconds| Operation::Pass { milliseconds }),
        1 => (any::<usize>(), option::of(0..90_u64))
            .prop_map(|(which, seconds)| Operation::Cooldown { which, seconds }),
        1 => (strategy(), deployments())
            .prop_map(|(strategy, deployments)| Operation::Reconfigure { strategy, deployments }),
    ]
}

fn indexes(bits: u8) -> Vec<usize> {
    (0..5).filter(|bit| bits >> bit & 1 == 1).collect()
}

const TAGS: [&str; 3] = ["x", "y", "default"];

fn tag_names(bits: u8) -> Vec<String> {
    let set = TAGS.iter().enumerate().filter(|(bit, _)| bits >> bit & 1 == 1);
    set.map(|(_, name)| (*name).to_owned()).collect()
}

fn built((id, settings): (usize, Settings)) -> Deployment {
    let mut deployment =
        Deployment::new(format!("d{id}")).weight(settings.weight).tags(tag_names(settings.tags));
    if let Some(rpm) = settings.rpm {
        deployment = deployment.requests_per_minute(rpm);
    }
    if let Some(most) = settings.max_concurrent {
        deployment = deployment.max_concurrent(most);
    }
    deployment
}

/// The real router, a twin that is told the same, and the model.
struct World {
    router: Router,
    twin: Router,
    model: Model,
    strategy: Builtin,
    now: Instant,
    out: Vec<(Pick, Pick, Call)>,
}

impl World {
    fn new(strategy: Builtin, deployments: &[(usize, Settings)]) -> Self {
        let now = start();
        let config = Config { strategy, tag_match: TagMatch::Any, ..Config::default() };
        let router = || Router::new(config.clone(), deployments.iter().copied().map(built));
        let (mut router, mut twin) = (router(), router());
        let mut model = Model::new(now);
        model.reconfigure(deployments);
        // Time begins for all three.
        for router in [&mut router, &mut twin] {
            assert!(router.explain(&Request::default(), now).candidates.len() <= deployments.len());
        }
        Self { router, twin, model, strategy, now, out: Vec::new() }
    }

    /// Which tags a deployment must have one of.
    fn tag_filter(&self, request: &Request<'_>, asked: u8) -> Result<Option<u8>, NoRoute> {
        if self.strategy != Builtin::TagBased {
            return Ok(None);
        }
        let anyone = |tags: u8| {
            let mut all = self.model.deployments.iter().enumerate();
            all.any(|(index, it)| {
                !request.excluded.contains(&index) && it.settings.tags & tags != 0
            })
        };
        let asked = asked & 0b111;
        match asked {
            tags if anyone(tags) => Ok(Some(tags)),
            _ if anyone(0b100) => Ok(Some(0b100)),
            0 => Ok(None),
            _ => Err(NoRoute::Tags),
        }
    }

    fn pick(&mut self, request: &Request<'_>, asked_tags: u8) {
        let now = self.now;
        let told = self.router.explain(request, now);
        let filter = self.tag_filter(request, asked_tags);
        let count = self.model.deployments.len();
        let rank = |index| self.model.rank(index, request, filter.ok().flatten(), now);
        let ranks: Vec<Option<Rank>> = (0..count).map(rank).collect();
        let best = ranks.iter().flatten().min().copied().filter(|_| filter.is_ok());
        let eligible = (0..count).filter(|&index| best.is_some() && ranks[index] == best);
        let eligible: Vec<usize> = eligible.collect();
        let seen: Vec<usize> = told.candidates.iter().map(|it| it.index).collect();
        assert_eq!(seen, eligible, "candidates; the model ranks {ranks:?}");
        let fresh = matches!(best, Some(Rank::Fresh | Rank::Standby | Rank::Cooling));
        assert_eq!(self.router.left(request, now).deployments, fresh);
        let picks = [self.router.pick(request, now), self.twin.pick(request, now)];
        match picks {
            [Ok(pick), Ok(same)] => {
                assert_eq!(pick.index(), same.index(), "equal inputs, equal picks");
                assert_eq!(pick.why(), same.why());
                assert!(eligible.contains(&pick.index()), "{} of {eligible:?}", pick.index());
                assert_eq!(told.index, Some(pick.index()), "explain tells the pick");
                let call = self.model.picked(pick.index(), now);
                self.out.push((pick, same, call));
            }
            [Err(refused), Err(same)] => {
                assert_eq!(refused, same);
                assert_eq!(eligible, [0; 0], "{refused}");
            }
            other => panic!("equal inputs, but {other:?}"),
        }
    }

    fn record(&mut self, at: usize, ending: Ending) {
        let (pick, same, call) = self.out.swap_remove(at);
        let outcome = ending.outcome();
        self.router.record(pick, outcome, self.now);
        self.twin.record(same, outcome, self.now);
        self.model.recorded(call, outcome, self.now);
    }

    fn apply(&mut self, operation: Operation) {
        match operation {
            Operation::Pick { tried, excluded, full, tags, stream, random } => {
                let names = tag_names(tags);
                let request = Request {
                    tried: &indexes(tried),
                    excluded: &indexes(excluded),
                    full: &indexes(full),
                    tags: &names,
                    stream,
                    random,
                    ..Request::default()
                };
                self.pick(&request, tags);
            }
            Operation::Record { which, ending } => {
                if !self.out.is_empty() {
                    self.record(which % self.out.len(), ending);
                }
            }
            Operation::Pass { milliseconds: time } => self.now += milliseconds(time),
            Operation::Cooldown { which, seconds: period } => {
                let index = which % self.model.deployments.len();
                let period = period.map(seconds);
                self.router.set_cooldown(index, period, self.now);
                self.twin.set_cooldown(index, period, self.now);
                self.model.set_cooldown(index, period, self.now);
            }
            Operation::Reconfigure { strategy, deployments } => {
                let config = Config { strategy, ..Config::default() };
                for router in [&mut self.router, &mut self.twin] {
                    router.reconfigure(config.clone(), deployments.iter().copied().map(built));
                }
                self.strategy = strategy;
                self.model.reconfigure(&deployments);
                // The model forgets the calls of those that are gone.
                let model = &self.model;
                let (kept, gone) = std::mem::take(&mut self.out)
                    .into_iter()
                    .partition(|(_, _, call)| model.deployments.iter().any(|it| it.id == call.id));
                self.out = kept;
                let gone: Vec<(Pick, Pick, Call)> = gone;
                for (pick, same, _) in gone {
                    self.router.record(pick, Outcome::Cancelled, self.now);
                    self.twin.record(same, Outcome::Cancelled, self.now);
                }
            }
        }
        for (index, it) in self.model.deployments.iter().enumerate() {
            assert_eq!(self.router.in_flight(index), it.in_flight);
        }
    }

    /// Ends all calls; nothing may be left in flight.
    fn settle(&mut self) {
        while !self.out.is_empty() {
            self.record(self.out.len() - 1, Ending::Cancelled);
        }
        for index in 0..self.model.deployments.len() {
            assert_eq!(self.router.in_flight(index), 0);
        }
    }

    /// Waits as long as it is told to; after that a pick must succeed.
    fn wait_it_out(&mut self) {
        for _ in 0..4 {
            let wait = match self.router.pick(&Request::default(), self.now) {
                Ok(pick) => return self.router.record(pick, Outcome::Unsent, self.now),
                Err(NoRoute::Limited { retry_after: Some(wait) }) => wait,
                Err(NoRoute::Cooling { retry_after, .. }) => retry_after,
                Err(refused) => panic!("nothing is in flight or excluded, but {refused:?}"),
            };
            assert!(wait > Duration::ZERO && wait <= seconds(90), "{wait:?}");
            self.now += wait;
        }
        panic!("locked out");
    }

    /// After two quiet minutes the last one is forgotten.
    fn windows_roll(&mut self) {
        self.now += seconds(120);
        for index in 0..self.model.deployments.len() {
            let snapshot = self.router.snapshot(index, self.now);
            let counts = (snapshot.requests, snapshot.tokens, snapshot.calls, snapshot.failures);
            assert_eq!(counts, (0, 0, 0, 0));
        }
    }
}

fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn after_any_history_the_router_agrees_with_the_model_and_locks_nobody_out(
        strategy in strategy(),
        deployments in deployments(),
        operations in vec(operation(), 1..80),
    ) {
        let mut world = World::new(strategy, &deployments);
        for operation in operations {
            world.apply(operation);
        }
        world.settle();
        world.wait_it_out();
        world.windows_roll();
    }

    #[test]
    fn nobody_starves(
        strategy in proptest::sample::select(vec![
            Builtin::SimpleShuffle, Builtin::RoundRobin, Builtin::LeastBusy,
        ]),
        weights in vec(1..10_u32, 1..6),
        seed in any::<u64>(),
        hold in any::<bool>(),
    ) {
        let deployments = weights.iter().enumerate().map(|(index, &weight)| {
            Deployment::new(format!("d{index}")).weight(weight)
        });
        let mut router =
            Router::new(Config { strategy, ..Config::default() }, deployments);
        let now = start();
        let mut chance = Chance(seed);
        let mut picked = vec![0_u32; weights.len()];
        // The smallest possible share is 1 / 37: a gap of so many draws has a chance of less than 1e-11.
        for _ in 0..1000 {
            let request = Request { random: chance.next(), ..Request::default() };
            let pick = router.pick(&request, now).expect("all are well");
            picked[pick.index()] += 1;
            if !hold {
                router.record(pick, Outcome::Success(Measured::default()), now);
            }
        }
        prop_assert!(picked.iter().all(|&count| count > 0), "{picked:?} by {weights:?}");
        if strategy == Builtin::RoundRobin {
            let total: u32 = weights.iter().sum();
            for (&count, &weight) in picked.iter().zip(&weights) {
                let due = f64::from(weight) * 1000.0 / f64::from(total);
                prop_assert!((f64::from(count) - due).abs() <= 1.0 * weights.len() as f64);
            }
        }
    }

    #[test]
    fn time_that_goes_back_harms_nothing(
        strategy in strategy(),
        deployments in deployments(),
        steps in vec((any::<u64>(), -3_000..3_000_i64, ending()), 1..60),
    ) {
        let mut router = Router::new(
            Config { strategy, ..Config::default() },
            deployments.iter().copied().map(built),
        );
        let mut now = start() + seconds(1000);
        let mut out = Vec::new();
        for (random, shift, ending) in steps {
            let by = milliseconds(shift.unsigned_abs());
            now = if shift < 0 { now - by } else { now + by };
            let request = Request { random, stream: random % 2 == 0, ..Request::default() };
            let told = router.explain(&request, now).index;
            if let Ok(pick) = router.pick(&request, now) {
                prop_assert_eq!(told, Some(pick.index()));
                out.push(pick);
            }
            if random % 3 > 0 && !out.is_empty() {
                let at = usize::try_from(random % out.len() as u64).expect("small");
                router.record(out.swap_remove(at), ending.outcome(), now);
            }
        }
        for pick in out {
            router.record(pick, Outcome::Cancelled, now);
        }
        for index in 0..deployments.len() {
            prop_assert_eq!(router.in_flight(index), 0);
        }
    }
}
