use super::records::{Order, check_id, insert, list};
use super::statement::Conditions;
use super::value::Column as _;
use super::{Session, StoreError};
use crate::store::{AuditFilter, Listed, Page};
use crate::tenants::{AuditRecord, UnixMillis};

pub(super) async fn append<S: Session>(
    session: &mut S,
    record: &AuditRecord,
) -> Result<(), StoreError> {
    check_id("id", &record.id)?;
    insert(session, std::slice::from_ref(record)).await
}

pub(super) async fn page<S: Session>(
    session: &mut S,
    filter: &AuditFilter,
    page: Page,
) -> Result<Listed<AuditRecord>, StoreError> {
    let mut conditions = Conditions::new(session.dialect());
    conditions.add_some("changed_by = ?", filter.changed_by.as_ref())?;
    conditions.add_some("action = ?", filter.action.as_ref())?;
    conditions.add_some("table_name = ?", filter.table_name.as_ref())?;
    conditions.add_some("object_id = ?", filter.object_id.as_ref())?;
    conditions.add_some("updated_at >= ?", filter.start.as_ref())?;
    conditions.add_some("updated_at < ?", filter.end.as_ref())?;
    list(session, conditions, Order::By("updated_at DESC, id DESC"), page, UnixMillis(0)).await
}

pub(super) async fn expire<S: Session>(
    session: &mut S,
    before: UnixMillis,
    limit: u32,
) -> Result<u64, StoreError> {
    let sql = "DELETE FROM audit_log WHERE id IN \
               (SELECT id FROM audit_log WHERE updated_at < $1 ORDER BY updated_at, id LIMIT $2)";
    session.execute(sql, vec![before.store()?, limit.store()?]).await
}
