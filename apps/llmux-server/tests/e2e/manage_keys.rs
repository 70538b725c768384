//! `/key/*`.

use serde_json::{Value, json};

use crate::auth::MASTER;
use crate::manage::{Database, Managed, chat, ids, on_both};

on_both! {
    a_key_lives_under_its_three_names
    a_regenerated_key_opens_the_data_plane_and_the_old_one_does_not
    a_blocked_key_is_refused_until_it_is_unblocked
    an_expired_key_is_refused
    a_deleted_key_is_refused_at_once
    an_own_key_is_taken_and_must_be_long
    what_a_key_cannot_be_is_refused_by_name
    keys_belong_to_what_exists
    a_key_spends_for_the_organization_of_its_team
    aliases_are_unique
    what_is_spent_meanwhile_survives_updates_and_a_new_secret
    lists_are_filtered_and_paged
    a_key_without_a_parameter_is_the_callers_own
    changes_of_keys_are_audited_without_secrets
    bodies_are_objects_of_at_most_a_mebibyte
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("no {name} in {value}"))
}

async fn a_key_lives_under_its_three_names(managed: Managed) {
    let key = managed.post("/key/generate", json!({"key_alias": "first", "max_budget": 1.5})).await;
    let secret = text(&key, "key");
    assert!(secret.starts_with("sk-") && secret.len() == 46, "{secret}");
    assert_eq!(text(&key, "key_name"), format!("sk-...{}", &secret[42..]));
    assert_eq!(key["expires"], Value::Null);
    for name in [secret, text(&key, "token"), text(&key, "token_id")] {
        let info = managed.get("/key/info", json!({"key": name})).await;
        assert_eq!(info["token_id"], key["token_id"]);
        assert_eq!(info["max_budget"], 1.5);
        assert!(info.get("key").is_none() && !info.to_string().contains(secret), "shown once");
        for (path, blocked) in [("/key/block", true), ("/key/unblock", false)] {
            let changed = managed.post(path, json!({"key": name})).await;
            assert_eq!(changed["blocked"], blocked, "{path} {name}");
        }
        let updated = managed
            .post("/key/update", json!({"key": name, "metadata": {"length": name.len()}}))
            .await;
        assert_eq!(updated["metadata"], json!({"length": name.len()}));
        assert_eq!((&updated["max_budget"], &updated["key_alias"]), (&json!(1.5), &json!("first")));
        assert!(updated.get("key").is_none());
    }
    assert_eq!(managed.chat(secret).await, 200);
    let second = managed.post("/key/generate", json!({})).await;
    let third = managed.post("/key/generate", json!({})).await;
    let deleted = managed
        .post(
            "/key/delete",
            json!({"keys": [secret, text(&second, "token"), text(&third, "token_id")]}),
        )
        .await;
    let mut expected =
        vec![text(&key, "token_id"), text(&second, "token_id"), text(&third, "token_id")];
    expected.sort_unstable();
    assert_eq!(deleted, json!({"deleted_keys": expected}));
    for name in [secret, text(&key, "token"), text(&key, "token_id")] {
        managed.refused("GET", "/key/info", json!({"key": name}), 404, None).await;
        for path in ["update", "block", "unblock", "regenerate", "delete"] {
            managed.refused("POST", &format!("/key/{path}"), json!({"key": name}), 404, None).await;
        }
    }
    assert_eq!(managed.get("/key/list", json!({})).await["total"], 0);
}

async fn a_regenerated_key_opens_the_data_plane_and_the_old_one_does_not(managed: Managed) {
    let key = managed.post("/key/generate", json!({"key_alias": "k", "rpm_limit": 50})).await;
    let old = text(&key, "key");
    assert_eq!(managed.chat(old).await, 200);
    let new = managed.post("/key/regenerate", json!({"key": old})).await;
    let secret = text(&new, "key");
    assert_eq!((&new["token_id"], &new["key_alias"]), (&key["token_id"], &key["key_alias"]));
    assert_eq!(new["rpm_limit"], 50);
    assert_ne!(new["token"], key["token"]);
    assert_eq!(managed.chat(old).await, 401);
    assert_eq!(managed.chat(secret).await, 200);
    managed.refused("POST", "/key/regenerate", json!({"key": old}), 404, None).await;
    // A new secret of one's own choice.
    let own = "my-own-key-of-more-than-32-characters";
    let name = text(&key, "token_id");
    let newest = managed.post("/key/regenerate", json!({"key": name, "new_key": own})).await;
    assert_eq!(newest["key"], own);
    assert_eq!((managed.chat(secret).await, managed.chat(own).await), (401, 200));
    managed
        .refused(
            "POST",
            "/key/regenerate",
            json!({"key": own, "new_key": own}),
            409,
            Some("new_key"),
        )
        .await;
}

async fn a_blocked_key_is_refused_until_it_is_unblocked(managed: Managed) {
    let key = managed.key(json!({})).await;
    assert_eq!(managed.chat(&key).await, 200);
    managed.post("/key/block", json!({"key": key})).await;
    managed.vendor.forget();
    chat(&managed, &key).await.assert_error(401, "authentication_error", Some("invalid_api_key"));
    assert_eq!(managed.vendor.seen_in_all(), 0, "the vendor is not asked");
    managed.post("/key/unblock", json!({"key": key})).await;
    assert_eq!(managed.chat(&key).await, 200);
    managed.post("/key/update", json!({"key": key, "blocked": true})).await;
    assert_eq!(managed.chat(&key).await, 401);
    let blocked = managed.key(json!({"blocked": true})).await;
    assert_eq!(managed.chat(&blocked).await, 401);
}

async fn an_expired_key_is_refused(managed: Managed) {
    let key = managed.key(json!({"expires": "2001-01-01T00:00:00Z"})).await;
    assert_eq!(managed.chat(&key).await, 401);
    let updated = managed.post("/key/update", json!({"key": key, "duration": "30d"})).await;
    assert_ne!(updated["expires"], Value::Null);
    assert_eq!(managed.chat(&key).await, 200);
    managed.post("/key/update", json!({"key": key, "expires": "2001-01-01T00:00:00.000Z"})).await;
    assert_eq!(managed.chat(&key).await, 401);
    for never in [json!(null), json!("-1")] {
        managed.post("/key/update", json!({"key": key, "duration": "1d"})).await;
        let updated = managed.post("/key/update", json!({"key": key, "duration": never})).await;
        assert_eq!(updated["expires"], Value::Null);
        let made = managed.post("/key/generate", json!({"duration": never})).await;
        assert_eq!(made["expires"], Value::Null);
    }
    assert_eq!(managed.chat(&key).await, 200);
    let updated = managed
        .post("/key/update", json!({"key": key, "expires": "2999-01-01T00:00:00+01:00"}))
        .await;
    assert_eq!(updated["expires"], "2998-12-31T23:00:00.000Z");
    for wrong in [json!("1y"), json!(""), json!(30), json!("0s"), json!("-2"), json!("1h30m")] {
        for path in ["/key/generate", "/key/update"] {
            let body = json!({"key": key, "duration": wrong});
            managed.refused("POST", path, body, 400, Some("duration")).await;
        }
    }
    let both = json!({"duration": "1d", "expires": "2999-01-01T00:00:00Z"});
    managed.refused("POST", "/key/generate", both, 400, Some("duration")).await;
}

async fn a_deleted_key_is_refused_at_once(managed: Managed) {
    let key = managed.key(json!({"key_alias": "gone"})).await;
    assert_eq!(managed.chat(&key).await, 200);
    managed.post("/key/delete", json!({"key_aliases": ["gone"]})).await;
    assert_eq!(managed.chat(&key).await, 401);
    let keys = json!({"keys": [managed.key(json!({})).await, "unknown"]});
    managed.refused("POST", "/key/delete", keys.clone(), 404, None).await;
    assert_eq!(managed.chat(keys["keys"][0].as_str().unwrap()).await, 200, "all or none");
}

async fn an_own_key_is_taken_and_must_be_long(managed: Managed) {
    let own = "x".repeat(32);
    let key = managed.post("/key/generate", json!({"key": own})).await;
    assert_eq!((text(&key, "key"), text(&key, "key_name")), (own.as_str(), "...xxxx"));
    assert_eq!(managed.chat(&own).await, 200);
    managed.refused("POST", "/key/generate", json!({"key": own}), 409, Some("key")).await;
    managed.refused("POST", "/key/generate", json!({"key": MASTER}), 409, Some("key")).await;
    let long = "x".repeat(257);
    for wrong in [
        "",
        "short",
        &"x".repeat(31),
        &"a".repeat(64),
        &long,
        "with a space 0123456789abcdef0123456789",
        "ünïcödé-0123456789abcdef0123456789",
    ] {
        managed.refused("POST", "/key/generate", json!({"key": wrong}), 400, Some("key")).await;
    }
    managed.refused("POST", "/key/generate", json!({"key": 1}), 400, Some("key")).await;
}

async fn what_a_key_cannot_be_is_refused_by_name(managed: Managed) {
    let key = managed.key(json!({})).await;
    for (name, value) in [
        ("key_alias", json!("")),
        ("key_alias", json!("a\u{0}b")),
        ("key_alias", json!("x".repeat(257))),
        ("key_alias", json!(1)),
        ("key_type", json!("admin")),
        ("user_id", json!({})),
        ("tags", json!("red")),
        ("tags", json!([""])),
        ("metadata", json!([])),
        ("metadata", json!("text")),
        ("blocked", json!("yes")),
        ("expires", json!("tomorrow")),
        ("max_budget", json!(-0.5)),
        ("max_budget", json!("1")),
        ("soft_budget", json!(1e12)),
        ("budget_duration", json!("monthly")),
        ("rpm_limit", json!(-1)),
        ("tpm_limit", json!(1.5)),
        ("max_parallel_requests", json!(u64::MAX)),
        ("models", json!(["a\tb"])),
        ("model_rpm_limit", json!({"m": null})),
        ("model_tpm_limit", json!({"": 1})),
        ("model_max_budget", json!({"m": {"time_period": "1d"}})),
        ("max_bugdet", json!(1)),
        ("permissions", json!({"a": true})),
        ("budget_id", json!("b")),
        ("auto_rotate", json!(true)),
        ("temp_budget_increase", json!(1)),
    ] {
        for path in ["/key/generate", "/key/update"] {
            let mut body = json!({name: value});
            if path == "/key/update" {
                body["key"] = json!(key);
            }
            managed.refused("POST", path, body, 400, Some(name)).await;
        }
    }
    for path in ["update", "delete", "block", "unblock", "regenerate"] {
        let param = if path == "delete" { "keys" } else { "key" };
        managed.refused("POST", &format!("/key/{path}"), json!({}), 400, Some(param)).await;
    }
    managed.refused("POST", "/key/delete", json!({"keys": []}), 400, Some("keys")).await;
    managed
        .refused("POST", "/key/delete", json!({"keys": ["a"], "key": "b"}), 400, Some("key"))
        .await;
    managed.refused("GET", "/key/info", json!({}), 400, Some("key")).await;
    managed.refused("GET", "/key/info", json!({"key": "x", "other": 1}), 400, Some("other")).await;
    let void = json!({"aliases": {}, "config": {}, "permissions": null, "guardrails": [], "auto_rotate": false, "spend": 0});
    managed.post("/key/generate", void).await;
}

async fn keys_belong_to_what_exists(managed: Managed) {
    for name in ["user_id", "team_id", "organization_id"] {
        let body = json!({name: "nobody"});
        managed.refused("POST", "/key/generate", body, 400, Some(name)).await;
        let body = json!({"key": managed.key(json!({})).await, name: "nobody"});
        managed.refused("POST", "/key/update", body, 400, Some(name)).await;
    }
}

async fn a_key_spends_for_the_organization_of_its_team(managed: Managed) {
    for id in ["o1", "o2"] {
        managed.post("/organization/new", json!({"organization_id": id})).await;
    }
    managed.post("/team/new", json!({"team_id": "t", "organization_id": "o1"})).await;
    managed.post("/team/new", json!({"team_id": "free"})).await;
    let wrong = json!({"team_id": "t", "organization_id": "o2"});
    managed.refused("POST", "/key/generate", wrong, 400, Some("organization_id")).await;
    let wrong = json!({"team_id": "free", "organization_id": "o2"});
    managed.refused("POST", "/key/generate", wrong, 400, Some("organization_id")).await;
    let key = managed.key(json!({"team_id": "t", "organization_id": "o1"})).await;
    let wrong = json!({"key": key, "organization_id": "o2"});
    managed.refused("POST", "/key/update", wrong, 400, Some("organization_id")).await;
    let wrong = json!({"key": key, "team_id": "free"});
    managed.refused("POST", "/key/update", wrong, 400, Some("organization_id")).await;
    // A team takes its keys along.
    managed.post("/team/update", json!({"team_id": "t", "organization_id": "o2"})).await;
    assert_eq!(managed.get("/key/info", json!({"key": key})).await["organization_id"], "o2");
    managed.post("/team/update", json!({"team_id": "t", "organization_id": null})).await;
    assert_eq!(managed.get("/key/info", json!({"key": key})).await["organization_id"], Value::Null);
}

async fn what_is_spent_meanwhile_survives_updates_and_a_new_secret(managed: Managed) {
    let key = managed.post("/key/generate", json!({"max_budget": 1})).await;
    let (secret, id) = (text(&key, "key"), text(&key, "token_id"));
    for number in 0..10 {
        assert_eq!(managed.chat(secret).await, 200);
        managed.post("/key/update", json!({"key": id, "metadata": {"number": number}})).await;
    }
    managed.spends(id, 0.000_23).await;
    let new = managed.post("/key/regenerate", json!({"key": id})).await;
    assert_eq!((&new["spend"], &new["metadata"]), (&json!(0.000_23), &json!({"number": 9})));
    let secret = text(&new, "key");
    assert_eq!(managed.chat(secret).await, 200);
    managed.spends(id, 0.000_253).await;
    // A budget that is lowered or raised holds for the next call.
    managed.post("/key/update", json!({"key": id, "max_budget": 0.000_253})).await;
    assert_eq!(managed.chat(secret).await, 402);
    managed.post("/key/update", json!({"key": id, "max_budget": null})).await;
    assert_eq!(managed.chat(secret).await, 200);
    managed.spends(id, 0.000_276).await;
}

async fn aliases_are_unique(managed: Managed) {
    managed.key(json!({"key_alias": "a"})).await;
    let other = managed.key(json!({"key_alias": "b"})).await;
    managed
        .refused("POST", "/key/generate", json!({"key_alias": "a"}), 409, Some("key_alias"))
        .await;
    let taken = json!({"key": other, "key_alias": "a"});
    managed.refused("POST", "/key/update", taken, 409, Some("key_alias")).await;
    managed.post("/key/update", json!({"key": other, "key_alias": null})).await;
    managed.key(json!({"key_alias": "b"})).await;
}

async fn lists_are_filtered_and_paged(managed: Managed) {
    managed.post("/organization/new", json!({"organization_id": "o"})).await;
    managed.post("/team/new", json!({"team_id": "t", "organization_id": "o"})).await;
    managed.post("/user/new", json!({"user_id": "u"})).await;
    let mut all = Vec::new();
    for number in 0..7 {
        let mut body = json!({"key_alias": format!("key {number}")});
        if number < 2 {
            body["team_id"] = json!("t");
        }
        if number == 6 {
            body["user_id"] = json!("u");
        }
        all.push(text(&managed.post("/key/generate", body).await, "token_id").to_owned());
    }
    let list = managed.get("/key/list", json!({})).await;
    assert_eq!(
        (&list["total"], &list["page"], &list["page_size"]),
        (&json!(7), &json!(1), &json!(50))
    );
    let newest = ids(&list, "token_id");
    assert_eq!(newest.len(), 7);
    for size in ["page_size", "size"] {
        let mut paged = Vec::new();
        for page in 1..=4 {
            let list = managed.get("/key/list", json!({"page": page, size: 2})).await;
            assert_eq!(
                (&list["total"], &list["page"], &list["page_size"]),
                (&json!(7), &json!(page), &json!(2))
            );
            paged.extend(ids(&list, "token_id"));
        }
        assert_eq!(paged, newest);
    }
    let part = managed.get("/key/list", json!({"limit": 3, "offset": 2})).await;
    assert_eq!(ids(&part, "token_id"), newest[2..5]);
    for (query, count) in [
        (json!({"team_id": "t"}), 2),
        (json!({"organization_id": "o"}), 2),
        (json!({"user_id": "u"}), 1),
        (json!({"key_alias": "key 3"}), 1),
        (json!({"search": "KEY"}), 7),
        (json!({"search": "key 4"}), 1),
        (json!({"team_id": "nobody"}), 0),
    ] {
        let list = managed.get("/key/list", query.clone()).await;
        assert_eq!(
            (list["total"].as_u64(), ids(&list, "token_id").len()),
            (Some(count), count as usize),
            "{query}"
        );
    }
    for (query, param) in [
        (json!({"page_size": 1001}), "page_size"),
        (json!({"page_size": 0}), "page_size"),
        (json!({"page": 0}), "page"),
        (json!({"page": "x"}), "page"),
        (json!({"offset": -1}), "offset"),
        (json!({"teamid": "t"}), "teamid"),
    ] {
        managed.refused("GET", "/key/list", query, 400, Some(param)).await;
    }
}

async fn a_key_without_a_parameter_is_the_callers_own(managed: Managed) {
    let key = managed.key(json!({"key_alias": "mine"})).await;
    let response = managed.call(&key, "GET", "/key/info", json!({})).await;
    assert_eq!((response.status, &response.json()["key_alias"]), (200, &json!("mine")));
}

async fn changes_of_keys_are_audited_without_secrets(managed: Managed) {
    let key = managed.post("/key/generate", json!({"key_alias": "a"})).await;
    let id = text(&key, "token_id").to_owned();
    managed.post("/key/update", json!({"key": id, "max_budget": 2})).await;
    managed.post("/key/block", json!({"key": id})).await;
    managed.post("/key/unblock", json!({"key": id})).await;
    let new = managed.post("/key/regenerate", json!({"key": id})).await;
    managed.refused("POST", "/key/update", json!({"key": "unknown"}), 404, None).await;
    managed.post("/key/delete", json!({"keys": [id]})).await;
    let table = "key";
    managed
        .assert_audited(&[
            ("created", table, &id),
            ("updated", table, &id),
            ("blocked", table, &id),
            ("unblocked", table, &id),
            ("regenerated", table, &id),
            ("deleted", table, &id),
        ])
        .await;
    let log = format!("{:?}", managed.audited().await);
    let printed = managed.gateway.printed();
    for key in [&key, &new] {
        for secret in ["key", "token"] {
            let secret = text(key, secret);
            assert!(!log.contains(secret) && !printed.contains(secret));
        }
    }
    let updated = managed.audited().await.into_iter().find(|it| it.action == "updated").unwrap();
    let budget = |value: Option<Value>| value.map(|value| value["max_budget"].clone());
    assert_eq!(budget(updated.before_value), Some(Value::Null));
    assert_eq!(budget(updated.updated_values), Some(json!(2)));
}

async fn bodies_are_objects_of_at_most_a_mebibyte(managed: Managed) {
    let headers = [("x-api-key", MASTER)];
    for body in ["", "[]", "null", "{", "1", "\"text\"", "{\"a\":1}x"] {
        let response = managed
            .gateway
            .send("POST", "/key/generate", &headers, body.as_bytes())
            .await
            .whole()
            .await;
        response.assert_error(400, "invalid_request_error", None);
        assert_eq!(response.error()["param"], "body", "{body}");
    }
    let body = json!({"metadata": {"a": "x".repeat(1024 * 1024)}}).to_string();
    let response = managed
        .gateway
        .send("POST", "/key/generate", &headers, body.as_bytes())
        .await
        .whole()
        .await;
    response.assert_error(413, "invalid_request_error", Some("request_too_large"));
    let body = json!({"metadata": {"a": "x".repeat(1000 * 1024)}}).to_string();
    let response = managed
        .gateway
        .send("POST", "/key/generate", &headers, body.as_bytes())
        .await
        .whole()
        .await;
    assert_eq!(response.status, 200);
    for (method, path, allow) in [
        ("GET", "/key/generate", "POST"),
        ("POST", "/key/info", "GET, HEAD"),
        ("PUT", "/organization/update", "PATCH, POST"),
        ("GET", "/organization/delete", "DELETE, POST"),
    ] {
        let response = managed.call(MASTER, method, path, json!({})).await;
        assert_eq!((response.status, response.header("allow")), (405, Some(allow)), "{path}");
    }
}

#[tokio::test]
async fn a_change_that_cannot_be_audited_says_so() {
    let managed = Managed::start(Database::Postgres).await;
    managed.execute("ALTER TABLE audit_log RENAME TO elsewhere").await;
    let response = managed.call(MASTER, "POST", "/key/generate", json!({"key_alias": "a"})).await;
    response.assert_error(500, "api_error", Some("not_audited"));
    managed.gateway.prints("could not be written to the audit log").await;
    assert_eq!(managed.get("/key/list", json!({})).await["total"], 1);
}
