//! Lists that show a part of what there is.

use llmux_auth::store::{KeyFilter, Page, Store, TeamFilter, UsageFilter, UserFilter, Within};
use llmux_auth::tenants::UsageRecord;

use crate::samples::{NOW, key, organization, organization_member, team, team_member, usage, user};

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn ids(ids: &[&str]) -> Vec<String> {
    ids.iter().map(|id| (*id).to_owned()).collect()
}

fn page() -> Page {
    Page::first(100)
}

pub(crate) async fn lists_show_what_is_within_reach(store: &dyn Store) {
    for id in ["o1", "o2"] {
        store.insert_organization(&organization(id), &[]).await.unwrap();
    }
    for id in ["u1", "u2", "u3", "u4"] {
        store.insert_user(&user(id)).await.unwrap();
    }
    store.add_organization_members(&[organization_member("o2", "u4")]).await.unwrap();
    for (id, organization, member) in [("t1", "o1", "u1"), ("t2", "o2", "u2"), ("t3", "o2", "u3")] {
        let mut team = team(id);
        team.organization_id = some(organization);
        store.insert_team(&team, &[team_member(id, member)]).await.unwrap();
    }
    for (id, user, team, organization) in [
        ("k1", some("u1"), some("t1"), None),
        ("k2", some("u2"), None, None),
        ("k3", None, some("t3"), None),
        ("k4", None, None, some("o2")),
        ("k5", None, None, None),
    ] {
        let mut key = key(id);
        (key.user_id, key.team_id, key.organization_id) = (user, team, organization);
        store.insert_key(&key).await.unwrap();
    }
    for (user_id, teams, organizations, keys, seen_teams, users) in [
        (some("u1"), vec![], vec![], vec!["k1"], vec!["t1"], vec!["u1"]),
        (some("u2"), vec!["t3"], vec![], vec!["k2", "k3"], vec!["t2", "t3"], vec!["u2", "u3"]),
        (None, vec![], vec!["o2"], vec!["k3", "k4"], vec!["t2", "t3"], vec!["u2", "u3", "u4"]),
        (None, vec!["t1", "a\0b"], vec!["nothing"], vec!["k1"], vec!["t1"], vec!["u1"]),
        (None, vec![], vec![], vec![], vec![], vec![]),
    ] {
        let within =
            Some(Within { user_id, team_ids: ids(&teams), organization_ids: ids(&organizations) });
        let filter = KeyFilter { within: within.clone(), ..KeyFilter::default() };
        let listed = store.list_keys(&filter, page(), NOW).await.unwrap();
        let mut found: Vec<_> = listed.data.iter().map(|key| key.token_id.as_str()).collect();
        found.sort_unstable();
        assert_eq!((found, listed.total), (keys.clone(), keys.len() as u64), "{within:?}");
        let filter = TeamFilter { within: within.clone(), ..TeamFilter::default() };
        let listed = store.list_teams(&filter, page(), NOW).await.unwrap();
        let mut found: Vec<_> = listed.data.iter().map(|team| team.team_id.as_str()).collect();
        found.sort_unstable();
        assert_eq!(found, seen_teams, "{within:?}");
        let filter = UserFilter { within: within.clone(), ..UserFilter::default() };
        let listed = store.list_users(&filter, page(), NOW).await.unwrap();
        let mut found: Vec<_> = listed.data.iter().map(|user| user.user_id.as_str()).collect();
        found.sort_unstable();
        assert_eq!(found, users, "{within:?}");
    }
}

pub(crate) async fn pages_far_into_a_list_are_those_that_belong_there(store: &dyn Store) {
    let uses: Vec<_> =
        (0..1105).map(|index| usage(&format!("{index:04}"), 1, NOW.plus(index / 3))).collect();
    store.append_usage(&uses).await.unwrap();
    let filter = UsageFilter { model: some("gpt"), ..UsageFilter::days(NOW.day(), NOW.day()) };
    let far = store.list_usage(&filter, Page::new(11, 100).unwrap()).await.unwrap();
    let mut wanted: Vec<&UsageRecord> = uses[5..105].iter().collect();
    wanted.reverse();
    assert_eq!(far.total, 1105);
    assert!(far.data.iter().eq(wanted));
}
