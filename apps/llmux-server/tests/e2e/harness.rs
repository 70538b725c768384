//! Runs the real binary with a configuration of the test's, in a folder of its own.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::{PATIENCE, Request, Response, send};
use crate::replay::Vendor;

/// A running gateway. Dropping it kills the process and removes its folder.
pub(crate) struct Gateway {
    pub(crate) address: SocketAddr,
    child: Child,
    output: Arc<Output>,
    readers: Vec<std::thread::JoinHandle<()>>,
    folder: PathBuf,
    configuration: Value,
    environment: Vec<(String, String)>,
    /// It serves TLS, which our plain client does not speak.
    tls: bool,
}

#[derive(Default)]
struct Output {
    lines: Mutex<Vec<String>>,
    more: Condvar,
}

impl Output {
    fn follow(
        self: &Arc<Self>,
        pipe: impl std::io::Read + Send + 'static,
    ) -> std::thread::JoinHandle<()> {
        let output = Arc::clone(self);
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                output.lines.lock().unwrap().push(line);
                output.more.notify_all();
            }
        })
    }

    fn text(&self) -> String {
        self.lines.lock().unwrap().join("\n")
    }
}

pub(crate) fn free_port() -> u16 {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    loop {
        let socket = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let port = socket.local_addr().expect("a bound socket has an address").port();
        // Two gateways can listen at one port, and would get each other's requests.
        if GIVEN.lock().expect("no test panics in here").insert(port) {
            return port;
        }
    }
}

impl Gateway {
    /// Starts a gateway; `configuration` needs no `server.host` and `server.port`.
    pub(crate) async fn start(configuration: Value) -> Self {
        Self::start_with(configuration, &[]).await
    }

    /// Starts a gateway with environment variables.
    pub(crate) async fn start_with(configuration: Value, environment: &[(&str, &str)]) -> Self {
        // The port was free a moment ago; if another process was faster, take another.
        for _ in 0..5 {
            if let Some(gateway) = Self::try_start(configuration.clone(), environment).await {
                return gateway;
            }
        }
        panic!("no port stayed free");
    }

    async fn try_start(configuration: Value, environment: &[(&str, &str)]) -> Option<Self> {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("llmux-e2e-{}-{next}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("the temporary folder is writable");
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let environment = environment.iter().map(owned).collect();
        let mut gateway = Self::spawn(folder, configuration, environment);
        gateway.ready().await.then_some(gateway)
    }

    /// Starts the process in a folder, on a new port.
    fn spawn(
        folder: PathBuf,
        mut configuration: Value,
        environment: Vec<(String, String)>,
    ) -> Self {
        let port = free_port();
        let server = configuration
            .as_object_mut()
            .expect("a configuration is an object")
            .entry("server")
            .or_insert(json!({}));
        server["host"] = json!("127.0.0.1");
        server["port"] = json!(port);
        if server.get("workers").is_none() {
            server["workers"] = json!(2);
        }
        let tls = server.get("tls").is_some();
        // JSON is YAML.
        let file = folder.join("config.yaml");
        std::fs::write(&file, serde_json::to_vec_pretty(&configuration).unwrap())
            .expect("the folder is writable");
        let mut command = Command::new(env!("CARGO_BIN_EXE_llmux-server"));
        command.arg("--config").arg(&file).env_clear().env("LLMUX_DATA_DIR", folder.join("data"));
        command.envs(environment.iter().map(|(name, value)| (name, value))).current_dir(&folder);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let output = Arc::new(Output::default());
        let readers = vec![
            output.follow(child.stdout.take().expect("stdout is piped")),
            output.follow(child.stderr.take().expect("stderr is piped")),
        ];
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        Self { address, child, output, readers, folder, configuration, environment, tls }
    }

    /// Ends the process at once, as a power cut would; the folder stays.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("our child can be killed");
        self.child.wait().expect("our child can be waited for");
    }

    /// Starts again on the same folder, after the process has ended. The port is another one.
    pub(crate) async fn revive(self) -> Self {
        let mut ended = self;
        loop {
            let folder = std::mem::take(&mut ended.folder);
            let configuration = ended.configuration.clone();
            ended = Self::spawn(folder, configuration, ended.environment.clone());
            if ended.ready().await {
                return ended;
            }
        }
    }

    /// Polls until the gateway is ready. Returns false if its port was taken.
    async fn ready(&mut self) -> bool {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("our child can be waited for") {
                if status.code() == Some(3) {
                    return false;
                }
                for reader in self.readers.drain(..) {
                    reader.join().expect("readers do not panic");
                }
                panic!("the gateway stopped with {status}:\n{}", self.output.text());
            }
            if tokio::net::TcpStream::connect(self.address).await.is_ok()
                && (self.tls || self.get("/health/ready").await.status == 200)
            {
                return true;
            }
            assert!(
                start.elapsed() < PATIENCE,
                "the gateway is not ready:\n{}",
                self.output.text()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Changes the configuration file, in place; the port stays. The gateway is not told.
    pub(crate) fn reconfigure(&mut self, mut configuration: Value) {
        let server = &mut configuration["server"];
        server["host"] = json!("127.0.0.1");
        server["port"] = json!(self.address.port());
        if server.get("workers").is_none() {
            server["workers"] = json!(2);
        }
        self.configuration = configuration;
        self.write_file(&serde_json::to_vec_pretty(&self.configuration).unwrap());
    }

    /// Replaces the content of the configuration file.
    pub(crate) fn write_file(&self, content: &[u8]) {
        std::fs::write(self.file(), content).expect("the folder is writable");
    }

    /// The configuration file.
    pub(crate) fn file(&self) -> PathBuf {
        self.folder.join("config.yaml")
    }

    /// The data folder.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Everything that the process has printed so far.
    pub(crate) fn printed(&self) -> String {
        self.output.text()
    }

    /// Waits until the process has printed `text`.
    pub(crate) async fn prints(&self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.printed().contains(text) {
            assert!(Instant::now() < deadline, "no {text:?} in:\n{}", self.printed());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Sends the signal with which service managers stop a process.
    pub(crate) fn terminate(&self) {
        self.signal("-TERM");
    }

    /// Sends a signal, named as `kill` knows it.
    pub(crate) fn signal(&self, signal: &str) {
        let status = Command::new("kill")
            .args([signal, &self.pid().to_string()])
            .status()
            .expect("kill is there");
        assert!(status.success(), "the gateway runs");
    }

    /// Waits for the process to end by itself.
    pub(crate) fn exit_code(&mut self) -> Option<i32> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("our child can be waited for") {
                return status.code();
            }
            assert!(Instant::now() < deadline, "the gateway does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The file of the data folder that holds the generated key: the one of at most 1 KiB with a key in it.
    pub(crate) fn only_small_file_in_data(&self) -> PathBuf {
        let entries = std::fs::read_dir(self.data()).expect("the data folder was made").flatten();
        let holds_key = |path: &PathBuf| {
            std::fs::read_to_string(path)
                .is_ok_and(|text| text.len() <= 1024 && text.contains("sk-"))
        };
        let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(holds_key).collect();
        assert_eq!(files.len(), 1, "{files:?}");
        files.remove(0)
    }

    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Response {
        send(self.address, &Request { method, path, headers, body }).await
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        self.send("GET", path, &[], b"").await.whole().await
    }

    pub(crate) async fn post(&self, path: &str, body: impl AsRef<[u8]>) -> Response {
        self.send("POST", path, &[], body.as_ref()).await.whole().await
    }

    pub(crate) async fn chat(&self, body: &Value) -> Response {
        self.post("/v1/chat/completions", body.to_string()).await
    }

    /// Sends a chat request of `model` with headers.
    pub(crate) async fn chat_with(&self, model: &str, headers: &[(&str, &str)]) -> Response {
        let body = ask(model).to_string();
        self.send("POST", "/v1/chat/completions", headers, body.as_bytes()).await.whole().await
    }

    /// Begins a chat stream of `model`; the answer's head has come when this returns.
    pub(crate) async fn open(&self, model: &str) -> Response {
        let body = json!({"model": model, "messages": [{"role": "user", "content": "hi"}], "stream": true}).to_string();
        self.send("POST", "/v1/chat/completions", &[], body.as_bytes()).await
    }

    /// Waits for the access log's line about a request.
    pub(crate) fn logged(&self, request_id: &str) -> Value {
        let deadline = Instant::now() + PATIENCE;
        let mut lines = self.output.lines.lock().unwrap();
        loop {
            let found = lines.iter().filter(|line| line.contains(request_id)).find_map(|line| {
                let line: Value = serde_json::from_str(line).ok()?;
                let line = if line.get("request_id").is_some() {
                    line
                } else {
                    line.get("fields")?.clone()
                };
                (line["request_id"] == request_id && line.get("status").is_some()).then_some(line)
            });
            if let Some(line) = found {
                return line;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(
                !left.is_zero(),
                "no access log line of {request_id} in:\n{}",
                lines.join("\n")
            );
            lines = self.output.more.wait_timeout(lines, left).unwrap().0;
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _killed = self.child.kill();
        let _reaped = self.child.wait();
        if std::thread::panicking() {
            use std::io::Write;
            let lines = self.output.lines.lock().unwrap();
            let last = lines.len().saturating_sub(30);
            let _written = writeln!(
                std::io::stderr(),
                "--- the gateway's last lines:\n{}\n---",
                lines[last..].join("\n")
            );
        }
        // A revived gateway has taken the folder over.
        if !self.folder.as_os_str().is_empty() {
            let _removed = std::fs::remove_dir_all(&self.folder);
        }
    }
}

/// A provider of type `openai` that is the scripted vendor's `name`, with one model of the same name.
pub(crate) fn provider(vendor: &Vendor, name: &str) -> Value {
    json!({"name": name, "type": "openai", "api_key": "sk-vendor", "base_url": vendor.url(name), "models": [name]})
}

/// A provider like [`provider`], with one model that is described as in the configuration.
pub(crate) fn serving(vendor: &Vendor, name: &str, model: Value) -> Value {
    let mut provider = provider(vendor, name);
    provider["models"] = json!([model]);
    provider
}

/// A configuration of these providers, without retries.
pub(crate) fn once(providers: Vec<Value>) -> Value {
    json!({"providers": providers, "routing": {"retry_count": 0}})
}

/// A chat request.
pub(crate) fn ask(model: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": "hi"}]})
}

/// A whole chat answer as OpenAI words it.
pub(crate) const ANSWER: &str = r#"{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"served","choices":[{"index":0,"message":{"role":"assistant","content":"hello","refusal":null},"finish_reason":"stop","logprobs":null}],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5},"x_new":[1.50]}"#;

/// One stream chunk with a delta.
pub(crate) fn chunk(delta: &str) -> String {
    format!(
        r#"{{"id":"c","object":"chat.completion.chunk","created":1,"model":"served","choices":[{{"index":0,"delta":{delta},"finish_reason":null}}]}}"#
    )
}

/// The chunk that ends a stream's text.
pub(crate) const STOP: &str = r#"{"id":"c","object":"chat.completion.chunk","created":1,"model":"served","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;

/// The chunk that only tells usage.
pub(crate) const USAGE: &str = r#"{"id":"c","object":"chat.completion.chunk","created":1,"model":"served","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}"#;

/// The opening chunk, which carries no output.
pub(crate) fn role() -> String {
    chunk(r#"{"role":"assistant","content":""}"#)
}

/// A chunk with text.
pub(crate) fn text(content: &str) -> String {
    chunk(&format!(r#"{{"content":"{content}"}}"#))
}
