use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use llmux_auth::store::SqliteConfig;
use llmux_auth::tenants::{
    KeyHash, KeyType, Limits, MemberRole, Organization, OrganizationMember, OrganizationRole, Role,
    TeamMember,
};
use llmux_auth::{Caller, Tenant};

use super::*;
use crate::manage::{activity, audit_log};

/// 2026-11-22T12:00:00Z.
const NOW: UnixMillis = UnixMillis(1_795_348_800_000);
const DAY: i64 = 86_400_000;

fn query(text: &str) -> Fields {
    Fields::of_query(Some(text)).unwrap()
}

fn read(answer: Result<Bytes, ApiError>) -> Value {
    serde_json::from_slice(&answer.unwrap()).unwrap()
}

fn status(answer: Result<Bytes, ApiError>) -> (u16, Option<String>) {
    let error = answer.unwrap_err();
    (error.status.as_u16(), error.error.param.clone())
}

/// A store in a file of its own.
struct Filled {
    store: Arc<dyn Store>,
    folder: std::path::PathBuf,
}

impl Drop for Filled {
    fn drop(&mut self) {
        let _removed = std::fs::remove_dir_all(&self.folder);
    }
}

fn budget(dollars: i64) -> Budget {
    let max_budget = Some(Money::from_nanos(dollars * 1_000_000_000));
    Budget { max_budget, ..Budget::new(NOW) }
}

fn user(user_id: &str, user_role: Role) -> User {
    User {
        user_id: user_id.to_owned(),
        user_alias: Some(format!("Alias of {user_id}")),
        user_email: None,
        user_role,
        metadata: Map::new(),
        limits: Limits::default(),
        budget: budget(10),
        created_at: NOW,
        updated_at: NOW,
    }
}

fn team(team_id: &str, organization_id: &str) -> Team {
    Team {
        team_id: team_id.to_owned(),
        team_alias: Some(format!("Team {team_id}")),
        organization_id: Some(organization_id.to_owned()),
        tags: Vec::new(),
        metadata: Map::new(),
        blocked: false,
        limits: Limits::default(),
        budget: budget(20),
        created_at: NOW,
        updated_at: NOW,
    }
}

fn secret(name: &str) -> String {
    format!("sk-{name}-{}", "x".repeat(32))
}

/// An id that looks like those the gateway makes.
fn id(name: &str) -> String {
    format!("kid_{}", &KeyHash::of(name).as_str()[..32])
}

fn key(name: &str, user_id: Option<&str>, team_id: Option<&str>) -> Key {
    Key {
        token: KeyHash::of(&secret(name)),
        token_id: id(name),
        key_name: mask(&secret(name)),
        key_alias: Some(name.to_owned()),
        key_type: KeyType::Default,
        user_id: user_id.map(str::to_owned),
        team_id: team_id.map(str::to_owned),
        organization_id: None,
        tags: Vec::new(),
        metadata: Map::new(),
        blocked: false,
        expires: None,
        limits: Limits::default(),
        budget: budget(30),
        last_used_at: None,
        created_at: NOW,
        created_by: None,
        updated_at: NOW,
        updated_by: None,
    }
}

/// A key, with its user, team and that team's organization.
type Place = (&'static str, Option<&'static str>, Option<&'static str>, Option<&'static str>);

const KEYS: [Place; 6] = [
    ("admin", Some("admin"), None, None),
    ("viewer", Some("viewer"), None, None),
    ("ann", Some("ann"), Some("t1"), Some("o1")),
    ("bob", Some("bob"), Some("t1"), Some("o1")),
    ("eve", Some("eve"), Some("t2"), Some("o2")),
    ("bare", None, Some("t2"), Some("o2")),
];

fn record(number: i64, key: usize, at: UnixMillis) -> UsageRecord {
    let (name, user_id, team_id, organization_id) = KEYS[key];
    let text = |text: Option<&str>| text.map(str::to_owned);
    UsageRecord {
        id: format!("r{number:03}"),
        request_id: format!("request-{number}"),
        start_time: at,
        end_time: at.plus(900),
        token_id: Some(id(name)),
        team_id: text(team_id),
        user_id: text(user_id),
        organization_id: text(organization_id),
        end_user: Some("customer".to_owned()),
        model: if number % 2 == 0 { "even" } else { "odd" }.to_owned(),
        upstream_model: Some("gpt-4o".to_owned()),
        deployment_id: Some("gpt-4o#0".to_owned()),
        provider: Some("openai".to_owned()),
        call_type: "chat_completion".to_owned(),
        attempt: 1,
        status: UsageStatus::Success,
        status_code: Some(200),
        error_code: None,
        cache_hit: false,
        stream: true,
        prompt_tokens: 10,
        completion_tokens: 5,
        total_tokens: 15,
        cached_tokens: 3,
        cache_write_tokens: 1,
        reasoning_tokens: 2,
        spend: Money::from_nanos(1_000_000_000 + number),
        time_to_first_token_ms: Some(120),
        request_tags: vec!["tag".to_owned()],
        metadata: Map::new(),
    }
}

/// `ann` is admin of team `t1`, `bob` its member, `eve` admin of organization `o2`. Each key was used once on each of
/// three days: today, yesterday and 40 days ago.
async fn filled() -> Filled {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    let folder = std::env::temp_dir().join(format!("llmux-spend-{}-{next}", std::process::id()));
    let store = SqliteConfig::new(folder.join("llmux.db")).open(NOW).await.unwrap();
    for organization_id in ["o1", "o2"] {
        let organization = Organization {
            organization_id: organization_id.to_owned(),
            organization_alias: None,
            metadata: Map::new(),
            limits: Limits::default(),
            budget: budget(40),
            created_at: NOW,
            created_by: None,
            updated_at: NOW,
            updated_by: None,
        };
        store.insert_organization(&organization, &[]).await.unwrap();
    }
    let role = |user| match user {
        "admin" => Role::ProxyAdmin,
        "viewer" => Role::ProxyAdminViewer,
        _ => Role::InternalUser,
    };
    for user_id in KEYS.iter().filter_map(|(_, user_id, ..)| *user_id) {
        store.insert_user(&user(user_id, role(user_id))).await.unwrap();
    }
    let member = |user_id: &str, role| TeamMember {
        team_id: "t1".to_owned(),
        user_id: user_id.to_owned(),
        role,
        budget: Budget::new(NOW),
        created_at: NOW,
        updated_at: NOW,
    };
    let members = [member("ann", MemberRole::Admin), member("bob", MemberRole::User)];
    store.insert_team(&team("t1", "o1"), &members).await.unwrap();
    store.insert_team(&team("t2", "o2"), &[]).await.unwrap();
    let eve = OrganizationMember {
        organization_id: "o2".to_owned(),
        user_id: "eve".to_owned(),
        user_role: OrganizationRole::OrgAdmin,
        created_at: NOW,
        updated_at: NOW,
    };
    store.add_organization_members(&[eve]).await.unwrap();
    let mut records = Vec::new();
    for (index, (name, user_id, team_id, _)) in KEYS.into_iter().enumerate() {
        store.insert_key(&key(name, user_id, team_id)).await.unwrap();
        for (place, days) in [0, 1, 40].into_iter().enumerate() {
            let number = i64::try_from(index * 10 + place).unwrap();
            records.push(record(number, index, NOW.plus(-days * DAY + number)));
        }
    }
    store.append_usage(&records).await.unwrap();
    Filled { store, folder }
}

async fn actor(store: &dyn Store, name: &str) -> Actor {
    if name == "master" {
        return Actor::of(&Caller::Master);
    }
    let snapshot = store.snapshot(&KeyHash::of(&secret(name)), NOW).await.unwrap().unwrap();
    Actor::of(&Caller::Key(Arc::new(Tenant::from(snapshot))))
}

/// The values of a field in a list.
fn column(list: &Value, field: &str) -> Vec<String> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    list["data"].as_array().unwrap().iter().map(|row| text(&row[field])).collect()
}

#[tokio::test]
async fn a_record_is_shown_with_all_it_has_and_without_the_key() {
    let filled = filled().await;
    let master = Actor::of(&Caller::Master);
    let answer = logs(&*filled.store, &master, query("request_id=request-20"), NOW).await.unwrap();
    let text = std::str::from_utf8(&answer).unwrap();
    assert!(text.contains(r#""spend":1.00000002,"#), "{text}");
    assert!(!text.contains("sk-") && !text.contains(KeyHash::of(&secret("ann")).as_str()));
    let mut list = read(Ok(answer.clone()));
    let row = list["data"][0].take();
    let wanted = serde_json::json!({
        "id": "r020", "request_id": "request-20", "attempt": 1, "call_type": "chat_completion",
        "api_key": id("ann"), "user": "ann", "team_id": "t1", "organization_id": "o1", "end_user": "customer",
        "model": "even", "model_group": "even", "upstream_model": "gpt-4o", "custom_llm_provider": "openai",
        "deployment_id": "gpt-4o#0", "startTime": "2026-11-22T12:00:00.020Z", "endTime": "2026-11-22T12:00:00.920Z",
        "time_to_first_token_ms": 120, "status": "success", "status_code": 200, "error_code": null,
        "cache_hit": false, "stream": true, "prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15,
        "cached_tokens": 3, "cache_write_tokens": 1, "reasoning_tokens": 2, "spend": 1.00000002,
        "request_tags": ["tag"], "metadata": {},
    });
    assert_eq!(row, wanted);
    let rest = serde_json::json!({"data": [null], "total": 1, "page": 1, "page_size": 50});
    assert_eq!(list, rest);
}

#[tokio::test]
async fn callers_see_what_is_within_their_reach() {
    let filled = filled().await;
    let store = &*filled.store;
    let all = ["admin", "viewer", "ann", "bob", "eve", "bare"];
    let everyone = ["admin", "viewer", "ann", "bob", "eve"];
    for (name, keys_seen, teams_seen, users_seen) in [
        ("master", &all[..], &["t1", "t2"][..], &everyone[..]),
        ("admin", &all[..], &["t1", "t2"], &everyone[..]),
        ("viewer", &all[..], &["t1", "t2"], &everyone[..]),
        ("ann", &["ann", "bob"], &["t1"], &["ann"]),
        ("bob", &["bob"], &["t1"], &["bob"]),
        ("eve", &["eve", "bare"], &["t2"], &["eve"]),
    ] {
        let actor = actor(store, name).await;
        let sorted = |mut found: Vec<String>| {
            found.sort();
            found.dedup();
            found
        };
        let wanted = |names: &[&str]| sorted(names.iter().map(|name| (*name).to_owned()).collect());
        let ids = sorted(keys_seen.iter().map(|name| id(name)).collect());
        let list = read(logs(store, &actor, query(""), NOW).await);
        assert_eq!(sorted(column(&list, "api_key")), ids, "{name}");
        assert_eq!(list["total"], 2 * keys_seen.len(), "{name}");
        let days = read(logs(store, &actor, query("summarize=true"), NOW).await);
        assert_eq!(column(&days, "date"), ["2026-11-21", "2026-11-22"]);
        assert_eq!(days["data"][0]["api_requests"], keys_seen.len(), "{name}");
        let list = read(keys(store, &actor, query(""), NOW).await);
        assert_eq!(sorted(column(&list, "key_alias")), wanted(keys_seen), "{name}");
        let list = read(teams(store, &actor, query(""), NOW).await);
        assert_eq!(sorted(column(&list, "team_id")), wanted(teams_seen), "{name}");
        let list = read(users(store, &actor, query(""), NOW).await);
        assert_eq!(sorted(column(&list, "user_id")), wanted(users_seen), "{name}");
        // What is out of reach is not told apart from what does not exist.
        for filter in ["user_id=eve", "team_id=t2", "organization_id=o2"] {
            let list = read(logs(store, &actor, query(filter), NOW).await);
            assert_eq!(list["total"] == 0, matches!(name, "ann" | "bob"), "{name} {filter}");
        }
        for text in [secret("admin"), id("admin"), KeyHash::of(&secret("admin")).to_string()] {
            let list = read(logs(store, &actor, query(&format!("api_key={text}")), NOW).await);
            let is_seen = keys_seen.contains(&"admin");
            assert_eq!(list["total"], if is_seen { 2 } else { 0 }, "{name} {text}");
        }
        let unknown = logs(store, &actor, query("api_key=sk-unknown"), NOW).await;
        if actor.reads_everything() {
            assert_eq!(status(unknown).0, 404);
        } else {
            assert_eq!(read(unknown)["total"], 0);
        }
        for answer in [
            activity::activity(store, &actor, query(""), NOW).await,
            activity::models(store, &actor, query(""), NOW).await,
            activity::providers(store, &actor, query(""), NOW).await,
            audit_log::logs(store, &actor, query(""), NOW).await,
        ] {
            assert_eq!(answer.is_ok(), actor.reads_everything(), "{name}");
        }
    }
}

#[tokio::test]
async fn a_key_without_a_user_sees_its_own_records_only() {
    let filled = filled().await;
    let store = &*filled.store;
    let bare = actor(store, "bare").await;
    let list = read(logs(store, &bare, query(""), NOW).await);
    assert_eq!(column(&list, "api_key"), [id("bare"), id("bare")]);
    let own = format!("api_key={}", secret("bare"));
    assert_eq!(read(logs(store, &bare, query(&own), NOW).await)["total"], 2);
    for other in [id("eve"), secret("eve")] {
        let list = read(logs(store, &bare, query(&format!("api_key={other}")), NOW).await);
        assert_eq!(list["total"], 0);
    }
    for answer in [
        keys(store, &bare, query(""), NOW).await,
        teams(store, &bare, query(""), NOW).await,
        users(store, &bare, query(""), NOW).await,
        activity::activity(store, &bare, query(""), NOW).await,
    ] {
        assert_eq!(status(answer).0, 403);
    }
    let nobody = Actor::of(&Caller::Anonymous);
    assert_eq!(status(logs(store, &nobody, query(""), NOW).await).0, 403);
}

#[tokio::test]
async fn records_are_filtered_and_paged() {
    let filled = filled().await;
    let store = &*filled.store;
    let master = Actor::of(&Caller::Master);
    for (filter, total) in [
        ("", 12),
        ("start_date=2026-10-13", 18),
        ("start_date=2026-11-21&end_date=2026-11-21", 6),
        ("end_date=2026-10-13", 6),
        ("end_date=2026-10-12", 0),
        ("model=odd", 6),
        ("user_id=ann", 2),
        ("team_id=t2&model=even", 2),
        ("organization_id=o1", 4),
        ("request_id=request-31&user_id=ann", 0),
        (&format!("api_key={}", id("deleted")), 0),
        (&format!("api_key={}", KeyHash::of(&secret("bob"))), 2),
    ] {
        assert_eq!(
            read(logs(store, &master, query(filter), NOW).await)["total"],
            total,
            "{filter}"
        );
    }
    let second = read(logs(store, &master, query("page=2&page_size=5"), NOW).await);
    let first = read(logs(store, &master, query("page_size=12"), NOW).await);
    assert_eq!(second["data"].as_array().unwrap()[..], first["data"].as_array().unwrap()[5..10]);
    assert_eq!((&second["page"], &second["page_size"]), (&2.into(), &5.into()));
    let times = column(&first, "startTime");
    assert!(times.is_sorted_by(|a, b| a >= b), "{times:?}");
}

#[tokio::test]
async fn what_a_query_cannot_say_is_refused_by_name() {
    let filled = filled().await;
    let store = &*filled.store;
    let master = Actor::of(&Caller::Master);
    for (text, param) in [
        ("start_date=yesterday", "start_date"),
        ("start_date=2026-02-30", "start_date"),
        ("end_date=2026-11-22T00:00:00Z", "end_date"),
        ("start_date=2026-11-22&end_date=2026-11-21", "end_date"),
        ("start_date=2026-11-23", "start_date"),
        ("page_size=1001", "page_size"),
        ("page=0", "page"),
        ("team=t1", "team"),
    ] {
        for answer in [
            logs(store, &master, query(text), NOW).await,
            activity::models(store, &master, query(text), NOW).await,
            activity::providers(store, &master, query(text), NOW).await,
            audit_log::logs(store, &master, query(text), NOW).await,
        ] {
            assert_eq!(status(answer), (400, Some(param.to_owned())), "{text}");
        }
    }
    for (text, param) in [
        ("summarize=yes", "summarize"),
        ("summarize=true&request_id=request-1", "request_id"),
        ("api_key=%00", "api_key"),
    ] {
        let answer = logs(store, &master, query(text), NOW).await;
        assert_eq!(status(answer), (400, Some(param.to_owned())), "{text}");
    }
    for answer in [
        keys(store, &master, query("start_date=2026-11-22"), NOW).await,
        activity::activity(store, &master, query("start_date=2026-11-22&page=1"), NOW).await,
    ] {
        assert_eq!(status(answer).0, 400);
    }
}

#[tokio::test]
async fn days_models_and_providers_are_summed() {
    let filled = filled().await;
    let store = &*filled.store;
    let master = Actor::of(&Caller::Master);
    let activity = read(activity::activity(store, &master, query(""), NOW).await);
    assert_eq!(
        column(&serde_json::json!({"data": activity["daily_data"]}), "date"),
        ["2026-11-21", "2026-11-22"]
    );
    assert_eq!(activity["daily_data"][1]["api_requests"], 6);
    assert_eq!(activity["daily_data"][1]["total_tokens"], 90);
    // Their numbers, in nano-dollars: 0, 10, .. 50, and the same plus one.
    assert_eq!(activity["daily_data"][1]["spend"].to_string(), "6.00000015");
    assert_eq!(activity["sum_api_requests"], 12);
    assert_eq!(activity["sum_total_tokens"], 180);
    assert_eq!(activity["sum_spend"].to_string(), "12.000000306");
    assert_eq!(activity["success_rate"], 1.0);
    assert_eq!((&activity["unique_models"], &activity["unique_providers"]), (&2.into(), &1.into()));
    let models = read(activity::models(store, &master, query(""), NOW).await);
    assert_eq!(column(&models, "model"), ["odd", "even"]);
    assert_eq!(models["data"][0]["api_requests"], 6);
    let providers = read(activity::providers(store, &master, query(""), NOW).await);
    assert_eq!(column(&providers, "provider"), ["openai"]);
    assert_eq!(
        (&providers["total"], &providers["data"][0]["total_tokens"]),
        (&1.into(), &180.into())
    );
    let none = read(activity::activity(store, &master, query("end_date=2020-01-01"), NOW).await);
    assert_eq!((&none["sum_api_requests"], &none["success_rate"]), (&0.into(), &Value::Null));
}

#[tokio::test]
async fn keys_teams_and_users_are_listed_by_what_they_spent() {
    let filled = filled().await;
    let store = &*filled.store;
    let master = Actor::of(&Caller::Master);
    let list = read(keys(store, &master, query("page_size=2"), NOW).await);
    assert_eq!(column(&list, "key_alias"), ["bare", "eve"]);
    assert_eq!(list["total"], 6);
    let first = &list["data"][0];
    assert_eq!(
        (first["spend"].to_string(), &first["max_budget"]),
        ("3.000000153".to_owned(), &30.into())
    );
    assert_eq!(first["key_name"], "sk-...xxxx");
    assert!(first.get("token").is_none());
    let list = read(teams(store, &master, query(""), NOW).await);
    assert_eq!(column(&list, "team_alias"), ["Team t2", "Team t1"]);
    assert_eq!(list["data"][0]["max_budget"], 20);
    let list = read(users(store, &master, query(""), NOW).await);
    assert_eq!(column(&list, "user_id"), ["eve", "bob", "ann", "viewer", "admin"]);
    assert_eq!(list["data"][4]["user_alias"], "Alias of admin");
    let list = read(keys(store, &master, query("team_id=t1"), NOW).await);
    assert_eq!(column(&list, "key_alias"), ["bob", "ann"]);
}
