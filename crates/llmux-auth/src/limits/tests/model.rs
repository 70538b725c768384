//! Random histories against a model that keeps every event and counts anew each time.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// What happens next. Indices choose among what is there, modulo its number.
#[derive(Clone, Debug)]
enum Step {
    Reserve {
        scopes: u8,
        tokens: u64,
    },
    SettleTokens {
        held: usize,
        tokens: u64,
    },
    Refund {
        held: usize,
    },
    Drop {
        held: usize,
    },
    ReserveMoney {
        scopes: u8,
        nanos: i64,
    },
    SettleMoney {
        held: usize,
        nanos: i64,
    },
    DropMoney {
        held: usize,
    },
    /// The database has all that was settled.
    Record,
    Forget,
    Pass {
        millis: u64,
    },
}

const SCOPES: usize = 3;

fn step() -> impl Strategy<Value = Step> {
    let pass = prop_oneof![0..3_000_u64, 10_000..70_000_u64, 0..4_000_000_u64];
    prop_oneof![
        8 => (1..8_u8, 0..60_u64).prop_map(|(scopes, tokens)| Step::Reserve { scopes, tokens }),
        3 => (any::<usize>(), 0..90_u64).prop_map(|(held, tokens)| Step::SettleTokens { held, tokens }),
        1 => any::<usize>().prop_map(|held| Step::Refund { held }),
        2 => any::<usize>().prop_map(|held| Step::Drop { held }),
        6 => (1..8_u8, 0..50_i64).prop_map(|(scopes, nanos)| Step::ReserveMoney { scopes, nanos }),
        4 => (any::<usize>(), 0..50_i64).prop_map(|(held, nanos)| Step::SettleMoney { held, nanos }),
        1 => any::<usize>().prop_map(|held| Step::DropMoney { held }),
        1 => Just(Step::Record),
        1 => Just(Step::Forget),
        5 => pass.prop_map(|millis| Step::Pass { millis }),
    ]
}

fn limits() -> impl Strategy<Value = Limits> {
    let some = |range: std::ops::Range<u64>| proptest::option::weighted(0.7, range);
    let period = prop_oneof![Just(None), Just(Some("30s")), Just(Some("1h")), Just(Some("1mo"))];
    let budget = (proptest::option::weighted(0.8, 0..200_i64), period, -5_000_000..1_i64);
    (some(0..8), some(0..120), some(0..5), proptest::option::weighted(0.8, budget)).prop_map(
        |(requests_per_minute, tokens_per_minute, parallel_requests, budget)| {
            let budget = budget.map(|(max_nanos, period, started)| Budget {
                max_nanos,
                soft_nanos: None,
                period: period.map(|text| text.parse().unwrap()),
                started_ms: WALL + started,
            });
            Limits { requests_per_minute, tokens_per_minute, parallel_requests, budget }
        },
    )
}

/// Something that was counted in one scope.
#[derive(Clone, Copy, Debug)]
struct Event {
    request: usize,
    at: u64,
    requests: u64,
    tokens: u64,
}

#[derive(Debug)]
struct Held<T> {
    number: usize,
    members: Vec<usize>,
    at: u64,
    guard: T,
}

/// A charge that was settled: scope, time of its reservation, amount, whether the database has it.
type Charge = (usize, i64, i64, bool);

struct Model {
    limits: [Limits; SCOPES],
    events: [Vec<Event>; SCOPES],
    charges: Vec<Charge>,
}

impl Model {
    /// The requests and tokens of the last minute at `now` (milliseconds), to the second.
    fn rates(&self, scope: usize, now: u64) -> (u64, u64) {
        let inside = self.events[scope].iter().filter(|event| event.at / 1000 + 61 > now / 1000);
        inside.fold((0, 0), |sum, event| (sum.0 + event.requests, sum.1 + event.tokens))
    }

    fn fits(&self, scope: usize, tokens: u64, parallel: usize, now: u64) -> (bool, bool) {
        let limits = &self.limits[scope];
        let (requests, used) = self.rates(scope, now);
        let rates = limits.requests_per_minute.is_none_or(|limit| requests < limit)
            && limits
                .tokens_per_minute
                .is_none_or(|limit| limit > 0 && used + tokens.min(limit) <= limit);
        (rates, limits.parallel_requests.is_none_or(|limit| (parallel as u64) < limit))
    }

    /// What the charges of the window of `wall` add up to.
    fn settled(&self, scope: usize, wall: i64, recorded_only: bool) -> i64 {
        let Some(budget) = self.limits[scope].budget else { return 0 };
        let (start, end) = budget.window(wall);
        let inside = |charge: &&Charge| {
            charge.0 == scope && start <= charge.1 && charge.1 < end && (charge.3 || !recorded_only)
        };
        self.charges.iter().filter(inside).map(|charge| charge.2).sum()
    }
}

fn take<T>(held: &mut Vec<T>, index: usize) -> Option<T> {
    (!held.is_empty()).then(|| held.swap_remove(index % held.len()))
}

struct World {
    t0: Instant,
    now: u64,
    limiter: Arc<Limiter>,
    scopes: [Scope; SCOPES],
    model: Model,
    requests: Vec<Held<Reservation>>,
    attempts: Vec<Held<MoneyReservation>>,
    number: usize,
}

impl World {
    fn new(limits: [Limits; SCOPES]) -> Self {
        let t0 = start();
        let model = Model { limits, events: Default::default(), charges: Vec::new() };
        let scopes = [key(), team(), key().of_model("m")];
        let limiter = Limiter::new(t0);
        Self {
            t0,
            now: 0,
            limiter,
            scopes,
            model,
            requests: Vec::new(),
            attempts: Vec::new(),
            number: 0,
        }
    }

    fn instant(&self) -> Instant {
        self.t0 + Duration::from_millis(self.now)
    }

    fn wall(&self) -> i64 {
        WALL + self.now as i64
    }

    /// The scopes whose bit is set and that have limits.
    fn chosen(&self, bits: u8) -> (Vec<usize>, Scopes) {
        let members: Vec<_> = (0..SCOPES).filter(|scope| bits & (1 << scope) != 0).collect();
        let listed: Vec<_> = members
            .iter()
            .map(|&scope| (self.scopes[scope].clone(), self.model.limits[scope]))
            .collect();
        let members =
            members.into_iter().filter(|&scope| !self.model.limits[scope].is_empty()).collect();
        (members, self.limiter.scopes(&listed))
    }

    fn parallel(&self, scope: usize) -> usize {
        self.requests.iter().filter(|held| held.members.contains(&scope)).count()
    }

    fn reserved(&self, scope: usize, wall: i64) -> i64 {
        let Some(budget) = self.model.limits[scope].budget else { return 0 };
        let (start, end) = budget.window(wall);
        let inside = |held: &&Held<MoneyReservation>| {
            held.members.contains(&scope) && start <= held.guard.at_ms() && held.guard.at_ms() < end
        };
        self.attempts.iter().filter(inside).map(|held| held.guard.nanos()).sum()
    }

    fn reserve(&mut self, bits: u8, tokens: u64) {
        let (members, scopes) = self.chosen(bits);
        let fits: Vec<_> = members
            .iter()
            .map(|&scope| self.model.fits(scope, tokens, self.parallel(scope), self.now))
            .collect();
        let want = fits.iter().all(|&(rates, slot)| rates && slot);
        match self.limiter.reserve(&scopes, Demand { tokens }, self.instant()) {
            Ok(guard) => {
                assert!(want, "admitted over a limit");
                self.number += 1;
                for &scope in &members {
                    let limit = self.model.limits[scope].tokens_per_minute.unwrap_or(u64::MAX);
                    let event = Event {
                        request: self.number,
                        at: self.now,
                        requests: 1,
                        tokens: tokens.min(limit),
                    };
                    self.model.events[scope].push(event);
                }
                self.requests.push(Held { number: self.number, members, at: self.now, guard });
            }
            Err(exceeded) => {
                assert!(!want, "refused though it fits: {exceeded}");
                self.check_wait(&members, tokens, &exceeded);
            }
        }
    }

    /// After the wait all rates let the request in, a millisecond earlier they do not.
    fn check_wait(&self, members: &[usize], tokens: u64, exceeded: &Exceeded) {
        let rates_fit =
            |at: u64| members.iter().all(|&scope| self.model.fits(scope, tokens, 0, at).0);
        if exceeded.permanent {
            assert_eq!((exceeded.value, exceeded.retry_after), (0, None));
        } else if let Some(wait) = exceeded.retry_after {
            let wait = u64::try_from(wait.as_millis()).unwrap();
            assert!(wait > 0 && rates_fit(self.now + wait), "waiting {wait} ms does not help");
            assert!(!rates_fit(self.now + wait - 1), "waiting {wait} ms is too long");
        } else {
            assert_eq!(exceeded.limit, Limit::Parallel);
            assert!(rates_fit(self.now));
        }
    }

    fn settle_tokens(&mut self, held: Held<Reservation>, used: u64) {
        for &scope in &held.members {
            let events = &mut self.model.events[scope];
            let counted = events.iter_mut().find(|event| event.request == held.number).unwrap();
            let more = used.saturating_sub(counted.tokens);
            counted.tokens = counted.tokens.min(used);
            events.push(Event { request: 0, at: self.now, requests: 0, tokens: more });
        }
        held.guard.settle_tokens(used, self.instant());
    }

    fn reserve_money(&mut self, bits: u8, nanos: i64) {
        let (members, scopes) = self.chosen(bits);
        let wall = self.wall();
        let mut result = self.limiter.reserve_money(&scopes, nanos, wall);
        if let Err(MoneyRefused::Unknown(unloaded)) = result {
            for it in unloaded {
                let scope = self.scopes.iter().position(|scope| *scope == it.scope).unwrap();
                let recorded = self.model.settled(scope, wall, true);
                assert!(self.limiter.load(&it.scope, it.window_start_ms, recorded));
            }
            result = self.limiter.reserve_money(&scopes, nanos, wall);
        }
        let want = members.iter().all(|&scope| {
            let max = self.model.limits[scope].budget.and_then(|budget| budget.max_nanos);
            let settled = self.model.settled(scope, wall, false);
            max.is_none_or(|max| {
                settled < max && settled + self.reserved(scope, wall) + nanos <= max
            })
        });
        match result {
            Ok(guard) => {
                assert!(want, "admitted over a budget");
                self.attempts.push(Held { number: 0, members, at: self.now, guard });
            }
            Err(MoneyRefused::Exceeded(exceeded)) => {
                assert!(!want, "refused though it fits: {exceeded}");
                let first =
                    members.iter().find(|&&scope| self.scopes[scope] == exceeded.scope).unwrap();
                assert_eq!(exceeded.reserved_nanos, self.reserved(*first, wall));
            }
            Err(MoneyRefused::Unknown(_)) => panic!("loaded, and still not known"),
        }
    }

    fn settle_money(&mut self, held: Held<MoneyReservation>, nanos: i64) {
        for &scope in &held.members {
            self.model.charges.push((scope, held.guard.at_ms(), nanos, false));
        }
        held.guard.settle(nanos);
    }

    fn record(&mut self) {
        for (scope, at_ms, nanos, recorded) in &mut self.model.charges {
            if !std::mem::replace(recorded, true) {
                self.limiter.recorded(&self.scopes[*scope], *at_ms, *nanos);
            }
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Reserve { scopes, tokens } => self.reserve(scopes, tokens),
            Step::SettleTokens { held, tokens } => {
                if let Some(held) = take(&mut self.requests, held) {
                    self.settle_tokens(held, tokens);
                }
            }
            Step::Refund { held } => {
                if let Some(held) = take(&mut self.requests, held) {
                    for events in &mut self.model.events {
                        events.retain(|event| event.request != held.number);
                    }
                    held.guard.refund();
                }
            }
            Step::Drop { held } => drop(take(&mut self.requests, held)),
            Step::ReserveMoney { scopes, nanos } => self.reserve_money(scopes, nanos),
            Step::SettleMoney { held, nanos } => {
                if let Some(held) = take(&mut self.attempts, held) {
                    self.settle_money(held, nanos);
                }
            }
            Step::DropMoney { held } => drop(take(&mut self.attempts, held)),
            Step::Record => self.record(),
            Step::Forget => {
                self.limiter.forget_idle(self.instant());
            }
            Step::Pass { millis } => self.now += millis,
        }
    }

    fn check(&self) {
        for (scope, name) in self.scopes.iter().enumerate() {
            let counted = self.limiter.counted(name, self.instant());
            assert_eq!((counted.requests, counted.tokens), self.model.rates(scope, self.now));
            assert_eq!(counted.parallel, self.parallel(scope) as u64);
        }
    }

    /// Ends all that is under way; everything returns to zero, and nobody is locked out.
    fn finish(mut self) {
        while let Some(held) = take(&mut self.requests, 0) {
            assert!(held.at <= self.now);
            self.settle_tokens(held, 7);
        }
        while let Some(held) = take(&mut self.attempts, 0) {
            self.settle_money(held, 3);
        }
        self.check();
        assert_eq!(self.limiter.under_way(), (0, 0));
        self.record();
        self.now += 61_000;
        for bits in 1..8 {
            let (members, scopes) = self.chosen(bits);
            let zero = members.iter().any(|&scope| {
                let limits = &self.model.limits[scope];
                [limits.requests_per_minute, limits.tokens_per_minute, limits.parallel_requests]
                    .contains(&Some(0))
            });
            let result = self.limiter.reserve(&scopes, Demand { tokens: 1000 }, self.instant());
            assert_eq!(result.is_err(), zero);
            if let Ok(guard) = result {
                guard.refund();
            }
        }
        self.limiter.forget_idle(self.instant());
        assert!(self.limiter.is_empty());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_history_is_counted_as_the_model_counts_it(
        limits in [limits(), limits(), limits()],
        steps in vec(step(), 0..150),
    ) {
        let mut world = World::new(limits);
        for step in steps {
            world.take(step);
            world.check();
        }
        world.finish();
    }

    #[test]
    fn no_sixty_seconds_hold_more_than_the_limit(
        limit in 1..10_u64,
        gaps in vec(0..9_000_u64, 0..200),
    ) {
        let t0 = start();
        let (limiter, scopes) = limiter(t0, &[(key(), requests(limit))]);
        let mut now = 0;
        let mut admitted = Vec::new();
        for gap in gaps {
            now += gap;
            if limiter.reserve(&scopes, Demand::default(), t0 + Duration::from_millis(now)).is_ok() {
                admitted.push(now);
            }
        }
        for burst in admitted.windows(limit as usize + 1) {
            prop_assert!(burst[limit as usize] - burst[0] >= 60_000);
        }
    }
}
