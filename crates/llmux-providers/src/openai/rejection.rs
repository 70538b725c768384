use std::time::Duration;

use bytes::Bytes;
use llmux_types::{ErrorEnvelope, ErrorObject, FailureClass};
use serde_json::Value;

use super::fault;
use crate::json::{Splices, members, skip_space};

/// A vendor's refusal, explained: the answer to a call with a status of 300 and over, or an error inside a stream.
#[derive(Clone, Debug)]
pub struct Rejection {
    /// What kind of failure it is.
    pub class: FailureClass,
    /// The vendor's status; of an error in a stream the status that the vendor would have sent.
    pub status: u16,
    /// The vendor's words.
    pub error: ErrorObject,
    /// A body in OpenAI's envelope: the vendor's own bytes where they are one, with missing members added.
    pub body: Bytes,
    /// How long the vendor asks to wait, where its body says so; headers are the caller's to read.
    pub retry_after: Option<Duration>,
}

impl Rejection {
    /// Explains a reply. Total: an unreadable body is a rejection as well.
    pub fn from_reply(status: u16, body: Bytes) -> Self {
        let value: Option<Value> = serde_json::from_slice(&body).ok();
        // Google's compatible endpoint wraps the object in an array.
        let value = match value {
            Some(Value::Array(items)) => items.into_iter().next(),
            other => other,
        };
        let value = value.unwrap_or_default();
        let error = error_object(&value, status);
        let class = classify(status, &error, inner(&value));
        let body = envelope(&body, &error);
        Self { class, status, error, body, retry_after: None }
    }

    /// Explains an error object that came inside a stream.
    pub fn from_stream(value: &Value) -> Self {
        let status = stream_status(value);
        let error = error_object(value, status);
        let class = classify(status, &error, inner(value));
        let body = envelope(&[], &error);
        Self { class, status, error, body, retry_after: None }
    }
}

/// Sorts a refusal by its status, 429 by whether waiting can help, and the client's mistakes by who may take them.
/// `object` is the vendor's own error object.
fn classify(status: u16, error: &ErrorObject, object: &Value) -> FailureClass {
    let says = |text: &str| {
        error.kind == text || error.code.as_ref().and_then(Value::as_str) == Some(text)
    };
    match status {
        401 | 402 | 407 => FailureClass::Credential,
        403 => FailureClass::Forbidden,
        408 | 504 => FailureClass::Timeout,
        409 | 425 => FailureClass::Server,
        429 if says("insufficient_quota") => FailureClass::Credential,
        429 => FailureClass::RateLimited,
        // Anthropic's words for an account without money; its status says that the request is at fault.
        400 if error.message.starts_with("Your credit balance is too low") => {
            FailureClass::Credential
        }
        400 | 413 | 422 => fault::of_request(error, object).unwrap_or(FailureClass::Request),
        400..=499 => FailureClass::Request,
        503 | 529 => FailureClass::Overloaded,
        500..=599 => FailureClass::Server,
        _ => FailureClass::Malformed,
    }
}

/// Finds the status that an error in a stream stands for: a number it carries, else by its words.
fn stream_status(value: &Value) -> u16 {
    let error = value.get("error").unwrap_or(value);
    let number =
        [error.get("status_code"), error.get("code"), error.get("status"), value.get("status")]
            .into_iter()
            .flatten()
            .filter_map(|found| found.as_u64().or_else(|| found.as_str()?.parse().ok()))
            .find(|number| (400..=599).contains(number));
    if let Some(number) = number {
        return u16::try_from(number).unwrap_or(500);
    }
    let words = [error.get("type"), error.get("code")];
    for word in words.into_iter().flatten().filter_map(Value::as_str) {
        match word {
            "invalid_request_error" | "invalid_prompt" => return 400,
            "authentication_error" | "invalid_api_key" => return 401,
            "permission_error" => return 403,
            "rate_limit_error"
            | "rate_limit_exceeded"
            | "insufficient_quota"
            | "requests"
            | "tokens" => return 429,
            "overloaded_error" | "service_unavailable" | "slow_down" => return 503,
            _ => {}
        }
    }
    let told = error_object(value, 500);
    if fault::of_request(&told, inner(value)).is_some() { 400 } else { 500 }
}

/// Returns the object that tells of the error, which some vendors send bare.
fn inner(value: &Value) -> &Value {
    match value.get("error") {
        Some(error @ Value::Object(_)) => error,
        _ => value,
    }
}

/// Reads the error out of the shapes that vendors send: `{"error":{...}}`, `{"error":"text"}` (Ollama, xAI),
/// `{"detail":...}` (Mistral, Voyage), `{"message":...}` (Cohere, Bedrock).
fn error_object(value: &Value, status: u16) -> ErrorObject {
    let error = inner(value);
    let text = |found: &Value| match found {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Object(_) | Value::Array(_) => Some(found.to_string()),
        _ => None,
    };
    let message =
        [error.get("message"), value.get("error"), value.get("detail"), value.get("Message")]
            .into_iter()
            .flatten()
            .find_map(text)
            .unwrap_or_else(|| format!("the provider answered with status {status}"));
    let kind = match error.get("type").and_then(Value::as_str) {
        Some(kind) if !kind.is_empty() => kind,
        _ => default_kind(status),
    };
    let code = error.get("code").filter(|code| code.is_string() || code.is_number()).cloned();
    let param = error.get("param").and_then(Value::as_str).map(str::to_owned);
    ErrorObject { message, kind: kind.to_owned(), param, code }
}

const fn default_kind(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        403 => "permission_error",
        429 => "rate_limit_error",
        400..=499 => "invalid_request_error",
        _ => "api_error",
    }
}

/// Returns `body` if it is `{"error":{"message":...}}`, with the missing members of the object added and not a byte
/// changed otherwise; else an envelope made of `error`.
fn envelope(body: &[u8], error: &ErrorObject) -> Bytes {
    let made = || ErrorEnvelope { error }.to_json().into_bytes();
    Bytes::from(completed(body, error).unwrap_or_else(made))
}

fn completed(body: &[u8], error: &ErrorObject) -> Option<Vec<u8>> {
    const NAMES: [&str; 4] = ["message", "type", "param", "code"];
    let outer = members(body, |name| name == "error").ok()?;
    let [outer] = outer.as_slice() else {
        return None;
    };
    let object = &body[outer.value.clone()];
    let found = members(object, |name| NAMES.contains(&name)).ok()?;
    let names: Vec<String> = found
        .iter()
        .filter_map(|member| serde_json::from_slice(&object[member.key.clone()]).ok())
        .collect();
    let has = |name: &str| names.iter().any(|found| found == name);
    if !has("message") {
        return None;
    }
    let mut missing = String::new();
    let values = [
        ("type", Value::String(error.kind.clone())),
        ("param", Value::Null),
        ("code", Value::Null),
    ];
    for (name, value) in values {
        if !has(name) {
            missing.push_str(&format!(",\"{name}\":{value}"));
        }
    }
    let mut splices = Splices::default();
    if !missing.is_empty() {
        // After the last known member, so that the text before stays as it is.
        let end = found.iter().map(|member| member.value.end).max()?;
        splices.insert(outer.value.start + end, missing);
    }
    let start = skip_space(body, 0);
    Some(splices.apply(body).split_off(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reject(status: u16, body: &str) -> Rejection {
        Rejection::from_reply(status, Bytes::copy_from_slice(body.as_bytes()))
    }

    #[test]
    fn a_whole_envelope_keeps_its_bytes() {
        let body = "{\n  \"error\": {\n    \"message\": \"no\",  \"type\": \"x\", \"param\": null, \"code\": 7, \"more\": 1.50\n  }\n}\n";
        assert_eq!(reject(400, body).body, body);
    }

    #[test]
    fn missing_members_are_added_to_the_vendors_object() {
        let rejection = reject(
            404,
            r#"{"error":{"code":"DeploymentNotFound","message":"none","inner":{"a":1}}}"#,
        );
        assert_eq!(
            rejection.body,
            r#"{"error":{"code":"DeploymentNotFound","message":"none","type":"invalid_request_error","param":null,"inner":{"a":1}}}"#
        );
        assert_eq!(rejection.class, FailureClass::Request);
    }

    #[test]
    fn other_shapes_become_an_envelope() {
        for (body, message) in [
            (r#"{"error":"model 'x' not found"}"#, "model 'x' not found"),
            (r#"{"code":"invalid-argument","error":"Incorrect API key"}"#, "Incorrect API key"),
            (r#"{"detail":"Unauthorized"}"#, "Unauthorized"),
            (r#"{"detail":[{"loc":["body"]}]}"#, r#"[{"loc":["body"]}]"#),
            (r#"{"message":"too many tokens"}"#, "too many tokens"),
            (r#"[{"error":{"message":"in an array"}}]"#, "in an array"),
            ("<html>", "the provider answered with status 400"),
            ("", "the provider answered with status 400"),
        ] {
            let value: Value = serde_json::from_slice(&reject(400, body).body).expect("JSON");
            assert_eq!(value["error"]["message"], message, "{body}");
            for name in ["type", "param", "code"] {
                assert!(value["error"].get(name).is_some(), "{body} {name}");
            }
        }
    }

    #[test]
    fn classes_follow_the_status() {
        for (status, class) in [
            (301, FailureClass::Malformed),
            (400, FailureClass::Request),
            (401, FailureClass::Credential),
            (402, FailureClass::Credential),
            (403, FailureClass::Forbidden),
            (404, FailureClass::Request),
            (408, FailureClass::Timeout),
            (409, FailureClass::Server),
            (422, FailureClass::Request),
            (425, FailureClass::Server),
            (429, FailureClass::RateLimited),
            (500, FailureClass::Server),
            (503, FailureClass::Overloaded),
            (504, FailureClass::Timeout),
            (529, FailureClass::Overloaded),
        ] {
            assert_eq!(reject(status, "{}").class, class, "{status}");
        }
        let quota = r#"{"error":{"message":"m","type":"insufficient_quota","param":null,"code":"insufficient_quota"}}"#;
        assert_eq!(reject(429, quota).class, FailureClass::Credential);
        let balance = r#"{"type":"error","error":{"type":"invalid_request_error","message":"Your credit balance is too low to access the Anthropic API."}}"#;
        assert_eq!(reject(400, balance).class, FailureClass::Credential);
    }

    #[test]
    fn errors_in_streams_find_their_status() {
        for (error, status) in [
            (serde_json::json!({"error": {"message": "m", "code": 400}}), 400),
            (serde_json::json!({"error": {"message": "m", "status_code": 429}}), 429),
            (serde_json::json!({"error": {"message": "m", "type": "server_error"}}), 500),
            (serde_json::json!({"error": {"message": "m", "code": "rate_limit_exceeded"}}), 429),
            (
                serde_json::json!({"type": "error", "code": "server_error", "message": "m", "param": null}),
                500,
            ),
        ] {
            assert_eq!(Rejection::from_stream(&error).status, status, "{error}");
        }
    }
}
