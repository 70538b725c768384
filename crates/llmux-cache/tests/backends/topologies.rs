//! Passwords, databases, TLS, clusters and sentinels.

use llmux_cache::{Cache, Redis, RedisConfig};
use llmux_types::Secret;

use crate::servers::{Server, cli, cluster, wait_until};
use crate::{NOW, PATIENT, answer, block_on, config, connected, key, namespace, suite};

async fn keeps(cache: &Redis) {
    let key = key(&namespace(), "a");
    cache.put(&key, answer("a", 60_000), NOW).await;
    assert!(cache.get(&key, NOW).await.is_some());
}

#[test]
fn redis_asks_for_a_password_and_has_databases() {
    let server = Server::start(&["--requirepass", "p@ss word"]);
    block_on(async {
        let by_url =
            connected(&config(&format!("redis://:p%40ss%20word@{}/3", server.address()))).await;
        keeps(&by_url).await;
        let by_parts = RedisConfig {
            password: Some(Secret::new("p@ss word")),
            username: Some("default".to_owned()),
            db: Some(4),
            ..config(&server.address())
        };
        keeps(&connected(&by_parts).await).await;
    });
    for db in ["3", "4"] {
        let keys = cli(server.port, &["-a", "p@ss word", "--no-auth-warning", "-n", db, "dbsize"]);
        assert_eq!(keys.trim(), "1", "database {db}");
    }
}

#[test]
fn redis_holds_each_key_until_it_expires() {
    let server = Server::start(&[]);
    block_on(async {
        let cache = connected(&config(&server.address())).await;
        let key = key(&"space".into(), "a");
        cache.put(&key, answer("a", 60_000), NOW + 20_000).await;
        let name = format!("space:cache:{}", key.hex());
        let left: u64 = cli(server.port, &["pttl", &name]).trim().parse().unwrap();
        assert!((1..=40_000).contains(&left), "{left}");
        cli(server.port, &["set", &name, "of another program"]);
        assert_eq!(cache.get(&key, NOW).await, None);
    });
}

#[test]
fn tls_is_checked_against_the_authority_that_is_named() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let folder = std::env::temp_dir().join(format!("llmux-cache-tls-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (cert, private) = (folder.join("cert.pem"), folder.join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&private, made.signing_key.serialize_pem()).unwrap();
    let probe = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = probe.local_addr().unwrap().port();
    drop(probe);
    let files = [cert.to_str().unwrap(), private.to_str().unwrap()];
    let tls = [
        "--tls-port",
        &port.to_string(),
        "--tls-cert-file",
        files[0],
        "--tls-key-file",
        files[1],
        "--tls-auth-clients",
        "no",
    ];
    let _server = Server::start(&tls);
    block_on(async {
        let url = format!("rediss://localhost:{port}");
        let trusted = RedisConfig { ca_file: Some(cert.clone()), ..config(&url) };
        keeps(&connected(&trusted).await).await;
        let stranger = Redis::open(&config(&url)).unwrap();
        assert!(!stranger.ready(std::time::Duration::from_secs(1)).await);
    });
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_cluster_behaves_like_one_server() {
    let nodes = cluster();
    block_on(async {
        let clustered = RedisConfig {
            cluster_addrs: vec![nodes[0].address()],
            timeout: PATIENT,
            ..RedisConfig::default()
        };
        let cache = connected(&clustered).await;
        suite::what_is_put_is_found_until_it_expires(&cache).await;
        suite::what_is_removed_is_gone(&cache).await;
        suite::namespaces_are_flushed_one_by_one(&cache).await;
        suite::a_large_namespace_is_flushed_whole(&cache).await;
        let namespace = namespace();
        for number in 0..100 {
            cache.put(&key(&namespace, &number.to_string()), answer("a", 60_000), NOW).await;
        }
    });
    for node in &nodes {
        let keys: u64 = cli(node.port, &["dbsize"]).trim().parse().unwrap();
        assert!(keys > 0, "node {} has nothing", node.port);
    }
}

#[test]
fn sentinels_name_the_server_and_its_successor() {
    let mut first = Server::start(&[]);
    let second = Server::start(&["--replicaof", "127.0.0.1", &first.port.to_string()]);
    let sentinel = Server::sentinel(first.port);
    wait_until(|| {
        cli(sentinel.port, &["sentinel", "replicas", "main"]).contains(&second.port.to_string())
    });
    wait_until(|| cli(second.port, &["info", "replication"]).contains("master_link_status:up"));
    block_on(async {
        let config = RedisConfig {
            sentinel_addrs: vec![sentinel.address()],
            sentinel_master: "main".to_owned(),
            timeout: PATIENT,
            ..RedisConfig::default()
        };
        let cache = connected(&config).await;
        keeps(&cache).await;
        assert_eq!(cli(first.port, &["dbsize"]).trim(), "1");
        first.kill();
        wait_until(|| cli(second.port, &["role"]).contains("master"));
        let key = key(&namespace(), "b");
        for _ in 0..600 {
            cache.ready(std::time::Duration::from_millis(100)).await;
            cache.put(&key, answer("b", 60_000), NOW).await;
            if cache.get(&key, NOW).await.is_some() {
                return;
            }
        }
        panic!("the successor is not found: {:?}", cache.stats());
    });
}
