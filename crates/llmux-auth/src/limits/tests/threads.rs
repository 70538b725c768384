//! Several threads at once.

use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use super::*;

const THREADS: usize = 8;
const CALLS: u64 = 10_000;

/// Runs `work` in all threads at once, which start together; returns the sum of what they return.
fn together(work: impl Fn(usize) -> u64 + Sync) -> u64 {
    let barrier = Barrier::new(THREADS);
    let sum = AtomicU64::new(0);
    thread::scope(|scope| {
        for number in 0..THREADS {
            let (barrier, sum, work) = (&barrier, &sum, &work);
            scope.spawn(move || {
                barrier.wait();
                sum.fetch_add(work(number), Ordering::Relaxed);
            });
        }
    });
    sum.into_inner()
}

#[test]
fn a_budget_for_exactly_n_calls_admits_exactly_n() {
    const PRICE: i64 = 1_234_567;
    const FIT: u64 = 12_345;
    let (limiter, scopes) = funded(&[
        (key(), money(i64::MAX, None)),
        (team(), money(PRICE * FIT as i64, None)),
        (scope(ScopeKind::Organization, "o"), money(PRICE * (FIT as i64 + 5), None)),
    ]);
    let admitted = together(|_| {
        let calls = (0..CALLS).map(|_| limiter.reserve_money(&scopes, PRICE, WALL));
        calls.filter_map(Result::ok).map(|held| held.settle(PRICE)).count() as u64
    });
    assert_eq!(admitted, FIT);
    assert_eq!(spent(&limiter, &team()), (Some(PRICE * FIT as i64), 0));
    assert_eq!(spent(&limiter, &key()), (Some(PRICE * FIT as i64), 0));
    assert_eq!(limiter.under_way(), (0, 0));
}

#[test]
fn nested_scopes_admit_exactly_what_each_allows() {
    let t0 = start();
    let limiter = Limiter::new(t0);
    // Each thread has its own key for 700; the teams of even and odd threads have 2000 and 9999; all share one
    // organization. The order of the scopes differs.
    let scopes: Vec<Scopes> = (0..THREADS)
        .map(|number| {
            let even = number % 2 == 0;
            let mut listed = vec![
                (scope(ScopeKind::Key, &format!("k{number}")), requests(700)),
                (
                    scope(ScopeKind::Team, if even { "even" } else { "odd" }),
                    requests(if even { 2000 } else { 9999 }),
                ),
                (scope(ScopeKind::Organization, "o"), requests(100_000)),
            ];
            listed.rotate_left(number % 3);
            limiter.scopes(&listed)
        })
        .collect();
    let admitted = together(|number| {
        let calls = (0..CALLS).map(|_| limiter.reserve(&scopes[number], Demand { tokens: 3 }, t0));
        calls.filter(Result::is_ok).count() as u64
    });
    assert_eq!(admitted, 2000 + 4 * 700);
    let organization = limiter.counted(&scope(ScopeKind::Organization, "o"), t0);
    assert_eq!(
        (organization.requests, organization.tokens, organization.parallel),
        (4800, 14_400, 0)
    );
}

#[test]
fn slots_are_never_taken_twice_nor_lost() {
    let t0 = start();
    let (limiter, scopes) = limiter(t0, &[(key(), parallel(3)), (team(), parallel(5))]);
    let inside = AtomicU64::new(0);
    let admitted = together(|_| {
        let mut admitted = 0;
        for _ in 0..CALLS {
            if let Ok(held) = limiter.reserve(&scopes, Demand::default(), t0) {
                assert!(inside.fetch_add(1, Ordering::SeqCst) < 3);
                admitted += 1;
                inside.fetch_sub(1, Ordering::SeqCst);
                drop(held);
            }
        }
        admitted
    });
    assert!(admitted >= CALLS / 10);
    assert_eq!(limiter.under_way(), (0, 0));
}

#[test]
fn scopes_that_are_forgotten_while_others_use_them_lose_nothing() {
    let t0 = start();
    let limiter = Limiter::new(t0);
    let listed = [(key(), money(i64::MAX, None)), (team(), money(i64::MAX, None))];
    let recorded = AtomicU64::new(0);
    let late = t0 + Duration::from_secs(600);
    together(|number| {
        for _ in 0..CALLS / 10 {
            if number == 0 {
                limiter.forget_idle(late);
                continue;
            }
            let scopes = limiter.scopes(&listed);
            let held = loop {
                match limiter.reserve_money(&scopes, 2, WALL) {
                    Ok(held) => break held,
                    Err(MoneyRefused::Unknown(unloaded)) => {
                        // What is in the database is at least what every forgotten scope had recorded.
                        let known = i64::try_from(recorded.load(Ordering::SeqCst)).unwrap();
                        for it in unloaded {
                            limiter.load(&it.scope, it.window_start_ms, known);
                        }
                    }
                    Err(other) => panic!("{other}"),
                }
            };
            held.settle(1);
            recorded.fetch_add(1, Ordering::SeqCst);
            for scope in [key(), team()] {
                limiter.recorded(&scope, WALL, 1);
            }
        }
        0
    });
    assert_eq!(recorded.into_inner(), (THREADS as u64 - 1) * CALLS / 10);
    assert_eq!(limiter.under_way(), (0, 0));
    limiter.forget_idle(late);
    assert!(limiter.is_empty());
}
