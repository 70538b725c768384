use super::StoreError;
use super::value::{Value, next};
use crate::tenants::{
    AuditRecord, Budget, Key, Limits, Organization, OrganizationMember, Team, TeamMember,
    UnixMillis, UsageRecord, User,
};

/// Something that is stored in columns named like its fields.
pub(crate) trait Fields: Sized {
    fn names(names: &mut Vec<&'static str>);
    fn store(&self, values: &mut Vec<Value>) -> Result<(), StoreError>;
    fn load(row: &mut impl Iterator<Item = Value>) -> Result<Self, StoreError>;
}

/// Something that is stored in a table of its own.
pub(crate) trait Record: Fields + Send + Sync {
    /// The table.
    const TABLE: &'static str;
    /// What one is called.
    const WHAT: &'static str;
    /// The columns of its primary key.
    const ID: &'static [&'static str];

    /// Moves its budget on to the window of `now`.
    fn roll(&mut self, now: UnixMillis);
}

/// A record with a budget.
pub(crate) trait Spender: Record {
    fn budget(&mut self) -> &mut Budget;
}

macro_rules! fields {
    ($type:ty { $($field:ident)* } $({ $($nested:ident: $nested_type:ty)* })?) => {
        impl Fields for $type {
            fn names(names: &mut Vec<&'static str>) {
                names.extend([$(stringify!($field)),*]);
                $($(<$nested_type>::names(names);)*)?
            }

            fn store(&self, values: &mut Vec<Value>) -> Result<(), StoreError> {
                $(values.push(column(stringify!($field), &self.$field)?);)*
                $($(self.$nested.store(values)?;)*)?
                Ok(())
            }

            fn load(row: &mut impl Iterator<Item = Value>) -> Result<Self, StoreError> {
                Ok(Self {
                    $($field: next(row)?,)*
                    $($($nested: <$nested_type>::load(row)?,)*)?
                })
            }
        }
    };
}

macro_rules! record {
    ($type:ty, $table:literal, $what:literal, $id:expr, $roll:expr) => {
        impl Record for $type {
            const TABLE: &'static str = $table;
            const WHAT: &'static str = $what;
            const ID: &'static [&'static str] = $id;

            fn roll(&mut self, now: UnixMillis) {
                let roll: fn(&mut Self, UnixMillis) = $roll;
                roll(self, now);
            }
        }
    };
    ($($type:ty, $table:literal, $what:literal, $id:expr;)*) => {$(
        record!($type, $table, $what, $id, |it, now| it.budget.roll(now));

        impl Spender for $type {
            fn budget(&mut self) -> &mut Budget {
                &mut self.budget
            }
        }
    )*};
}

/// Stores a field, whose name an error gets.
fn column(name: &str, value: &impl super::value::Column) -> Result<Value, StoreError> {
    value.store().map_err(|error| match error {
        StoreError::Invalid { reason, .. } => StoreError::invalid(name, reason),
        other => other,
    })
}

fields!(Limits { models rpm_limit tpm_limit max_parallel_requests model_rpm_limit model_tpm_limit });
fields!(Budget {
    max_budget soft_budget budget_duration budget_reset_at model_max_budget spend model_spend budget_anchor_at
    spend_since
});
fields!(Key {
    token token_id key_name key_alias key_type user_id team_id organization_id tags metadata blocked expires
    last_used_at created_at created_by updated_at updated_by
} { limits: Limits budget: Budget });
fields!(Team {
    team_id team_alias organization_id tags metadata blocked created_at updated_at
} { limits: Limits budget: Budget });
fields!(User {
    user_id user_alias user_email user_role metadata created_at updated_at
} { limits: Limits budget: Budget });
fields!(Organization {
    organization_id organization_alias metadata created_at created_by updated_at updated_by
} { limits: Limits budget: Budget });
fields!(TeamMember { team_id user_id role created_at updated_at } { budget: Budget });
fields!(OrganizationMember { organization_id user_id user_role created_at updated_at });
fields!(AuditRecord {
    id updated_at changed_by changed_by_api_key action table_name object_id request_id before_value updated_values
});
fields!(UsageRecord {
    id request_id start_time end_time token_id team_id user_id organization_id end_user model upstream_model
    deployment_id provider call_type attempt status status_code error_code cache_hit stream prompt_tokens
    completion_tokens total_tokens cached_tokens cache_write_tokens reasoning_tokens spend time_to_first_token_ms
    request_tags metadata
});

record! {
    Key, "keys", "key", &["token_id"];
    Team, "teams", "team", &["team_id"];
    User, "users", "user", &["user_id"];
    Organization, "organizations", "organization", &["organization_id"];
    TeamMember, "team_members", "team member", &["team_id", "user_id"];
}
record!(
    OrganizationMember,
    "organization_members",
    "organization member",
    &["organization_id", "user_id"],
    |_, _| {}
);
record!(AuditRecord, "audit_log", "audit record", &["id"], |_, _| {});
record!(UsageRecord, "usage_records", "usage record", &["id"], |_, _| {});

/// The columns of a record, in the order in which it is stored and loaded.
pub(crate) fn names<R: Fields>() -> Vec<&'static str> {
    let mut names = Vec::new();
    R::names(&mut names);
    names
}

/// The values of a record's columns.
pub(crate) fn values<R: Fields>(record: &R) -> Result<Vec<Value>, StoreError> {
    let mut values = Vec::new();
    record.store(&mut values)?;
    Ok(values)
}

/// Loads a record that fills a row.
pub(crate) fn load<R: Fields>(row: Vec<Value>) -> Result<R, StoreError> {
    R::load(&mut row.into_iter())
}
