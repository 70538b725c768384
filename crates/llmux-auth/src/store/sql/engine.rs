//! The store over any database. Arguments are copied, since SQLite works on them in another thread.

use std::sync::Arc;

use super::migrate::{self, Migration};
use super::{
    Answer, Backend, Mode, Session as _, StoreError, audit, keys, members, organizations, records,
    teams, usage, users,
};
use crate::store::{
    AuditFilter, Changes, Dimension, KeyFilter, KeySnapshot, Listed, MemberFilter,
    OrganizationFilter, Page, Store, TeamFilter, Updated, UsageFilter, UserFilter,
};
use crate::tenants::{
    AuditRecord, Key, KeyHash, KeyPatch, KeyRef, Organization, OrganizationMember,
    OrganizationMemberPatch, OrganizationPatch, SpendRow, Team, TeamMember, TeamMemberPatch,
    TeamPatch, UnixMillis, UsageRecord, UsageTotals, User, UserPatch,
};

/// A store in SQL.
#[derive(Debug)]
pub(crate) struct Engine<B> {
    backend: B,
}

impl<B: Backend> Engine<B> {
    pub(super) async fn migrated(
        backend: B,
        steps: &'static [Migration],
        now: UnixMillis,
    ) -> Result<Self, StoreError> {
        migrate::run(&backend, steps, now).await?;
        Ok(Self { backend })
    }
}

impl<B: Backend> Store for Engine<B> {
    fn ping(&self) -> Answer<'_, ()> {
        self.backend.run(Mode::Read, |s| {
            Box::pin(async move { s.query("SELECT 1", Vec::new()).await.map(|_| ()) })
        })
    }

    fn changes(&self) -> Answer<'_, Option<Box<dyn Changes>>> {
        self.backend.changes()
    }

    fn snapshot<'a>(
        &'a self,
        token: &'a KeyHash,
        now: UnixMillis,
    ) -> Answer<'a, Option<KeySnapshot>> {
        let token = token.clone();
        self.backend
            .run(Mode::Read, move |s| Box::pin(async move { keys::snapshot(s, &token, now).await }))
    }

    fn insert_key<'a>(&'a self, key: &'a Key) -> Answer<'a, ()> {
        let key = key.clone();
        self.backend.run(Mode::Write, move |s| Box::pin(async move { keys::add(s, &key).await }))
    }

    fn key<'a>(&'a self, key: &'a KeyRef, now: UnixMillis) -> Answer<'a, Option<Key>> {
        let key = key.clone();
        self.backend
            .run(Mode::Read, move |s| Box::pin(async move { keys::read(s, &key, now).await }))
    }

    fn update_key<'a>(
        &'a self,
        key: &'a KeyRef,
        patch: KeyPatch,
        by: Option<String>,
        now: UnixMillis,
    ) -> Answer<'a, Updated<Key>> {
        let key = key.clone();
        self.backend.run(Mode::Write, move |s| {
            Box::pin(async move { keys::patch(s, &key, patch, by, now).await })
        })
    }

    fn regenerate_key<'a>(
        &'a self,
        key: &'a KeyRef,
        token: KeyHash,
        key_name: String,
        by: Option<String>,
        now: UnixMillis,
    ) -> Answer<'a, Updated<Key>> {
        let key = key.clone();
        self.backend.run(Mode::Write, move |s| {
            Box::pin(async move { keys::regenerate(s, &key, (token, key_name), by, now).await })
        })
    }

    fn delete_keys<'a>(&'a self, keys: &'a [KeyRef]) -> Answer<'a, Vec<Key>> {
        let keys = keys.to_vec();
        self.backend
            .run(Mode::Write, move |s| Box::pin(async move { keys::remove(s, &keys).await }))
    }

    fn list_keys<'a>(
        &'a self,
        filter: &'a KeyFilter,
        page: Page,
        now: UnixMillis,
    ) -> Answer<'a, Listed<Key>> {
        let filter = filter.clone();
        self.backend.run(Mode::Read, move |s| {
            Box::pin(async move { keys::page(s, &filter, page, now).await })
        })
    }

    fn touch_last_used<'a>(&'a self, uses: &'a [(String, UnixMillis)]) -> Answer<'a, ()> {
        let uses = uses.to_vec();
        self.backend.run(Mode::Write, move |s| Box::pin(async move { keys::touch(s, &uses).await }))
    }

    fn insert_team<'a>(&'a self, team: &'a Team, members: &'a [TeamMember]) -> Answer<'a, ()> {
        let team = team.clone();
        let members = members.to_vec();
        self.backend.run(Mode::Write, move |s| {
            Box::pin(async move { teams::add(s, &team, &members).await })
        })
    }

    fn team<'a>(&'a self, team_id: &'a str, now: UnixMillis) -> Answer<'a, Option<Team>> {
        let team_id = team_id.to_owned();
        self.backend.run(Mode::Read, move |s| {
            Box::pin(async move { records::get(s, &[&team_id], now).await })
        })
    }

    fn update_team<'a>(
        &'a self,
        team_id: &'a str,
        patch: TeamPatch,
        now: UnixMillis,
    ) -> Answer<'a, Updated<Team>> {
        let team_id = team_id.to_owned();
        self.backend.run(Mode::Write, move |s| {
            Box::pin(async move { teams::patch(s, &team_id, patch, now).await })
        })
    }

    fn delete_teams<'a>(&'a self, team_ids: &'a [String]) -> Answer<'a, Vec<Team>> {
        let team_ids = team_ids.to_vec();
        self.backend
            .run(Mode::Write, move |s| Box::pin(async move { teams::remove(s, &team_ids).await }))
    }

    fn list_teams<'a>(
        &'a self,
        filter: &'a TeamFilter,
        page: Page,
        now: UnixMillis,
    ) -> Answer<'a, Listed<Team>> {
        let filter = filter.clone();
        self.backend.run(Mode::Read, move |s| {
            Box::pin(async move { teams::page(s, &filter, page, now).await })
        })
    }

    fn add_team_members<'a>(&'a self, members: &'a [TeamMember]) -> Answer<'a, ()> {
        let members = members.to_vec();
        self.backend.run(Mode::Write, move |s| {
            Box::pin(async move { members::add_to_teams(s, &members).await })
        })
    }

    fn team_member<'a>(
        &'a self,
        team_id: &'a str,
        user_id: &'a str,
        now: UnixMillis,
    ) -> Answer<'a, Option<TeamMember>> {
        let team_id = team_id.to_owned();
        let user_id = user_id.to_owned();
        self.backend.run(Mode::Read, move |s| {
            Box::pin(async move { records::get(s, &[&team_id, &user_id], now).await })
        })
    }

    fn update_team_member<'a>(
        &'a self,
        team_id: &'a str,
        user_id: &'a str,
        patch: TeamMemberPatch,
        now: UnixMillis,
    ) -> Answer<'a, Updated<TeamMember>> {
        let team_id = team_id.to_owned();
        let user_id = user_id.to_owned();
        self.backend.run(Mode::Write, move |s| {
            Box::pin(
                async move { members::patch_in_team(s, (&team_id, &user_id), patch, now).await },
            )
        })
    }

    fn delete_team_members<'a>(
        &'a self,
        team_id: &'a str,
        user_ids: &'a [String],
    ) -> Answer<'a, Vec<TeamMember>> {
        let team_id = team_id.to_owned();
        let user_ids = user_ids.to_vec();
        self.backend.run(Mode::Write, move |s| {
            Box::pin(async move { members::remove(s, &team_id, &user_ids).await })
        })
    }

    fn list_team_members<'a>(
        &'a self,
        filter: &'a MemberFilter,
        page: Page,
        now: UnixMillis,
    ) -> Answer<'a, Listed<TeamMember>> {
        let filter = filter.clone();
        self.backend.run(Mode::Read, move |s| {
            Box::pin(async move { members::page(s, &filter, page, now).await })
        })
    }

    fn insert_user<'a>(&'a self, user: &'a User) -> Answer<'a, ()> {
        let user = user.clone();
        self.backend.run(Mode::Write, move |s| Box::pin(async move { users::add(s, &user).await }))
    }

    fn user<'a>(&'a self, user_id: &'a str, now: UnixMillis) -> Answer<'a, Option<User>> {
        let user_id = user_id.to_owned();
        self.backend.run(Mode::Read, move |s| {
            Box::pin(async move { records::get(s, &[&user_id], now).await })
        })
    }

    fn update_user<'a>(
        &'a self,
        user_id: &'a str,
        patch: UserPatch,
        now: UnixMillis,
    ) -> Answer<'a, Updated<User>> {
        let user_id = user_id.to_owned();
        self.backend.run(Mode::Write, move |s| {
            Box::pin(async move { users::patch(s, &user_id, patch, now).await })
        })
    }

    fn delete_users<'a>(&'a self, user_ids: &'a [String]) -> Answer<'a, Vec<User>> {
        let user_ids = user_ids.to_vec();
        self.backend
            .run(Mode::Write, move |s| Box::pin(async move { users::remove(s, &user_ids).await }))
    }

    fn list_users<'a>(
        &'a self,
        filter: &'a UserFilter,
        page: Page,
        now: UnixMillis,
    ) -> Answer<'a, Listed<User>> {
        let filter = filter.clone();
        self.backend.run(Mode::Read, move |s| {
            Box::pin(async move { users::page(s, &filter, page, now).await })
        })
    }

    fn insert_organization<'a>(
        &'a self,
        organization: &'a Organization,
        members: &'a [OrganizationMember],
    ) -> Answer<'a, ()> {
        let organization = organization.clone();
        let members = members.to_vec();
        self.backend.run(Mode::Write, move |s| {
            Box::pin(async move { organizations::add(s, &organization, &members).await })
        })
    }

    fn organization<'a>(
        &'a self,
        organization_id: &'a str,
        now: UnixMillis,
    ) -> Answer<'a, Option<Organization>> {
        let organization_id = organization_id.to_owned();
        self.backend.run(Mode::Read, move |s| {
            Box::pin(async move { records::get(s, &[&organization_id], now).await })
        })
    }

    fn update_organization<'a>(
        &'a self,
        organization_id: &'a str,
        patch: OrganizationPatch,
        by: Option<String>,
        now: UnixMillis,
    ) -> Answer<'a, Updated<Organization>> {
        let organization_id = organization_id.to_owned();
        self.backend.run(Mode::Write, move |s| {
            Box::pin(async move { organizations::patch(s, &organization_id, patch, by, now).await })
        })
    }

    fn delete_organizations<'a>(
        &'a self,
        organization_ids: &'a [String],
    ) -> Answer<'a, Vec<Organization>> {
        let organization_ids = organization_ids.to_vec();
        self.backend.run(Mode::Write, move |s| {
            Box::pin(async move { organizations::remove(s, &organization_ids).await })
        })
    }

    fn list_organizations<'a>(
        &'a self,
        filter: &'a OrganizationFilter,
        page: Page,
        now: UnixMillis,
    ) -> Answer<'a, Listed<Organization>> {
        let filter = filter.clone();
        self.backend.run(Mode::Read, move |s| {
            Box::pin(async move { organizations::page(s, &filter, page, now).await })
        })
    }

    fn add_organization_members<'a>(&'a self, members: &'a [OrganizationMember]) -> Answer<'a, ()> {
        let members = members.to_vec();
        self.backend.run(Mode::Write, move |s| {
            Box::pin(async move { members::add_to_organizations(s, &members).await })
        })
    }

    fn update_organization_member<'a>(
        &'a self,
        organization_id: &'a str,
        user_id: &'a str,
        patch: OrganizationMemberPatch,
        now: UnixMillis,
    ) -> Answer<'a, Updated<OrganizationMember>> {
        let organization_id = organization_id.to_owned();
        let user_id = user_id.to_owned();
        self.backend.run(Mode::Write, move |s| {
            Box::pin(async move {
                members::patch_in_organization(s, (&organization_id, &user_id), patch, now).await
            })
        })
    }

    fn delete_organization_members<'a>(
        &'a self,
        organization_id: &'a str,
        user_ids: &'a [String],
    ) -> Answer<'a, Vec<OrganizationMember>> {
        let organization_id = organization_id.to_owned();
        let user_ids = user_ids.to_vec();
        self.backend.run(Mode::Write, move |s| {
            Box::pin(async move { members::remove(s, &organization_id, &user_ids).await })
        })
    }

    fn list_organization_members<'a>(
        &'a self,
        filter: &'a MemberFilter,
        page: Page,
    ) -> Answer<'a, Listed<OrganizationMember>> {
        let filter = filter.clone();
        self.backend.run(Mode::Read, move |s| {
            Box::pin(async move { members::page(s, &filter, page, UnixMillis(0)).await })
        })
    }

    fn append_audit<'a>(&'a self, record: &'a AuditRecord) -> Answer<'a, ()> {
        let record = record.clone();
        self.backend
            .run(Mode::Write, move |s| Box::pin(async move { audit::append(s, &record).await }))
    }

    fn list_audit<'a>(
        &'a self,
        filter: &'a AuditFilter,
        page: Page,
    ) -> Answer<'a, Listed<AuditRecord>> {
        let filter = filter.clone();
        self.backend
            .run(Mode::Read, move |s| Box::pin(async move { audit::page(s, &filter, page).await }))
    }

    fn delete_audit_before(&self, before: UnixMillis, limit: u32) -> Answer<'_, u64> {
        self.backend.run(Mode::Write, move |s| {
            Box::pin(async move { audit::expire(s, before, limit).await })
        })
    }

    fn append_usage<'a>(&'a self, records: &'a [UsageRecord]) -> Answer<'a, u64> {
        // Shared, since it is copied for each try.
        let records: Arc<[UsageRecord]> = records.into();
        self.backend
            .run(Mode::Write, move |s| Box::pin(async move { usage::append(s, &records).await }))
    }

    fn list_usage<'a>(
        &'a self,
        filter: &'a UsageFilter,
        page: Page,
    ) -> Answer<'a, Listed<UsageRecord>> {
        let filter = filter.clone();
        self.backend
            .run(Mode::Read, move |s| Box::pin(async move { usage::page(s, &filter, page).await }))
    }

    fn usage_totals<'a>(&'a self, filter: &'a UsageFilter) -> Answer<'a, UsageTotals> {
        let filter = filter.clone();
        self.backend
            .run(Mode::Read, move |s| Box::pin(async move { usage::totals(s, &filter).await }))
    }

    fn usage_by<'a>(
        &'a self,
        dimension: Dimension,
        filter: &'a UsageFilter,
        page: Page,
    ) -> Answer<'a, Listed<SpendRow>> {
        let filter = filter.clone();
        self.backend.run(Mode::Read, move |s| {
            Box::pin(async move { usage::by(s, dimension, &filter, page).await })
        })
    }

    fn delete_usage_before(&self, before: UnixMillis, limit: u32) -> Answer<'_, u64> {
        self.backend.run(Mode::Write, move |s| {
            Box::pin(async move { usage::expire(s, before, limit).await })
        })
    }
}
