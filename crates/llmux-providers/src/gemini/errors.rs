//! Google's errors: `{"error":{code,message,status,details}}`, in streams also within an array.
//!
//! See <https://ai.google.dev/gemini-api/docs/troubleshooting> and <https://cloud.google.com/apis/design/errors>.

use std::time::Duration;

use bytes::Bytes;
use llmux_types::FailureClass;
use serde_json::Value;

use crate::openai::Rejection;

/// Explains a refusal.
pub(super) fn rejection(status: u16, body: Bytes) -> Rejection {
    let body = without_keys(body);
    let value: Value = serde_json::from_slice(&body).unwrap_or_default();
    let first = match &value {
        Value::Array(items) => items.first().unwrap_or(&Value::Null),
        other => other,
    };
    let error = first.get("error").unwrap_or(first);
    let mut rejection = Rejection::from_reply(status, body);
    rejection.class = class(error, &rejection);
    rejection.retry_after = retry_after(error);
    rejection
}

/// Explains an error that came in a stream, or with a status that denies it.
pub(super) fn in_stream(object: &[u8]) -> Rejection {
    let value: Value = serde_json::from_slice(object).unwrap_or_default();
    let error = value.get("error").unwrap_or(&Value::Null);
    let code = error.get("code").and_then(Value::as_u64).and_then(|code| u16::try_from(code).ok());
    let status = code.filter(|code| (400..=599).contains(code)).unwrap_or_else(|| {
        // The words: https://github.com/googleapis/googleapis/blob/master/google/rpc/code.proto
        match error.get("status").and_then(Value::as_str).unwrap_or_default() {
            "INVALID_ARGUMENT" | "FAILED_PRECONDITION" | "OUT_OF_RANGE" => 400,
            "UNAUTHENTICATED" => 401,
            "PERMISSION_DENIED" => 403,
            "NOT_FOUND" => 404,
            "ABORTED" | "ALREADY_EXISTS" => 409,
            "RESOURCE_EXHAUSTED" => 429,
            "UNAVAILABLE" => 503,
            "DEADLINE_EXCEEDED" => 504,
            _ => 500,
        }
    });
    rejection(status, Bytes::copy_from_slice(object))
}

/// Sets right what the status alone does not tell.
fn class(error: &Value, rejection: &Rejection) -> FailureClass {
    let says = |text: &str| rejection.error.message.contains(text);
    let word = error.get("status").and_then(Value::as_str).unwrap_or_default();
    match rejection.status {
        // A bad key is an invalid argument to Google.
        400 if reasons(error).any(|reason| reason.starts_with("API_KEY_"))
            || says("API key not valid")
            || says("API key expired") =>
        {
            FailureClass::Credential
        }
        // Where the account is, not what was asked: another deployment may answer.
        400 if word == "FAILED_PRECONDITION"
            && (says("location is not supported") || says("not available in your country")) =>
        {
            FailureClass::Forbidden
        }
        429 if says("credits are depleted") => FailureClass::Credential,
        _ => rejection.class,
    }
}

fn details(error: &Value) -> impl Iterator<Item = &Value> {
    error.get("details").and_then(Value::as_array).into_iter().flatten()
}

fn reasons(error: &Value) -> impl Iterator<Item = &str> {
    details(error).filter_map(|detail| detail.get("reason")?.as_str())
}

/// Reads `RetryInfo.retryDelay`: a protobuf duration in JSON, such as `48s` or `1.5s`.
fn retry_after(error: &Value) -> Option<Duration> {
    let text = details(error).find_map(|detail| detail.get("retryDelay")?.as_str())?;
    let seconds: f64 = text.strip_suffix('s')?.parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

/// Some of Google's messages name the API key in full.
fn without_keys(body: Bytes) -> Bytes {
    const START: &[u8] = b"AIza";
    if memchr::memmem::find(&body, START).is_none() {
        return body;
    }
    let mut clean = Vec::with_capacity(body.len());
    let mut position = 0;
    for start in memchr::memmem::find_iter(&body, START) {
        let key = body[start..]
            .iter()
            .take_while(|&&byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
            .count();
        if start >= position && key >= 20 {
            clean.extend_from_slice(&body[position..start]);
            clean.extend_from_slice(b"***");
            position = start + key;
        }
    }
    clean.extend_from_slice(&body[position..]);
    Bytes::from(clean)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reject(status: u16, body: &str) -> Rejection {
        rejection(status, Bytes::copy_from_slice(body.as_bytes()))
    }

    #[test]
    fn a_bad_key_is_a_matter_of_the_credential() {
        let body = r#"{"error":{"code":400,"message":"API key not valid. Please pass a valid API key.","status":"INVALID_ARGUMENT","details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"API_KEY_INVALID","domain":"googleapis.com"}]}}"#;
        assert_eq!(reject(400, body).class, FailureClass::Credential);
        let other = r#"{"error":{"code":400,"message":"Invalid value","status":"INVALID_ARGUMENT","details":[{"reason":"X"}]}}"#;
        assert_eq!(reject(400, other).class, FailureClass::Request);
    }

    #[test]
    fn where_the_account_is_is_not_the_requests_fault() {
        let body = r#"{"error":{"code":400,"message":"User location is not supported for the API use.","status":"FAILED_PRECONDITION"}}"#;
        assert_eq!(reject(400, body).class, FailureClass::Forbidden);
    }

    #[test]
    fn the_wait_is_read_from_the_body() {
        for (delay, wait) in [
            ("48s", Some(Duration::from_secs(48))),
            ("1.500s", Some(Duration::from_millis(1500))),
            ("0s", Some(Duration::ZERO)),
            ("-3s", None),
            ("1e400s", None),
            ("soon", None),
        ] {
            let body = format!(
                r#"[{{"error":{{"code":429,"message":"slow","status":"RESOURCE_EXHAUSTED","details":[{{"links":[]}},{{"retryDelay":"{delay}"}}]}}}}]"#
            );
            let rejection = reject(429, &body);
            assert_eq!(rejection.retry_after, wait, "{delay}");
            assert_eq!(rejection.class, FailureClass::RateLimited);
            assert_eq!(rejection.error.message, "slow");
        }
    }

    #[test]
    fn keys_in_messages_are_blotted_out() {
        let body = r#"{"error":{"code":403,"message":"Permission denied: Consumer 'api_key:AIzaSyA-0123456789_0123456789012345' has been suspended. AIza is no key.","status":"PERMISSION_DENIED"}}"#;
        let rejection = reject(403, body);
        let expected =
            "Permission denied: Consumer 'api_key:***' has been suspended. AIza is no key.";
        assert_eq!(rejection.error.message, expected);
        assert!(!String::from_utf8_lossy(&rejection.body).contains("0123456789"));
        assert_eq!(rejection.class, FailureClass::Forbidden);
    }

    #[test]
    fn errors_in_streams_find_their_status_by_number_or_word() {
        for (error, status) in [
            (r#"{"error":{"code":503,"message":"m","status":"UNAVAILABLE"}}"#, 503),
            (r#"{"error":{"code":14,"message":"m","status":"UNAVAILABLE"}}"#, 503),
            (r#"{"error":{"message":"m","status":"RESOURCE_EXHAUSTED"}}"#, 429),
            (r#"{"error":{"message":"m"}}"#, 500),
        ] {
            let rejection = in_stream(error.as_bytes());
            assert_eq!((rejection.status, rejection.error.message.as_str()), (status, "m"));
        }
    }
}
