//! JSON objects written member by member into bytes: for what is written for each request.

use std::fmt::Display;
use std::io::Write as _;
use std::time::Duration;

use serde::Serialize;

/// An object that is being written.
pub(crate) struct JsonLine {
    out: Vec<u8>,
}

impl JsonLine {
    /// Begins an object that is about `capacity` bytes long.
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        let mut out = Vec::with_capacity(capacity);
        out.push(b'{');
        Self { out }
    }

    /// Writes a name, which must need no escapes.
    fn name(&mut self, name: &'static str) {
        if self.out.len() > 1 {
            self.out.push(b',');
        }
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
    }

    pub(crate) fn text(&mut self, name: &'static str, text: &str) {
        self.name(name);
        quote(&mut self.out, text);
    }

    pub(crate) fn maybe(&mut self, name: &'static str, text: Option<&str>) {
        if let Some(text) = text {
            self.text(name, text);
        }
    }

    /// Writes what needs quotes, and no escapes.
    pub(crate) fn plain(&mut self, name: &'static str, value: impl Display) {
        self.name(name);
        // Writing into memory does not fail.
        let _ = write!(self.out, "\"{value}\"");
    }

    pub(crate) fn integer(&mut self, name: &'static str, value: impl itoa::Integer) {
        self.name(name);
        self.out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    }

    /// Writes what is JSON as it is shown.
    pub(crate) fn bare(&mut self, name: &'static str, value: impl Display) {
        self.name(name);
        let _ = write!(self.out, "{value}");
    }

    /// Writes a time as milliseconds, with microseconds behind the point.
    pub(crate) fn milliseconds(&mut self, name: &'static str, time: Duration) {
        self.name(name);
        milliseconds(&mut self.out, time);
    }

    /// Writes the members of an object.
    pub(crate) fn members(&mut self, object: &impl Serialize) {
        let start = self.out.len();
        if serde_json::to_writer(&mut self.out, object).is_err()
            || self.out[start..].len() < 3
            || self.out[start] != b'{'
        {
            self.out.truncate(start);
            return;
        }
        self.out.pop();
        if start > 1 {
            self.out[start] = b',';
        } else {
            self.out.remove(start);
        }
    }

    /// Ends the object.
    pub(crate) fn end(mut self) -> Vec<u8> {
        self.out.push(b'}');
        self.out
    }
}

/// Appends a time as milliseconds, with microseconds behind the point.
pub(crate) fn milliseconds(out: &mut Vec<u8>, time: Duration) {
    let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    out.extend_from_slice(itoa::Buffer::new().format(micros / 1000).as_bytes());
    let rest = micros % 1000;
    let digit = |unit: u64| b'0' + (rest / unit % 10) as u8;
    out.extend_from_slice(&[b'.', digit(100), digit(10), digit(1)]);
}

/// Appends `text` as a JSON string.
pub(crate) fn quote(out: &mut Vec<u8>, text: &str) {
    // One pass without branches, which most texts pass.
    let odd = |byte: u8| byte < 0x20 || byte == b'"' || byte == b'\\';
    if text.bytes().fold(false, |found, byte| found | odd(byte)) {
        // Writing into memory does not fail, and a string is always JSON.
        let _ = serde_json::to_writer(out, text);
        return;
    }
    out.push(b'"');
    out.extend_from_slice(text.as_bytes());
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_json() {
        let mut line = JsonLine::with_capacity(8);
        line.members(&serde_json::json!({}));
        line.members(&serde_json::json!({"first": 1}));
        line.text("clean", "é /");
        line.text("odd", "a\"b\\c\n\u{1}");
        line.maybe("absent", None);
        line.plain("shown", 7);
        line.bare("number", 1.5);
        line.integer("count", u64::MAX);
        line.milliseconds("time", Duration::from_nanos(12_034_567_891));
        line.members(&serde_json::json!({"a": null, "b": [2]}));
        line.members(&"no object");
        let bytes = line.end();
        let expected = r#"{"first":1,"clean":"é /","odd":"a\"b\\c\n\u0001","shown":"7","number":1.5,"count":18446744073709551615,"time":12034.567,"a":null,"b":[2]}"#;
        assert_eq!(String::from_utf8(bytes).expect("UTF-8"), expected);
        assert_eq!(JsonLine::with_capacity(0).end(), b"{}");
    }
}
