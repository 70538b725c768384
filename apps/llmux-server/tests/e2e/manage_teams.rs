//! `/team/*`.

use serde_json::{Value, json};

use crate::manage::{Managed, ids, on_both};

on_both! {
    a_team_lives
    a_blocked_team_stops_its_keys
    a_deleted_team_takes_its_keys_along
    members_come_change_and_go
    a_member_that_goes_leaves_no_keys_in_the_team
    what_a_team_cannot_be_is_refused_by_name
    lists_of_teams_are_filtered
    changes_of_teams_are_audited
}

/// Returns a team's members: id and role.
fn members(team: &Value) -> Vec<(&str, &str)> {
    let members = team["members_with_roles"].as_array().unwrap_or_else(|| panic!("{team}"));
    members
        .iter()
        .map(|member| (member["user_id"].as_str().unwrap(), member["role"].as_str().unwrap()))
        .collect()
}

async fn a_team_lives(managed: Managed) {
    managed.post("/user/new", json!({"user_id": "ann", "user_alias": "Ann"})).await;
    let team = json!({
        "team_id": "red", "team_alias": "Red", "max_budget": 7,
        "members_with_roles": [{"user_id": "ann", "role": "admin"}, {"user_id": "bob", "role": "user"}],
    });
    let made = managed.post("/team/new", team).await;
    assert_eq!(members(&made), [("ann", "admin"), ("bob", "user")]);
    let info = managed.get("/team/info", json!({"team_id": "red"})).await;
    assert_eq!(info, made);
    let bob = managed.get("/user/info", json!({"user_id": "bob"})).await;
    assert_eq!(bob["user_role"], "internal_user", "users that were none yet become some");
    let ann = managed.get("/user/info", json!({"user_id": "ann"})).await;
    assert_eq!(ann["user_alias"], "Ann", "others stay as they are");
    let updated = json!({"team_id": "red", "max_budget": null, "tags": ["x"]});
    let updated = managed.post("/team/update", updated).await;
    assert_eq!((&updated["max_budget"], &updated["team_alias"]), (&Value::Null, &json!("Red")));
    assert_eq!(members(&updated).len(), 2);
    let generated = managed.post("/team/new", json!({})).await;
    assert!(generated["team_id"].as_str().is_some_and(|id| id.len() == 32));
    let deleted = managed.post("/team/delete", json!({"team_ids": ["red"]})).await;
    assert_eq!(deleted, json!({"deleted_teams": ["red"]}));
    managed.refused("GET", "/team/info", json!({"team_id": "red"}), 404, None).await;
    managed.get("/user/info", json!({"user_id": "bob"})).await;
}

async fn a_blocked_team_stops_its_keys(managed: Managed) {
    managed.post("/team/new", json!({"team_id": "t"})).await;
    let key = managed.key(json!({"team_id": "t"})).await;
    assert_eq!(managed.chat(&key).await, 200);
    let blocked = managed.post("/team/block", json!({"team_id": "t"})).await;
    assert_eq!((&blocked["blocked"], managed.chat(&key).await), (&json!(true), 401));
    let unblocked = managed.post("/team/unblock", json!({"team_id": "t"})).await;
    assert_eq!((&unblocked["blocked"], managed.chat(&key).await), (&json!(false), 200));
    managed.post("/team/update", json!({"team_id": "t", "blocked": true})).await;
    assert_eq!(managed.chat(&key).await, 401);
    managed
        .post("/team/update", json!({"team_id": "t", "blocked": null, "models": ["other"]}))
        .await;
    assert_eq!(managed.chat(&key).await, 403);
}

async fn a_deleted_team_takes_its_keys_along(managed: Managed) {
    for id in ["t", "other"] {
        managed.post("/team/new", json!({"team_id": id})).await;
    }
    let key = managed.key(json!({"team_id": "t"})).await;
    let kept = managed.key(json!({"team_id": "other"})).await;
    assert_eq!((managed.chat(&key).await, managed.chat(&kept).await), (200, 200));
    let unknown = json!({"team_ids": ["t", "nobody"]});
    managed.refused("POST", "/team/delete", unknown, 404, None).await;
    assert_eq!(managed.chat(&key).await, 200, "all or none");
    managed.post("/team/delete", json!({"team_id": "t"})).await;
    assert_eq!((managed.chat(&key).await, managed.chat(&kept).await), (401, 200));
}

async fn members_come_change_and_go(managed: Managed) {
    managed.post("/team/new", json!({"team_id": "t"})).await;
    let one = json!({"team_id": "t", "member": {"user_id": "a", "role": "user"}, "max_budget_in_team": 5});
    let team = managed.post("/team/member_add", one).await;
    assert_eq!(members(&team), [("a", "user")]);
    assert_eq!(team["members_with_roles"][0]["max_budget_in_team"], 5);
    let more = json!({"team_id": "t", "members": [{"user_id": "b", "role": "admin"}, {"user_id": "c", "max_budget_in_team": 1}]});
    let team = managed.post("/team/member_add", more).await;
    assert_eq!(members(&team), [("a", "user"), ("b", "admin"), ("c", "user")]);
    let again = json!({"team_id": "t", "members": [{"user_id": "d"}, {"user_id": "a"}]});
    managed.refused("POST", "/team/member_add", again, 409, Some("user_id")).await;
    let changed =
        json!({"team_id": "t", "user_id": "a", "role": "admin", "max_budget_in_team": null});
    let member = managed.post("/team/member_update", changed).await;
    assert_eq!((&member["role"], &member["max_budget_in_team"]), (&json!("admin"), &Value::Null));
    let team =
        managed.post("/team/member_delete", json!({"team_id": "t", "user_ids": ["a", "b"]})).await;
    assert_eq!(members(&team), [("c", "user")], "all or none were added");
    let gone = json!({"team_id": "t", "user_id": "a"});
    managed.refused("POST", "/team/member_delete", gone.clone(), 404, None).await;
    managed.refused("POST", "/team/member_update", gone, 404, None).await;
}

async fn a_member_that_goes_leaves_no_keys_in_the_team(managed: Managed) {
    let team = json!({"team_id": "t", "members": ["a", "b"]});
    managed.post("/team/new", team).await;
    let in_team = managed.key(json!({"team_id": "t", "user_id": "a"})).await;
    let own = managed.key(json!({"user_id": "a"})).await;
    let other = managed.key(json!({"team_id": "t", "user_id": "b"})).await;
    managed.post("/team/member_delete", json!({"team_id": "t", "user_id": "a"})).await;
    for (key, status) in [(in_team, 401), (own, 200), (other, 200)] {
        assert_eq!(managed.chat(&key).await, status);
    }
}

async fn what_a_team_cannot_be_is_refused_by_name(managed: Managed) {
    managed.post("/team/new", json!({"team_id": "t", "team_alias": "T"})).await;
    managed.post("/team/new", json!({"team_id": "u"})).await;
    for (name, value, status) in [
        ("team_id", json!("t"), 409),
        ("team_id", json!(""), 400),
        ("team_id", json!("x".repeat(257)), 400),
        ("team_alias", json!("T"), 409),
        ("organization_id", json!("nobody"), 400),
        ("members_with_roles[0].role", json!(null), 400),
        ("members_with_roles[0].user_id", json!(null), 400),
        ("members_with_roles", json!(7), 400),
        ("team_member_budget", json!(7), 400),
        ("model_aliases", json!({"a": "b"}), 400),
        ("max_budget", json!(-1), 400),
        ("other", json!(1), 400),
    ] {
        let body = match name {
            "members_with_roles[0].role" => {
                json!({"members_with_roles": [{"user_id": "a", "role": "owner"}]})
            }
            "members_with_roles[0].user_id" => json!({"members_with_roles": [{"role": "user"}]}),
            name => json!({name: value}),
        };
        managed.refused("POST", "/team/new", body, status, Some(name)).await;
    }
    let taken = json!({"team_id": "u", "team_alias": "T"});
    managed.refused("POST", "/team/update", taken, 409, Some("team_alias")).await;
    managed.refused("POST", "/team/update", json!({"team_id": "nobody"}), 404, None).await;
    for path in ["update", "block", "unblock", "member_add", "member_delete", "member_update"] {
        let path = format!("/team/{path}");
        managed.refused("POST", &path, json!({}), 400, Some("team_id")).await;
    }
    managed.refused("POST", "/team/delete", json!({}), 400, Some("team_ids")).await;
    managed.refused("GET", "/team/info", json!({}), 400, Some("team_id")).await;
    let nobody = json!({"team_id": "t", "members": []});
    managed.refused("POST", "/team/member_add", nobody, 400, Some("members")).await;
    let twice = json!({"team_id": "t", "members": ["a", "a"]});
    managed.refused("POST", "/team/member_add", twice, 400, Some("members[1].user_id")).await;
    let mail = json!({"team_id": "t", "member": {"user_id": "a", "user_email": "a@b.example"}});
    managed.refused("POST", "/team/member_add", mail, 400, Some("member[0].user_email")).await;
    // Nothing of it was done.
    assert_eq!(managed.get("/team/list", json!({})).await["total"], 2);
    assert_eq!(managed.get("/user/list", json!({})).await["total"], 0);
}

async fn lists_of_teams_are_filtered(managed: Managed) {
    managed.post("/organization/new", json!({"organization_id": "o"})).await;
    managed
        .post("/team/new", json!({"team_id": "a", "team_alias": "Alpha", "organization_id": "o"}))
        .await;
    managed
        .post("/team/new", json!({"team_id": "b", "team_alias": "Beta", "members": ["u"]}))
        .await;
    for (query, expected) in [
        (json!({}), vec!["b", "a"]),
        (json!({"organization_id": "o"}), vec!["a"]),
        (json!({"user_id": "u"}), vec!["b"]),
        (json!({"team_alias": "Alpha"}), vec!["a"]),
        (json!({"search": "be"}), vec!["b"]),
        (json!({"page_size": 1, "page": 2}), vec!["a"]),
    ] {
        let list = managed.get("/team/list", query.clone()).await;
        let mut found = ids(&list, "team_id");
        if query == json!({}) {
            // Both may be of one millisecond.
            found.sort();
            found.reverse();
        }
        if query.get("page").is_none() {
            assert_eq!(found, expected, "{query}");
        }
    }
}

async fn changes_of_teams_are_audited(managed: Managed) {
    managed.post("/team/new", json!({"team_id": "t", "members": ["a"]})).await;
    managed.post("/team/update", json!({"team_id": "t", "rpm_limit": 1})).await;
    managed.post("/team/block", json!({"team_id": "t"})).await;
    managed.post("/team/unblock", json!({"team_id": "t"})).await;
    managed.post("/team/member_add", json!({"team_id": "t", "member": "b"})).await;
    managed
        .post("/team/member_update", json!({"team_id": "t", "user_id": "b", "role": "admin"}))
        .await;
    managed.post("/team/member_delete", json!({"team_id": "t", "user_id": "b"})).await;
    managed.post("/team/delete", json!({"team_id": "t"})).await;
    let actions = [
        "created",
        "updated",
        "blocked",
        "unblocked",
        "members added",
        "member updated",
        "members removed",
        "deleted",
    ];
    let mut expected: Vec<_> = actions.iter().map(|action| (*action, "team", "t")).collect();
    expected.push(("created", "user", "a"));
    expected.push(("created", "user", "b"));
    managed.assert_audited(&expected).await;
}
