//! `/spend/*`, `/global/*` and `/audit/logs`: what real requests leave behind.

use std::time::Instant;

use serde_json::{Value, json};

use crate::auth::MASTER;
use crate::client::PATIENCE;
use crate::faults::failed;
use crate::harness::ANSWER;
use crate::manage::{Managed, ids, on_both};
use crate::replay::Reply;

on_both! {
    each_attempt_leaves_a_row_that_its_people_see
    spend_is_listed_and_summed
    changes_are_listed_newest_first
    what_cannot_be_asked_is_refused_by_name
}

/// Waits until there are so many records, and returns them.
async fn recorded(managed: &Managed, count: usize) -> Value {
    let start = Instant::now();
    loop {
        let list = managed.get("/spend/logs", json!({})).await;
        if list["total"] == count {
            return list;
        }
        assert!(start.elapsed() < PATIENCE, "no {count} records: {list}");
    }
}

async fn read(managed: &Managed, key: &str, path: &str, query: Value) -> Value {
    let response = managed.call(key, "GET", path, query).await;
    assert_eq!(response.status, 200, "{path}: {}", response.text());
    response.json()
}

/// Makes a user `ann` who administers a team `t`, a user `bob`, and a key of each: secrets and ids.
async fn people(managed: &Managed) -> [(String, Value); 2] {
    managed.post("/user/new", json!({"user_id": "ann", "user_role": "internal_user"})).await;
    managed.post("/user/new", json!({"user_id": "bob", "user_role": "internal_user"})).await;
    let admin = json!([{"user_id": "ann", "role": "admin"}]);
    managed.post("/team/new", json!({"team_id": "t", "members_with_roles": admin})).await;
    let mut keys = Vec::new();
    for body in [
        json!({"user_id": "ann", "team_id": "t", "key_alias": "of ann", "max_budget": 2}),
        json!({"user_id": "bob", "key_alias": "of bob"}),
    ] {
        let key = managed.post("/key/generate", body).await;
        keys.push((key["key"].as_str().unwrap().to_owned(), key["token_id"].clone()));
    }
    keys.try_into().unwrap()
}

async fn each_attempt_leaves_a_row_that_its_people_see(managed: Managed) {
    let [(ann, ann_id), (bob, bob_id)] = people(&managed).await;
    managed.vendor.script("m", [Reply::json(200, ANSWER), failed(500), Reply::json(200, ANSWER)]);
    assert_eq!(managed.chat(&ann).await, 200);
    assert_ne!(managed.chat(&ann).await, 200);
    assert_eq!(managed.chat(&bob).await, 200);
    let list = recorded(&managed, 3).await;
    assert_eq!((&list["page"], &list["page_size"]), (&json!(1), &json!(50)));
    let rows = list["data"].as_array().unwrap();
    let keys: Vec<&Value> = rows.iter().map(|row| &row["api_key"]).collect();
    assert_eq!(keys, [&bob_id, &ann_id, &ann_id], "newest first");
    let (failure, success) = (&rows[1], &rows[2]);
    assert_eq!((&failure["status"], &failure["status_code"]), (&json!("failure"), &json!(500)));
    assert_eq!((&success["status"], &success["status_code"]), (&json!("success"), &json!(200)));
    assert_eq!((&success["spend"], &failure["spend"]), (&json!(0.000_023), &json!(0)));
    for (name, value) in [
        ("user", json!("ann")),
        ("team_id", json!("t")),
        ("model", json!("m")),
        ("custom_llm_provider", json!("m")),
        ("attempt", json!(1)),
        ("prompt_tokens", json!(3)),
        ("completion_tokens", json!(2)),
        ("total_tokens", json!(5)),
        ("cache_hit", json!(false)),
        ("stream", json!(false)),
    ] {
        assert_eq!(success[name], value, "{name}: {success}");
    }
    let text = list.to_string();
    assert!(!text.contains(&ann) && !text.contains(&bob), "{text}");

    let hash = read(&managed, MASTER, "/key/info", json!({"key": ann})).await["token"].clone();
    for name in [json!(ann), hash, ann_id.clone()] {
        let list = managed.get("/spend/logs", json!({"api_key": name})).await;
        assert_eq!(ids(&list, "user"), ["ann", "ann"], "{name}");
    }
    let own = read(&managed, &ann, "/spend/logs", json!({})).await;
    assert_eq!(own["data"], json!(rows[1..]));
    let others = read(&managed, &ann, "/spend/logs", json!({"user_id": "bob"})).await;
    assert_eq!((&others["total"], &others["data"]), (&json!(0), &json!([])));
    let days = read(&managed, &ann, "/spend/logs", json!({"summarize": "true"})).await;
    let day = &days["data"][0];
    assert_eq!(day["date"].as_str().unwrap(), &rows[2]["startTime"].as_str().unwrap()[..10]);
    assert_eq!((&day["api_requests"], &day["failed_attempts"]), (&json!(2), &json!(1)));
    assert_eq!(day["spend"], json!(0.000_023));

    // A new secret is the same key.
    let renewed = managed.post("/key/regenerate", json!({"key": ann})).await;
    let list = managed.get("/spend/logs", json!({"api_key": renewed["key"]})).await;
    assert_eq!(list["total"], 2);
    let old = managed.call(MASTER, "GET", "/spend/logs", json!({"api_key": ann})).await;
    assert_eq!(old.status, 404, "{}", old.text());
}

async fn spend_is_listed_and_summed(managed: Managed) {
    let [(ann, ann_id), (bob, bob_id)] = people(&managed).await;
    for key in [&ann, &bob, &ann] {
        assert_eq!(managed.chat(key).await, 200);
    }
    recorded(&managed, 3).await;
    let keys = managed.get("/spend/keys", json!({})).await;
    assert_eq!(json!(ids(&keys, "token_id")), json!([ann_id, bob_id]), "the dearest first");
    let first = &keys["data"][0];
    assert_eq!((&first["spend"], &first["max_budget"]), (&json!(0.000_046), &json!(2)));
    assert_eq!(ids(&keys, "key_alias"), ["of ann", "of bob"]);
    assert!(!keys.to_string().contains(&ann));
    let teams = managed.get("/spend/teams", json!({})).await;
    assert_eq!(ids(&teams, "team_id"), ["t"]);
    assert_eq!(teams["data"][0]["spend"], json!(0.000_046));
    let users = managed.get("/spend/users", json!({"page_size": 1})).await;
    assert_eq!((ids(&users, "user_id"), &users["total"]), (vec!["ann".to_owned()], &json!(2)));
    assert_eq!(ids(&read(&managed, &bob, "/spend/keys", json!({})).await, "key_alias"), ["of bob"]);

    let activity = managed.get("/global/activity", json!({})).await;
    assert_eq!(activity["daily_data"].as_array().unwrap().len(), 1);
    assert_eq!(activity["daily_data"][0]["api_requests"], 3);
    assert_eq!(activity["sum_api_requests"], 3);
    assert_eq!(activity["sum_total_tokens"], 15);
    assert_eq!(activity["sum_spend"], json!(0.000_069));
    for (path, name) in [("/global/spend/models", "model"), ("/global/spend/provider", "provider")]
    {
        let list = managed.get(path, json!({})).await;
        assert_eq!(ids(&list, name), ["m"]);
        assert_eq!((&list["data"][0]["api_requests"], &list["total"]), (&json!(3), &json!(1)));
        assert_eq!(list["data"][0]["spend"], json!(0.000_069));
    }
}

async fn changes_are_listed_newest_first(managed: Managed) {
    let [(ann, ann_id), _] = people(&managed).await;
    managed.post("/key/block", json!({"key": ann})).await;
    let list = managed.get("/audit/logs", json!({"object_id": ann_id})).await;
    assert_eq!(list["total"], 2);
    assert_eq!(list["data"][1]["action"], "created");
    assert_eq!(list["data"][0]["before_value"]["blocked"], false);
    assert_eq!(list["data"][0]["updated_values"]["blocked"], true);
    assert_eq!(list["data"][0]["changed_by"], "master");
    let all = managed.get("/audit/logs", json!({"page_size": 1000})).await;
    assert!(!all.to_string().contains(&ann));
    for query in [json!({"table_name": "team"}), json!({"object_type": "team"})] {
        let teams = managed.get("/audit/logs", query).await;
        assert_eq!((ids(&teams, "object_id"), &teams["total"]), (vec!["t".to_owned()], &json!(1)));
    }
    for query in [json!({"end_date": "2020-01-01"}), json!({"changed_by": "nobody"})] {
        assert_eq!(managed.get("/audit/logs", query).await["total"], 0);
    }
}

async fn what_cannot_be_asked_is_refused_by_name(managed: Managed) {
    for path in ["/spend/logs", "/global/activity", "/global/spend/models", "/audit/logs"] {
        for (query, param) in [
            (json!({"start_date": "2026-13-01"}), "start_date"),
            (json!({"end_date": "today"}), "end_date"),
            (json!({"start_date": "2026-01-02", "end_date": "2026-01-01"}), "end_date"),
            (json!({"colour": "red"}), "colour"),
        ] {
            managed.refused("GET", path, query, 400, Some(param)).await;
        }
    }
    for path in ["/spend/logs", "/spend/keys", "/spend/teams", "/spend/users", "/audit/logs"] {
        managed.refused("GET", path, json!({"page_size": 1001}), 400, Some("page_size")).await;
        assert_eq!(managed.get(path, json!({"page_size": 1000})).await["page_size"], 1000);
        let posted = managed.call(MASTER, "POST", path, json!({})).await;
        assert_eq!((posted.status, posted.header("allow")), (405, Some("GET, HEAD")), "{path}");
    }
    managed.refused("GET", "/spend/logs", json!({"summarize": "1"}), 400, Some("summarize")).await;
}
