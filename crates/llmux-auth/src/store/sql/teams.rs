use super::records::{Order, check_id, delete, insert, list, lock, require, update};
use super::statement::{Conditions, WithinColumns};
use super::{Session, StoreError, members};
use crate::store::{Listed, Page, TeamFilter, Updated};
use crate::tenants::{Organization, Team, TeamMember, TeamPatch, UnixMillis};

pub(super) async fn add<S: Session>(
    session: &mut S,
    team: &Team,
    members: &[TeamMember],
) -> Result<(), StoreError> {
    check_id("team_id", &team.team_id)?;
    require::<S, Organization>(session, "organization_id", &team.organization_id).await?;
    insert(session, std::slice::from_ref(team)).await?;
    members::add_to_teams(session, members).await
}

pub(super) async fn patch<S: Session>(
    session: &mut S,
    team_id: &str,
    patch: TeamPatch,
    now: UnixMillis,
) -> Result<Updated<Team>, StoreError> {
    let mut before: Team = lock(session, &["team_id"], &[team_id]).await?;
    before.budget.roll(now);
    let mut after = before.clone();
    patch.apply(&mut after, now);
    after.budget.roll(now);
    require::<S, Organization>(session, "organization_id", &after.organization_id).await?;
    update(session, &before, &after).await?;
    session.notify(format!("team:{team_id}")).await?;
    Ok(Updated { before, after })
}

pub(super) async fn remove<S: Session>(
    session: &mut S,
    team_ids: &[String],
) -> Result<Vec<Team>, StoreError> {
    let mut deleted = Vec::new();
    for team_id in team_ids {
        deleted.push(delete(session, &["team_id"], &[team_id]).await?);
        session.notify(format!("team:{team_id}")).await?;
    }
    Ok(deleted)
}

const WITHIN: WithinColumns = WithinColumns {
    user: "team_id IN (SELECT team_id FROM team_members WHERE user_id = ?)",
    teams: &["team_id IN ?"],
    organizations: &["organization_id IN ?"],
};

pub(super) async fn page<S: Session>(
    session: &mut S,
    filter: &TeamFilter,
    page: Page,
    now: UnixMillis,
) -> Result<Listed<Team>, StoreError> {
    let mut conditions = Conditions::new(session.dialect());
    conditions.add_some("organization_id = ?", filter.organization_id.as_ref())?;
    conditions.add_some(
        "team_id IN (SELECT team_id FROM team_members WHERE user_id = ?)",
        filter.user_id.as_ref(),
    )?;
    conditions.add_some("team_alias = ?", filter.team_alias.as_ref())?;
    conditions.add_prefix(&["team_alias"], filter.search.as_ref())?;
    if let Some(within) = &filter.within {
        conditions.add_within(&WITHIN, within);
    }
    let newest = Order::By("created_at DESC, team_id DESC");
    let order = if filter.dearest_first { Order::Dearest } else { newest };
    list(session, conditions, order, page, now).await
}
