//! Who may do what: each role at each route of the management plane, and the ways to more than one has.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::auth::MASTER;
use crate::manage::{Managed, ids, on_both};

on_both! {
    each_role_may_use_each_route_as_the_matrix_says
    what_is_out_of_reach_does_not_tell_whether_it_exists
    lists_show_what_the_caller_may_see
    nobody_hands_out_more_than_they_have
    a_team_admin_does_not_touch_the_teams_limits
    an_organizations_admin_stays_inside
    a_lost_role_is_lost_at_once
}

/// Who calls: the name, the user's role and the key's type; `None`: a key without a user.
const ACTORS: &[(&str, Option<&str>, &str)] = &[
    ("admin", Some("proxy_admin"), "management"),
    ("admin_reading", Some("proxy_admin"), "read_only"),
    ("admin_calling", Some("proxy_admin"), "llm_api"),
    ("viewer", Some("proxy_admin_viewer"), "default"),
    ("org_admin", Some("org_admin"), "default"),
    ("team_admin", Some("internal_user"), "default"),
    ("member", Some("internal_user"), "default"),
    ("user", Some("internal_user"), "default"),
    ("user_viewer", Some("internal_user_viewer"), "default"),
    ("bare", None, "default"),
];

/// Who reads and writes everything.
const ADMINS: &str = "master admin";
/// Who reads everything.
const READERS: &str = "master admin admin_reading viewer";

struct World {
    managed: Managed,
    /// The actors' keys.
    keys: BTreeMap<&'static str, String>,
}

/// Makes an organization `o` with a team `t`, a team `lone` without one, another organization `p` with a team `x`, and
/// the actors.
async fn world(managed: Managed) -> World {
    for (user, role, _) in ACTORS {
        if let Some(role) = role {
            managed.post("/user/new", json!({"user_id": user, "user_role": role})).await;
        }
    }
    managed.post("/user/new", json!({"user_id": "stranger"})).await;
    let member = json!({"user_id": "org_admin", "user_role": "org_admin"});
    managed
        .post(
            "/organization/new",
            json!({"organization_id": "o", "members": [member, "team_admin"]}),
        )
        .await;
    managed.post("/organization/new", json!({"organization_id": "p"})).await;
    let members = json!([{"user_id": "team_admin", "role": "admin"}, {"user_id": "member", "role": "user"}, "user_viewer"]);
    let team = json!({"team_id": "t", "organization_id": "o", "members_with_roles": members});
    managed.post("/team/new", team).await;
    managed.post("/team/new", json!({"team_id": "lone"})).await;
    managed.post("/team/new", json!({"team_id": "x", "organization_id": "p"})).await;
    let mut keys = BTreeMap::from([("master", MASTER.to_owned())]);
    for (user, role, key_type) in ACTORS {
        let mut body = json!({"key_type": key_type});
        if role.is_some() {
            body["user_id"] = json!(user);
        }
        keys.insert(user, managed.key(body).await);
    }
    World { managed, keys }
}

impl World {
    async fn call(&self, actor: &str, method: &str, path: &str, body: Value) -> (u16, Value) {
        let response = self.managed.call(&self.keys[actor], method, path, body).await;
        let status = response.status;
        let body = response.json();
        if status == 403 {
            assert_eq!(body["error"]["type"], "permission_error", "{body}");
        }
        (status, body)
    }

    /// Makes a new key with the master key and returns its id.
    async fn key(&self, body: Value) -> Value {
        self.managed.post("/key/generate", body).await["token_id"].clone()
    }

    /// Makes a new team with a member and returns its id.
    async fn team(&self, organization: Option<&str>) -> Value {
        let members = json!([{"user_id": "team_admin", "role": "admin"}, "stranger"]);
        let body = json!({"organization_id": organization, "members": members});
        self.managed.post("/team/new", body).await["team_id"].clone()
    }

    /// Makes what one call is about, and returns its body.
    async fn body(&self, route: &str, about: &str, actor: &str) -> Value {
        let user = ACTORS.iter().any(|(name, role, _)| *name == actor && role.is_some());
        let own = if user { json!(actor) } else { json!(null) };
        match (route, about) {
            ("/route/explain", _) => json!({"model": "m"}),
            ("/control/deployments/cooldown", _) => {
                json!({"deployment_id": "m/m", "cooldown_seconds": 0})
            }
            (_, "gateway" | "reach") => json!({}),
            ("/key/generate", "own") => json!({"user_id": own}),
            ("/key/generate", "team") => json!({"user_id": null, "team_id": "t"}),
            ("/key/generate", "organization") => json!({"user_id": null, "organization_id": "o"}),
            ("/key/generate", "other") => json!({"user_id": "stranger", "key_type": "llm_api"}),
            ("/key/list", "own") => json!({}),
            ("/key/info", "presented") => json!({}),
            (path, about) if path.starts_with("/key/") => {
                let key = match about {
                    "own" => self.key(json!({"user_id": own})).await,
                    "team" => self.key(json!({"team_id": "t"})).await,
                    "organization" => self.key(json!({"organization_id": "o"})).await,
                    _ => self.key(json!({"user_id": "stranger"})).await,
                };
                json!({"key": key})
            }
            ("/team/new", "organization") => json!({"organization_id": "o"}),
            ("/team/new", _) => json!({}),
            ("/team/list", "own") => json!({}),
            ("/team/update", "team") => json!({"team_id": "t", "team_alias": "T"}),
            ("/team/update", "limits") => json!({"team_id": "t", "rpm_limit": 1000}),
            ("/team/info", "team") => json!({"team_id": "t"}),
            (path, about) if path.starts_with("/team/") => {
                let team = match about {
                    "other" => json!("x"),
                    _ => self.team(Some("o")).await,
                };
                match path {
                    // Of the organization's own, so that its team's admin may, too.
                    "/team/member_add" => json!({"team_id": team, "member": "org_admin"}),
                    "/team/member_delete" | "/team/member_update" => {
                        if about == "other" {
                            let add =
                                json!({"team_id": team, "member": format!("m {actor} {path}")});
                            self.managed.post("/team/member_add", add).await;
                            json!({"team_id": team, "user_id": format!("m {actor} {path}")})
                        } else {
                            json!({"team_id": team, "user_id": "stranger"})
                        }
                    }
                    "/team/delete" if about == "other" => {
                        let other = json!({"organization_id": "p"});
                        json!({"team_id": self.managed.post("/team/new", other).await["team_id"]})
                    }
                    _ => json!({"team_id": team}),
                }
            }
            ("/user/new", _) => json!({}),
            ("/user/info" | "/user/update", "own") => json!({"user_id": own}),
            ("/user/list", "own") => json!({}),
            ("/user/delete", _) => {
                json!({"user_id": self.managed.post("/user/new", json!({})).await["user_id"]})
            }
            (path, _) if path.starts_with("/user/") => json!({"user_id": "stranger"}),
            ("/organization/new", _) => json!({}),
            ("/organization/list", _) => json!({}),
            ("/organization/delete", _) => {
                let made = self.managed.post("/organization/new", json!({})).await;
                json!({"organization_id": made["organization_id"]})
            }
            (path, about) => {
                let id = if about == "own" { "o" } else { "p" };
                let body = json!({"organization_id": id});
                let member = self.managed.post("/user/new", json!({})).await["user_id"].clone();
                match path {
                    "/organization/member_add" => json!({"organization_id": id, "member": member}),
                    "/organization/member_update" | "/organization/member_delete" => {
                        let add = json!({"organization_id": id, "member": member});
                        self.managed.post("/organization/member_add", add).await;
                        json!({"organization_id": id, "user_id": member})
                    }
                    _ => body,
                }
            }
        }
    }
}

/// For each route and what it is about: who may. All others must not.
fn matrix() -> Vec<(&'static str, &'static str, &'static str, Vec<&'static str>)> {
    let own_writers = "org_admin team_admin member user";
    let own_readers = "org_admin team_admin member user user_viewer";
    let mut rows: Vec<(&str, &str, &str, Vec<&str>)> = Vec::new();
    let mut row = |method, path, about, base: &'static str, more: &'static str| {
        rows.push((method, path, about, base.split(' ').chain(more.split_whitespace()).collect()));
    };
    for path in ["generate", "update", "delete", "block", "unblock", "regenerate"] {
        let path: &'static str = match path {
            "generate" => "/key/generate",
            "update" => "/key/update",
            "delete" => "/key/delete",
            "block" => "/key/block",
            "unblock" => "/key/unblock",
            _ => "/key/regenerate",
        };
        row("POST", path, "own", ADMINS, own_writers);
        row("POST", path, "team", ADMINS, "org_admin team_admin");
        row("POST", path, "organization", ADMINS, "org_admin");
        row("POST", path, "other", ADMINS, "");
    }
    row("GET", "/key/info", "presented", "admin admin_reading viewer bare", own_readers);
    row("GET", "/key/info", "own", READERS, own_readers);
    row("GET", "/key/info", "team", READERS, "org_admin team_admin");
    row("GET", "/key/info", "organization", READERS, "org_admin");
    row("GET", "/key/info", "other", READERS, "");
    row("GET", "/key/list", "own", READERS, own_readers);
    row("POST", "/team/new", "organization", ADMINS, "org_admin");
    row("POST", "/team/new", "other", ADMINS, "");
    row("POST", "/team/update", "team", ADMINS, "org_admin team_admin");
    row("POST", "/team/update", "limits", ADMINS, "org_admin");
    row("POST", "/team/update", "other", ADMINS, "");
    for path in ["/team/delete", "/team/block", "/team/unblock"] {
        row("POST", path, "team", ADMINS, "org_admin");
        row("POST", path, "other", ADMINS, "");
    }
    for path in ["/team/member_add", "/team/member_delete", "/team/member_update"] {
        row("POST", path, "team", ADMINS, "org_admin team_admin");
        // One is added once.
        if path != "/team/member_add" {
            row("POST", path, "other", ADMINS, "");
        }
    }
    row("GET", "/team/info", "team", READERS, "org_admin team_admin member user_viewer");
    row("GET", "/team/info", "other", READERS, "");
    row("GET", "/team/list", "own", READERS, own_readers);
    for path in ["/user/new", "/user/update", "/user/delete"] {
        row("POST", path, "other", ADMINS, "");
    }
    row("GET", "/user/info", "other", READERS, "");
    row("GET", "/user/list", "own", READERS, own_readers);
    row("POST", "/organization/new", "other", ADMINS, "");
    for method in ["PATCH", "POST"] {
        row(method, "/organization/update", "own", ADMINS, "");
        row(method, "/organization/member_update", "own", ADMINS, "org_admin");
        row(method, "/organization/member_update", "other", ADMINS, "");
    }
    for method in ["DELETE", "POST"] {
        row(method, "/organization/delete", "other", ADMINS, "");
        row(method, "/organization/member_delete", "own", ADMINS, "org_admin");
        row(method, "/organization/member_delete", "other", ADMINS, "");
    }
    row("POST", "/organization/member_add", "own", ADMINS, "org_admin");
    row("POST", "/organization/member_add", "other", ADMINS, "");
    row("GET", "/organization/list", "own", READERS, "org_admin");
    for path in ["/organization/info", "/organization/members"] {
        row("GET", path, "own", READERS, "org_admin");
        row("GET", path, "other", READERS, "");
    }
    for path in [
        "/control/deployments",
        "/control/state",
        "/control/config",
        "/cache/stats",
        "/global/activity",
        "/global/spend/models",
        "/global/spend/provider",
        "/audit/logs",
    ] {
        row("GET", path, "gateway", READERS, "");
    }
    row(
        "GET",
        "/spend/logs",
        "reach",
        READERS,
        "org_admin team_admin member user user_viewer bare",
    );
    for path in ["/spend/keys", "/spend/teams", "/spend/users"] {
        row("GET", path, "reach", READERS, own_readers);
    }
    row("POST", "/route/explain", "gateway", READERS, "");
    row("POST", "/control/config/reload", "gateway", ADMINS, "");
    row("POST", "/cache/flush", "gateway", ADMINS, "");
    row("POST", "/control/deployments/cooldown", "gateway", ADMINS, "");
    rows
}

/// The routes that `llmux-server routes` lists for managers: method, path and the least role.
fn listed_routes() -> Vec<(String, String, String)> {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_llmux-server"))
        .arg("routes")
        .env_clear()
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let lines = text.lines().map(|line| {
        let words: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
        let [method, path, role] = words.try_into().unwrap();
        (method, path, role)
    });
    lines.filter(|(_, _, role)| !matches!(role.as_str(), "public" | "caller")).collect()
}

/// The least role among those who may.
fn least(may: &BTreeSet<&str>) -> &'static str {
    for (actor, role) in [
        ("bare", "key"),
        ("user_viewer", "internal_user_viewer"),
        ("user", "internal_user"),
        ("team_admin", "team_admin"),
        ("org_admin", "org_admin"),
        ("viewer", "proxy_admin_viewer"),
    ] {
        if may.contains(actor) {
            return role;
        }
    }
    "proxy_admin"
}

async fn each_role_may_use_each_route_as_the_matrix_says(managed: Managed) {
    let world = world(managed).await;
    let mut covered: BTreeMap<(&str, &str), BTreeSet<&str>> = BTreeMap::new();
    for (method, path, about, may) in matrix() {
        covered.entry((method, path)).or_default().extend(&may);
        for actor in world.keys.keys() {
            let body = world.body(path, about, actor).await;
            let (status, answer) = world.call(actor, method, path, body).await;
            let expected = match (*actor, path, about) {
                // The master key is no key of the database.
                ("master", "/key/info", "presented") => 400,
                _ if may.contains(actor) => 200,
                _ => 403,
            };
            assert_eq!(status, expected, "{actor}: {method} {path}, {about}: {answer}");
        }
    }
    let mut listed = BTreeSet::new();
    for (method, path, role) in listed_routes() {
        let may = covered.get(&(method.as_str(), path.as_str()));
        let may = may.unwrap_or_else(|| panic!("{method} {path} is not in the matrix"));
        // What everybody with the role may do with what is their own.
        let role_of_matrix = if path == "/user/info" { "internal_user_viewer" } else { least(may) };
        assert_eq!(role, role_of_matrix, "{method} {path}");
        listed.insert((method, path));
    }
    assert_eq!(listed.len(), covered.len(), "no route of the matrix is missing");
    let own = world.call("user_viewer", "GET", "/user/info", json!({})).await;
    assert_eq!((own.0, &own.1["user_id"]), (200, &json!("user_viewer")));
    for actor in ["bare", "admin_calling"] {
        assert_eq!(world.call(actor, "GET", "/user/info", json!({})).await.0, 403);
    }
    let records = world.managed.audited_last(2).await;
    for record in &records {
        let found = (record.action.as_str(), record.table_name.as_str(), record.object_id.as_str());
        assert_eq!(found, ("cooldown set", "deployment", "m/m"));
    }
    let by: BTreeSet<_> = records.iter().map(|record| record.changed_by.as_str()).collect();
    assert_eq!(by, BTreeSet::from(["admin", "master"]));
    let with_key = records.iter().find(|record| record.changed_by == "admin").unwrap();
    assert!(with_key.changed_by_api_key.as_ref().is_some_and(|id| id.starts_with("kid_")));
}

async fn what_is_out_of_reach_does_not_tell_whether_it_exists(managed: Managed) {
    let world = world(managed).await;
    let key = world.key(json!({"user_id": "stranger"})).await;
    for actor in ["org_admin", "team_admin", "member", "user", "user_viewer", "bare"] {
        for (method, path, name, there) in [
            ("GET", "/key/info", "key", &key),
            ("POST", "/key/update", "key", &key),
            ("POST", "/key/delete", "key", &key),
            ("POST", "/key/regenerate", "key", &key),
            ("GET", "/team/info", "team_id", &json!("x")),
            ("POST", "/team/update", "team_id", &json!("x")),
            ("POST", "/team/delete", "team_id", &json!("x")),
            ("POST", "/key/generate", "team_id", &json!("x")),
            ("POST", "/key/generate", "user_id", &json!("stranger")),
            ("POST", "/key/generate", "organization_id", &json!("p")),
            ("GET", "/user/info", "user_id", &json!("stranger")),
            ("POST", "/user/update", "user_id", &json!("stranger")),
            ("POST", "/user/delete", "user_id", &json!("stranger")),
            ("GET", "/organization/info", "organization_id", &json!("p")),
            ("GET", "/organization/members", "organization_id", &json!("p")),
            ("POST", "/organization/delete", "organization_id", &json!("p")),
        ] {
            let found = world.call(actor, method, path, json!({name: there})).await;
            let missing = world.call(actor, method, path, json!({name: "nobody"})).await;
            assert_eq!(found.0, 403, "{actor}: {method} {path}");
            assert_eq!(found, missing, "{actor}: {method} {path}");
        }
    }
}

async fn lists_show_what_the_caller_may_see(managed: Managed) {
    let world = world(managed).await;
    let in_team = world.key(json!({"team_id": "t", "user_id": "member"})).await;
    let of_team = world.key(json!({"team_id": "t"})).await;
    world.key(json!({"team_id": "x"})).await;
    let list = async |actor: &str, path: &str, query: Value, id: &str| {
        let (status, list) = world.call(actor, "GET", path, query).await;
        assert_eq!(status, 200, "{actor}: {path}: {list}");
        let mut found = ids(&list, id);
        assert_eq!(list["total"], found.len(), "the total counts what is seen");
        found.sort();
        found
    };
    let sorted = |values: &[&Value]| {
        let mut values: Vec<_> =
            values.iter().map(|value| value.as_str().unwrap().to_owned()).collect();
        values.sort();
        values
    };
    let presented = async |actor: &str| {
        world.call(actor, "GET", "/key/info", json!({})).await.1["token_id"].clone()
    };
    let (member, org_admin) = (presented("member").await, presented("org_admin").await);
    let team_admin = presented("team_admin").await;
    let keys = "/key/list";
    for (actor, query, expected) in [
        ("member", json!({}), sorted(&[&in_team, &member])),
        ("member", json!({"team_id": "t"}), sorted(&[&in_team])),
        ("member", json!({"user_id": "team_admin"}), sorted(&[])),
        ("team_admin", json!({}), sorted(&[&in_team, &of_team, &team_admin])),
        ("team_admin", json!({"team_id": "t"}), sorted(&[&in_team, &of_team])),
        ("team_admin", json!({"user_id": "member"}), sorted(&[&in_team])),
        ("team_admin", json!({"team_id": "x"}), sorted(&[])),
        ("org_admin", json!({}), sorted(&[&in_team, &of_team, &org_admin])),
        ("org_admin", json!({"organization_id": "o"}), sorted(&[&in_team, &of_team])),
        ("org_admin", json!({"organization_id": "p"}), sorted(&[])),
        ("user", json!({"team_id": "x"}), sorted(&[])),
        ("user", json!({"user_id": "stranger"}), sorted(&[])),
    ] {
        assert_eq!(list(actor, keys, query.clone(), "token_id").await, expected, "{actor} {query}");
    }
    for (actor, query, expected) in [
        ("member", json!({}), &["t"][..]),
        ("member", json!({"organization_id": "p"}), &[]),
        ("org_admin", json!({}), &["t"]),
        ("user", json!({}), &[]),
        ("user", json!({"user_id": "member"}), &[]),
        ("viewer", json!({}), &["lone", "t", "x"]),
    ] {
        let found = list(actor, "/team/list", query.clone(), "team_id").await;
        assert_eq!(found, expected, "{actor} {query}");
    }
    let users = "/user/list";
    assert_eq!(list("team_admin", users, json!({}), "user_id").await, ["team_admin"]);
    assert_eq!(list("team_admin", users, json!({"team_id": "t"}), "user_id").await, ["team_admin"]);
    assert!(list("team_admin", users, json!({"search": "mem"}), "user_id").await.is_empty());
    let organizations = "/organization/list";
    assert_eq!(list("org_admin", organizations, json!({}), "organization_id").await, ["o"]);
    assert_eq!(list("viewer", organizations, json!({}), "organization_id").await, ["o", "p"]);
}

async fn nobody_hands_out_more_than_they_have(managed: Managed) {
    let world = world(managed).await;
    let generate =
        async |actor: &str, body: Value| world.call(actor, "POST", "/key/generate", body).await;
    // A key is its maker's, unless its maker says otherwise.
    assert_eq!(generate("user", json!({})).await.1["user_id"], "user");
    assert_eq!(generate("admin", json!({})).await.1["user_id"], Value::Null);
    // The key of somebody else calls models and does nothing else.
    let (status, key) = generate("team_admin", json!({"user_id": "member", "team_id": "t"})).await;
    assert_eq!((status, &key["key_type"]), (200, &json!("llm_api")));
    let secret = key["key"].as_str().unwrap();
    assert_eq!(world.managed.chat(secret).await, 200);
    assert_eq!(world.managed.call(secret, "GET", "/user/info", json!({})).await.status, 403);
    for key_type in ["default", "management", "read_only"] {
        let body = json!({"user_id": "member", "team_id": "t", "key_type": key_type});
        assert_eq!(generate("team_admin", body).await.0, 403);
        let body = json!({"key": key["token_id"], "key_type": key_type});
        assert_eq!(world.call("team_admin", "POST", "/key/update", body).await.0, 403);
    }
    let nobodys = world.key(json!({"team_id": "t"})).await;
    let body = json!({"key": nobodys, "user_id": "member"});
    assert_eq!(world.call("team_admin", "POST", "/key/update", body).await.0, 403);
    let members = world.key(json!({"team_id": "t", "user_id": "member"})).await;
    let regenerate = json!({"key": members});
    assert_eq!(world.call("team_admin", "POST", "/key/regenerate", regenerate).await.0, 403);
    let alias = json!({"key": members, "key_alias": "theirs"});
    assert_eq!(world.call("team_admin", "POST", "/key/update", alias).await.0, 200);
    // Not for those outside of the team, nor for other teams.
    for (actor, body) in [
        ("team_admin", json!({"user_id": "stranger", "team_id": "t"})),
        ("team_admin", json!({"user_id": "admin", "team_id": "t"})),
        ("team_admin", json!({"team_id": "x"})),
        ("team_admin", json!({"team_id": "lone"})),
        ("member", json!({"user_id": "team_admin", "team_id": "t"})),
        ("member", json!({"user_id": null, "team_id": "t"})),
        ("user", json!({"team_id": "t"})),
        ("user", json!({"user_id": null})),
        ("user", json!({"user_id": "admin"})),
        ("user", json!({"organization_id": "o"})),
        ("org_admin", json!({"organization_id": "p"})),
        ("org_admin", json!({"user_id": null})),
    ] {
        assert_eq!(generate(actor, body.clone()).await.0, 403, "{actor}: {body}");
    }
    // Nobody raises their own budget or role.
    for body in
        [json!({"max_budget": 1}), json!({"user_role": "proxy_admin"}), json!({"user_alias": "x"})]
    {
        let mut body = body;
        body["user_id"] = json!("user");
        assert_eq!(world.call("user", "POST", "/user/update", body).await.0, 403);
    }
    // Only those of the organization come into its team, and whether others exist stays untold.
    for user in ["stranger", "nobody", "admin"] {
        let body = json!({"team_id": "t", "member": {"user_id": user, "role": "user"}});
        assert_eq!(
            world.call("team_admin", "POST", "/team/member_add", body).await.0,
            403,
            "{user}"
        );
    }
}

async fn a_team_admin_does_not_touch_the_teams_limits(managed: Managed) {
    let world = world(managed).await;
    for (name, value) in [
        ("max_budget", json!(null)),
        ("soft_budget", json!(1)),
        ("budget_duration", json!("1d")),
        ("model_max_budget", json!({})),
        ("models", json!([])),
        ("rpm_limit", json!(null)),
        ("tpm_limit", json!(0)),
        ("max_parallel_requests", json!(1)),
        ("model_rpm_limit", json!({})),
        ("model_tpm_limit", json!({})),
        ("tags", json!([])),
        ("blocked", json!(false)),
        ("organization_id", json!(null)),
    ] {
        let body = json!({"team_id": "t", name: value});
        let (status, answer) = world.call("team_admin", "POST", "/team/update", body).await;
        assert_eq!(status, 403, "{name}: {answer}");
    }
    // Nor the own place's budget; others' are the admin's to say.
    for (user, status) in [("team_admin", 403), ("member", 200)] {
        let body = json!({"team_id": "t", "user_id": user, "max_budget_in_team": null});
        let (got, answer) = world.call("team_admin", "POST", "/team/member_update", body).await;
        assert_eq!(got, status, "{user}: {answer}");
    }
    let body = json!({"team_id": "t", "team_alias": "New", "metadata": {"a": 1}});
    assert_eq!(world.call("team_admin", "POST", "/team/update", body).await.0, 200);
}

async fn an_organizations_admin_stays_inside(managed: Managed) {
    let world = world(managed).await;
    let post = async |path: &str, body: Value| world.call("org_admin", "POST", path, body).await.0;
    for organization in [json!("p"), json!(null)] {
        let team = json!({"team_id": "t", "organization_id": organization});
        assert_eq!(post("/team/update", team).await, 403, "no team leaves");
        assert_eq!(post("/team/new", json!({"organization_id": organization})).await, 403);
    }
    let lone = json!({"team_id": "lone", "organization_id": "o"});
    assert_eq!(post("/team/update", lone).await, 403, "no team is taken");
    let key = world.key(json!({"organization_id": "o"})).await;
    for body in [json!({"organization_id": "p"}), json!({"organization_id": null})] {
        let mut body = body;
        body["key"] = key.clone();
        assert_eq!(post("/key/update", body).await, 403, "no key leaves");
    }
    let foreign = world.key(json!({"user_id": "stranger"})).await;
    assert_eq!(post("/key/update", json!({"key": foreign, "organization_id": "o"})).await, 403);
    for body in [json!({"max_budget": 5}), json!({"organization_alias": "x"})] {
        let mut body = body;
        body["organization_id"] = json!("o");
        assert_eq!(post("/organization/update", body).await, 403);
    }
    assert_eq!(post("/team/update", json!({"team_id": "t", "max_budget": 5})).await, 200);
    let member =
        json!({"organization_id": "o", "member": {"user_id": "new", "user_role": "org_admin"}});
    assert_eq!(post("/organization/member_add", member).await, 200);
    let user = world.managed.get("/user/info", json!({"user_id": "new"})).await;
    assert_eq!(user["user_role"], "internal_user");
}

async fn a_lost_role_is_lost_at_once(managed: Managed) {
    let world = world(managed).await;
    let team = json!({"team_id": "t"});
    let change = json!({"team_id": "t", "team_alias": "A"});
    assert_eq!(world.call("team_admin", "POST", "/team/update", change.clone()).await.0, 200);
    let member = json!({"team_id": "t", "user_id": "team_admin", "role": "user"});
    world.managed.post("/team/member_update", member).await;
    assert_eq!(world.call("team_admin", "POST", "/team/update", change).await.0, 403);
    assert_eq!(world.call("team_admin", "GET", "/team/info", team.clone()).await.0, 200);
    let member = json!({"team_id": "t", "user_id": "team_admin"});
    world.managed.post("/team/member_delete", member).await;
    assert_eq!(world.call("team_admin", "GET", "/team/info", team.clone()).await.0, 403);
    let organization = json!({"organization_id": "o"});
    assert_eq!(
        world.call("org_admin", "GET", "/organization/info", organization.clone()).await.0,
        200
    );
    let member = json!({"organization_id": "o", "user_id": "org_admin"});
    world.managed.post("/organization/member_delete", member).await;
    assert_eq!(world.call("org_admin", "GET", "/organization/info", organization).await.0, 403);
    let user = json!({"user_id": "admin", "user_role": "internal_user"});
    assert_eq!(world.call("admin", "POST", "/user/new", json!({})).await.0, 200);
    world.managed.post("/user/update", user).await;
    assert_eq!(world.call("admin", "POST", "/user/new", json!({})).await.0, 403);
    let (_, key) = world.call("user", "POST", "/key/generate", json!({})).await;
    let narrowed = json!({"key": key["token_id"], "key_type": "llm_api"});
    world.managed.post("/key/update", narrowed).await;
    let secret = key["key"].as_str().unwrap();
    assert_eq!(world.managed.call(secret, "GET", "/key/list", json!({})).await.status, 403);
}
