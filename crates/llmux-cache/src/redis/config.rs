//! Where Redis is.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fred::types::Builder;
use fred::types::config::{
    ClusterDiscoveryPolicy, Config, ConnectionConfig, ReconnectPolicy, Server, ServerConfig,
    TcpConfig, TlsConnector, UnresponsiveConfig,
};
use llmux_types::Secret;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

/// How long until a connection is given up that does not come about or does not answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Where Redis is, and how much of it is used. Exactly one of `addr`, `cluster_addrs` and `sentinel_addrs` is given.
#[derive(Clone, Debug)]
pub struct RedisConfig {
    /// `host:port`, or `redis://` or, with TLS, `rediss://user:password@host:port/db`.
    pub addr: Secret,
    /// Some nodes of a cluster: `host:port`, or `rediss://host:port` with TLS.
    pub cluster_addrs: Vec<String>,
    /// The sentinels: `host:port`, or `rediss://host:port` with TLS.
    pub sentinel_addrs: Vec<String>,
    /// The name by which sentinels know the server.
    pub sentinel_master: String,
    /// The user of Redis; `None`: that of `addr`, or the default one.
    pub username: Option<String>,
    /// The password of Redis; `None`: that of `addr`, or none.
    pub password: Option<Secret>,
    /// The number of the database; `None`: that of `addr`, or 0.
    pub db: Option<u8>,
    /// Certificates in PEM of those who may vouch for the server; `None`: those the system trusts.
    pub ca_file: Option<PathBuf>,
    /// The longest that one call takes; then it is a miss.
    pub timeout: Duration,
    /// How long nothing is asked after Redis did not answer; then one call tries.
    pub pause: Duration,
    /// The most bytes of one entry; larger ones are not kept.
    pub max_item_bytes: u64,
}

impl Default for RedisConfig {
    fn default() -> Self {
        Self {
            addr: Secret::new(""),
            cluster_addrs: Vec::new(),
            sentinel_addrs: Vec::new(),
            sentinel_master: String::new(),
            username: None,
            password: None,
            db: None,
            ca_file: None,
            timeout: Duration::from_millis(50),
            pause: Duration::from_secs(1),
            max_item_bytes: 1 << 20,
        }
    }
}

/// What is wrong with a [`RedisConfig`]. No text shows a value: addresses hold passwords.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRedis {
    /// None of the addresses is given, or more than one kind of them.
    #[error("exactly one of `addr`, `cluster_addrs` and `sentinel_addrs` must be given")]
    Servers,
    /// An address is none.
    #[error("`{0}` must be host:port or a redis:// or rediss:// URL")]
    Address(&'static str),
    /// Sentinels need the name.
    #[error("`sentinel_master` is missing")]
    SentinelMaster,
    /// Clusters have database 0 only.
    #[error("`db` must be 0 with a cluster")]
    Database,
    /// The file with certificates cannot be used.
    #[error("`ca_file` {0}")]
    CaFile(&'static str),
    /// TLS or the client cannot be set up.
    #[error("the Redis client cannot be set up: {0}")]
    Setup(String),
}

impl InvalidRedis {
    /// Returns the field that is wrong; `None`: it is no single one.
    pub const fn field(&self) -> Option<&'static str> {
        match self {
            Self::Servers | Self::Setup(_) => None,
            Self::Address(field) => Some(field),
            Self::SentinelMaster => Some("sentinel_master"),
            Self::Database => Some("db"),
            Self::CaFile(_) => Some("ca_file"),
        }
    }
}

impl RedisConfig {
    /// Finds what is wrong without connecting. Reads the file with certificates.
    ///
    /// # Errors
    /// [`InvalidRedis`] if the configuration cannot work.
    pub fn check(&self) -> Result<(), InvalidRedis> {
        self.client().map(|_| ())
    }

    pub(super) fn client(&self) -> Result<(fred::clients::Client, bool), InvalidRedis> {
        let (mut config, tls) = self.servers()?;
        let clustered = config.server.is_clustered();
        // A Redis that is away is waited for, not an error.
        config.fail_fast = false;
        config.username = self.username.clone().or(config.username);
        config.password =
            self.password.as_ref().map(|password| password.expose().to_owned()).or(config.password);
        config.database = self.db.or(config.database).filter(|db| *db != 0);
        if clustered && config.database.is_some() {
            return Err(InvalidRedis::Database);
        }
        if tls {
            config.tls = Some(TlsConnector::from(self.tls()?).into());
        }
        let client = Builder::from_config(config)
            .set_policy(ReconnectPolicy::new_constant(0, 250))
            .with_connection_config(|connection| {
                *connection = ConnectionConfig {
                    connection_timeout: PATIENCE,
                    internal_command_timeout: PATIENCE,
                    // Who asked has gone on long ago.
                    max_command_attempts: 1,
                    unresponsive: UnresponsiveConfig {
                        max_timeout: Some(PATIENCE),
                        interval: PATIENCE / 4,
                    },
                    tcp: TcpConfig { nodelay: Some(true), ..TcpConfig::default() },
                    max_command_buffer_len: 10_000,
                    ..ConnectionConfig::default()
                };
            })
            .build()
            .map_err(|error| InvalidRedis::Setup(error.to_string()))?;
        Ok((client, clustered))
    }

    /// Finds the servers, and whether they are to be talked to by TLS.
    fn servers(&self) -> Result<(Config, bool), InvalidRedis> {
        let given = [
            !self.addr.is_empty(),
            !self.cluster_addrs.is_empty(),
            !self.sentinel_addrs.is_empty(),
        ];
        if given.iter().filter(|given| **given).count() != 1 {
            return Err(InvalidRedis::Servers);
        }
        if !self.addr.is_empty() {
            return parse(self.addr.expose(), "addr");
        }
        let several = |addresses: &[String], field| {
            let mut hosts: Vec<Server> = Vec::new();
            let mut tls = false;
            for address in addresses {
                let (config, by_tls) = parse(address, field)?;
                hosts.extend(config.server.hosts());
                tls |= by_tls;
            }
            Ok::<_, InvalidRedis>((hosts, tls))
        };
        let (server, tls) = if self.cluster_addrs.is_empty() {
            if self.sentinel_master.is_empty() {
                return Err(InvalidRedis::SentinelMaster);
            }
            let (hosts, tls) = several(&self.sentinel_addrs, "sentinel_addrs")?;
            let service_name = self.sentinel_master.clone();
            (ServerConfig::Sentinel { hosts, service_name, username: None, password: None }, tls)
        } else {
            let (hosts, tls) = several(&self.cluster_addrs, "cluster_addrs")?;
            (ServerConfig::Clustered { hosts, policy: ClusterDiscoveryPolicy::UseCache }, tls)
        };
        Ok((Config { server, ..Config::default() }, tls))
    }

    fn tls(&self) -> Result<ClientConfig, InvalidRedis> {
        let mut roots = RootCertStore::empty();
        if let Some(path) = &self.ca_file {
            let unreadable = |_| InvalidRedis::CaFile("cannot be read as certificates in PEM");
            for certificate in CertificateDer::pem_file_iter(path).map_err(unreadable)? {
                roots
                    .add(certificate.map_err(unreadable)?)
                    .map_err(|_| InvalidRedis::CaFile("holds a certificate that is not valid"))?;
            }
            if roots.is_empty() {
                return Err(InvalidRedis::CaFile("holds no certificate"));
            }
        } else {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| InvalidRedis::Setup(error.to_string()))?;
        Ok(config.with_root_certificates(roots).with_no_client_auth())
    }
}

/// Reads one address, and whether it asks for TLS.
fn parse(address: &str, field: &'static str) -> Result<(Config, bool), InvalidRedis> {
    let (tls, rest) = match address.split_once("://") {
        None => (false, address),
        Some(("redis", rest)) => (false, rest),
        Some(("rediss", rest)) => (true, rest),
        Some(_) => return Err(InvalidRedis::Address(field)),
    };
    let config = Config::from_url_centralized(&format!("redis://{rest}"));
    Ok((config.map_err(|_| InvalidRedis::Address(field))?, tls))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(change: impl FnOnce(&mut RedisConfig)) -> Result<(Config, bool), InvalidRedis> {
        let mut config = RedisConfig::default();
        change(&mut config);
        config.servers()
    }

    #[test]
    fn addresses_come_bare_or_as_urls() {
        let of = |addr: &str| servers(|config| config.addr = Secret::new(addr)).expect("valid");
        let (config, tls) = of("cache.local:7000");
        assert_eq!(
            (config.server, tls),
            (ServerConfig::new_centralized("cache.local", 7000), false)
        );
        let (config, tls) = of("rediss://me:p%40ss@cache.local/3");
        assert_eq!(
            (config.server, tls),
            (ServerConfig::new_centralized("cache.local", 6379), true)
        );
        assert_eq!(config.username.as_deref(), Some("me"));
        assert_eq!(config.password.as_deref(), Some("p@ss"));
        assert_eq!(config.database, Some(3));
    }

    #[test]
    fn what_is_wrong_is_told_without_its_value() {
        assert_eq!(servers(|_| {}).err(), Some(InvalidRedis::Servers));
        let two = servers(|config| {
            config.addr = Secret::new("a:1");
            config.cluster_addrs = vec!["b:1".into()];
        });
        assert_eq!(two.err(), Some(InvalidRedis::Servers));
        for addr in ["http://a:1", "redis://", "a:port", "redis://me:secret@a:70000"] {
            let error = servers(|config| config.addr = Secret::new(addr)).expect_err(addr);
            assert_eq!(error, InvalidRedis::Address("addr"), "{addr}");
        }
        let nameless = servers(|config| config.sentinel_addrs = vec!["a:1".into()]);
        assert_eq!(nameless.err(), Some(InvalidRedis::SentinelMaster));
        let mut config = RedisConfig {
            cluster_addrs: vec!["a:1".into()],
            db: Some(1),
            ..RedisConfig::default()
        };
        assert_eq!(config.client().err(), Some(InvalidRedis::Database));
        config.db = None;
        config.cluster_addrs = vec!["rediss://a:1".into()];
        config.ca_file = Some("no-such-file.pem".into());
        assert!(matches!(config.client().err(), Some(InvalidRedis::CaFile(_))));
        config.password = Some(Secret::new("hidden"));
        config.addr = Secret::new("redis://:hidden@a");
        assert!(!format!("{config:?}").contains("hidden"));
    }
}
