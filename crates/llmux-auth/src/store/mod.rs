//! Where tenants, usage and the audit log are kept.
//!
//! [`Store`] has narrow methods, each of them atomic. Two databases implement it, with the same behaviour: SQLite
//! (feature `sqlite`, one file) and PostgreSQL (feature `postgres`, shared by replicas). No method reads a clock: times
//! are arguments, and what is read is rolled to the budget windows of the time that was given.

mod error;
mod query;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod sql;

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use crate::tenants::{
    AuditRecord, Key, KeyHash, KeyPatch, KeyRef, MemberRole, Organization, OrganizationMember,
    OrganizationMemberPatch, OrganizationPatch, OrganizationRole, SpendRow, Team, TeamMember,
    TeamMemberPatch, TeamPatch, UnixMillis, UsageRecord, UsageTotals, User, UserPatch,
};

pub use error::StoreError;
pub use query::{
    AuditFilter, Dimension, KeyFilter, Listed, MemberFilter, OrganizationFilter, Page, TeamFilter,
    UsageFilter, UserFilter, Within,
};
#[cfg(feature = "postgres")]
pub use sql::postgres::{PostgresConfig, SslMode};
#[cfg(feature = "sqlite")]
pub use sql::sqlite::{SqliteConfig, Synchronous};

/// A boxed future: beside I/O a box is nothing, and `dyn Store` needs it.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The future of a store's answer.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

/// An object before and after an update.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Updated<T> {
    /// What it was.
    pub before: T,
    /// What it is.
    pub after: T,
}

/// All that deciding about a key's calls needs, as of one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySnapshot {
    /// The key.
    pub key: Key,
    /// Its team.
    pub team: Option<Team>,
    /// Its user.
    pub user: Option<User>,
    /// Its organization, or else its team's.
    pub organization: Option<Organization>,
    /// Its user's place in its team.
    pub team_member: Option<TeamMember>,
    /// The teams of its user, sorted by id.
    pub team_roles: Vec<(String, MemberRole)>,
    /// The organizations of its user, sorted by id.
    pub organization_roles: Vec<(String, OrganizationRole)>,
}

/// Something that caches of tenants must forget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The key of this hash.
    Key(KeyHash),
    /// This team, with its members and keys.
    Team(String),
    /// This user, with the user's places and keys.
    User(String),
    /// This organization, with its members, teams and keys.
    Organization(String),
    /// All of them: the connection was lost, and with it perhaps some changes. Told when it is lost, and again when
    /// there is a new one.
    Everything,
}

/// Tells of changes made by any process that shares the store.
pub trait Changes: Send + fmt::Debug {
    /// Waits for the next change. `None`: the store was closed.
    fn next(&mut self) -> BoxFuture<'_, Option<Change>>;
}

/// Tenants, usage and the audit log. Each method is one transaction.
///
/// All methods fail with [`StoreError::Unavailable`] if the database cannot be reached or is too busy (the same call may
/// succeed later), and with [`StoreError::Corrupt`] if it holds what the gateway did not write. Ids that are named
/// and unknown are [`StoreError::NotFound`].
pub trait Store: Send + Sync + fmt::Debug {
    /// Tells whether the database answers.
    fn ping(&self) -> Answer<'_, ()>;

    /// Starts to listen for changes. `None`: only this process changes the store.
    fn changes(&self) -> Answer<'_, Option<Box<dyn Changes>>>;

    /// Reads what deciding about a key's calls needs. `None`: there is no such key.
    fn snapshot<'a>(
        &'a self,
        token: &'a KeyHash,
        now: UnixMillis,
    ) -> Answer<'a, Option<KeySnapshot>>;

    /// Adds a key. Fails with [`StoreError::Conflict`] if its hash, id or alias is taken, and with
    /// [`StoreError::MissingReference`] if its user, team or organization does not exist.
    fn insert_key<'a>(&'a self, key: &'a Key) -> Answer<'a, ()>;

    /// Reads a key.
    fn key<'a>(&'a self, key: &'a KeyRef, now: UnixMillis) -> Answer<'a, Option<Key>>;

    /// Changes a key; fails like [`Store::insert_key`].
    fn update_key<'a>(
        &'a self,
        key: &'a KeyRef,
        patch: KeyPatch,
        by: Option<String>,
        now: UnixMillis,
    ) -> Answer<'a, Updated<Key>>;

    /// Gives a key a new secret. Its id, spend and settings stay; the old secret is worth nothing from then on.
    fn regenerate_key<'a>(
        &'a self,
        key: &'a KeyRef,
        token: KeyHash,
        key_name: String,
        by: Option<String>,
        now: UnixMillis,
    ) -> Answer<'a, Updated<Key>>;

    /// Deletes keys, all or none, and returns them.
    fn delete_keys<'a>(&'a self, keys: &'a [KeyRef]) -> Answer<'a, Vec<Key>>;

    /// Lists keys, newest first unless the filter says otherwise.
    fn list_keys<'a>(
        &'a self,
        filter: &'a KeyFilter,
        page: Page,
        now: UnixMillis,
    ) -> Answer<'a, Listed<Key>>;

    /// Writes down when keys, named by `token_id`, were last used. Earlier times and unknown keys are passed over.
    fn touch_last_used<'a>(&'a self, uses: &'a [(String, UnixMillis)]) -> Answer<'a, ()>;

    /// Adds a team and its members. Fails with [`StoreError::Conflict`] if its id or alias is taken, and with
    /// [`StoreError::MissingReference`] if its organization or a member's user does not exist.
    fn insert_team<'a>(&'a self, team: &'a Team, members: &'a [TeamMember]) -> Answer<'a, ()>;

    /// Reads a team.
    fn team<'a>(&'a self, team_id: &'a str, now: UnixMillis) -> Answer<'a, Option<Team>>;

    /// Changes a team; fails like [`Store::insert_team`].
    fn update_team<'a>(
        &'a self,
        team_id: &'a str,
        patch: TeamPatch,
        now: UnixMillis,
    ) -> Answer<'a, Updated<Team>>;

    /// Deletes teams with their members and keys, all or none, and returns them.
    fn delete_teams<'a>(&'a self, team_ids: &'a [String]) -> Answer<'a, Vec<Team>>;

    /// Lists teams, newest first unless the filter says otherwise.
    fn list_teams<'a>(
        &'a self,
        filter: &'a TeamFilter,
        page: Page,
        now: UnixMillis,
    ) -> Answer<'a, Listed<Team>>;

    /// Adds members to teams, all or none. Fails with [`StoreError::Conflict`] if one is a member already, and with
    /// [`StoreError::MissingReference`] if its team or user does not exist.
    fn add_team_members<'a>(&'a self, members: &'a [TeamMember]) -> Answer<'a, ()>;

    /// Reads a member of a team.
    fn team_member<'a>(
        &'a self,
        team_id: &'a str,
        user_id: &'a str,
        now: UnixMillis,
    ) -> Answer<'a, Option<TeamMember>>;

    /// Changes a member of a team.
    fn update_team_member<'a>(
        &'a self,
        team_id: &'a str,
        user_id: &'a str,
        patch: TeamMemberPatch,
        now: UnixMillis,
    ) -> Answer<'a, Updated<TeamMember>>;

    /// Removes members from a team, all or none, and returns them.
    fn delete_team_members<'a>(
        &'a self,
        team_id: &'a str,
        user_ids: &'a [String],
    ) -> Answer<'a, Vec<TeamMember>>;

    /// Lists members of teams by team and user. The filter's `group_id` is a team's.
    fn list_team_members<'a>(
        &'a self,
        filter: &'a MemberFilter,
        page: Page,
        now: UnixMillis,
    ) -> Answer<'a, Listed<TeamMember>>;

    /// Adds a user. Fails with [`StoreError::Conflict`] if the id or address is taken.
    fn insert_user<'a>(&'a self, user: &'a User) -> Answer<'a, ()>;

    /// Reads a user.
    fn user<'a>(&'a self, user_id: &'a str, now: UnixMillis) -> Answer<'a, Option<User>>;

    /// Changes a user; fails like [`Store::insert_user`].
    fn update_user<'a>(
        &'a self,
        user_id: &'a str,
        patch: UserPatch,
        now: UnixMillis,
    ) -> Answer<'a, Updated<User>>;

    /// Deletes users with their places and keys, all or none, and returns them.
    fn delete_users<'a>(&'a self, user_ids: &'a [String]) -> Answer<'a, Vec<User>>;

    /// Lists users, newest first unless the filter says otherwise.
    fn list_users<'a>(
        &'a self,
        filter: &'a UserFilter,
        page: Page,
        now: UnixMillis,
    ) -> Answer<'a, Listed<User>>;

    /// Adds an organization and its members. Fails with [`StoreError::Conflict`] if its id or alias is taken, and with
    /// [`StoreError::MissingReference`] if a member's user does not exist.
    fn insert_organization<'a>(
        &'a self,
        organization: &'a Organization,
        members: &'a [OrganizationMember],
    ) -> Answer<'a, ()>;

    /// Reads an organization.
    fn organization<'a>(
        &'a self,
        organization_id: &'a str,
        now: UnixMillis,
    ) -> Answer<'a, Option<Organization>>;

    /// Changes an organization; fails like [`Store::insert_organization`].
    fn update_organization<'a>(
        &'a self,
        organization_id: &'a str,
        patch: OrganizationPatch,
        by: Option<String>,
        now: UnixMillis,
    ) -> Answer<'a, Updated<Organization>>;

    /// Deletes organizations with their members, all or none, and returns them. Fails with [`StoreError::InUse`] while
    /// one has teams or keys.
    fn delete_organizations<'a>(
        &'a self,
        organization_ids: &'a [String],
    ) -> Answer<'a, Vec<Organization>>;

    /// Lists organizations, newest first.
    fn list_organizations<'a>(
        &'a self,
        filter: &'a OrganizationFilter,
        page: Page,
        now: UnixMillis,
    ) -> Answer<'a, Listed<Organization>>;

    /// Adds members to organizations, all or none; fails like [`Store::add_team_members`].
    fn add_organization_members<'a>(&'a self, members: &'a [OrganizationMember]) -> Answer<'a, ()>;

    /// Changes a member of an organization.
    fn update_organization_member<'a>(
        &'a self,
        organization_id: &'a str,
        user_id: &'a str,
        patch: OrganizationMemberPatch,
        now: UnixMillis,
    ) -> Answer<'a, Updated<OrganizationMember>>;

    /// Removes members from an organization, all or none, and returns them.
    fn delete_organization_members<'a>(
        &'a self,
        organization_id: &'a str,
        user_ids: &'a [String],
    ) -> Answer<'a, Vec<OrganizationMember>>;

    /// Lists members of organizations by organization and user. The filter's `group_id` is an organization's.
    fn list_organization_members<'a>(
        &'a self,
        filter: &'a MemberFilter,
        page: Page,
    ) -> Answer<'a, Listed<OrganizationMember>>;

    /// Writes down what a management write did.
    fn append_audit<'a>(&'a self, record: &'a AuditRecord) -> Answer<'a, ()>;

    /// Lists management writes, newest first.
    fn list_audit<'a>(
        &'a self,
        filter: &'a AuditFilter,
        page: Page,
    ) -> Answer<'a, Listed<AuditRecord>>;

    /// Deletes at most `limit` management writes that are older than `before`; returns how many.
    fn delete_audit_before(&self, before: UnixMillis, limit: u32) -> Answer<'_, u64>;

    /// Writes down usage: the records, their days' sums, and the spend of their keys, users, teams, team members and
    /// organizations, all or nothing. Records whose id is known already count for nothing. Returns how many were new.
    /// Fails with [`StoreError::Invalid`] for a record that will never be taken: with an id of no or more than 256 bytes,
    /// NUL in an id, more than 2^40 tokens of a kind, or a cost that is below 0 or over 10,000,000 US dollars.
    /// Models, providers and request ids are cut to 256 bytes, and NUL in texts that may be a client's is replaced.
    fn append_usage<'a>(&'a self, records: &'a [UsageRecord]) -> Answer<'a, u64>;

    /// Lists usage records, newest first. The total comes from the days' sums unless the filter names a request.
    fn list_usage<'a>(
        &'a self,
        filter: &'a UsageFilter,
        page: Page,
    ) -> Answer<'a, Listed<UsageRecord>>;

    /// Sums usage, from the days' sums: they outlive the records. A filter by request is
    /// [`StoreError::Invalid`].
    fn usage_totals<'a>(&'a self, filter: &'a UsageFilter) -> Answer<'a, UsageTotals>;

    /// Sums usage by days in their order, or by something else, the dearest first; otherwise like
    /// [`Store::usage_totals`].
    fn usage_by<'a>(
        &'a self,
        dimension: Dimension,
        filter: &'a UsageFilter,
        page: Page,
    ) -> Answer<'a, Listed<SpendRow>>;

    /// Deletes at most `limit` usage records that began before `before`, the oldest first; their days' sums stay.
    /// Returns how many.
    fn delete_usage_before(&self, before: UnixMillis, limit: u32) -> Answer<'_, u64>;
}
