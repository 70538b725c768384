//! What was asked and answered, for the log of those who want it there (`logging.content`).

use std::borrow::Cow;

use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::redact::Redactor;

/// The most of a request, and of an answer, that a line has, in bytes.
const SHOWN: usize = 16 * 1024;

/// The most of an answer that is kept to be shown, in bytes: its envelope and its base64 are longer than its words.
const KEPT: usize = 1024 * 1024;

/// The longest body that is read as JSON, in bytes; a longer one is shown as text.
const LONGEST_JSON: usize = 1024 * 1024;

/// The most of a longer body that is looked at, in bytes: enough behind what is shown for any secret in it.
const LOOKED_AT: usize = 4 * SHOWN;

/// A run of letters of base64 that is longer is no word, in bytes.
const LONGEST_WORD: usize = 256;

/// See the [module](self).
#[derive(Debug, Default)]
pub(crate) struct Content {
    request: Bytes,
    answer: Vec<u8>,
    /// Of the whole answer.
    length: usize,
}

impl Content {
    pub(crate) fn new(request: Bytes) -> Self {
        Self { request, ..Self::default() }
    }

    /// Takes note of bytes that the client gets.
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        self.length += bytes.len();
        let room = KEPT.saturating_sub(self.answer.len());
        self.answer.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    /// Returns the request and the answer as they are shown.
    pub(crate) fn shown(&self, redactor: &Redactor) -> (Value, Value) {
        let request = shown(&self.request, self.request.len(), redactor);
        (request, shown(&self.answer, self.length, redactor))
    }
}

/// Makes what is shown of a body of `length` bytes, of which the last may be missing.
fn shown(bytes: &[u8], length: usize, redactor: &Redactor) -> Value {
    if bytes.is_empty() {
        return Value::Null;
    }
    if bytes.starts_with(b"--") {
        return json!(format!("[multipart, {length} bytes]"));
    }
    let is_whole = bytes.len() == length;
    if is_whole
        && length <= LONGEST_JSON
        && let Ok(value) = serde_json::from_slice(bytes)
    {
        return bounded(clean(value, redactor), 0, redactor);
    }
    // What was cut may end inside of a letter.
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() && !is_whole => {
            std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return json!(format!("[{length} bytes]")),
    };
    if let Some(folded) = folded(text) {
        return bounded(clean(folded, redactor), 0, redactor);
    }
    let text = &text[..text.floor_char_boundary(LOOKED_AT)];
    bounded(clean(json!(text), redactor), length.saturating_sub(text.len()), redactor)
}

/// Takes secrets and base64 out of all texts.
fn clean(value: Value, redactor: &Redactor) -> Value {
    match value {
        Value::String(text) => {
            let text = redactor.redact(text.as_bytes());
            let text = String::from_utf8_lossy(&text);
            Value::String(without_base64(&text).into_owned())
        }
        Value::Array(list) => list.into_iter().map(|value| clean(value, redactor)).collect(),
        Value::Object(map) => {
            map.into_iter().map(|(name, value)| (name, clean(value, redactor))).collect()
        }
        other => other,
    }
}

/// Cuts what is too long, which then is text. `beyond` bytes more were not looked at.
fn bounded(value: Value, beyond: usize, redactor: &Redactor) -> Value {
    let text = match &value {
        Value::String(text) => Cow::Borrowed(text.as_str()),
        other => Cow::Owned(other.to_string()),
    };
    if text.len() <= SHOWN && beyond == 0 {
        return value;
    }
    // Before the cut: half a secret looks like none.
    let text = redactor.redact(text.as_bytes());
    let text = String::from_utf8_lossy(&text);
    let end = text.floor_char_boundary(SHOWN);
    let more = text.len() - end + beyond;
    json!(format!("{}[{more} bytes more]", &text[..end]))
}

/// Says of long base64 only how long it is.
fn without_base64(text: &str) -> Cow<'_, str> {
    let is_letter = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/=_-".contains(byte);
    let bytes = text.as_bytes();
    let (mut out, mut at, mut copied) = (String::new(), 0, 0);
    while at < bytes.len() {
        let run = bytes[at..].iter().take_while(|byte| is_letter(byte)).count();
        if run > LONGEST_WORD {
            out.push_str(&text[copied..at]);
            out.push_str(&format!("[base64, {run} bytes]"));
            copied = at + run;
        }
        at += run.max(1);
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    out.push_str(&text[copied..]);
    Cow::Owned(out)
}

/// Puts the text of a stream of events together; `None` if it is none.
fn folded(text: &str) -> Option<Value> {
    let begins = ["data:", "event:", ":", "id:"].iter().any(|begin| text.starts_with(begin));
    if !begins {
        return None;
    }
    let mut parts = Parts::default();
    for data in text.lines().filter_map(|line| line.strip_prefix("data:")) {
        if let Ok(event) = serde_json::from_str::<Value>(data.trim()) {
            parts.add(&event);
        }
    }
    let mut map = Map::new();
    for (name, text) in
        [("text", parts.text), ("reasoning", parts.reasoning), ("tool_calls", parts.calls)]
    {
        if !text.is_empty() {
            map.insert(name.to_owned(), json!(text));
        }
    }
    if let Some(error) = parts.error {
        map.insert("error".to_owned(), error);
    }
    Some(Value::Object(map))
}

#[derive(Default)]
struct Parts {
    text: String,
    reasoning: String,
    /// Names and arguments, as they came.
    calls: String,
    error: Option<Value>,
}

impl Parts {
    /// Adds what an event says, in any of the dialects that clients speak.
    fn add(&mut self, event: &Value) {
        let text = |value: &Value, path: &str| {
            value.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        if let Some(error) = event.get("error").filter(|error| !error.is_null()) {
            self.error = Some(error.clone());
        }
        // Chat completions and completions.
        for choice in event.get("choices").and_then(Value::as_array).into_iter().flatten() {
            self.text.push_str(&text(choice, "/delta/content"));
            self.text.push_str(&text(choice, "/text"));
            self.reasoning.push_str(&text(choice, "/delta/reasoning_content"));
            let calls = choice.pointer("/delta/tool_calls").and_then(Value::as_array);
            for call in calls.into_iter().flatten() {
                self.call(&text(call, "/function/name"), &text(call, "/function/arguments"));
            }
        }
        match event.get("type").and_then(Value::as_str).unwrap_or_default() {
            // Anthropic's messages.
            "content_block_start" => self.call(&text(event, "/content_block/name"), ""),
            "content_block_delta" => {
                self.text.push_str(&text(event, "/delta/text"));
                self.reasoning.push_str(&text(event, "/delta/thinking"));
                self.call("", &text(event, "/delta/partial_json"));
            }
            // Responses.
            "response.output_text.delta" => self.text.push_str(&text(event, "/delta")),
            "response.function_call_arguments.delta" => self.call("", &text(event, "/delta")),
            "response.output_item.added" => self.call(&text(event, "/item/name"), ""),
            kind if kind.starts_with("response.reasoning") && kind.ends_with(".delta") => {
                self.reasoning.push_str(&text(event, "/delta"));
            }
            _ => {}
        }
    }

    fn call(&mut self, name: &str, arguments: &str) {
        if !name.is_empty() {
            if !self.calls.is_empty() {
                self.calls.push('\n');
            }
            self.calls.push_str(name);
            self.calls.push(' ');
        }
        self.calls.push_str(arguments);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(bytes: &[u8]) -> Value {
        shown(bytes, bytes.len(), &Redactor::default())
    }

    #[test]
    fn json_is_shown_as_it_is() {
        assert_eq!(of(br#"{"a":["b",1.5]}"#), json!({"a": ["b", 1.5]}));
        assert_eq!(of(b""), Value::Null);
        assert_eq!(of("no JSON, größer".as_bytes()), json!("no JSON, größer"));
    }

    #[test]
    fn binary_bodies_and_base64_are_cut() {
        assert_eq!(of(b"RIFF\x00\xff\xfe"), json!("[7 bytes]"));
        assert_eq!(of(b"--boundary\r\n"), json!("[multipart, 12 bytes]"));
        let image = format!("data:image/png;base64,{}", "iVBORw0KGgo+/A==".repeat(100));
        let body = json!({"image": image, "text": "see above"});
        let expected =
            json!({"image": "data:image/png;base64,[base64, 1600 bytes]", "text": "see above"});
        assert_eq!(of(body.to_string().as_bytes()), expected);
        let long = "word ".repeat(100);
        assert_eq!(of(long.as_bytes()), json!(long), "words are no base64");
    }

    #[test]
    fn long_bodies_are_cut_and_say_so() {
        let body = json!({"messages": [{"content": "größer ".repeat(5000)}]});
        let Value::String(text) = of(body.to_string().as_bytes()) else { panic!("it is cut") };
        assert!(text.starts_with(r#"{"messages":[{"content":"größer "#), "{text}");
        assert!(text.ends_with(" bytes more]") && text.len() < SHOWN + 40, "{}", text.len());
        let mut content = Content::new(Bytes::new());
        for _ in 0..100 {
            content.add("größer ".repeat(4000).as_bytes());
        }
        assert!(content.answer.len() <= KEPT);
        let (request, answer) = content.shown(&Redactor::default());
        assert_eq!(request, Value::Null);
        assert!(answer.as_str().is_some_and(|text| text.ends_with(" bytes more]")), "{answer}");
    }

    #[test]
    fn secrets_are_taken_out_before_the_cut() {
        let key = "sk-abcdefghijklmnopqrstuvwxyz012345";
        for at in SHOWN - 60..SHOWN + 5 {
            let text = format!("{} {key}", " a".repeat(at / 2));
            for body in [text.clone(), json!({"content": text}).to_string()] {
                let line = of(body.as_bytes()).to_string();
                assert!(!line.contains("sk-abc"), "{}", &line[line.len() - 100..]);
            }
        }
    }

    #[test]
    fn streams_are_shown_as_their_text() {
        let stream = "data: {\"choices\":[{\"delta\":{\"content\":\"Hel\"}}]}\n\n: keep-alive\n\n\
                      data: {\"choices\":[{\"delta\":{\"content\":\"lo\",\"reasoning_content\":\"hm\"}}]}\n\n\
                      data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"a\\\"\"}}]}}]}\n\n\
                      data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"function\":{\"arguments\":\":1}\"}}]}}]}\n\n\
                      data: {\"error\":{\"message\":\"cut\"}}\n\ndata: [DONE]\n\n";
        let expected = json!({"text": "Hello", "reasoning": "hm", "tool_calls": "f {\"a\":1}", "error": {"message": "cut"}});
        assert_eq!(of(stream.as_bytes()), expected);
        let stream = "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"content_block\":{\"type\":\"text\"}}\n\n\
                      event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"delta\":{\"type\":\"text_delta\",\"text\":\"Hi\"}}\n\n";
        assert_eq!(of(stream.as_bytes()), json!({"text": "Hi"}));
        let stream =
            "event: x\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"Hi\"}\n\n";
        assert_eq!(of(stream.as_bytes()), json!({"text": "Hi"}));
    }
}
