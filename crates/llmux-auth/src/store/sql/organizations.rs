use super::records::{Order, check_id, count, delete, insert, list, lock, update};
use super::statement::Conditions;
use super::value::Column as _;
use super::{Session, StoreError, members};
use crate::store::{Listed, OrganizationFilter, Page, Updated};
use crate::tenants::{Organization, OrganizationMember, OrganizationPatch, UnixMillis};

pub(super) async fn add<S: Session>(
    session: &mut S,
    organization: &Organization,
    members: &[OrganizationMember],
) -> Result<(), StoreError> {
    check_id("organization_id", &organization.organization_id)?;
    insert(session, std::slice::from_ref(organization)).await?;
    members::add_to_organizations(session, members).await
}

pub(super) async fn patch<S: Session>(
    session: &mut S,
    organization_id: &str,
    patch: OrganizationPatch,
    by: Option<String>,
    now: UnixMillis,
) -> Result<Updated<Organization>, StoreError> {
    let mut before: Organization = lock(session, &["organization_id"], &[organization_id]).await?;
    before.budget.roll(now);
    let mut after = before.clone();
    patch.apply(&mut after, by, now);
    after.budget.roll(now);
    update(session, &before, &after).await?;
    session.notify(format!("organization:{organization_id}")).await?;
    Ok(Updated { before, after })
}

pub(super) async fn remove<S: Session>(
    session: &mut S,
    organization_ids: &[String],
) -> Result<Vec<Organization>, StoreError> {
    let mut deleted = Vec::new();
    for id in organization_ids {
        // Found before whatever belongs to it, so that an unknown one is told as such.
        let _: Organization = lock(session, &["organization_id"], &[id]).await?;
        for (table, by) in [("teams", "teams"), ("keys", "keys")] {
            let sql = format!(
                "SELECT count(*) FROM (SELECT 1 FROM {table} WHERE organization_id = $1 LIMIT 1) one"
            );
            if count(session, &sql, vec![id.store()?]).await? > 0 {
                return Err(StoreError::InUse { id: id.clone(), by });
            }
        }
        // Something may have come to belong to it since.
        let result = delete(session, &["organization_id"], &[id]).await;
        deleted.push(result.map_err(|error| match error {
            StoreError::MissingReference { .. } => {
                StoreError::InUse { id: id.clone(), by: "teams or keys" }
            }
            other => other,
        })?);
        session.notify(format!("organization:{id}")).await?;
    }
    Ok(deleted)
}

pub(super) async fn page<S: Session>(
    session: &mut S,
    filter: &OrganizationFilter,
    page: Page,
    now: UnixMillis,
) -> Result<Listed<Organization>, StoreError> {
    let mut conditions = Conditions::new(session.dialect());
    conditions.add_some(
        "organization_id IN (SELECT organization_id FROM organization_members WHERE user_id = ?)",
        filter.user_id.as_ref(),
    )?;
    conditions.add_some("organization_alias = ?", filter.organization_alias.as_ref())?;
    list(session, conditions, Order::By("created_at DESC, organization_id DESC"), page, now).await
}
