//! What it costs to reserve and settle in 1, 4 and 8 scopes, alone and beside other threads.
//! `cargo bench -p llmux-auth`.
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a benchmark starts its own clock"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use divan::Bencher;
use llmux_auth::limits::{Budget, Demand, Limiter, Limits, Scope, ScopeKind, Scopes};

const WALL: i64 = 1_700_000_000_000;
const COUNTS: [usize; 3] = [1, 4, 8];
const THREADS: [usize; 3] = [1, 2, 4];

fn main() {
    divan::main();
}

/// A key of its own for each `caller`; all other scopes are the same for everybody.
fn listed(count: usize, caller: usize) -> Vec<(Scope, Limits)> {
    let budget = Budget {
        max_nanos: Some(i64::MAX),
        soft_nanos: Some(i64::MAX),
        period: "1mo".parse().ok(),
        started_ms: WALL,
    };
    let limits = Limits {
        requests_per_minute: Some(u64::MAX),
        tokens_per_minute: Some(u64::MAX),
        parallel_requests: Some(u64::MAX),
        budget: Some(budget),
    };
    let key = Scope::new(ScopeKind::Key, format!("{caller:064x}"));
    let kinds = [ScopeKind::User, ScopeKind::Team, ScopeKind::Organization];
    let mut scopes = vec![key];
    scopes.extend(kinds.map(|kind| Scope::new(kind, "0f2d7a52-76c5-4f3e-a8f6-0c5c0b4f6f11")));
    let models: Vec<_> = scopes.iter().map(|scope| scope.of_model("gpt-4o")).collect();
    scopes.extend(models);
    scopes.into_iter().take(count).map(|scope| (scope, limits)).collect()
}

fn scopes(limiter: &Limiter, listed: &[(Scope, Limits)]) -> Scopes {
    let scopes = limiter.scopes(listed);
    limiter.check_money(&scopes, 0, WALL).unwrap_err();
    for (scope, _) in listed {
        limiter.load(scope, WALL, 0);
    }
    scopes
}

/// One limiter, and the scopes of each thread.
struct Bench {
    limiter: Arc<Limiter>,
    now: Instant,
    callers: Vec<(Vec<(Scope, Limits)>, Scopes)>,
    next: AtomicUsize,
}

impl Bench {
    fn new(count: usize) -> Self {
        let now = Instant::now();
        let limiter = Limiter::new(now);
        let callers = (0..4)
            .map(|caller| {
                let listed = listed(count, caller);
                let found = scopes(&limiter, &listed);
                (listed, found)
            })
            .collect();
        Self { limiter, now, callers, next: AtomicUsize::new(0) }
    }

    fn caller(&self) -> &(Vec<(Scope, Limits)>, Scopes) {
        thread_local! { static CALLER: std::cell::OnceCell<usize> = const { std::cell::OnceCell::new() }; }
        let number =
            CALLER.with(|caller| *caller.get_or_init(|| self.next.fetch_add(1, Ordering::Relaxed)));
        &self.callers[number % self.callers.len()]
    }
}

/// A request: place, tokens and slot, and the correction of the tokens.
#[divan::bench(args = COUNTS, threads = THREADS)]
fn request(bencher: Bencher<'_, '_>, count: usize) {
    let bench = Bench::new(count);
    bencher.bench(|| {
        let held =
            bench.limiter.reserve(&bench.caller().1, Demand { tokens: 900 }, bench.now).unwrap();
        held.settle_tokens(700, bench.now);
    });
}

/// An attempt: money, and its real cost.
#[divan::bench(args = COUNTS, threads = THREADS)]
fn attempt(bencher: Bencher<'_, '_>, count: usize) {
    let bench = Bench::new(count);
    bencher.bench(|| bench.limiter.reserve_money(&bench.caller().1, 3, WALL).unwrap().settle(2));
}

/// Finding the scopes' counters, which a server does once for a key and model it keeps.
#[divan::bench(args = COUNTS)]
fn lookup(bencher: Bencher<'_, '_>, count: usize) {
    let bench = Bench::new(count);
    bencher.bench(|| bench.limiter.scopes(&bench.caller().0));
}
