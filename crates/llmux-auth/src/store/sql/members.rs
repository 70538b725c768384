use super::record::Record;
use super::records::{Order, delete, insert, list, lock, require, update};
use super::statement::Conditions;
use super::{Session, StoreError};
use crate::store::{Listed, MemberFilter, Page, Updated};
use crate::tenants::{
    Organization, OrganizationMember, OrganizationMemberPatch, Team, TeamMember, TeamMemberPatch,
    UnixMillis, User,
};

/// A place in a group.
pub(super) trait Member: Record + Clone {
    type Group: Record;
    const ORDER: Order;

    fn ids(&self) -> (&String, &String);
}

impl Member for TeamMember {
    type Group = Team;
    const ORDER: Order = Order::By("team_id, user_id");

    fn ids(&self) -> (&String, &String) {
        (&self.team_id, &self.user_id)
    }
}

impl Member for OrganizationMember {
    type Group = Organization;
    const ORDER: Order = Order::By("organization_id, user_id");

    fn ids(&self) -> (&String, &String) {
        (&self.organization_id, &self.user_id)
    }
}

/// Caches know places by their user.
async fn notify<S: Session>(session: &mut S, user_id: &str) -> Result<(), StoreError> {
    session.notify(format!("user:{user_id}")).await
}

async fn add<S: Session, M: Member>(session: &mut S, members: &[M]) -> Result<(), StoreError> {
    for member in members {
        let (group, user) = member.ids();
        require::<S, M::Group>(session, M::ID[0], [group]).await?;
        require::<S, User>(session, "user_id", [user]).await?;
        insert(session, std::slice::from_ref(member)).await?;
        notify(session, user).await?;
    }
    Ok(())
}

pub(super) async fn add_to_teams<S: Session>(
    session: &mut S,
    members: &[TeamMember],
) -> Result<(), StoreError> {
    add(session, members).await
}

pub(super) async fn add_to_organizations<S: Session>(
    session: &mut S,
    members: &[OrganizationMember],
) -> Result<(), StoreError> {
    add(session, members).await
}

async fn change<S: Session, M: Member>(
    session: &mut S,
    (group_id, user_id): (&str, &str),
    now: UnixMillis,
    change: impl FnOnce(&mut M) + Send,
) -> Result<Updated<M>, StoreError> {
    let mut before: M = lock(session, M::ID, &[group_id, user_id]).await?;
    before.roll(now);
    let mut after = before.clone();
    change(&mut after);
    after.roll(now);
    update(session, &before, &after).await?;
    notify(session, user_id).await?;
    Ok(Updated { before, after })
}

pub(super) async fn patch_in_team<S: Session>(
    session: &mut S,
    ids: (&str, &str),
    patch: TeamMemberPatch,
    now: UnixMillis,
) -> Result<Updated<TeamMember>, StoreError> {
    change(session, ids, now, |member| patch.apply(member, now)).await
}

pub(super) async fn patch_in_organization<S: Session>(
    session: &mut S,
    ids: (&str, &str),
    patch: OrganizationMemberPatch,
    now: UnixMillis,
) -> Result<Updated<OrganizationMember>, StoreError> {
    change(session, ids, now, |member| patch.apply(member, now)).await
}

pub(super) async fn remove<S: Session, M: Member>(
    session: &mut S,
    group_id: &str,
    user_ids: &[String],
) -> Result<Vec<M>, StoreError> {
    let mut deleted = Vec::new();
    for user_id in user_ids {
        deleted.push(delete(session, M::ID, &[group_id, user_id]).await?);
        notify(session, user_id).await?;
    }
    Ok(deleted)
}

pub(super) async fn page<S: Session, M: Member>(
    session: &mut S,
    filter: &MemberFilter,
    page: Page,
    now: UnixMillis,
) -> Result<Listed<M>, StoreError> {
    let mut conditions = Conditions::new(session.dialect());
    conditions.add_some(&format!("{} = ?", M::ID[0]), filter.group_id.as_ref())?;
    conditions.add_some("user_id = ?", filter.user_id.as_ref())?;
    list(session, conditions, M::ORDER, page, now).await
}
