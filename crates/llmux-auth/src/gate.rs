use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use llmux_types::Secret;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::limits::{
    Demand, Exceeded, Limiter, MoneyRefused, MoneyReservation, Reservation, Standing,
};
use crate::origin;
use crate::tenant::{DefaultLimits, Refused, Tenant};
use crate::tenants::UnixMillis;

/// Who may use the data plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plane {
    /// A key is needed.
    Keyed,
    /// Anyone who can reach the port.
    Open,
    /// Anyone on this machine, but no web page: the `Host` must be a loopback name and the `Origin` absent or the
    /// same.
    OpenLoopback {
        /// Whether it is served over TLS: the scheme of its own pages.
        https: bool,
    },
}

/// Who is calling.
#[derive(Clone, Debug)]
pub enum Caller {
    /// The holder of the master key.
    Master,
    /// Somebody on an open plane.
    Anonymous,
    /// The holder of a key that is neither blocked nor expired.
    Key(Arc<Tenant>),
}

impl Caller {
    /// Returns the name used in logs: the id of a key, which survives a new secret.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Master => "master",
            Self::Anonymous => "anonymous",
            Self::Key(tenant) => &tenant.key.token_id,
        }
    }

    /// Returns the key and what belongs to it.
    pub fn tenant(&self) -> Option<&Arc<Tenant>> {
        match self {
            Self::Key(tenant) => Some(tenant),
            Self::Master | Self::Anonymous => None,
        }
    }
}

/// What a credential turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presented {
    /// There was none.
    Nothing,
    /// The master key.
    Master,
    /// Something else, by its SHA-256: a key if the store has it.
    Other([u8; 32]),
}

/// Why a call is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// No key was presented where one is needed.
    #[error("no API key was given: send it as `Authorization: Bearer KEY`")]
    MissingKey,
    /// The key is not known.
    #[error("the API key is not valid")]
    InvalidKey,
    /// The key is not valid any more.
    #[error("the API key has expired")]
    ExpiredKey,
    /// The key is blocked.
    #[error("the API key is blocked")]
    BlockedKey,
    /// The key's team is blocked.
    #[error("the API key's team is blocked")]
    BlockedTeam,
    /// A web page of another origin, or a request under a foreign host name, on a plane that is open to this machine
    /// only.
    #[error(
        "this gateway takes requests without a key from this machine only, not from web pages or under other host names"
    )]
    OriginNotAllowed,
}

/// What of a request its admission depends on.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The model, or pattern, as it is configured.
    pub configured: &'a str,
    /// The model as the client wrote it.
    pub requested: &'a str,
    /// The model's name in limits and records. That of a wildcard is the wanted one, not the pattern.
    pub counted_as: &'a str,
    /// The tags that the client asks for.
    pub tags: &'a [String],
    /// Its tokens, estimated.
    pub tokens: u64,
}

/// The proof that a request may reach an upstream. Made by [`Gate::admit`] only, neither cloned nor kept: what a
/// request reserves is given back when it is dropped.
#[derive(Debug)]
pub struct Admitted {
    caller: Caller,
    limiter: Arc<Limiter>,
    defaults: DefaultLimits,
    reservation: Reservation,
    /// The model that the request was admitted for, as it is counted, and the tokens that were reserved.
    admitted_for: (String, u64),
    /// Its place in the limits of other models that it went on with.
    others: Mutex<Vec<(String, Reservation)>>,
    /// Whether an upstream has seen the request.
    sent: AtomicBool,
}

impl Admitted {
    /// Returns who was admitted.
    pub const fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Returns what is left of the tightest limits.
    pub const fn standing(&self) -> &Standing {
        self.reservation.standing()
    }

    /// Tells whether the request may go on with another model.
    pub fn may_use(&self, configured: &str, requested: &str) -> bool {
        self.caller.tenant().is_none_or(|tenant| tenant.may_use(configured, requested))
    }

    /// Takes the request's place in the limits of another model that it goes on with, once.
    ///
    /// # Errors
    /// [`Exceeded`] if a limit of that model is reached.
    pub fn go_on_with(&self, model: &str, now: Instant) -> Result<(), Box<Exceeded>> {
        let (admitted, tokens) = &self.admitted_for;
        let Some(tenant) = self.caller.tenant() else { return Ok(()) };
        let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        if model == admitted || others.iter().any(|(other, _)| other == model) {
            return Ok(());
        }
        let scopes = tenant.scopes_of_model(&self.limiter, model);
        let reservation = self.limiter.reserve(&scopes, Demand { tokens: *tokens }, now)?;
        others.push((model.to_owned(), reservation));
        Ok(())
    }

    /// Reserves what one attempt may cost, in nano-dollars, in the budgets that a call of `model` counts in. It need not
    /// be the model that the request was admitted for.
    ///
    /// # Errors
    /// Those of [`Limiter::reserve_money`].
    pub fn reserve_money(
        &self,
        model: &str,
        nanos: i64,
        now: UnixMillis,
    ) -> Result<MoneyReservation, MoneyRefused> {
        match self.caller.tenant() {
            None => self.limiter.reserve_money(self.reservation.scopes(), nanos, now.0),
            Some(tenant) => {
                let scopes = tenant.scopes(&self.limiter, &self.defaults, model);
                self.limiter.reserve_money(&scopes, nanos, now.0)
            }
        }
    }

    /// Takes note that an upstream gets to see the request.
    pub fn note_sent(&self) {
        self.sent.store(true, Ordering::Relaxed);
    }

    /// Ends the request, whose attempts used `tokens`: corrects what was estimated, or takes it back whole if no upstream
    /// saw it. Dropped without this, it counts as it was estimated.
    pub fn finish(self, tokens: u64, now: Instant) {
        let sent = self.sent.load(Ordering::Relaxed);
        let others = self.others.into_inner().unwrap_or_else(PoisonError::into_inner);
        let others = others.into_iter().map(|(_, reservation)| reservation);
        for reservation in others.chain([self.reservation]) {
            if sent {
                reservation.settle_tokens(tokens, now);
            } else {
                reservation.refund();
            }
        }
    }
}

/// Decides who may call.
#[derive(Debug)]
pub struct Gate {
    /// SHA-256 of the master key: digests have one length, so that comparing them tells nothing about the key's.
    master: [u8; 32],
    plane: Plane,
}

impl Gate {
    /// Makes a gate for a gateway with this master key.
    pub fn new(master_key: &Secret, plane: Plane) -> Self {
        Self { master: digest(master_key.expose()), plane }
    }

    /// Looks at the credential that was presented.
    pub fn look(&self, key: Option<&str>) -> Presented {
        let Some(key) = key else { return Presented::Nothing };
        let digest = digest(key);
        if digest.ct_eq(&self.master).into() { Presented::Master } else { Presented::Other(digest) }
    }

    /// Finds out who is calling the data plane, from the credential, the key that the store has for it, `Host` and
    /// `Origin`. On an open plane a key counts, too; other credentials are ignored.
    ///
    /// # Errors
    /// [`Denied`] if the plane needs a key and this is none, the key is blocked or expired, or the plane is open to this
    /// machine only and the request comes from a web page.
    pub fn identify(
        &self,
        presented: &Presented,
        found: Option<Arc<Tenant>>,
        host: Option<&str>,
        origin: Option<&str>,
        now: UnixMillis,
    ) -> Result<Caller, Denied> {
        if let Plane::OpenLoopback { https } = self.plane
            && !origin::is_local(https, host, origin)
        {
            return Err(Denied::OriginNotAllowed);
        }
        match (self.plane, presented, found) {
            (_, Presented::Master, _) => Ok(Caller::Master),
            (_, Presented::Other(_), Some(tenant)) => holder(tenant, now),
            (Plane::Keyed, Presented::Nothing, _) => Err(Denied::MissingKey),
            (Plane::Keyed, Presented::Other(_), None) => Err(Denied::InvalidKey),
            (Plane::Open | Plane::OpenLoopback { .. }, _, _) => Ok(Caller::Anonymous),
        }
    }

    /// Finds out who is calling the management plane: somebody with a key, always.
    ///
    /// # Errors
    /// [`Denied`] if there is no key, or it is unknown, blocked or expired.
    pub fn administer(
        &self,
        presented: &Presented,
        found: Option<Arc<Tenant>>,
        now: UnixMillis,
    ) -> Result<Caller, Denied> {
        match (presented, found) {
            (Presented::Nothing, _) => Err(Denied::MissingKey),
            (Presented::Master, _) => Ok(Caller::Master),
            (Presented::Other(_), Some(tenant)) => holder(tenant, now),
            (Presented::Other(_), None) => Err(Denied::InvalidKey),
        }
    }

    /// Admits one request of `caller` to the upstreams: looks at what the caller may use, then at the budgets, then at
    /// the limits, and reserves a place in all of these.
    ///
    /// # Errors
    /// [`Refused`]. Nothing is reserved then.
    pub fn admit(
        &self,
        caller: &Caller,
        limiter: &Arc<Limiter>,
        defaults: &DefaultLimits,
        request: &Request<'_>,
        now: Instant,
        wall: UnixMillis,
    ) -> Result<Admitted, Refused> {
        let scopes = match caller.tenant() {
            None => limiter.scopes(&[]),
            Some(tenant) => {
                tenant.check(request)?;
                tenant.scopes(limiter, defaults, request.counted_as)
            }
        };
        limiter.check_money(&scopes, 0, wall.0).map_err(|refused| match refused {
            MoneyRefused::Exceeded(exceeded) => Refused::Budget(exceeded),
            MoneyRefused::Unknown(unloaded) => Refused::Unknown(unloaded),
        })?;
        let demand = Demand { tokens: request.tokens };
        let reservation = limiter.reserve(&scopes, demand, now).map_err(Refused::Limit)?;
        Ok(Admitted {
            caller: caller.clone(),
            limiter: Arc::clone(limiter),
            defaults: *defaults,
            reservation,
            admitted_for: (request.counted_as.to_owned(), request.tokens),
            others: Mutex::default(),
            sent: AtomicBool::new(false),
        })
    }
}

/// Returns the holder of a key that may be used.
fn holder(tenant: Arc<Tenant>, now: UnixMillis) -> Result<Caller, Denied> {
    if tenant.key.blocked {
        Err(Denied::BlockedKey)
    } else if tenant.key.expires.is_some_and(|expires| expires <= now) {
        Err(Denied::ExpiredKey)
    } else if tenant.team.as_ref().is_some_and(|team| team.blocked) {
        Err(Denied::BlockedTeam)
    } else {
        Ok(Caller::Key(tenant))
    }
}

fn digest(key: &str) -> [u8; 32] {
    Sha256::digest(key.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tenant::tests::tenant;

    const NOW: UnixMillis = UnixMillis(1_000);

    fn gate(plane: Plane) -> Gate {
        Gate::new(&Secret::new("sk-master"), plane)
    }

    /// What the caller is called who presents `key`, where the store has `found`.
    fn named(
        gate: &Gate,
        key: Option<&str>,
        found: Option<Arc<Tenant>>,
        host: &str,
        origin: Option<&str>,
    ) -> Result<String, Denied> {
        let presented = gate.look(key);
        let caller = gate.identify(&presented, found, Some(host), origin, NOW)?;
        Ok(caller.as_str().to_owned())
    }

    #[test]
    fn a_keyed_plane_takes_the_master_key_and_known_keys() {
        let gate = gate(Plane::Keyed);
        assert_eq!(named(&gate, Some("sk-master"), None, "x", None).as_deref(), Ok("master"));
        assert_eq!(named(&gate, None, None, "x", None), Err(Denied::MissingKey));
        for key in ["", "sk-maste", "sk-master2", "SK-MASTER"] {
            let denied = named(&gate, Some(key), None, "x", None);
            assert_eq!(denied, Err(Denied::InvalidKey), "{key}");
        }
        let found = named(&gate, Some("sk-other"), Some(tenant(|_| {})), "x", None);
        assert_eq!(found.as_deref(), Ok("kid_1"));
    }

    #[test]
    fn an_open_plane_honours_keys_and_ignores_other_credentials() {
        let gate = gate(Plane::OpenLoopback { https: false });
        let host = "localhost:8080";
        assert_eq!(named(&gate, Some("anything"), None, host, None).as_deref(), Ok("anonymous"));
        let found = named(&gate, Some("sk-other"), Some(tenant(|_| {})), host, None);
        assert_eq!(found.as_deref(), Ok("kid_1"));
    }

    #[test]
    fn an_open_loopback_plane_refuses_web_pages() {
        let gate = gate(Plane::OpenLoopback { https: false });
        let evil = Some("https://evil.example");
        let denied = Err(Denied::OriginNotAllowed);
        assert_eq!(named(&gate, None, None, "localhost:8080", evil), denied);
        assert_eq!(named(&gate, Some("sk-master"), None, "evil.example", None), denied);
    }

    #[test]
    fn a_key_that_is_blocked_or_expired_is_refused_on_all_planes() {
        let blocked = tenant(|snapshot| snapshot.key.blocked = true);
        let expired = tenant(|snapshot| snapshot.key.expires = Some(NOW));
        let team = tenant(|snapshot| {
            snapshot.team = Some(crate::tenant::tests::team());
            if let Some(team) = &mut snapshot.team {
                team.blocked = true;
            }
        });
        for (found, denied) in [
            (blocked, Denied::BlockedKey),
            (expired, Denied::ExpiredKey),
            (team, Denied::BlockedTeam),
        ] {
            for plane in [Plane::Keyed, Plane::Open] {
                let gate = gate(plane);
                let presented = gate.look(Some("sk-other"));
                let found = Some(Arc::clone(&found));
                let refused = gate.identify(&presented, found.clone(), None, None, NOW);
                assert_eq!(refused.err(), Some(denied));
                assert_eq!(gate.administer(&presented, found, NOW).err(), Some(denied));
            }
        }
        let valid = tenant(|snapshot| snapshot.key.expires = Some(UnixMillis(1_001)));
        assert!(named(&gate(Plane::Keyed), Some("sk-other"), Some(valid), "x", None).is_ok());
    }

    #[test]
    fn the_management_plane_needs_a_key_even_on_an_open_plane() {
        let gate = gate(Plane::Open);
        let ask = |key, found| gate.administer(&gate.look(key), found, NOW).map(|_| ());
        assert_eq!(ask(Some("sk-master"), None), Ok(()));
        assert_eq!(ask(Some("x"), Some(tenant(|_| {}))), Ok(()));
        assert_eq!(ask(None, None), Err(Denied::MissingKey));
        assert_eq!(ask(Some("x"), None), Err(Denied::InvalidKey));
    }
}
