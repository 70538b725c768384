//! Who may do what with tenants. Pure: what is asked about is an argument, and what is not allowed here is refused.
//!
//! A key may do what its user may: the user's role, the teams and organizations that the user is an admin of, and
//! within these what the type of the key leaves. A key without a user may look at itself.
//!
//! ```
//! use llmux_auth::Caller;
//! use llmux_auth::roles::{Action, Actor, Target};
//!
//! let master = Actor::of(&Caller::Master);
//! assert!(master.may(Action::Create, &Target::User { user_id: None }));
//! assert!(!Actor::of(&Caller::Anonymous).may(Action::Read, &Target::Gateway));
//! ```

use crate::Caller;
use crate::tenants::{KeyType, MemberRole, OrganizationRole, Role};

/// What is done to a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Look at it.
    Read,
    /// Make it. Of a key also: give it a new secret, another holder or type; of members: add.
    Create,
    /// Change what has no part in limits and budgets. Of a key: anything but what [`Action::Create`] names.
    Change,
    /// Change its limits or its budget, or block it.
    Limit,
    /// Delete it; of members: remove.
    Delete,
}

impl Action {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Read, Self::Create, Self::Change, Self::Limit, Self::Delete];
}

/// What something is done to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// A key, as it is or shall be.
    Key(KeyTarget<'a>),
    /// A team.
    Team {
        /// Its id; `None`: a new one.
        team_id: Option<&'a str>,
        /// The organization it belongs to.
        organization_id: Option<&'a str>,
    },
    /// The members of a team, with what they may spend in it.
    TeamMembers {
        /// The team.
        team_id: &'a str,
        /// The organization that the team belongs to.
        organization_id: Option<&'a str>,
    },
    /// A user.
    User {
        /// The user's id; `None`: a new one, or any.
        user_id: Option<&'a str>,
    },
    /// An organization.
    Organization {
        /// Its id; `None`: a new one, or any.
        organization_id: Option<&'a str>,
    },
    /// The members of an organization.
    OrganizationMembers {
        /// The organization.
        organization_id: &'a str,
    },
    /// The gateway as a whole: all figures, the audit log, the deployments.
    Gateway,
}

/// A key that something is done to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyTarget<'a> {
    /// Its id; `None`: a new one.
    pub token_id: Option<&'a str>,
    /// Its user.
    pub user_id: Option<&'a str>,
    /// Its team.
    pub team_id: Option<&'a str>,
    /// Its organization, or else its team's.
    pub organization_id: Option<&'a str>,
    /// Its type.
    pub key_type: KeyType,
    /// Whether its user is a member of its team, or, if it has no team, of its organization.
    pub is_member: bool,
}

/// The tenants whose figures and objects an actor may read. Empty: none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// All there are: the rest says nothing then.
    pub everything: bool,
    /// The key that was presented.
    pub token_id: Option<String>,
    /// The actor itself, with its keys.
    pub user_id: Option<String>,
    /// The teams that the actor is an admin of.
    pub team_ids: Vec<String>,
    /// The organizations that the actor is an admin of, with their teams and keys.
    pub organization_ids: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rank {
    /// Everything.
    Admin,
    /// Reads everything.
    Viewer,
    /// What belongs to the user, and what the user is an admin of.
    User { writes: bool },
    /// Looks at the presented key.
    Bare,
    /// Nothing.
    Nobody,
}

/// Somebody who asks for something on the management plane.
#[derive(Clone, Debug)]
pub struct Actor {
    rank: Rank,
    /// The presented key may only read.
    is_reading: bool,
    token_id: Option<String>,
    user_id: Option<String>,
    teams: Vec<(String, MemberRole)>,
    organizations: Vec<(String, OrganizationRole)>,
}

impl Actor {
    /// Finds out what a caller may do.
    pub fn of(caller: &Caller) -> Self {
        let mut actor = Self {
            rank: Rank::Nobody,
            is_reading: false,
            token_id: None,
            user_id: None,
            teams: Vec::new(),
            organizations: Vec::new(),
        };
        let tenant = match caller {
            Caller::Master => return Self { rank: Rank::Admin, ..actor },
            Caller::Anonymous => return actor,
            Caller::Key(tenant) => tenant,
        };
        actor.token_id = Some(tenant.key.token_id.clone());
        actor.is_reading = tenant.key.key_type == KeyType::ReadOnly;
        if tenant.key.key_type == KeyType::LlmApi {
            return actor;
        }
        let Some(user) = &tenant.user else { return Self { rank: Rank::Bare, ..actor } };
        actor.user_id = Some(user.user_id.clone());
        actor.teams.clone_from(&tenant.team_roles);
        actor.organizations.clone_from(&tenant.organization_roles);
        actor.rank = match user.user_role {
            Role::ProxyAdmin => Rank::Admin,
            Role::ProxyAdminViewer => Rank::Viewer,
            Role::OrgAdmin | Role::InternalUser => Rank::User { writes: true },
            Role::InternalUserViewer => Rank::User { writes: false },
        };
        actor
    }

    /// Returns what the audit log calls the actor: the user's id, or `master`, or else nothing.
    pub fn name(&self) -> &str {
        match (&self.user_id, self.rank) {
            (Some(user_id), _) => user_id,
            (None, Rank::Admin) => "master",
            (None, _) => "",
        }
    }

    /// Returns the user, if the presented key has one.
    pub fn user_id(&self) -> Option<&str> {
        self.user_id.as_deref()
    }

    /// Returns the id of the presented key.
    pub fn token_id(&self) -> Option<&str> {
        self.token_id.as_deref()
    }

    /// Tells whether the actor may do everything.
    pub fn is_proxy_admin(&self) -> bool {
        self.rank == Rank::Admin && !self.is_reading
    }

    /// Tells whether the actor may read everything.
    pub fn reads_everything(&self) -> bool {
        matches!(self.rank, Rank::Admin | Rank::Viewer)
    }

    /// Tells whether the actor may do this.
    pub fn may(&self, action: Action, target: &Target<'_>) -> bool {
        let reads = action == Action::Read;
        match self.rank {
            Rank::Nobody => false,
            Rank::Admin | Rank::Viewer if reads => true,
            Rank::Viewer => false,
            _ if self.is_reading && !reads => false,
            Rank::Admin => true,
            Rank::Bare => matches!(
                target,
                Target::Key(key) if reads && key.token_id.is_some() && key.token_id == self.token_id()
            ),
            Rank::User { writes } if !writes && !reads => false,
            Rank::User { .. } => self.may_as_user(action, target),
        }
    }

    fn may_as_user(&self, action: Action, target: &Target<'_>) -> bool {
        let reads = action == Action::Read;
        match *target {
            Target::Key(ref key) => self.may_with_key(action, key),
            Target::Team { team_id, organization_id } => {
                self.administers_organization(organization_id)
                    || match action {
                        Action::Read => self.role_in_team(team_id).is_some(),
                        Action::Change => self.administers_team(team_id),
                        Action::Create | Action::Limit | Action::Delete => false,
                    }
            }
            Target::TeamMembers { team_id, organization_id } => {
                self.administers_team(Some(team_id))
                    || self.administers_organization(organization_id)
            }
            Target::User { user_id } => reads && user_id.is_some() && user_id == self.user_id(),
            Target::Organization { organization_id } => {
                reads && self.administers_organization(organization_id)
            }
            Target::OrganizationMembers { organization_id } => {
                self.administers_organization(Some(organization_id))
            }
            Target::Gateway => false,
        }
    }

    fn may_with_key(&self, action: Action, key: &KeyTarget<'_>) -> bool {
        let own = key.user_id.is_some() && key.user_id == self.user_id();
        let administered = self.administers_team(key.team_id)
            || self.administers_organization(key.organization_id);
        match action {
            Action::Read => {
                own || administered || (key.token_id.is_some() && key.token_id == self.token_id())
            }
            // Who learns the secret of somebody else's key must not get that user's rights with it.
            Action::Create if administered && !own => match key.user_id {
                None => true,
                Some(_) => key.is_member && key.key_type == KeyType::LlmApi,
            },
            Action::Create | Action::Change | Action::Limit | Action::Delete => {
                administered || (own && self.belongs(key))
            }
        }
    }

    /// Tells whether the actor may use what the key spends for.
    fn belongs(&self, key: &KeyTarget<'_>) -> bool {
        match (key.team_id, key.organization_id) {
            (Some(_), _) => self.role_in_team(key.team_id).is_some(),
            (None, Some(organization_id)) => self.organizations.iter().any(|(id, role)| {
                id == organization_id && *role != OrganizationRole::InternalUserViewer
            }),
            (None, None) => true,
        }
    }

    fn role_in_team(&self, team_id: Option<&str>) -> Option<MemberRole> {
        let team_id = team_id?;
        self.teams.iter().find(|(id, _)| id == team_id).map(|(_, role)| *role)
    }

    fn administers_team(&self, team_id: Option<&str>) -> bool {
        self.role_in_team(team_id) == Some(MemberRole::Admin)
    }

    fn administers_organization(&self, organization_id: Option<&str>) -> bool {
        self.organizations.iter().any(|(id, role)| {
            Some(id.as_str()) == organization_id && *role == OrganizationRole::OrgAdmin
        })
    }

    /// Says what the actor may read. A list or a sum takes this as its filter: what is in the reach of any of its parts
    /// may be shown.
    pub fn reach(&self) -> Reach {
        match self.rank {
            Rank::Nobody => Reach::default(),
            Rank::Admin | Rank::Viewer => Reach { everything: true, ..Reach::default() },
            Rank::Bare => Reach { token_id: self.token_id.clone(), ..Reach::default() },
            Rank::User { .. } => Reach {
                everything: false,
                token_id: self.token_id.clone(),
                user_id: self.user_id.clone(),
                team_ids: administered(&self.teams, MemberRole::Admin),
                organization_ids: administered(&self.organizations, OrganizationRole::OrgAdmin),
            },
        }
    }
}

fn administered<T: PartialEq>(roles: &[(String, T)], admin: T) -> Vec<String> {
    roles.iter().filter(|(_, role)| *role == admin).map(|(id, _)| id.clone()).collect()
}

#[cfg(test)]
mod tests;
