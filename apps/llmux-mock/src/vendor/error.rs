//! Errors in each vendor's shape.

use bytes::Bytes;
use hyper::StatusCode;

use super::{Dialect, Endpoint, Prepared, quote};
use crate::reply::Reply;

/// An error answer. `reply` may set its message, type and code.
pub(super) fn answer(dialect: Dialect, status: StatusCode, reply: &Reply) -> Prepared {
    let mut answer = Prepared::json(body(dialect, status.as_u16(), reply));
    answer.status = status;
    answer
}

/// The event with which a stream fails.
pub(super) fn event(
    endpoint: Endpoint,
    dialect: Dialect,
    reply: &Reply,
    sequence_number: usize,
) -> Bytes {
    let status = reply.status.filter(|status| *status >= 400);
    match dialect {
        Dialect::Anthropic => {
            format!("event: error\ndata: {}\n\n", body(dialect, status.unwrap_or(529), reply))
                .into()
        }
        Dialect::Gemini => {
            format!("data: {}\r\n\r\n", body(dialect, status.unwrap_or(503), reply)).into()
        }
        _ if endpoint == Endpoint::Responses => {
            let message =
                quote(reply.message.as_deref().unwrap_or("The mock failed here as scripted."));
            let code = quote(reply.code.as_deref().unwrap_or("server_error"));
            format!(
                "event: error\ndata: {{\"type\":\"error\",\"code\":{code},\"message\":{message},\"param\":null,\
                 \"sequence_number\":{sequence_number}}}\n\n"
            )
            .into()
        }
        // In a stream Azure's errors look like OpenAI's.
        _ => format!("data: {}\n\n", body(Dialect::OpenAi, status.unwrap_or(500), reply)).into(),
    }
}

fn body(dialect: Dialect, status: u16, reply: &Reply) -> String {
    let message = match &reply.message {
        Some(message) => quote(message),
        None => quote(&format!("The mock answers {status} as scripted.")),
    };
    let code = reply.code.as_deref();
    match dialect {
        Dialect::OpenAi => {
            let (kind, default_code) = openai_words(status);
            let kind = quote(reply.kind.as_deref().unwrap_or(kind));
            let code = code.or(default_code).map_or("null".to_owned(), quote);
            format!(
                r#"{{"error":{{"message":{message},"type":{kind},"param":null,"code":{code}}}}}"#
            )
        }
        Dialect::Azure => {
            let code = quote(code.unwrap_or(&status.to_string()));
            format!(r#"{{"error":{{"code":{code},"message":{message}}}}}"#)
        }
        Dialect::Anthropic => {
            let kind = quote(reply.kind.as_deref().unwrap_or(anthropic_word(status)));
            format!(
                r#"{{"type":"error","error":{{"type":{kind},"message":{message}}},"request_id":"req_mock"}}"#
            )
        }
        Dialect::Gemini => {
            let word = quote(reply.kind.as_deref().unwrap_or(google_word(status)));
            let details = retry_info(reply);
            format!(
                r#"{{"error":{{"code":{status},"message":{message},"status":{word}{details}}}}}"#
            )
        }
    }
}

/// Google tells in the body how long to wait.
fn retry_info(reply: &Reply) -> String {
    match reply.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("retry-after")) {
        Some((_, seconds)) => {
            let delay = quote(&format!("{seconds}s"));
            format!(
                r#","details":[{{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":{delay}}}]"#
            )
        }
        None => String::new(),
    }
}

fn openai_words(status: u16) -> (&'static str, Option<&'static str>) {
    match status {
        401 => ("invalid_request_error", Some("invalid_api_key")),
        404 => ("invalid_request_error", Some("model_not_found")),
        429 => ("requests", Some("rate_limit_exceeded")),
        400..=499 => ("invalid_request_error", None),
        _ => ("server_error", None),
    }
}

fn anthropic_word(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        504 => "timeout_error",
        529 => "overloaded_error",
        400..=499 => "invalid_request_error",
        _ => "api_error",
    }
}

fn google_word(status: u16) -> &'static str {
    match status {
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        429 => "RESOURCE_EXHAUSTED",
        503 => "UNAVAILABLE",
        504 => "DEADLINE_EXCEEDED",
        400..=499 => "INVALID_ARGUMENT",
        _ => "INTERNAL",
    }
}
