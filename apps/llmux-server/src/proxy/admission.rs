//! What a request and its attempts need before an upstream sees them: permission, a place in all limits, money.

use std::sync::Arc;

use llmux_auth::limits::MoneyRefused;
use llmux_auth::tenants::{UnixMillis, UsageRecord, UsageStatus};
use llmux_auth::{self as auth, Admitted, Caller, Refused};
use llmux_types::Money;

use super::{Call, Prepared};
use crate::ask::Ask;
use crate::attempt::{Attempt, Facts, Resolved};
use crate::catalog::Deployment;
use crate::charge::{Charge, call_type};
use crate::config::Budget;
use crate::error::ApiError;
use crate::exchange::Exchange;
use crate::gateway::Gateway;
use crate::tenants;

/// Says why a caller must not ask for a model that does not exist, if so: who may not use it does not learn that.
pub(super) fn not_allowed(caller: &Caller, ask: &Ask) -> Option<ApiError> {
    let model = ask.model.as_str();
    let facts = ask.facts();
    let request = auth::Request {
        configured: model,
        requested: model,
        counted_as: model,
        tags: facts.tags,
        tokens: 0,
    };
    Some(caller.tenant()?.check(&request).err()?.into())
}

/// Takes the request's place in all limits.
pub(super) async fn admit(
    gateway: &Gateway,
    caller: &Caller,
    ask: &Ask,
    resolved: &Resolved,
    exchange: &mut Exchange,
) -> Result<Admitted, ApiError> {
    let facts = ask.facts();
    let deployments = &resolved.route.deployments;
    let usable =
        |index: &usize| !resolved.excluded.contains(index) && !resolved.unable.contains(index);
    // Which deployment it will be is not known yet.
    let mut expected = (0..deployments.len()).filter(usable).map(|index| {
        let deployment = &deployments[index];
        let model = deployment.upstream_model(&resolved.asked);
        expected_output(&exchange.snapshot.settings.budget, &facts, deployment, model)
    });
    if exchange.snapshot.settings.budget.block_unpriced {
        let prices = &exchange.snapshot.settings.prices;
        let is_priced = |index: usize| {
            let deployment: &Deployment = &deployments[index];
            let prices = deployment.prices(prices, deployment.upstream_model(&resolved.asked));
            !llmux_types::cost(&prices, &ask.expected_usage(1)).unpriced.any()
        };
        if !(0..deployments.len()).filter(usable).any(is_priced) {
            return Err(ApiError::price_unknown(&ask.model));
        }
    }
    let output = match (expected.clone().filter_map(Result::ok).max(), expected.next_back()) {
        (None, Some(Err(error))) if caller.tenant().is_some() => return Err(error),
        (most, _) => most.unwrap_or(0),
    };
    let request = auth::Request {
        configured: &resolved.route.name,
        requested: &ask.model,
        counted_as: resolved.counted_as(),
        tags: facts.tags,
        tokens: facts.input_tokens.saturating_add(output),
    };
    let snapshot = Arc::clone(&exchange.snapshot);
    let (limiter, defaults) = (gateway.tenants.limiter(), &snapshot.settings.default_limits);
    let now = std::time::Instant::now();
    let ask_gate =
        || gateway.gate.admit(caller, limiter, defaults, &request, now, tenants::wall_clock());
    let mut admitted = ask_gate();
    if let Err(Refused::Unknown(unloaded)) = &admitted {
        gateway.tenants.load(unloaded.clone()).await?;
        admitted = ask_gate();
    }
    match &admitted {
        Ok(admitted) => exchange.standing = *admitted.standing(),
        Err(Refused::Limit(exceeded)) => exchange.standing = exceeded.standing,
        Err(_) => {}
    }
    Ok(admitted?)
}

/// Returns the output tokens to be reserved for a call: what the client allows, else for each answer what the model can
/// say, at most what the configuration assumes.
///
/// # Errors
/// If the budgets are strict and nobody knows.
fn expected_output(
    budget: &Budget,
    facts: &Facts<'_>,
    deployment: &Deployment,
    model: &str,
) -> Result<u64, ApiError> {
    let asked = facts.max_output_tokens;
    if let Some(most) = asked.filter(|_| facts.is_sure) {
        return Ok(most);
    }
    let each = match (deployment.most_output(model), budget.strict) {
        (Some(most), true) => most,
        (None, true) => return Err(ApiError::max_tokens_required()),
        (most, false) => most.unwrap_or(u64::MAX).min(budget.assumed_output_tokens),
    };
    Ok(each.saturating_mul(facts.choices).max(asked.unwrap_or(0)))
}

impl Call<'_> {
    /// Reserves the money for a call, and begins its record.
    ///
    /// # Errors
    /// The client's answer, if nothing else is left: the price is unknown and must not be, or a budget does not have it.
    pub(super) async fn charge(
        &self,
        attempt: &Attempt,
        prepared: Prepared,
        exchange: &mut Exchange,
    ) -> Result<(Prepared, Charge), ApiError> {
        let gateway = &self.worker.gateway;
        let (deployment, settings) = (&*attempt.deployment, &self.snapshot.settings);
        let prices = deployment.prices(&settings.prices, &prepared.model);
        let (endpoint, facts) = (self.ask.endpoint, &self.facts);
        let output = match expected_output(&settings.budget, facts, deployment, &prepared.model) {
            Ok(output) => output,
            Err(error) if self.admitted.caller().tenant().is_some() => return Err(error),
            Err(_) => settings.budget.assumed_output_tokens.saturating_mul(facts.choices),
        };
        let expected = llmux_types::cost(&prices, &self.ask.expected_usage(output));
        if expected.unpriced.any() {
            if settings.budget.block_unpriced {
                return Err(ApiError::price_unknown(&self.ask.model));
            }
            deployment.tell_unpriced(&prepared.model);
        }

        let model = self.resolved.counted_as();
        self.admitted.go_on_with(model, std::time::Instant::now()).map_err(Refused::Limit)?;
        let reserve = |now| self.admitted.reserve_money(model, expected.total.nanos(), now);
        let mut money = reserve(tenants::wall_clock());
        if let Err(MoneyRefused::Unknown(unloaded)) = &money {
            gateway.tenants.load(unloaded.clone()).await?;
            money = reserve(tenants::wall_clock());
        }
        let money = money.map_err(|refused| match refused {
            MoneyRefused::Exceeded(exceeded) => ApiError::from(exceeded),
            MoneyRefused::Unknown(_) => ApiError::spend_unknown(),
        })?;
        if let Some(scope) = money.soft_exceeded() {
            exchange.line.soft_budget = Some(scope.to_string());
        }
        let record = self.record(attempt, &prepared, UnixMillis(money.at_ms()), exchange);
        let expected = self.ask.expected_usage(0);
        let account = gateway.metrics.account(&deployment.meter, self.admitted.caller());
        Ok((
            prepared,
            Charge::new(
                (&gateway.spool, gateway.tenants.limiter()),
                (money, account),
                prices,
                endpoint,
                expected,
                record,
            ),
        ))
    }

    /// Begins the record of a call.
    fn record(
        &self,
        attempt: &Attempt,
        prepared: &Prepared,
        start_time: UnixMillis,
        exchange: &Exchange,
    ) -> UsageRecord {
        let id = self.worker.gateway.record_id(start_time);
        let begun = Record { id, start_time, attempt: exchange.line.attempts + 1 };
        let model = self.resolved.counted_as();
        UsageRecord {
            upstream_model: Some(prepared.model.clone()),
            deployment_id: Some(attempt.deployment.id.clone()),
            provider: Some(attempt.deployment.provider.name.clone()),
            ..begun.of(self.admitted.caller(), self.ask, model, exchange)
        }
    }
}

/// What tells a record from others of its request.
pub(super) struct Record {
    pub(super) id: String,
    pub(super) start_time: UnixMillis,
    pub(super) attempt: u32,
}

impl Record {
    /// Begins the record with what is known of its request.
    pub(super) fn of(
        self,
        caller: &Caller,
        ask: &Ask,
        model: &str,
        exchange: &Exchange,
    ) -> UsageRecord {
        let tenant = caller.tenant();
        let key = tenant.map(|tenant| &tenant.key);
        let organization = tenant.and_then(|tenant| tenant.organization.as_ref());
        UsageRecord {
            id: self.id,
            request_id: exchange.line.request_id.to_str().unwrap_or_default().to_owned(),
            start_time: self.start_time,
            end_time: self.start_time,
            token_id: key.map(|key| key.token_id.clone()),
            team_id: key.and_then(|key| key.team_id.clone()),
            user_id: key.and_then(|key| key.user_id.clone()),
            organization_id: organization.map(|found| found.organization_id.clone()),
            end_user: ask.end_user().map(str::to_owned),
            model: model.to_owned(),
            upstream_model: None,
            deployment_id: None,
            provider: None,
            call_type: call_type(ask.endpoint).to_owned(),
            attempt: self.attempt,
            status: UsageStatus::Cancelled,
            status_code: None,
            error_code: None,
            cache_hit: false,
            stream: ask.stream,
            prompt_tokens: 0,
            completion_tokens: 0,
            total_tokens: 0,
            cached_tokens: 0,
            cache_write_tokens: 0,
            reasoning_tokens: 0,
            spend: Money::ZERO,
            time_to_first_token_ms: None,
            request_tags: bounded(ask.facts().tags),
            metadata: serde_json::Map::new(),
        }
    }
}

/// Returns as many tags as a record has room for: they are the client's own words.
fn bounded(tags: &[String]) -> Vec<String> {
    const BYTES: usize = 4096;
    let mut room = BYTES;
    let mut fits = |tag: &&String| {
        room = room.saturating_sub(tag.len() + 1);
        room > 0
    };
    tags.iter().take_while(|tag| fits(tag)).cloned().collect()
}
