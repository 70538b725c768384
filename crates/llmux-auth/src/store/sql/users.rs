use super::records::{Order, check_id, delete, insert, list, lock, update};
use super::statement::{Conditions, WithinColumns};
use super::{Session, StoreError};
use crate::store::{Listed, Page, Updated, UserFilter};
use crate::tenants::{UnixMillis, User, UserPatch};

pub(super) async fn add<S: Session>(session: &mut S, user: &User) -> Result<(), StoreError> {
    check_id("user_id", &user.user_id)?;
    insert(session, std::slice::from_ref(user)).await
}

pub(super) async fn patch<S: Session>(
    session: &mut S,
    user_id: &str,
    patch: UserPatch,
    now: UnixMillis,
) -> Result<Updated<User>, StoreError> {
    let mut before: User = lock(session, &["user_id"], &[user_id]).await?;
    before.budget.roll(now);
    let mut after = before.clone();
    patch.apply(&mut after, now);
    after.budget.roll(now);
    update(session, &before, &after).await?;
    session.notify(format!("user:{user_id}")).await?;
    Ok(Updated { before, after })
}

pub(super) async fn remove<S: Session>(
    session: &mut S,
    user_ids: &[String],
) -> Result<Vec<User>, StoreError> {
    let mut deleted = Vec::new();
    for user_id in user_ids {
        deleted.push(delete(session, &["user_id"], &[user_id]).await?);
        session.notify(format!("user:{user_id}")).await?;
    }
    Ok(deleted)
}

const WITHIN: WithinColumns = WithinColumns {
    user: "user_id = ?",
    teams: &["user_id IN (SELECT user_id FROM team_members WHERE team_id IN ?)"],
    organizations: &[
        "user_id IN (SELECT user_id FROM organization_members WHERE organization_id IN ?)",
        "user_id IN (SELECT user_id FROM team_members JOIN teams USING (team_id) WHERE organization_id IN ?)",
    ],
};

pub(super) async fn page<S: Session>(
    session: &mut S,
    filter: &UserFilter,
    page: Page,
    now: UnixMillis,
) -> Result<Listed<User>, StoreError> {
    let mut conditions = Conditions::new(session.dialect());
    conditions.add_some(
        "user_id IN (SELECT user_id FROM team_members WHERE team_id = ?)",
        filter.team_id.as_ref(),
    )?;
    conditions.add_some(
        "user_id IN (SELECT user_id FROM organization_members WHERE organization_id = ?)",
        filter.organization_id.as_ref(),
    )?;
    conditions.add_some("user_role = ?", filter.role.as_ref())?;
    conditions.add_prefix(&["user_id", "user_email", "user_alias"], filter.search.as_ref())?;
    if let Some(within) = &filter.within {
        conditions.add_within(&WITHIN, within);
    }
    let newest = Order::By("created_at DESC, user_id DESC");
    let order = if filter.dearest_first { Order::Dearest } else { newest };
    list(session, conditions, order, page, now).await
}
