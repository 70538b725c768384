//! What the strategies promise, shown by simulation: the real router among simulated clients and deployments.

#[path = "../examples/sim/engine.rs"]
mod engine;
#[path = "../examples/sim/random.rs"]
mod random;
#[path = "../examples/sim/scenarios.rs"]
mod scenarios;
#[path = "../examples/sim/table.rs"]
mod table;
#[path = "../examples/sim/vendor.rs"]
mod vendor;

use llmux_router::Builtin;

use scenarios::{Scenario, named};
use table::{Figures, table};

const SEEDS: std::ops::RangeInclusive<u64> = 1..=5;

fn scenario(name: &str) -> Scenario {
    named(name).expect("a scenario of that name")
}

/// Runs a scenario and sums up the requests from one second to another.
fn figures(name: &str, strategy: Builtin, seed: u64, from: u64, to: u64) -> Figures {
    let scenario = scenario(name);
    let done = engine::run(&scenario, strategy, seed);
    Figures::of(&done, scenario.vendors.len(), from, to)
}

/// Runs a scenario to its end; one in which nothing changes is cut short.
fn whole(name: &str, strategy: Builtin, seed: u64) -> Figures {
    let mut scenario = scenario(name);
    if scenario.incident.is_none() {
        scenario.seconds = 60;
    }
    let done = engine::run(&scenario, strategy, seed);
    Figures::of(&done, scenario.vendors.len(), 0, u64::MAX)
}

#[test]
fn lowest_latency_beats_shuffle_by_far_while_one_of_three_is_ten_times_slower() {
    for seed in SEEDS {
        let p99 = |strategy| {
            let during = figures("slow-one", strategy, seed, 60, 120).p99;
            (whole("slow-one", strategy, seed).p99, during)
        };
        let (shuffled, fastest) = (p99(Builtin::SimpleShuffle), p99(Builtin::LowestLatency));
        assert!(2 * fastest.0 < shuffled.0, "seed {seed}: {fastest:?} against {shuffled:?}");
        assert!(fastest.1 < shuffled.1, "seed {seed}: {fastest:?} against {shuffled:?}");
    }
}

/// Half of a fair share, over the minute that begins 30 seconds after the recovery. It holds for these seeds and for most,
/// not for all: of the seeds 1 to 40 one stays below, and nine do if only the first 15 seconds of that minute count.
#[test]
fn lowest_latency_gives_a_recovered_deployment_its_share_back_within_30_seconds() {
    for seed in SEEDS {
        let shares = figures("slow-one", Builtin::LowestLatency, seed, 150, 210).shares;
        assert!(shares[0] >= 1.0 / 6.0, "seed {seed}: {shares:?}");
    }
}

#[test]
fn least_busy_shares_evenly_among_equals() {
    for name in ["steady", "crowded"] {
        for seed in SEEDS {
            let shares = whole(name, Builtin::LeastBusy, seed).shares;
            let (least, most) = shares.iter().fold((f64::MAX, 0.0_f64), |(least, most), share| {
                (share.min(least), share.max(most))
            });
            assert!(most < 1.5 * least, "{name}, seed {seed}: {shares:?}");
        }
    }
}

#[test]
fn least_busy_does_not_collapse_onto_a_deployment_that_fails_at_once() {
    for seed in SEEDS {
        let figures = whole("failing-fast", Builtin::LeastBusy, seed);
        assert!(figures.shares[0] < 1.0 / 3.0, "seed {seed}: {figures:?}");
        assert!(figures.attempts < 1.1, "seed {seed}: {figures:?}");
        assert!(figures.errors < 0.001, "seed {seed}: {figures:?}");
    }
}

#[test]
fn three_retries_hide_that_one_of_three_fails_half_of_its_calls() {
    for strategy in Builtin::ALL {
        for seed in SEEDS {
            let errors = whole("failing-half", strategy, seed).errors;
            assert!(errors < 0.001, "{strategy:?}, seed {seed}: {errors}");
        }
    }
}

#[test]
fn a_deployment_that_is_down_costs_no_client_an_answer() {
    for strategy in Builtin::ALL {
        for seed in SEEDS {
            let errors = whole("brown-out", strategy, seed).errors;
            assert!(errors < 0.001, "{strategy:?}, seed {seed}: {errors}");
        }
    }
}

#[test]
fn no_strategy_starves_an_equal_deployment() {
    for strategy in Builtin::ALL {
        for seed in SEEDS {
            let shares = whole("steady", strategy, seed).shares;
            assert!(shares.iter().all(|share| *share > 0.08), "{strategy:?}, {seed}: {shares:?}");
        }
    }
}

#[test]
fn no_strategy_drives_one_of_three_beyond_its_capacity_while_the_others_idle() {
    for strategy in Builtin::ALL {
        for seed in SEEDS {
            let figures = whole("crowded", strategy, seed);
            assert!(figures.mean.as_secs() < 4, "{strategy:?}, seed {seed}: {figures:?}");
            assert!(figures.errors < 0.001, "{strategy:?}, seed {seed}: {figures:?}");
        }
    }
}

#[test]
fn each_strategy_is_best_at_what_it_is_for() {
    for seed in SEEDS {
        let prices = |strategy| whole("prices", strategy, seed);
        let (cheapest, fastest) = (prices(Builtin::LowestCost), prices(Builtin::LowestLatency));
        for strategy in [Builtin::SimpleShuffle, Builtin::LeastBusy, Builtin::RoundRobin] {
            let other = prices(strategy);
            assert!(cheapest.cost < other.cost / 2.0, "{strategy:?}, seed {seed}");
            assert!(fastest.mean < other.mean, "{strategy:?}, seed {seed}");
        }
        let weighted = whole("unequal-weights", Builtin::RoundRobin, seed).shares;
        for (share, weight) in weighted.iter().zip([0.6, 0.3, 0.1]) {
            assert!((share - weight).abs() < 0.01, "seed {seed}: {weighted:?}");
        }
    }
}

#[test]
fn the_same_seed_prints_the_same_table() {
    let print = |seed| table(&scenario("low-traffic"), &Builtin::ALL, seed);
    assert_eq!(print(7), print(7));
    assert_ne!(print(7), print(8));
}
