use llmux_types::ErrorObject;
use serde::Serialize;

/// Writes an error as a client of Anthropic's dialect expects it.
///
/// <https://platform.claude.com/docs/en/api/errors>
pub fn error_body(status: u16, error: &ErrorObject) -> String {
    #[derive(Serialize)]
    struct Envelope<'a> {
        #[serde(rename = "type")]
        kind: &'static str,
        error: Inner<'a>,
    }
    #[derive(Serialize)]
    struct Inner<'a> {
        #[serde(rename = "type")]
        kind: &'static str,
        message: &'a str,
    }
    let inner = Inner { kind: kind(status), message: &error.message };
    serde_json::to_string(&Envelope { kind: "error", error: inner }).expect("texts are always JSON")
}

const fn kind(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        504 => "timeout_error",
        // An overloaded vendor's 529 is 503 to clients.
        503 | 529 => "overloaded_error",
        500..=599 => "api_error",
        _ => "invalid_request_error",
    }
}
