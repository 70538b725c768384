//! Tenants and the audit log.

use std::pin::Pin;
use std::task::Poll;

use llmux_auth::store::{
    AuditFilter, KeyFilter, MemberFilter, OrganizationFilter, Page, Store, StoreError, TeamFilter,
    UsageFilter, UserFilter,
};
use llmux_auth::tenants::{
    AuditRecord, Key, KeyHash, KeyPatch, KeyRef, MemberRole, Money, OrganizationMemberPatch,
    OrganizationPatch, OrganizationRole, Patch, Role, TeamMember, TeamMemberPatch, TeamPatch,
    UserPatch,
};
use proptest::test_runner::TestRunner;

use crate::any::{self, draw};
use crate::samples::{
    NOW, audit, key, organization, organization_member, team, team_member, usage, user,
};

fn id(key: &str) -> KeyRef {
    KeyRef::TokenId(key.to_owned())
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn ids(ids: &[&str]) -> Vec<String> {
    ids.iter().map(|id| (*id).to_owned()).collect()
}

fn page() -> Page {
    Page::first(100)
}

/// Runs futures side by side.
pub(crate) async fn at_once<F: Future>(tasks: Vec<F>) -> Vec<F::Output> {
    let mut tasks: Vec<Pin<Box<F>>> = tasks.into_iter().map(Box::pin).collect();
    let mut results: Vec<Option<F::Output>> = tasks.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        for (task, result) in
            tasks.iter_mut().zip(&mut results).filter(|(_, result)| result.is_none())
        {
            if let Poll::Ready(value) = task.as_mut().poll(context) {
                *result = Some(value);
            }
        }
        if results.iter().any(Option::is_none) { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
    results.into_iter().flatten().collect()
}

pub(crate) async fn every_field_of_every_record_comes_back(store: &dyn Store) {
    let mut runner = TestRunner::deterministic();
    for _ in 0..40 {
        let mut organization = draw(&mut runner, &any::organization(NOW));
        let user = draw(&mut runner, &any::user(NOW));
        let mut team = draw(&mut runner, &any::team(NOW));
        team.organization_id = Some(organization.organization_id.clone());
        let mut member = draw(&mut runner, &any::team_member(NOW));
        member.team_id = team.team_id.clone();
        member.user_id = user.user_id.clone();
        let mut place = draw(&mut runner, &any::organization_member());
        place.organization_id = organization.organization_id.clone();
        place.user_id = user.user_id.clone();
        let mut key = draw(&mut runner, &any::key(NOW));
        key.user_id = Some(user.user_id.clone());
        key.team_id = Some(team.team_id.clone());
        key.organization_id = Some(organization.organization_id.clone());
        let audit = draw(&mut runner, &any::audit());
        let usage = draw(&mut runner, &any::usage());

        store.insert_user(&user).await.unwrap();
        store.insert_organization(&organization, std::slice::from_ref(&place)).await.unwrap();
        store.insert_team(&team, std::slice::from_ref(&member)).await.unwrap();
        store.insert_key(&key).await.unwrap();
        store.append_audit(&audit).await.unwrap();
        store.append_usage(std::slice::from_ref(&usage)).await.unwrap();

        assert_eq!(store.user(&user.user_id, NOW).await.unwrap(), Some(user.clone()));
        let read = store.organization(&organization.organization_id, NOW).await.unwrap();
        assert_eq!(read.as_ref(), Some(&organization));
        assert_eq!(store.team(&team.team_id, NOW).await.unwrap().as_ref(), Some(&team));
        let read = store.team_member(&team.team_id, &user.user_id, NOW).await.unwrap();
        assert_eq!(read.as_ref(), Some(&member));
        assert_eq!(store.key(&id(&key.token_id), NOW).await.unwrap().as_ref(), Some(&key));
        let filter =
            MemberFilter { user_id: Some(user.user_id.clone()), ..MemberFilter::default() };
        let listed = store.list_organization_members(&filter, page()).await.unwrap();
        assert_eq!(listed.data, [place]);
        let filter =
            AuditFilter { object_id: Some(audit.object_id.clone()), ..AuditFilter::default() };
        assert!(store.list_audit(&filter, page()).await.unwrap().data.contains(&audit));
        let day = usage.start_time.day();
        let filter = UsageFilter::days(day, day);
        assert!(store.list_usage(&filter, page()).await.unwrap().data.contains(&usage));
        let filter = KeyFilter { user_id: key.user_id.clone(), ..KeyFilter::default() };
        assert_eq!(store.list_keys(&filter, page(), NOW).await.unwrap().data, [key.clone()]);

        // What JSON cannot keep to the nano-dollar is left out.
        organization.budget.max_budget = None;
        organization.budget.soft_budget = None;
        organization.budget.spend = Money::ZERO;
        let text = serde_json::to_string(&organization).unwrap();
        assert_eq!(
            serde_json::from_str::<llmux_auth::tenants::Organization>(&text).unwrap(),
            organization
        );
        key.budget = organization.budget;
        let text = serde_json::to_string(&key).unwrap();
        assert_eq!(serde_json::from_str::<Key>(&text).unwrap(), key);
    }
}

pub(crate) async fn a_key_is_found_by_its_hash_id_and_alias(store: &dyn Store) {
    let mut key = key("k");
    key.key_alias = some("alias");
    store.insert_key(&key).await.unwrap();
    for by in [KeyRef::Hash(KeyHash::of("k")), id("k"), KeyRef::Alias("alias".to_owned())] {
        assert_eq!(store.key(&by, NOW).await.unwrap().as_ref(), Some(&key), "{by:?}");
    }
    for by in [KeyRef::Hash(KeyHash::of("x")), id("alias"), KeyRef::Alias("k".to_owned())] {
        assert_eq!(store.key(&by, NOW).await.unwrap(), None, "{by:?}");
    }
}

pub(crate) async fn a_taken_alias_hash_or_id_is_a_conflict_that_names_the_field(store: &dyn Store) {
    let conflict = |result: Result<(), StoreError>, name: &str| {
        assert!(
            matches!(&result, Err(StoreError::Conflict { field }) if field == name),
            "{name}: {result:?}"
        );
    };
    let aliased = |name: &str, alias: &str| Key { key_alias: some(alias), ..key(name) };
    store.insert_key(&aliased("a", "one")).await.unwrap();
    conflict(store.insert_key(&aliased("b", "one")).await, "key_alias");
    conflict(store.insert_key(&Key { token: KeyHash::of("a"), ..key("b") }).await, "token");
    conflict(store.insert_key(&Key { token: KeyHash::of("b"), ..key("a") }).await, "token_id");
    store.insert_key(&aliased("b", "two")).await.unwrap();
    let patch = KeyPatch { key_alias: Patch::Set("one".to_owned()), ..KeyPatch::default() };
    conflict(store.update_key(&id("b"), patch.clone(), None, NOW).await.map(|_| ()), "key_alias");
    // One's own alias is not taken.
    store.update_key(&id("a"), patch, None, NOW).await.unwrap();

    let mut team = team("t");
    team.team_alias = some("one");
    store.insert_team(&team, &[]).await.unwrap();
    conflict(store.insert_team(&crate::samples::team("t"), &[]).await, "team_id");
    team.team_id = "t2".to_owned();
    conflict(store.insert_team(&team, &[]).await, "team_alias");

    let mut user = user("u");
    user.user_email = some("a@example.com");
    store.insert_user(&user).await.unwrap();
    conflict(store.insert_user(&crate::samples::user("u")).await, "user_id");
    user.user_id = "u2".to_owned();
    conflict(store.insert_user(&user).await, "user_email");

    let mut organization = organization("o");
    organization.organization_alias = some("one");
    store.insert_organization(&organization, &[]).await.unwrap();
    let same = crate::samples::organization("o");
    conflict(store.insert_organization(&same, &[]).await, "organization_id");
    organization.organization_id = "o2".to_owned();
    conflict(store.insert_organization(&organization, &[]).await, "organization_alias");

    store.add_team_members(&[team_member("t", "u")]).await.unwrap();
    conflict(store.add_team_members(&[team_member("t", "u")]).await, "user_id");
    store.append_audit(&audit("a", NOW)).await.unwrap();
    conflict(store.append_audit(&audit("a", NOW)).await, "id");
}

pub(crate) async fn references_to_nothing_are_refused_and_name_the_field(store: &dyn Store) {
    let missing = |result: Result<(), StoreError>, name: &str| {
        let named = matches!(&result, Err(StoreError::MissingReference { field }) if field == name);
        assert!(named, "{name}: {result:?}");
    };
    missing(store.insert_key(&Key { user_id: some("x"), ..key("k") }).await, "user_id");
    missing(store.insert_key(&Key { team_id: some("x"), ..key("k") }).await, "team_id");
    missing(
        store.insert_key(&Key { organization_id: some("x"), ..key("k") }).await,
        "organization_id",
    );
    store.insert_key(&key("k")).await.unwrap();
    let patch = KeyPatch { team_id: Patch::Set("x".to_owned()), ..KeyPatch::default() };
    missing(store.update_key(&id("k"), patch, None, NOW).await.map(|_| ()), "team_id");
    let mut lost = team("t");
    lost.organization_id = some("x");
    missing(store.insert_team(&lost, &[]).await, "organization_id");
    missing(store.insert_team(&team("t"), &[team_member("t", "x")]).await, "user_id");
    assert_eq!(store.team("t", NOW).await.unwrap(), None);
    store.insert_user(&user("u")).await.unwrap();
    missing(store.add_team_members(&[team_member("x", "u")]).await, "team_id");
    missing(
        store.add_organization_members(&[organization_member("x", "u")]).await,
        "organization_id",
    );
    missing(
        store.insert_organization(&organization("o"), &[organization_member("o", "x")]).await,
        "user_id",
    );
    assert_eq!(store.organization("o", NOW).await.unwrap(), None);
}

pub(crate) async fn an_update_changes_what_it_names_and_keeps_the_rest(store: &dyn Store) {
    let later = NOW.plus(60_000);
    let mut runner = TestRunner::deterministic();
    let key = draw(&mut runner, &any::key(NOW));
    store.insert_key(&key).await.unwrap();
    let patch: KeyPatch = serde_json::from_str(
        r#"{"rpm_limit": 0, "tpm_limit": null, "metadata": {"a": [1, null]}, "blocked": true, "models": null,
            "max_budget": 0.000000001, "soft_budget": null, "key_alias": "new"}"#,
    )
    .unwrap();
    let updated = store.update_key(&id(&key.token_id), patch, some("admin"), later).await.unwrap();
    let mut wanted = key.clone();
    wanted.budget.roll(later);
    assert_eq!(updated.before, wanted);
    wanted.limits.rpm_limit = Some(0);
    wanted.limits.tpm_limit = None;
    wanted.limits.models.clear();
    wanted.metadata = serde_json::from_str(r#"{"a": [1, null]}"#).unwrap();
    wanted.blocked = true;
    wanted.budget.max_budget = Some(Money::from_nanos(1));
    wanted.budget.soft_budget = None;
    wanted.key_alias = some("new");
    wanted.updated_at = later;
    wanted.updated_by = some("admin");
    assert_eq!(updated.after, wanted);
    assert_eq!(store.key(&id(&key.token_id), later).await.unwrap(), Some(wanted.clone()));
    let unchanged = store
        .update_key(&id(&key.token_id), KeyPatch::default(), some("admin"), later)
        .await
        .unwrap();
    assert_eq!(unchanged.after, wanted);

    let team = draw(&mut runner, &any::team(NOW));
    store.insert_team(&team, &[]).await.unwrap();
    let patch =
        TeamPatch { team_alias: Patch::Clear, rpm_limit: Patch::Set(9), ..TeamPatch::default() };
    let after = store.update_team(&team.team_id, patch, NOW).await.unwrap().after;
    assert_eq!((after.team_alias.as_ref(), after.limits.rpm_limit), (None, Some(9)));
    assert_eq!((&after.limits.models, &after.metadata), (&team.limits.models, &team.metadata));
    assert_eq!(store.team(&team.team_id, NOW).await.unwrap(), Some(after));

    let user = draw(&mut runner, &any::user(NOW));
    store.insert_user(&user).await.unwrap();
    let patch = UserPatch { user_role: Patch::Set(Role::ProxyAdmin), ..UserPatch::default() };
    let after = store.update_user(&user.user_id, patch, NOW).await.unwrap().after;
    assert_eq!((after.user_role, &after.user_email), (Role::ProxyAdmin, &user.user_email));
    assert_eq!(store.user(&user.user_id, NOW).await.unwrap(), Some(after));

    let organization = draw(&mut runner, &any::organization(NOW));
    store.insert_organization(&organization, &[]).await.unwrap();
    let patch =
        OrganizationPatch { max_budget: Patch::Set(Money::ZERO), ..OrganizationPatch::default() };
    let name = &organization.organization_id;
    let after = store.update_organization(name, patch, some("me"), NOW).await.unwrap().after;
    assert_eq!(
        (after.budget.max_budget, after.updated_by.as_deref()),
        (Some(Money::ZERO), Some("me"))
    );
    assert_eq!(store.organization(name, NOW).await.unwrap(), Some(after));
}

pub(crate) async fn a_regenerated_key_keeps_its_id_and_spend_and_loses_its_old_secret(
    store: &dyn Store,
) {
    let old = Key { key_alias: some("alias"), ..key("k") };
    store.insert_key(&old).await.unwrap();
    let mut record = usage("a", 42, NOW);
    record.token_id = some("k");
    store.append_usage(&[record]).await.unwrap();
    let token = KeyHash::of("new");
    let updated = store
        .regenerate_key(
            &KeyRef::Hash(old.token.clone()),
            token.clone(),
            "sk-...new1".to_owned(),
            some("me"),
            NOW,
        )
        .await
        .unwrap();
    assert_eq!(updated.before.token, old.token);
    assert_eq!((&updated.after.token, updated.after.key_name.as_str()), (&token, "sk-...new1"));
    assert_eq!(store.snapshot(&old.token, NOW).await.unwrap(), None);
    let read = store.snapshot(&token, NOW).await.unwrap().unwrap().key;
    assert_eq!(read, updated.after);
    assert_eq!((read.token_id.as_str(), read.budget.spend.nanos()), ("k", 42));
    assert_eq!(read.key_alias.as_deref(), Some("alias"));
    store.insert_key(&key("other")).await.unwrap();
    let taken = store.regenerate_key(&id("other"), token, String::new(), None, NOW).await;
    assert!(matches!(taken, Err(StoreError::Conflict { field }) if field == "token"));
}

pub(crate) async fn deleting_keys_is_all_or_nothing(store: &dyn Store) {
    for name in ["a", "b"] {
        store.insert_key(&key(name)).await.unwrap();
    }
    let result = store.delete_keys(&[id("a"), id("x")]).await;
    assert!(matches!(result, Err(StoreError::NotFound { what: "key", id }) if id == "x"));
    assert!(store.key(&id("a"), NOW).await.unwrap().is_some());
    let deleted = store.delete_keys(&[id("a"), KeyRef::Hash(KeyHash::of("b"))]).await.unwrap();
    assert_eq!(deleted, [key("a"), key("b")]);
    assert_eq!(store.list_keys(&KeyFilter::default(), page(), NOW).await.unwrap().total, 0);
}

pub(crate) async fn unknown_ids_are_not_found(store: &dyn Store) {
    let unknown =
        |error: StoreError| assert!(matches!(error, StoreError::NotFound { .. }), "{error:?}");
    let x = [some("x").unwrap()];
    unknown(store.update_key(&id("x"), KeyPatch::default(), None, NOW).await.unwrap_err());
    unknown(
        store
            .regenerate_key(&id("x"), KeyHash::of("y"), String::new(), None, NOW)
            .await
            .unwrap_err(),
    );
    unknown(store.update_team("x", TeamPatch::default(), NOW).await.unwrap_err());
    unknown(store.delete_teams(&x).await.unwrap_err());
    unknown(store.update_user("x\0", UserPatch::default(), NOW).await.unwrap_err());
    unknown(store.delete_users(&x).await.unwrap_err());
    unknown(
        store.update_organization("x", OrganizationPatch::default(), None, NOW).await.unwrap_err(),
    );
    unknown(store.delete_organizations(&x).await.unwrap_err());
    unknown(store.update_team_member("x", "x", TeamMemberPatch::default(), NOW).await.unwrap_err());
    unknown(store.delete_team_members("x", &x).await.unwrap_err());
    let patch = OrganizationMemberPatch::default();
    unknown(store.update_organization_member("x", "x", patch, NOW).await.unwrap_err());
    unknown(store.delete_organization_members("x", &x).await.unwrap_err());
    assert_eq!(store.team("x", NOW).await.unwrap(), None);
    assert_eq!(store.user("x", NOW).await.unwrap(), None);
    assert_eq!(store.organization("x", NOW).await.unwrap(), None);
    assert_eq!(store.team_member("x", "x", NOW).await.unwrap(), None);
}

pub(crate) async fn a_deleted_team_takes_its_members_and_keys_along(store: &dyn Store) {
    store.insert_user(&user("u")).await.unwrap();
    for name in ["t", "t2"] {
        store.insert_team(&team(name), &[team_member(name, "u")]).await.unwrap();
        store.insert_key(&Key { team_id: some(name), ..key(name) }).await.unwrap();
    }
    assert_eq!(store.delete_teams(&ids(&["t"])).await.unwrap(), [team("t")]);
    let keys = store.list_keys(&KeyFilter::default(), page(), NOW).await.unwrap().data;
    assert_eq!(keys.iter().map(|key| key.token_id.as_str()).collect::<Vec<_>>(), ["t2"]);
    let members = store.list_team_members(&MemberFilter::default(), page(), NOW).await.unwrap();
    assert_eq!(members.data, [team_member("t2", "u")]);
}

pub(crate) async fn a_deleted_user_takes_places_and_keys_along(store: &dyn Store) {
    store.insert_user(&user("u")).await.unwrap();
    store.insert_team(&team("t"), &[team_member("t", "u")]).await.unwrap();
    store.insert_organization(&organization("o"), &[organization_member("o", "u")]).await.unwrap();
    store.insert_key(&Key { user_id: some("u"), ..key("k") }).await.unwrap();
    assert_eq!(store.delete_users(&ids(&["u"])).await.unwrap(), [user("u")]);
    assert_eq!(store.key(&id("k"), NOW).await.unwrap(), None);
    assert_eq!(store.team_member("t", "u", NOW).await.unwrap(), None);
    let places = store.list_organization_members(&MemberFilter::default(), page()).await.unwrap();
    assert_eq!(places.total, 0);
    assert!(store.team("t", NOW).await.unwrap().is_some());
}

pub(crate) async fn an_organization_with_teams_or_keys_cannot_be_deleted(store: &dyn Store) {
    store.insert_user(&user("u")).await.unwrap();
    store.insert_organization(&organization("o"), &[organization_member("o", "u")]).await.unwrap();
    let mut team = team("t");
    team.organization_id = some("o");
    store.insert_team(&team, &[]).await.unwrap();
    let o = ids(&["o"]);
    let result = store.delete_organizations(&o).await;
    assert!(matches!(result, Err(StoreError::InUse { by: "teams", .. })), "{result:?}");
    store.delete_teams(&ids(&["t"])).await.unwrap();
    store.insert_key(&Key { organization_id: some("o"), ..key("k") }).await.unwrap();
    let result = store.delete_organizations(&o).await;
    assert!(matches!(result, Err(StoreError::InUse { by: "keys", .. })), "{result:?}");
    store.delete_keys(&[id("k")]).await.unwrap();
    assert_eq!(store.delete_organizations(&o).await.unwrap(), [organization("o")]);
}

pub(crate) async fn members_are_added_changed_listed_and_removed(store: &dyn Store) {
    for name in ["u1", "u2"] {
        store.insert_user(&user(name)).await.unwrap();
    }
    store.insert_team(&team("t"), &[]).await.unwrap();
    store.insert_organization(&organization("o"), &[]).await.unwrap();
    store.add_team_members(&[team_member("t", "u2"), team_member("t", "u1")]).await.unwrap();
    let both = [organization_member("o", "u1"), organization_member("o", "u2")];
    store.add_organization_members(&both).await.unwrap();

    let patch = TeamMemberPatch {
        role: Patch::Set(MemberRole::Admin),
        max_budget: Patch::Set(Money::from_nanos(5)),
        budget_duration: Patch::Set("1d".parse().unwrap()),
        ..TeamMemberPatch::default()
    };
    let updated = store.update_team_member("t", "u1", patch, NOW).await.unwrap();
    assert_eq!(updated.before, team_member("t", "u1"));
    let mut wanted = TeamMember { role: MemberRole::Admin, ..team_member("t", "u1") };
    wanted.budget.max_budget = Some(Money::from_nanos(5));
    wanted.budget.set_duration(Some("1d".parse().unwrap()), NOW);
    assert_eq!(updated.after, wanted);
    let listed = store.list_team_members(&MemberFilter::default(), page(), NOW).await.unwrap();
    assert_eq!((listed.total, listed.data), (2, vec![wanted, team_member("t", "u2")]));

    let patch = OrganizationMemberPatch { user_role: Patch::Set(OrganizationRole::OrgAdmin) };
    let after = store.update_organization_member("o", "u2", patch, NOW).await.unwrap().after;
    assert_eq!(after.user_role, OrganizationRole::OrgAdmin);
    let filter = MemberFilter { group_id: some("o"), user_id: some("u2") };
    let listed = store.list_organization_members(&filter, page()).await.unwrap();
    assert_eq!(listed.data.as_slice(), std::slice::from_ref(&after));

    assert!(store.delete_team_members("t", &ids(&["u2", "x"])).await.is_err());
    assert_eq!(
        store.delete_team_members("t", &ids(&["u2"])).await.unwrap(),
        [team_member("t", "u2")]
    );
    assert_eq!(store.team_member("t", "u2", NOW).await.unwrap(), None);
    assert_eq!(store.delete_organization_members("o", &ids(&["u2"])).await.unwrap(), [after]);
    let listed = store.list_organization_members(&MemberFilter::default(), page()).await.unwrap();
    assert_eq!(listed.data, [organization_member("o", "u1")]);
}

pub(crate) async fn a_failed_addition_of_members_adds_none(store: &dyn Store) {
    store.insert_user(&user("u")).await.unwrap();
    store.insert_team(&team("t"), &[]).await.unwrap();
    assert!(store.add_team_members(&[team_member("t", "u"), team_member("t", "x")]).await.is_err());
    assert_eq!(store.team_member("t", "u", NOW).await.unwrap(), None);
}

pub(crate) async fn a_snapshot_holds_all_that_a_key_hangs_on(store: &dyn Store) {
    let mut runner = TestRunner::deterministic();
    let user = draw(&mut runner, &any::user(NOW));
    let organization = draw(&mut runner, &any::organization(NOW));
    let mut team = draw(&mut runner, &any::team(NOW));
    team.organization_id = Some(organization.organization_id.clone());
    let mut member = draw(&mut runner, &any::team_member(NOW));
    member.team_id = team.team_id.clone();
    member.user_id = user.user_id.clone();
    let mut place = draw(&mut runner, &any::organization_member());
    place.organization_id = organization.organization_id.clone();
    place.user_id = user.user_id.clone();
    let mut key = draw(&mut runner, &any::key(NOW));
    key.user_id = Some(user.user_id.clone());
    key.team_id = Some(team.team_id.clone());
    store.insert_user(&user).await.unwrap();
    store.insert_organization(&organization, std::slice::from_ref(&place)).await.unwrap();
    store.insert_team(&team, std::slice::from_ref(&member)).await.unwrap();
    store.insert_key(&key).await.unwrap();
    let snapshot = store.snapshot(&key.token, NOW).await.unwrap().unwrap();
    assert_eq!(snapshot.key, key);
    assert_eq!(snapshot.user, Some(user));
    assert_eq!(snapshot.team, Some(team.clone()));
    assert_eq!(snapshot.organization, Some(organization.clone()));
    assert_eq!(snapshot.team_member, Some(member.clone()));
    assert_eq!(snapshot.team_roles, [(team.team_id, member.role)]);
    assert_eq!(snapshot.organization_roles, [(organization.organization_id, place.user_role)]);

    let lone = crate::samples::key("lone");
    store.insert_key(&lone).await.unwrap();
    let snapshot = store.snapshot(&lone.token, NOW).await.unwrap().unwrap();
    assert_eq!(snapshot.key, lone);
    assert_eq!((snapshot.team, snapshot.user), (None, None));
    assert_eq!((snapshot.organization, snapshot.team_member), (None, None));
    assert!(snapshot.team_roles.is_empty() && snapshot.organization_roles.is_empty());
    assert_eq!(store.snapshot(&KeyHash::of("unknown"), NOW).await.unwrap(), None);
}

pub(crate) async fn lists_page_through_everything_once_newest_first(store: &dyn Store) {
    for index in 0..25 {
        // Several have the same age: their ids break the tie.
        let mut key = key(&format!("k{index:02}"));
        key.created_at = NOW.plus(index / 4);
        store.insert_key(&key).await.unwrap();
    }
    let mut names = Vec::new();
    for number in 1..=4 {
        let page = Page::new(number, 10).unwrap();
        let listed = store.list_keys(&KeyFilter::default(), page, NOW).await.unwrap();
        assert_eq!((listed.total, listed.page, listed.page_size), (25, number, 10));
        names.extend(listed.data.into_iter().map(|key| key.token_id));
    }
    let wanted: Vec<String> = (0..25).rev().map(|index| format!("k{index:02}")).collect();
    assert_eq!(names, wanted);
    let far = Page::new(u32::MAX, 1000).unwrap();
    assert_eq!(store.list_keys(&KeyFilter::default(), far, NOW).await.unwrap().data, []);
}

pub(crate) async fn lists_filter_by_each_condition(store: &dyn Store) {
    let mut first = user("u1");
    first.user_alias = some("Ann");
    first.user_email = some("Ann@Example.com");
    first.user_role = Role::ProxyAdmin;
    store.insert_user(&first).await.unwrap();
    store.insert_user(&user("u2")).await.unwrap();
    let mut named = organization("o1");
    named.organization_alias = some("Org");
    store.insert_organization(&named, &[organization_member("o1", "u1")]).await.unwrap();
    store.insert_organization(&organization("o2"), &[]).await.unwrap();
    let mut inside = team("t1");
    inside.organization_id = some("o1");
    inside.team_alias = some("Blue");
    store.insert_team(&inside, &[team_member("t1", "u1")]).await.unwrap();
    store.insert_team(&team("t2"), &[]).await.unwrap();
    store
        .insert_key(&Key { user_id: some("u1"), key_alias: some("Dev_1"), ..key("k1") })
        .await
        .unwrap();
    store.insert_key(&Key { team_id: some("t1"), ..key("k2") }).await.unwrap();
    store.insert_key(&Key { organization_id: some("o1"), ..key("k3") }).await.unwrap();

    let none = KeyFilter::default;
    for (filter, wanted) in [
        (KeyFilter { user_id: some("u1"), ..none() }, vec!["k1"]),
        (KeyFilter { team_id: some("t1"), ..none() }, vec!["k2"]),
        (KeyFilter { organization_id: some("o1"), ..none() }, vec!["k3", "k2"]),
        (KeyFilter { key_alias: some("Dev_1"), ..none() }, vec!["k1"]),
        (KeyFilter { key_alias: some("dev_1"), ..none() }, vec![]),
        (KeyFilter { search: some("dEV"), ..none() }, vec!["k1"]),
        (KeyFilter { search: some("dev%"), ..none() }, vec![]),
        (KeyFilter { search: some("ev"), ..none() }, vec![]),
        (KeyFilter { search: some(""), ..none() }, vec!["k3", "k2", "k1"]),
        (KeyFilter { user_id: some("u1"), team_id: some("t1"), ..none() }, vec![]),
    ] {
        let listed = store.list_keys(&filter, page(), NOW).await.unwrap();
        let names: Vec<&str> = listed.data.iter().map(|key| key.token_id.as_str()).collect();
        assert_eq!((listed.total, names), (wanted.len() as u64, wanted), "{filter:?}");
    }
    let none = TeamFilter::default;
    for (filter, wanted) in [
        (none(), vec!["t2", "t1"]),
        (TeamFilter { organization_id: some("o1"), ..none() }, vec!["t1"]),
        (TeamFilter { user_id: some("u1"), ..none() }, vec!["t1"]),
        (TeamFilter { team_alias: some("Blue"), ..none() }, vec!["t1"]),
        (TeamFilter { search: some("bl"), ..none() }, vec!["t1"]),
    ] {
        let listed = store.list_teams(&filter, page(), NOW).await.unwrap();
        let names: Vec<&str> = listed.data.iter().map(|team| team.team_id.as_str()).collect();
        assert_eq!((listed.total, names), (wanted.len() as u64, wanted), "{filter:?}");
    }
    let none = UserFilter::default;
    for (filter, wanted) in [
        (none(), vec!["u2", "u1"]),
        (UserFilter { team_id: some("t1"), ..none() }, vec!["u1"]),
        (UserFilter { organization_id: some("o1"), ..none() }, vec!["u1"]),
        (UserFilter { role: Some(Role::InternalUser), ..none() }, vec!["u2"]),
        (UserFilter { search: some("ann@"), ..none() }, vec!["u1"]),
        (UserFilter { search: some("an"), ..none() }, vec!["u1"]),
        (UserFilter { search: some("U"), ..none() }, vec!["u2", "u1"]),
    ] {
        let listed = store.list_users(&filter, page(), NOW).await.unwrap();
        let names: Vec<&str> = listed.data.iter().map(|user| user.user_id.as_str()).collect();
        assert_eq!((listed.total, names), (wanted.len() as u64, wanted), "{filter:?}");
    }
    let none = OrganizationFilter::default;
    for (filter, wanted) in [
        (none(), vec!["o2", "o1"]),
        (OrganizationFilter { user_id: some("u1"), ..none() }, vec!["o1"]),
        (OrganizationFilter { organization_alias: some("Org"), ..none() }, vec!["o1"]),
    ] {
        let listed = store.list_organizations(&filter, page(), NOW).await.unwrap();
        let names: Vec<&str> = listed.data.iter().map(|it| it.organization_id.as_str()).collect();
        assert_eq!((listed.total, names), (wanted.len() as u64, wanted), "{filter:?}");
    }
}

pub(crate) async fn last_use_moves_forward_only(store: &dyn Store) {
    for name in ["a", "b"] {
        store.insert_key(&key(name)).await.unwrap();
    }
    let use_of = |name: &str, millis| (name.to_owned(), NOW.plus(millis));
    store.touch_last_used(&[use_of("b", 5), use_of("a", 7), use_of("x", 1)]).await.unwrap();
    store.touch_last_used(&[use_of("a", 3), use_of("b", 6), use_of("b", 4)]).await.unwrap();
    store.touch_last_used(&[]).await.unwrap();
    let last = |name: &'static str| async move {
        store.key(&id(name), NOW).await.unwrap().unwrap().last_used_at
    };
    assert_eq!((last("a").await, last("b").await), (Some(NOW.plus(7)), Some(NOW.plus(6))));
}

pub(crate) async fn the_audit_log_is_listed_and_expires(store: &dyn Store) {
    for index in 0..6 {
        let mut record = audit(&format!("a{index}"), NOW.plus(index));
        record.changed_by = format!("u{}", index % 2);
        record.object_id = format!("k{}", index % 3);
        record.action = if index == 0 { "created" } else { "updated" }.to_owned();
        record.table_name = if index < 4 { "key" } else { "team" }.to_owned();
        store.append_audit(&record).await.unwrap();
    }
    let none = AuditFilter::default;
    for (filter, wanted) in [
        (none(), vec!["a5", "a4", "a3", "a2", "a1", "a0"]),
        (AuditFilter { changed_by: some("u1"), ..none() }, vec!["a5", "a3", "a1"]),
        (AuditFilter { object_id: some("k0"), ..none() }, vec!["a3", "a0"]),
        (AuditFilter { action: some("created"), ..none() }, vec!["a0"]),
        (AuditFilter { table_name: some("team"), ..none() }, vec!["a5", "a4"]),
        (
            AuditFilter { start: Some(NOW.plus(2)), end: Some(NOW.plus(4)), ..none() },
            vec!["a3", "a2"],
        ),
    ] {
        let listed = store.list_audit(&filter, page()).await.unwrap();
        let names: Vec<&str> = listed.data.iter().map(|record| record.id.as_str()).collect();
        assert_eq!((listed.total, names), (wanted.len() as u64, wanted), "{filter:?}");
    }
    assert_eq!(store.delete_audit_before(NOW.plus(4), 3).await.unwrap(), 3);
    assert_eq!(store.delete_audit_before(NOW.plus(4), 3).await.unwrap(), 1);
    assert_eq!(store.list_audit(&none(), page()).await.unwrap().total, 2);
}

pub(crate) async fn texts_that_cannot_be_stored_are_refused(store: &dyn Store) {
    let invalid = |result: Result<(), StoreError>, name: &str| {
        let named = matches!(&result, Err(StoreError::Invalid { field, .. }) if field == name);
        assert!(named, "{name}: {result:?}");
    };
    invalid(store.insert_user(&user("")).await, "user_id");
    invalid(store.insert_team(&team(&"x".repeat(257)), &[]).await, "team_id");
    invalid(store.insert_key(&Key { key_alias: some("a\0b"), ..key("k") }).await, "key_alias");
    let mut large = key("k");
    large.limits.tpm_limit = Some(u64::MAX);
    invalid(store.insert_key(&large).await, "tpm_limit");
    let id = KeyRef::TokenId("k".to_owned());
    store.insert_key(&key("k")).await.unwrap();
    let patch = KeyPatch { key_alias: Patch::Set("a\0b".to_owned()), ..KeyPatch::default() };
    invalid(store.update_key(&id, patch, None, NOW).await.map(|_| ()), "key_alias");
    let by = some("a\0b");
    invalid(store.update_key(&id, KeyPatch::default(), by, NOW).await.map(|_| ()), "updated_by");
    invalid(
        store.append_audit(&AuditRecord { request_id: some("\0"), ..audit("a", NOW) }).await,
        "request_id",
    );
}

pub(crate) async fn nothing_is_found_by_texts_that_cannot_be_stored(store: &dyn Store) {
    store.insert_key(&key("k")).await.unwrap();
    store.insert_team(&team("t"), &[]).await.unwrap();
    let text = || some("k\0");
    for filter in [
        KeyFilter { user_id: text(), ..KeyFilter::default() },
        KeyFilter { organization_id: text(), ..KeyFilter::default() },
        KeyFilter { key_alias: text(), ..KeyFilter::default() },
        KeyFilter { search: text(), ..KeyFilter::default() },
    ] {
        assert_eq!(store.list_keys(&filter, page(), NOW).await.unwrap().total, 0, "{filter:?}");
    }
    let teams = TeamFilter { user_id: text(), ..TeamFilter::default() };
    assert_eq!(store.list_teams(&teams, page(), NOW).await.unwrap().total, 0);
    let audit = AuditFilter { object_id: text(), ..AuditFilter::default() };
    assert_eq!(store.list_audit(&audit, page()).await.unwrap().total, 0);
    assert!(store.key(&KeyRef::Alias("k\0".to_owned()), NOW).await.unwrap().is_none());
    assert!(store.team("\0", NOW).await.unwrap().is_none());
    store.touch_last_used(&[("\0".to_owned(), NOW), ("k".to_owned(), NOW.plus(5))]).await.unwrap();
    let key = store.key(&KeyRef::TokenId("k".to_owned()), NOW).await.unwrap().unwrap();
    assert_eq!(key.last_used_at, Some(NOW.plus(5)));
}

pub(crate) async fn the_store_answers_a_ping(store: &dyn Store) {
    store.ping().await.unwrap();
}
