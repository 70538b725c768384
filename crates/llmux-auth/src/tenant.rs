//! A key with all that it belongs to: what its calls may use, and which limits and budgets they count in.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::allow::AllowLists;
use crate::gate::Request;
use crate::limits::{self, BudgetExceeded, Exceeded, Limiter, Scope, ScopeKind, Scopes, Unloaded};
use crate::store::KeySnapshot;
use crate::tenants::{Budget, KeyType, Limits, Money, UsageRecord};

/// Limits of keys that set none of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DefaultLimits {
    /// Requests per minute; `None`: no limit.
    pub requests_per_minute: Option<u64>,
    /// Tokens per minute; `None`: no limit.
    pub tokens_per_minute: Option<u64>,
}

/// Why a caller's request is not admitted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The key is for other routes.
    #[error("a key of the type {} is not for this route", .0.as_str())]
    Route(KeyType),
    /// The model is not in one of the lists of the key, its team, user or organization.
    #[error("the API key must not use the model {model}")]
    Model {
        /// As the client wrote it.
        model: String,
    },
    /// The key or its team has tags, and this is none of them.
    #[error("the API key must not ask for the tag {tag}")]
    Tag {
        /// As the client wrote it.
        tag: String,
    },
    /// A budget is used up, or does not have room for what the call may cost.
    #[error(transparent)]
    Budget(BudgetExceeded),
    /// A limit is reached.
    #[error(transparent)]
    Limit(Box<Exceeded>),
    /// It is not known what was spent: load it and ask again. See [`Limiter::load`].
    #[error("the spend of {} scopes is not loaded", .0.len())]
    Unknown(Vec<Unloaded>),
}

/// A key with all that it belongs to, as of one moment.
#[derive(Debug)]
pub struct Tenant {
    snapshot: KeySnapshot,
    /// Models that somebody has limits or a budget for.
    limited_models: BTreeSet<String>,
    /// The scopes of all other models.
    scopes: OnceLock<Scopes>,
    /// Those of the other models that were asked for.
    model_scopes: Mutex<BTreeMap<String, Scopes>>,
}

impl Deref for Tenant {
    type Target = KeySnapshot;

    fn deref(&self) -> &KeySnapshot {
        &self.snapshot
    }
}

impl From<KeySnapshot> for Tenant {
    fn from(snapshot: KeySnapshot) -> Self {
        let (scopes, model_scopes) = (OnceLock::new(), Mutex::default());
        let mut tenant = Self { snapshot, limited_models: BTreeSet::new(), scopes, model_scopes };
        let mut models = BTreeSet::new();
        for Holder { limits, budget, .. } in tenant.holders() {
            models.extend(budget.model_max_budget.keys().cloned());
            if let Some(limits) = limits {
                models.extend(limits.model_rpm_limit.keys().cloned());
                models.extend(limits.model_tpm_limit.keys().cloned());
            }
        }
        tenant.limited_models = models;
        tenant
    }
}

/// One holder of limits and a budget.
struct Holder<'a> {
    scope: Scope,
    limits: Option<&'a Limits>,
    budget: &'a Budget,
}

impl Tenant {
    /// Checks all that a request may be refused for whatever was spent and counted.
    ///
    /// # Errors
    /// [`Refused`], but for budgets and limits.
    pub fn check(&self, request: &Request<'_>) -> Result<(), Refused> {
        self.check_call()?;
        if !self.may_use(request.configured, request.requested) {
            return Err(Refused::Model { model: request.requested.to_owned() });
        }
        self.check_tags(request.tags)
    }

    /// Checks that the key may call models at all, which keys for management or for reading must not.
    const fn check_call(&self) -> Result<(), Refused> {
        match self.snapshot.key.key_type {
            KeyType::Default | KeyType::LlmApi => Ok(()),
            other @ (KeyType::Management | KeyType::ReadOnly) => Err(Refused::Route(other)),
        }
    }

    /// Checks that the key may look at the models.
    ///
    /// # Errors
    /// [`Refused::Route`] if it is for management.
    pub const fn check_list(&self) -> Result<(), Refused> {
        match self.snapshot.key.key_type {
            KeyType::Default | KeyType::LlmApi | KeyType::ReadOnly => Ok(()),
            other @ KeyType::Management => Err(Refused::Route(other)),
        }
    }

    /// Tells whether calls may use the model that is configured as `configured` and was asked for as `requested`.
    pub fn may_use(&self, configured: &str, requested: &str) -> bool {
        fn list(limits: &Limits) -> &[String] {
            &limits.models
        }
        let snapshot = &self.snapshot;
        let lists = AllowLists {
            key: Some(list(&snapshot.key.limits)),
            team: snapshot.team.as_ref().map(|team| list(&team.limits)),
            user: snapshot.user.as_ref().map(|user| list(&user.limits)),
            organization: snapshot.organization.as_ref().map(|other| list(&other.limits)),
            project: None,
        };
        lists.allow(configured, requested)
    }

    /// Checks the tags that a client asks for: where the key has tags, only those; where its team has, only those.
    ///
    /// # Errors
    /// [`Refused::Tag`] naming the first that is not allowed.
    pub fn check_tags(&self, tags: &[String]) -> Result<(), Refused> {
        let team = self.snapshot.team.as_ref().map(|team| &team.tags);
        for bound in [Some(&self.snapshot.key.tags), team].into_iter().flatten() {
            let foreign = tags.iter().find(|tag| !bound.is_empty() && !bound.contains(tag));
            if let Some(tag) = foreign {
                return Err(Refused::Tag { tag: tag.clone() });
            }
        }
        Ok(())
    }

    /// Returns the scopes in which a call of `model`, named as it is configured, counts. The defaults must be the same
    /// at each call.
    pub fn scopes(&self, limiter: &Limiter, defaults: &DefaultLimits, model: &str) -> Scopes {
        let find = |model| limiter.scopes(&Self::limited(&self.holders(), defaults, model));
        if !self.limited_models.contains(model) {
            return self.scopes.get_or_init(|| find(None)).clone();
        }
        let mut known = self.model_scopes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(scopes) = known.get(model) {
            return scopes.clone();
        }
        let scopes = find(Some(model));
        known.insert(model.to_owned(), scopes.clone());
        scopes
    }

    /// Returns the scopes of one model alone.
    pub(crate) fn scopes_of_model(&self, limiter: &Limiter, model: &str) -> Scopes {
        if !self.limited_models.contains(model) {
            return limiter.scopes(&[]);
        }
        let all = Self::limited(&self.holders(), &DefaultLimits::default(), Some(model));
        let own: Vec<_> = all.into_iter().filter(|(scope, _)| scope.model.is_some()).collect();
        limiter.scopes(&own)
    }

    fn holders(&self) -> Vec<Holder<'_>> {
        let snapshot = &self.snapshot;
        let ids = Ids {
            key: Some(&snapshot.key.token_id),
            user: snapshot.key.user_id.as_deref(),
            team: snapshot.key.team_id.as_deref(),
            organization: snapshot.organization.as_ref().map(|it| it.organization_id.as_str()),
        };
        let find = |kind| ids.scope(kind);
        let key = Some((&snapshot.key.limits, &snapshot.key.budget));
        let user = snapshot.user.as_ref().map(|user| (&user.limits, &user.budget));
        let team = snapshot.team.as_ref().map(|team| (&team.limits, &team.budget));
        let organization = snapshot.organization.as_ref().map(|it| (&it.limits, &it.budget));
        let member = snapshot.team_member.as_ref().map(|member| &member.budget);
        [
            (ScopeKind::Key, key.map(|(limits, budget)| (Some(limits), budget))),
            (ScopeKind::User, user.map(|(limits, budget)| (Some(limits), budget))),
            (ScopeKind::TeamMember, member.map(|budget| (None, budget))),
            (ScopeKind::Team, team.map(|(limits, budget)| (Some(limits), budget))),
            (ScopeKind::Organization, organization.map(|(limits, budget)| (Some(limits), budget))),
        ]
        .into_iter()
        .filter_map(|(kind, holder)| {
            let (limits, budget) = holder?;
            Some(Holder { scope: find(kind)?, limits, budget })
        })
        .collect()
    }

    fn limited(
        holders: &[Holder<'_>],
        defaults: &DefaultLimits,
        model: Option<&str>,
    ) -> Vec<(Scope, limits::Limits)> {
        let mut all = Vec::with_capacity(holders.len() * 2);
        for holder in holders {
            let is_key = holder.scope.kind == ScopeKind::Key;
            let default = if is_key { *defaults } else { DefaultLimits::default() };
            let own = holder.limits;
            let whole = limits::Limits {
                requests_per_minute: own
                    .and_then(|own| own.rpm_limit)
                    .or(default.requests_per_minute),
                tokens_per_minute: own.and_then(|own| own.tpm_limit).or(default.tokens_per_minute),
                parallel_requests: own.and_then(|own| own.max_parallel_requests),
                budget: whole_budget(holder.budget),
            };
            all.push((holder.scope.clone(), whole));
            if let Some(model) = model {
                let of_model = limits::Limits {
                    requests_per_minute: own
                        .and_then(|own| own.model_rpm_limit.get(model).copied()),
                    tokens_per_minute: own.and_then(|own| own.model_tpm_limit.get(model).copied()),
                    parallel_requests: None,
                    budget: model_budget(holder.budget, model),
                };
                all.push((holder.scope.of_model(model), of_model));
            }
        }
        all
    }
}

/// Returns what was spent since the start of a window: of the whole budget, or of that of one model.
pub fn spent(budget: &Budget, model: Option<&str>, window_start_ms: i64) -> Money {
    let (spend, since) = match model {
        None => (budget.spend, budget.spend_since),
        Some(model) => match budget.model_spend.get(model) {
            Some(spent) => (spent.spend, spent.since),
            None => return Money::ZERO,
        },
    };
    // What was spent in an earlier window is no part of this one.
    if since.0 >= window_start_ms { spend } else { Money::ZERO }
}

fn whole_budget(budget: &Budget) -> Option<limits::Budget> {
    (budget.max_budget.is_some() || budget.soft_budget.is_some()).then(|| limits::Budget {
        max_nanos: budget.max_budget.map(Money::nanos),
        soft_nanos: budget.soft_budget.map(Money::nanos),
        period: budget.budget_duration,
        started_ms: budget.budget_anchor_at.0,
    })
}

fn model_budget(budget: &Budget, model: &str) -> Option<limits::Budget> {
    budget.model_max_budget.get(model).map(|own| limits::Budget {
        max_nanos: Some(own.max_budget.nanos()),
        soft_nanos: None,
        period: own.budget_duration.or(budget.budget_duration),
        started_ms: budget.budget_anchor_at.0,
    })
}

/// Takes the id of a [`ScopeKind::TeamMember`] apart: the team's id and the user's.
pub fn member_ids(id: &str) -> Option<(&str, &str)> {
    id.split_once('\n')
}

/// Whom a call is made for.
struct Ids<'a> {
    key: Option<&'a str>,
    user: Option<&'a str>,
    team: Option<&'a str>,
    organization: Option<&'a str>,
}

impl Ids<'_> {
    fn scope(&self, kind: ScopeKind) -> Option<Scope> {
        let id: Arc<str> = match kind {
            ScopeKind::Key => self.key?.into(),
            ScopeKind::User => self.user?.into(),
            ScopeKind::Team => self.team?.into(),
            ScopeKind::Organization => self.organization?.into(),
            // No id has a line break.
            ScopeKind::TeamMember => format!("{}\n{}", self.team?, self.user?).into(),
            ScopeKind::EndUser => return None,
        };
        Some(Scope::new(kind, id))
    }
}

impl Limiter {
    /// Takes note that the store has a record of this process, in all of its scopes. See [`Limiter::recorded`].
    pub fn recorded_usage(&self, record: &UsageRecord) {
        for scope in charged(record) {
            self.recorded(&scope, record.start_time.0, record.spend.nanos());
        }
    }
}

/// Returns the scopes in whose budgets a record counts.
fn charged(record: &UsageRecord) -> impl Iterator<Item = Scope> {
    let ids = Ids {
        key: record.token_id.as_deref(),
        user: record.user_id.as_deref(),
        team: record.team_id.as_deref(),
        organization: record.organization_id.as_deref(),
    };
    [
        ScopeKind::Key,
        ScopeKind::User,
        ScopeKind::Team,
        ScopeKind::TeamMember,
        ScopeKind::Organization,
    ]
    .into_iter()
    .filter_map(move |kind| ids.scope(kind))
    .flat_map(|scope| [scope.of_model(record.model.as_str()), scope])
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::Map;

    use super::*;
    use crate::store::KeySnapshot;
    use crate::tenants::{Key, KeyHash, ModelSpend, Team, UnixMillis};

    const NOW: UnixMillis = UnixMillis(1_000);

    pub(crate) fn tenant(change: impl FnOnce(&mut KeySnapshot)) -> Arc<Tenant> {
        let key = Key {
            token: KeyHash::of("sk-other"),
            token_id: "kid_1".to_owned(),
            key_name: "sk-...".to_owned(),
            key_alias: None,
            key_type: KeyType::Default,
            user_id: None,
            team_id: None,
            organization_id: None,
            tags: Vec::new(),
            metadata: Map::new(),
            blocked: false,
            expires: None,
            limits: Limits::default(),
            budget: Budget::new(NOW),
            last_used_at: None,
            created_at: NOW,
            created_by: None,
            updated_at: NOW,
            updated_by: None,
        };
        let mut snapshot = KeySnapshot {
            key,
            team: None,
            user: None,
            organization: None,
            team_member: None,
            team_roles: Vec::new(),
            organization_roles: Vec::new(),
        };
        change(&mut snapshot);
        Arc::new(Tenant::from(snapshot))
    }

    pub(crate) fn team() -> Team {
        Team {
            team_id: "t".to_owned(),
            team_alias: None,
            organization_id: None,
            tags: Vec::new(),
            metadata: Map::new(),
            blocked: false,
            limits: Limits::default(),
            budget: Budget::new(NOW),
            created_at: NOW,
            updated_at: NOW,
        }
    }

    fn names(entries: &[&str]) -> Vec<String> {
        entries.iter().map(|&entry| entry.to_owned()).collect()
    }

    #[test]
    fn tags_are_bound_by_the_key_and_by_its_team() {
        let free = tenant(|_| {});
        assert_eq!(free.check_tags(&names(&["a", "b"])), Ok(()));
        let both = tenant(|snapshot| {
            snapshot.key.tags = names(&["a", "b"]);
            snapshot.team = Some(Team { tags: names(&["b", "c"]), ..team() });
        });
        assert_eq!(both.check_tags(&names(&["b"])), Ok(()));
        assert_eq!(both.check_tags(&[]), Ok(()));
        for tag in ["a", "c", "d"] {
            let refused = Refused::Tag { tag: tag.to_owned() };
            assert_eq!(both.check_tags(&names(&["b", tag])), Err(refused));
        }
    }

    #[test]
    fn keys_for_management_or_reading_call_no_models() {
        for key_type in KeyType::ALL.iter().copied() {
            let tenant = tenant(|snapshot| snapshot.key.key_type = key_type);
            let fine = matches!(key_type, KeyType::Default | KeyType::LlmApi);
            assert_eq!(tenant.check_call().is_ok(), fine, "{key_type:?}");
        }
    }

    #[test]
    fn what_was_spent_before_the_window_is_no_part_of_it() {
        let mut budget = Budget::new(NOW);
        budget.spend = Money::from_nanos(7);
        budget.spend_since = UnixMillis(5_000);
        let of_model = ModelSpend { spend: Money::from_nanos(3), since: UnixMillis(4_000) };
        budget.model_spend.insert("m".to_owned(), of_model);
        assert_eq!(spent(&budget, None, 5_000), Money::from_nanos(7));
        assert_eq!(spent(&budget, None, 5_001), Money::ZERO);
        assert_eq!(spent(&budget, Some("m"), 4_000), Money::from_nanos(3));
        assert_eq!(spent(&budget, Some("m"), 4_001), Money::ZERO);
        assert_eq!(spent(&budget, Some("n"), 0), Money::ZERO);
    }
}
