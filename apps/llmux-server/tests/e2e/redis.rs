//! The response cache in Redis: shared by gateways, and never missed by their clients when it is gone.

use std::io::{BufRead as _, BufReader};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cache::caching;
use crate::client::PATIENCE;
use crate::harness::{ANSWER, Gateway, ask, free_port};
use crate::replay::{Reply, Vendor};

/// Starts a server, says its process id, and kills it when the standard input ends: that of a killed test ends, too.
const KEEPER: &str = r#""$0" "$@" </dev/null >/dev/null & pid=$!; exec 2>/dev/null; echo $pid; read -r _; kill -KILL $pid; wait $pid"#;

/// A Redis of the test's own.
pub(crate) struct Redis {
    pub(crate) port: u16,
    keeper: Child,
    pid: String,
    folder: PathBuf,
}

impl Redis {
    pub(crate) fn start() -> Self {
        Self::on(free_port(), &[])
    }

    fn on(port: u16, arguments: &[&str]) -> Self {
        let port_text = port.to_string();
        let mut all = vec!["--port", &port_text, "--bind", "127.0.0.1"];
        all.extend(["--save", "", "--appendonly", "no"]);
        all.extend(arguments);
        Self::run(port, Self::folder(), &all)
    }

    /// Starts a sentinel that watches the server at `main` under the name `main`.
    fn sentinel(main: u16) -> Self {
        let (port, folder) = (free_port(), Self::folder());
        let file = folder.join("sentinel.conf");
        let watch =
            format!("port {port}\nbind 127.0.0.1\nsentinel monitor main 127.0.0.1 {main} 1\n");
        std::fs::write(&file, watch).unwrap();
        Self::run(port, folder, &[file.to_str().unwrap(), "--sentinel"])
    }

    fn folder() -> PathBuf {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder =
            std::env::temp_dir().join(format!("llmux-e2e-redis-{}-{next}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    fn run(port: u16, folder: PathBuf, arguments: &[&str]) -> Self {
        let mut keeper = Command::new("sh")
            .args(["-c", KEEPER, "redis-server"])
            .args(arguments)
            .current_dir(&folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut pid = String::new();
        BufReader::new(keeper.stdout.take().unwrap()).read_line(&mut pid).unwrap();
        let server = Self { port, keeper, pid: pid.trim().to_owned(), folder };
        wait_until(|| TcpStream::connect(("127.0.0.1", port)).is_ok());
        server
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.pid]).status();
        assert!(status.unwrap().success());
    }

    pub(crate) fn kill(&mut self) {
        drop(self.keeper.stdin.take());
        self.keeper.wait().unwrap();
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _reaped = self.keeper.wait();
        let _removed = std::fs::remove_dir_all(&self.folder);
    }
}

fn wait_until(mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "it does not come about");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A configuration of model `m` with the cache in Redis.
fn shared(vendor: &Vendor, kind: &str, redis: Value) -> Value {
    let mut configuration = caching(vendor, &["m"], json!({"type": kind}));
    configuration["redis"] = redis;
    configuration
}

async fn vendor() -> Vendor {
    let vendor = Vendor::start().await;
    vendor.script("m", [Reply::json(200, ANSWER)]);
    vendor
}

fn seeded(seed: u64) -> Value {
    let mut body = ask("m");
    body["seed"] = json!(seed);
    body
}

impl Gateway {
    /// Waits until a place has taken so many answers: they are written after the client has them.
    async fn written(&self, tier: &str, count: u64) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let stats = self.administer("GET", "/cache/stats", "").await.json();
            let tiers = stats["tiers"].as_array().unwrap();
            let found = tiers.iter().find(|it| it["tier"] == tier).unwrap();
            if found["writes"].as_u64().unwrap() >= count {
                return;
            }
            assert!(Instant::now() < deadline, "{stats}");
        }
    }
}

/// Asserts that two gateways give each other's answers.
async fn assert_shared(vendor: &Vendor, configuration: Value) {
    let one = Gateway::start(configuration.clone()).await;
    let other = Gateway::start(configuration).await;
    one.chat(&seeded(1)).await.assert_cache("miss");
    one.written("redis", 1).await;
    other.chat(&seeded(1)).await.assert_cache("hit");
    assert_eq!(vendor.seen("m").len(), 1);
    let flushed = other.administer("POST", "/cache/flush", "").await.json();
    assert_eq!((&flushed["complete"], flushed["removed"].as_u64() > Some(0)), (&json!(true), true));
    one.chat(&seeded(2)).await.assert_cache("miss");
}

#[tokio::test]
async fn gateways_share_what_is_in_one_redis() {
    let (vendor, redis) = (vendor().await, Redis::start());
    let address = json!({"addr": redis.address()});
    assert_shared(&vendor, shared(&vendor, "redis", address.clone())).await;
    let mut both = shared(&vendor, "dual", address);
    both["cache"]["namespace"] = json!("dual");
    vendor.forget();
    assert_shared(&vendor, both).await;
}

#[tokio::test]
async fn gateways_share_what_is_in_a_cluster_or_behind_sentinels() {
    let vendor = vendor().await;
    let nodes: Vec<Redis> = (0..3)
        .map(|_| {
            let bus = free_port().to_string();
            Redis::on(free_port(), &["--cluster-enabled", "yes", "--cluster-port", &bus])
        })
        .collect();
    let addresses: Vec<String> = nodes.iter().map(Redis::address).collect();
    let mut create = Command::new("redis-cli");
    create.args(["--cluster", "create"]).args(&addresses);
    create.args(["--cluster-replicas", "0", "--cluster-yes"]);
    assert!(create.stdin(Stdio::null()).output().unwrap().status.success());
    for node in &nodes {
        wait_until(|| {
            let port = node.port.to_string();
            let info = Command::new("redis-cli").args(["-p", &port, "cluster", "info"]).output();
            String::from_utf8_lossy(&info.unwrap().stdout).contains("cluster_state:ok")
        });
    }
    assert_shared(&vendor, shared(&vendor, "redis", json!({"cluster_addrs": addresses}))).await;

    vendor.forget();
    let main = Redis::start();
    let sentinel = Redis::sentinel(main.port);
    let behind = json!({"sentinel_addrs": [sentinel.address()], "sentinel_master": "main"});
    assert_shared(&vendor, shared(&vendor, "redis", behind)).await;
}

/// Makes `count` calls, eight at a time, all of which must succeed.
async fn load(gateway: &Gateway, seeds: u64, count: u64) {
    let address = gateway.address;
    let tasks: Vec<_> = (0..8_u64)
        .map(|task| {
            tokio::spawn(async move {
                for number in 0..count / 8 {
                    let body = seeded((task + number) % seeds).to_string();
                    let request = crate::client::Request {
                        method: "POST",
                        path: "/v1/chat/completions",
                        headers: &[],
                        body: body.as_bytes(),
                    };
                    let response = crate::client::send(address, &request).await.whole().await;
                    assert_eq!(response.status, 200, "{}", response.text());
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

#[tokio::test]
async fn no_client_sees_that_redis_froze_or_died() {
    for kind in ["redis", "dual"] {
        let (vendor, mut redis) = (vendor().await, Redis::start());
        let gateway = Gateway::start(shared(&vendor, kind, json!({"addr": redis.address()}))).await;
        gateway.chat(&seeded(0)).await.assert_cache("miss");
        gateway.written("redis", 1).await;
        let port = redis.port;
        let (done, ()) = tokio::join!(load(&gateway, 5, 400), async {
            redis.signal("-STOP");
            load(&gateway, 5, 80).await;
            redis.signal("-CONT");
            load(&gateway, 5, 80).await;
            redis.kill();
        });
        let () = done;
        load(&gateway, 5, 80).await;
        let stats = gateway.administer("GET", "/cache/stats", "").await.json();
        let tier = stats["tiers"].as_array().unwrap().last().unwrap().clone();
        assert_eq!((&tier["tier"], &tier["healthy"]), (&json!("redis"), &json!(false)), "{stats}");
        let flushed = gateway.administer("POST", "/cache/flush", "").await;
        assert_eq!((flushed.status, &flushed.json()["complete"]), (200, &json!(false)));

        // It comes back, and is used again.
        let _back = Redis::on(port, &[]);
        let deadline = Instant::now() + PATIENCE;
        let mut seed = 100;
        loop {
            seed += 1;
            gateway.chat(&seeded(seed)).await.assert_cache("miss");
            let again = Gateway::start(shared(
                &vendor,
                "redis",
                json!({"addr": format!("127.0.0.1:{port}")}),
            ));
            let response = again.await.chat(&seeded(seed)).await;
            if response.header("x-llmux-cache") == Some("hit") {
                break;
            }
            assert!(Instant::now() < deadline, "Redis is not used again");
        }
    }
}

#[tokio::test]
async fn a_gateway_starts_without_its_redis() {
    let vendor = vendor().await;
    let port = free_port();
    let configuration = shared(&vendor, "dual", json!({"addr": format!("127.0.0.1:{port}")}));
    let gateway = Gateway::start(configuration).await;
    assert!(gateway.printed().contains("Redis does not answer"), "{}", gateway.printed());
    gateway.chat(&seeded(1)).await.assert_cache("miss");
    gateway.chat(&seeded(1)).await.assert_cache("hit");
}
