//! Partial updates: a field that is absent is kept, `null` clears it, a value replaces it. Unknown fields are errors.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    Budget, Key, KeyType, Limits, MemberRole, ModelBudget, Money, Organization, OrganizationMember,
    OrganizationRole, Patch, Period, Role, Team, TeamMember, UnixMillis, User,
};

/// Makes a struct of patches.
macro_rules! patch {
    ($(#[$meta:meta])* $name:ident { $($(#[$field_meta:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct $name {
            $($(#[$field_meta])* #[serde(skip_serializing_if = "Patch::is_keep")] pub $field: Patch<$type>,)*
        }
    };
    // With the fields that all holders of a budget have.
    (budget $(#[$meta:meta])* $name:ident { $($rest:tt)* }) => {
        patch! { $(#[$meta])* $name {
            $($rest)*
            /// See [`Budget`].
            max_budget: Money,
            /// See [`Budget`].
            soft_budget: Money,
            /// See [`Budget`].
            budget_duration: Period,
            /// See [`Budget`].
            model_max_budget: BTreeMap<String, ModelBudget>,
        } }

        impl $name {
            fn apply_budget(&mut self, budget: &mut Budget, now: UnixMillis) {
                let take = std::mem::take::<Patch<Period>>;
                match take(&mut self.budget_duration) {
                    Patch::Keep => {}
                    Patch::Clear => budget.set_duration(None, now),
                    Patch::Set(duration) => budget.set_duration(Some(duration), now),
                }
                match std::mem::take(&mut self.model_max_budget) {
                    Patch::Keep => {}
                    Patch::Clear => budget.set_models(BTreeMap::new(), now),
                    Patch::Set(models) => budget.set_models(models, now),
                }
                std::mem::take(&mut self.max_budget).apply(&mut budget.max_budget);
                std::mem::take(&mut self.soft_budget).apply(&mut budget.soft_budget);
            }
        }
    };
    // With the fields that all holders of limits and a budget have.
    (limits $(#[$meta:meta])* $name:ident { $($rest:tt)* }) => {
        patch! { budget $(#[$meta])* $name {
            $($rest)*
            /// See [`Limits`].
            models: Vec<String>,
            /// See [`Limits`].
            rpm_limit: u64,
            /// See [`Limits`].
            tpm_limit: u64,
            /// See [`Limits`].
            max_parallel_requests: u64,
            /// See [`Limits`].
            model_rpm_limit: BTreeMap<String, u64>,
            /// See [`Limits`].
            model_tpm_limit: BTreeMap<String, u64>,
        } }

        impl $name {
            fn apply_limits(&mut self, limits: &mut Limits, budget: &mut Budget, now: UnixMillis) {
                self.apply_budget(budget, now);
                std::mem::take(&mut self.models).apply_or_default(&mut limits.models);
                std::mem::take(&mut self.rpm_limit).apply(&mut limits.rpm_limit);
                std::mem::take(&mut self.tpm_limit).apply(&mut limits.tpm_limit);
                std::mem::take(&mut self.max_parallel_requests).apply(&mut limits.max_parallel_requests);
                std::mem::take(&mut self.model_rpm_limit).apply_or_default(&mut limits.model_rpm_limit);
                std::mem::take(&mut self.model_tpm_limit).apply_or_default(&mut limits.model_tpm_limit);
            }
        }
    };
}

patch! { limits
    /// Changes a key.
    KeyPatch {
        /// See [`Key`].
        key_alias: String,
        /// See [`Key`].
        key_type: KeyType,
        /// See [`Key`].
        user_id: String,
        /// See [`Key`].
        team_id: String,
        /// See [`Key`].
        organization_id: String,
        /// See [`Key`].
        tags: Vec<String>,
        /// See [`Key`].
        metadata: Map<String, Value>,
        /// See [`Key`].
        blocked: bool,
        /// See [`Key`].
        expires: UnixMillis,
    }
}

patch! { limits
    /// Changes a team.
    TeamPatch {
        /// See [`Team`].
        team_alias: String,
        /// See [`Team`].
        organization_id: String,
        /// See [`Team`].
        tags: Vec<String>,
        /// See [`Team`].
        metadata: Map<String, Value>,
        /// See [`Team`].
        blocked: bool,
    }
}

patch! { limits
    /// Changes a user.
    UserPatch {
        /// See [`User`].
        user_alias: String,
        /// See [`User`].
        user_email: String,
        /// See [`User`]; `null` makes an internal user.
        user_role: Role,
        /// See [`User`].
        metadata: Map<String, Value>,
    }
}

patch! { limits
    /// Changes an organization.
    OrganizationPatch {
        /// See [`Organization`].
        organization_alias: String,
        /// See [`Organization`].
        metadata: Map<String, Value>,
    }
}

patch! { budget
    /// Changes a member of a team.
    TeamMemberPatch {
        /// See [`TeamMember`]; `null` makes a mere user.
        role: MemberRole,
    }
}

patch! {
    /// Changes a member of an organization.
    OrganizationMemberPatch {
        /// See [`OrganizationMember`]; `null` makes an internal user.
        user_role: OrganizationRole,
    }
}

impl KeyPatch {
    /// Changes `key`; `by` says who does it.
    pub fn apply(mut self, key: &mut Key, by: Option<String>, now: UnixMillis) {
        self.apply_limits(&mut key.limits, &mut key.budget, now);
        self.key_alias.apply(&mut key.key_alias);
        self.key_type.apply_or_default(&mut key.key_type);
        self.user_id.apply(&mut key.user_id);
        self.team_id.apply(&mut key.team_id);
        self.organization_id.apply(&mut key.organization_id);
        self.tags.apply_or_default(&mut key.tags);
        self.metadata.apply_or_default(&mut key.metadata);
        self.blocked.apply_or_default(&mut key.blocked);
        self.expires.apply(&mut key.expires);
        key.updated_at = now;
        key.updated_by = by;
    }
}

impl TeamPatch {
    /// Changes `team`.
    pub fn apply(mut self, team: &mut Team, now: UnixMillis) {
        self.apply_limits(&mut team.limits, &mut team.budget, now);
        self.team_alias.apply(&mut team.team_alias);
        self.organization_id.apply(&mut team.organization_id);
        self.tags.apply_or_default(&mut team.tags);
        self.metadata.apply_or_default(&mut team.metadata);
        self.blocked.apply_or_default(&mut team.blocked);
        team.updated_at = now;
    }
}

impl UserPatch {
    /// Changes `user`.
    pub fn apply(mut self, user: &mut User, now: UnixMillis) {
        self.apply_limits(&mut user.limits, &mut user.budget, now);
        self.user_alias.apply(&mut user.user_alias);
        self.user_email.apply(&mut user.user_email);
        apply_or(self.user_role, &mut user.user_role, Role::InternalUser);
        self.metadata.apply_or_default(&mut user.metadata);
        user.updated_at = now;
    }
}

impl OrganizationPatch {
    /// Changes `organization`; `by` says who does it.
    pub fn apply(mut self, organization: &mut Organization, by: Option<String>, now: UnixMillis) {
        self.apply_limits(&mut organization.limits, &mut organization.budget, now);
        self.organization_alias.apply(&mut organization.organization_alias);
        self.metadata.apply_or_default(&mut organization.metadata);
        organization.updated_at = now;
        organization.updated_by = by;
    }
}

impl TeamMemberPatch {
    /// Changes `member`.
    pub fn apply(mut self, member: &mut TeamMember, now: UnixMillis) {
        self.apply_budget(&mut member.budget, now);
        apply_or(self.role, &mut member.role, MemberRole::User);
        member.updated_at = now;
    }
}

impl OrganizationMemberPatch {
    /// Changes `member`.
    pub fn apply(self, member: &mut OrganizationMember, now: UnixMillis) {
        apply_or(self.user_role, &mut member.user_role, OrganizationRole::InternalUser);
        member.updated_at = now;
    }
}

fn apply_or<T>(patch: Patch<T>, field: &mut T, default: T) {
    match patch {
        Patch::Keep => {}
        Patch::Clear => *field = default,
        Patch::Set(value) => *field = value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_null_and_value_differ() {
        let patch: TeamPatch =
            serde_json::from_str(r#"{"rpm_limit": null, "tpm_limit": 0}"#).unwrap();
        assert_eq!(patch.rpm_limit, Patch::Clear);
        assert_eq!(patch.tpm_limit, Patch::Set(0));
        assert_eq!(patch.max_budget, Patch::Keep);
        assert_eq!(serde_json::to_string(&patch).unwrap(), r#"{"rpm_limit":null,"tpm_limit":0}"#);
    }

    #[test]
    fn unknown_fields_are_errors_that_name_them() {
        let error = serde_json::from_str::<KeyPatch>(r#"{"max_bugdet": 1}"#).unwrap_err();
        assert!(error.to_string().contains("max_bugdet"), "{error}");
    }
}
