//! `llmux-server demo`: real answers without a vendor's key.

use std::io::{self, Read as _, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use llmux_types::Secret;
use serde_json::{Value, json};

use crate::config::{Problem, Settings, Sources, load};
use crate::run::Addresses;

/// The models of the demo, all answered by the built-in fake vendor. The prices are made up, too. The data plane is
/// open, so that the first try needs no key.
const CONFIGURATION: &str = "\
auth:
  enabled: false
providers:
  - name: mock
    type: mock
    models:
      - {name: gpt-4o, input_cost_per_token: 0.0000025, output_cost_per_token: 0.00001}
      - {name: gpt-4o-mini, input_cost_per_token: 0.00000015, output_cost_per_token: 0.0000006}
      - {name: text-embedding-3-small, input_cost_per_token: 0.00000002, output_cost_per_token: 0}
";

/// A folder that is removed with everything in it when this is dropped.
pub(crate) struct TemporaryFolder(PathBuf);

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl TemporaryFolder {
    fn new() -> io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt as _;

        let name = format!("llmux-demo-{}-{:08x}", std::process::id(), fastrand::u32(..));
        let path = std::env::temp_dir().join(name);
        std::fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

/// Makes the demo's settings. Address and port come from the command line or the environment as usual; nothing else of
/// the user's configuration counts.
pub(crate) fn settings(
    sources: Sources,
) -> io::Result<(TemporaryFolder, Sources, Result<Settings, Vec<Problem>>)> {
    let folder = TemporaryFolder::new()?;
    let file = folder.path().join("config.yaml");
    std::fs::write(&file, CONFIGURATION)?;
    let port = sources.environment.get("PORT").cloned().map(|port| ("PORT".to_owned(), port));
    let data = ("LLMUX_DATA_DIR".to_owned(), folder.path().join("data").display().to_string());
    let sources = Sources {
        file: Some(file),
        env_file: None,
        environment: port.into_iter().chain([data]).collect(),
        // No `.env` of the user's is read from here.
        working_dir: folder.path().to_owned(),
        ..sources
    };
    let settings = load(&sources).map(|mut settings| {
        settings.auth.master_key.get_or_insert_with(|| {
            Secret::new(format!("sk-demo-{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..)))
        });
        settings
    });
    Ok((folder, sources, settings))
}

/// Tells a newcomer what to try. `master_key` is the demo's own.
pub(crate) fn introduce(
    addresses: &Addresses,
    master_key: &Secret,
    out: &mut dyn Write,
) -> io::Result<()> {
    let base = format!("http://{}", addresses.main);
    let master = master_key.expose();
    writeln!(
        out,
        "
LLMux demo: a gateway with a built-in mock provider at {base}/v1
Nothing leaves this machine, and no key is needed on it. Try:

  curl {base}/v1/chat/completions -H 'content-type: application/json' \\
    -d '{{\"model\": \"gpt-4o\", \"messages\": [{{\"role\": \"user\", \"content\": \"Hello\"}}]}}'

and with \"stream\": true."
    )?;
    match new_key(addresses.main, master) {
        Ok(key) => writeln!(
            out,
            "
A team's key with a budget of ten cents and ten requests a minute is made already. Use it, see what it spent, and
run into its limits:

  curl -i {base}/v1/chat/completions -H 'authorization: Bearer {key}' -H 'content-type: application/json' \\
    -d '{{\"model\": \"gpt-4o\", \"messages\": [{{\"role\": \"user\", \"content\": \"Hello\"}}]}}'
  curl {base}/key/info -H 'authorization: Bearer {key}'

Make more keys, and look at what everybody spent, with the master key of this demo:

  curl {base}/key/generate -H 'authorization: Bearer {master}' -d '{{\"max_budget\": 5, \"budget_duration\": \"30d\"}}'
  curl {base}/spend/logs -H 'authorization: Bearer {master}'
  curl {base}/global/activity -H 'authorization: Bearer {master}'"
        )?,
        Err(error) => writeln!(out, "\nThe demo's key could not be made: {error}")?,
    }
    writeln!(
        out,
        "\nMetrics for Prometheus: {base}/metrics\n\
         (deploy/grafana/llmux.json is a dashboard of them, deploy/prometheus/alerts.yml has rules)\n\n\
         Press Ctrl-C to stop.\n"
    )
}

/// Makes a team and its key as an operator would: by the management API.
fn new_key(address: SocketAddr, master_key: &str) -> io::Result<String> {
    let team = json!({ "team_id": "demo", "team_alias": "Demo team" });
    post(address, master_key, "/team/new", &team)?;
    let key = json!({
        "key_alias": "demo", "team_id": "demo", "max_budget": 0.1, "rpm_limit": 10, "budget_duration": "1d",
    });
    let made = post(address, master_key, "/key/generate", &key)?;
    let key = made.get("key").and_then(Value::as_str);
    key.map(str::to_owned).ok_or_else(|| io::Error::other("the answer has no key"))
}

/// The smallest client there can be.
fn post(address: SocketAddr, key: &str, path: &str, body: &Value) -> io::Result<Value> {
    let host = if address.ip().is_unspecified() {
        SocketAddr::new(Ipv4Addr::LOCALHOST.into(), address.port())
    } else {
        address
    };
    let body = body.to_string();
    let mut stream = TcpStream::connect(host)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    if !head.starts_with("HTTP/1.1 200") {
        return Err(io::Error::other(answer));
    }
    serde_json::from_str(body).map_err(io::Error::other)
}
