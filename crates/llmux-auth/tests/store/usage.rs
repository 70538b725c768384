//! Usage, its sums, and what it does to budgets.

use llmux_auth::store::{
    Dimension, KeyFilter, Page, Store, StoreError, TeamFilter, UsageFilter, UserFilter, Within,
};
use llmux_auth::tenants::{
    Day, KeyPatch, KeyRef, Money, Patch, UnixMillis, UsageRecord, UsageStatus, UsageTotals,
};

use crate::samples::{NOW, key, organization, team, team_member, usage, user};

const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;

fn week() -> UsageFilter {
    UsageFilter::days(NOW.day().plus(-3), NOW.day().plus(3))
}

fn page() -> Page {
    Page::first(1000)
}

async fn key_spend(store: &dyn Store, id: &str, now: UnixMillis) -> i64 {
    let key = store.key(&KeyRef::TokenId(id.to_owned()), now).await.unwrap().unwrap();
    key.budget.spend.nanos()
}

/// A key `k` of the user `u` in the team `t` of the organization `o`.
async fn insert_tenants(store: &dyn Store) {
    store.insert_organization(&organization("o"), &[]).await.unwrap();
    store.insert_user(&user("u")).await.unwrap();
    let mut team = team("t");
    team.organization_id = Some("o".to_owned());
    store.insert_team(&team, &[team_member("t", "u")]).await.unwrap();
    let mut key = key("k");
    key.user_id = Some("u".to_owned());
    key.team_id = Some("t".to_owned());
    store.insert_key(&key).await.unwrap();
}

/// A record of that key's.
fn owned(id: &str, nanos: i64, at: UnixMillis) -> UsageRecord {
    let mut record = usage(id, nanos, at);
    record.token_id = Some("k".to_owned());
    record.user_id = Some("u".to_owned());
    record.team_id = Some("t".to_owned());
    record.organization_id = Some("o".to_owned());
    record
}

pub(crate) async fn a_record_counts_once_however_often_it_is_handed_in(store: &dyn Store) {
    insert_tenants(store).await;
    let (a, b) = (owned("a", 5, NOW), owned("b", 7, NOW));
    let batch = [a.clone(), b.clone(), a.clone()];
    assert_eq!(store.append_usage(&batch).await.unwrap(), 2);
    assert_eq!(store.append_usage(&batch).await.unwrap(), 0);
    // The first one stays, whatever the next one says.
    let mut changed = a.clone();
    changed.spend = Money::from_nanos(1_000);
    assert_eq!(store.append_usage(&[changed, owned("c", 1, NOW)]).await.unwrap(), 1);
    assert_eq!(store.append_usage(&[]).await.unwrap(), 0);
    assert_eq!(key_spend(store, "k", NOW).await, 13);
    assert_eq!(store.usage_totals(&week()).await.unwrap().spend.nanos(), 13);
    let listed = store.list_usage(&week(), page()).await.unwrap();
    assert_eq!(listed.total, 3);
    assert!(listed.data.contains(&a) && listed.data.contains(&b));
}

pub(crate) async fn a_failed_batch_changes_nothing(store: &dyn Store) {
    insert_tenants(store).await;
    let bad = |change: &dyn Fn(&mut UsageRecord)| {
        let mut bad = owned("b", 7, NOW);
        change(&mut bad);
        bad
    };
    for (field, bad) in [
        ("total_tokens", bad(&|it| it.total_tokens = u64::MAX)),
        ("reasoning_tokens", bad(&|it| it.reasoning_tokens = (1 << 40) + 1)),
        ("spend", bad(&|it| it.spend = Money::from_nanos(-1))),
        ("spend", bad(&|it| it.spend = Money::from_nanos(i64::MAX))),
        ("id", bad(&|it| it.id = String::new())),
        ("id", bad(&|it| it.id = "a\0b".to_owned())),
        ("token_id", bad(&|it| it.token_id = Some("a\0b".to_owned()))),
        ("time_to_first_token_ms", bad(&|it| it.time_to_first_token_ms = Some(u64::MAX))),
    ] {
        let result = store.append_usage(&[owned("a", 5, NOW), bad]).await;
        let named = matches!(&result, Err(StoreError::Invalid { field: it, .. }) if it == field);
        assert!(named, "{field}: {result:?}");
    }
    // This one fails in the database, after the records and some sums are written.
    let most = 10_000_000_000_000_000;
    let full: Vec<_> = (0..923).map(|index| owned(&format!("{index:03}"), most, NOW)).collect();
    assert_eq!(store.append_usage(&full).await.unwrap(), 923);
    assert!(store.append_usage(&[owned("d", most, NOW), owned("e", 1, NOW)]).await.is_err());
    let listed = store.list_usage(&week(), page()).await.unwrap();
    assert_eq!((listed.total, listed.data.len()), (923, 923));
    assert_eq!(listed.data[0].id, "922");
    assert_eq!(key_spend(store, "k", NOW).await, i64::MAX);
    // The store works on.
    store.ping().await.unwrap();
}

pub(crate) async fn texts_of_clients_are_cut_to_what_can_be_found(store: &dyn Store) {
    insert_tenants(store).await;
    // Not what a database could compress.
    let noise = |seed: u32| -> String {
        let next = |state: &u32| Some(state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
        let states = std::iter::successors(Some(seed), next).take(9_000);
        states.map(|state| char::from(b'!' + u8::try_from((state >> 24) % 90).unwrap())).collect()
    };
    let mut record = owned("a", 5, NOW);
    record.model = noise(1);
    record.provider = Some("ü".repeat(200));
    record.request_id = noise(2);
    record.end_user = Some(format!("{}\0", noise(3)));
    assert_eq!(store.append_usage(&[record.clone(), owned("b", 7, NOW)]).await.unwrap(), 2);
    assert_eq!(key_spend(store, "k", NOW).await, 12);
    let model = Some(record.model[..256].to_owned());
    let filter = UsageFilter { model, ..week() };
    let listed = store.list_usage(&filter, page()).await.unwrap();
    assert_eq!(listed.total, 1);
    assert_eq!(listed.data[0].end_user, Some(format!("{}\u{fffd}", noise(3))));
    assert_eq!(listed.data[0].provider, Some("ü".repeat(128)));
    assert_eq!(store.usage_totals(&filter).await.unwrap().spend.nanos(), 5);
    let request_id = Some(record.request_id[..256].to_owned());
    let filter = UsageFilter { request_id, ..week() };
    assert_eq!(store.list_usage(&filter, page()).await.unwrap().total, 1);
}

pub(crate) async fn spend_is_added_to_every_scope(store: &dyn Store) {
    insert_tenants(store).await;
    store.insert_team(&team("t2"), &[team_member("t2", "u")]).await.unwrap();
    let mut elsewhere = owned("b", 100, NOW);
    elsewhere.team_id = Some("t2".to_owned());
    elsewhere.organization_id = None;
    let mut gone = owned("c", 1000, NOW);
    gone.token_id = Some("deleted".to_owned());
    gone.user_id = Some("deleted".to_owned());
    gone.team_id = Some("deleted".to_owned());
    store.append_usage(&[owned("a", 10, NOW), elsewhere, gone]).await.unwrap();
    assert_eq!(key_spend(store, "k", NOW).await, 110);
    assert_eq!(store.user("u", NOW).await.unwrap().unwrap().budget.spend.nanos(), 110);
    let team = |id| async move { store.team(id, NOW).await.unwrap().unwrap().budget.spend.nanos() };
    let member = |id| async move {
        store.team_member(id, "u", NOW).await.unwrap().unwrap().budget.spend.nanos()
    };
    assert_eq!((team("t").await, team("t2").await), (10, 100));
    assert_eq!((member("t").await, member("t2").await), (10, 100));
    assert_eq!(store.organization("o", NOW).await.unwrap().unwrap().budget.spend.nanos(), 1010);
    assert_eq!(store.usage_totals(&week()).await.unwrap().spend.nanos(), 1110);
}

pub(crate) async fn budgets_roll_to_their_next_window(store: &dyn Store) {
    let mut key = key("k");
    key.budget.set_duration(Some("1h".parse().unwrap()), NOW);
    store.insert_key(&key).await.unwrap();
    store.append_usage(&[owned("a", 5, NOW.plus(HOUR - 1))]).await.unwrap();
    assert_eq!(key_spend(store, "k", NOW.plus(HOUR - 1)).await, 5);
    assert_eq!(key_spend(store, "k", NOW.plus(HOUR)).await, 0);
    store.append_usage(&[owned("b", 7, NOW.plus(HOUR))]).await.unwrap();
    // It began in a window that is over.
    store.append_usage(&[owned("late", 90, NOW.plus(HOUR - 1))]).await.unwrap();
    assert_eq!(key_spend(store, "k", NOW.plus(HOUR)).await, 7);
    let read =
        store.key(&KeyRef::TokenId("k".to_owned()), NOW.plus(5 * HOUR)).await.unwrap().unwrap();
    assert_eq!(read.budget.spend, Money::ZERO);
    assert_eq!(read.budget.budget_reset_at, Some(NOW.plus(6 * HOUR)));
}

pub(crate) async fn models_with_budgets_are_counted_apart(store: &dyn Store) {
    let mut key = key("k");
    let models = serde_json::from_str(r#"{"gpt": {"budget_limit": 1, "time_period": "1h"}}"#);
    key.budget.set_models(models.unwrap(), NOW);
    store.insert_key(&key).await.unwrap();
    let mut other = owned("b", 3, NOW);
    other.model = "claude".to_owned();
    store.append_usage(&[owned("a", 5, NOW), other, owned("c", 2, NOW)]).await.unwrap();
    let read = |now| async move {
        let key = store.key(&KeyRef::TokenId("k".to_owned()), now).await.unwrap().unwrap();
        let spent: Vec<(String, i64)> = key
            .budget
            .model_spend
            .iter()
            .map(|(model, spent)| (model.clone(), spent.spend.nanos()))
            .collect();
        (key.budget.spend.nanos(), spent)
    };
    assert_eq!(read(NOW).await, (10, vec![("gpt".to_owned(), 7)]));
    assert_eq!(read(NOW.plus(HOUR)).await, (10, vec![("gpt".to_owned(), 0)]));
}

pub(crate) async fn a_budget_whose_window_was_taken_away_starts_with_what_is_spent_now(
    store: &dyn Store,
) {
    let mut key = key("k");
    let models = serde_json::from_str(r#"{"gpt": {"budget_limit": 1, "time_period": "1h"}}"#);
    key.budget.set_models(models.unwrap(), NOW);
    key.budget.set_duration(Some("1h".parse().unwrap()), NOW);
    store.insert_key(&key).await.unwrap();
    store.append_usage(&[owned("a", 5, NOW)]).await.unwrap();
    // Both windows are over: nothing is spent in the present ones, which now have no end.
    let patch = KeyPatch {
        budget_duration: Patch::Clear,
        model_max_budget: Patch::Set(serde_json::from_str(r#"{"gpt": 1}"#).unwrap()),
        ..KeyPatch::default()
    };
    let id = KeyRef::TokenId("k".to_owned());
    let updated = store.update_key(&id, patch, None, NOW.plus(2 * HOUR)).await.unwrap();
    let key = store.key(&id, NOW.plus(3 * HOUR)).await.unwrap().unwrap();
    assert_eq!(updated.after, key);
    assert_eq!(key.budget.spend, Money::ZERO);
    assert_eq!(key.budget.model_spend["gpt"].spend, Money::ZERO);
    store.append_usage(&[owned("b", 7, NOW.plus(3 * HOUR))]).await.unwrap();
    let key = store.key(&id, NOW.plus(300 * HOUR)).await.unwrap().unwrap();
    assert_eq!((key.budget.spend.nanos(), key.budget.model_spend["gpt"].spend.nanos()), (7, 7));
}

pub(crate) async fn the_dearest_are_those_that_spent_most_in_their_present_window(
    store: &dyn Store,
) {
    for id in ["a", "b", "c", "d"] {
        let mut key = key(id);
        let mut team = team(id);
        let mut user = user(id);
        if id == "a" {
            for budget in [&mut key.budget, &mut team.budget, &mut user.budget] {
                budget.set_duration(Some("1h".parse().unwrap()), NOW);
            }
        }
        store.insert_team(&team, &[]).await.unwrap();
        store.insert_user(&user).await.unwrap();
        key.team_id = Some(id.to_owned());
        key.user_id = Some(id.to_owned());
        store.insert_key(&key).await.unwrap();
        let mut record =
            usage(id, if id == "a" { 9 } else { i64::from(id.as_bytes()[0] % 2) }, NOW);
        record.token_id = Some(id.to_owned());
        record.team_id = Some(id.to_owned());
        record.user_id = Some(id.to_owned());
        store.append_usage(&[record]).await.unwrap();
    }
    // Those that spent as much as each other by their id.
    for (now, order) in [(NOW, "acbd"), (NOW.plus(HOUR), "cabd")] {
        let mut found = [String::new(), String::new(), String::new()];
        for number in 1..=2 {
            let page = Page::new(number, 2).unwrap();
            let filter = KeyFilter { dearest_first: true, ..KeyFilter::default() };
            let keys = store.list_keys(&filter, page, now).await.unwrap();
            found[0].extend(keys.data.iter().map(|key| key.token_id.as_str()));
            assert!(keys.data.iter().all(|key| key.token_id != "a"
                || key.budget.spend.nanos() == if now == NOW { 9 } else { 0 }));
            let filter = TeamFilter { dearest_first: true, ..TeamFilter::default() };
            let teams = store.list_teams(&filter, page, now).await.unwrap();
            found[1].extend(teams.data.iter().map(|team| team.team_id.as_str()));
            let filter = UserFilter { dearest_first: true, ..UserFilter::default() };
            let users = store.list_users(&filter, page, now).await.unwrap();
            found[2].extend(users.data.iter().map(|user| user.user_id.as_str()));
            assert_eq!((keys.total, teams.total, users.total), (4, 4, 4));
        }
        assert_eq!(found, [order, order, order]);
    }
}

/// Records of several days, keys, teams, models and outcomes.
fn mixed() -> Vec<UsageRecord> {
    (0..300_i64)
        .map(|index| {
            let mut record = usage(
                &format!("{index:04}"),
                index * 3 + 1,
                NOW.plus((index % 5 - 2) * DAY + index),
            );
            let name = |kind: &str, count: i64| Some(format!("{kind}{}", index % count));
            record.token_id = name("k", 4);
            record.team_id = if index % 3 == 0 { None } else { name("t", 2) };
            record.user_id = name("u", 6);
            record.organization_id = name("o", 2);
            record.model = format!("m{}", index % 7);
            record.provider = if index % 11 == 0 { None } else { name("p", 2) };
            record.attempt = if index % 10 == 9 { 2 } else { 1 };
            record.request_id = format!("r{}", index - i64::from(index % 10 == 9));
            record.status =
                if index % 8 == 0 { UsageStatus::Failure } else { UsageStatus::Success };
            record.cache_hit = index % 9 == 0;
            if record.cache_hit && record.attempt == 1 {
                record.attempt = 0;
            }
            record
        })
        .collect()
}

fn filters() -> Vec<UsageFilter> {
    let some = |text: &str| Some(text.to_owned());
    vec![
        week(),
        UsageFilter::days(NOW.day(), NOW.day().plus(1)),
        UsageFilter { token_id: some("k1"), ..week() },
        UsageFilter { team_id: some("t1"), ..week() },
        UsageFilter { user_id: some("u5"), ..week() },
        UsageFilter { organization_id: some("o1"), ..week() },
        UsageFilter { model: some("m3"), ..week() },
        UsageFilter { provider: some("p0"), ..week() },
        UsageFilter { token_id: some("k1"), model: some("m3"), provider: some("p1"), ..week() },
        UsageFilter { user_id: some("nobody"), ..week() },
        UsageFilter { team_id: some("t0"), model: some("m2"), ..week() },
        UsageFilter { team_id: some("t0"), organization_id: some("o1"), ..week() },
        within(some("u3"), &["t1", "gone"], &[]),
        within(None, &[], &["o0"]),
        UsageFilter { team_id: some("t1"), ..within(some("u1"), &[], &["o0", "a\0b"]) },
        within(None, &[], &[]),
        within(some("a\0b"), &[], &[]),
    ]
}

fn within(user_id: Option<String>, teams: &[&str], organizations: &[&str]) -> UsageFilter {
    let texts = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect();
    let (team_ids, organization_ids) = (texts(teams), texts(organizations));
    UsageFilter { within: Some(Within { user_id, team_ids, organization_ids }), ..week() }
}

fn matches(filter: &UsageFilter, record: &UsageRecord) -> bool {
    let day = record.start_time.day();
    let same = |wanted: &Option<String>, is: &Option<String>| wanted.is_none() || wanted == is;
    (filter.first_day..=filter.last_day).contains(&day)
        && same(&filter.token_id, &record.token_id)
        && same(&filter.team_id, &record.team_id)
        && same(&filter.user_id, &record.user_id)
        && same(&filter.organization_id, &record.organization_id)
        && same(&filter.model, &Some(record.model.clone()))
        && same(&filter.provider, &record.provider)
        && same(&filter.request_id, &Some(record.request_id.clone()))
        && filter.within.as_ref().is_none_or(|within| {
            let among = |ids: &[String], id: &Option<String>| {
                id.as_ref().is_some_and(|id| ids.contains(id))
            };
            (within.user_id.is_some() && within.user_id == record.user_id)
                || among(&within.team_ids, &record.team_id)
                || among(&within.organization_ids, &record.organization_id)
        })
}

fn sum<'a>(records: impl Iterator<Item = &'a UsageRecord>) -> UsageTotals {
    records.fold(UsageTotals::default(), |mut sum, record| {
        sum.api_requests += u64::from(record.attempt <= 1);
        sum.attempts += 1;
        sum.failed_attempts += u64::from(record.status != UsageStatus::Success);
        sum.cache_hits += u64::from(record.cache_hit);
        sum.prompt_tokens += record.prompt_tokens;
        sum.completion_tokens += record.completion_tokens;
        sum.total_tokens += record.total_tokens;
        sum.spend = sum.spend.saturating_add(record.spend);
        sum
    })
}

pub(crate) async fn sums_agree_with_the_records(store: &dyn Store) {
    let records = mixed();
    for batch in records.chunks(77) {
        store.append_usage(batch).await.unwrap();
    }
    for filter in filters() {
        let wanted = sum(records.iter().filter(|record| matches(&filter, record)));
        assert_eq!(store.usage_totals(&filter).await.unwrap(), wanted, "{filter:?}");
    }
    let by_request = UsageFilter { request_id: Some("r1".to_owned()), ..week() };
    let result = store.usage_totals(&by_request).await;
    assert!(matches!(result, Err(StoreError::Invalid { field, .. }) if field == "request_id"));
}

pub(crate) async fn sums_are_made_by_each_dimension(store: &dyn Store) {
    let records = mixed();
    store.append_usage(&records).await.unwrap();
    let name = |record: &UsageRecord, dimension| match dimension {
        Dimension::Day => record.start_time.day().to_string(),
        Dimension::Key => record.token_id.clone().unwrap_or_default(),
        Dimension::Team => record.team_id.clone().unwrap_or_default(),
        Dimension::User => record.user_id.clone().unwrap_or_default(),
        Dimension::Organization => record.organization_id.clone().unwrap_or_default(),
        Dimension::Model => record.model.clone(),
        Dimension::Provider => record.provider.clone().unwrap_or_default(),
    };
    let dimensions = [
        Dimension::Day,
        Dimension::Key,
        Dimension::Team,
        Dimension::User,
        Dimension::Organization,
        Dimension::Model,
        Dimension::Provider,
    ];
    for (dimension, filter) in
        dimensions.into_iter().flat_map(|d| filters().into_iter().map(move |f| (d, f)))
    {
        let listed = store.usage_by(dimension, &filter, page()).await.unwrap();
        let matching = || records.iter().filter(|record| matches(&filter, record));
        let mut names: Vec<String> = matching().map(|record| name(record, dimension)).collect();
        names.sort();
        names.dedup();
        assert_eq!(listed.total, names.len() as u64, "{dimension:?} {filter:?}");
        let mut listed_names: Vec<String> =
            listed.data.iter().map(|row| row.name.clone()).collect();
        if dimension == Dimension::Day {
            assert_eq!(listed_names, names);
        } else {
            assert!(listed.data.is_sorted_by(|a, b| a.totals.spend >= b.totals.spend));
        }
        listed_names.sort();
        assert_eq!(listed_names, names, "{dimension:?} {filter:?}");
        for row in &listed.data {
            let wanted = sum(matching().filter(|record| name(record, dimension) == row.name));
            assert_eq!(row.totals, wanted, "{dimension:?} {filter:?} {}", row.name);
        }
        let second = store.usage_by(dimension, &filter, Page::new(2, 2).unwrap()).await.unwrap();
        let rest: Vec<_> = listed.data.iter().skip(2).take(2).cloned().collect();
        assert_eq!((second.data, second.total), (rest, listed.total));
        let none = store.usage_by(dimension, &filter, Page::new(9, 999).unwrap()).await.unwrap();
        assert_eq!((none.data, none.total), (Vec::new(), listed.total));
    }
}

pub(crate) async fn records_are_filtered_and_paged(store: &dyn Store) {
    let records = mixed();
    store.append_usage(&records).await.unwrap();
    let by_request = UsageFilter { request_id: Some("r8".to_owned()), ..week() };
    for filter in filters().into_iter().chain([by_request]) {
        let mut wanted: Vec<&UsageRecord> =
            records.iter().filter(|record| matches(&filter, record)).collect();
        wanted.sort_by_key(|record| (record.start_time, record.id.clone()));
        wanted.reverse();
        let mut got = Vec::new();
        for number in 1.. {
            let listed = store.list_usage(&filter, Page::new(number, 37).unwrap()).await.unwrap();
            assert_eq!(listed.total, wanted.len() as u64, "{filter:?}");
            assert_eq!((listed.page, listed.page_size), (number, 37));
            if listed.data.is_empty() {
                break;
            }
            got.extend(listed.data);
        }
        assert!(got.iter().eq(wanted), "{filter:?}");
    }
}

pub(crate) async fn expired_records_leave_their_sums_behind(store: &dyn Store) {
    let records = mixed();
    store.append_usage(&records).await.unwrap();
    let totals = store.usage_totals(&week()).await.unwrap();
    let cutoff = NOW.day().start();
    let old = records.iter().filter(|record| record.start_time < cutoff).count() as u64;
    assert_eq!(store.delete_usage_before(cutoff, 50).await.unwrap(), 50);
    assert_eq!(store.list_usage(&week(), page()).await.unwrap().total, 250);
    assert_eq!(store.delete_usage_before(cutoff, 1000).await.unwrap(), old - 50);
    assert_eq!(store.delete_usage_before(cutoff, 1000).await.unwrap(), 0);
    let left = store.list_usage(&week(), page()).await.unwrap();
    assert_eq!((left.total, left.data.len() as u64), (300 - old, 300 - old));
    assert!(left.data.iter().all(|record| record.start_time >= cutoff));
    assert_eq!(store.usage_totals(&week()).await.unwrap(), totals);
    for filter in filters() {
        let listed = store.list_usage(&filter, page()).await.unwrap();
        assert_eq!(listed.total, listed.data.len() as u64, "{filter:?}");
    }
}

pub(crate) async fn writers_at_the_same_time_lose_nothing(store: &dyn Store) {
    insert_tenants(store).await;
    let batch = |writer: i64| -> Vec<UsageRecord> {
        // Each record is handed in by two writers, in another order.
        let mut batch: Vec<_> = (0..40)
            .map(|index| owned(&format!("{}-{index}", writer / 2), 1 + index, NOW))
            .collect();
        if writer % 2 == 1 {
            batch.reverse();
        }
        batch
    };
    let writers = (0..8).map(|writer| async move {
        let mut new = 0;
        for part in batch(writer).chunks(9) {
            new += store.append_usage(part).await.unwrap();
        }
        new
    });
    let new: u64 = crate::suite::at_once(writers.collect()).await.into_iter().sum();
    let spend = 4 * (1..=40).sum::<i64>();
    assert_eq!(new, 160);
    assert_eq!(key_spend(store, "k", NOW).await, spend);
    assert_eq!(store.organization("o", NOW).await.unwrap().unwrap().budget.spend.nanos(), spend);
    let totals = store.usage_totals(&week()).await.unwrap();
    assert_eq!((totals.attempts, totals.spend.nanos()), (160, spend));
}

pub(crate) async fn spend_and_updates_at_the_same_time_lose_nothing(store: &dyn Store) {
    insert_tenants(store).await;
    let id = KeyRef::TokenId("k".to_owned());
    let id = &id;
    let tasks = (0..20_i64).map(|index| async move {
        if index % 2 == 0 {
            store.append_usage(&[owned(&format!("{index}"), 1, NOW)]).await.unwrap();
        } else {
            let patch =
                KeyPatch { rpm_limit: Patch::Set(index.cast_unsigned()), ..KeyPatch::default() };
            store.update_key(id, patch, None, NOW).await.unwrap();
        }
    });
    crate::suite::at_once(tasks.collect()).await;
    let key = store.key(id, NOW).await.unwrap().unwrap();
    assert_eq!(key.budget.spend.nanos(), 10);
    assert!(key.limits.rpm_limit.is_some());
    assert_eq!(
        store.usage_totals(&UsageFilter::days(Day(0), NOW.day())).await.unwrap().attempts,
        10
    );
}
