//! How replies are written: the `x-mock-fault` header and the script file.

use std::time::Duration;

use hyper::header::{HeaderName, HeaderValue};
use serde::Deserialize;

use crate::reply::{After, Finish, Garbage, Reply, ToolCall};

/// Reads a duration such as `50ms`, `2s` or `1m`; a bare number is milliseconds.
///
/// # Errors
/// Says what was expected.
pub fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let wrong = || format!("`{text}` is not a duration such as 50ms, 2s or 1m");
    let number: u64 = number.parse().map_err(|_| wrong())?;
    match unit {
        "" | "ms" => Ok(Duration::from_millis(number)),
        "us" => Ok(Duration::from_micros(number)),
        "s" => Ok(Duration::from_secs(number)),
        "m" => Ok(Duration::from_secs(number.saturating_mul(60))),
        _ => Err(wrong()),
    }
}

pub(crate) fn parse(text: &str) -> Result<Reply, String> {
    let mut reply = Reply::default();
    for part in text.split(';').map(str::trim).filter(|part| !part.is_empty()) {
        let (key, value) = match part.split_once('=') {
            Some((key, value)) => (key.trim(), value.trim()),
            None => (part, ""),
        };
        apply(&mut reply, key, value).map_err(|problem| format!("{key}: {problem}"))?;
    }
    Ok(reply)
}

fn apply(reply: &mut Reply, key: &str, value: &str) -> Result<(), String> {
    match key {
        "status" => reply.status = Some(status(number(value)?)?),
        "retry-after" => reply.headers.push(header(key, value)?),
        "header" => {
            let (name, value) = value.split_once(':').ok_or("expected NAME:VALUE")?;
            reply.headers.push(header(name.trim(), value.trim())?);
        }
        "body" => reply.body = Some(value.to_owned().into()),
        "content-type" => reply.content_type = Some(value.to_owned()),
        "latency" => reply.latency = Some(duration(value)?),
        "first-byte" => reply.first_byte = Some(duration(value)?),
        "gap" => reply.gap = Some(duration(value)?),
        "chunks" => reply.chunks = Some(number(value)?),
        "text" => reply.text = Some(value.to_owned()),
        "reasoning" => reply.reasoning = Some(value.to_owned()),
        "tool-call" => {
            let (name, arguments) = value.split_once(':').unwrap_or((value, "{}"));
            reply
                .tool_calls
                .push(ToolCall { name: name.to_owned(), arguments: arguments.to_owned() });
        }
        "finish" => {
            reply.finish = Some(match value {
                "stop" => Finish::Stop,
                "length" => Finish::Length,
                "content_filter" => Finish::ContentFilter,
                _ => return Err("expected stop, length or content_filter".to_owned()),
            });
        }
        "cached-tokens" => reply.cached_tokens = Some(number(value)?),
        "message" => reply.message = Some(value.to_owned()),
        "type" => reply.kind = Some(value.to_owned()),
        "code" => reply.code = Some(value.to_owned()),
        "error-event" => reply.error_event = Some(number(value)?),
        "cut" => reply.cut = Some(after(value)?),
        "cut-bytes" => reply.cut_bytes = Some(number(value)?),
        "reset" => reply.reset = flag(value)?,
        "hang" => reply.hang = Some(after(value)?),
        "garbage" => {
            reply.garbage = Some(match value {
                "" | "body" => Garbage::Body,
                "bytes" => Garbage::Bytes,
                _ => return Err("expected body or bytes".to_owned()),
            });
        }
        "done" => reply.done = Some(number(value)?),
        _ => return Err("unknown key".to_owned()),
    }
    Ok(())
}

/// Lets through what can be the status of a final response.
pub(crate) fn status(status: u16) -> Result<u16, String> {
    if (200..=999).contains(&status) {
        Ok(status)
    } else {
        Err(format!("{status} is not from 200 to 999"))
    }
}

/// Lets through what can be sent as a header.
pub(crate) fn header(name: &str, value: &str) -> Result<(String, String), String> {
    if HeaderName::try_from(name).is_err() || HeaderValue::try_from(value).is_err() {
        return Err(format!("`{name}: {value}` is not a header"));
    }
    Ok((name.to_owned(), value.to_owned()))
}

fn number<N: std::str::FromStr>(value: &str) -> Result<N, String> {
    value.parse().map_err(|_| format!("`{value}` is not a number that fits"))
}

fn flag(value: &str) -> Result<bool, String> {
    if value.is_empty() { Ok(true) } else { Err("takes no value".to_owned()) }
}

fn after(value: &str) -> Result<After, String> {
    if value.is_empty() { Ok(After::Nothing) } else { number(value).map(After::Events) }
}

/// One entry of a script file: a reply, for any path or for paths with `path` in them, `times` times.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) path: Option<String>,
    pub(crate) times: usize,
    pub(crate) reply: Reply,
}

/// Reads a script: a list of replies, or one reply.
pub(crate) fn script(json: &[u8]) -> Result<Vec<Entry>, String> {
    let value: serde_json::Value =
        serde_json::from_slice(json).map_err(|error| error.to_string())?;
    let list = match value {
        serde_json::Value::Array(list) => list,
        one => vec![one],
    };
    list.into_iter()
        .enumerate()
        .map(|(index, value)| entry(value).map_err(|problem| format!("reply {index}: {problem}")))
        .collect()
}

fn entry(value: serde_json::Value) -> Result<Entry, String> {
    if let serde_json::Value::String(text) = &value {
        return Ok(Entry { path: None, times: 1, reply: parse(text)? });
    }
    let serde_json::Value::Object(mut object) = value else {
        return Err("expected an object, or a string in the syntax of x-mock-fault".to_owned());
    };
    let path = object
        .remove("path")
        .map(String::deserialize)
        .transpose()
        .map_err(|error| format!("path: {error}"))?;
    let times = object
        .remove("times")
        .map(usize::deserialize)
        .transpose()
        .map_err(|error| format!("times: {error}"))?;
    let reply =
        Reply::deserialize(serde_json::Value::Object(object)).map_err(|error| error.to_string())?;
    Ok(Entry { path, times: times.unwrap_or(1), reply })
}
