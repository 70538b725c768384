//! The OpenAPI document as the program serves it, and whether the program does what it says.

use serde_json::{Map, Value, json};

use crate::auth::MASTER;
use crate::control::managed;
use crate::harness::{Gateway, serving};
use crate::replay::Vendor;

async fn begin() -> (Vendor, Gateway) {
    let vendor = Vendor::start().await;
    let providers = vec![serving(&vendor, "a", json!({"name": "m"}))];
    let gateway = Gateway::start(managed(providers, json!({}))).await;
    (vendor, gateway)
}

async fn document(gateway: &Gateway) -> Value {
    let response = gateway.send("GET", "/openapi.json", &[], b"").await.whole().await;
    assert_eq!(response.status, 200, "{}", response.text());
    assert_eq!(response.header("content-type"), Some("application/json"));
    response.json()
}

/// Each operation: method, path, what is said of it.
fn operations(document: &Value) -> Vec<(String, String, Value)> {
    let items = document["paths"].as_object().unwrap().iter();
    let of_path = |(path, item): (&String, &Value)| {
        let operation = |(method, operation): (&String, &Value)| {
            (method.to_ascii_uppercase(), path.clone(), operation.clone())
        };
        item.as_object().unwrap().iter().map(operation).collect::<Vec<_>>()
    };
    items.flat_map(of_path).collect()
}

fn resolved<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    match schema["$ref"].as_str().and_then(|target| target.strip_prefix('#')) {
        Some(target) => document.pointer(target).unwrap(),
        None => schema,
    }
}

/// A value that fits a schema.
fn sample(document: &Value, schema: &Value) -> Value {
    let schema = resolved(document, schema);
    if let Some(first) = schema["enum"].get(0) {
        return first.clone();
    }
    if let Some(first) = schema["anyOf"].get(0) {
        return sample(document, first);
    }
    let kind = schema["type"].as_str().or_else(|| schema["type"].get(0)?.as_str());
    let least = usize::try_from(schema["minLength"].as_u64().unwrap_or(1)).unwrap();
    match (kind, schema["format"].as_str(), schema["examples"].get(0)) {
        (_, _, Some(example)) => example.clone(),
        (Some("string"), Some("date-time"), _) => json!("2026-01-31T00:00:00Z"),
        (Some("string"), Some("date"), _) => json!("2026-01-31"),
        (Some("string"), ..) => json!("x".repeat(least)),
        (Some("integer" | "number"), ..) => json!(1),
        (Some("boolean"), ..) => json!(true),
        (Some("array"), ..) => json!([sample(document, &schema["items"])]),
        (Some("null"), ..) => Value::Null,
        _ => json!({}),
    }
}

/// The fields of which there must be one and no more.
fn alternatives(schema: &Value) -> impl Iterator<Item = Vec<&str>> {
    let groups = schema["allOf"].as_array().into_iter().flatten();
    let groups = groups.filter_map(|one| one["oneOf"].as_array());
    groups.map(|group| group.iter().filter_map(|it| it["required"][0].as_str()).collect())
}

/// The names that must be there; of alternatives the first.
fn required(schema: &Value) -> Vec<&str> {
    let all = schema["required"].as_array().into_iter().flatten();
    let firsts = alternatives(schema).filter_map(|group| group.first().copied());
    all.filter_map(Value::as_str).chain(firsts).collect()
}

#[tokio::test]
async fn the_document_needs_no_key_and_each_operation_is_there() {
    let (_vendor, gateway) = begin().await;
    let document = document(&gateway).await;
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1."));
    let operations = operations(&document);
    assert!(operations.len() > 60);
    for (method, path, _) in &operations {
        let path = path.replace("{id}", "m");
        let response =
            gateway.send(method, &path, &[("x-api-key", MASTER)], b"{}").await.whole().await;
        let is_there = response.status != 405
            && (response.status != 404 || response.json()["error"]["code"] != "unknown_url");
        assert!(is_there, "{method} {path}: {}", response.text());
    }
    // It has no body to wait for.
    let response = gateway.send("HEAD", "/openapi.json", &[], b"").await;
    assert_eq!(response.status, 200);
    let response = gateway.send("POST", "/openapi.json", &[], b"").await.whole().await;
    assert_eq!((response.status, response.header("allow")), (405, Some("GET, HEAD")));
}

#[tokio::test]
async fn web_pages_of_others_do_not_read_it_on_an_open_plane() {
    let (_vendor, gateway) = begin().await;
    for header in [("host", "llm.example.com"), ("origin", "https://app.example.com")] {
        let response = gateway.send("GET", "/openapi.json", &[header], b"").await.whole().await;
        response.assert_error(403, "permission_error", Some("origin_not_allowed"));
    }
}

/// What a management route says of a field that it does not know.
const UNKNOWN: &str = "is not a known field";

#[tokio::test]
async fn each_parameter_of_a_query_is_known() {
    let (_vendor, gateway) = begin().await;
    let document = document(&gateway).await;
    let mut tried = 0;
    for (method, path, operation) in operations(&document) {
        let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
        if method != "GET" || operation.get("x-llmux-role").is_none() || parameters.is_empty() {
            continue;
        }
        let pair = |parameter: &Value| {
            let value = match sample(&document, &parameter["schema"]) {
                Value::String(text) => text,
                other => other.to_string(),
            };
            format!("{}={value}", parameter["name"].as_str().unwrap())
        };
        let needed: Vec<String> =
            parameters.iter().filter(|it| it["required"] == true).map(pair).collect();
        let call = async |more: String| {
            let query = [needed.clone(), vec![more]].concat().join("&");
            gateway.administer("GET", &format!("{path}?{query}"), "").await
        };
        for parameter in &parameters {
            let mut more = pair(parameter);
            if needed.contains(&more) {
                more.clear();
            }
            let response = call(more.clone()).await;
            let fine = matches!(response.status, 200 | 404);
            assert!(fine, "{path}?{more}: {}", response.text());
            tried += 1;
        }
        // Some routes ask first for what their parameter names.
        let first = pair(&parameters[0]);
        let first = Some(first).filter(|first| !needed.contains(first)).unwrap_or_default();
        let response = call(format!("{first}&frob=1")).await;
        assert!(response.text().contains(UNKNOWN), "{path}: {}", response.text());
    }
    assert!(tried > 50, "{tried}");
}

#[tokio::test]
async fn each_field_of_a_body_is_known() {
    let (_vendor, gateway) = begin().await;
    let document = document(&gateway).await;
    let mut tried = 0;
    for (method, path, operation) in operations(&document) {
        let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
        let is_open = schema["additionalProperties"] == true;
        if operation.get("x-llmux-role").is_none() || schema.is_null() || is_open {
            continue;
        }
        let properties = schema["properties"].as_object().unwrap();
        let needed: Map<String, Value> = required(schema)
            .into_iter()
            .map(|name| (name.to_owned(), sample(&document, &properties[name])))
            .collect();
        let call = async |name: &str, value: Value| {
            let mut body = needed.clone();
            for group in alternatives(schema).filter(|group| group.contains(&name)) {
                body.retain(|other, _| !group.contains(&other.as_str()));
            }
            body.insert(name.to_owned(), value);
            let body = Value::Object(body).to_string();
            (gateway.administer(&method, &path, &body).await, body)
        };
        for (name, property) in properties {
            let (response, body) = call(name, sample(&document, property)).await;
            // What is named does not exist, or what was made for the field before is in the way.
            let code = response.json()["error"]["code"].clone();
            let fine = match response.status {
                200 | 404 | 409 => true,
                400 => code == "reference_not_found",
                _ => false,
            };
            assert!(fine, "{method} {path} {body}: {}", response.text());
            tried += 1;
        }
        let (response, _) = call("frob", json!(1)).await;
        assert!(response.text().contains(UNKNOWN), "{path}: {}", response.text());
    }
    assert!(tried > 150, "{tried}");
}
