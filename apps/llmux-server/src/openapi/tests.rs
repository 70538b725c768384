//! The document says what the routes take and what the answers are.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use llmux_auth::tenants::{
    AuditRecord, Key, Organization, OrganizationMember, Team, TeamMember, UsageTotals, User,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::document;
use crate::config::{Settings, Sources, load};
use crate::routes::{self, Port};

/// Settings of these variables and nothing else.
fn settings(variables: &[(&str, &str)]) -> Settings {
    let text = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let environment = variables.iter().map(text).collect();
    let working_dir = PathBuf::from("nowhere");
    load(&Sources { environment, working_dir, ..Sources::default() }).unwrap()
}

fn made(port: Port, variables: &[(&str, &str)]) -> Value {
    let settings = settings(variables);
    document(routes::at(port, &settings), &settings)
}

/// The operations: method, path, role.
fn operations(document: &Value) -> BTreeSet<(String, String, String)> {
    let mut found = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let security = operation["security"].as_array();
            let role = operation["x-llmux-role"].as_str().unwrap_or(match security {
                Some(_) => "caller",
                None => "public",
            });
            assert!(found.insert((method.to_ascii_uppercase(), path.clone(), role.to_owned())));
        }
    }
    found
}

/// The routes as `llmux-server routes` lists them.
fn listed(metrics: &str) -> BTreeSet<(String, String, String)> {
    let text = routes::list().replace("{metrics.path}", metrics);
    let route = |line: &str| {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let [method, path, role] = words.try_into().unwrap();
        (method, path, role)
    };
    text.lines().map(route).collect()
}

#[test]
fn each_route_has_an_operation_and_each_operation_a_route() {
    let document = made(Port::Main, &[("LLMUX_METRICS__PATH", "/prom")]);
    assert_eq!(operations(&document), listed("/prom"));
}

#[test]
fn a_port_is_described_as_it_is() {
    let variables = &[("LLMUX_SERVER__ADMIN_PORT", "9000")];
    let (main, admin) = (made(Port::Main, variables), made(Port::Admin, variables));
    let (main, admin) = (operations(&main), operations(&admin));
    let is = |role: &'static str| move |it: &&(String, String, String)| it.2 == role;
    assert_eq!(main.iter().filter(|it| !matches!(it.2.as_str(), "public" | "caller")).count(), 0);
    assert_eq!(admin.iter().filter(is("caller")).count(), 0);
    let all: BTreeSet<_> = main.union(&admin).cloned().collect();
    assert_eq!(all, listed("/metrics"));
    let has_metrics = |all: &BTreeSet<(String, String, String)>| {
        all.iter().any(|(_, path, _)| path == "/metrics")
    };
    assert!(has_metrics(&admin) && !has_metrics(&main));
    let without = made(Port::Main, &[("LLMUX_METRICS__ENABLED", "false")]);
    assert!(!has_metrics(&operations(&without)));
}

#[test]
fn credentials_are_asked_for_where_they_are_needed() {
    let needed = |variables: &[(&str, &str)], path: &str, method: &str| {
        let document = made(Port::Main, variables);
        let security = document["paths"][path][method]["security"].clone();
        security.as_array().map(|all| !all.contains(&json!({})))
    };
    let (open, keyed) = (&[("LLMUX_AUTH__ENABLED", "false")], &[("LLMUX_AUTH__ENABLED", "true")]);
    assert_eq!(needed(open, "/v1/chat/completions", "post"), Some(false));
    assert_eq!(needed(keyed, "/v1/chat/completions", "post"), Some(true));
    assert_eq!(needed(open, "/key/generate", "post"), Some(true));
    assert_eq!(needed(keyed, "/health", "get"), None);
    assert_eq!(needed(keyed, "/metrics", "get"), None);
    let guarded = &[("LLMUX_METRICS__REQUIRE_AUTH", "true")];
    assert_eq!(needed(guarded, "/metrics", "get"), Some(true));
}

fn visit<'a>(value: &'a Value, see: &mut impl FnMut(&'a serde_json::Map<String, Value>)) {
    match value {
        Value::Object(map) => {
            see(map);
            map.values().for_each(|value| visit(value, see));
        }
        Value::Array(list) => list.iter().for_each(|value| visit(value, see)),
        _ => {}
    }
}

#[test]
fn references_lead_somewhere_and_nothing_is_left_over() {
    for port in [Port::Main, Port::Admin] {
        let document = made(port, &[("LLMUX_SERVER__ADMIN_PORT", "9000")]);
        let mut used = BTreeSet::new();
        visit(&document, &mut |map| {
            if let Some(target) = map.get("$ref").and_then(Value::as_str) {
                let target = target.strip_prefix('#').unwrap();
                assert!(document.pointer(target).is_some(), "{target} is not there");
                used.insert(target.to_owned());
            }
        });
        for kind in ["schemas", "responses"] {
            for name in document["components"][kind].as_object().unwrap().keys() {
                let pointer = format!("/components/{kind}/{name}");
                assert!(used.contains(&pointer), "{pointer} is left over");
            }
        }
    }
}

#[test]
fn operations_have_names_of_their_own_and_say_what_they_do() {
    let document = made(Port::Main, &[]);
    let mut ids = BTreeSet::new();
    for item in document["paths"].as_object().unwrap().values() {
        for operation in item.as_object().unwrap().values() {
            let id = operation["operationId"].as_str().unwrap();
            assert!(ids.insert(id), "{id} is there twice");
            assert!(id.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{id}");
            assert_ne!(operation["summary"], "", "{id}");
            let responses = operation["responses"].as_object().unwrap();
            assert!(responses.contains_key("200"), "{id}");
            let is_manager = operation.get("x-llmux-role").is_some();
            assert!(!is_manager || responses.contains_key("403"), "{id}");
            let mut names = BTreeSet::new();
            for parameter in operation["parameters"].as_array().into_iter().flatten() {
                assert!(names.insert(parameter.to_string()), "{id}: {parameter} is there twice");
                let about = parameter["description"].as_str();
                assert!(parameter.get("$ref").is_some() || about.is_some_and(|it| !it.is_empty()));
            }
            let body = &operation["requestBody"]["content"]["application/json"]["schema"];
            for (name, field) in body["properties"].as_object().into_iter().flatten() {
                assert!(field["description"].is_string(), "{id}: nothing is said about {name}");
            }
        }
    }
}

/// Reads an object and writes it again.
fn written<T: DeserializeOwned + Serialize>(object: &Value) -> Value {
    serde_json::to_value(serde_json::from_value::<T>(object.clone()).unwrap()).unwrap()
}

#[test]
fn objects_have_the_fields_that_are_described() {
    let time = "2026-01-31T00:00:00Z";
    let all = json!({
        "token": "a".repeat(64), "token_id": "kid_1", "key_name": "sk-...", "team_id": "t", "user_id": "u",
        "organization_id": "o", "user_role": "internal_user", "role": "user", "created_at": time, "updated_at": time,
        "id": "1", "changed_by": "master", "action": "created", "table_name": "key", "object_id": "kid_1",
    });
    let mut member = all.clone();
    member["user_role"] = "org_admin".into();
    let totals = serde_json::to_value(UsageTotals::default()).unwrap();
    let mut day = totals.clone();
    day["date"] = "2026-01-31".into();
    let objects: BTreeMap<&str, Value> = BTreeMap::from([
        ("Key", written::<Key>(&all)),
        ("Team", written::<Team>(&all)),
        ("User", written::<User>(&all)),
        ("Organization", written::<Organization>(&all)),
        ("TeamMembership", written::<TeamMember>(&all)),
        ("OrganizationMember", written::<OrganizationMember>(&member)),
        ("AuditRecord", written::<AuditRecord>(&all)),
        ("DayTotals", day),
    ]);
    let document = made(Port::Main, &[]);
    for (name, object) in objects {
        let schema = &document["components"]["schemas"][name];
        let names = |value: &Value| -> BTreeSet<String> {
            value.as_object().unwrap().keys().cloned().collect()
        };
        assert_eq!(names(&object), names(&schema["properties"]), "{name}");
        for (field, value) in object.as_object().unwrap() {
            let may_be_null = schema["properties"][field].to_string().contains("\"null\"");
            let may_be_anything = schema["properties"][field].get("description").is_some()
                && schema["properties"][field].as_object().unwrap().len() == 1;
            assert!(!value.is_null() || may_be_null || may_be_anything, "{name}.{field}");
        }
    }
}
