//! JSON text as a tree that keeps numbers and strings as they were written: what is folded, replayed and compared must
//! not lose a digit.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Deeper nesting is refused, since values are read recursively.
const DEPTH: u32 = 128;

/// A value. Texts and names are what stands between the quotes, escapes included.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Json<'a> {
    /// A number or a word.
    Plain(Cow<'a, str>),
    Text(Cow<'a, str>),
    Array(Vec<Self>),
    Object(Object<'a>),
}

/// The members of an object in their order, by what stands between the quotes of their names.
pub(crate) type Object<'a> = Vec<(Cow<'a, str>, Json<'a>)>;

impl<'a> Json<'a> {
    pub(crate) const NULL: Self = Self::Plain(Cow::Borrowed("null"));

    /// `None`: not JSON, or nested too deeply.
    pub(crate) fn parse(text: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(text)?;
        let value = reader.value(DEPTH)?;
        reader.end()?;
        Some(value)
    }

    pub(crate) const fn text(plain: &'a str) -> Self {
        Self::Text(Cow::Borrowed(plain))
    }

    pub(crate) fn number(number: u64) -> Self {
        Self::Plain(Cow::Owned(number.to_string()))
    }

    pub(crate) fn is_null(&self) -> bool {
        matches!(self, Self::Plain(word) if word == "null")
    }

    pub(crate) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn as_index(&self) -> Option<u64> {
        match self {
            Self::Plain(number) => number.parse().ok(),
            _ => None,
        }
    }

    pub(crate) fn write(&self, out: &mut String) {
        match self {
            Self::Plain(word) => out.push_str(word),
            Self::Text(text) => {
                let _ = write!(out, "\"{text}\"");
            }
            Self::Array(items) => {
                out.push('[');
                for (at, item) in items.iter().enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    item.write(out);
                }
                out.push(']');
            }
            Self::Object(members) => {
                out.push('{');
                write_members(members.iter().map(|(name, value)| (&**name, value)), out);
                out.push('}');
            }
        }
    }

    /// Writes an unambiguous form that depends on neither whitespace nor the order of members nor the way strings are
    /// escaped. Numbers stay as they are written.
    pub(crate) fn write_canonical(&self, out: &mut Vec<u8>) {
        match self {
            Self::Plain(word) => {
                out.push(b'p');
                prefixed(out, |out| out.extend_from_slice(word.as_bytes()));
            }
            Self::Text(text) => {
                out.push(b't');
                prefixed(out, |out| unescape(text, out));
            }
            Self::Array(items) => {
                out.push(b'[');
                items.iter().for_each(|item| item.write_canonical(out));
                out.push(b']');
            }
            Self::Object(members) => {
                write_canonical_object(members.iter().map(|(name, value)| (&**name, value)), out);
            }
        }
    }
}

/// Writes an object as [`Json::write_canonical`] does. Members of the same name stay in their order: which of them
/// counts is the reader's choice.
pub(crate) fn write_canonical_object<'m, 'a: 'm>(
    members: impl Iterator<Item = (&'m str, &'m Json<'a>)>,
    out: &mut Vec<u8>,
) {
    let mut members: Vec<(Cow<'_, [u8]>, &Json<'_>)> =
        members.map(|(name, value)| (plain(name), value)).collect();
    members.sort_by(|(a, _), (b, _)| a.cmp(b));
    out.push(b'{');
    for (name, value) in members {
        out.push(b'k');
        prefixed(out, |out| out.extend_from_slice(&name));
        value.write_canonical(out);
    }
    out.push(b'}');
}

/// Writes members without the braces around them.
pub(crate) fn write_members<'m, 'a: 'm>(
    members: impl Iterator<Item = (&'m str, &'m Json<'a>)>,
    out: &mut String,
) {
    for (at, (name, value)) in members.enumerate() {
        let comma = if at > 0 { "," } else { "" };
        let _ = write!(out, "{comma}\"{name}\":");
        value.write(out);
    }
}

/// Writes something and its length before it.
fn prefixed(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.extend_from_slice(&[0; 8]);
    write(out);
    let length = (out.len() - at - 8) as u64;
    out[at..at + 8].copy_from_slice(&length.to_be_bytes());
}

/// Finds the first member of a name that is plain ASCII.
pub(crate) fn member<'m, 'a>(
    members: &'m [(Cow<'a, str>, Json<'a>)],
    name: &str,
) -> Option<&'m Json<'a>> {
    members.iter().find(|(found, _)| is(found, name)).map(|(_, value)| value)
}

/// Tells whether what stands between quotes means `name`.
pub(crate) fn is(escaped: &str, name: &str) -> bool {
    escaped == name || (escaped.contains('\\') && *plain(escaped) == *name.as_bytes())
}

/// What a string between quotes means. Halves of surrogate pairs are kept as three bytes each.
fn plain(escaped: &str) -> Cow<'_, [u8]> {
    if !escaped.contains('\\') {
        return Cow::Borrowed(escaped.as_bytes());
    }
    let mut bytes = Vec::with_capacity(escaped.len());
    unescape(escaped, &mut bytes);
    Cow::Owned(bytes)
}

fn unescape(escaped: &str, out: &mut Vec<u8>) {
    let mut rest = escaped;
    while let Some(at) = rest.find('\\') {
        out.extend_from_slice(&rest.as_bytes()[..at]);
        let escape = rest.as_bytes().get(at + 1).copied();
        let mut length = 2;
        match escape {
            Some(b'u') => {
                let unit = unit(&rest[at..]).unwrap_or(0xfffd);
                length = 6;
                let second = rest.get(at + 6..).and_then(unit_of_escape);
                let code = match (unit, second) {
                    (0xd800..=0xdbff, Some(low @ 0xdc00..=0xdfff)) => {
                        length = 12;
                        0x1_0000 + ((unit - 0xd800) << 10) + (low - 0xdc00)
                    }
                    _ => unit,
                };
                push_code(code, out);
            }
            Some(b'b') => out.push(8),
            Some(b'f') => out.push(12),
            Some(b'n') => out.push(b'\n'),
            Some(b'r') => out.push(b'\r'),
            Some(b't') => out.push(b'\t'),
            Some(other) => out.push(other),
            None => {}
        }
        rest = rest.get(at + length..).unwrap_or_default();
    }
    out.extend_from_slice(rest.as_bytes());
}

fn unit_of_escape(text: &str) -> Option<u32> {
    text.starts_with("\\u").then(|| unit(text))?
}

fn unit(escape: &str) -> Option<u32> {
    u32::from_str_radix(escape.get(2..6)?, 16).ok()
}

fn push_code(code: u32, out: &mut Vec<u8>) {
    match char::from_u32(code) {
        Some(letter) => out.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes()),
        // Half of a pair: no text, but it must differ from others of its kind.
        None => {
            let low = |shift: u32| 0x80 | u8::try_from(code >> shift & 0x3f).unwrap_or(0);
            out.extend_from_slice(&[
                0xe0 | u8::try_from(code >> 12 & 0xf).unwrap_or(0),
                low(6),
                low(0),
            ]);
        }
    }
}

/// The members of an object, read without building what they hold: each name and the text of its value.
pub(crate) fn shallow(text: &[u8]) -> Option<Vec<(&str, &str)>> {
    let mut reader = Reader::new(text)?;
    let mut members = Vec::new();
    reader.space();
    reader.object(|reader, name| {
        reader.space();
        let start = reader.at;
        reader.skip(DEPTH)?;
        members.push((name, &reader.text[start..reader.at]));
        Some(())
    })?;
    reader.end()?;
    Some(members)
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn new(text: &'a [u8]) -> Option<Self> {
        Some(Self { text: std::str::from_utf8(text).ok()?, at: 0 })
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// Goes past a byte that may be there.
    fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn end(&mut self) -> Option<()> {
        self.space();
        (self.at == self.text.len()).then_some(())
    }

    fn value(&mut self, depth: u32) -> Option<Json<'a>> {
        let depth = depth.checked_sub(1)?;
        self.space();
        match self.peek()? {
            b'{' => {
                let mut members = Vec::new();
                self.object(|reader, name| {
                    members.push((Cow::Borrowed(name), reader.value(depth)?));
                    Some(())
                })?;
                Some(Json::Object(members))
            }
            b'[' => {
                let mut items = Vec::new();
                self.array(|reader| {
                    items.push(reader.value(depth)?);
                    Some(())
                })?;
                Some(Json::Array(items))
            }
            b'"' => self.string().map(|text| Json::Text(Cow::Borrowed(text))),
            _ => self.plain().map(|word| Json::Plain(Cow::Borrowed(word))),
        }
    }

    fn skip(&mut self, depth: u32) -> Option<()> {
        let depth = depth.checked_sub(1)?;
        self.space();
        match self.peek()? {
            b'{' => self.object(|reader, _| reader.skip(depth)),
            b'[' => self.array(|reader| reader.skip(depth)),
            b'"' => self.string().map(|_| ()),
            _ => self.plain().map(|_| ()),
        }
    }

    fn object(&mut self, mut each: impl FnMut(&mut Self, &'a str) -> Option<()>) -> Option<()> {
        if !self.eat(b'{') {
            return None;
        }
        self.space();
        if self.eat(b'}') {
            return Some(());
        }
        loop {
            self.space();
            let name = self.string()?;
            self.space();
            if !self.eat(b':') {
                return None;
            }
            each(self, name)?;
            self.space();
            if self.eat(b'}') {
                return Some(());
            }
            if !self.eat(b',') {
                return None;
            }
        }
    }

    fn array(&mut self, mut each: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.at += 1;
        self.space();
        if self.eat(b']') {
            return Some(());
        }
        loop {
            each(self)?;
            self.space();
            if self.eat(b']') {
                return Some(());
            }
            if !self.eat(b',') {
                return None;
            }
        }
    }

    /// Returns what stands between the quotes.
    fn string(&mut self) -> Option<&'a str> {
        if !self.eat(b'"') {
            return None;
        }
        let start = self.at;
        loop {
            match self.peek()? {
                b'"' => {
                    self.at += 1;
                    return Some(&self.text[start..self.at - 1]);
                }
                b'\\' => {
                    let escape = self.text.as_bytes().get(self.at + 1)?;
                    match escape {
                        b'u' => {
                            let digits = self.text.as_bytes().get(self.at + 2..self.at + 6)?;
                            if !digits.iter().all(u8::is_ascii_hexdigit) {
                                return None;
                            }
                            self.at += 6;
                        }
                        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => self.at += 2,
                        _ => return None,
                    }
                }
                0..=0x1f => return None,
                _ => self.at += 1,
            }
        }
    }

    /// Reads a number or a word.
    fn plain(&mut self) -> Option<&'a str> {
        let rest = &self.text[self.at..];
        for word in ["null", "true", "false"] {
            if rest.starts_with(word) {
                self.at += word.len();
                return Some(word);
            }
        }
        let start = self.at;
        self.eat(b'-');
        if !self.eat(b'0') {
            self.digits()?;
        }
        if self.eat(b'.') {
            self.digits()?;
        }
        if self.eat(b'e') || self.eat(b'E') {
            let _ = self.eat(b'-') || self.eat(b'+');
            self.digits()?;
        }
        Some(&self.text[start..self.at])
    }

    fn digits(&mut self) -> Option<()> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        (self.at > start).then_some(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn canonical(text: &str) -> Vec<u8> {
        let mut out = Vec::new();
        Json::parse(text.as_bytes()).expect("JSON").write_canonical(&mut out);
        out
    }

    #[test]
    fn what_is_written_is_what_was_read() {
        let text = r#"{"a":[1,-0.10e+5,true,null,"\ud83d\u0041\n"],"a":{},"b":[]}"#;
        let mut out = String::new();
        Json::parse(text.as_bytes()).unwrap().write(&mut out);
        assert_eq!(out, text);
    }

    #[test]
    fn escapes_and_order_make_no_difference() {
        assert_eq!(
            canonical(r#"{"a":"\u0041\/\ud83d\ude00\t","b":1}"#),
            canonical("{ \"b\" : 1, \"\\u0061\":\"A/😀\\u0009\"}")
        );
        assert_ne!(canonical(r#""\ud83d""#), canonical(r#""\ud83e""#));
        assert_ne!(canonical("1"), canonical("1.0"));
        assert_ne!(canonical("\"1\""), canonical("1"));
        assert_ne!(canonical(r#"["a","b"]"#), canonical(r#"["b","a"]"#));
        assert_ne!(canonical(r#"[["a"],"b"]"#), canonical(r#"[["a","b"]]"#));
        assert_ne!(canonical(r#"{"a":1,"a":2}"#), canonical(r#"{"a":2,"a":1}"#));
    }

    #[test]
    fn what_is_no_json_is_refused() {
        let texts = [
            "",
            "{",
            "[1,]",
            "{\"a\"}",
            "{\"a\":1,}",
            "01",
            "+1",
            "1.",
            ".5",
            "1e",
            "nul",
            "\"\u{1}\"",
            "\"\\x\"",
            "\"\\u12g4\"",
            "1 2",
            "'a'",
            "{a:1}",
            "\"a",
        ];
        for text in texts {
            assert_eq!(Json::parse(text.as_bytes()), None, "{text}");
        }
        assert_eq!(Json::parse(b"\"\xff\""), None);
        let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(Json::parse(deep(100).as_bytes()).is_some());
        assert_eq!(Json::parse(deep(100_000).as_bytes()), None);
        assert_eq!(shallow(format!("{{\"a\":{}}}", deep(100_000)).as_bytes()), None);
    }

    #[test]
    fn shallow_members_are_the_texts_of_the_values() {
        let members = shallow(br#" {"a" : [1, {"b":2}] , "c":"}" } "#).unwrap();
        assert_eq!(members, [("a", r#"[1, {"b":2}]"#), ("c", r#""}""#)]);
        assert_eq!(shallow(b"[]"), None);
    }

    proptest! {
        #[test]
        fn texts_are_read_or_refused_as_serde_does(text in "[\\[\\]{}\":,0-9a-c.eE+\\- \\\\unltrfs]{0,24}") {
            let ours = Json::parse(text.as_bytes()).is_some();
            let theirs = serde_json::from_str::<&serde_json::value::RawValue>(&text).is_ok();
            prop_assert_eq!(ours, theirs);
            if ours {
                canonical(&text);
            }
        }
    }
}
