//! What a new configuration keeps.

use llmux_router::{
    Builtin, Config, CooldownReason, Deployment, Failure, FailureClass, Measured, Outcome, Request,
};

use super::support::{Lab, milliseconds, seconds, whole};

fn plain(id: &str) -> Deployment {
    Deployment::new(id)
}

fn lab() -> Lab {
    Lab::of(Builtin::RoundRobin, vec![plain("a"), plain("b"), plain("c")])
}

fn reconfigure(lab: &mut Lab, config: Config, deployments: Vec<Deployment>) {
    lab.deployments = deployments.len();
    lab.router.reconfigure(config, deployments);
}

#[test]
fn what_is_known_follows_the_id_to_its_new_place() {
    let mut lab = lab();
    lab.answer_at(2, whole(300, 100));
    drop(lab.pick_at(2));
    lab.fail_at(1, FailureClass::Credential, 1);
    reconfigure(&mut lab, Config::default(), vec![plain("c"), plain("new"), plain("b")]);
    assert_eq!(lab.router.index_of("c"), Some(0));
    assert_eq!(lab.router.index_of("a"), None);
    let c = lab.router.snapshot(0, lab.now);
    assert_eq!((c.in_flight, c.requests, c.calls, c.latency_ms), (1, 2, 1, Some(300.0)));
    let new = lab.router.snapshot(1, lab.now);
    assert_eq!((new.in_flight, new.requests, new.latency_ms), (0, 0, None));
    let b = lab.router.snapshot(2, lab.now);
    assert_eq!((b.state, b.cooldown), ("cooling", Some(CooldownReason::Credential)));
}

#[test]
fn calls_of_before_find_their_deployment_or_nobody() {
    let mut lab = lab();
    let (of_a, of_c) = (lab.pick_at(0), lab.pick_at(2));
    reconfigure(&mut lab, Config::default(), vec![plain("c"), plain("b")]);
    let newer = lab.pick_at(0);
    lab.fail(of_a, FailureClass::Credential);
    assert_eq!((lab.state(0), lab.state(1)), ("available", "available"));
    assert_eq!(lab.router.in_flight(0), 2);
    lab.fail(of_c, FailureClass::Credential);
    assert_eq!((lab.state(0), lab.router.in_flight(0)), ("cooling", 1));
    lab.router.record(newer, Outcome::Cancelled, lab.now);
    assert_eq!(lab.router.in_flight(0), 0);
}

#[test]
fn one_that_was_gone_in_between_is_a_new_one() {
    let mut lab = lab();
    let old = lab.pick_at(0);
    reconfigure(&mut lab, Config::default(), vec![plain("b")]);
    reconfigure(&mut lab, Config::default(), vec![plain("a"), plain("b")]);
    let new = lab.pick_at(0);
    lab.fail(old, FailureClass::Credential);
    assert_eq!((lab.state(0), lab.router.in_flight(0)), ("available", 1));
    lab.router.record(new, Outcome::Unsent, lab.now);
    assert_eq!(lab.router.in_flight(0), 0);
}

#[test]
fn new_settings_hold_at_once() {
    let mut lab = lab();
    lab.answer_at(0, Measured::default());
    let config = Config { strategy: Builtin::SimpleShuffle, allowed_fails: 1, ..Config::default() };
    reconfigure(&mut lab, config, vec![plain("a").requests_per_minute(1), plain("b").weight(7)]);
    assert_eq!(lab.router.strategy(), "simple-shuffle");
    assert_eq!(lab.router.snapshot(1, lab.now).weight, 7);
    // The request of before counts.
    assert_eq!(lab.shares(10, &Request::default()), [0.0, 1.0]);
    lab.fail_at(1, FailureClass::Server, 20);
    assert_eq!(lab.state(1), "cooling");
}

#[test]
fn the_only_one_left_is_not_locked_out_by_the_cooldown_it_had_beside_others() {
    for class in [FailureClass::RateLimited, FailureClass::Server, FailureClass::Credential] {
        let mut lab = lab();
        for _ in 0..3 {
            let pick = lab.pick_at(0);
            let outcome = Failure { class, retry_after: Some(seconds(3000)) };
            lab.router.record(pick, Outcome::Failure(outcome), lab.now);
            lab.router.set_cooldown(1, None, lab.now);
            if class != FailureClass::Server {
                break;
            }
        }
        reconfigure(&mut lab, Config::default(), vec![plain("a")]);
        assert_eq!(lab.pick().index(), 0, "{class:?}");
    }
}

#[test]
fn an_operators_cooldown_stays() {
    let mut lab = lab();
    lab.router.set_cooldown(0, Some(milliseconds(5000)), lab.now);
    reconfigure(&mut lab, Config::default(), vec![plain("a")]);
    assert!(lab.try_pick(&Request::default()).is_err());
}

#[test]
fn a_router_without_deployments_refuses() {
    let mut lab = lab();
    reconfigure(&mut lab, Config::default(), Vec::new());
    assert!(lab.try_pick(&Request::default()).is_err());
    assert!(!lab.router.left(&Request::default(), lab.now).deployments);
    assert_eq!(lab.router.explain(&Request::default(), lab.now).chosen, None);
}

#[test]
fn the_revision_tells_whether_indexes_mean_what_they_meant() {
    let mut lab = lab();
    reconfigure(&mut lab, Config::default(), vec![plain("a"), plain("b")]);
    let first = lab.router.revision();
    reconfigure(&mut lab, Config::default(), vec![plain("a").weight(3), plain("b")]);
    assert_eq!(lab.router.revision(), first, "the same deployments in the same order");
    for others in [["b", "a"].as_slice(), &["b"], &["b", "c"], &[]] {
        let before = lab.router.revision();
        reconfigure(&mut lab, Config::default(), others.iter().map(|id| plain(id)).collect());
        assert_ne!(lab.router.revision(), before, "{others:?}");
        assert_eq!(lab.router.len(), others.len());
    }
}
