//! When a deployment gets no more calls, and how it comes back.

use std::time::Duration;

use llmux_router::{
    Builtin, Config, CooldownReason, Deployment, Failure, FailureClass, Measured, NoRoute, Outcome,
    Pick, Request,
};

use super::support::{Lab, failure, milliseconds, seconds};

/// The cooldown of the default configuration.
const PERIOD: Duration = Duration::from_mins(1);

fn lab() -> Lab {
    Lab::of(Builtin::RoundRobin, vec![Deployment::new("a"), Deployment::new("b")])
}

fn rate_limit(lab: &mut Lab, pick: Pick, retry_after: Option<Duration>) {
    let asked = Failure { class: FailureClass::RateLimited, retry_after };
    lab.router.record(pick, Outcome::Failure(asked), lab.now);
}

fn reason(lab: &mut Lab, index: usize) -> Option<CooldownReason> {
    lab.router.snapshot(index, lab.now).cooldown
}

#[test]
fn failures_of_the_deployment_cool_it_when_enough_of_its_calls_failed() {
    for class in [
        FailureClass::Connect,
        FailureClass::Timeout,
        FailureClass::Overloaded,
        FailureClass::Server,
        FailureClass::Malformed,
    ] {
        let mut lab = lab();
        lab.fail_at(0, class, 2);
        assert_eq!(lab.state(0), "available", "{class:?}");
        lab.fail_at(0, class, 1);
        assert_eq!(lab.state(0), "cooling", "{class:?}");
        assert_eq!(reason(&mut lab, 0), Some(CooldownReason::Failures), "{class:?}");
        assert_eq!(lab.shares(20, &Request::default()), [0.0, 1.0], "{class:?}");
    }
}

#[test]
fn failures_below_half_of_the_calls_do_not_cool() {
    let mut lab = lab();
    for _ in 0..20 {
        lab.answer_at(0, Measured::default());
    }
    lab.fail_at(0, FailureClass::Server, 19);
    assert_eq!(lab.state(0), "available");
    lab.fail_at(0, FailureClass::Server, 1);
    assert_eq!(lab.state(0), "cooling");
}

#[test]
fn failures_count_for_a_minute() {
    let mut lab = lab();
    lab.fail_at(0, FailureClass::Server, 2);
    lab.pass(seconds(61));
    lab.fail_at(0, FailureClass::Server, 2);
    assert_eq!(lab.state(0), "available");
}

#[test]
fn a_rate_limit_cools_for_as_long_as_the_vendor_asks() {
    for (retry_after, left) in [
        (Some(seconds(7)), 7_000),
        (Some(milliseconds(250)), 250),
        (Some(seconds(120)), 120_000),
        (Some(seconds(100_000)), 3_600_000),
        (None, 60_000),
    ] {
        let mut lab = lab();
        let pick = lab.pick_at(0);
        rate_limit(&mut lab, pick, retry_after);
        let snapshot = lab.router.snapshot(0, lab.now);
        assert_eq!(snapshot.cooldown, Some(CooldownReason::RateLimited));
        assert_eq!(snapshot.cooldown_left_ms, Some(left), "{retry_after:?}");
    }
}

#[test]
fn a_refused_credential_cools_at_once() {
    let mut lab = lab();
    lab.fail_at(0, FailureClass::Credential, 1);
    assert_eq!(lab.state(0), "cooling");
    assert_eq!(reason(&mut lab, 0), Some(CooldownReason::Credential));
}

#[test]
fn neither_a_403_nor_a_request_at_fault_ever_cools() {
    for class in [
        FailureClass::Forbidden,
        FailureClass::Request,
        FailureClass::ContextWindow,
        FailureClass::ContentPolicy,
    ] {
        let mut lab = lab();
        lab.fail_at(0, class, 100);
        assert_eq!(lab.state(0), "available", "{class:?}");
        let snapshot = lab.router.snapshot(0, lab.now);
        assert_eq!((snapshot.calls, snapshot.failures), (0, 0), "{class:?}");
    }
}

#[test]
fn cancelled_and_unsent_calls_say_nothing() {
    let mut lab = lab();
    for outcome in [Outcome::Cancelled, Outcome::Unsent] {
        for _ in 0..10 {
            let pick = lab.pick_at(0);
            lab.router.record(pick, outcome, lab.now);
        }
        assert_eq!(lab.state(0), "available");
    }
}

#[test]
fn after_a_cooldown_exactly_one_call_tries() {
    let mut lab = lab();
    lab.fail_at(0, FailureClass::Server, 3);
    lab.pass(PERIOD);
    assert_eq!(lab.state(0), "trial");
    let counts = lab.counts_in_flight(10, &Request::default());
    assert_eq!(counts, [1, 9]);
    assert_eq!(lab.state(0), "probing");
}

#[test]
fn a_trial_that_works_restores() {
    let mut lab = lab();
    lab.fail_at(0, FailureClass::Server, 3);
    lab.pass(PERIOD);
    lab.answer_at(0, Measured::default());
    assert_eq!(lab.state(0), "available");
    // What failed before does not count any more.
    lab.fail_at(0, FailureClass::Server, 2);
    assert_eq!(lab.state(0), "available");
    assert_eq!(lab.counts_in_flight(10, &Request::default()), [5, 5]);
}

#[test]
fn a_trial_that_the_client_spoils_shows_that_the_deployment_answers() {
    let mut lab = lab();
    lab.fail_at(0, FailureClass::Server, 3);
    lab.pass(PERIOD);
    lab.fail_at(0, FailureClass::Request, 1);
    assert_eq!(lab.state(0), "available");
}

#[test]
fn a_trial_that_fails_cools_again() {
    let mut lab = lab();
    lab.fail_at(0, FailureClass::Server, 3);
    lab.pass(PERIOD + seconds(30));
    lab.fail_at(0, FailureClass::Server, 1);
    let snapshot = lab.router.snapshot(0, lab.now);
    assert_eq!((snapshot.state, snapshot.cooldown_left_ms), ("cooling", Some(60_000)));
}

#[test]
fn a_trial_without_a_result_lets_the_next_call_try() {
    for outcome in
        [Outcome::Cancelled, Outcome::Unsent, Outcome::Failure(failure(FailureClass::Forbidden))]
    {
        let mut lab = lab();
        lab.fail_at(0, FailureClass::Server, 3);
        lab.pass(PERIOD);
        let pick = lab.pick_at(0);
        assert_eq!(lab.state(0), "probing");
        lab.router.record(pick, outcome, lab.now);
        assert_eq!(lab.state(0), "trial", "{outcome:?}");
    }
}

#[test]
fn calls_from_before_the_cooldown_do_not_end_it() {
    let mut lab = lab();
    let (early, late) = (lab.pick_at(0), lab.pick_at(0));
    lab.fail_at(0, FailureClass::Server, 3);
    lab.succeed(early, Measured::default());
    assert_eq!(lab.state(0), "cooling");
    lab.pass(PERIOD);
    let trial = lab.pick_at(0);
    lab.router.record(late, Outcome::Cancelled, lab.now);
    assert_eq!(lab.state(0), "probing");
    lab.succeed(trial, Measured::default());
    assert_eq!(lab.state(0), "available");
}

#[test]
fn the_only_deployment_never_cools() {
    let mut lab = Lab::of(Builtin::RoundRobin, vec![Deployment::new("a")]);
    for class in [FailureClass::Server, FailureClass::RateLimited, FailureClass::Credential] {
        lab.fail_at(0, class, 20);
        assert_eq!(lab.state(0), "available", "{class:?}");
    }
    let pick = lab.pick();
    rate_limit(&mut lab, pick, Some(seconds(500)));
    assert_eq!(lab.state(0), "available");
}

#[test]
fn one_that_cools_for_failures_is_used_when_nothing_else_is_left() {
    for class in [FailureClass::Server, FailureClass::Credential] {
        let mut lab = lab();
        lab.fail_at(0, class, 3);
        let pick = lab.pick_for(&Request { excluded: &[1], ..Request::default() });
        assert_eq!(pick.index(), 0);
        assert!(pick.why().overruled);
        assert!(pick.why().to_string().ends_with(" cooling"), "{}", pick.why());
        lab.succeed(pick, Measured::default());
        assert_eq!(lab.state(0), "available", "{class:?}: it works again");
    }
}

#[test]
fn one_that_its_vendor_or_an_operator_silenced_is_not_used_even_then() {
    let only_a = Request { excluded: &[1], ..Request::default() };
    let mut lab = lab();
    let pick = lab.pick_at(0);
    rate_limit(&mut lab, pick, Some(seconds(20)));
    let refused = lab.try_pick(&only_a).expect_err("it pauses");
    let expected = |reason| NoRoute::Cooling { reason, retry_after: seconds(20) };
    assert_eq!(refused, expected(CooldownReason::RateLimited));
    lab.router.set_cooldown(0, Some(seconds(20)), lab.now);
    let refused = lab.try_pick(&only_a).expect_err("it pauses");
    assert_eq!(refused, expected(CooldownReason::Manual));
}

#[test]
fn a_silence_is_kept_whatever_calls_in_flight_bring() {
    let only_a = Request { excluded: &[1], ..Request::default() };
    for manual in [false, true] {
        let mut lab = lab();
        lab.fail_at(0, FailureClass::Server, 2);
        let calls: Vec<Pick> = (0..4).map(|_| lab.pick_at(0)).collect();
        if manual {
            lab.router.set_cooldown(0, Some(seconds(20)), lab.now);
        } else {
            let pick = lab.pick_at(0);
            rate_limit(&mut lab, pick, Some(seconds(20)));
        }
        for call in calls {
            lab.fail(call, FailureClass::Server);
            assert!(lab.try_pick(&only_a).is_err(), "manual: {manual}");
        }
        lab.pass(seconds(20));
        let pick = lab.pick_for(&only_a);
        assert_eq!(pick.index(), 0, "manual: {manual}");
    }
}

#[test]
fn a_trial_that_works_does_not_end_a_silence_that_began_after_it() {
    for manual in [false, true] {
        let mut lab = lab();
        let early = lab.pick_at(0);
        lab.fail_at(0, FailureClass::Server, 3);
        lab.pass(PERIOD);
        let trial = lab.pick_at(0);
        if manual {
            lab.router.set_cooldown(0, Some(seconds(20)), lab.now);
        } else {
            rate_limit(&mut lab, early, Some(seconds(20)));
        }
        lab.succeed(trial, Measured::default());
        assert_eq!(lab.state(0), "cooling", "manual: {manual}");
    }
}

#[test]
fn a_call_against_a_cooldown_that_ends_without_a_result_allows_no_second_trial() {
    let mut lab = lab();
    lab.fail_at(0, FailureClass::Server, 3);
    lab.pass(PERIOD);
    let trial = lab.pick_at(0);
    let second = lab.pick_at(0);
    assert!(second.why().overruled);
    lab.router.record(second, Outcome::Cancelled, lab.now);
    assert_eq!(lab.state(0), "probing");
    lab.router.record(trial, Outcome::Cancelled, lab.now);
    assert_eq!(lab.state(0), "trial");
}

#[test]
fn of_deployments_that_all_cool_one_that_was_not_tried_comes_first() {
    for strategy in Builtin::ALL {
        let mut lab = Lab::of(strategy, vec![Deployment::new("a"), Deployment::new("b")]);
        lab.fail_at(0, FailureClass::Server, 3);
        lab.fail_at(1, FailureClass::Server, 3);
        for _ in 0..20 {
            let pick = lab.pick_for(&Request { tried: &[0], ..Request::default() });
            assert_eq!(pick.index(), 1, "{strategy:?}");
            lab.router.record(pick, Outcome::Cancelled, lab.now);
        }
    }
}

#[test]
fn a_cooldown_of_0_switches_cooldowns_off() {
    let config = Config { cooldown: Duration::ZERO, ..Config::default() };
    let mut lab = Lab::with(config, vec![Deployment::new("a"), Deployment::new("b")]);
    for class in [FailureClass::Server, FailureClass::RateLimited, FailureClass::Credential] {
        lab.fail_at(0, class, 10);
        assert_eq!(lab.state(0), "available", "{class:?}");
    }
    let pick = lab.pick_at(0);
    rate_limit(&mut lab, pick, Some(seconds(500)));
    assert_eq!(lab.state(0), "available");
}

#[test]
fn an_operator_sets_and_clears_cooldowns() {
    let mut lab = lab();
    lab.router.set_cooldown(0, Some(seconds(500)), lab.now);
    assert_eq!(lab.shares(10, &Request::default()), [0.0, 1.0]);
    lab.router.set_cooldown(0, None, lab.now);
    assert_eq!(lab.shares(10, &Request::default()), [0.5, 0.5]);
    lab.fail_at(0, FailureClass::Server, 3);
    lab.router.set_cooldown(0, None, lab.now);
    assert_eq!(lab.state(0), "available");
    lab.fail_at(0, FailureClass::Server, 2);
    assert_eq!(lab.state(0), "available", "earlier failures are forgotten");
    lab.router.set_cooldown(0, Some(Duration::ZERO), lab.now);
    assert_eq!(lab.state(0), "available");
}

#[test]
fn an_operator_can_silence_the_only_deployment() {
    let mut lab = Lab::of(Builtin::RoundRobin, vec![Deployment::new("a")]);
    lab.router.set_cooldown(0, Some(seconds(5)), lab.now);
    assert!(lab.try_pick(&Request::default()).is_err());
    lab.pass(seconds(5));
    assert_eq!(lab.pick().index(), 0);
}

#[test]
fn a_cooldown_without_an_end_is_a_long_one() {
    let mut lab = lab();
    lab.router.set_cooldown(0, Some(Duration::MAX), lab.now);
    lab.pass(Duration::from_hours(24 * 365));
    assert_eq!(lab.state(0), "cooling");
    let config = Config { cooldown: Duration::MAX, ..Config::default() };
    let mut lab = Lab::with(config, vec![Deployment::new("a"), Deployment::new("b")]);
    lab.fail_at(0, FailureClass::Credential, 1);
    lab.pass(Duration::from_hours(24 * 365));
    assert_eq!(lab.state(0), "cooling");
}
