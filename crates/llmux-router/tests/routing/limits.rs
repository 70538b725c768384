//! Limits per minute and of calls in flight.

use std::time::Duration;

use llmux_router::{
    Builtin, Deployment, Failure, FailureClass, Measured, NoRoute, Outcome, Request,
};

use super::support::{Lab, failure, milliseconds, seconds};

fn plain(id: &str) -> Deployment {
    Deployment::new(id)
}

fn lab(deployments: Vec<Deployment>) -> Lab {
    Lab::of(Builtin::SimpleShuffle, deployments)
}

/// A request of so many tokens altogether.
fn tokens(input_tokens: u64) -> Request<'static> {
    Request { input_tokens, max_output_tokens: Some(0), ..Request::default() }
}

fn limited(retry_after: Duration) -> NoRoute {
    NoRoute::Limited { retry_after: Some(retry_after) }
}

fn refusal(lab: &mut Lab, request: &Request<'_>) -> NoRoute {
    lab.try_pick(request).expect_err("all limits are used up")
}

#[test]
fn requests_per_minute_hold_before_the_call() {
    let mut lab = lab(vec![plain("a").requests_per_minute(3)]);
    assert_eq!(lab.counts_in_flight(3, &tokens(1)), [3]);
    assert_eq!(refusal(&mut lab, &tokens(1)), limited(seconds(60)));
}

#[test]
fn tokens_per_minute_hold_before_the_call() {
    let mut lab = lab(vec![plain("a").tokens_per_minute(100)]);
    drop(lab.pick_for(&tokens(60)));
    assert_eq!(refusal(&mut lab, &tokens(60)), limited(seconds(60)));
    drop(lab.pick_for(&tokens(40)));
    assert_eq!(refusal(&mut lab, &tokens(1)), limited(seconds(60)));
}

#[test]
fn a_limit_is_free_again_when_its_minute_has_passed_though_nothing_was_recorded() {
    let mut lab = lab(vec![plain("a").requests_per_minute(2).tokens_per_minute(100)]);
    assert_eq!(lab.counts_in_flight(2, &tokens(50)), [2]);
    lab.pass(milliseconds(59_000));
    assert_eq!(refusal(&mut lab, &tokens(50)), limited(seconds(1)));
    lab.pass(seconds(1));
    drop(lab.pick_for(&tokens(50)));
}

#[test]
fn over_the_limit_another_deployment_takes_the_calls() {
    let deployments = vec![plain("a").requests_per_minute(2).weight(1000), plain("b").weight(1)];
    let mut lab = lab(deployments);
    assert_eq!(lab.counts_in_flight(20, &tokens(1)), [2, 18]);
}

#[test]
fn of_several_waits_the_shortest_is_told() {
    let deployments = vec![plain("a").requests_per_minute(1), plain("b").requests_per_minute(1)];
    let mut lab = lab(deployments);
    drop(lab.pick_at(1));
    lab.pass(seconds(20));
    drop(lab.pick_at(0));
    lab.pass(seconds(5));
    assert_eq!(refusal(&mut lab, &tokens(1)), limited(seconds(35)));
}

#[test]
fn the_wait_reaches_to_where_enough_tokens_are_free() {
    let mut lab = lab(vec![plain("a").tokens_per_minute(100)]);
    drop(lab.pick_for(&tokens(30)));
    lab.pass(seconds(10));
    drop(lab.pick_for(&tokens(60)));
    assert_eq!(refusal(&mut lab, &tokens(30)), limited(seconds(50)));
    assert_eq!(refusal(&mut lab, &tokens(80)), limited(seconds(60)));
}

#[test]
fn more_tokens_than_the_limit_go_through_when_nothing_else_uses_it() {
    let mut lab = lab(vec![plain("a").tokens_per_minute(100)]);
    drop(lab.pick_for(&tokens(5000)));
    assert_eq!(refusal(&mut lab, &tokens(1)), limited(seconds(60)));
    lab.pass(seconds(60));
    drop(lab.pick_for(&tokens(1)));
}

#[test]
fn a_limit_of_0_never_ends() {
    let mut lab = lab(vec![plain("a").requests_per_minute(0), plain("b").tokens_per_minute(0)]);
    let never = NoRoute::Limited { retry_after: None };
    assert_eq!(refusal(&mut lab, &tokens(1)), never);
}

#[test]
fn the_answers_usage_replaces_the_estimate() {
    let mut lab = lab(vec![plain("a").tokens_per_minute(100)]);
    for (used, left) in [(Some(20), 80), (Some(50), 30), (None, 0)] {
        let pick = lab.pick_for(&tokens(30));
        lab.succeed(pick, Measured { total_tokens: used, ..Measured::default() });
        let snapshot = lab.router.snapshot(0, lab.now);
        assert_eq!(100 - snapshot.tokens, left, "{used:?}");
    }
}

#[test]
fn usage_that_comes_after_its_minute_counts_nowhere() {
    let mut lab = lab(vec![plain("a").tokens_per_minute(100)]);
    let pick = lab.pick_for(&tokens(30));
    lab.pass(seconds(90));
    lab.succeed(pick, Measured { total_tokens: Some(90), ..Measured::default() });
    assert_eq!(lab.router.snapshot(0, lab.now).tokens, 0);
}

#[test]
fn what_a_call_gives_back_depends_on_how_it_ended() {
    let failed = |class| Outcome::Failure(failure(class));
    for (outcome, requests, left) in [
        (Outcome::Unsent, 0, 0),
        (failed(FailureClass::Connect), 0, 0),
        (failed(FailureClass::Server), 1, 0),
        (failed(FailureClass::RateLimited), 1, 0),
        (failed(FailureClass::Request), 1, 0),
        (failed(FailureClass::Timeout), 1, 30),
        (failed(FailureClass::Malformed), 1, 30),
        (Outcome::Cancelled, 1, 30),
        (Outcome::Success(Measured::default()), 1, 30),
    ] {
        let mut lab = lab(vec![plain("a")]);
        let pick = lab.pick_for(&tokens(30));
        lab.router.record(pick, outcome, lab.now);
        let snapshot = lab.router.snapshot(0, lab.now);
        let seen = (snapshot.requests, snapshot.tokens, snapshot.in_flight);
        assert_eq!(seen, (requests, left, 0), "{outcome:?}");
    }
}

#[test]
fn the_expected_answer_is_reserved_too() {
    let mut lab = lab(vec![plain("a")]);
    lab.answer_at(
        0,
        Measured { output_tokens: Some(50), total_tokens: Some(0), ..Measured::default() },
    );
    for (most, reserved) in [(Some(10), 110), (Some(1000), 150), (None, 150)] {
        let request = Request { input_tokens: 100, max_output_tokens: most, ..Request::default() };
        let pick = lab.pick_for(&request);
        assert_eq!(lab.router.snapshot(0, lab.now).tokens, reserved, "{most:?}");
        lab.router.record(pick, Outcome::Unsent, lab.now);
    }
}

#[test]
fn absurd_numbers_of_tokens_are_counted_without_overflow() {
    let mut lab = lab(vec![plain("a").tokens_per_minute(u64::MAX), plain("b")]);
    for input in [u64::MAX, u64::MAX, 5] {
        for index in [0, 1] {
            let others = [1 - index];
            let request = Request {
                input_tokens: input,
                max_output_tokens: Some(u64::MAX),
                excluded: &others,
                ..Request::default()
            };
            let pick = lab.pick_for(&request);
            let all = Measured {
                output_tokens: Some(u64::MAX),
                total_tokens: Some(u64::MAX),
                ..Measured::default()
            };
            lab.succeed(pick, all);
        }
        lab.pass(seconds(1));
    }
    lab.pass(seconds(60));
    assert_eq!(lab.router.snapshot(0, lab.now).tokens, 0);
}

#[test]
fn calls_in_flight_hold_before_the_call() {
    let mut lab = lab(vec![plain("a").max_concurrent(2), plain("b").max_concurrent(1)]);
    assert_eq!(lab.counts_in_flight(2, &Request { excluded: &[1], ..tokens(1) }), [2, 0]);
    let last = lab.pick();
    assert_eq!(last.index(), 1);
    assert_eq!(refusal(&mut lab, &tokens(1)), NoRoute::Busy);
    lab.succeed(last, Measured::default());
    assert_eq!(lab.pick().index(), 1);
}

#[test]
fn places_that_are_taken_elsewhere_count_as_busy() {
    let mut lab = lab(vec![plain("a"), plain("b")]);
    let pick = lab.pick_for(&Request { full: &[0], ..tokens(1) });
    assert_eq!(pick.index(), 1);
    assert_eq!(refusal(&mut lab, &Request { full: &[0, 1], ..tokens(1) }), NoRoute::Busy);
}

#[test]
fn of_several_reasons_the_one_that_is_over_first_is_told() {
    let deployments =
        vec![plain("limited").requests_per_minute(1), plain("cooling"), plain("busy")];
    let mut lab = lab(deployments);
    drop(lab.pick_at(0));
    lab.router.set_cooldown(1, Some(seconds(30)), lab.now);
    let request = Request { full: &[2], ..tokens(1) };
    assert_eq!(refusal(&mut lab, &request), NoRoute::Busy);
    let request = Request { excluded: &[2], ..tokens(1) };
    assert!(
        matches!(refusal(&mut lab, &request), NoRoute::Cooling { retry_after, .. } if retry_after == seconds(30))
    );
    let request = Request { excluded: &[1, 2], ..tokens(1) };
    assert_eq!(refusal(&mut lab, &request), limited(seconds(60)));
    let request = Request { excluded: &[0, 1, 2], ..tokens(1) };
    assert_eq!(refusal(&mut lab, &request), NoRoute::Excluded);
}

#[test]
fn one_that_cools_and_is_over_its_limits_tells_when_both_are_over() {
    let mut lab = lab(vec![plain("a").requests_per_minute(1), plain("b")]);
    let pick = lab.pick_at(0);
    let asked = Failure { class: FailureClass::RateLimited, retry_after: Some(seconds(10)) };
    lab.router.record(pick, Outcome::Failure(asked), lab.now);
    let refused = refusal(&mut lab, &Request { excluded: &[1], ..tokens(1) });
    let wait = match refused {
        NoRoute::Cooling { retry_after, .. } => Some(retry_after),
        NoRoute::Limited { retry_after } => retry_after,
        _ => None,
    };
    assert_eq!(wait, Some(seconds(60)), "{refused:?}");
}
