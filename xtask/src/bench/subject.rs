//! What is measured: nothing in between, nginx, LLMux with less and with all, LiteLLM.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use super::process::{Cores, Running, free_address, pinned};
use super::scenario::Vendor;
use super::{Programs, http, litellm};
use crate::say;
use crate::workspace::{output, program, succeeds};

pub(crate) const LITELLM: &str = "litellm";

/// The subjects' names, in the order of the report.
pub(crate) const SUBJECTS: &[&str] = &["direct", "nginx", "llmux-off", "llmux-on", LITELLM];

const CHAT: &str = "/v1/chat/completions";
const MASTER_KEY: &str = "sk-benchmark-master-key-0123456789abcdef";
/// How long a program may take to start.
const START: Duration = Duration::from_secs(60);

/// A benchmark does not stop for these.
pub(crate) fn is_optional(name: &str) -> bool {
    matches!(name, "nginx" | LITELLM)
}

/// Where the requests of one kind go.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) vendor: Vendor,
    pub(crate) address: SocketAddr,
    pub(crate) model: &'static str,
    /// Whole header lines.
    pub(crate) headers: Vec<String>,
    /// The process that bears the cost.
    pub(crate) pid: Option<u32>,
}

/// Something to measure, ready for requests.
#[derive(Debug)]
pub(crate) struct Subject {
    pub(crate) name: &'static str,
    /// Too slow for whole loads and many rounds.
    pub(crate) is_slow: bool,
    pub(crate) targets: Vec<Target>,
    /// What the reader should know of it.
    pub(crate) notes: Vec<String>,
    /// Kept so that they live as long as the subject.
    processes: Vec<Running>,
}

impl Subject {
    pub(crate) fn new(name: &'static str, processes: Vec<Running>, targets: Vec<Target>) -> Self {
        Self { name, is_slow: false, targets, notes: Vec::new(), processes }
    }

    pub(crate) fn target(&self, vendor: Vendor) -> Option<&Target> {
        self.targets.iter().find(|target| target.vendor == vendor)
    }

    /// Ends the processes in their own way.
    pub(crate) fn stop(&mut self) {
        self.processes.iter_mut().for_each(|process| process.stop("TERM"));
    }

    /// The main process.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.target(Vendor::Fast)?.pid
    }

    /// Sees that each target answers as it should.
    pub(crate) fn probe(&self) -> Result<(), String> {
        self.targets.iter().try_for_each(|target| {
            let answer = probe(target)?;
            if answer.status == 200 && answer.body.contains("\"choices\"") {
                return Ok(());
            }
            Err(format!("{:?} is answered with {}: {}", target.vendor, answer.status, answer.body))
        })
    }
}

fn probe(target: &Target) -> Result<http::Answer, String> {
    // With all fields that the load has.
    let messages =
        json!([{"role": "system", "content": "You answer."}, {"role": "user", "content": "Hello"}]);
    let body = json!({"model": target.model, "messages": messages, "temperature": 0.7, "max_tokens": 256, "stream": false});
    http::ask(target.address, "POST", CHAT, &target.headers, &body.to_string())
}

/// The mock vendors, one for each pace.
#[derive(Debug)]
pub(crate) struct Mocks {
    pub(crate) fast: SocketAddr,
    pub(crate) slow: SocketAddr,
    pub(crate) hold: SocketAddr,
    _processes: Vec<Running>,
}

impl Mocks {
    pub(crate) fn start(programs: &Programs, cores: &Cores) -> Result<Self, String> {
        let mut processes = Vec::new();
        let mut start = |flags: &[&str]| {
            let address = free_address()?;
            let mut command = pinned(cores.mock, &programs.mock);
            command.args(["--plain", "--no-record", "--chunks", "100"]).args(flags);
            command.args(["--port", &address.port().to_string()]).stdout(Stdio::null());
            let mut running = Running::start(&mut command)?;
            http::until_ready(address, "/v1/models", START, || running.is_alive())
                .map_err(|reason| format!("the mock vendor does not start: {reason}"))?;
            processes.push(running);
            Ok::<SocketAddr, String>(address)
        };
        Ok(Self {
            fast: start(&["--gap", "5ms"])?,
            slow: start(&["--gap", "5ms", "--latency", "50ms"])?,
            hold: start(&["--gap", "3s"])?,
            _processes: processes,
        })
    }

    /// The vendors that a subject without translation can pass requests on to.
    pub(crate) fn faces(&self) -> [(Vendor, SocketAddr, &'static str); 3] {
        [
            (Vendor::Fast, self.fast, "bench"),
            (Vendor::Slow, self.slow, "slow"),
            (Vendor::Hold, self.hold, "hold"),
        ]
    }
}

/// Starts a subject; `None` if it is not to be had, which was told.
pub(crate) fn start(
    name: &'static str,
    programs: &Programs,
    mocks: &Mocks,
    cores: &Cores,
    folder: &Path,
    target_dir: &Path,
) -> Result<Option<Subject>, String> {
    let folder = folder.join(name);
    make(&folder)?;
    let on_core = |program: &Path| pinned(cores.subject, program);
    let subject = match name {
        "nginx" => nginx(on_core, mocks, &folder)?,
        "llmux-off" => llmux_off(on_core, &programs.server, mocks, &folder)?,
        "llmux-on" => {
            let mut subject = llmux_on(on_core, &programs.server, mocks, &folder)?;
            with_cache(&mut subject, on_core, &programs.server, mocks, &folder)?;
            subject
        }
        LITELLM => litellm::start(on_core, mocks, &folder, target_dir)?,
        _ => direct(mocks),
    };
    subject.probe()?;
    Ok(Some(subject))
}

fn make(folder: &Path) -> Result<(), String> {
    fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))
}

pub(super) fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

pub(super) fn create(path: &Path) -> Result<File, String> {
    File::create(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn direct(mocks: &Mocks) -> Subject {
    let target = |(vendor, address, model)| Target {
        vendor,
        address,
        model,
        headers: Vec::new(),
        pid: None,
    };
    Subject::new("direct", Vec::new(), mocks.faces().map(target).into())
}

/// `proxy_pass` with connections to the vendor that are kept, no buffering of answers, no log.
pub(crate) fn nginx(
    command: impl Fn(&Path) -> Command,
    mocks: &Mocks,
    folder: &Path,
) -> Result<Subject, String> {
    let program = nginx_program()?;
    let mut servers = String::new();
    let mut targets = Vec::new();
    for (vendor, upstream, model) in mocks.faces() {
        let address = free_address()?;
        servers += &format!(
            "upstream {model} {{ server {upstream}; keepalive 512; keepalive_requests 1000000000; }}\n\
             server {{ listen {address} backlog=4096; location / {{ proxy_pass http://{model}; }} }}\n"
        );
        targets.push(Target { vendor, address, model, headers: Vec::new(), pid: None });
    }
    // A temporary folder for each kind of upstream: the compiled-in ones belong to somebody else.
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {kind};\n"))
        .concat();
    let config = format!(
        "daemon off;\nmaster_process off;\nworker_processes 1;\nworker_rlimit_nofile 65536;\npid nginx.pid;\n\
         error_log error.log warn;\nevents {{ worker_connections 40000; }}\nhttp {{\naccess_log off;\n{temporary}\
         client_max_body_size 64m;\nclient_body_buffer_size 1m;\nkeepalive_requests 1000000000;\n\
         keepalive_timeout 600s;\nproxy_http_version 1.1;\nproxy_set_header Connection \"\";\nproxy_buffering off;\n\
         proxy_read_timeout 600s;\n{servers}}}\n"
    );
    write(&folder.join("nginx.conf"), &config)?;
    let mut command = command(&program);
    command.arg("-p").arg(folder).args(["-c", "nginx.conf", "-e", "error.log"]);
    let mut running = Running::start(command.stdout(Stdio::null()).stderr(Stdio::null()))?;
    for target in &mut targets {
        target.pid = Some(running.pid());
        http::until_ready(target.address, "/v1/models", START, || running.is_alive()).map_err(
            |reason| {
                let log = fs::read_to_string(folder.join("error.log")).unwrap_or_default();
                format!("{reason} {}", log.trim())
            },
        )?;
    }
    Ok(Subject::new("nginx", vec![running], targets))
}

fn nginx_program() -> Result<PathBuf, String> {
    if let Some(program) = find("nginx") {
        return Ok(program);
    }
    if output(program("id").arg("-u")).is_ok_and(|id| id.trim() == "0") {
        say("nginx is missing: asking apt-get for it");
        let apt = |arguments: &[&str]| {
            let mut command = program("apt-get");
            // A run level of 1 keeps the package from starting a server of its own.
            command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive").env("RUNLEVEL", "1");
            succeeds(&mut command).unwrap_or(false)
        };
        let install = ["install", "--yes", "--quiet", "--no-install-recommends", "nginx"];
        let _ = apt(&install) || (apt(&["update", "--quiet"]) && apt(&install));
    }
    find("nginx").ok_or_else(|| "it is not installed; its package is named nginx".to_owned())
}

/// Finds a program in the search path, or where administrators have theirs.
pub(super) fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    folders.map(|folder| folder.join(name)).find(|program| program.is_file())
}

/// The providers of an LLMux subject, with as many deployments of the model `bench`.
fn providers(mocks: &Mocks, deployments: usize) -> Vec<Value> {
    // With prices, so that there is money to count.
    let model = |name: &str, upstream: &str| {
        json!({"name": name, "upstream": upstream, "input_cost_per_token": 0.000_001,
            "output_cost_per_token": 0.000_002})
    };
    let openai = |name: &str, address: SocketAddr, served: &str| {
        json!({"name": name, "type": "openai", "api_key": "k", "base_url": format!("http://{address}/v1"),
            "models": [model(served, served)]})
    };
    let mut providers: Vec<Value> = (0..deployments)
        .map(|number| openai(&format!("fast-{number}"), mocks.fast, "bench"))
        .collect();
    providers.push(openai("slow", mocks.slow, "slow"));
    providers.push(openai("hold", mocks.hold, "hold"));
    providers.push(json!({"name": "claude", "type": "anthropic", "api_key": "k",
        "base_url": format!("http://{}", mocks.fast), "models": [model("claude", "claude-sonnet-4-5")]}));
    providers
}

fn targets(address: SocketAddr, pid: u32, headers: &[String]) -> Vec<Target> {
    let faces = [
        (Vendor::Fast, "bench"),
        (Vendor::Slow, "slow"),
        (Vendor::Hold, "hold"),
        (Vendor::Anthropic, "claude"),
    ];
    let target = |(vendor, model)| Target {
        vendor,
        address,
        model,
        headers: headers.to_vec(),
        pid: Some(pid),
    };
    faces.map(target).into()
}

/// No keys, one deployment of each model, no metrics, no access log. Usage is recorded always.
pub(crate) fn llmux_off(
    command: impl Fn(&Path) -> Command,
    server: &Path,
    mocks: &Mocks,
    folder: &Path,
) -> Result<Subject, String> {
    let config = json!({
        "auth": {"enabled": false},
        "metrics": {"enabled": false},
        "logging": {"level": "warn"},
        "providers": providers(mocks, 1),
    });
    let (running, address) = llmux(command(server), config, folder)?;
    let targets = targets(address, running.pid(), &[]);
    Ok(Subject::new("llmux-off", vec![running], targets))
}

/// A virtual key with all its limits, the cleverest routing, metrics, a log of each request.
pub(crate) fn llmux_on(
    command: impl Fn(&Path) -> Command,
    server: &Path,
    mocks: &Mocks,
    folder: &Path,
) -> Result<Subject, String> {
    let (running, address) = llmux(command(server), everything(mocks), folder)?;
    let key = virtual_key(address)?;
    let targets = targets(address, running.pid(), &[key]);
    Ok(Subject::new("llmux-on", vec![running], targets))
}

fn everything(mocks: &Mocks) -> Value {
    json!({
        "auth": {"enabled": true, "master_key": MASTER_KEY},
        "metrics": {"enabled": true},
        "logging": {"level": "info", "format": "json"},
        "routing": {"strategy": "lowest-latency"},
        "providers": providers(mocks, 4),
    })
}

/// Gives a subject a gateway beside it that answers from its cache: with one cache for all there were no other answers.
fn with_cache(
    subject: &mut Subject,
    command: impl Fn(&Path) -> Command,
    server: &Path,
    mocks: &Mocks,
    folder: &Path,
) -> Result<(), String> {
    let folder = folder.join("cache");
    make(&folder)?;
    let mut config = everything(mocks);
    config["cache"] = json!({"enabled": true, "type": "local"});
    let (running, address) = llmux(command(server), config, &folder)?;
    let target = Target {
        vendor: Vendor::Cached,
        address,
        model: "bench",
        headers: vec![virtual_key(address)?],
        pid: Some(running.pid()),
    };
    probe(&target)?;
    if probe(&target)?.header("x-llmux-cache") == Some("hit") {
        subject.targets.push(target);
        subject.processes.push(running);
    } else {
        subject
            .notes
            .push("The cache was not measured: this LLMux answers nothing from it.".into());
    }
    Ok(())
}

/// Starts a server in a folder of its own, with one worker.
fn llmux(
    mut command: Command,
    mut config: Value,
    folder: &Path,
) -> Result<(Running, SocketAddr), String> {
    let address = free_address()?;
    config["server"] = json!({"host": "127.0.0.1", "port": address.port(), "workers": 1});
    // JSON is what the server reads, too, and needs no care for what YAML makes of strings.
    let file = folder.join("config.json");
    write(&file, &config.to_string())?;
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.env("LLMUX_DATA_DIR", folder.join("data")).current_dir(folder);
    command.arg("--config").arg(&file);
    command.stdout(create(&folder.join("stdout.log"))?).stderr(create(&folder.join("stderr.log"))?);
    let mut running = Running::start(&mut command)?;
    http::until_ready(address, "/health/ready", START, || running.is_alive()).map_err(
        |reason| {
            let log = |name| fs::read_to_string(folder.join(name)).unwrap_or_default();
            format!("{reason}\n{}{}", log("stdout.log"), log("stderr.log"))
        },
    )?;
    Ok((running, address))
}

/// Makes a key whose limits are counted and never reached. Returns the header that shows it.
fn virtual_key(address: SocketAddr) -> Result<String, String> {
    let limits = json!({"key_alias": "benchmark", "rpm_limit": 1_000_000_000, "tpm_limit": 1_000_000_000_000_u64,
        "max_budget": 1_000_000});
    let master = [format!("authorization: Bearer {MASTER_KEY}")];
    let answer = http::ask(address, "POST", "/key/generate", &master, &limits.to_string())?;
    let key = serde_json::from_str::<Value>(&answer.body).unwrap_or_default();
    match key["key"].as_str() {
        Some(key) => Ok(format!("authorization: Bearer {key}")),
        None => Err(format!("/key/generate is answered with {}: {}", answer.status, answer.body)),
    }
}
