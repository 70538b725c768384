use std::fmt::Write as _;

use super::value::{Column, Value};
use super::{Dialect, StoreError};
use crate::store::Within;

/// The conditions that something is a user's, a team's or an organization's. `?` stands for the user, `IN ?` for being among
/// the teams or organizations.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WithinColumns {
    pub(crate) user: &'static str,
    pub(crate) teams: &'static [&'static str],
    pub(crate) organizations: &'static [&'static str],
}

/// The conditions of a query, and its parameters in their order.
#[derive(Debug)]
pub(crate) struct Conditions {
    dialect: Dialect,
    sql: String,
    parameters: Vec<Value>,
}

impl Conditions {
    pub(crate) const fn new(dialect: Dialect) -> Self {
        Self { dialect, sql: String::new(), parameters: Vec::new() }
    }

    /// Adds a condition in which `?` stands for the value, any number of times. It must be one that nothing meets if
    /// nothing has the value.
    pub(crate) fn add(&mut self, condition: &str, value: &impl Column) -> Result<(), StoreError> {
        match value.store() {
            Ok(value) => {
                let parameter = self.parameter(value);
                self.push(&condition.replace('?', &parameter));
            }
            // Nothing has a value that cannot be stored.
            Err(StoreError::Invalid { .. }) => self.push("FALSE"),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Adds a condition if there is a value.
    pub(crate) fn add_some(
        &mut self,
        condition: &str,
        value: Option<&impl Column>,
    ) -> Result<(), StoreError> {
        value.map_or(Ok(()), |value| self.add(condition, value))
    }

    /// Adds that `columns` are one of these ids.
    pub(crate) fn add_any(&mut self, columns: &[&str], lists: Vec<Vec<String>>) {
        let first = self.parameters.len() + 1;
        let condition = self.dialect.any(columns, first);
        self.parameters.extend(lists.into_iter().map(Value::Texts));
        self.push(&condition);
    }

    /// Adds that something is within reach.
    pub(crate) fn add_within(&mut self, columns: &WithinColumns, within: &Within) {
        let mut any = Vec::new();
        if let Some(id) = within.user_id.as_ref().filter(|id| !id.contains('\0')) {
            let parameter = self.parameter(Value::Text(id.clone()));
            any.push(columns.user.replace('?', &parameter));
        }
        for (ids, conditions) in
            [(&within.team_ids, columns.teams), (&within.organization_ids, columns.organizations)]
        {
            let ids: Vec<String> = ids.iter().filter(|id| !id.contains('\0')).cloned().collect();
            if !ids.is_empty() && !conditions.is_empty() {
                let among = self.dialect.among(self.parameters.len() + 1);
                self.parameters.push(Value::Texts(ids));
                any.extend(conditions.iter().map(|condition| condition.replace("IN ?", &among)));
            }
        }
        any.retain(|condition| !condition.is_empty());
        self.push(&if any.is_empty() {
            "FALSE".to_owned()
        } else {
            format!("({})", any.join(" OR "))
        });
    }

    /// Adds that one of `columns` begins with `prefix`, lower and upper case being the same. A range, which an index on
    /// `lower(column)` serves.
    pub(crate) fn add_prefix(
        &mut self,
        columns: &[&str],
        prefix: Option<&String>,
    ) -> Result<(), StoreError> {
        let Some(prefix) = prefix.filter(|prefix| !prefix.is_empty()) else { return Ok(()) };
        let prefix = prefix.to_ascii_lowercase();
        if prefix.contains('\0') {
            self.push("FALSE");
            return Ok(());
        }
        let from = self.parameter(prefix.store()?);
        let to = self.parameter(format!("{prefix}{}", char::MAX).store()?);
        let ranges: Vec<String> = columns
            .iter()
            .map(|column| format!("(lower({column}) >= {from} AND lower({column}) < {to})"))
            .collect();
        self.push(&format!("({})", ranges.join(" OR ")));
        Ok(())
    }

    fn parameter(&mut self, value: Value) -> String {
        self.parameters.push(value);
        format!("${}", self.parameters.len())
    }

    fn push(&mut self, condition: &str) {
        self.sql.push_str(if self.sql.is_empty() { " WHERE " } else { " AND " });
        self.sql.push_str(condition);
    }

    /// Returns the WHERE clause, which may be empty, and the parameters.
    pub(crate) fn build(self) -> (String, Vec<Value>) {
        (self.sql, self.parameters)
    }
}

/// `($1, $2), ($3, $4)`: `rows` rows of `columns` parameters.
pub(crate) fn placeholders(rows: usize, columns: usize) -> String {
    let mut out = String::with_capacity(rows * columns * "$1000, ".len());
    for row in 0..rows {
        out.push_str(if row == 0 { "(" } else { ", (" });
        for column in 1..=columns {
            out.push_str(if column == 1 { "$" } else { ", $" });
            // Writing into memory does not fail.
            let _ = write!(out, "{}", row * columns + column);
        }
        out.push(')');
    }
    out
}
