use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Budget, KeyHash, Limits, UnixMillis};

/// Makes an enum whose variants have one name each, in JSON and in the database.
macro_rules! named {
    ($(#[$meta:meta])* $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum $name { $($(#[$variant_meta])* #[serde(rename = $text)] $variant,)* }

        impl $name {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Returns the name.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// Finds the one of this name.
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|one| one.as_str() == name)
            }
        }
    };
}
pub(crate) use named;

named! {
    /// What a user may do with the management routes.
    Role {
        /// Everything.
        ProxyAdmin = "proxy_admin",
        /// Read everything.
        ProxyAdminViewer = "proxy_admin_viewer",
        /// Manage the organizations that the user is an admin of.
        OrgAdmin = "org_admin",
        /// Manage own keys.
        InternalUser = "internal_user",
        /// Read own keys and spend.
        InternalUserViewer = "internal_user_viewer",
    }
}

named! {
    /// What a member may do in a team.
    MemberRole {
        /// Manage the team.
        Admin = "admin",
        /// Use it.
        User = "user",
    }
}

named! {
    /// What a member may do in an organization.
    OrganizationRole {
        /// Manage the organization.
        OrgAdmin = "org_admin",
        /// Use it.
        InternalUser = "internal_user",
        /// Read.
        InternalUserViewer = "internal_user_viewer",
    }
}

named! {
    /// Which routes a key is for.
    #[derive(Default)]
    KeyType {
        /// All that its user may use.
        #[default]
        Default = "default",
        /// Models only.
        LlmApi = "llm_api",
        /// Management only.
        Management = "management",
        /// Reading only.
        ReadOnly = "read_only",
    }
}

/// A key. Its secret is not in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// The hash of its secret.
    pub token: KeyHash,
    /// The id that survives a regenerate.
    pub token_id: String,
    /// The masked secret.
    pub key_name: String,
    /// A unique name.
    pub key_alias: Option<String>,
    /// Which routes it is for.
    #[serde(default)]
    pub key_type: KeyType,
    /// Whose it is.
    pub user_id: Option<String>,
    /// The team it spends for.
    pub team_id: Option<String>,
    /// The organization it spends for.
    pub organization_id: Option<String>,
    /// The tags that its clients may ask for.
    #[serde(default)]
    pub tags: Vec<String>,
    /// The operator's notes.
    #[serde(default)]
    pub metadata: Map<String, Value>,
    /// Whether it is blocked.
    #[serde(default)]
    pub blocked: bool,
    /// From when on it is not valid any more.
    pub expires: Option<UnixMillis>,
    /// Its limits.
    #[serde(flatten)]
    pub limits: Limits,
    /// Its budget.
    #[serde(flatten)]
    pub budget: Budget,
    /// When it was last used, as far as it is written down.
    pub last_used_at: Option<UnixMillis>,
    /// When it was made.
    pub created_at: UnixMillis,
    /// By whom.
    pub created_by: Option<String>,
    /// When it was last changed.
    pub updated_at: UnixMillis,
    /// By whom.
    pub updated_by: Option<String>,
}

/// A team.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Team {
    /// Its id.
    pub team_id: String,
    /// A unique name.
    pub team_alias: Option<String>,
    /// The organization it belongs to.
    pub organization_id: Option<String>,
    /// The tags that its clients may ask for.
    #[serde(default)]
    pub tags: Vec<String>,
    /// The operator's notes.
    #[serde(default)]
    pub metadata: Map<String, Value>,
    /// Whether it is blocked.
    #[serde(default)]
    pub blocked: bool,
    /// Its limits.
    #[serde(flatten)]
    pub limits: Limits,
    /// Its budget.
    #[serde(flatten)]
    pub budget: Budget,
    /// When it was made.
    pub created_at: UnixMillis,
    /// When it was last changed.
    pub updated_at: UnixMillis,
}

/// A user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Its id.
    pub user_id: String,
    /// A name.
    pub user_alias: Option<String>,
    /// A unique address.
    pub user_email: Option<String>,
    /// What the user may do with the management routes.
    pub user_role: Role,
    /// The operator's notes.
    #[serde(default)]
    pub metadata: Map<String, Value>,
    /// The user's limits.
    #[serde(flatten)]
    pub limits: Limits,
    /// The user's budget.
    #[serde(flatten)]
    pub budget: Budget,
    /// When the user was made.
    pub created_at: UnixMillis,
    /// When the user was last changed.
    pub updated_at: UnixMillis,
}

/// An organization.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Organization {
    /// Its id.
    pub organization_id: String,
    /// A unique name.
    pub organization_alias: Option<String>,
    /// The operator's notes.
    #[serde(default)]
    pub metadata: Map<String, Value>,
    /// Its limits.
    #[serde(flatten)]
    pub limits: Limits,
    /// Its budget.
    #[serde(flatten)]
    pub budget: Budget,
    /// When it was made.
    pub created_at: UnixMillis,
    /// By whom.
    pub created_by: Option<String>,
    /// When it was last changed.
    pub updated_at: UnixMillis,
    /// By whom.
    pub updated_by: Option<String>,
}

/// A user's place in a team.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TeamMember {
    /// The team.
    pub team_id: String,
    /// The user.
    pub user_id: String,
    /// What the user may do in it.
    pub role: MemberRole,
    /// What the user may spend in it.
    #[serde(flatten)]
    pub budget: Budget,
    /// Since when.
    pub created_at: UnixMillis,
    /// When it was last changed.
    pub updated_at: UnixMillis,
}

/// A user's place in an organization.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrganizationMember {
    /// The organization.
    pub organization_id: String,
    /// The user.
    pub user_id: String,
    /// What the user may do in it.
    pub user_role: OrganizationRole,
    /// Since when.
    pub created_at: UnixMillis,
    /// When it was last changed.
    pub updated_at: UnixMillis,
}
