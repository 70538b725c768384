//! `/organization/*`.

use serde_json::{Value, json};

use crate::manage::{Managed, ids, on_both};

on_both! {
    an_organization_lives
    an_organization_with_teams_or_keys_stays
    members_of_organizations_come_change_and_go
    what_an_organization_cannot_be_is_refused_by_name
    lists_of_organizations_are_filtered
    changes_of_organizations_are_audited
}

/// Both spellings of a change are routes.
const PATCHES: [&str; 2] = ["PATCH", "POST"];
const DELETIONS: [&str; 2] = ["DELETE", "POST"];

async fn an_organization_lives(managed: Managed) {
    for (patch, deletion) in PATCHES.into_iter().zip(DELETIONS) {
        let body = json!({
            "organization_id": "o", "organization_alias": "Org", "max_budget": 9,
            "members": [{"user_id": "a", "user_role": "org_admin"}],
        });
        let made = managed.post("/organization/new", body).await;
        assert_eq!(made["members"][0]["user_role"], "org_admin");
        let query = json!({"organization_id": "o"});
        assert_eq!(managed.get("/organization/info", query.clone()).await, made);
        let body = json!({"organization_id": "o", "models": ["m"], "max_budget": null});
        let updated = managed.done(patch, "/organization/update", body).await;
        assert_eq!((&updated["models"], &updated["max_budget"]), (&json!(["m"]), &Value::Null));
        assert_eq!(updated["organization_alias"], "Org");
        let body = json!({"organization_ids": ["o"]});
        let deleted = managed.done(deletion, "/organization/delete", body).await;
        assert_eq!(deleted, json!({"deleted_organizations": ["o"]}));
        managed.refused("GET", "/organization/info", query, 404, None).await;
    }
    let generated = managed.post("/organization/new", json!({})).await;
    assert!(generated["organization_id"].as_str().is_some_and(|id| id.len() == 32));
}

async fn an_organization_with_teams_or_keys_stays(managed: Managed) {
    managed.post("/organization/new", json!({"organization_id": "o"})).await;
    managed.post("/team/new", json!({"team_id": "t", "organization_id": "o"})).await;
    let key = managed.key(json!({"organization_id": "o"})).await;
    let delete = json!({"organization_ids": ["o"]});
    managed.refused("DELETE", "/organization/delete", delete.clone(), 409, None).await;
    managed.post("/team/delete", json!({"team_id": "t"})).await;
    managed.refused("DELETE", "/organization/delete", delete.clone(), 409, None).await;
    let limited = json!({"organization_id": "o", "models": ["other"]});
    managed.done("PATCH", "/organization/update", limited).await;
    assert_eq!(managed.chat(&key).await, 403, "its limits hold for its keys at once");
    managed.post("/key/delete", json!({"key": key})).await;
    managed.done("DELETE", "/organization/delete", delete).await;
}

async fn members_of_organizations_come_change_and_go(managed: Managed) {
    managed.post("/organization/new", json!({"organization_id": "o"})).await;
    let members = json!({"organization_id": "o", "members": [{"user_id": "a", "role": "org_admin"}, {"user_id": "b"}]});
    let made = managed.post("/organization/member_add", members).await;
    assert_eq!(made["members"].as_array().unwrap().len(), 2);
    let one = json!({"organization_id": "o", "member": {"user_id": "c", "user_role": "internal_user_viewer"}});
    managed.post("/organization/member_add", one.clone()).await;
    managed.refused("POST", "/organization/member_add", one, 409, Some("user_id")).await;
    let query = json!({"organization_id": "o", "page_size": 2});
    let list = managed.get("/organization/members", query).await;
    assert_eq!((ids(&list, "user_id"), &list["total"]), (vec!["a".into(), "b".into()], &json!(3)));
    for (patch, role) in PATCHES.into_iter().zip(["org_admin", "internal_user"]) {
        let body = json!({"organization_id": "o", "user_id": "b", "user_role": role});
        let member = managed.done(patch, "/organization/member_update", body).await;
        assert_eq!(member["user_role"], role);
    }
    for (deletion, user) in DELETIONS.into_iter().zip(["a", "b"]) {
        let body = json!({"organization_id": "o", "user_ids": [user]});
        managed.done(deletion, "/organization/member_delete", body.clone()).await;
        managed.refused(deletion, "/organization/member_delete", body, 404, None).await;
    }
    let list = managed.get("/organization/members", json!({"organization_id": "o"})).await;
    assert_eq!(ids(&list, "user_id"), ["c"]);
    managed.get("/user/info", json!({"user_id": "a"})).await;
}

async fn what_an_organization_cannot_be_is_refused_by_name(managed: Managed) {
    let body = json!({"organization_id": "o", "organization_alias": "O"});
    managed.post("/organization/new", body).await;
    managed.post("/organization/new", json!({"organization_id": "p"})).await;
    for (name, value, status) in [
        ("organization_id", json!("o"), 409),
        ("organization_id", json!(1), 400),
        ("organization_alias", json!("O"), 409),
        ("budget_id", json!("b"), 400),
        ("tags", json!(["x"]), 400),
        ("max_budget", json!(-1), 400),
        ("members", json!([[]]), 400),
    ] {
        let body = json!({name: value});
        managed.refused("POST", "/organization/new", body, status, Some(name)).await;
    }
    let role =
        json!({"organization_id": "o", "members": [{"user_id": "a", "user_role": "proxy_admin"}]});
    let param = Some("members[0].user_role");
    managed.refused("POST", "/organization/member_add", role, 400, param).await;
    let taken = json!({"organization_id": "p", "organization_alias": "O"});
    managed.refused("PATCH", "/organization/update", taken, 409, Some("organization_alias")).await;
    for (method, path, param) in [
        ("PATCH", "update", "organization_id"),
        ("DELETE", "delete", "organization_ids"),
        ("POST", "member_add", "organization_id"),
        ("PATCH", "member_update", "organization_id"),
        ("DELETE", "member_delete", "organization_id"),
        ("GET", "info", "organization_id"),
        ("GET", "members", "organization_id"),
    ] {
        let path = format!("/organization/{path}");
        managed.refused(method, &path, json!({}), 400, Some(param)).await;
    }
    let nobody = json!({"organization_id": "nobody", "members": ["a"]});
    managed.refused("POST", "/organization/member_add", nobody, 404, None).await;
    managed
        .refused("PATCH", "/organization/update", json!({"organization_id": "nobody"}), 404, None)
        .await;
}

async fn lists_of_organizations_are_filtered(managed: Managed) {
    let body = json!({"organization_id": "a", "organization_alias": "A", "members": ["u"]});
    managed.post("/organization/new", body).await;
    managed.post("/organization/new", json!({"organization_id": "b"})).await;
    for query in [json!({"organization_alias": "A"}), json!({"user_id": "u"})] {
        let list = managed.get("/organization/list", query).await;
        assert_eq!(ids(&list, "organization_id"), ["a"]);
    }
    assert_eq!(managed.get("/organization/list", json!({})).await["total"], 2);
}

async fn changes_of_organizations_are_audited(managed: Managed) {
    managed.post("/organization/new", json!({"organization_id": "o", "members": ["a"]})).await;
    managed
        .done("PATCH", "/organization/update", json!({"organization_id": "o", "rpm_limit": 1}))
        .await;
    let member = json!({"organization_id": "o", "member": "b"});
    managed.post("/organization/member_add", member).await;
    let member = json!({"organization_id": "o", "user_id": "b", "role": "org_admin"});
    managed.done("PATCH", "/organization/member_update", member).await;
    let member = json!({"organization_id": "o", "user_id": "b"});
    managed.done("DELETE", "/organization/member_delete", member).await;
    managed.done("DELETE", "/organization/delete", json!({"organization_id": "o"})).await;
    let table = "organization";
    managed
        .assert_audited(&[
            ("created", table, "o"),
            ("created", "user", "a"),
            ("updated", table, "o"),
            ("created", "user", "b"),
            ("members added", table, "o"),
            ("member updated", table, "o"),
            ("members removed", table, "o"),
            ("deleted", table, "o"),
        ])
        .await;
}
