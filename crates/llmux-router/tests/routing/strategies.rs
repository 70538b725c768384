//! Whom each strategy chooses; `lowest-latency` is in a file of its own.

use llmux_router::{
    Builtin, Candidate, Config, Deployment, Draw, FailureClass, Measure, Measured, NoRoute, Price,
    Request, Strategy, TagMatch,
};

use super::support::{Lab, assert_shares, milliseconds};

const ANY: Request<'static> = Request {
    tried: &[],
    excluded: &[],
    unable: &[],
    full: &[],
    tags: &[],
    stream: false,
    input_tokens: 0,
    max_output_tokens: None,
    random: 0,
};

fn plain(id: &str) -> Deployment {
    Deployment::new(id)
}

fn shuffled(deployments: Vec<Deployment>) -> Vec<f64> {
    Lab::of(Builtin::SimpleShuffle, deployments).shares(4000, &ANY)
}

#[test]
fn shuffle_follows_the_weights() {
    let shares = shuffled(vec![plain("a").weight(3), plain("b").weight(1)]);
    assert_shares(&shares, &[0.75, 0.25]);
}

#[test]
fn shuffle_counts_one_without_a_weight_as_1_when_others_have_one() {
    assert_shares(&shuffled(vec![plain("a").weight(4), plain("b")]), &[0.8, 0.2]);
}

#[test]
fn shuffle_follows_requests_per_minute_where_none_has_a_weight() {
    let a = plain("a").requests_per_minute(90_000).tokens_per_minute(u64::MAX / 2);
    let b = plain("b").requests_per_minute(10_000).tokens_per_minute(u64::MAX);
    assert_shares(&shuffled(vec![a, b]), &[0.9, 0.1]);
}

#[test]
fn shuffle_follows_tokens_per_minute_where_none_has_anything_else() {
    let a = plain("a").tokens_per_minute(20_000_000);
    let b = plain("b").tokens_per_minute(80_000_000);
    assert_shares(&shuffled(vec![a, b]), &[0.2, 0.8]);
}

#[test]
fn shuffle_is_even_where_nothing_is_known() {
    let third = 1.0 / 3.0;
    assert_shares(&shuffled(vec![plain("a"), plain("b"), plain("c")]), &[third; 3]);
}

#[test]
fn weights_beat_requests_per_minute() {
    let a = plain("a").weight(1).requests_per_minute(90_000);
    let b = plain("b").weight(1).requests_per_minute(10_000);
    assert_shares(&shuffled(vec![a, b]), &[0.5, 0.5]);
}

#[test]
fn one_without_a_limit_counts_as_the_largest() {
    let a = plain("a").requests_per_minute(10_000);
    let b = plain("b").requests_per_minute(20_000);
    assert_shares(&shuffled(vec![a, b, plain("c")]), &[0.2, 0.4, 0.4]);
}

#[test]
fn a_weight_of_0_is_a_reserve() {
    for strategy in Builtin::ALL {
        let mut lab = Lab::of(strategy, vec![plain("a"), plain("b").weight(0)]);
        assert_eq!(lab.shares(50, &ANY), [1.0, 0.0], "{strategy:?}");
        let pick = lab.pick_for(&Request { excluded: &[0], ..ANY });
        assert_eq!(pick.index(), 1, "{strategy:?}");
        let pick = lab.pick_for(&Request { tried: &[0], ..ANY });
        assert_eq!(pick.index(), 1, "{strategy:?}");
    }
}

#[test]
fn least_busy_counts_from_the_pick() {
    let mut lab = Lab::of(Builtin::LeastBusy, vec![plain("a"), plain("b"), plain("c")]);
    assert_eq!(lab.counts_in_flight(30, &ANY), [10, 10, 10]);
}

#[test]
fn least_busy_is_relative_to_the_weights() {
    let mut lab = Lab::of(Builtin::LeastBusy, vec![plain("a").weight(4), plain("b").weight(1)]);
    assert_eq!(lab.counts_in_flight(50, &ANY), [40, 10]);
}

#[test]
fn least_busy_spreads_ties() {
    let third = 1.0 / 3.0;
    let mut lab = Lab::of(Builtin::LeastBusy, vec![plain("a"), plain("b"), plain("c")]);
    assert_shares(&lab.shares(4000, &ANY), &[third; 3]);
}

#[test]
fn least_busy_is_not_attracted_by_one_that_fails_at_once() {
    let config =
        Config { strategy: Builtin::LeastBusy, cooldown: milliseconds(0), ..Config::default() };
    let mut lab = Lab::with(config, vec![plain("fails"), plain("works")]);
    let mut failed = 0;
    let mut out = std::collections::VecDeque::new();
    for _ in 0..500 {
        lab.pass(milliseconds(100));
        let pick = lab.pick();
        if pick.index() == 0 {
            failed += 1;
            lab.fail(pick, FailureClass::Server);
        } else {
            out.push_back(pick);
        }
        // Answers take a second.
        if out.len() > 10 {
            let pick = out.pop_front().expect("ten are out");
            lab.succeed(pick, Measured { duration: milliseconds(1000), ..Measured::default() });
        }
    }
    assert!(failed > 0 && failed < 150, "{failed} of 500");
}

#[test]
fn lowest_tpm_rpm_compares_shares_of_the_deployments_own_limits() {
    let a = plain("a").requests_per_minute(100);
    let b = plain("b").requests_per_minute(300);
    let mut lab = Lab::of(Builtin::LowestTpmRpm, vec![a, b]);
    assert_eq!(lab.counts_in_flight(40, &ANY), [10, 30]);
}

#[test]
fn lowest_tpm_rpm_goes_by_the_limit_that_is_nearest() {
    // A request of 100 tokens takes a tenth of a's tokens and a hundredth of b's requests.
    let a = plain("a").requests_per_minute(1000).tokens_per_minute(1000);
    let b = plain("b").requests_per_minute(100).tokens_per_minute(1_000_000);
    let mut lab = Lab::of(Builtin::LowestTpmRpm, vec![a, b]);
    let request = Request { input_tokens: 100, max_output_tokens: Some(0), ..ANY };
    assert_eq!(lab.counts_in_flight(33, &request), [3, 30]);
}

#[test]
fn lowest_tpm_rpm_goes_by_real_usage_once_it_is_known() {
    let deployments =
        vec![plain("a").tokens_per_minute(100_000), plain("b").tokens_per_minute(100_000)];
    let mut lab = Lab::of(Builtin::LowestTpmRpm, deployments);
    let request = Request { input_tokens: 10, max_output_tokens: Some(10), ..ANY };
    let mut counts = [0_u32; 2];
    for _ in 0..110 {
        let pick = lab.pick_for(&request);
        counts[pick.index()] += 1;
        let used = if pick.index() == 0 { 1000 } else { 100 };
        lab.succeed(pick, Measured { total_tokens: Some(used), ..Measured::default() });
    }
    assert!(counts[0] >= 9 && counts[0] <= 11, "{counts:?}");
}

#[test]
fn lowest_tpm_rpm_prefers_one_without_limits_and_spreads_over_several() {
    let deployments = vec![plain("a").requests_per_minute(1_000_000), plain("b"), plain("c")];
    let mut lab = Lab::of(Builtin::LowestTpmRpm, deployments);
    let request = Request { input_tokens: 10, max_output_tokens: Some(10), ..ANY };
    assert_eq!(lab.counts_in_flight(40, &request), [0, 20, 20]);
}

const fn price(input: u64, output: u64) -> Price {
    Price { input: Some(input), output: Some(output) }
}

#[test]
fn lowest_cost_expects_input_and_the_most_output() {
    let reader = plain("cheap to read").price(price(1, 10));
    let writer = plain("cheap to write").price(price(10, 1));
    let mut lab = Lab::of(Builtin::LowestCost, vec![reader, writer]);
    let long_question = Request { input_tokens: 1000, max_output_tokens: Some(10), ..ANY };
    assert_eq!(lab.shares(50, &long_question), [1.0, 0.0]);
    let long_answer = Request { input_tokens: 10, max_output_tokens: Some(1000), ..ANY };
    assert_eq!(lab.shares(50, &long_answer), [0.0, 1.0]);
    let pick = lab.pick_for(&long_answer);
    assert_eq!(pick.why().measure, Measure::PicoDollars(1100));
}

#[test]
fn lowest_cost_takes_a_free_one_before_a_cheap_one() {
    let deployments = vec![plain("cheap").price(price(1, 1)), plain("free").price(price(0, 0))];
    let mut lab = Lab::of(Builtin::LowestCost, deployments);
    assert_eq!(lab.shares(50, &Request { input_tokens: 1, ..ANY }), [0.0, 1.0]);
}

#[test]
fn an_unknown_price_ranks_with_the_dearest_and_is_stated() {
    let deployments = vec![
        plain("unknown"),
        plain("dear").price(price(100, 100)),
        plain("cheap").price(price(1, 1)),
    ];
    let mut lab = Lab::of(Builtin::LowestCost, deployments);
    let request = Request { input_tokens: 10, max_output_tokens: Some(10), ..ANY };
    assert_eq!(lab.shares(50, &request), [0.0, 0.0, 1.0]);
    let shares = lab.shares(4000, &Request { excluded: &[2], ..request });
    assert_shares(&shares, &[0.5, 0.5, 0.0]);
    let pick = lab.pick_for(&Request { excluded: &[1], tried: &[2], ..request });
    assert_eq!(pick.index(), 0);
    assert_eq!(pick.why().measure, Measure::UnknownPrice(0), "nothing to compare with");
    let all = lab.router.explain(&request, lab.now);
    let unknown = all.candidates.iter().find(|it| it.index == 0).expect("a candidate");
    assert_eq!(unknown.measure, Measure::UnknownPrice(2000));
}

#[test]
fn embeddings_need_no_price_for_output() {
    let a = plain("a").price(Price { input: Some(1), output: None });
    let b = plain("b").price(Price { input: Some(2), output: None });
    let mut lab = Lab::of(Builtin::LowestCost, vec![b, a]);
    let request = Request { input_tokens: 10, max_output_tokens: Some(0), ..ANY };
    assert_eq!(lab.shares(50, &request), [0.0, 1.0]);
}

fn tagged(tag_match: TagMatch, with_default: bool) -> Lab {
    let mut deployments =
        vec![plain("a").tags(["free", "eu"]), plain("b").tags(["free"]), plain("c").tags(["us"])];
    if with_default {
        deployments.push(plain("d").tags(["default"]));
    }
    Lab::with(Config { strategy: Builtin::TagBased, tag_match, ..Config::default() }, deployments)
}

fn tags(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

#[test]
fn tag_based_takes_those_with_any_of_the_tags() {
    let tags = tags(&["eu", "us"]);
    let shares = tagged(TagMatch::Any, true).shares(4000, &Request { tags: &tags, ..ANY });
    assert_shares(&shares, &[0.5, 0.0, 0.5, 0.0]);
}

#[test]
fn tag_based_takes_those_with_all_of_the_tags() {
    let tags = tags(&["eu", "free"]);
    let shares = tagged(TagMatch::All, true).shares(100, &Request { tags: &tags, ..ANY });
    assert_eq!(shares, [1.0, 0.0, 0.0, 0.0]);
}

#[test]
fn tag_based_falls_back_to_the_default_one() {
    let tags = tags(&["asia"]);
    for request in [ANY, Request { tags: &tags, ..ANY }] {
        let shares = tagged(TagMatch::Any, true).shares(100, &request);
        assert_eq!(shares, [0.0, 0.0, 0.0, 1.0]);
    }
}

#[test]
fn tag_based_refuses_tags_that_nobody_has() {
    let tags = tags(&["asia"]);
    let refused = tagged(TagMatch::Any, false).try_pick(&Request { tags: &tags, ..ANY });
    assert_eq!(refused.expect_err("nobody has it"), NoRoute::Tags);
}

#[test]
fn tag_based_without_tags_and_default_takes_any() {
    let third = 1.0 / 3.0;
    assert_shares(&tagged(TagMatch::Any, false).shares(4000, &ANY), &[third; 3]);
}

#[test]
fn an_ill_deployment_does_not_send_its_tags_to_the_default_one() {
    let mut lab = tagged(TagMatch::Any, true);
    lab.router.set_cooldown(2, Some(milliseconds(5000)), lab.now);
    let tags = tags(&["us"]);
    let refused = lab.try_pick(&Request { tags: &tags, ..ANY });
    assert!(matches!(refused, Err(NoRoute::Cooling { .. })), "{refused:?}");
}

#[test]
fn other_strategies_do_not_look_at_tags() {
    let mut lab = Lab::of(Builtin::RoundRobin, vec![plain("a"), plain("b").tags(["eu"])]);
    let tags = tags(&["asia"]);
    assert_eq!(lab.shares(10, &Request { tags: &tags, ..ANY }), [0.5, 0.5]);
}

#[test]
fn round_robin_mixes_the_turns_evenly() {
    let deployments = vec![plain("a").weight(5), plain("b").weight(1), plain("c").weight(1)];
    let mut lab = Lab::of(Builtin::RoundRobin, deployments);
    let order: String = (0..14)
        .map(|_| {
            let pick = lab.pick();
            lab.router.deployment(pick.index()).id().to_owned()
        })
        .collect();
    assert_eq!(order, "aabacaaaabacaa");
}

#[test]
fn round_robin_without_weights_takes_turns() {
    let mut lab = Lab::of(Builtin::RoundRobin, vec![plain("a"), plain("b"), plain("c")]);
    let order: Vec<usize> = (0..7).map(|_| lab.pick().index()).collect();
    assert_eq!(order, [0, 1, 2, 0, 1, 2, 0]);
}

#[derive(Debug, Default)]
struct Last {
    picked: Vec<String>,
}

impl Strategy for Last {
    fn name(&self) -> &'static str {
        "not-the-last"
    }

    fn choose(&self, candidates: &[Candidate<'_>], _: Draw) -> usize {
        let fresh = |it: &Candidate<'_>| !self.picked.iter().any(|id| id == it.id);
        candidates.iter().position(fresh).unwrap_or(usize::MAX)
    }

    fn picked(&mut self, id: &str) {
        self.picked.push(id.to_owned());
    }
}

#[test]
fn a_strategy_of_ones_own_sees_candidates_only_and_its_picks() {
    let deployments = vec![plain("a"), plain("b"), plain("c")];
    let mut lab = Lab::of(Builtin::SimpleShuffle, deployments);
    lab.router = llmux_router::Router::new(Config::default(), [plain("a"), plain("b"), plain("c")])
        .with_strategy(Box::<Last>::default());
    lab.router.set_cooldown(1, Some(milliseconds(60_000)), lab.now);
    let dry = lab.router.explain(&ANY, lab.now);
    assert_eq!(dry.chosen.as_deref(), Some("a"));
    let order: Vec<usize> = (0..4).map(|_| lab.pick().index()).collect();
    assert_eq!(order, [0, 2, 2, 2], "an index beyond the end chooses the last");
    assert_eq!(lab.pick().why().to_string(), "not-the-last 2/3 own");
}

#[test]
fn names_of_strategies_are_read_back_and_others_refused() {
    for strategy in Builtin::ALL {
        assert_eq!(strategy.as_str().parse(), Ok(strategy));
    }
    let unknown = "fastest".parse::<Builtin>().expect_err("no such strategy");
    assert_eq!(unknown.to_string(), "no strategy is called \"fastest\"");
}

#[test]
fn one_that_is_unable_gets_nothing_and_its_requests_do_not_slip_to_the_default() {
    let config = Config { strategy: Builtin::TagBased, ..Config::default() };
    let eu = Deployment::new("eu").tags(["eu"]);
    let mut lab = Lab::with(config, vec![eu, Deployment::new("any").tags(["default"])]);
    let tags = ["eu".to_owned()];
    let unable = Request { unable: &[0], ..ANY };
    assert_eq!(lab.pick_for(&unable).index(), 1);
    let tagged = Request { tags: &tags, ..unable };
    assert_eq!(lab.try_pick(&tagged).expect_err("nobody"), NoRoute::Excluded);
}
