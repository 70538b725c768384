use std::collections::BTreeMap;

use serde_json::Map;

use super::*;
use crate::tenant::tests::tenant;
use crate::tenants::{Budget, Limits, UnixMillis, User};

/// The caller with a key of this type, whose user `me` has this role and these places.
fn caller(
    key_type: KeyType,
    role: Option<Role>,
    team: Option<MemberRole>,
    organization: Option<OrganizationRole>,
) -> Caller {
    Caller::Key(tenant(|snapshot| {
        snapshot.key.token_id = "kid_own".to_owned();
        snapshot.key.key_type = key_type;
        snapshot.user = role.map(|user_role| User {
            user_id: "me".to_owned(),
            user_alias: None,
            user_email: None,
            user_role,
            metadata: Map::new(),
            limits: Limits::default(),
            budget: Budget::new(UnixMillis(0)),
            created_at: UnixMillis(0),
            updated_at: UnixMillis(0),
        });
        snapshot.key.user_id = role.map(|_| "me".to_owned());
        snapshot.team_roles = team.map(|role| ("team".to_owned(), role)).into_iter().collect();
        snapshot.organization_roles =
            organization.map(|role| ("organization".to_owned(), role)).into_iter().collect();
    }))
}

fn actors() -> Vec<(&'static str, Caller)> {
    use KeyType::{Default, LlmApi, Management, ReadOnly};
    let admin = Some(Role::ProxyAdmin);
    let (user, viewer) = (Some(Role::InternalUser), Some(Role::InternalUserViewer));
    let team_admin = Some(MemberRole::Admin);
    let org_admin = Some(OrganizationRole::OrgAdmin);
    vec![
        ("master", Caller::Master),
        ("anonymous", Caller::Anonymous),
        ("proxy_admin", caller(Management, admin, None, None)),
        ("proxy_admin, read_only key", caller(ReadOnly, admin, None, None)),
        ("proxy_admin, llm_api key", caller(LlmApi, admin, team_admin, org_admin)),
        ("viewer", caller(Default, Some(Role::ProxyAdminViewer), team_admin, org_admin)),
        ("org_admin", caller(Default, Some(Role::OrgAdmin), None, org_admin)),
        ("org_admin of none", caller(Default, Some(Role::OrgAdmin), None, None)),
        ("team_admin", caller(Default, user, team_admin, None)),
        ("team_admin, read_only key", caller(ReadOnly, user, team_admin, None)),
        ("member", caller(Default, user, Some(MemberRole::User), None)),
        ("user", caller(Default, user, None, None)),
        ("organization's user", caller(Default, user, None, Some(OrganizationRole::InternalUser))),
        (
            "organization's viewer",
            caller(Default, user, None, Some(OrganizationRole::InternalUserViewer)),
        ),
        ("internal_user_viewer", caller(Default, viewer, team_admin, org_admin)),
        ("key without a user", caller(Management, None, None, None)),
    ]
}

fn targets() -> Vec<(&'static str, Target<'static>)> {
    let key = |token_id, user_id, team_id, organization_id| KeyTarget {
        token_id,
        user_id,
        team_id,
        organization_id,
        key_type: KeyType::Default,
        is_member: true,
    };
    let team = Some("team");
    let organization_id = Some("organization");
    let for_calls = |key| Target::Key(KeyTarget { key_type: KeyType::LlmApi, ..key });
    vec![
        ("presented key", Target::Key(key(Some("kid_own"), None, None, None))),
        ("own key", Target::Key(key(Some("k"), Some("me"), None, None))),
        ("own key of the team", Target::Key(key(Some("k"), Some("me"), team, None))),
        ("own key of another team", Target::Key(key(Some("k"), Some("me"), Some("x"), None))),
        (
            "own key of the organization",
            Target::Key(key(Some("k"), Some("me"), None, organization_id)),
        ),
        ("foreign key", Target::Key(key(Some("k"), Some("you"), None, None))),
        ("key of nobody", Target::Key(key(Some("k"), None, None, None))),
        ("team's key", Target::Key(key(Some("k"), None, team, None))),
        ("team's key of a member", Target::Key(key(Some("k"), Some("you"), team, None))),
        ("team's key of a member, for calls", for_calls(key(Some("k"), Some("you"), team, None))),
        (
            "team's key of a stranger, for calls",
            for_calls(KeyTarget { is_member: false, ..key(Some("k"), Some("you"), team, None) }),
        ),
        (
            "organization's key, for calls",
            for_calls(key(Some("k"), Some("you"), Some("x"), organization_id)),
        ),
        ("organization's key", Target::Key(key(Some("k"), None, None, organization_id))),
        ("team", Target::Team { team_id: team, organization_id: None }),
        ("organization's team", Target::Team { team_id: Some("x"), organization_id }),
        ("new team", Target::Team { team_id: None, organization_id: None }),
        ("organization's new team", Target::Team { team_id: None, organization_id }),
        ("foreign team", Target::Team { team_id: Some("x"), organization_id: Some("y") }),
        ("team's members", Target::TeamMembers { team_id: "team", organization_id: None }),
        ("organization's team's members", Target::TeamMembers { team_id: "x", organization_id }),
        ("foreign members", Target::TeamMembers { team_id: "x", organization_id: None }),
        ("self", Target::User { user_id: Some("me") }),
        ("foreign user", Target::User { user_id: Some("you") }),
        ("new user", Target::User { user_id: None }),
        ("organization", Target::Organization { organization_id }),
        ("foreign organization", Target::Organization { organization_id: Some("x") }),
        ("new organization", Target::Organization { organization_id: None }),
        ("organization's members", Target::OrganizationMembers { organization_id: "organization" }),
        ("foreign organization's members", Target::OrganizationMembers { organization_id: "x" }),
        ("gateway", Target::Gateway),
    ]
}

/// What each may do to what: of read, create, change, limit and delete the first letters. Nothing else.
const MAY: &[(&str, &str, &str)] = &[
    ("org_admin", "own key", "rucld"),
    ("org_admin", "own key of the organization", "rucld"),
    ("org_admin", "own key of the team", "r"),
    ("org_admin", "own key of another team", "r"),
    ("org_admin", "presented key", "r"),
    ("org_admin", "organization's key", "rucld"),
    ("org_admin", "organization's key, for calls", "rucld"),
    ("org_admin", "organization's team", "rucld"),
    ("org_admin", "organization's new team", "rucld"),
    ("org_admin", "organization's team's members", "rucld"),
    ("org_admin", "self", "r"),
    ("org_admin", "organization", "r"),
    ("org_admin", "organization's members", "rucld"),
    ("org_admin of none", "own key", "rucld"),
    ("org_admin of none", "own key of the organization", "r"),
    ("org_admin of none", "own key of the team", "r"),
    ("org_admin of none", "own key of another team", "r"),
    ("org_admin of none", "presented key", "r"),
    ("org_admin of none", "self", "r"),
    ("team_admin", "own key", "rucld"),
    ("team_admin", "own key of the team", "rucld"),
    ("team_admin", "own key of another team", "r"),
    ("team_admin", "own key of the organization", "r"),
    ("team_admin", "presented key", "r"),
    ("team_admin", "team's key", "rucld"),
    ("team_admin", "team's key of a member", "ruld"),
    ("team_admin", "team's key of a member, for calls", "rucld"),
    ("team_admin", "team's key of a stranger, for calls", "ruld"),
    ("team_admin", "team", "ru"),
    ("team_admin", "team's members", "rucld"),
    ("team_admin", "self", "r"),
    ("team_admin, read_only key", "own key", "r"),
    ("team_admin, read_only key", "own key of the team", "r"),
    ("team_admin, read_only key", "own key of another team", "r"),
    ("team_admin, read_only key", "own key of the organization", "r"),
    ("team_admin, read_only key", "presented key", "r"),
    ("team_admin, read_only key", "team's key", "r"),
    ("team_admin, read_only key", "team's key of a member", "r"),
    ("team_admin, read_only key", "team's key of a member, for calls", "r"),
    ("team_admin, read_only key", "team's key of a stranger, for calls", "r"),
    ("team_admin, read_only key", "team", "r"),
    ("team_admin, read_only key", "team's members", "r"),
    ("team_admin, read_only key", "self", "r"),
    ("member", "own key", "rucld"),
    ("member", "own key of the team", "rucld"),
    ("member", "own key of another team", "r"),
    ("member", "own key of the organization", "r"),
    ("member", "presented key", "r"),
    ("member", "team", "r"),
    ("member", "self", "r"),
    ("user", "own key", "rucld"),
    ("user", "own key of the team", "r"),
    ("user", "own key of another team", "r"),
    ("user", "own key of the organization", "r"),
    ("user", "presented key", "r"),
    ("user", "self", "r"),
    ("organization's user", "own key", "rucld"),
    ("organization's user", "own key of the team", "r"),
    ("organization's user", "own key of another team", "r"),
    ("organization's user", "own key of the organization", "rucld"),
    ("organization's user", "presented key", "r"),
    ("organization's user", "self", "r"),
    ("organization's viewer", "own key", "rucld"),
    ("organization's viewer", "own key of the team", "r"),
    ("organization's viewer", "own key of another team", "r"),
    ("organization's viewer", "own key of the organization", "r"),
    ("organization's viewer", "presented key", "r"),
    ("organization's viewer", "self", "r"),
    ("internal_user_viewer", "own key", "r"),
    ("internal_user_viewer", "own key of the team", "r"),
    ("internal_user_viewer", "own key of another team", "r"),
    ("internal_user_viewer", "own key of the organization", "r"),
    ("internal_user_viewer", "presented key", "r"),
    ("internal_user_viewer", "team's key", "r"),
    ("internal_user_viewer", "team's key of a member", "r"),
    ("internal_user_viewer", "team's key of a member, for calls", "r"),
    ("internal_user_viewer", "team's key of a stranger, for calls", "r"),
    ("internal_user_viewer", "organization's key", "r"),
    ("internal_user_viewer", "organization's key, for calls", "r"),
    ("internal_user_viewer", "team", "r"),
    ("internal_user_viewer", "organization's team", "r"),
    ("internal_user_viewer", "organization's new team", "r"),
    ("internal_user_viewer", "team's members", "r"),
    ("internal_user_viewer", "organization's team's members", "r"),
    ("internal_user_viewer", "self", "r"),
    ("internal_user_viewer", "organization", "r"),
    ("internal_user_viewer", "organization's members", "r"),
    ("key without a user", "presented key", "r"),
];

const fn letter(action: Action) -> char {
    match action {
        Action::Read => 'r',
        Action::Create => 'c',
        Action::Change => 'u',
        Action::Limit => 'l',
        Action::Delete => 'd',
    }
}

#[test]
fn each_may_do_to_each_what_the_table_says_and_nothing_else() {
    let mut table: BTreeMap<(&str, &str), &str> =
        MAY.iter().map(|(actor, target, actions)| ((*actor, *target), *actions)).collect();
    for (name, caller) in actors() {
        let actor = Actor::of(&caller);
        for (what, target) in targets() {
            let expected = match name {
                "master" | "proxy_admin" => "rculd",
                "viewer" | "proxy_admin, read_only key" => "r",
                _ => table.remove(&(name, what)).unwrap_or_default(),
            };
            for action in Action::ALL {
                let expected = expected.contains(letter(action));
                assert_eq!(actor.may(action, &target), expected, "{name}: {action:?} {what}");
            }
        }
    }
    assert!(table.is_empty(), "{table:?}");
}

#[test]
fn an_actor_reaches_what_it_is_an_admin_of() {
    let all = actors();
    let reach = |name: &str| {
        let (_, caller) = all.iter().find(|(other, _)| *other == name).unwrap();
        Actor::of(caller).reach()
    };
    let everything = Reach { everything: true, ..Reach::default() };
    for name in ["master", "proxy_admin", "viewer", "proxy_admin, read_only key"] {
        assert_eq!(reach(name), everything, "{name}");
    }
    for name in ["anonymous", "proxy_admin, llm_api key"] {
        assert_eq!(reach(name), Reach::default(), "{name}");
    }
    let token_id = Some("kid_own".to_owned());
    let bare = Reach { token_id, ..Reach::default() };
    assert_eq!(reach("key without a user"), bare);
    let user = Reach { user_id: Some("me".to_owned()), ..bare };
    assert_eq!(reach("user"), user);
    assert_eq!(reach("member"), user);
    let team_ids = vec!["team".to_owned()];
    assert_eq!(reach("team_admin"), Reach { team_ids: team_ids.clone(), ..user.clone() });
    let organization_ids = vec!["organization".to_owned()];
    assert_eq!(
        reach("org_admin"),
        Reach { organization_ids: organization_ids.clone(), ..user.clone() }
    );
    assert_eq!(reach("internal_user_viewer"), Reach { team_ids, organization_ids, ..user });
}

#[test]
fn an_actor_is_named_by_its_user() {
    for (name, caller) in actors() {
        let expected = match name {
            "master" => "master",
            "anonymous" | "key without a user" | "proxy_admin, llm_api key" => continue,
            _ => "me",
        };
        assert_eq!(Actor::of(&caller).name(), expected);
    }
}
