use serde::{Deserialize, Serialize};

use crate::tenants::{Day, Role, UnixMillis};

/// A part of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    number: u32,
    size: u32,
}

impl Page {
    /// The largest page.
    pub const MAX_SIZE: u32 = 1000;

    /// Makes the page of this number, from 1 on, and size. `None` if one is 0 or the size is over
    /// [`Page::MAX_SIZE`].
    pub const fn new(number: u32, size: u32) -> Option<Self> {
        if number == 0 || size == 0 || size > Self::MAX_SIZE {
            return None;
        }
        Some(Self { number, size })
    }

    /// Makes the first page, of `size` entries; at least 1 and at most [`Page::MAX_SIZE`].
    pub fn first(size: u32) -> Self {
        Self { number: 1, size: size.clamp(1, Self::MAX_SIZE) }
    }

    /// Returns its number, from 1 on.
    pub const fn number(self) -> u32 {
        self.number
    }

    /// Returns its size.
    pub const fn size(self) -> u32 {
        self.size
    }
}

/// A page of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed<T> {
    /// The entries.
    pub data: Vec<T>,
    /// How many entries all pages have.
    pub total: u64,
    /// The page's number, from 1 on.
    pub page: u32,
    /// How many entries a page has at most.
    pub page_size: u32,
}

/// What somebody may see: all that belongs to one of these.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Within {
    /// A user.
    pub user_id: Option<String>,
    /// Teams.
    pub team_ids: Vec<String>,
    /// Organizations, with their teams.
    pub organization_ids: Vec<String>,
}

/// Which keys to list. Absent conditions hold for all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyFilter {
    /// Those of this user.
    pub user_id: Option<String>,
    /// Those of this team.
    pub team_id: Option<String>,
    /// Those of this organization or of its teams.
    pub organization_id: Option<String>,
    /// The one of this alias.
    pub key_alias: Option<String>,
    /// Those whose alias begins so; lower and upper case of ASCII letters are the same.
    pub search: Option<String>,
    /// Those that belong to one of these.
    pub within: Option<Within>,
    /// The one that spent most first, instead of the newest; what counts is the present window of its budget.
    pub dearest_first: bool,
}

/// Which teams to list. Absent conditions hold for all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TeamFilter {
    /// Those of this organization.
    pub organization_id: Option<String>,
    /// Those that this user is a member of.
    pub user_id: Option<String>,
    /// The one of this alias.
    pub team_alias: Option<String>,
    /// Those whose alias begins so; lower and upper case of ASCII letters are the same.
    pub search: Option<String>,
    /// Those that belong to one of these.
    pub within: Option<Within>,
    /// The one that spent most first, instead of the newest; what counts is the present window of its budget.
    pub dearest_first: bool,
}

/// Which users to list. Absent conditions hold for all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserFilter {
    /// Members of this team.
    pub team_id: Option<String>,
    /// Members of this organization.
    pub organization_id: Option<String>,
    /// Those with this role.
    pub role: Option<Role>,
    /// Those whose id, address or alias begins so; lower and upper case of ASCII letters are the same.
    pub search: Option<String>,
    /// Those that belong to one of these.
    pub within: Option<Within>,
    /// The one that spent most first, instead of the newest; what counts is the present window of its budget.
    pub dearest_first: bool,
}

/// Which organizations to list. Absent conditions hold for all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OrganizationFilter {
    /// Those that this user is a member of.
    pub user_id: Option<String>,
    /// The one of this alias.
    pub organization_alias: Option<String>,
}

/// Which places to list. Absent conditions hold for all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberFilter {
    /// Those in this team or organization.
    pub group_id: Option<String>,
    /// Those of this user.
    pub user_id: Option<String>,
}

/// Which management writes to list. Absent conditions hold for all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Those of this writer.
    pub changed_by: Option<String>,
    /// Those that did this.
    pub action: Option<String>,
    /// Those to this kind of object.
    pub table_name: Option<String>,
    /// Those to this object.
    pub object_id: Option<String>,
    /// Those at or after this time.
    pub start: Option<UnixMillis>,
    /// Those before this time.
    pub end: Option<UnixMillis>,
}

/// Which usage to list or sum: all of a span of days that meets all conditions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageFilter {
    /// The first day.
    pub first_day: Day,
    /// The last day; it belongs to the span.
    pub last_day: Day,
    /// Usage of the key of this id.
    pub token_id: Option<String>,
    /// Usage of this team.
    pub team_id: Option<String>,
    /// Usage of this user.
    pub user_id: Option<String>,
    /// Usage of this organization.
    pub organization_id: Option<String>,
    /// Usage of this model.
    pub model: Option<String>,
    /// Usage of this provider.
    pub provider: Option<String>,
    /// Usage of this request.
    pub request_id: Option<String>,
    /// Usage of one of these: as it was then, whatever belongs to whom now.
    pub within: Option<Within>,
}

impl UsageFilter {
    /// Takes all usage of a span of days, both of which belong to it.
    pub fn days(first_day: Day, last_day: Day) -> Self {
        Self {
            first_day,
            last_day,
            token_id: None,
            team_id: None,
            user_id: None,
            organization_id: None,
            model: None,
            provider: None,
            request_id: None,
            within: None,
        }
    }
}

/// By what usage is summed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dimension {
    /// By the day in UTC.
    Day,
    /// By the key's id.
    Key,
    /// By the team's id.
    Team,
    /// By the user's id.
    User,
    /// By the organization's id.
    Organization,
    /// By the model's configured name.
    Model,
    /// By the provider.
    Provider,
}
