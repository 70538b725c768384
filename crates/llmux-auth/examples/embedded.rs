//! Tenants without a server: a team, a key, and what the key spends, in a file.
//!
//! Run it with `cargo run -p llmux-auth --features sqlite --example embedded`.
#![expect(clippy::disallowed_methods, reason = "a program may read the clock and draw lots")]

use std::error::Error;
use std::io::Write as _;
use std::time::SystemTime;

use llmux_auth::store::{Dimension, Page, SqliteConfig, UsageFilter};
use llmux_auth::tenants::{
    Budget, Key, KeyHash, KeyType, Limits, Money, NewKey, Team, UnixMillis, UsageRecord,
    UsageStatus,
};
use serde_json::Map;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut out = std::io::stdout();
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    let now = UnixMillis(i64::try_from(since_1970.as_millis())?);
    let folder = std::env::temp_dir().join(format!("llmux-embedded-{}", std::process::id()));
    let store = SqliteConfig::new(folder.join("llmux.db")).open(now).await?;

    let team = Team {
        team_id: "research".to_owned(),
        team_alias: Some("Research".to_owned()),
        organization_id: None,
        tags: Vec::new(),
        metadata: Map::new(),
        blocked: false,
        limits: Limits { rpm_limit: Some(60), ..Limits::default() },
        budget: Budget { max_budget: Some(Money::from_nanos(5_000_000_000)), ..Budget::new(now) },
        created_at: now,
        updated_at: now,
    };
    store.insert_team(&team, &[]).await?;

    let mut random = [0; 48];
    getrandom::fill(&mut random)?;
    let (secret, id) = random.split_at(32);
    let new = NewKey::generate(secret.try_into()?);
    let key = Key {
        token: new.token,
        token_id: NewKey::token_id(id.try_into()?),
        key_name: new.key_name,
        key_alias: Some("first".to_owned()),
        key_type: KeyType::LlmApi,
        user_id: None,
        team_id: Some(team.team_id),
        organization_id: None,
        tags: Vec::new(),
        metadata: Map::new(),
        blocked: false,
        expires: None,
        limits: Limits::default(),
        budget: Budget::new(now),
        last_used_at: None,
        created_at: now,
        created_by: None,
        updated_at: now,
        updated_by: None,
    };
    store.insert_key(&key).await?;
    writeln!(out, "a key, shown this once: {}", new.secret.expose())?;

    // A client presents the key.
    let snapshot = store.snapshot(&KeyHash::of(new.secret.expose()), now).await?;
    let snapshot = snapshot.ok_or("the key is not known")?;
    writeln!(out, "it is {} of team {:?}", snapshot.key.key_name, snapshot.key.team_id)?;

    for call in 1..=3 {
        let record = UsageRecord {
            id: format!("record-{call}"),
            request_id: format!("request-{call}"),
            start_time: now,
            end_time: now.plus(800),
            token_id: Some(snapshot.key.token_id.clone()),
            team_id: snapshot.key.team_id.clone(),
            user_id: None,
            organization_id: None,
            end_user: None,
            model: "gpt-4o".to_owned(),
            upstream_model: None,
            deployment_id: None,
            provider: Some("openai".to_owned()),
            call_type: "chat_completion".to_owned(),
            attempt: 1,
            status: UsageStatus::Success,
            status_code: Some(200),
            error_code: None,
            cache_hit: false,
            stream: false,
            prompt_tokens: 100,
            completion_tokens: 20,
            total_tokens: 120,
            cached_tokens: 0,
            cache_write_tokens: 0,
            reasoning_tokens: 0,
            spend: Money::from_nanos(450_000),
            time_to_first_token_ms: None,
            request_tags: Vec::new(),
            metadata: Map::new(),
        };
        // Handed in twice, counted once.
        store.append_usage(&[record.clone(), record]).await?;
    }
    let team = store.team("research", now).await?.ok_or("the team is gone")?;
    let most = team.budget.max_budget.ok_or("the budget is gone")?;
    writeln!(out, "the team spent {} of {most} US dollars", team.budget.spend)?;
    let today = UsageFilter::days(now.day(), now.day());
    for row in store.usage_by(Dimension::Model, &today, Page::first(10)).await?.data {
        writeln!(
            out,
            "{}: {} requests, {} tokens",
            row.name, row.totals.api_requests, row.totals.total_tokens
        )?;
    }
    drop(store);
    std::fs::remove_dir_all(folder)?;
    Ok(())
}
