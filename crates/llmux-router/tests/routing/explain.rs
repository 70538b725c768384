//! What a decision says.

use llmux_router::{
    Builtin, Config, Deployment, Exclusion, FailureClass, FallbackKind, FallbackLists, Fallbacks,
    Left, NoRoute, Outcome, Price, Request, RetryPolicy, Router, Step,
};
use serde_json::json;

use super::support::{Chance, Lab, failure, milliseconds, seconds, stream, whole};

fn deployments() -> Vec<Deployment> {
    let price = |input| Price { input: Some(input), output: Some(5) };
    vec![
        Deployment::new("a").weight(3).requests_per_minute(500).price(price(3)).tags(["eu"]),
        Deployment::new("b").tokens_per_minute(900_000).price(price(1)).tags(["eu", "default"]),
        Deployment::new("c").max_concurrent(20).tags(["us"]),
        Deployment::new("d").weight(0),
    ]
}

#[test]
fn explain_tells_the_next_pick_and_changes_nothing() {
    for strategy in Builtin::ALL {
        let mut asked = Lab::of(strategy, deployments());
        let mut unasked = Lab::of(strategy, deployments());
        unasked.now = asked.now;
        let (mut chance, tags) = (Chance(7), ["eu".to_owned()]);
        for round in 0..300_u64 {
            let random = chance.next();
            let tried = [usize::try_from(random % 4).expect("below 4")];
            let request = Request {
                tried: if round % 3 == 0 { &tried } else { &[] },
                tags: if round % 2 == 0 { &tags } else { &[] },
                stream: round % 5 == 0,
                input_tokens: round,
                max_output_tokens: (round % 7 == 0).then_some(round),
                random,
                ..Request::default()
            };
            let told = asked.router.explain(&request, asked.now);
            assert_eq!(told.candidates.len() + told.excluded.len(), 4);
            let mut indexes = Vec::new();
            for lab in [&mut asked, &mut unasked] {
                let picked = lab.router.pick(&request, lab.now);
                match picked {
                    Ok(pick) => {
                        assert_eq!(told.index, Some(pick.index()), "{strategy:?}");
                        assert_eq!(told.why, pick.why().to_string(), "{strategy:?}");
                        assert_eq!(told.candidates.len(), pick.why().candidates);
                        indexes.push(Ok(pick.index()));
                        let answer = match (round % 11, pick.index()) {
                            (0, _) => Outcome::Failure(failure(FailureClass::Server)),
                            (1, 2) => Outcome::Failure(failure(FailureClass::RateLimited)),
                            (2 | 3, index) => Outcome::Success(stream(100 * index as u64, 900, 50)),
                            (_, index) => Outcome::Success(whole(300 + 50 * index as u64, 50)),
                        };
                        lab.router.record(pick, answer, lab.now);
                    }
                    Err(no_route) => {
                        assert_eq!((told.index, &told.why), (None, &no_route.to_string()));
                        indexes.push(Err(no_route));
                    }
                }
                lab.pass(milliseconds(700));
            }
            assert_eq!(indexes[0], indexes[1], "{strategy:?}: a router that is not asked");
        }
    }
}

#[test]
fn every_exclusion_has_its_reason() {
    let config = Config { strategy: Builtin::TagBased, ..Config::default() };
    let mut deployments: Vec<_> = [
        "best",
        "forbidden",
        "untagged",
        "busy",
        "limited",
        "cooling",
        "probing",
        "tried",
        "standby",
    ]
    .into_iter()
    .map(|id| Deployment::new(id).tags(["x"]))
    .collect();
    deployments[2] = Deployment::new("untagged");
    deployments[3] = deployments[3].clone().max_concurrent(1);
    deployments[4] = deployments[4].clone().requests_per_minute(1);
    deployments[8] = deployments[8].clone().weight(0);
    let mut lab = Lab::with(config, deployments);
    lab.router.set_cooldown(6, Some(seconds(1)), lab.now);
    lab.pass(seconds(1));
    let tags = ["x".to_owned()];
    for index in [3, 4, 6] {
        let others: Vec<usize> = (0..9).filter(|&other| other != index).collect();
        drop(lab.pick_for(&Request { tags: &tags, excluded: &others, ..Request::default() }));
    }
    lab.router.set_cooldown(5, Some(seconds(9)), lab.now);
    let request =
        Request { tags: &tags, excluded: &[1], tried: &[7], input_tokens: 1, ..Request::default() };
    let decision = lab.router.explain(&request, lab.now);
    assert_eq!(decision.chosen.as_deref(), Some("best"));
    let seen = serde_json::to_value(&decision.excluded).expect("plain data");
    let expected = json!([
        {"deployment": "forbidden", "reason": "not_allowed"},
        {"deployment": "untagged", "reason": "tags"},
        {"deployment": "busy", "reason": "busy"},
        {"deployment": "limited", "reason": "limited", "retry_after_ms": 60_000},
        {"deployment": "cooling", "reason": "cooling", "cooldown": "manual", "left_ms": 9000, "retry_after_ms": 9000},
        {"deployment": "probing", "reason": "probing", "cooldown": "manual"},
        {"deployment": "tried", "reason": "tried"},
        {"deployment": "standby", "reason": "standby"},
    ]);
    assert_eq!(seen, expected);
    assert_eq!(decision.excluded[0].exclusion, Exclusion::NotAllowed);
}

#[test]
fn a_decision_is_this_json() {
    let deployments = vec![
        Deployment::new("openai/gpt-4o").weight(3).requests_per_minute(500).tags(["eu"]),
        Deployment::new("azure/gpt-4o").tokens_per_minute(9000).max_concurrent(8),
    ];
    let mut lab = Lab::of(Builtin::LeastBusy, deployments);
    lab.answer_at(0, stream(250, 900, 40));
    lab.answer_at(0, whole(1000, 40));
    lab.fail_at(1, FailureClass::Credential, 1);
    let request = Request { input_tokens: 10, max_output_tokens: Some(20), ..Request::default() };
    drop(lab.pick_for(&request));
    let decision = lab.router.explain(&request, lab.now);
    let seen = serde_json::to_value(&decision).expect("plain data");
    let expected = json!({
        "strategy": "least-busy",
        "chosen": "openai/gpt-4o",
        "why": "least-busy 1/2 busy=0.33",
        "candidates": [{
            "measure": {"busy": 1.0 / 3.0},
            "deployment": "openai/gpt-4o",
            "weight": 3,
            "tags": ["eu"],
            "in_flight": 1,
            "max_concurrent": null,
            "rpm": 500,
            "tpm": null,
            "requests": 3,
            // 256 + 40 expected of the first two, which told no total; 10 + 20 of the third.
            "tokens": 326,
            "calls": 2,
            "failures": 0,
            "state": "available",
            "cooldown": null,
            "cooldown_left_ms": null,
            "first_output_ms": 250.0,
            "latency_ms": 1000.0,
            "success_rate": 1.0,
        }],
        "excluded": [{
            "deployment": "azure/gpt-4o",
            "reason": "cooling",
            "cooldown": "credential",
            "left_ms": 60_000,
            "retry_after_ms": 60_000,
        }],
    });
    assert_eq!(seen, expected);
    lab.pass(milliseconds(500));
    let snapshot = serde_json::to_value(lab.router.snapshot(1, lab.now)).expect("plain data");
    let expected = json!({
        "deployment": "azure/gpt-4o", "weight": 1, "tags": [], "in_flight": 0, "max_concurrent": 8,
        "rpm": null, "tpm": 9000, "requests": 1, "tokens": 0, "calls": 0, "failures": 0,
        "state": "cooling", "cooldown": "credential", "cooldown_left_ms": 59_500,
        "first_output_ms": null, "latency_ms": null, "success_rate": 0.0,
    });
    assert_eq!(snapshot, expected);
}

#[test]
fn the_short_form_tells_the_figure_and_what_was_tried() {
    let shown = |strategy| {
        let mut lab = Lab::of(strategy, vec![Deployment::new("a"), Deployment::new("b").weight(3)]);
        let request = Request { tried: &[0], input_tokens: 1, ..Request::default() };
        lab.pick_for(&request).why().to_string()
    };
    for (strategy, expected) in [
        (Builtin::SimpleShuffle, "simple-shuffle 1/2 weight=3 tried=1"),
        (Builtin::LowestLatency, "lowest-latency 1/2 unmeasured tried=1"),
        (Builtin::LeastBusy, "least-busy 1/2 busy=0.00 tried=1"),
        (Builtin::LowestTpmRpm, "lowest-tpm-rpm 1/2 limit_share=0.000 tried=1"),
        (Builtin::LowestCost, "lowest-cost 1/2 price=unknown,assumed_pico_dollars=0 tried=1"),
        (Builtin::TagBased, "tag-based 1/2 weight=3 tried=1"),
        (Builtin::RoundRobin, "round-robin 1/2 turn=3 tried=1"),
    ] {
        assert_eq!(shown(strategy), expected);
    }
}

#[test]
fn refusals_are_told_in_words() {
    for (no_route, words) in [
        (NoRoute::Excluded, "no deployment may serve the request"),
        (NoRoute::Tags, "no deployment has the request's tags"),
        (NoRoute::Busy, "all deployments are busy"),
        (NoRoute::Limited { retry_after: None }, "the limits of all deployments are used up"),
    ] {
        assert_eq!(no_route.to_string(), words);
    }
}

/// One request against routers whose deployments all answer with `class`; returns what was called.
fn play(class: FailureClass, policy: &RetryPolicy) -> Vec<String> {
    let lists = |to: &str| FallbackLists::from([("m".to_owned(), vec![to.to_owned()])]);
    let fallbacks = Fallbacks::new(lists("n"), lists("long"), lists("lax")).expect("no circle");
    let now = super::support::start();
    let mut routers: Vec<(&str, Router)> = ["m", "n", "long", "lax"]
        .into_iter()
        .map(|model| {
            let deployments = [1, 2].map(|at| Deployment::new(format!("{model}{at}")));
            let config = Config { strategy: Builtin::RoundRobin, ..Config::default() };
            (model, Router::new(config, deployments))
        })
        .collect();
    let (mut visited, mut tried, mut calls) = (vec!["m"], Vec::new(), Vec::new());
    loop {
        let model = visited[visited.len() - 1];
        let router = &mut routers.iter_mut().find(|(name, _)| *name == model).expect("known").1;
        let request = Request { tried: &tried, ..Request::default() };
        let pick = router.pick(&request, now).expect("both are well");
        calls.push(router.deployment(pick.index()).id().to_owned());
        tried.push(pick.index());
        router.record(pick, Outcome::Failure(failure(class)), now);
        let refused = matches!(class, FailureClass::Credential | FailureClass::Forbidden);
        let unable = if refused { tried.as_slice() } else { &[] };
        let request = Request { tried: &tried, unable, ..Request::default() };
        let next = FallbackKind::of(class).and_then(|kind| fallbacks.next(kind, &visited));
        let left = Left { models: next.is_some(), ..router.left(&request, now) };
        match policy.after(&failure(class), u32::try_from(calls.len()).expect("few"), left, 0) {
            Step::Elsewhere => {}
            Step::Again { .. } => calls.push("wait".to_owned()),
            Step::NextModel => {
                visited.push(next.expect("there is one"));
                tried.clear();
            }
            Step::GiveUp => return calls,
        }
    }
}

#[test]
fn router_policy_and_fallbacks_together_try_everything_once_before_anything_twice() {
    let policy = RetryPolicy {
        count: 5,
        backoff: milliseconds(100),
        max_backoff: seconds(5),
        jitter: 0.2,
        fallback: true,
    };
    let mut calls = play(FailureClass::Server, &policy);
    let again = calls.pop().expect("there were calls");
    assert!(again.starts_with('n'), "{again}");
    assert_eq!(calls, ["m1", "m2", "n1", "n2", "wait"]);
    assert_eq!(play(FailureClass::Credential, &policy), ["m1", "m2", "n1", "n2"]);
    assert_eq!(play(FailureClass::ContextWindow, &policy), ["m1", "long1"]);
    assert_eq!(play(FailureClass::ContentPolicy, &policy), ["m1", "lax1"]);
    assert_eq!(play(FailureClass::Request, &policy), ["m1"]);
}
