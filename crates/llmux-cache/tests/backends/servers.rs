//! Servers that a test starts for itself, on loopback, gone when it ends.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Starts a server, says its process id, and kills it when the standard input ends: that of a killed test ends, too.
const KEEPER: &str = r#""$0" "$@" </dev/null >/dev/null & pid=$!; exec 2>/dev/null; echo $pid; read -r _; kill -KILL $pid; wait $pid"#;

/// How long a server may take to start.
const START: Duration = Duration::from_secs(60);

pub(crate) struct Server {
    pub(crate) port: u16,
    keeper: Child,
    pid: String,
    folder: PathBuf,
}

impl Server {
    /// Starts a Redis with these arguments.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::on(free_port(), arguments)
    }

    pub(crate) fn on(port: u16, arguments: &[&str]) -> Self {
        let folder = folder();
        let port_text = port.to_string();
        let mut all = vec!["--port", &port_text, "--bind", "127.0.0.1"];
        all.extend(["--save", "", "--appendonly", "no"]);
        all.extend(arguments);
        Self::run(port, folder, &all)
    }

    /// Starts a sentinel that watches `main` under the name `main`.
    pub(crate) fn sentinel(main: u16) -> Self {
        let (port, folder) = (free_port(), folder());
        let file = folder.join("sentinel.conf");
        let watch = format!(
            "port {port}\nbind 127.0.0.1\nsentinel monitor main 127.0.0.1 {main} 1\n\
             sentinel down-after-milliseconds main 1000\nsentinel failover-timeout main 3000\n"
        );
        fs::write(&file, watch).unwrap();
        Self::run(port, folder, &[file.to_str().unwrap(), "--sentinel"])
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

    pub(crate) fn freeze(&self) {
        self.signal("-STOP");
    }

    pub(crate) fn thaw(&self) {
        self.signal("-CONT");
    }

    pub(crate) fn kill(&mut self) {
        drop(self.keeper.stdin.take());
        self.keeper.wait().unwrap();
    }

    fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.pid]).status();
        assert!(status.unwrap().success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A cluster of three nodes, each with a third of the slots.
pub(crate) fn cluster() -> Vec<Server> {
    let nodes: Vec<Server> = (0..3)
        .map(|_| {
            // The bus has a port of its own.
            let bus = free_port().to_string();
            Server::start(&[
                "--cluster-enabled",
                "yes",
                "--cluster-port",
                &bus,
                "--cluster-require-full-coverage",
                "no",
            ])
        })
        .collect();
    let addresses: Vec<String> = nodes.iter().map(Server::address).collect();
    let mut create = Command::new("redis-cli");
    create.args(["--cluster", "create"]).args(&addresses).args([
        "--cluster-replicas",
        "0",
        "--cluster-yes",
    ]);
    let made = create.stdin(Stdio::null()).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stdout));
    for node in &nodes {
        wait_until(|| cli(node.port, &["cluster", "info"]).contains("cluster_state:ok"));
    }
    nodes
}

pub(crate) fn cli(port: u16, arguments: &[&str]) -> String {
    let output =
        Command::new("redis-cli").args(["-p", &port.to_string()]).args(arguments).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Waits for something outside of this process, which nobody tells of.
pub(crate) fn wait_until(mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < START, "it does not come about");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

fn folder() -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let folder = std::env::temp_dir().join(format!("llmux-cache-{}-{number}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    folder
}
