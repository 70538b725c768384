use super::record::{Fields, load, names};
use super::records::{Order, check_id, delete, find, insert, list, lock, require, update};
use super::statement::{Conditions, WithinColumns};
use super::value::{Column as _, Value, next};
use super::{Session, StoreError};
use crate::store::{KeyFilter, KeySnapshot, Listed, Page, Updated};
use crate::tenants::{
    Key, KeyHash, KeyPatch, KeyRef, Organization, Team, TeamMember, UnixMillis, User,
};

/// The column that a reference names, and its value.
fn place(key: &KeyRef) -> (&'static [&'static str], &str) {
    match key {
        KeyRef::Hash(hash) => (&["token"], hash.as_str()),
        KeyRef::TokenId(id) => (&["token_id"], id),
        KeyRef::Alias(alias) => (&["key_alias"], alias),
    }
}

async fn check_references<S: Session>(session: &mut S, key: &Key) -> Result<(), StoreError> {
    require::<S, User>(session, "user_id", &key.user_id).await?;
    require::<S, Team>(session, "team_id", &key.team_id).await?;
    require::<S, Organization>(session, "organization_id", &key.organization_id).await
}

pub(super) async fn add<S: Session>(session: &mut S, key: &Key) -> Result<(), StoreError> {
    check_id("token_id", &key.token_id)?;
    check_references(session, key).await?;
    insert(session, std::slice::from_ref(key)).await?;
    notify(session, key).await
}

async fn notify<S: Session>(session: &mut S, key: &Key) -> Result<(), StoreError> {
    session.notify(format!("key:{}", key.token)).await
}

pub(super) async fn read<S: Session>(
    session: &mut S,
    key: &KeyRef,
    now: UnixMillis,
) -> Result<Option<Key>, StoreError> {
    let (columns, id) = place(key);
    let mut key: Option<Key> = find(session, columns, &[id], false).await?;
    if let Some(key) = &mut key {
        key.budget.roll(now);
    }
    Ok(key)
}

async fn change<S: Session>(
    session: &mut S,
    key: &KeyRef,
    now: UnixMillis,
    change: impl FnOnce(&mut Key) + Send,
) -> Result<Updated<Key>, StoreError> {
    let (columns, id) = place(key);
    let mut before: Key = lock(session, columns, &[id]).await?;
    before.budget.roll(now);
    let mut after = before.clone();
    change(&mut after);
    after.budget.roll(now);
    check_references(session, &after).await?;
    update(session, &before, &after).await?;
    notify(session, &before).await?;
    if after.token != before.token {
        // Others may know that there was no such key.
        notify(session, &after).await?;
    }
    Ok(Updated { before, after })
}

pub(super) async fn patch<S: Session>(
    session: &mut S,
    key: &KeyRef,
    patch: KeyPatch,
    by: Option<String>,
    now: UnixMillis,
) -> Result<Updated<Key>, StoreError> {
    change(session, key, now, |key| patch.apply(key, by, now)).await
}

pub(super) async fn regenerate<S: Session>(
    session: &mut S,
    key: &KeyRef,
    (token, key_name): (KeyHash, String),
    by: Option<String>,
    now: UnixMillis,
) -> Result<Updated<Key>, StoreError> {
    let renew = |key: &mut Key| {
        key.token = token;
        key.key_name = key_name;
        key.updated_at = now;
        key.updated_by = by;
    };
    change(session, key, now, renew).await
}

pub(super) async fn remove<S: Session>(
    session: &mut S,
    keys: &[KeyRef],
) -> Result<Vec<Key>, StoreError> {
    let mut deleted = Vec::new();
    for key in keys {
        let (columns, id) = place(key);
        let key: Key = delete(session, columns, &[id]).await?;
        notify(session, &key).await?;
        deleted.push(key);
    }
    Ok(deleted)
}

const WITHIN: WithinColumns = WithinColumns {
    user: "user_id = ?",
    teams: &["team_id IN ?"],
    organizations: &[
        "organization_id IN ?",
        "team_id IN (SELECT team_id FROM teams WHERE organization_id IN ?)",
    ],
};

pub(super) async fn page<S: Session>(
    session: &mut S,
    filter: &KeyFilter,
    page: Page,
    now: UnixMillis,
) -> Result<Listed<Key>, StoreError> {
    let mut conditions = Conditions::new(session.dialect());
    conditions.add_some("user_id = ?", filter.user_id.as_ref())?;
    conditions.add_some("team_id = ?", filter.team_id.as_ref())?;
    conditions.add_some(
        "(organization_id = ? OR team_id IN (SELECT team_id FROM teams WHERE organization_id = ?))",
        filter.organization_id.as_ref(),
    )?;
    conditions.add_some("key_alias = ?", filter.key_alias.as_ref())?;
    conditions.add_prefix(&["key_alias"], filter.search.as_ref())?;
    if let Some(within) = &filter.within {
        conditions.add_within(&WITHIN, within);
    }
    let newest = Order::By("created_at DESC, token_id DESC");
    let order = if filter.dearest_first { Order::Dearest } else { newest };
    list(session, conditions, order, page, now).await
}

pub(super) async fn touch<S: Session>(
    session: &mut S,
    uses: &[(String, UnixMillis)],
) -> Result<(), StoreError> {
    // All writers lock rows in the same order. No key has an id with NUL, and PostgreSQL would not take it.
    let mut uses: Vec<_> = uses.iter().filter(|(id, _)| !id.contains('\0')).collect();
    uses.sort();
    let sql = "UPDATE keys SET last_used_at = $2 \
               WHERE token_id = $1 AND (last_used_at IS NULL OR last_used_at < $2)";
    let parameters = uses
        .into_iter()
        .map(|(id, time)| Ok(vec![id.store()?, time.store()?]))
        .collect::<Result<_, StoreError>>()?;
    session.execute_each(sql, parameters).await.map(|_| ())
}

/// One statement for the key and what it hangs on, two for its user's places.
pub(super) async fn snapshot<S: Session>(
    session: &mut S,
    token: &KeyHash,
    now: UnixMillis,
) -> Result<Option<KeySnapshot>, StoreError> {
    let mut columns = Vec::new();
    let mut add = |table: &str, names: Vec<&str>| {
        columns.extend(names.into_iter().map(|name| format!("{table}.{name}")));
    };
    add("k", names::<Key>());
    add("t", names::<Team>());
    add("u", names::<User>());
    add("o", names::<Organization>());
    add("m", names::<TeamMember>());
    let sql = format!(
        "SELECT {} FROM keys k LEFT JOIN teams t ON t.team_id = k.team_id \
         LEFT JOIN users u ON u.user_id = k.user_id \
         LEFT JOIN organizations o ON o.organization_id = coalesce(k.organization_id, t.organization_id) \
         LEFT JOIN team_members m ON m.team_id = k.team_id AND m.user_id = k.user_id WHERE k.token = $1",
        columns.join(", ")
    );
    let Some(row) = session.query(&sql, vec![token.store()?]).await?.pop() else { return Ok(None) };
    let mut row = row.into_iter();
    let key = Key::load(&mut row)?;
    let mut found = KeySnapshot {
        key,
        team: joined(&mut row)?,
        user: joined(&mut row)?,
        organization: joined(&mut row)?,
        team_member: joined(&mut row)?,
        team_roles: Vec::new(),
        organization_roles: Vec::new(),
    };
    if let Some(user_id) = &found.key.user_id {
        let sql = "SELECT team_id, role FROM team_members WHERE user_id = $1 ORDER BY team_id";
        found.team_roles = pairs(session.query(sql, vec![user_id.store()?]).await?)?;
        let sql = "SELECT organization_id, user_role FROM organization_members \
                   WHERE user_id = $1 ORDER BY organization_id";
        found.organization_roles = pairs(session.query(sql, vec![user_id.store()?]).await?)?;
    }
    found.key.budget.roll(now);
    let budgets = [
        found.team.as_mut().map(|it| &mut it.budget),
        found.user.as_mut().map(|it| &mut it.budget),
        found.organization.as_mut().map(|it| &mut it.budget),
        found.team_member.as_mut().map(|it| &mut it.budget),
    ];
    budgets.into_iter().flatten().for_each(|budget| budget.roll(now));
    Ok(Some(found))
}

/// Loads the next record of a joined row, of which all columns are null if there is none.
fn joined<R: Fields>(row: &mut impl Iterator<Item = Value>) -> Result<Option<R>, StoreError> {
    let columns: Vec<Value> = row.take(names::<R>().len()).collect();
    if columns.iter().all(|value| *value == Value::Null) {
        return Ok(None);
    }
    load(columns).map(Some)
}

fn pairs<T: super::value::Column>(rows: Vec<Vec<Value>>) -> Result<Vec<(String, T)>, StoreError> {
    rows.into_iter()
        .map(|row| {
            let mut row = row.into_iter();
            Ok((next(&mut row)?, next(&mut row)?))
        })
        .collect()
}
