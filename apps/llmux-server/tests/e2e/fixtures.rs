//! Every recorded interaction through the real binary: what the vendor got, what the client got, what the log says.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::sync::OnceLock;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::bytes::{Item, items, span, splice, with_string, without_member};
use crate::client::Response;
use crate::harness::{Gateway, once};
use crate::replay::{Seen, Vendor, is_event_stream};
use crate::table;

/// A recorded interaction.
#[derive(Deserialize)]
pub(crate) struct Fixture {
    pub(crate) id: String,
    pub(crate) provider: String,
    pub(crate) api: String,
    pub(crate) stream: bool,
    pub(crate) model: Option<String>,
    pub(crate) request: RecordedRequest,
    pub(crate) response: RecordedResponse,
    pub(crate) expect: Value,
    /// What it has something of.
    pub(crate) features: Vec<String>,
    /// What a client of OpenAI's dialect asks to get the answer of a vendor with another dialect.
    #[serde(default)]
    pub(crate) client_request: Value,
}

#[derive(Deserialize)]
pub(crate) struct RecordedRequest {
    pub(crate) url: String,
    pub(crate) body: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
pub(crate) struct RecordedResponse {
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

/// Vendors with a dialect of their own.
const TRANSLATED: [&str; 3] = ["anthropic", "gemini", "vertex"];

/// The recordings of vendors that speak OpenAI's dialect, sorted by path.
pub(crate) fn fixtures() -> &'static [Fixture] {
    static ALL: OnceLock<Vec<Fixture>> = OnceLock::new();
    ALL.get_or_init(|| read_fixtures(|provider| !TRANSLATED.contains(&provider)))
}

/// The recordings of vendors that speak a dialect of their own, sorted by path.
pub(crate) fn translated() -> &'static [Fixture] {
    static ALL: OnceLock<Vec<Fixture>> = OnceLock::new();
    ALL.get_or_init(|| read_fixtures(|provider| TRANSLATED.contains(&provider)))
}

fn read_fixtures(wanted: impl Fn(&str) -> bool) -> Vec<Fixture> {
    {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../crates/llmux-providers/tests/fixtures");
        let folders = std::fs::read_dir(&root)
            .expect("the recordings are there")
            .flatten()
            .filter(|entry| entry.path().is_dir())
            .filter(|entry| wanted(&entry.file_name().to_string_lossy()));
        let mut files: Vec<_> = folders
            .flat_map(|folder| {
                std::fs::read_dir(folder.path()).expect("the folder is readable").flatten()
            })
            .map(|entry| entry.path())
            .collect();
        files.sort();
        let read =
            |path| serde_json::from_slice(&std::fs::read(path).expect("the file is readable"));
        files
            .iter()
            .map(|path| read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
            .collect()
    }
}

/// Vendors that are configured by their own type; all others are `openai` with another base URL.
const TYPES: &[&str] = &[
    "azure",
    "cerebras",
    "deepseek",
    "groq",
    "mistral",
    "ollama",
    "openrouter",
    "perplexity",
    "together",
    "xai",
    "zai",
];

impl Fixture {
    /// What the client asks for: a name of our own.
    pub(crate) fn alias(&self) -> String {
        format!("alias/{}", self.id)
    }

    pub(crate) fn upstream_model(&self) -> &str {
        self.model.as_deref().unwrap_or("whisper-1")
    }

    pub(crate) fn is_azure_classic(&self) -> bool {
        self.provider == "azure" && self.request.url.contains("/deployments/")
    }

    /// A name of few letters, since recordings have long ids.
    fn provider_name(&self, switches: &str) -> String {
        let hash = self.id.rsplit('-').next().unwrap_or_default();
        format!("{}-{hash}{}", self.provider, switches.replace(['~', '='], "."))
    }

    /// The provider that plays this recording; `switches` go to the replaying vendor.
    pub(crate) fn provider(&self, vendor: &Vendor, switches: &str) -> Value {
        let kind = TYPES.iter().find(|kind| **kind == self.provider).unwrap_or(&"openai");
        let name = format!("{}{switches}", self.id);
        let mut provider = json!({
            "name": self.provider_name(switches),
            "type": kind,
            "api_key": "sk-vendor",
            "base_url": vendor.url(&name),
            "models": [{"name": format!("{}{switches}", self.alias()), "upstream": self.upstream_model()}],
        });
        if let Some((_, version)) =
            self.request.url.split_once("api-version=").filter(|_| self.is_azure_classic())
        {
            provider["api_version"] = json!(version);
        }
        provider
    }

    fn path(&self) -> String {
        let tail = match self.api.as_str() {
            "chat" => "chat/completions",
            "audio.transcriptions" => "audio/transcriptions",
            other => other,
        };
        format!("/v1/{tail}")
    }

    /// Content type and bytes of the client's request for `model`.
    pub(crate) fn client_request(&self, model: &str) -> (&'static str, Vec<u8>) {
        match &self.request.body {
            Some(body) => {
                ("application/json", with_string(body.get().as_bytes(), &["model"], model))
            }
            None => ("multipart/form-data; boundary=X-cut-X", multipart(model)),
        }
    }

    /// Does the client want to see the usage of its stream?
    pub(crate) fn asks_for_usage(&self) -> bool {
        let body = self.request.body.as_ref().map_or("null", |body| body.get());
        let body: Value = serde_json::from_str(body).expect("recorded bodies are JSON");
        body["stream_options"]["include_usage"] == true
    }

    fn is_chunked(&self) -> bool {
        matches!(self.api.as_str(), "chat" | "completions")
    }

    /// What the client must get of the recorded stream.
    pub(crate) fn expected_stream(&self, model: &str, shows_usage: bool) -> Vec<Item> {
        let mut expected = Vec::new();
        for item in items(self.response.body.as_bytes()) {
            let json = item.json();
            let hidden =
                json["choices"].as_array().is_some_and(Vec::is_empty) && json["usage"].is_object();
            if self.is_chunked() && (item.is_done() || (hidden && !shows_usage)) {
                continue;
            }
            expected.push(match item {
                Item::Event { name, id, data } => {
                    let data = with_string(
                        &with_string(&data, &["model"], model),
                        &["response", "model"],
                        model,
                    );
                    Item::Event { name, id, data }
                }
                comment => comment,
            });
        }
        if self.is_chunked() {
            expected.push(Item::Event { name: None, id: None, data: b"[DONE]".to_vec() });
        }
        expected
    }
}

fn multipart(model: &str) -> Vec<u8> {
    let head = format!(
        "--X-cut-X\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\n{model}\r\n--X-cut-X\r\n\
         content-disposition: form-data; name=\"stream\"\r\n\r\ntrue\r\n--X-cut-X\r\n\
         content-disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\ncontent-type: audio/wav\r\n\r\n"
    );
    [head.as_bytes(), b"RIFF\0\xff\r\n--X-cut\r\n\x80\n", b"\r\n--X-cut-X--\r\n"].concat()
}

/// Ends with a complaint, as assertions do, but lets the other recordings go on.
macro_rules! ensure {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err(format!($($message)+));
        }
    };
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Undoes the allowed edits in what the vendor got, and compares with what the client sent.
pub(crate) fn check_request(
    fixture: &Fixture,
    alias: &str,
    sent: &[u8],
    seen: &Seen,
) -> Result<(), String> {
    if fixture.request.body.is_none() {
        ensure!(
            seen.body == multipart(fixture.upstream_model()),
            "the multipart body changed: {}",
            lossy(&seen.body)
        );
        return Ok(());
    }
    let upstream = span(&seen.body, &["model"]).map(|range| lossy(&seen.body[range]));
    ensure!(
        upstream == Some(format!("\"{}\"", fixture.upstream_model())),
        "the vendor was asked for model {upstream:?}"
    );
    let mut undone = vec![with_string(&seen.body, &["model"], alias)];
    if fixture.stream && fixture.is_chunked() {
        let options = span(&seen.body, &["stream_options"]);
        let told: Value = options.clone().map_or(Value::Null, |range| {
            serde_json::from_slice(&seen.body[range]).unwrap_or_default()
        });
        if matches!(fixture.provider.as_str(), "openai") || fixture.asks_for_usage() {
            ensure!(
                told["include_usage"] == true,
                "usage was not asked for: {}",
                lossy(&seen.body)
            );
        }
        match span(sent, &["stream_options"]) {
            None if options.is_some() => undone = without_member(&undone[0], "stream_options"),
            Some(range) if !fixture.asks_for_usage() => {
                let now = span(&undone[0], &["stream_options"]).ok_or("stream_options got lost")?;
                undone = vec![splice(&undone[0], now, &sent[range])];
            }
            _ => {}
        }
    }
    ensure!(
        undone.iter().any(|body| body == sent),
        "the request changed:\n sent {}\n seen {}",
        lossy(sent),
        lossy(&seen.body)
    );
    Ok(())
}

fn check_target(fixture: &Fixture, seen: &Seen) -> Result<(), String> {
    ensure!(seen.method == "POST", "method {}", seen.method);
    let tail = fixture.path().replacen("/v1", "", 1);
    let key = if fixture.provider == "azure" {
        seen.header("api-key")
    } else {
        seen.header("authorization")
    };
    let expected = if fixture.provider == "azure" { "sk-vendor" } else { "Bearer sk-vendor" };
    ensure!(key == Some(expected), "credential {key:?}");
    if fixture.provider == "azure" {
        let deployment = fixture.upstream_model().replace('/', "%2F");
        let classic = format!("/openai/deployments/{deployment}{tail}?api-version=");
        let v1 = format!("/openai/v1{tail}");
        let plain = format!("/openai{tail}?api-version=");
        let fits = seen.target.starts_with(&classic)
            || seen.target.starts_with(&v1)
            || (fixture.api == "responses" && seen.target.starts_with(&plain));
        ensure!(fits, "target {}", seen.target);
        if let Some((_, version)) =
            fixture.request.url.split_once("api-version=").filter(|_| fixture.is_azure_classic())
        {
            ensure!(
                seen.target.ends_with(&format!("api-version={version}")),
                "target {}",
                seen.target
            );
        }
    } else {
        ensure!(seen.target == tail, "target {}", seen.target);
    }
    Ok(())
}

/// The status that the contract's table makes of a vendor's.
pub(crate) fn mapped(status: u16) -> u16 {
    match status {
        401 | 402 => 502,
        408 | 504 => 504,
        503 | 529 => 503,
        500.. => 502,
        other => other,
    }
}

fn check_error(fixture: &Fixture, response: &Response) -> Result<(), String> {
    ensure!(
        response.status == mapped(fixture.response.status),
        "status {} for {}",
        response.status,
        fixture.response.status
    );
    let body: Value = serde_json::from_slice(&response.body)
        .map_err(|error| format!("{error}: {}", response.text()))?;
    let error = &body["error"];
    for member in ["message", "type", "param", "code"] {
        ensure!(error.get(member).is_some(), "no {member} in {body}");
    }
    if fixture.response.status == 401 {
        ensure!(
            error["type"] == "upstream_authentication_error"
                || error["code"] == "upstream_authentication_error",
            "{body}"
        );
        return Ok(());
    }
    let message = fixture.expect["error"]["message"].as_str().unwrap_or_default();
    ensure!(
        error["message"].as_str().is_some_and(|text| text.contains(message)),
        "the vendor's message is lost: {body}"
    );
    let vendor: Value =
        serde_json::from_str(&fixture.response.body).map_err(|error| error.to_string())?;
    if let Some(members) = vendor["error"].as_object().filter(|_| fixture.response.status != 429) {
        for (member, value) in members.iter().filter(|(_, value)| !value.is_null()) {
            ensure!(
                error[member] == *value,
                "the vendor's {member} {value} became {}",
                error[member]
            );
        }
    }
    Ok(())
}

fn check_answer(fixture: &Fixture, alias: &str, response: &Response) -> Result<(), String> {
    ensure!(
        response.status == fixture.response.status,
        "status {}: {}",
        response.status,
        response.text()
    );
    let (theirs, ours) = (
        fixture.response.headers.get("content-type").map(String::as_str),
        response.header("content-type"),
    );
    ensure!(theirs == ours, "content type {theirs:?} became {ours:?}");
    if !is_event_stream(fixture) {
        let expected = with_string(fixture.response.body.as_bytes(), &["model"], alias);
        ensure!(
            response.body == expected,
            "the answer changed:\n want {}\n got  {}",
            lossy(&expected),
            response.text()
        );
        return Ok(());
    }
    let got = items(&response.body);
    if let Some(error) = fixture.expect.get("stream_error").filter(|error| error.is_object()) {
        return check_broken_stream(fixture, alias, &got, error);
    }
    let expected = fixture.expected_stream(alias, fixture.asks_for_usage());
    for (at, want) in expected.iter().enumerate() {
        ensure!(
            got.get(at) == Some(want),
            "item {at} of the stream:\n want {want:?}\n got  {:?}",
            got.get(at)
        );
    }
    ensure!(
        got.len() == expected.len(),
        "{} items more: {:?}",
        got.len() - expected.len(),
        &got[expected.len()..]
    );
    Ok(())
}

/// An error after the first output: the vendor's items up to it, an error event, no `[DONE]`.
fn check_broken_stream(
    fixture: &Fixture,
    alias: &str,
    got: &[Item],
    error: &Value,
) -> Result<(), String> {
    let expected = fixture.expected_stream(alias, true);
    let broken = expected
        .iter()
        .position(|item| item.json()["error"].is_object())
        .ok_or("the recording has no error event")?;
    ensure!(got.len() == broken + 1, "{} items instead of {}", got.len(), broken + 1);
    ensure!(got[..broken] == expected[..broken], "what came before the error changed");
    let told = got[broken].json();
    let message = error["message"].as_str().unwrap_or_default();
    ensure!(
        told["error"]["message"].as_str().is_some_and(|text| text.contains(message)),
        "the error event is {told}"
    );
    Ok(())
}

fn check_log(fixture: &Fixture, status: u16, log: &Value) -> Result<(), String> {
    ensure!(log["status"] == status, "the log says status {}", log["status"]);
    ensure!(log["attempts"] == 1, "the log says {} attempts", log["attempts"]);
    ensure!(log["model"] == fixture.alias(), "the log says model {}", log["model"]);
    let Some(usage) = fixture.expect.get("usage") else { return Ok(()) };
    for field in
        ["prompt_tokens", "completion_tokens", "total_tokens", "cached_tokens", "reasoning_tokens"]
    {
        let (want, got) = (&usage[field], log.get(field).unwrap_or(&Value::Null));
        // Embeddings complete nothing: whether a vendor says 0 or nothing makes no difference.
        let nothing = fixture.api == "embeddings" && want.is_null() && *got == 0;
        // These have members of their own for it, which the expectations do not know.
        let own = field == "cached_tokens"
            && want.is_null()
            && ["huggingface", "mistral"].contains(&fixture.provider.as_str());
        ensure!(want == got || nothing || own, "{field} is {got} instead of {want}");
    }
    if let Some(reason) = fixture.expect.get("finish_reason") {
        let native = &fixture.expect["native_finish_reason"];
        let got = log.get("finish_reason").unwrap_or(&Value::Null);
        ensure!(
            got == reason || got == native,
            "finish_reason is {got} instead of {reason} ({native})"
        );
    }
    Ok(())
}

async fn check(fixture: &Fixture, gateway: &Gateway, vendor: &Vendor) -> Result<(), String> {
    let alias = fixture.alias();
    let (content_type, sent) = fixture.client_request(&alias);
    let headers = [("content-type", content_type), ("x-request-id", fixture.id.as_str())];
    let mut response = gateway.send("POST", &fixture.path(), &headers, &sent).await;
    ensure!(response.finish().await, "the body was cut: {}", response.text());
    let seen = vendor.seen(&fixture.id);
    ensure!(seen.len() == 1, "{} requests reached the vendor: {}", seen.len(), response.text());
    check_target(fixture, &seen[0])?;
    check_request(fixture, &alias, &sent, &seen[0])?;
    if fixture.response.status == 200 {
        check_answer(fixture, &alias, &response)?;
    } else {
        check_error(fixture, &response)?;
    }
    check_log(fixture, response.status, &gateway.logged(&fixture.id))
}

/// Reads a list of exceptions: `<id>: <reason>`, one a line.
pub(crate) fn exceptions(list: &'static str) -> BTreeMap<&'static str, &'static str> {
    let lines = list.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines.map(|line| line.split_once(": ").expect("an exception is `<id>: <reason>`")).collect()
}

#[tokio::test]
async fn recorded_interactions_pass_through_byte_for_byte() {
    let vendor = Vendor::start().await;
    let gateway = Gateway::start(once(
        fixtures().iter().map(|fixture| fixture.provider(&vendor, "")).collect(),
    ))
    .await;
    let exceptions = exceptions(include_str!("exceptions.txt"));
    let (mut passed, mut complaints) = (Vec::new(), Vec::new());
    for fixture in fixtures() {
        match (check(fixture, &gateway, &vendor).await, exceptions.get(fixture.id.as_str())) {
            (Ok(()), None) => passed.push(fixture),
            (Ok(()), Some(_)) => {
                complaints.push(format!("{}: is listed as an exception and passes", fixture.id))
            }
            (Err(_), Some(_)) => {}
            (Err(reason), None) => complaints.push(format!("{}: {reason}", fixture.id)),
        }
    }
    writeln!(std::io::stdout(), "fixtures: {} / {}", passed.len(), fixtures().len())
        .expect("stdout is open");
    for (id, reason) in &exceptions {
        writeln!(std::io::stdout(), "exception {id}: {reason}").expect("stdout is open");
        assert!(fixtures().iter().any(|fixture| fixture.id == *id), "{id} is no recording");
    }
    assert!(complaints.is_empty(), "{} complaints:\n{}", complaints.len(), complaints.join("\n"));
    table::check("relayed", passed.into_iter());
}
