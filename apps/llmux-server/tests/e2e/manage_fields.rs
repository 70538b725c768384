//! What is accepted on write comes back on read: all fields of all objects, with values drawn at random.

use std::collections::BTreeMap;

use fastrand::Rng;
use serde_json::{Map, Value, json};

use crate::manage::{Managed, on_both};

on_both! {
    what_is_written_to_a_key_is_read_back
    what_is_written_to_a_team_is_read_back
    what_is_written_to_a_user_is_read_back
    what_is_written_to_an_organization_is_read_back
    what_is_written_to_a_member_is_read_back
}

/// Rounds for each kind of object and database.
const ROUNDS: u64 = 20;

/// What values a field has.
#[derive(Clone, Copy)]
enum Draw {
    Unique,
    Name,
    Names,
    Limit,
    Limits,
    Money,
    Budgets,
    Period,
    Time,
    Flag,
    Object,
    OneOf(&'static [&'static str]),
}

type Field = (&'static str, Draw);

const LIMITS: &[Field] = &[
    ("models", Draw::Names),
    ("rpm_limit", Draw::Limit),
    ("tpm_limit", Draw::Limit),
    ("max_parallel_requests", Draw::Limit),
    ("model_rpm_limit", Draw::Limits),
    ("model_tpm_limit", Draw::Limits),
    ("metadata", Draw::Object),
];

const BUDGET: &[Field] = &[
    ("max_budget", Draw::Money),
    ("soft_budget", Draw::Money),
    ("budget_duration", Draw::Period),
    ("model_max_budget", Draw::Budgets),
];

fn text(rng: &mut Rng) -> String {
    let letters =
        ['a', 'Z', '0', ' ', '/', '*', '%', '_', '\'', '"', '\\', 'é', 'ß', '漢', '🦀', '<'];
    let count = rng.usize(0..12);
    // Neither end is a space: it would look like one of the form's.
    format!("t{}.", (0..count).map(|_| letters[rng.usize(..letters.len())]).collect::<String>())
}

fn amount(rng: &mut Rng) -> Value {
    match rng.u8(0..5) {
        0 => json!(0),
        1 => json!(0.000_000_001),
        2 => json!(rng.u32(..)),
        3 => json!(f64::from(rng.u32(..)) / 1000.0),
        _ => json!(f64::from(rng.u32(0..10_000_000)) / 1e9),
    }
}

fn limit(rng: &mut Rng) -> Value {
    match rng.u8(0..4) {
        0 => json!(0),
        1 => json!(i64::MAX),
        _ => json!(rng.u32(..)),
    }
}

fn any(rng: &mut Rng, depth: u8) -> Value {
    match rng.u8(0..if depth == 0 { 6 } else { 8 }) {
        0 => Value::Null,
        1 => json!(rng.bool()),
        2 => json!(rng.i64(..)),
        3 => json!(rng.u64(..)),
        4 => json!(f64::from(rng.i32(..)) / 64.0),
        5 => json!(format!("{}\u{0}\n", text(rng))),
        6 => (0..rng.u8(0..3)).map(|_| any(rng, depth - 1)).collect(),
        _ => object(rng, depth - 1),
    }
}

fn object(rng: &mut Rng, depth: u8) -> Value {
    (0..rng.u8(0..4)).map(|_| (text(rng), any(rng, depth))).collect::<Map<_, _>>().into()
}

impl Draw {
    fn value(self, rng: &mut Rng) -> Value {
        let map = |rng: &mut Rng, value: fn(&mut Rng) -> Value| -> Value {
            (0..rng.u8(0..3)).map(|_| (text(rng), value(rng))).collect::<Map<_, _>>().into()
        };
        match self {
            Self::Unique => json!(format!("{} {}", text(rng), rng.u64(..))),
            Self::Name => json!(text(rng)),
            Self::Names => (0..rng.u8(0..4)).map(|_| json!(text(rng))).collect(),
            Self::Limit => limit(rng),
            Self::Limits => map(rng, limit),
            Self::Money => amount(rng),
            Self::Budgets => map(rng, |rng| {
                if rng.bool() {
                    amount(rng)
                } else {
                    json!({"budget_limit": amount(rng), "time_period": Self::Period.value(rng)})
                }
            }),
            Self::Period => json!(["30s", "10m", "24h", "7d", "2w", "1mo"][rng.usize(..6)]),
            Self::Time => {
                json!(format!("20{}-02-03T04:05:06.{:03}Z", rng.u8(10..99), rng.u16(0..1000)))
            }
            Self::Flag => json!(rng.bool()),
            Self::Object => object(rng, 3),
            Self::OneOf(names) => json!(names[rng.usize(..names.len())]),
        }
    }

    /// What a field is that has no value.
    fn default(self) -> Value {
        match self {
            Self::Names => json!([]),
            Self::Limits | Self::Budgets | Self::Object => json!({}),
            Self::Flag => json!(false),
            Self::OneOf(names) => match names.first() {
                Some(&first @ ("default" | "internal_user" | "user")) => json!(first),
                _ => Value::Null,
            },
            _ => Value::Null,
        }
    }
}

/// Numbers as they are, whether they have a point or not.
fn plain(value: &Value) -> Value {
    match value {
        Value::Number(number) => match number.as_f64() {
            Some(float) if float.fract() == 0.0 && float.abs() < 1e15 => json!(float as i64),
            _ => value.clone(),
        },
        Value::Array(values) => values.iter().map(plain).collect(),
        Value::Object(map) => map
            .iter()
            .map(|(name, value)| (name.clone(), plain(value)))
            .collect::<Map<_, _>>()
            .into(),
        other => other.clone(),
    }
}

/// Draws an update: about a third of the fields is absent, a few are `null`.
fn update(rng: &mut Rng, fields: &[Field], known: &mut BTreeMap<&'static str, Value>) -> Value {
    let mut body = Map::new();
    for (name, draw) in fields {
        let value = match rng.u8(0..9) {
            0..3 => continue,
            3 => Value::Null,
            _ => draw.value(rng),
        };
        body.insert((*name).to_owned(), value.clone());
        known.insert(name, if value.is_null() { draw.default() } else { value });
    }
    Value::Object(body)
}

#[track_caller]
fn assert_has(found: &Value, expected: &BTreeMap<&'static str, Value>, place: &str) {
    for (name, value) in expected {
        let found = found.get(name).unwrap_or_else(|| panic!("{place}: no {name} in {found}"));
        assert_eq!(plain(found), plain(value), "{place}: {name}");
    }
}

/// Writes objects of one kind and reads them back: from the answer, by info and in a list.
async fn round_trips(managed: &Managed, kind: &str, id: &'static str, fields: &[&[Field]]) {
    let fields = fields.concat();
    let [new, update_path, info, list] = match kind {
        "key" => ["/key/generate", "/key/update", "/key/info", "/key/list"],
        "team" => ["/team/new", "/team/update", "/team/info", "/team/list"],
        "user" => ["/user/new", "/user/update", "/user/info", "/user/list"],
        _ => [
            "/organization/new",
            "/organization/update",
            "/organization/info",
            "/organization/list",
        ],
    };
    let parameter = if kind == "key" { "key" } else { id };
    for round in 0..ROUNDS {
        let mut rng = Rng::with_seed(round);
        let mut known: BTreeMap<_, _> =
            fields.iter().map(|(name, draw)| (*name, draw.default())).collect();
        let body = update(&mut rng, &fields, &mut known);
        let made = managed.post(new, body).await;
        assert_has(&made, &known, "made");
        let found = json!({parameter: made[id]});
        for step in 0..3 {
            let place = format!("round {round}, step {step}");
            assert_has(&managed.get(info, found.clone()).await, &known, &place);
            let listed = managed.get(list, json!({"page_size": 1000})).await;
            let data = listed["data"].as_array().unwrap();
            let entry = data.iter().find(|entry| entry[id] == made[id]).unwrap();
            assert_has(entry, &known, &place);
            let mut body = update(&mut rng, &fields, &mut known);
            body[parameter] = made[id].clone();
            assert_has(&managed.post(update_path, body).await, &known, &place);
        }
    }
}

async fn world(managed: &Managed) {
    managed.post("/organization/new", json!({"organization_id": "o1"})).await;
    managed.post("/organization/new", json!({"organization_id": "o2"})).await;
    for id in ["t1", "t2"] {
        managed.post("/team/new", json!({"team_id": id, "organization_id": "o1"})).await;
    }
    for id in ["u1", "u2"] {
        managed.post("/user/new", json!({"user_id": id})).await;
    }
}

async fn what_is_written_to_a_key_is_read_back(managed: Managed) {
    world(&managed).await;
    let key: &[Field] = &[
        ("key_alias", Draw::Unique),
        ("key_type", Draw::OneOf(&["default", "llm_api", "management", "read_only"])),
        ("user_id", Draw::OneOf(&["u1", "u2"])),
        ("team_id", Draw::OneOf(&["t1", "t2"])),
        ("organization_id", Draw::OneOf(&["o1"])),
        ("tags", Draw::Names),
        ("blocked", Draw::Flag),
        ("expires", Draw::Time),
    ];
    round_trips(&managed, "key", "token_id", &[key, LIMITS, BUDGET]).await;
}

async fn what_is_written_to_a_team_is_read_back(managed: Managed) {
    world(&managed).await;
    let team: &[Field] = &[
        ("team_alias", Draw::Unique),
        ("organization_id", Draw::OneOf(&["o1", "o2"])),
        ("tags", Draw::Names),
        ("blocked", Draw::Flag),
    ];
    round_trips(&managed, "team", "team_id", &[team, LIMITS, BUDGET]).await;
}

async fn what_is_written_to_a_user_is_read_back(managed: Managed) {
    let roles = &[
        "internal_user",
        "internal_user_viewer",
        "org_admin",
        "proxy_admin",
        "proxy_admin_viewer",
    ];
    let user: &[Field] = &[
        ("user_alias", Draw::Name),
        ("user_email", Draw::Unique),
        ("user_role", Draw::OneOf(roles)),
    ];
    round_trips(&managed, "user", "user_id", &[user, LIMITS, BUDGET]).await;
}

async fn what_is_written_to_an_organization_is_read_back(managed: Managed) {
    let organization: &[Field] = &[("organization_alias", Draw::Unique)];
    round_trips(&managed, "organization", "organization_id", &[organization, LIMITS, BUDGET]).await;
}

async fn what_is_written_to_a_member_is_read_back(managed: Managed) {
    let member: &[Field] = &[("role", Draw::OneOf(&["user", "admin"]))];
    let fields = [member, BUDGET].concat();
    managed.post("/team/new", json!({"team_id": "t"})).await;
    for round in 0..ROUNDS {
        let mut rng = Rng::with_seed(round);
        let mut known: BTreeMap<_, _> =
            fields.iter().map(|(name, draw)| (*name, draw.default())).collect();
        let user_id = format!("u{round}");
        let mut body = update(&mut rng, &fields, &mut known);
        body["user_id"] = json!(user_id);
        managed.post("/team/member_add", json!({"team_id": "t", "member": body})).await;
        for step in 0..2 {
            let place = format!("round {round}, step {step}");
            let team = managed.get("/team/info", json!({"team_id": "t"})).await;
            let members = team["members_with_roles"].as_array().unwrap();
            let found = members.iter().find(|it| it["user_id"] == user_id.as_str()).unwrap();
            assert_has(found, &known, &place);
            assert_eq!(plain(&found["max_budget_in_team"]), plain(&known["max_budget"]));
            let mut body = update(&mut rng, &fields, &mut known);
            body["team_id"] = json!("t");
            body["user_id"] = json!(user_id);
            assert_has(&managed.post("/team/member_update", body).await, &known, &place);
        }
    }
}
