//! A record as a line of the spool: JSON without the names of the fields, half as long and quicker to write.

use std::borrow::Cow;

use llmux_auth::tenants::{Money, UnixMillis, UsageRecord, UsageStatus};
use serde_json::{Map, Value};

use crate::json_line::quote;

type Text<'a> = Cow<'a, str>;
type Maybe<'a> = Option<Text<'a>>;

/// Who and what: the record's and the request's ids, when it began and ended.
type Head<'a> = (Text<'a>, Text<'a>, i64, i64);
/// Key, team, user, organization, end user.
type Whose<'a> = (Maybe<'a>, Maybe<'a>, Maybe<'a>, Maybe<'a>, Maybe<'a>);
/// Model, upstream's model, deployment, provider, kind of call.
type Where<'a> = (Text<'a>, Maybe<'a>, Maybe<'a>, Maybe<'a>, Text<'a>);
/// Attempt, status, HTTP status, error, from the cache, streamed, milliseconds to the first output.
type How<'a> = (u32, UsageStatus, Option<u16>, Maybe<'a>, bool, bool, Option<u64>);
/// Tokens in the order of the record's fields, and nano-dollars.
type Used = (u64, u64, u64, u64, u64, u64, i64);
type Line<'a> = (Head<'a>, Whose<'a>, Where<'a>, How<'a>, Used, Cow<'a, [String]>, Extra<'a>);
type Extra<'a> = Cow<'a, Map<String, Value>>;

/// Appends a record's line: a [`Line`], written by hand because there is one for each call.
pub(super) fn write(record: &UsageRecord, out: &mut Vec<u8>) -> serde_json::Result<()> {
    fn next(out: &mut Vec<u8>) {
        if out.last() != Some(&b'[') {
            out.push(b',');
        }
    }
    fn text(out: &mut Vec<u8>, text: &str) {
        next(out);
        quote(out, text);
    }
    fn bare(out: &mut Vec<u8>, json: &str) {
        next(out);
        out.extend_from_slice(json.as_bytes());
    }
    fn number(out: &mut Vec<u8>, number: impl itoa::Integer) {
        bare(out, itoa::Buffer::new().format(number));
    }
    fn some<T>(out: &mut Vec<u8>, value: Option<T>, write: impl FnOnce(&mut Vec<u8>, T)) {
        match value {
            Some(value) => write(out, value),
            None => bare(out, "null"),
        }
    }
    fn boolean(out: &mut Vec<u8>, value: bool) {
        bare(out, if value { "true" } else { "false" });
    }
    fn list(out: &mut Vec<u8>, members: impl FnOnce(&mut Vec<u8>)) {
        next(out);
        out.push(b'[');
        members(out);
        out.push(b']');
    }

    let it = record;
    out.push(b'[');
    list(out, |out| {
        text(out, &it.id);
        text(out, &it.request_id);
        number(out, it.start_time.0);
        number(out, it.end_time.0);
    });
    list(out, |out| {
        for whose in [&it.token_id, &it.team_id, &it.user_id, &it.organization_id, &it.end_user] {
            some(out, whose.as_deref(), text);
        }
    });
    list(out, |out| {
        text(out, &it.model);
        for place in [&it.upstream_model, &it.deployment_id, &it.provider] {
            some(out, place.as_deref(), text);
        }
        text(out, &it.call_type);
    });
    list(out, |out| {
        number(out, it.attempt);
        text(out, it.status.as_str());
        some(out, it.status_code, number);
        some(out, it.error_code.as_deref(), text);
        boolean(out, it.cache_hit);
        boolean(out, it.stream);
        some(out, it.time_to_first_token_ms, number);
    });
    list(out, |out| {
        for tokens in [
            it.prompt_tokens,
            it.completion_tokens,
            it.total_tokens,
            it.cached_tokens,
            it.cache_write_tokens,
            it.reasoning_tokens,
        ] {
            number(out, tokens);
        }
        number(out, it.spend.nanos());
    });
    list(out, |out| it.request_tags.iter().for_each(|tag| text(out, tag)));
    next(out);
    serde_json::to_writer(&mut *out, &it.metadata)?;
    out.extend_from_slice(b"]\n");
    Ok(())
}

/// Reads a line; also one of an earlier version, which named the fields.
pub(super) fn read(line: &[u8]) -> serde_json::Result<UsageRecord> {
    if line.starts_with(b"{") {
        return serde_json::from_slice(line);
    }
    let (head, whose, place, how, used, request_tags, metadata): Line<'_> =
        serde_json::from_slice(line)?;
    let maybe = |text: Maybe<'_>| text.map(Cow::into_owned);
    Ok(UsageRecord {
        id: head.0.into_owned(),
        request_id: head.1.into_owned(),
        start_time: UnixMillis(head.2),
        end_time: UnixMillis(head.3),
        token_id: maybe(whose.0),
        team_id: maybe(whose.1),
        user_id: maybe(whose.2),
        organization_id: maybe(whose.3),
        end_user: maybe(whose.4),
        model: place.0.into_owned(),
        upstream_model: maybe(place.1),
        deployment_id: maybe(place.2),
        provider: maybe(place.3),
        call_type: place.4.into_owned(),
        attempt: how.0,
        status: how.1,
        status_code: how.2,
        error_code: maybe(how.3),
        cache_hit: how.4,
        stream: how.5,
        time_to_first_token_ms: how.6,
        prompt_tokens: used.0,
        completion_tokens: used.1,
        total_tokens: used.2,
        cached_tokens: used.3,
        cache_write_tokens: used.4,
        reasoning_tokens: used.5,
        spend: Money::from_nanos(used.6),
        request_tags: request_tags.into_owned(),
        metadata: metadata.into_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let full: UsageRecord = serde_json::from_value(serde_json::json!({
            "id": "id \"1\"\n", "request_id": "r", "start_time": "2026-01-01T00:00:00.123Z",
            "end_time": "2026-01-01T00:00:01.456Z", "token_id": "k", "team_id": "t", "user_id": "u",
            "organization_id": "o", "end_user": "é\u{0}", "model": "m", "upstream_model": "um",
            "deployment_id": "d", "provider": "p", "call_type": "chat_completion", "attempt": 2,
            "status": "failure", "status_code": 500, "error_code": "server", "cache_hit": true,
            "stream": true, "prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3,
            "cached_tokens": 4, "cache_write_tokens": 5, "reasoning_tokens": 6, "spend": 1.000000007,
            "time_to_first_token_ms": 8, "request_tags": ["a", "b"], "metadata": {"x": [1.5, null]}
        }))
        .expect("a record");
        let least: UsageRecord = serde_json::from_value(serde_json::json!({
            "id": "1", "request_id": "r", "start_time": "2026-01-01T00:00:00Z",
            "end_time": "2026-01-01T00:00:00Z", "model": "m", "call_type": "embedding", "attempt": 1,
            "status": "success", "cache_hit": false, "stream": false, "prompt_tokens": 0,
            "completion_tokens": 0, "total_tokens": 0, "cached_tokens": 0, "cache_write_tokens": 0,
            "reasoning_tokens": 0, "spend": 0
        }))
        .expect("a record");
        for record in [full, least] {
            let mut line = Vec::new();
            write(&record, &mut line).expect("JSON");
            assert_eq!(line.iter().filter(|&&byte| byte == b'\n').count(), 1, "one line");
            assert_eq!(read(&line).expect("a line"), record);
            let named = serde_json::to_vec(&record).expect("JSON");
            assert_eq!(read(&named).expect("a line"), record);
        }
    }

    #[test]
    fn what_is_no_line_is_refused() {
        for line in [&b""[..], b"[]", b"{}", b"[[\"1\",\"r\",1,2],[", b"\"x\""] {
            assert!(read(line).is_err());
        }
    }
}
