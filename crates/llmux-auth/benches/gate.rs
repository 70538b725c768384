//! What a key costs each request: finding out who calls, admission, and the money of one attempt, for a key with a user,
//! a team and an organization that all have limits and budgets. `cargo bench -p llmux-auth --bench gate`.
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a benchmark starts its own clock"
)]

use std::sync::Arc;
use std::time::Instant;

use divan::Bencher;
use llmux_auth::limits::{Limiter, MoneyRefused};
use llmux_auth::store::KeySnapshot;
use llmux_auth::tenants::UnixMillis;
use llmux_auth::{Caller, DefaultLimits, Gate, Plane, Presented, Refused, Request, Tenant};
use llmux_types::Secret;
use serde_json::json;

const WALL: UnixMillis = UnixMillis(1_795_348_800_000);
const KEY: &str = "sk-0123456789abcdefghijklmnopqrstuvwxyzABCDEFG";

fn main() {
    divan::main();
}

fn tenant() -> Arc<Tenant> {
    let since = "2026-11-22T12:00:00Z";
    let holder = json!({
        "models": [], "rpm_limit": 1_000_000_000, "tpm_limit": 1_000_000_000_000_u64, "max_parallel_requests": 1_000_000,
        "max_budget": 1_000_000, "budget_duration": "1mo", "budget_anchor_at": since, "spend_since": since,
        "created_at": since, "updated_at": since,
    });
    let with = |more: serde_json::Value| {
        let mut whole = holder.clone();
        whole.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        whole
    };
    let token = llmux_auth::tenants::KeyHash::of(KEY);
    Arc::new(Tenant::from(KeySnapshot {
        key: serde_json::from_value(with(json!({
            "token": token, "token_id": "kid_0f2d7a52", "key_name": "sk-...", "user_id": "u", "team_id": "t", "organization_id": "o",
        })))
        .unwrap(),
        team: serde_json::from_value(with(json!({"team_id": "t"}))).unwrap(),
        user: serde_json::from_value(with(json!({"user_id": "u", "user_role": "internal_user"}))).unwrap(),
        organization: serde_json::from_value(with(json!({"organization_id": "o"}))).unwrap(),
        team_member: None,
        team_roles: Vec::new(),
        organization_roles: Vec::new(),
    }))
}

struct Bench {
    gate: Gate,
    tenant: Arc<Tenant>,
    caller: Caller,
    limiter: Arc<Limiter>,
    defaults: DefaultLimits,
    now: Instant,
}

const REQUEST: Request<'_> = Request {
    configured: "gpt-4o",
    requested: "gpt-4o",
    counted_as: "gpt-4o",
    tags: &[],
    tokens: 900,
};

impl Bench {
    fn new() -> Self {
        let now = Instant::now();
        let tenant = tenant();
        let bench = Self {
            gate: Gate::new(&Secret::new("sk-master"), Plane::Keyed),
            caller: Caller::Key(Arc::clone(&tenant)),
            tenant,
            limiter: Limiter::new(now),
            defaults: DefaultLimits::default(),
            now,
        };
        let Err(Refused::Unknown(unloaded)) = bench.admit() else { unreachable!() };
        for it in unloaded {
            bench.limiter.load(&it.scope, it.window_start_ms, 0);
        }
        bench
    }

    fn admit(&self) -> Result<llmux_auth::Admitted, Refused> {
        self.gate.admit(&self.caller, &self.limiter, &self.defaults, &REQUEST, self.now, WALL)
    }
}

/// From the text of a key to its holder, once the key is known.
#[divan::bench]
fn identify(bencher: Bencher<'_, '_>) {
    let bench = Bench::new();
    bencher.bench(|| {
        let presented = bench.gate.look(divan::black_box(Some(KEY)));
        assert!(matches!(presented, Presented::Other(_)));
        let found = Some(Arc::clone(&bench.tenant));
        bench.gate.identify(&presented, found, Some("localhost"), None, WALL).unwrap()
    });
}

/// Lists, tags, budgets and limits, and their correction at the end.
#[divan::bench]
fn admit(bencher: Bencher<'_, '_>) {
    let bench = Bench::new();
    bencher.bench(|| {
        let admitted = bench.admit().unwrap();
        admitted.note_sent();
        admitted.finish(700, bench.now);
    });
}

/// The money of one attempt.
#[divan::bench]
fn money(bencher: Bencher<'_, '_>) {
    let bench = Bench::new();
    let admitted = bench.admit().unwrap();
    bencher.bench(|| match admitted.reserve_money("gpt-4o", 3, WALL) {
        Ok(money) => money.settle(2),
        Err(MoneyRefused::Exceeded(_) | MoneyRefused::Unknown(_)) => unreachable!(),
    });
}
