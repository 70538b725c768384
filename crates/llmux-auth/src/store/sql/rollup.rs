//! The sums of each day.

use std::collections::BTreeMap;

use super::records::insert_all;
use super::value::{Column as _, Value};
use super::{Session, StoreError};
use crate::tenants::{Money, UsageRecord, UsageStatus, UsageTotals};

/// A table of sums, and the columns by which it is divided.
#[derive(Debug)]
pub(super) struct Sums {
    pub(super) table: &'static str,
    keys: &'static [&'static str],
}

/// Divided by all that filters ask for.
pub(super) const DETAIL: Sums = Sums {
    table: "daily_usage",
    keys: &["day", "token_id", "team_id", "user_id", "organization_id", "model", "provider"],
};
/// Not divided by tenants.
pub(super) const TOTAL: Sums = Sums { table: "daily_totals", keys: &["day", "model", "provider"] };
/// Those of each team and organization as a whole.
pub(super) const GROUPS: Sums = Sums { table: "daily_groups", keys: &["kind", "day", "id"] };
/// What `daily_groups.kind` says.
pub(super) const TEAM: &str = "team";
pub(super) const ORGANIZATION: &str = "organization";

/// What is summed, in the order of [`UsageTotals`]' fields.
pub(super) const SUMS: [&str; 8] = [
    "api_requests",
    "attempts",
    "failed_attempts",
    "cache_hits",
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "spend",
];

/// Where a record is summed: the values of a table's columns.
type Place<'a> = Vec<Cell<'a>>;

/// In this order all writers write, so that two do not wait for each other.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Cell<'a> {
    Day(i64),
    Text(&'a str),
}

/// The places of a record in each table; all tables in the same order for all writers.
fn places(record: &UsageRecord) -> [(&'static Sums, Vec<Place<'_>>); 3] {
    let day = || Cell::Day(record.start_time.day().0);
    fn some(id: &Option<String>) -> Cell<'_> {
        Cell::Text(id.as_deref().unwrap_or_default())
    }
    let detail = vec![
        day(),
        some(&record.token_id),
        some(&record.team_id),
        some(&record.user_id),
        some(&record.organization_id),
        Cell::Text(&record.model),
        some(&record.provider),
    ];
    let total = vec![day(), Cell::Text(&record.model), some(&record.provider)];
    let groups = vec![
        vec![Cell::Text(TEAM), day(), some(&record.team_id)],
        vec![Cell::Text(ORGANIZATION), day(), some(&record.organization_id)],
    ];
    [(&DETAIL, vec![detail]), (&TOTAL, vec![total]), (&GROUPS, groups)]
}

/// What records sum up to in each place of each table.
fn sum<'a, T: Default>(
    records: impl IntoIterator<Item = &'a UsageRecord>,
    plus: impl Fn(&mut T, &UsageRecord),
) -> [(&'static Sums, BTreeMap<Place<'a>, T>); 3] {
    let mut all = [&DETAIL, &TOTAL, &GROUPS].map(|sums| (sums, BTreeMap::<Place<'a>, T>::new()));
    for record in records {
        for ((_, sums), (_, places)) in all.iter_mut().zip(places(record)) {
            for place in places {
                plus(sums.entry(place).or_default(), record);
            }
        }
    }
    all
}

fn plus(sums: &mut UsageTotals, record: &UsageRecord) {
    // Answers from the cache have no attempt.
    sums.api_requests += u64::from(record.attempt <= 1);
    sums.attempts += 1;
    sums.failed_attempts += u64::from(record.status != UsageStatus::Success);
    sums.cache_hits += u64::from(record.cache_hit);
    sums.prompt_tokens = sums.prompt_tokens.saturating_add(record.prompt_tokens);
    sums.completion_tokens = sums.completion_tokens.saturating_add(record.completion_tokens);
    sums.total_tokens = sums.total_tokens.saturating_add(record.total_tokens);
    sums.spend = sums.spend.saturating_add(record.spend);
}

fn values(place: &Place<'_>) -> Result<Vec<Value>, StoreError> {
    place
        .iter()
        .map(|cell| match cell {
            Cell::Day(day) => day.store(),
            Cell::Text(text) => (*text).to_owned().store(),
        })
        .collect()
}

/// Adds records that are new.
pub(super) async fn add<S: Session>(
    session: &mut S,
    records: &[&UsageRecord],
) -> Result<(), StoreError> {
    for (sums, places) in sum(records.iter().copied(), plus) {
        upsert(session, sums, places).await?;
    }
    Ok(())
}

async fn upsert<S: Session>(
    session: &mut S,
    Sums { table, keys }: &Sums,
    sums: BTreeMap<Place<'_>, UsageTotals>,
) -> Result<(), StoreError> {
    let columns: Vec<&str> = keys.iter().copied().chain(["log_records"]).chain(SUMS).collect();
    let rows = sums
        .iter()
        .map(|(place, sums)| {
            let mut row = values(place)?;
            row.push(sums.attempts.store()?);
            for number in [
                sums.api_requests,
                sums.attempts,
                sums.failed_attempts,
                sums.cache_hits,
                sums.prompt_tokens,
                sums.completion_tokens,
                sums.total_tokens,
            ] {
                row.push(number.store()?);
            }
            row.push(sums.spend.store()?);
            Ok(row)
        })
        .collect::<Result<_, StoreError>>()?;
    let additions: Vec<String> = ["log_records"]
        .into_iter()
        .chain(SUMS)
        .map(|column| format!("{column} = {table}.{column} + excluded.{column}"))
        .collect();
    let tail = format!(" ON CONFLICT ({}) DO UPDATE SET {}", keys.join(", "), additions.join(", "));
    insert_all(session, table, &columns, rows, &tail).await.map(|_| ())
}

/// Takes deleted records out of the counts of those that are still there.
pub(super) async fn forget<S: Session>(
    session: &mut S,
    records: &[UsageRecord],
) -> Result<(), StoreError> {
    for (Sums { table, keys }, counts) in sum(records, |count: &mut i64, _| *count += 1) {
        let conditions: Vec<String> =
            keys.iter().enumerate().map(|(i, key)| format!("{key} = ${}", i + 1)).collect();
        let sql = format!(
            "UPDATE {table} SET log_records = log_records - ${} WHERE {}",
            keys.len() + 1,
            conditions.join(" AND ")
        );
        let parameters = counts
            .iter()
            .map(|(place, count)| {
                let mut row = values(place)?;
                row.push(Value::Int(*count));
                Ok(row)
            })
            .collect::<Result<_, StoreError>>()?;
        session.execute_each(&sql, parameters).await?;
    }
    Ok(())
}

/// Loads the columns of [`SUMS`], which are null where nothing was summed.
pub(super) fn load(row: &mut impl Iterator<Item = Value>) -> Result<UsageTotals, StoreError> {
    let mut number = || -> Result<u64, StoreError> {
        super::value::next::<Option<u64>>(row).map(Option::unwrap_or_default)
    };
    let mut totals = UsageTotals {
        api_requests: number()?,
        attempts: number()?,
        failed_attempts: number()?,
        cache_hits: number()?,
        prompt_tokens: number()?,
        completion_tokens: number()?,
        total_tokens: number()?,
        spend: Money::ZERO,
    };
    totals.spend = super::value::next::<Option<Money>>(row)?.unwrap_or_default();
    Ok(totals)
}
