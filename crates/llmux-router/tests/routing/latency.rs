//! Whom `lowest-latency` chooses.

use llmux_router::{Builtin, Config, Deployment, FailureClass, Measure, Request};

use super::support::{Lab, STREAM, assert_shares, milliseconds, stream, whole};

fn lab(latency_buffer: f64) -> Lab {
    let config = Config {
        strategy: Builtin::LowestLatency,
        latency_buffer,
        cooldown: milliseconds(0),
        ..Config::default()
    };
    Lab::with(config, vec![Deployment::new("a"), Deployment::new("b")])
}

/// Picks `calls` times, one after another and without news of how they end; returns how many went to `b`.
fn picks_of_b(lab: &mut Lab, calls: usize, request: &Request<'_>) -> usize {
    let one = |_| {
        let pick = lab.pick_for(request);
        let index = pick.index();
        lab.unsend(pick);
        index
    };
    (0..calls).map(one).sum()
}

#[test]
fn streams_go_to_the_one_that_begins_first() {
    let mut lab = lab(0.1);
    lab.answer_at(0, stream(500, 1000, 100));
    lab.answer_at(1, stream(200, 9000, 100));
    assert_eq!(picks_of_b(&mut lab, 100, &STREAM), 100);
    assert_eq!(lab.pick_for(&STREAM).why().measure, Measure::ExpectedMs(200.0));
}

#[test]
fn of_streams_that_begin_alike_the_faster_one_is_taken() {
    let mut lab = lab(0.1);
    lab.answer_at(0, stream(200, 4000, 100));
    lab.answer_at(1, stream(205, 2000, 100));
    assert_eq!(picks_of_b(&mut lab, 100, &STREAM), 100);
}

#[test]
fn whole_answers_depend_on_their_length() {
    let mut lab = lab(0.1);
    for _ in 0..3 {
        for tokens in [10, 50, 200, 400] {
            lab.answer_at(0, whole(100 + 10 * tokens, tokens));
            lab.answer_at(1, whole(1000 + tokens, tokens));
        }
    }
    let short = Request { max_output_tokens: Some(10), ..Request::default() };
    assert_eq!(picks_of_b(&mut lab, 50, &short), 0);
    assert_eq!(picks_of_b(&mut lab, 50, &Request::default()), 50);
}

#[test]
fn a_long_answer_does_not_make_a_deployment_slow() {
    let mut lab = lab(0.1);
    for (long, short) in [(800, 20), (1000, 40), (900, 30)] {
        lab.answer_at(0, whole(10 * long, long));
        lab.answer_at(0, whole(10 * short, short));
        lab.answer_at(1, whole(20 * short, short));
        lab.answer_at(1, whole(20 * short, short));
    }
    assert_eq!(picks_of_b(&mut lab, 50, &Request::default()), 0);
}

#[test]
fn within_the_buffer_all_are_equal() {
    for (buffer, expected) in [(0.1, [0.5, 0.5]), (0.0, [1.0, 0.0])] {
        let mut lab = lab(buffer);
        lab.answer_at(0, whole(1000, 100));
        lab.answer_at(1, whole(1080, 100));
        let to_b = picks_of_b(&mut lab, 4000, &Request::default()) as f64 / 4000.0;
        assert_shares(&[1.0 - to_b, to_b], &expected);
    }
}

#[test]
fn an_unmeasured_one_gets_a_single_call_while_the_others_go_on_by_what_is_known() {
    let config = Config { strategy: Builtin::LowestLatency, ..Config::default() };
    let deployments = vec![Deployment::new("a"), Deployment::new("b"), Deployment::new("new")];
    let mut lab = Lab::with(config, deployments);
    lab.answer_at(0, whole(300, 100));
    lab.answer_at(1, whole(100, 100));
    let first = lab.pick();
    assert_eq!((first.index(), first.why().measure), (2, Measure::Unmeasured));
    for _ in 0..50 {
        assert_eq!(lab.pick().index(), 1);
    }
    lab.succeed(first, whole(50, 100));
    assert_eq!(lab.pick().index(), 2);
}

#[test]
fn the_first_calls_of_all_are_spread() {
    let mut lab = lab(0.1);
    assert_eq!(lab.counts_in_flight(20, &STREAM), [10, 10]);
}

#[test]
fn failures_make_a_deployment_slower() {
    let mut lab = lab(0.1);
    for _ in 0..4 {
        lab.answer_at(0, whole(100, 100));
        lab.answer_at(1, whole(150, 100));
        lab.fail_at(0, FailureClass::Server, 1);
    }
    assert_eq!(picks_of_b(&mut lab, 50, &Request::default()), 50);
}

#[test]
fn a_timeout_counts_as_the_time_that_was_waited() {
    let mut lab = lab(0.1);
    lab.answer_at(0, whole(100, 100));
    lab.answer_at(1, whole(500, 100));
    let pick = lab.pick();
    assert_eq!(pick.index(), 0);
    lab.pass(milliseconds(30_000));
    lab.fail(pick, FailureClass::Timeout);
    assert_eq!(picks_of_b(&mut lab, 20, &Request::default()), 20);
}

#[test]
fn a_slow_one_is_looked_at_again_but_rarely_and_gets_its_share_back() {
    let mut lab = lab(0.1);
    lab.answer_at(0, whole(100, 100));
    lab.answer_at(1, whole(1000, 100));
    let mut run = |calls: usize, duration_of_b: u64| {
        let mut to_b = 0;
        for _ in 0..calls {
            lab.pass(milliseconds(10));
            let pick = lab.pick();
            let slow = pick.index() == 1;
            to_b += usize::from(slow);
            lab.succeed(pick, whole(if slow { duration_of_b } else { 100 }, 100));
        }
        to_b
    };
    let slow = run(3000, 1000);
    assert!((1..=30).contains(&slow), "{slow} of 3000 went to the slow one");
    let recovered = run(3000, 50);
    assert!(recovered > 1000, "{recovered} of 3000 after it got fast");
}

#[test]
fn an_unmeasured_one_that_nobody_waits_for_does_not_get_all_calls() {
    let mut lab = lab(0.1);
    lab.answer_at(0, whole(100, 100));
    let mut to_b = 0;
    for _ in 0..100 {
        let pick = lab.pick();
        if pick.index() == 1 {
            to_b += 1;
            lab.pass(milliseconds(20));
            lab.cancel(pick);
        } else {
            lab.succeed(pick, whole(100, 100));
        }
    }
    assert_eq!(to_b, 1);
}

#[test]
fn a_timeout_that_is_told_at_once_is_not_quick() {
    let mut lab = lab(0.1);
    lab.answer_at(0, whole(900, 100));
    lab.answer_at(1, whole(1000, 100));
    for _ in 0..3 {
        lab.fail_at(0, FailureClass::Timeout, 1);
    }
    assert_eq!(picks_of_b(&mut lab, 20, &Request::default()), 20);
}
