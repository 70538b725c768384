use llmux_types::Secret;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::origin;

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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// The holder of the master key.
    Master,
    /// Somebody on an open plane.
    Anonymous,
}

impl Caller {
    /// Returns the name used in logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Master => "master",
            Self::Anonymous => "anonymous",
        }
    }
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
    /// A web page of another origin, or a request under a foreign host name, on a plane that is open to this machine
    /// only.
    #[error(
        "this gateway takes requests without a key from this machine only, not from web pages or under other host names"
    )]
    OriginNotAllowed,
}

/// The proof that a request may reach an upstream. Made by [`Gate::admit`] only, neither cloned nor kept: what a
/// request reserves is given back when it is dropped.
#[derive(Debug)]
pub struct Admitted {
    caller: Caller,
}

impl Admitted {
    /// Returns who was admitted.
    pub const fn caller(&self) -> Caller {
        self.caller
    }
}

/// The proof that a request may use the management plane. Made by [`Gate::administer`] only.
#[derive(Debug)]
pub struct Administrator(());

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

    /// Finds out who is calling the data plane, from the credential, `Host` and `Origin` that were presented.
    ///
    /// # Errors
    /// [`Denied`] if the plane needs a key and this is none, or the plane is open to this machine only and the
    /// request comes from a web page.
    pub fn identify(
        &self,
        key: Option<&str>,
        host: Option<&str>,
        origin: Option<&str>,
    ) -> Result<Caller, Denied> {
        match self.plane {
            Plane::Keyed => match key {
                None => Err(Denied::MissingKey),
                Some(key) if self.is_master(key) => Ok(Caller::Master),
                Some(_) => Err(Denied::InvalidKey),
            },
            Plane::OpenLoopback { https } if !origin::is_local(https, host, origin) => {
                Err(Denied::OriginNotAllowed)
            }
            Plane::Open | Plane::OpenLoopback { .. } => match key {
                Some(key) if self.is_master(key) => Ok(Caller::Master),
                _ => Ok(Caller::Anonymous),
            },
        }
    }

    /// Admits one request of `caller` to the upstreams.
    ///
    /// # Errors
    /// None so far: limits, budgets and model lists are decided here.
    pub const fn admit(&self, caller: Caller) -> Result<Admitted, Denied> {
        Ok(Admitted { caller })
    }

    /// Admits a request to the management plane.
    ///
    /// # Errors
    /// [`Denied`] unless `key` is the master key.
    pub fn administer(&self, key: Option<&str>) -> Result<Administrator, Denied> {
        match key {
            None => Err(Denied::MissingKey),
            Some(key) if self.is_master(key) => Ok(Administrator(())),
            Some(_) => Err(Denied::InvalidKey),
        }
    }

    fn is_master(&self, key: &str) -> bool {
        digest(key).ct_eq(&self.master).into()
    }
}

fn digest(key: &str) -> [u8; 32] {
    Sha256::digest(key.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(plane: Plane) -> Gate {
        Gate::new(&Secret::new("sk-master"), plane)
    }

    #[test]
    fn a_keyed_plane_takes_the_master_key_only() {
        let gate = gate(Plane::Keyed);
        assert_eq!(gate.identify(Some("sk-master"), None, None), Ok(Caller::Master));
        assert_eq!(gate.identify(None, None, None), Err(Denied::MissingKey));
        for key in ["", "sk-maste", "sk-master2", "SK-MASTER"] {
            assert_eq!(gate.identify(Some(key), None, None), Err(Denied::InvalidKey), "{key}");
        }
    }

    #[test]
    fn an_open_plane_ignores_other_credentials() {
        let gate = gate(Plane::OpenLoopback { https: false });
        let caller = gate.identify(Some("anything"), Some("localhost:8080"), None);
        assert_eq!(caller, Ok(Caller::Anonymous));
    }

    #[test]
    fn an_open_loopback_plane_refuses_web_pages() {
        let gate = gate(Plane::OpenLoopback { https: false });
        let denied = gate.identify(None, Some("localhost:8080"), Some("https://evil.example"));
        assert_eq!(denied, Err(Denied::OriginNotAllowed));
        assert_eq!(gate.identify(None, Some("evil.example"), None), Err(Denied::OriginNotAllowed));
    }

    #[test]
    fn the_management_plane_needs_the_master_key_even_on_an_open_plane() {
        let gate = gate(Plane::Open);
        assert!(gate.administer(Some("sk-master")).is_ok());
        assert_eq!(gate.administer(None).err(), Some(Denied::MissingKey));
        assert_eq!(gate.administer(Some("x")).err(), Some(Denied::InvalidKey));
    }
}
