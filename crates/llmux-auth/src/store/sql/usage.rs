use std::borrow::Cow;
use std::collections::BTreeMap;

use super::record::{Spender, load, names, values};
use super::records::{Order, check_id, count, insert_all, list, list_of, select};
use super::rollup::{self, DETAIL, GROUPS, ORGANIZATION, SUMS, TEAM, TOTAL};
use super::statement::{Conditions, WithinColumns};
use super::value::{Column as _, Value, next};
use super::{Session, StoreError};
use crate::store::{Dimension, Listed, Page, UsageFilter};
use crate::tenants::{
    Day, Key, Organization, SpendRow, Team, TeamMember, UnixMillis, UsageRecord, UsageTotals, User,
};

const NEWEST_FIRST: Order = Order::By("start_time DESC, id DESC");

pub(super) async fn append<S: Session>(
    session: &mut S,
    records: &[UsageRecord],
) -> Result<u64, StoreError> {
    // By id: all writers insert in the same order, and an id counts once.
    let mut by_id: BTreeMap<&str, &UsageRecord> = BTreeMap::new();
    let records: Vec<Cow<'_, UsageRecord>> = records.iter().map(fitted).collect();
    for record in &records {
        check(record)?;
        by_id.entry(&record.id).or_insert(record);
    }
    let rows = by_id.values().map(|record| values(*record)).collect::<Result<_, _>>()?;
    let tail = " ON CONFLICT (id) DO NOTHING RETURNING id";
    let mut new = Vec::new();
    for row in insert_all(session, "usage_records", &names::<UsageRecord>(), rows, tail).await? {
        let id: String = next(&mut row.into_iter())?;
        new.extend(by_id.get(id.as_str()));
    }
    // The order of the tables is the same for all writers, too.
    rollup::add(session, &new).await?;
    let one = |id: &Option<String>| id.clone().map(|id| vec![id]);
    charge::<S, Key>(session, &new, |record| one(&record.token_id)).await?;
    charge::<S, User>(session, &new, |record| one(&record.user_id)).await?;
    charge::<S, Team>(session, &new, |record| one(&record.team_id)).await?;
    charge::<S, TeamMember>(session, &new, |record| {
        Some(vec![record.team_id.clone()?, record.user_id.clone()?])
    })
    .await?;
    charge::<S, Organization>(session, &new, |record| one(&record.organization_id)).await?;
    Ok(new.len() as u64)
}

/// More tokens than any call can have. Without a bound the mistake of one vendor would make a day's sum too large to be
/// stored, and with it all further records of that day.
const MAX_TOKENS: u64 = 1 << 40;

/// More than any call can cost, in nano-dollars: ten million dollars.
const MAX_SPEND: i64 = 10_000_000_000_000_000;

/// The longest text of a column that is searched in, in bytes: PostgreSQL's indexes take no long ones.
const MAX_TEXT: usize = 256;

/// Makes a record's texts such that they can be stored. Some are the client's, and what a client writes must not keep
/// its call from being counted.
fn fitted(record: &UsageRecord) -> Cow<'_, UsageRecord> {
    let mut record = Cow::Borrowed(record);
    let is_long = |text: &str| text.len() > MAX_TEXT;
    let has_nul = |text: &str| text.contains('\0');
    let texts = |record: &UsageRecord| {
        [Some(&record.model), Some(&record.request_id), record.provider.as_ref()]
            .into_iter()
            .flatten()
            .any(|text| is_long(text) || has_nul(text))
            || [&record.end_user, &record.upstream_model, &record.error_code]
                .into_iter()
                .flatten()
                .any(|text| has_nul(text))
    };
    if texts(&record) {
        let own = record.to_mut();
        let searched = [Some(&mut own.model), Some(&mut own.request_id), own.provider.as_mut()];
        let others = [own.end_user.as_mut(), own.upstream_model.as_mut(), own.error_code.as_mut()];
        for text in searched.into_iter().flatten() {
            *text = text.replace('\0', "\u{fffd}");
            text.truncate(text.floor_char_boundary(MAX_TEXT));
        }
        for text in others.into_iter().flatten() {
            *text = text.replace('\0', "\u{fffd}");
        }
    }
    record
}

fn check(record: &UsageRecord) -> Result<(), StoreError> {
    check_id("id", &record.id)?;
    for (field, tokens) in [
        ("prompt_tokens", record.prompt_tokens),
        ("completion_tokens", record.completion_tokens),
        ("total_tokens", record.total_tokens),
        ("cached_tokens", record.cached_tokens),
        ("cache_write_tokens", record.cache_write_tokens),
        ("reasoning_tokens", record.reasoning_tokens),
    ] {
        if tokens > MAX_TOKENS {
            return Err(StoreError::invalid(field, "is more than any call can have"));
        }
    }
    if !(0..=MAX_SPEND).contains(&record.spend.nanos()) {
        return Err(StoreError::invalid("spend", "must be from 0 to 10,000,000 US dollars"));
    }
    Ok(())
}

/// Adds what records cost to the budgets they belong to, as far as those still exist.
async fn charge<S: Session, R: Spender>(
    session: &mut S,
    records: &[&UsageRecord],
    id: impl Fn(&UsageRecord) -> Option<Vec<String>> + Send,
) -> Result<(), StoreError> {
    let mut charges: BTreeMap<Vec<String>, Vec<&UsageRecord>> = BTreeMap::new();
    for record in records {
        if let Some(id) = id(record) {
            charges.entry(id).or_default().push(record);
        }
    }
    if charges.is_empty() {
        return Ok(());
    }
    let lists =
        (0..R::ID.len()).map(|i| charges.keys().map(|id| id[i].clone()).collect()).collect();
    let mut conditions = Conditions::new(session.dialect());
    conditions.add_any(R::ID, lists);
    let tail = format!(" ORDER BY {}{}", R::ID.join(", "), session.dialect().for_update());
    let mut updates = Vec::new();
    for mut spender in select::<S, R>(session, conditions, &tail).await? {
        let names = names::<R>();
        let row = values(&spender)?;
        let id_values: Vec<_> = R::ID
            .iter()
            .filter_map(|column| names.iter().position(|name| name == column))
            .map(|index| row[index].clone())
            .collect();
        let id = id_values.iter().cloned().map(String::load).collect::<Result<Vec<_>, _>>()?;
        let budget = spender.budget();
        for record in charges.get(&id).into_iter().flatten() {
            budget.charge(record.spend, &record.model, record.start_time);
        }
        let mut update = vec![
            budget.spend.store()?,
            budget.spend_since.store()?,
            budget.budget_reset_at.store()?,
            budget.model_spend.store()?,
        ];
        update.extend(id_values);
        updates.push(update);
    }
    let ids: Vec<String> =
        R::ID.iter().enumerate().map(|(i, column)| format!("{column} = ${}", i + 5)).collect();
    let sql = format!(
        "UPDATE {} SET spend = $1, spend_since = $2, budget_reset_at = $3, model_spend = $4 WHERE {}",
        R::TABLE,
        ids.join(" AND ")
    );
    session.execute_each(&sql, updates).await.map(|_| ())
}

/// The conditions by tenant, model and provider, which records and their sums share.
fn shared(conditions: &mut Conditions, filter: &UsageFilter) -> Result<(), StoreError> {
    conditions.add_some("token_id = ?", filter.token_id.as_ref())?;
    conditions.add_some("team_id = ?", filter.team_id.as_ref())?;
    conditions.add_some("user_id = ?", filter.user_id.as_ref())?;
    conditions.add_some("organization_id = ?", filter.organization_id.as_ref())?;
    conditions.add_some("model = ?", filter.model.as_ref())?;
    conditions.add_some("provider = ?", filter.provider.as_ref())?;
    if let Some(within) = &filter.within {
        conditions.add_within(&WITHIN, within);
    }
    Ok(())
}

const WITHIN: WithinColumns = WithinColumns {
    user: "user_id = ?",
    teams: &["team_id IN ?"],
    organizations: &["organization_id IN ?"],
};

pub(super) async fn page<S: Session>(
    session: &mut S,
    filter: &UsageFilter,
    page: Page,
) -> Result<Listed<UsageRecord>, StoreError> {
    let mut conditions = Conditions::new(session.dialect());
    conditions.add_some("request_id = ?", filter.request_id.as_ref())?;
    shared(&mut conditions, filter)?;
    conditions.add("start_time >= ?", &filter.first_day.start())?;
    conditions.add("start_time < ?", &filter.last_day.plus(1).start())?;
    let now = UnixMillis(0);
    if filter.request_id.is_some() {
        return list(session, conditions, NEWEST_FIRST, page, now).await;
    }
    // Counting millions of records would take longer than reading a page of them.
    let (table, _, (condition, parameters)) = sums_of(session, filter, None)?;
    let sql =
        format!("SELECT CAST(coalesce(sum(log_records), 0) AS BIGINT) FROM {table}{condition}");
    let total = count(session, &sql, parameters).await?;
    list_of(session, conditions.build(), NEWEST_FIRST, page, now, total).await
}

type Built = (String, Vec<Value>);

/// The table that has the sums which a filter and a dimension ask for, the column of that dimension in it, and the
/// conditions.
fn sums_of<S: Session>(
    session: &S,
    filter: &UsageFilter,
    dimension: Option<Dimension>,
) -> Result<(&'static str, &'static str, Built), StoreError> {
    if filter.request_id.is_some() {
        return Err(StoreError::invalid("request_id", "sums are not kept by request"));
    }
    let mut conditions = Conditions::new(session.dialect());
    let days = |conditions: &mut Conditions| {
        conditions.add("day >= ?", &filter.first_day.0)?;
        conditions.add("day <= ?", &filter.last_day.0)
    };
    if let Some((kind, id)) = group(filter, dimension) {
        conditions.add("kind = ?", &kind.to_owned())?;
        conditions.add_some("id = ?", id)?;
        days(&mut conditions)?;
        let column = if dimension == Some(Dimension::Day) { "day" } else { "id" };
        return Ok((GROUPS.table, column, conditions.build()));
    }
    shared(&mut conditions, filter)?;
    days(&mut conditions)?;
    let (column, by_tenant) = match dimension {
        None | Some(Dimension::Day) => ("day", false),
        Some(Dimension::Model) => ("model", false),
        Some(Dimension::Provider) => ("provider", false),
        Some(Dimension::Key) => ("token_id", true),
        Some(Dimension::Team) => ("team_id", true),
        Some(Dimension::User) => ("user_id", true),
        Some(Dimension::Organization) => ("organization_id", true),
    };
    let all_tenants = tenants(filter).iter().all(|id| id.is_none()) && filter.within.is_none();
    let sums = if all_tenants && !by_tenant { TOTAL } else { DETAIL };
    Ok((sums.table, column, conditions.build()))
}

/// The tenants of a filter: key, user, team, organization.
fn tenants(filter: &UsageFilter) -> [&Option<String>; 4] {
    [&filter.token_id, &filter.user_id, &filter.team_id, &filter.organization_id]
}

/// The kind of groups and the one of them that have all that is asked for, if there is such a kind.
fn group(
    filter: &UsageFilter,
    dimension: Option<Dimension>,
) -> Option<(&'static str, Option<&String>)> {
    if filter.model.is_some() || filter.provider.is_some() || filter.within.is_some() {
        return None;
    }
    match (dimension, tenants(filter)) {
        (None | Some(Dimension::Day | Dimension::Team), [None, None, Some(id), None]) => {
            Some((TEAM, Some(id)))
        }
        (None | Some(Dimension::Day | Dimension::Organization), [None, None, None, Some(id)]) => {
            Some((ORGANIZATION, Some(id)))
        }
        (Some(Dimension::Team), [None, None, None, None]) => Some((TEAM, None)),
        (Some(Dimension::Organization), [None, None, None, None]) => Some((ORGANIZATION, None)),
        _ => None,
    }
}

/// Sums of BIGINT are NUMERIC in PostgreSQL.
fn sums() -> String {
    SUMS.map(|column| format!("CAST(sum({column}) AS BIGINT)")).join(", ")
}

pub(super) async fn totals<S: Session>(
    session: &mut S,
    filter: &UsageFilter,
) -> Result<UsageTotals, StoreError> {
    let (table, _, (condition, parameters)) = sums_of(session, filter, None)?;
    let sql = format!("SELECT {} FROM {table}{condition}", sums());
    let row = session.query(&sql, parameters).await?.pop().unwrap_or_default();
    rollup::load(&mut row.into_iter())
}

pub(super) async fn by<S: Session>(
    session: &mut S,
    dimension: Dimension,
    filter: &UsageFilter,
    page: Page,
) -> Result<Listed<SpendRow>, StoreError> {
    let (table, column, (condition, mut parameters)) = sums_of(session, filter, Some(dimension))?;
    let order = match dimension {
        Dimension::Day => "day".to_owned(),
        _ => format!("sum(spend) DESC, {column}"),
    };
    let all = parameters.clone();
    let limit = parameters.len() + 1;
    let offset = u64::from(page.number() - 1) * u64::from(page.size());
    parameters.extend([page.size().store()?, offset.store()?]);
    // The number of groups comes along: to make the groups is what takes time.
    let sql = format!(
        "SELECT {column}, {}, count(*) OVER () FROM {table}{condition} GROUP BY {column} ORDER BY {order} \
         LIMIT ${limit} OFFSET ${}",
        sums(),
        limit + 1
    );
    let rows = session.query(&sql, parameters).await?;
    let total = match rows.first().and_then(|row| row.last()) {
        Some(total) => u64::load(total.clone())?,
        None if page.number() == 1 => 0,
        None => {
            let sql = format!("SELECT count(DISTINCT {column}) FROM {table}{condition}");
            count(session, &sql, all).await?
        }
    };
    let data = rows
        .into_iter()
        .map(|row| {
            let mut row = row.into_iter();
            let name = match dimension {
                Dimension::Day => Day(next(&mut row)?).to_string(),
                _ => next(&mut row)?,
            };
            Ok(SpendRow { name, totals: rollup::load(&mut row)? })
        })
        .collect::<Result<_, StoreError>>()?;
    Ok(Listed { data, total, page: page.number(), page_size: page.size() })
}

pub(super) async fn expire<S: Session>(
    session: &mut S,
    before: UnixMillis,
    limit: u32,
) -> Result<u64, StoreError> {
    let sql = format!(
        "DELETE FROM usage_records WHERE id IN \
         (SELECT id FROM usage_records WHERE start_time < $1 ORDER BY start_time, id LIMIT $2) RETURNING {}",
        names::<UsageRecord>().join(", ")
    );
    let rows = session.query(&sql, vec![before.store()?, limit.store()?]).await?;
    let records: Vec<UsageRecord> = rows.into_iter().map(load).collect::<Result<_, _>>()?;
    rollup::forget(session, &records).await?;
    Ok(records.len() as u64)
}
