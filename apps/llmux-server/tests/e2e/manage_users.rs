//! `/user/*`.

use serde_json::{Value, json};

use crate::manage::{Managed, ids, on_both};

on_both! {
    a_user_lives
    a_new_user_joins_teams_and_organizations
    a_deleted_user_takes_keys_and_places_along
    what_a_user_cannot_be_is_refused_by_name
    lists_of_users_are_filtered
    changes_of_users_are_audited
}

async fn a_user_lives(managed: Managed) {
    let user = json!({"user_id": "ann", "user_email": "ann@example.com", "max_budget": 3});
    let made = managed.post("/user/new", user).await;
    assert_eq!((&made["user_role"], &made["max_budget"]), (&json!("internal_user"), &json!(3)));
    assert!(made.get("key").is_none(), "a user gets keys by /key/generate");
    let key = managed.key(json!({"user_id": "ann"})).await;
    let info = managed.get("/user/info", json!({"user_id": "ann"})).await;
    assert_eq!((&info["key_count"], &info["teams"]), (&json!(1), &json!([])));
    let own = managed.call(&key, "GET", "/user/info", json!({})).await;
    assert_eq!((own.status, own.json()), (200, info));
    let updated = json!({"user_id": "ann", "user_alias": "Ann", "max_budget": null});
    let updated = managed.post("/user/update", updated).await;
    assert_eq!((&updated["user_alias"], &updated["max_budget"]), (&json!("Ann"), &Value::Null));
    assert_eq!(updated["user_email"], "ann@example.com");
    let generated = managed.post("/user/new", json!({"auto_create_key": false})).await;
    assert!(generated["user_id"].as_str().is_some_and(|id| id.len() == 32));
    let deleted = managed.post("/user/delete", json!({"user_ids": ["ann"]})).await;
    assert_eq!(deleted, json!({"deleted_users": ["ann"]}));
    managed.refused("GET", "/user/info", json!({"user_id": "ann"}), 404, None).await;
}

async fn a_new_user_joins_teams_and_organizations(managed: Managed) {
    managed.post("/organization/new", json!({"organization_id": "o"})).await;
    for id in ["t1", "t2"] {
        managed.post("/team/new", json!({"team_id": id})).await;
    }
    let user = json!({"user_id": "a", "teams": ["t1", "t2"], "organization_id": "o"});
    let made = managed.post("/user/new", user).await;
    assert_eq!(made["teams"], json!(["t1", "t2"]));
    assert_eq!(made["organization_memberships"][0]["organization_id"], "o");
    let user = json!({"user_id": "b", "team_id": "t1", "organizations": ["o"]});
    assert_eq!(managed.post("/user/new", user).await["teams"], json!(["t1"]));
    for (name, param) in [
        ("teams", "teams"),
        ("team_id", "teams"),
        ("organizations", "organizations"),
        ("organization_id", "organizations"),
    ] {
        let user = json!({"user_id": "c", name: "nobody"});
        managed.refused("POST", "/user/new", user, 400, Some(param)).await;
        managed.refused("GET", "/user/info", json!({"user_id": "c"}), 404, None).await;
    }
}

async fn a_deleted_user_takes_keys_and_places_along(managed: Managed) {
    managed.post("/user/new", json!({"user_id": "a"})).await;
    managed.post("/team/new", json!({"team_id": "t", "members": ["a", "b"]})).await;
    let keys = [
        managed.key(json!({"user_id": "a"})).await,
        managed.key(json!({"user_id": "a", "team_id": "t"})).await,
    ];
    for key in &keys {
        assert_eq!(managed.chat(key).await, 200);
    }
    let unknown = json!({"user_ids": ["a", "nobody"]});
    managed.refused("POST", "/user/delete", unknown, 404, None).await;
    assert_eq!(managed.chat(&keys[0]).await, 200, "all or none");
    managed.post("/user/delete", json!({"user_id": "a"})).await;
    for key in &keys {
        assert_eq!(managed.chat(key).await, 401);
    }
    let team = managed.get("/team/info", json!({"team_id": "t"})).await;
    assert_eq!(team["members_with_roles"].as_array().unwrap().len(), 1);
}

async fn what_a_user_cannot_be_is_refused_by_name(managed: Managed) {
    managed.post("/user/new", json!({"user_id": "a", "user_email": "a@example.com"})).await;
    managed.post("/user/new", json!({"user_id": "b"})).await;
    for (name, value, status) in [
        ("user_id", json!("a"), 409),
        ("user_id", json!("a\nb"), 400),
        ("user_email", json!("a@example.com"), 409),
        ("user_role", json!("customer"), 400),
        ("user_role", json!("team"), 400),
        ("auto_create_key", json!(true), 400),
        ("sso_user_id", json!("x"), 400),
        ("rpm_limit", json!(-1), 400),
        ("teams", json!(1), 400),
        ("other", json!(1), 400),
    ] {
        managed.refused("POST", "/user/new", json!({name: value}), status, Some(name)).await;
        if status == 400 && name != "user_id" {
            let body = json!({"user_id": "b", name: value});
            managed.refused("POST", "/user/update", body, 400, Some(name)).await;
        }
    }
    let taken = json!({"user_id": "b", "user_email": "a@example.com"});
    managed.refused("POST", "/user/update", taken, 409, Some("user_email")).await;
    managed.refused("POST", "/user/update", json!({"user_id": "nobody"}), 404, None).await;
    managed.refused("POST", "/user/update", json!({}), 400, Some("user_id")).await;
    managed.refused("POST", "/user/delete", json!({}), 400, Some("user_ids")).await;
    managed.refused("GET", "/user/info", json!({}), 400, Some("user_id")).await;
    managed.refused("GET", "/user/list", json!({"role": "boss"}), 400, Some("role")).await;
}

async fn lists_of_users_are_filtered(managed: Managed) {
    managed.post("/organization/new", json!({"organization_id": "o"})).await;
    managed.post("/team/new", json!({"team_id": "t"})).await;
    managed.post("/user/new", json!({"user_id": "a", "user_alias": "Ann", "team_id": "t"})).await;
    managed
        .post(
            "/user/new",
            json!({"user_id": "b", "user_role": "org_admin", "organization_id": "o"}),
        )
        .await;
    for (query, expected) in [
        (json!({"team_id": "t"}), "a"),
        (json!({"organization_id": "o"}), "b"),
        (json!({"role": "org_admin"}), "b"),
        (json!({"user_role": "internal_user"}), "a"),
        (json!({"search": "an"}), "a"),
        (json!({"search": "b"}), "b"),
    ] {
        let list = managed.get("/user/list", query.clone()).await;
        assert_eq!(ids(&list, "user_id"), [expected], "{query}");
    }
    assert_eq!(managed.get("/user/list", json!({})).await["total"], 2);
}

async fn changes_of_users_are_audited(managed: Managed) {
    managed.post("/team/new", json!({"team_id": "t"})).await;
    managed.post("/user/new", json!({"user_id": "a", "team_id": "t"})).await;
    managed.post("/user/update", json!({"user_id": "a", "max_budget": 1})).await;
    managed.post("/user/delete", json!({"user_id": "a"})).await;
    managed
        .assert_audited(&[
            ("created", "team", "t"),
            ("created", "user", "a"),
            ("members added", "team", "t"),
            ("updated", "user", "a"),
            ("deleted", "user", "a"),
        ])
        .await;
}
