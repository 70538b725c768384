//! What a caller of the limiter relies on. Random histories against a naive model: `model.rs`.

mod model;
mod threads;

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::*;
use crate::Period;

const WALL: i64 = 1_700_000_000_000;

#[expect(clippy::disallowed_methods, reason = "any instant will do")]
fn start() -> Instant {
    Instant::now()
}

fn scope(kind: ScopeKind, id: &str) -> Scope {
    Scope::new(kind, id)
}

fn key() -> Scope {
    scope(ScopeKind::Key, "k")
}

fn team() -> Scope {
    scope(ScopeKind::Team, "t")
}

fn requests(limit: u64) -> Limits {
    Limits { requests_per_minute: Some(limit), ..Limits::default() }
}

fn tokens(limit: u64) -> Limits {
    Limits { tokens_per_minute: Some(limit), ..Limits::default() }
}

fn parallel(limit: u64) -> Limits {
    Limits { parallel_requests: Some(limit), ..Limits::default() }
}

fn period(text: &str) -> Option<Period> {
    Some(text.parse().unwrap())
}

fn money(max_nanos: i64, period: Option<Period>) -> Limits {
    let budget = Budget { max_nanos: Some(max_nanos), soft_nanos: None, period, started_ms: WALL };
    Limits { budget: Some(budget), ..Limits::default() }
}

fn limiter(t0: Instant, scopes: &[(Scope, Limits)]) -> (Arc<Limiter>, Scopes) {
    let limiter = Limiter::new(t0);
    let scopes = limiter.scopes(scopes);
    (limiter, scopes)
}

/// A limiter that has loaded a spend of 0 everywhere.
fn funded(scopes: &[(Scope, Limits)]) -> (Arc<Limiter>, Scopes) {
    let (limiter, found) = limiter(start(), scopes);
    load_all(&limiter, &found, WALL, 0);
    (limiter, found)
}

fn load_all(limiter: &Limiter, scopes: &Scopes, wall_ms: i64, nanos: i64) {
    if let Err(MoneyRefused::Unknown(unloaded)) = limiter.check_money(scopes, 0, wall_ms) {
        for it in unloaded {
            assert!(limiter.load(&it.scope, it.window_start_ms, nanos));
        }
    }
}

fn exceeded(refused: Result<MoneyReservation, MoneyRefused>) -> BudgetExceeded {
    match refused {
        Err(MoneyRefused::Exceeded(exceeded)) => exceeded,
        other => panic!("want a budget that is exceeded, got {other:?}"),
    }
}

fn spent(limiter: &Limiter, scope: &Scope) -> (Option<i64>, i64) {
    let counted = limiter.counted(scope, start());
    (counted.settled_nanos, counted.reserved_nanos)
}

#[test]
fn requests_fit_up_to_the_limit_and_again_after_the_wait() {
    let t0 = start();
    let (limiter, scopes) = limiter(t0, &[(key(), requests(2))]);
    let first = t0 + Duration::from_millis(10_400);
    drop(limiter.reserve(&scopes, Demand::default(), first).unwrap());
    drop(limiter.reserve(&scopes, Demand::default(), first + Duration::from_secs(5)).unwrap());
    let now = first + Duration::from_secs(20);
    let refused = limiter.reserve(&scopes, Demand::default(), now).unwrap_err();
    assert_eq!((refused.limit, refused.value, refused.permanent), (Limit::Requests, 2, false));
    assert_eq!(refused.to_string(), "the limit of 2 requests per minute of the key is reached");
    let wait = refused.retry_after.unwrap();
    assert_eq!(wait, Duration::from_millis(40_600));
    let early = now + wait - Duration::from_millis(1);
    assert!(limiter.reserve(&scopes, Demand::default(), early).is_err());
    drop(limiter.reserve(&scopes, Demand::default(), now + wait).unwrap());
}

#[test]
fn what_is_refused_is_counted_nowhere() {
    let t0 = start();
    let scopes = [(team(), parallel(9)), (key(), requests(1))];
    let (limiter, scopes) = limiter(t0, &scopes);
    let held = limiter.reserve(&scopes, Demand { tokens: 5 }, t0).unwrap();
    let before = limiter.counted(&team(), t0);
    for _ in 0..10 {
        assert_eq!(limiter.reserve(&scopes, Demand { tokens: 5 }, t0).unwrap_err().scope, key());
    }
    assert_eq!(limiter.counted(&team(), t0), before);
    assert_eq!(before, Counted { requests: 1, tokens: 5, parallel: 1, ..Counted::default() });
    drop(held);
    assert_eq!(limiter.under_way(), (0, 0));
}

#[test]
fn the_limit_that_keeps_out_longest_is_named() {
    let t0 = start();
    let listed =
        [(key(), requests(1)), (team(), parallel(1)), (scope(ScopeKind::User, "u"), tokens(10))];
    let (limiter, scopes) = limiter(t0, &listed);
    let held = limiter.reserve(&scopes, Demand { tokens: 4 }, t0).unwrap();
    let refused = limiter.reserve(&scopes, Demand { tokens: 9 }, t0).unwrap_err();
    // Key and user wait equally long: the first one named.
    assert_eq!((refused.scope, refused.limit), (key(), Limit::Requests));
    let user = limiter.scopes(&listed[2..]);
    drop(limiter.reserve(&user, Demand { tokens: 4 }, t0 + Duration::from_secs(7)).unwrap());
    let refused =
        limiter.reserve(&scopes, Demand { tokens: 9 }, t0 + Duration::from_secs(8)).unwrap_err();
    assert_eq!((refused.scope.kind, refused.limit), (ScopeKind::User, Limit::Tokens));
    assert_eq!(refused.retry_after, Some(Duration::from_secs(60)));
    let later = t0 + Duration::from_secs(100);
    let refused = limiter.reserve(&scopes, Demand { tokens: 9 }, later).unwrap_err();
    assert_eq!(
        (refused.scope, refused.limit, refused.retry_after),
        (team(), Limit::Parallel, None)
    );
    assert!(!refused.permanent);
    drop(held);
    drop(limiter.reserve(&scopes, Demand { tokens: 9 }, later).unwrap());
}

#[test]
fn a_limit_of_zero_lets_nothing_through_and_says_that_waiting_is_in_vain() {
    let t0 = start();
    for limits in [requests(0), tokens(0), parallel(0)] {
        let (limiter, scopes) = limiter(t0, &[(key(), limits)]);
        let refused = limiter.reserve(&scopes, Demand::default(), t0).unwrap_err();
        assert_eq!((refused.value, refused.permanent, refused.retry_after), (0, true, None));
    }
}

#[test]
fn more_tokens_than_the_whole_limit_wait_for_the_whole_limit() {
    let t0 = start();
    let (limiter, scopes) = limiter(t0, &[(key(), tokens(100))]);
    limiter.reserve(&scopes, Demand { tokens: u64::MAX }, t0).unwrap().settle_tokens(1, t0);
    let refused = limiter.reserve(&scopes, Demand { tokens: u64::MAX }, t0).unwrap_err();
    assert_eq!(refused.retry_after, Some(Duration::from_secs(61)));
    let big =
        limiter.reserve(&scopes, Demand { tokens: 5000 }, t0 + Duration::from_secs(61)).unwrap();
    assert_eq!(big.standing().tokens.unwrap().remaining, 0);
}

#[test]
fn tokens_are_corrected_by_what_was_used() {
    let t0 = start();
    let (limiter, scopes) = limiter(t0, &[(key(), tokens(100))]);
    let held = limiter.reserve(&scopes, Demand { tokens: 80 }, t0).unwrap();
    held.settle_tokens(30, t0 + Duration::from_secs(5));
    assert_eq!(limiter.counted(&key(), t0 + Duration::from_secs(5)).tokens, 30);
    let held =
        limiter.reserve(&scopes, Demand { tokens: 70 }, t0 + Duration::from_secs(10)).unwrap();
    let late = t0 + Duration::from_secs(200);
    held.settle_tokens(170, late);
    // What was not estimated counts when it is known, long after the estimate has left the window.
    assert_eq!(limiter.counted(&key(), late).tokens, 100);
    assert!(limiter.reserve(&scopes, Demand { tokens: 1 }, late).is_err());
    // An estimate that nobody corrects stays.
    let later = late + Duration::from_secs(61);
    drop(limiter.reserve(&scopes, Demand { tokens: 60 }, later).unwrap());
    assert_eq!(limiter.counted(&key(), later).tokens, 60);
}

#[test]
fn a_refunded_request_was_never_made() {
    let t0 = start();
    let (limiter, scopes) = limiter(t0, &[(key(), requests(1)), (team(), tokens(10))]);
    limiter.reserve(&scopes, Demand { tokens: 99 }, t0).unwrap().refund();
    assert_eq!(limiter.counted(&key(), t0), Counted::default());
    assert_eq!(limiter.counted(&team(), t0), Counted::default());
    drop(limiter.reserve(&scopes, Demand { tokens: 99 }, t0).unwrap());
}

#[test]
fn the_tightest_limit_is_shown() {
    let t0 = start();
    let both = |requests, tokens| Limits {
        requests_per_minute: Some(requests),
        tokens_per_minute: Some(tokens),
        ..Limits::default()
    };
    let (limiter, scopes) = limiter(t0, &[(key(), both(10, 1000)), (team(), both(5, 5000))]);
    let at = t0 + Duration::from_millis(2500);
    let held = limiter.reserve(&scopes, Demand { tokens: 300 }, at).unwrap();
    let reset = Duration::from_millis(60_500);
    assert_eq!(held.standing().requests, Some(Quota { limit: 5, remaining: 4, reset }));
    assert_eq!(held.standing().tokens, Some(Quota { limit: 1000, remaining: 700, reset }));
    let refused =
        limiter.reserve(&scopes, Demand { tokens: 800 }, at + Duration::from_secs(1)).unwrap_err();
    let reset = Duration::from_millis(59_500);
    assert_eq!(refused.standing.tokens, Some(Quota { limit: 1000, remaining: 700, reset }));
    let free = limiter.scopes(&[(key(), parallel(100))]);
    assert_eq!(
        limiter.reserve(&free, Demand::default(), at).unwrap().standing(),
        &Standing::default()
    );
}

#[test]
fn models_have_their_own_limits() {
    let t0 = start();
    let (limiter, small) =
        limiter(t0, &[(key(), requests(3)), (key().of_model("small"), requests(1))]);
    let large = limiter.scopes(&[(key(), requests(3)), (key().of_model("large"), requests(9))]);
    drop(limiter.reserve(&small, Demand::default(), t0).unwrap());
    let refused = limiter.reserve(&small, Demand::default(), t0).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the limit of 1 requests per minute of the key (model small) is reached"
    );
    for _ in 0..2 {
        drop(limiter.reserve(&large, Demand::default(), t0).unwrap());
    }
    assert_eq!(limiter.reserve(&large, Demand::default(), t0).unwrap_err().scope, key());
}

#[test]
fn a_scope_named_twice_counts_once_and_one_without_limits_not_at_all() {
    let t0 = start();
    let (limiter, scopes) =
        limiter(t0, &[(key(), requests(2)), (key(), requests(1)), (team(), Limits::default())]);
    drop(limiter.reserve(&scopes, Demand::default(), t0).unwrap());
    drop(limiter.reserve(&scopes, Demand::default(), t0).unwrap());
    assert!(limiter.reserve(&scopes, Demand::default(), t0).is_err());
    assert_eq!(limiter.len(), 1);
    assert!(limiter.scopes(&[(team(), Limits::default())]).is_empty());
}

#[test]
fn no_money_is_given_before_the_spend_is_known() {
    let (limiter, scopes) =
        limiter(start(), &[(key(), money(100, period("1h"))), (team(), money(50, None))]);
    let refused = limiter.reserve_money(&scopes, 1, WALL + 4_000_000).unwrap_err();
    let unloaded = |scope, window_start_ms| Unloaded { scope, window_start_ms };
    assert_eq!(
        refused,
        MoneyRefused::Unknown(vec![unloaded(key(), WALL + 3_600_000), unloaded(team(), WALL)])
    );
    assert!(!limiter.load(&key(), WALL, 0), "another window");
    assert!(limiter.load(&key(), WALL + 3_600_000, 90));
    assert!(!limiter.load(&key(), WALL + 3_600_000, 0), "the first answer counts");
    assert!(limiter.load(&team(), WALL, 0));
    assert!(!limiter.load(&scope(ScopeKind::User, "never seen"), WALL, 0));
    let exceeded = exceeded(limiter.reserve_money(&scopes, 11, WALL + 4_000_000));
    assert_eq!((exceeded.scope, exceeded.settled_nanos), (key(), 90));
    assert_eq!(exceeded.resets_at_ms, Some(WALL + 7_200_000));
    limiter.reserve_money(&scopes, 10, WALL + 4_000_000).unwrap().settle(10);
}

#[test]
fn a_budget_is_spent_to_the_last_nano_and_no_further() {
    let (limiter, scopes) = funded(&[(key(), money(100, None))]);
    let held = limiter.reserve_money(&scopes, 60, WALL).unwrap();
    let too_dear = exceeded(limiter.reserve_money(&scopes, 41, WALL));
    assert_eq!((too_dear.reserved_nanos, too_dear.asked_nanos), (60, 41));
    let want = "the budget of the key does not have room for what the call may cost";
    assert_eq!((too_dear.is_used_up(), too_dear.to_string().as_str()), (false, want));
    let free = limiter.reserve_money(&scopes, 0, WALL).unwrap();
    limiter.reserve_money(&scopes, 40, WALL).unwrap().settle(40);
    held.settle(60);
    drop(free);
    assert_eq!(spent(&limiter, &key()), (Some(100), 0));
    let used_up = exceeded(limiter.reserve_money(&scopes, 0, WALL));
    assert!(used_up.is_used_up());
    assert_eq!(used_up.to_string(), "the budget of the key is used up");
    assert!(limiter.check_money(&scopes, 0, WALL).is_err());
}

#[test]
fn money_comes_back_from_attempts_that_cost_less_or_nothing() {
    let (limiter, scopes) = funded(&[(key(), money(100, None)), (team(), money(1000, None))]);
    drop(limiter.reserve_money(&scopes, 100, WALL).unwrap());
    limiter.reserve_money(&scopes, 100, WALL).unwrap().settle(30);
    limiter.reserve_money(&scopes, 70, WALL).unwrap().settle(80);
    for scope in [key(), team()] {
        assert_eq!(spent(&limiter, &scope), (Some(110), 0));
    }
    assert!(limiter.reserve_money(&scopes, 0, WALL).is_err());
    assert_eq!(limiter.under_way(), (0, 0));
}

#[test]
fn a_budget_of_zero_gives_nothing_even_before_it_is_loaded() {
    let (limiter, scopes) = limiter(start(), &[(key(), money(0, None))]);
    exceeded(limiter.reserve_money(&scopes, 0, WALL));
}

#[test]
fn the_first_named_budget_is_blamed_and_the_others_keep_their_money() {
    let user = scope(ScopeKind::User, "u");
    let (limiter, _) = funded(&[(user.clone(), money(5, None)), (team(), money(5, None))]);
    let listed =
        [(key(), money(100, None)), (team(), money(5, None)), (user.clone(), money(5, None))];
    let scopes = limiter.scopes(&listed);
    load_all(&limiter, &scopes, WALL, 0);
    assert_eq!(exceeded(limiter.reserve_money(&scopes, 6, WALL)).scope, team());
    for scope in [key(), team(), user] {
        assert_eq!(spent(&limiter, &scope), (Some(0), 0));
    }
}

#[test]
fn a_soft_budget_warns_once_it_is_reached() {
    let budget = Budget { max_nanos: None, soft_nanos: Some(10), period: None, started_ms: WALL };
    let soft = Limits { budget: Some(budget), ..Limits::default() };
    let (limiter, scopes) = funded(&[(key(), money(1000, None)), (team(), soft)]);
    let attempt = limiter.reserve_money(&scopes, 10, WALL).unwrap();
    assert_eq!(attempt.soft_exceeded(), None);
    attempt.settle(10);
    assert_eq!(limiter.reserve_money(&scopes, 1, WALL).unwrap().soft_exceeded(), Some(&team()));
}

#[test]
fn a_new_window_starts_with_all_its_money_and_old_attempts_are_charged_to_their_own() {
    let (limiter, scopes) =
        funded(&[(key(), money(100, period("1h"))), (team(), money(500, None))]);
    let old = limiter.reserve_money(&scopes, 100, WALL + 3_599_999).unwrap();
    assert!(limiter.reserve_money(&scopes, 1, WALL + 3_599_999).is_err());
    let new = limiter.reserve_money(&scopes, 100, WALL + 3_600_000).unwrap();
    old.settle(90);
    assert_eq!(spent(&limiter, &key()), (Some(0), 100));
    assert_eq!(spent(&limiter, &team()), (Some(90), 100));
    new.settle(100);
    assert_eq!(spent(&limiter, &key()), (Some(100), 0));
    assert_eq!(exceeded(limiter.reserve_money(&scopes, 1, WALL + 3_600_001)).settled_nanos, 100);
    limiter.reserve_money(&scopes, 100, WALL + 7_200_000).unwrap().settle(1);
    assert_eq!(spent(&limiter, &team()), (Some(191), 0));
}

#[test]
fn a_clock_that_steps_back_a_little_keeps_the_window_and_one_that_was_wrong_loads_anew() {
    let (limiter, scopes) = funded(&[(key(), money(100, period("30s")))]);
    let next = WALL + 30_000;
    let held = limiter.reserve_money(&scopes, 10, next).unwrap();
    limiter.reserve_money(&scopes, 20, next - 2).unwrap().settle(20);
    held.settle(10);
    assert_eq!(spent(&limiter, &key()), (Some(30), 0));
    let far = WALL + 1_000_000_000;
    let held = limiter.reserve_money(&scopes, 50, far).unwrap();
    let refused = limiter.reserve_money(&scopes, 1, next).unwrap_err();
    let wanted = Unloaded { scope: key(), window_start_ms: next };
    assert_eq!(refused, MoneyRefused::Unknown(vec![wanted]));
    assert!(limiter.load(&key(), next, 30));
    held.settle(50);
    assert_eq!(spent(&limiter, &key()), (Some(30), 0));
}

#[test]
fn another_period_loads_anew_and_keeps_what_is_reserved_or_not_recorded() {
    let (limiter, daily) = funded(&[(key(), money(100, period("1d")))]);
    let held = limiter.reserve_money(&daily, 10, WALL + 5).unwrap();
    limiter.reserve_money(&daily, 20, WALL + 5).unwrap().settle(20);
    let monthly = limiter.scopes(&[(key(), money(100, period("1mo")))]);
    assert!(matches!(limiter.reserve_money(&monthly, 1, WALL + 6), Err(MoneyRefused::Unknown(_))));
    assert_eq!(spent(&limiter, &key()), (None, 10));
    assert!(limiter.load(&key(), WALL, 40));
    assert_eq!(spent(&limiter, &key()), (Some(60), 10));
    held.settle(10);
    assert_eq!(spent(&limiter, &key()), (Some(70), 0));
    exceeded(limiter.reserve_money(&monthly, 31, WALL + 6));
}

#[test]
fn another_maximum_applies_at_once_to_the_same_spend() {
    let (limiter, scopes) = funded(&[(key(), money(100, None))]);
    limiter.reserve_money(&scopes, 100, WALL).unwrap().settle(100);
    let raised = limiter.scopes(&[(key(), money(150, None))]);
    exceeded(limiter.reserve_money(&raised, 51, WALL));
    drop(limiter.reserve_money(&raised, 50, WALL).unwrap());
}

#[test]
fn a_spend_set_by_hand_keeps_what_is_under_way() {
    let (limiter, scopes) = funded(&[(key(), money(100, None))]);
    limiter.reserve_money(&scopes, 50, WALL).unwrap().settle(50);
    limiter.recorded(&key(), WALL, 30);
    let held = limiter.reserve_money(&scopes, 10, WALL).unwrap();
    assert!(limiter.replace(&key(), 0));
    assert_eq!(spent(&limiter, &key()), (Some(20), 10));
    held.settle(10);
    assert_eq!(spent(&limiter, &key()), (Some(30), 0));
    assert!(!limiter.replace(&team(), 0));
}

#[test]
fn scopes_are_forgotten_once_nothing_is_lost_by_it() {
    let t0 = start();
    let limits = Limits { requests_per_minute: Some(9), ..money(100, None) };
    let (limiter, scopes) = limiter(t0, &[(key(), limits)]);
    load_all(&limiter, &scopes, WALL, 0);
    let held = limiter.reserve(&scopes, Demand::default(), t0).unwrap();
    let attempt = limiter.reserve_money(&scopes, 10, WALL).unwrap();
    drop((scopes, held));
    let (soon, late) = (t0 + Duration::from_secs(60), t0 + Duration::from_secs(61));
    assert_eq!(limiter.forget_idle(late), 0, "money is reserved");
    attempt.settle(7);
    assert_eq!(limiter.forget_idle(late), 0, "the database does not have the spend");
    limiter.recorded(&key(), WALL, 7);
    let scopes = limiter.scopes(&[(key(), limits)]);
    let held = limiter.reserve(&scopes, Demand::default(), t0).unwrap();
    drop(scopes);
    assert_eq!(limiter.forget_idle(late), 0, "a slot is taken");
    drop(held);
    let scopes = limiter.scopes(&[(key(), limits)]);
    drop((limiter.reserve(&scopes, Demand::default(), t0).unwrap(), scopes));
    assert_eq!(limiter.forget_idle(soon), 0, "the minute is not empty");
    assert_eq!(limiter.forget_idle(late), 1);
    assert!(limiter.is_empty());
    let scopes = limiter.scopes(&[(key(), limits)]);
    assert!(matches!(limiter.check_money(&scopes, 1, WALL), Err(MoneyRefused::Unknown(_))));
    assert_eq!(limiter.forget_idle(late), 0, "somebody holds it");
    drop(scopes);
    assert_eq!(limiter.forget_idle(late), 1);
}

#[test]
fn records_of_an_earlier_window_do_not_stand_for_those_of_this_one() {
    let (limiter, scopes) = funded(&[(key(), money(100, period("1h")))]);
    limiter.reserve_money(&scopes, 5, WALL).unwrap().settle(5);
    let later = WALL + 3_600_000;
    limiter.reserve_money(&scopes, 5, later).unwrap().settle(5);
    drop(scopes);
    limiter.recorded(&key(), WALL, 5);
    assert_eq!(limiter.forget_idle(start()), 0);
    limiter.recorded(&key(), later, 5);
    assert_eq!(limiter.forget_idle(start()), 1);
}

#[test]
fn a_panic_while_reservations_are_held_gives_them_back() {
    let t0 = start();
    let limits = Limits { parallel_requests: Some(1), ..money(100, None) };
    let (limiter, scopes) = funded(&[(key(), limits)]);
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _request = limiter.reserve(&scopes, Demand::default(), t0).unwrap();
        let _attempt = limiter.reserve_money(&scopes, 100, WALL).unwrap();
        std::panic::resume_unwind(Box::new("a bug elsewhere"));
    }));
    assert!(caught.is_err());
    assert_eq!(limiter.under_way(), (0, 0));
    drop(limiter.reserve(&scopes, Demand::default(), t0).unwrap());
}
