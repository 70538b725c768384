//! What a choice costs: one pick and its record. `cargo bench -p llmux-router`.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use llmux_router::{
    Builtin, Config, Deployment, Measured, NoRoute, Outcome, Price, Request, Router,
};

const DEPLOYMENTS: [usize; 3] = [3, 100, 1000];
/// Calls of one sample: the time moves on by a millisecond with each.
const CALLS: usize = 1000;

fn main() {
    divan::main();
}

#[expect(clippy::disallowed_methods, reason = "any instant will do")]
fn start() -> Instant {
    Instant::now()
}

fn deployments(count: usize) -> impl Iterator<Item = Deployment> {
    (0..count).map(|index| {
        let tag = if index % 2 == 0 { "eu" } else { "us" };
        Deployment::new(format!("vendor-{index}/model"))
            .weight(1 + index as u32 % 3)
            .requests_per_minute(1_000_000_000)
            .tokens_per_minute(1_000_000_000_000)
            .max_concurrent(1000)
            .price(Price { input: Some(100 + index as u64), output: Some(400) })
            .tags([tag])
    })
}

/// A router, and what a service would have besides.
struct Service {
    router: Router,
    now: Instant,
    random: u64,
}

impl Service {
    /// All deployments have answered a few times.
    fn new(strategy: Builtin, count: usize) -> Self {
        let router = Router::new(Config { strategy, ..Config::default() }, deployments(count));
        let mut service = Self { router, now: start(), random: 1 };
        for _ in 0..3 * count {
            service.call(&[]).expect("all are well");
        }
        service
    }

    fn call(&mut self, tags: &[String]) -> Result<usize, NoRoute> {
        self.now += Duration::from_millis(1);
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let request = Request {
            tags,
            input_tokens: 200,
            max_output_tokens: Some(500),
            random: self.random,
            ..Request::default()
        };
        let pick = self.router.pick(black_box(&request), self.now)?;
        let index = pick.index();
        let measured = Measured {
            first_output: None,
            duration: Duration::from_millis(500 + index as u64 % 7),
            output_tokens: Some(300),
            total_tokens: Some(500),
        };
        self.router.record(pick, Outcome::Success(measured), self.now);
        Ok(index)
    }
}

fn calls(bencher: Bencher<'_, '_>, strategy: Builtin, count: usize, tags: &[String]) {
    let mut service = Service::new(strategy, count);
    bencher.counter(ItemsCount::new(CALLS)).bench_local(|| {
        for _ in 0..CALLS {
            black_box(service.call(tags)).expect("all are well");
        }
    });
}

#[divan::bench(args = DEPLOYMENTS)]
fn simple_shuffle(bencher: Bencher<'_, '_>, count: usize) {
    calls(bencher, Builtin::SimpleShuffle, count, &[]);
}

#[divan::bench(args = DEPLOYMENTS)]
fn lowest_latency(bencher: Bencher<'_, '_>, count: usize) {
    calls(bencher, Builtin::LowestLatency, count, &[]);
}

#[divan::bench(args = DEPLOYMENTS)]
fn least_busy(bencher: Bencher<'_, '_>, count: usize) {
    calls(bencher, Builtin::LeastBusy, count, &[]);
}

#[divan::bench(args = DEPLOYMENTS)]
fn lowest_tpm_rpm(bencher: Bencher<'_, '_>, count: usize) {
    calls(bencher, Builtin::LowestTpmRpm, count, &[]);
}

#[divan::bench(args = DEPLOYMENTS)]
fn lowest_cost(bencher: Bencher<'_, '_>, count: usize) {
    calls(bencher, Builtin::LowestCost, count, &[]);
}

#[divan::bench(args = DEPLOYMENTS)]
fn tag_based(bencher: Bencher<'_, '_>, count: usize) {
    calls(bencher, Builtin::TagBased, count, &["eu".to_owned()]);
}

#[divan::bench(args = DEPLOYMENTS)]
fn round_robin(bencher: Bencher<'_, '_>, count: usize) {
    calls(bencher, Builtin::RoundRobin, count, &[]);
}

/// Each thread makes its calls as fast as it can, with nothing between them: worse than any service.
#[divan::bench(threads = [1, 2, 4])]
fn threads_share_a_mutex(bencher: Bencher<'_, '_>) {
    let service = Mutex::new(Service::new(Builtin::LeastBusy, 10));
    bencher.counter(ItemsCount::new(CALLS)).bench(|| {
        for _ in 0..CALLS {
            let mut service = service.lock().expect("nobody panics");
            black_box(service.call(&[])).expect("all are well");
        }
    });
}
