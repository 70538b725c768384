//! Looking at JSON and event streams without changing a byte of them.

use std::ops::Range;

/// One member of a JSON object: the spans of its key (quotes included) and of its value.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) key: Range<usize>,
    pub(crate) value: Range<usize>,
}

fn space(json: &[u8], mut at: usize) -> usize {
    while at < json.len() && json[at].is_ascii_whitespace() {
        at += 1;
    }
    at
}

fn string_end(json: &[u8], start: usize) -> Option<usize> {
    let mut at = start + 1;
    while at < json.len() {
        match json[at] {
            b'\\' => at += 2,
            b'"' => return Some(at + 1),
            _ => at += 1,
        }
    }
    None
}

fn value_end(json: &[u8], start: usize) -> Option<usize> {
    match json.get(start)? {
        b'"' => string_end(json, start),
        b'{' | b'[' => {
            let (mut depth, mut at) = (0_usize, start);
            while at < json.len() {
                match json[at] {
                    b'"' => {
                        at = string_end(json, at)?;
                        continue;
                    }
                    b'{' | b'[' => depth += 1,
                    b'}' | b']' => {
                        depth -= 1;
                        if depth == 0 {
                            return Some(at + 1);
                        }
                    }
                    _ => {}
                }
                at += 1;
            }
            None
        }
        _ => {
            let mut at = start;
            while at < json.len()
                && !matches!(json[at], b',' | b'}' | b']')
                && !json[at].is_ascii_whitespace()
            {
                at += 1;
            }
            Some(at)
        }
    }
}

/// Returns the members of the object that begins at or after `start`, `None` if there is no object.
pub(crate) fn members(json: &[u8], start: usize) -> Option<Vec<Member>> {
    let mut at = space(json, start);
    if json.get(at) != Some(&b'{') {
        return None;
    }
    at = space(json, at + 1);
    let mut found = Vec::new();
    while json.get(at)? != &b'}' {
        let key = at..string_end(json, at)?;
        at = space(json, key.end);
        if json.get(at) != Some(&b':') {
            return None;
        }
        at = space(json, at + 1);
        let value = at..value_end(json, at)?;
        at = space(json, value.end);
        found.push(Member { key, value });
        if json.get(at) == Some(&b',') {
            at = space(json, at + 1);
        }
    }
    Some(found)
}

/// Returns the span of the value at `path`, object keys from the outside in.
pub(crate) fn span(json: &[u8], path: &[&str]) -> Option<Range<usize>> {
    let mut value = 0..json.len();
    for key in path {
        let quoted = format!("\"{key}\"");
        value = members(json, value.start)?
            .into_iter()
            .find(|member| json[member.key.clone()] == *quoted.as_bytes())?
            .value;
    }
    Some(value)
}

/// Replaces the bytes of `range`.
pub(crate) fn splice(bytes: &[u8], range: Range<usize>, with: &[u8]) -> Vec<u8> {
    [&bytes[..range.start], with, &bytes[range.end..]].concat()
}

/// Replaces the string at `path`, if there is one.
pub(crate) fn with_string(json: &[u8], path: &[&str], value: &str) -> Vec<u8> {
    match span(json, path) {
        Some(range) if json[range.start] == b'"' => {
            splice(json, range, format!("\"{value}\"").as_bytes())
        }
        _ => json.to_vec(),
    }
}

/// All ways to take the member `key` out of an object together with one comma and the white space beside it.
pub(crate) fn without_member(json: &[u8], key: &str) -> Vec<Vec<u8>> {
    let quoted = format!("\"{key}\"");
    let Some(members) = members(json, 0) else { return Vec::new() };
    let Some(at) = members.iter().position(|member| json[member.key.clone()] == *quoted.as_bytes())
    else {
        return Vec::new();
    };
    let (start, end) = (members[at].key.start, members[at].value.end);
    let mut starts = vec![start];
    let mut ends = vec![end];
    while starts[starts.len() - 1] > 1 && json[starts[starts.len() - 1] - 1].is_ascii_whitespace() {
        starts.push(starts[starts.len() - 1] - 1);
    }
    let before = starts[starts.len() - 1];
    while ends[ends.len() - 1] < json.len() && json[ends[ends.len() - 1]].is_ascii_whitespace() {
        ends.push(ends[ends.len() - 1] + 1);
    }
    let after = ends[ends.len() - 1];
    let mut results = Vec::new();
    if json.get(before.wrapping_sub(1)) == Some(&b',') {
        // `, "key": value`, with the white space before the comma perhaps ours too
        let mut comma = before - 1;
        loop {
            results.extend(ends.iter().map(|end| splice(json, comma..*end, b"")));
            if comma == 0 || !json[comma - 1].is_ascii_whitespace() {
                break;
            }
            comma -= 1;
        }
    }
    if json.get(after) == Some(&b',') {
        let mut next = after + 1;
        loop {
            results.extend(starts.iter().map(|start| splice(json, *start..next, b"")));
            if !json.get(next).is_some_and(u8::is_ascii_whitespace) {
                break;
            }
            next += 1;
        }
    }
    results
}

/// One thing in an event stream. Line ends and the split of data over lines are normalised, nothing else.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Item {
    /// A comment line, without its colon.
    Comment(Vec<u8>),
    Event {
        name: Option<Vec<u8>>,
        id: Option<Vec<u8>>,
        data: Vec<u8>,
    },
}

impl Item {
    pub(crate) fn data(&self) -> &[u8] {
        match self {
            Self::Comment(_) => b"",
            Self::Event { data, .. } => data,
        }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.data() == b"[DONE]"
    }

    /// The event's data as JSON; null where it is none.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(self.data()).unwrap_or(serde_json::Value::Null)
    }
}

impl std::fmt::Debug for Item {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Comment(text) => write!(formatter, ":{}", String::from_utf8_lossy(text)),
            Self::Event { name, id, data } => {
                if let Some(name) = name {
                    write!(formatter, "event={} ", String::from_utf8_lossy(name))?;
                }
                if let Some(id) = id {
                    write!(formatter, "id={} ", String::from_utf8_lossy(id))?;
                }
                write!(formatter, "{}", String::from_utf8_lossy(data))
            }
        }
    }
}

/// Splits an event stream into its items. An event that no empty line ends is dropped, as clients do.
pub(crate) fn items(stream: &[u8]) -> Vec<Item> {
    let mut found = Vec::new();
    let (mut name, mut id) = (None, None);
    let mut data: Option<Vec<u8>> = None;
    let mut at = 0;
    while let Some(end) =
        stream[at..].iter().position(|byte| matches!(byte, b'\n' | b'\r')).map(|end| at + end)
    {
        let line = &stream[at..end];
        at = if stream[end..].starts_with(b"\r\n") { end + 2 } else { end + 1 };
        if line.is_empty() {
            if let Some(data) = data.take() {
                found.push(Item::Event { name: name.take(), id: id.take(), data });
            }
            name = None;
        } else if let Some(text) = line.strip_prefix(b":") {
            found.push(Item::Comment(text.to_vec()));
        } else {
            let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
            let value = line.get(colon + 1..).unwrap_or_default();
            let value = value.strip_prefix(b" ").unwrap_or(value);
            match &line[..colon] {
                b"event" => name = Some(value.to_vec()),
                b"id" => id = Some(value.to_vec()),
                b"data" => match &mut data {
                    Some(data) => {
                        data.push(b'\n');
                        data.extend_from_slice(value);
                    }
                    None => data = Some(value.to_vec()),
                },
                _ => {}
            }
        }
    }
    found
}

#[test]
fn members_are_found_by_their_spans() {
    let json = br#" { "a" : "x\"}" , "b":[1,{"c":2}] ,"c": {"d" :null}} "#;
    assert_eq!(&json[span(json, &["a"]).unwrap()], br#""x\"}""#);
    assert_eq!(&json[span(json, &["b"]).unwrap()], br#"[1,{"c":2}]"#);
    assert_eq!(&json[span(json, &["c", "d"]).unwrap()], b"null");
    assert!(without_member(br#"{"a":1, "b":2}"#, "b").contains(&br#"{"a":1}"#.to_vec()));
    assert!(without_member(br#"{"b":2, "a":1}"#, "b").contains(&br#"{"a":1}"#.to_vec()));
}

#[test]
fn streams_are_split_whatever_their_line_ends() {
    let plain = items(b": hi\n\nevent: a\ndata: 1\ndata:2\n\ndata: [DONE]\n\ndata: cut");
    assert_eq!(
        plain,
        items(b": hi\r\n\r\nevent: a\r\ndata: 1\r\ndata:2\r\n\r\ndata: [DONE]\r\n\r\ndata: cut")
    );
    assert_eq!(plain.len(), 3);
    assert_eq!(plain[1].data(), b"1\n2");
}
