//! The sums of each day.

use std::collections::BTreeMap;

use super::records::insert_all;
use super::value::{Column as _, Value};
use super::{Session, StoreError};
use crate::tenants::{Money, UsageRecord, UsageStatus, UsageTotals};

pub(super) const DETAIL: &str = "daily_usage";
pub(super) const TOTAL: &str = "daily_totals";

/// The columns by which `daily_usage` is divided.
const KEYS: [&str; 7] =
    ["day", "token_id", "team_id", "user_id", "organization_id", "model", "provider"];
/// Those of `daily_totals`.
const TOTAL_KEYS: [&str; 3] = ["day", "model", "provider"];
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

/// Where a record is summed: a day, and the texts of the other columns of [`KEYS`].
type Place = (i64, [String; 6]);

pub(super) fn place(record: &UsageRecord) -> Place {
    let text = |id: &Option<String>| id.clone().unwrap_or_default();
    let texts = [
        text(&record.token_id),
        text(&record.team_id),
        text(&record.user_id),
        text(&record.organization_id),
        record.model.clone(),
        text(&record.provider),
    ];
    (record.start_time.day().0, texts)
}

/// The place in `daily_totals`, in the same form.
fn total_place((day, [.., model, provider]): &Place) -> Place {
    let none = String::new;
    (*day, [none(), none(), none(), none(), model.clone(), provider.clone()])
}

fn plus(sums: &mut UsageTotals, record: &UsageRecord) {
    sums.api_requests += u64::from(record.attempt == 1);
    sums.attempts += 1;
    sums.failed_attempts += u64::from(record.status != UsageStatus::Success);
    sums.cache_hits += u64::from(record.cache_hit);
    sums.prompt_tokens = sums.prompt_tokens.saturating_add(record.prompt_tokens);
    sums.completion_tokens = sums.completion_tokens.saturating_add(record.completion_tokens);
    sums.total_tokens = sums.total_tokens.saturating_add(record.total_tokens);
    sums.spend = sums.spend.saturating_add(record.spend);
}

fn values((day, texts): &Place, detail: bool) -> Result<Vec<Value>, StoreError> {
    let texts = if detail { &texts[..] } else { &texts[4..] };
    std::iter::once(day.store()).chain(texts.iter().map(String::store)).collect()
}

/// Adds records that are new.
pub(super) async fn add<S: Session>(
    session: &mut S,
    records: &[&UsageRecord],
) -> Result<(), StoreError> {
    let mut details: BTreeMap<Place, UsageTotals> = BTreeMap::new();
    let mut totals: BTreeMap<Place, UsageTotals> = BTreeMap::new();
    for record in records {
        let place = place(record);
        plus(totals.entry(total_place(&place)).or_default(), record);
        plus(details.entry(place).or_default(), record);
    }
    upsert(session, DETAIL, &KEYS, details).await?;
    upsert(session, TOTAL, &TOTAL_KEYS, totals).await
}

/// In the order of their places, so that two writers do not wait for each other.
async fn upsert<S: Session>(
    session: &mut S,
    table: &str,
    keys: &[&str],
    sums: BTreeMap<Place, UsageTotals>,
) -> Result<(), StoreError> {
    let columns: Vec<&str> = keys.iter().copied().chain(["log_records"]).chain(SUMS).collect();
    let rows = sums
        .iter()
        .map(|(place, sums)| {
            let mut row = values(place, table == DETAIL)?;
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
    places: Vec<Place>,
) -> Result<(), StoreError> {
    let mut details: BTreeMap<Place, i64> = BTreeMap::new();
    let mut totals: BTreeMap<Place, i64> = BTreeMap::new();
    for place in places {
        *totals.entry(total_place(&place)).or_default() += 1;
        *details.entry(place).or_default() += 1;
    }
    for (table, keys, counts) in [(DETAIL, &KEYS[..], details), (TOTAL, &TOTAL_KEYS[..], totals)] {
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
                let mut row = values(place, table == DETAIL)?;
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
