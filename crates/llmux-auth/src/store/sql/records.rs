//! What is done alike with all kinds of records.

use super::record::{Record, load, names, values};
use super::statement::{Conditions, placeholders};
use super::value::{Column as _, Row, Value};
use super::{Session, StoreError};
use crate::store::{Listed, Page};
use crate::tenants::UnixMillis;

/// The longest id, in bytes.
const MAX_ID: usize = 256;

pub(crate) fn check_id(field: &str, id: &str) -> Result<(), StoreError> {
    if id.is_empty() || id.len() > MAX_ID {
        return Err(StoreError::invalid(field, "must have 1 to 256 bytes"));
    }
    Ok(())
}

/// Rows that one statement inserts at most: sizes are few, so that few statements are prepared.
const CHUNKS: [usize; 3] = [64, 8, 1];

/// Inserts records. `tail` is the end of the statement; its rows are returned.
pub(crate) async fn insert_all<S: Session>(
    session: &mut S,
    table: &str,
    columns: &[&str],
    rows: Vec<Vec<Value>>,
    tail: &str,
) -> Result<Vec<Row>, StoreError> {
    let mut returned = Vec::new();
    let mut rows = rows.into_iter();
    let (mut sized, mut sql) = (0, String::new());
    while rows.len() > 0 {
        let size = CHUNKS.into_iter().find(|size| *size <= rows.len()).unwrap_or(1);
        if size != sized {
            sized = size;
            sql = format!(
                "INSERT INTO {table} ({}) VALUES {}{tail}",
                columns.join(", "),
                placeholders(size, columns.len())
            );
        }
        let parameters = rows.by_ref().take(size).flatten().collect();
        returned.extend(session.query(&sql, parameters).await?);
    }
    Ok(returned)
}

pub(crate) async fn insert<S: Session, R: Record>(
    session: &mut S,
    records: &[R],
) -> Result<(), StoreError> {
    let rows = records.iter().map(values).collect::<Result<_, _>>()?;
    insert_all(session, R::TABLE, &names::<R>(), rows, "").await.map(|_| ())
}

/// Reads the records that meet the conditions.
pub(crate) async fn select<S: Session, R: Record>(
    session: &mut S,
    conditions: Conditions,
    tail: &str,
) -> Result<Vec<R>, StoreError> {
    let (condition, parameters) = conditions.build();
    let sql = format!("SELECT {} FROM {}{condition}{tail}", names::<R>().join(", "), R::TABLE);
    session.query(&sql, parameters).await?.into_iter().map(load).collect()
}

/// Reads the record whose `columns` have these values.
pub(crate) async fn find<S: Session, R: Record>(
    session: &mut S,
    columns: &[&str],
    id: &[&str],
    lock: bool,
) -> Result<Option<R>, StoreError> {
    let mut conditions = Conditions::new(session.dialect());
    for (column, value) in columns.iter().zip(id) {
        // Nothing has such an id, and PostgreSQL would not take it.
        if value.contains('\0') {
            return Ok(None);
        }
        conditions.add(&format!("{column} = ?"), &(*value).to_owned())?;
    }
    let tail = if lock { session.dialect().for_update() } else { "" };
    Ok(select(session, conditions, tail).await?.pop())
}

/// Reads a record, moved on to the window of `now`.
pub(crate) async fn get<S: Session, R: Record>(
    session: &mut S,
    id: &[&str],
    now: UnixMillis,
) -> Result<Option<R>, StoreError> {
    let mut record: Option<R> = find(session, R::ID, id, false).await?;
    if let Some(record) = &mut record {
        record.roll(now);
    }
    Ok(record)
}

/// Reads and locks a record that must be there.
pub(crate) async fn lock<S: Session, R: Record>(
    session: &mut S,
    columns: &[&str],
    id: &[&str],
) -> Result<R, StoreError> {
    find(session, columns, id, true)
        .await?
        .ok_or_else(|| StoreError::NotFound { what: R::WHAT, id: id.join("/") })
}

/// What accounting writes.
const SPENT: [&str; 5] =
    ["spend", "model_spend", "spend_since", "budget_reset_at", "budget_anchor_at"];
/// What changes to which windows spend belongs.
const WINDOWS: [&str; 2] = ["budget_duration", "model_max_budget"];

/// Writes a record that is locked. What accounting wrote is left alone unless the change concerns it.
pub(crate) async fn update<S: Session, R: Record>(
    session: &mut S,
    before: &R,
    after: &R,
) -> Result<(), StoreError> {
    let names = names::<R>();
    let (was, is) = (values(before)?, values(after)?);
    let concerns_spend = names
        .iter()
        .zip(was.iter().zip(&is))
        .any(|(name, (was, is))| (SPENT.contains(name) || WINDOWS.contains(name)) && was != is);
    let (mut parameters, mut id, mut assignments) = (Vec::new(), Vec::new(), Vec::new());
    for (name, value) in names.iter().zip(is) {
        let is_id = R::ID.contains(name);
        if is_id || concerns_spend || !SPENT.contains(name) {
            parameters.push(value);
            let list = if is_id { &mut id } else { &mut assignments };
            list.push(format!("{name} = ${}", parameters.len()));
        }
    }
    let sql =
        format!("UPDATE {} SET {} WHERE {}", R::TABLE, assignments.join(", "), id.join(" AND "));
    session.execute(&sql, parameters).await.map(|_| ())
}

/// Deletes a record that must be there, and returns it.
pub(crate) async fn delete<S: Session, R: Record>(
    session: &mut S,
    columns: &[&str],
    id: &[&str],
) -> Result<R, StoreError> {
    let record = lock::<S, R>(session, columns, id).await?;
    let mut conditions = Conditions::new(session.dialect());
    for (column, value) in columns.iter().zip(id) {
        conditions.add(&format!("{column} = ?"), &(*value).to_owned())?;
    }
    let (condition, parameters) = conditions.build();
    session.execute(&format!("DELETE FROM {}{condition}", R::TABLE), parameters).await?;
    Ok(record)
}

/// In which order a list is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Order {
    /// By these columns.
    By(&'static str),
    /// By what was spent in the present window, the most first.
    Dearest,
}

/// From which offset on a page's ids are found before its rows are read, so that skipped rows are not read.
const FAR: u64 = 1000;

/// Lists a page of the records that meet the conditions, and counts them all.
pub(crate) async fn list<S: Session, R: Record>(
    session: &mut S,
    conditions: Conditions,
    order: Order,
    page: Page,
    now: UnixMillis,
) -> Result<Listed<R>, StoreError> {
    let (condition, parameters) = conditions.build();
    let sql = format!("SELECT count(*) FROM {}{condition}", R::TABLE);
    let total = count(session, &sql, parameters.clone()).await?;
    list_of(session, (condition, parameters), order, page, now, total).await
}

/// Lists a page of records, of which `total` are known to be there.
pub(crate) async fn list_of<S: Session, R: Record>(
    session: &mut S,
    (condition, mut parameters): (String, Vec<Value>),
    order: Order,
    page: Page,
    now: UnixMillis,
    total: u64,
) -> Result<Listed<R>, StoreError> {
    let offset = u64::from(page.number() - 1) * u64::from(page.size());
    let mut data: Vec<R> = Vec::new();
    if offset < total {
        let (names, table) = (names::<R>().join(", "), R::TABLE);
        let by = match order {
            Order::By(columns) => columns.to_owned(),
            Order::Dearest => {
                parameters.push(now.store()?);
                format!(
                    "CASE WHEN budget_reset_at <= ${} THEN 0 ELSE spend END DESC, {}",
                    parameters.len(),
                    R::ID.join(", ")
                )
            }
        };
        let limit = parameters.len() + 1;
        parameters.extend([page.size().store()?, offset.store()?]);
        let part = format!("{condition} ORDER BY {by} LIMIT ${limit} OFFSET ${}", limit + 1);
        let sql = match (R::ID, order) {
            ([id], Order::Dearest) => Some(id),
            ([id], Order::By(_)) if offset >= FAR => Some(id),
            _ => None,
        }
        .map_or_else(
            || format!("SELECT {names} FROM {table}{part}"),
            |id| {
                format!(
                    "SELECT {names} FROM {table} WHERE {id} IN (SELECT {id} FROM {table}{part}) ORDER BY {by}"
                )
            },
        );
        let rows = session.query(&sql, parameters).await?;
        data = rows.into_iter().map(load).collect::<Result<_, _>>()?;
        data.iter_mut().for_each(|record| record.roll(now));
    }
    Ok(Listed { data, total, page: page.number(), page_size: page.size() })
}

pub(crate) async fn count<S: Session>(
    session: &mut S,
    sql: &str,
    parameters: Vec<Value>,
) -> Result<u64, StoreError> {
    let value = session.query(sql, parameters).await?.pop().and_then(|mut row| row.pop());
    u64::load(value.ok_or_else(|| StoreError::corrupt("a count has no row"))?)
}

/// Fails unless each of `ids` is in the table of `R`. `field` is named in the error.
pub(crate) async fn require<S: Session, R: Record>(
    session: &mut S,
    field: &str,
    ids: impl IntoIterator<Item = &String>,
) -> Result<(), StoreError> {
    for id in ids {
        if find::<S, R>(session, R::ID, &[id], false).await?.is_none() {
            return Err(StoreError::MissingReference { field: field.to_owned() });
        }
    }
    Ok(())
}
