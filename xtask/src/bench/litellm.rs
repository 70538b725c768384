//! LiteLLM's proxy, in a virtual environment of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use super::http;
use super::process::{Running, free_address};
use super::scenario::Vendor;
use super::subject::{Mocks, Subject, Target, create, write};
use crate::say;
use crate::workspace::{program, succeeds};

const MASTER_KEY: &str = "sk-benchmark";

/// It loads for long.
const START: Duration = Duration::from_secs(120);

/// Starts it with one worker, as it has one core, and with what its documentation recommends for production.
pub(super) fn start(
    command: impl Fn(&Path) -> Command,
    mocks: &Mocks,
    folder: &Path,
    target_dir: &Path,
) -> Result<Subject, String> {
    let environment = install(target_dir)?;
    let address = free_address()?;
    let openai = |(_, upstream, model): (Vendor, std::net::SocketAddr, &'static str)| {
        json!({"model_name": model, "litellm_params":
            {"model": format!("openai/{model}"), "api_key": "k", "api_base": format!("http://{upstream}/v1")}})
    };
    let mut models: Vec<Value> = mocks.faces().map(openai).into();
    models.push(json!({"model_name": "claude", "litellm_params":
        {"model": "anthropic/claude-sonnet-4-5", "api_key": "k", "api_base": format!("http://{}", mocks.fast)}}));
    let config = json!({
        "model_list": models,
        "general_settings": {"master_key": MASTER_KEY, "disable_spend_logs": true},
        "litellm_settings": {"request_timeout": 600, "set_verbose": false, "json_logs": true},
    });
    // JSON is YAML.
    let file = folder.join("config.yaml");
    write(&file, &config.to_string())?;
    let mut command = command(&environment.join("bin/litellm"));
    command.arg("--config").arg(&file).args(["--host", "127.0.0.1", "--num_workers", "1"]);
    command.args(["--port", &address.port().to_string()]).current_dir(folder);
    command.env("LITELLM_MODE", "PRODUCTION").env("LITELLM_LOG", "ERROR");
    command.env("LITELLM_LOCAL_MODEL_COST_MAP", "True");
    command.stdout(create(&folder.join("stdout.log"))?).stderr(create(&folder.join("stderr.log"))?);
    let mut running = Running::start(&mut command)?;
    http::until_ready(address, "/health/liveliness", START, || running.is_alive()).map_err(
        |reason| {
            let log = fs::read_to_string(folder.join("stderr.log")).unwrap_or_default();
            let last = log.lines().last().unwrap_or_default();
            format!("{reason} {last}")
        },
    )?;
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
        headers: vec![format!("authorization: Bearer {MASTER_KEY}")],
        pid: Some(running.pid()),
    };
    let targets = faces.map(target).into();
    let mut subject = Subject::new("litellm", vec![running], targets);
    subject.is_slow = true;
    subject.notes.push(
        "LiteLLM ran with one worker, a master key and no database, in the first round only, with a tenth of \
         the requests where their number is fixed."
            .to_owned(),
    );
    Ok(subject)
}

/// Makes the environment once. What was installed half is made anew.
fn install(target_dir: &Path) -> Result<PathBuf, String> {
    let folder = target_dir.join("xtask/litellm");
    let complete = folder.join("complete");
    if complete.exists() {
        return Ok(folder);
    }
    say("installing LiteLLM, which takes minutes");
    let _ = fs::remove_dir_all(&folder);
    let python = folder.join("bin/python");
    let made = succeeds(program("python3").args(["-m", "venv"]).arg(&folder))?
        && succeeds(
            program(&python.to_string_lossy())
                .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
                .arg("litellm[proxy]"),
        )?;
    if !made {
        return Err("pip cannot install it".to_owned());
    }
    write(&complete, "")?;
    Ok(folder)
}
