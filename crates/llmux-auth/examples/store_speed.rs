//! Measures a store: how fast it takes usage, and how long lists take when it is full.
//!
//! `cargo run --profile dist -p llmux-auth --all-features --example store_speed -- sqlite FILE KEYS RECORDS`, or
//! `postgres ADDRESS KEYS RECORDS` with an empty database. With 0 records nothing is written: what is there is listed.
#![expect(clippy::disallowed_methods, reason = "it measures time")]

use std::error::Error;
use std::future::Future;
use std::io::Write as _;
use std::time::Instant;

use llmux_auth::store::{
    Dimension, KeyFilter, Page, PostgresConfig, SqliteConfig, Store, TeamFilter, UsageFilter,
    Within,
};
use llmux_auth::tenants::{
    Budget, Key, KeyHash, KeyType, Limits, Money, Team, UnixMillis, UsageRecord, UsageStatus,
};
use llmux_types::Secret;
use serde_json::Map;

/// 2026-11-01T00:00:00Z.
const START: UnixMillis = UnixMillis(1_793_491_200_000);
const DAYS: u64 = 30;
const TEAMS: u64 = 500;
/// Users have a few keys each.
const USERS: u64 = 20_000;
const ORGANIZATIONS: u64 = 20;
/// How the store is filled.
const BATCH: u64 = 500;
/// What is added to the full store, in batches of each size.
const MORE: u64 = 20_000;

type Failure = Box<dyn Error + Send + Sync>;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [kind, place, keys, records] = arguments.as_slice() else {
        return Err("usage: store_speed sqlite|postgres FILE|ADDRESS KEYS RECORDS".into());
    };
    let (keys, records) = (keys.parse::<u64>()?, records.parse::<u64>()?);
    let store = match kind.as_str() {
        "sqlite" => SqliteConfig::new(place).open(START).await?,
        "postgres" => PostgresConfig::new(Secret::new(place.clone())).connect(START).await?,
        other => return Err(format!("no store is called {other}").into()),
    };
    let store = &*store;
    if records == 0 {
        return lists(store, keys).await;
    }
    let time = Instant::now();
    for id in 0..TEAMS.min(keys) {
        store.insert_team(&team(id), &[]).await?;
    }
    for id in 0..keys {
        store.insert_key(&key(id)).await?;
    }
    say(&format!("{keys} keys inserted one by one: {:.1} s", time.elapsed().as_secs_f64()))?;
    let mut next = 0;
    for (count, size) in [(records, BATCH), (MORE, 100), (MORE, 500)] {
        let time = Instant::now();
        let end = next + count;
        while next < end {
            let last = end.min(next + size);
            let batch: Vec<UsageRecord> = (next..last).map(|id| usage(id, keys, records)).collect();
            store.append_usage(&batch).await?;
            next = last;
        }
        let seconds = time.elapsed().as_secs_f64();
        let rate = f64::from(u32::try_from(count)?) / seconds;
        say(&format!(
            "{count} usage records in batches of {size}: {seconds:.1} s, {rate:.0} a second"
        ))?;
    }
    lists(store, keys).await
}

async fn lists(store: &dyn Store, keys: u64) -> Result<(), Failure> {
    let now = START.plus(60_000);
    let page = Page::first(100);
    let far = Page::new(u32::try_from(keys / 200)?.max(1), 100).ok_or("no such page")?;
    let month = UsageFilter::days(START.day(), START.day().plus(DAYS.cast_signed()));
    let of_key = UsageFilter { token_id: Some("k7".to_owned()), ..month.clone() };
    let of_team = UsageFilter { team_id: Some("t7".to_owned()), ..month.clone() };
    let of_request = UsageFilter { request_id: Some("r777".to_owned()), ..month.clone() };
    let keys_of_team = KeyFilter { team_id: Some("t7".to_owned()), ..KeyFilter::default() };
    let keys_like = KeyFilter { search: Some("Key 77".to_owned()), ..KeyFilter::default() };
    let all = KeyFilter::default();
    let hash = KeyHash::of("k7");
    measure("a key's snapshot", || store.snapshot(&hash, now)).await?;
    measure("keys, first page", || store.list_keys(&all, page, now)).await?;
    measure("keys, a page in the middle", || store.list_keys(&all, far, now)).await?;
    measure("keys of a team", || store.list_keys(&keys_of_team, page, now)).await?;
    let dearest = KeyFilter { dearest_first: true, ..KeyFilter::default() };
    measure("keys, the dearest", || store.list_keys(&dearest, page, now)).await?;
    measure("keys, the dearest, in the middle", || store.list_keys(&dearest, far, now)).await?;
    let of_organization = UsageFilter { organization_id: Some("o7".to_owned()), ..month.clone() };
    measure("usage of an organization", || store.list_usage(&of_organization, page)).await?;
    measure("totals of an organization", || store.usage_totals(&of_organization)).await?;
    let within = Some(Within {
        user_id: Some("u7".to_owned()),
        team_ids: vec!["t7".to_owned(), "t8".to_owned()],
        organization_ids: Vec::new(),
    });
    let reach = UsageFilter { within: within.clone(), ..month.clone() };
    measure("usage within a team admin's reach", || store.list_usage(&reach, page)).await?;
    measure("a team admin's month by day", || store.usage_by(Dimension::Day, &reach, page)).await?;
    let keys_within = KeyFilter { within, ..KeyFilter::default() };
    measure("keys within a team admin's reach", || store.list_keys(&keys_within, page, now))
        .await?;
    measure("keys by the beginning of their alias", || store.list_keys(&keys_like, page, now))
        .await?;
    let teams = TeamFilter::default();
    measure("teams, first page", || store.list_teams(&teams, page, now)).await?;
    measure("usage, first page", || store.list_usage(&month, page)).await?;
    measure("usage of a key", || store.list_usage(&of_key, page)).await?;
    measure("usage of a team", || store.list_usage(&of_team, page)).await?;
    measure("usage of a request", || store.list_usage(&of_request, page)).await?;
    measure("totals of a month", || store.usage_totals(&month)).await?;
    measure("a month by day", || store.usage_by(Dimension::Day, &month, page)).await?;
    measure("a month by model", || store.usage_by(Dimension::Model, &month, page)).await?;
    measure("a month by team", || store.usage_by(Dimension::Team, &month, page)).await?;
    measure("a month by organization", || store.usage_by(Dimension::Organization, &month, page))
        .await?;
    measure("a month by user", || store.usage_by(Dimension::User, &month, page)).await?;
    measure("a month by key", || store.usage_by(Dimension::Key, &month, page)).await?;
    measure("a team's month by day", || store.usage_by(Dimension::Day, &of_team, page)).await
}

/// Prints the median of nine runs after one that warms up.
async fn measure<F, T, E>(name: &str, run: impl Fn() -> F) -> Result<(), Failure>
where
    F: Future<Output = Result<T, E>>,
    E: Error + Send + Sync + 'static,
{
    run().await?;
    let mut times = Vec::new();
    for _ in 0..9 {
        let time = Instant::now();
        run().await?;
        times.push(time.elapsed());
    }
    times.sort();
    say(&format!("{name:<40}{:>10.2} ms", times[4].as_secs_f64() * 1000.0))
}

fn say(text: &str) -> Result<(), Failure> {
    writeln!(std::io::stdout(), "{text}")?;
    Ok(())
}

fn team(id: u64) -> Team {
    Team {
        team_id: format!("t{id}"),
        team_alias: Some(format!("Team {id}")),
        organization_id: None,
        tags: Vec::new(),
        metadata: Map::new(),
        blocked: false,
        limits: Limits::default(),
        budget: Budget::new(START),
        created_at: START.plus(id.cast_signed()),
        updated_at: START,
    }
}

fn key(id: u64) -> Key {
    Key {
        token: KeyHash::of(&format!("k{id}")),
        token_id: format!("k{id}"),
        key_name: "sk-...1234".to_owned(),
        key_alias: Some(format!("Key {id}")),
        key_type: KeyType::Default,
        user_id: None,
        team_id: Some(format!("t{}", id % TEAMS)),
        organization_id: None,
        tags: Vec::new(),
        metadata: Map::new(),
        blocked: false,
        expires: None,
        limits: Limits::default(),
        budget: Budget::new(START),
        last_used_at: None,
        created_at: START.plus(id.cast_signed()),
        created_by: None,
        updated_at: START,
        updated_by: None,
    }
}

/// Record number `id` of so many in a month: one after the other, and keys are not used alike, as in life.
fn usage(id: u64, keys: u64, records: u64) -> UsageRecord {
    let spread = id.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
    let key = spread % (spread >> 16).max(1) % keys.max(1);
    let time = START.plus((id * (DAYS * 86_400_000 / records.max(1))).cast_signed());
    UsageRecord {
        id: format!("{id:010x}-{spread:x}"),
        request_id: format!("r{id}"),
        start_time: time,
        end_time: time.plus(900),
        token_id: Some(format!("k{key}")),
        team_id: Some(format!("t{}", key % TEAMS)),
        user_id: Some(format!("u{}", key % USERS)),
        organization_id: Some(format!("o{}", key % ORGANIZATIONS)),
        end_user: None,
        model: format!("model-{}", spread % 12),
        upstream_model: Some("gpt-4o".to_owned()),
        deployment_id: Some("gpt-4o#0".to_owned()),
        provider: Some(format!("provider-{}", spread % 4)),
        call_type: "chat_completion".to_owned(),
        attempt: 1,
        status: UsageStatus::Success,
        status_code: Some(200),
        error_code: None,
        cache_hit: false,
        stream: true,
        prompt_tokens: 900,
        completion_tokens: 100,
        total_tokens: 1000,
        cached_tokens: 0,
        cache_write_tokens: 0,
        reasoning_tokens: 0,
        spend: Money::from_nanos(3_250_000),
        time_to_first_token_ms: Some(150),
        request_tags: Vec::new(),
        metadata: Map::new(),
    }
}
