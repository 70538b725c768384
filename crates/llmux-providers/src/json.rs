//! Positions in JSON text, so that it can be edited without being written anew.

use std::fmt;
use std::ops::Range;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// Returns where `part`, a slice of `whole`, stands in it.
pub(crate) fn span(whole: &[u8], part: &str) -> Range<usize> {
    let start = part.as_ptr() as usize - whole.as_ptr() as usize;
    start..start + part.len()
}

/// A key and its value in an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) key: Range<usize>,
    pub(crate) value: Range<usize>,
}

/// Finds the members of the object `json` whose names `wanted` accepts, in order.
pub(crate) fn members(
    json: &[u8],
    wanted: impl Fn(&str) -> bool,
) -> Result<Vec<Member>, serde_json::Error> {
    struct Object<'a, F> {
        json: &'a [u8],
        wanted: F,
    }
    impl<'a, F: Fn(&str) -> bool> Visitor<'a> for Object<'a, F> {
        type Value = Vec<Member>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }
        fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<Vec<Member>, A::Error> {
            let mut members = Vec::new();
            while let Some(key) = map.next_key::<&'a RawValue>()? {
                let name: String =
                    serde_json::from_str(key.get()).map_err(serde::de::Error::custom)?;
                if (self.wanted)(&name) {
                    let value: &'a RawValue = map.next_value()?;
                    members.push(Member {
                        key: span(self.json, key.get()),
                        value: span(self.json, value.get()),
                    });
                } else {
                    map.next_value::<IgnoredAny>()?;
                }
            }
            Ok(members)
        }
    }
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let members = deserializer.deserialize_map(Object { json, wanted })?;
    deserializer.end()?;
    Ok(members)
}

/// What kind of value stands somewhere, without keeping it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    Null,
    Scalar,
    EmptyString,
    String,
    EmptyArray,
    Array,
    Object,
}

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Shape;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any value")
            }
            fn visit_unit<E>(self) -> Result<Shape, E> {
                Ok(Shape::Null)
            }
            fn visit_bool<E>(self, _: bool) -> Result<Shape, E> {
                Ok(Shape::Scalar)
            }
            fn visit_u64<E>(self, _: u64) -> Result<Shape, E> {
                Ok(Shape::Scalar)
            }
            fn visit_i64<E>(self, _: i64) -> Result<Shape, E> {
                Ok(Shape::Scalar)
            }
            fn visit_f64<E>(self, _: f64) -> Result<Shape, E> {
                Ok(Shape::Scalar)
            }
            fn visit_str<E>(self, text: &str) -> Result<Shape, E> {
                Ok(if text.is_empty() { Shape::EmptyString } else { Shape::String })
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Shape, A::Error> {
                let mut shape = Shape::EmptyArray;
                while seq.next_element::<IgnoredAny>()?.is_some() {
                    shape = Shape::Array;
                }
                Ok(shape)
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Shape, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Shape::Object)
            }
        }
        deserializer.deserialize_any(Any)
    }
}

/// Reads a value that must not make its surroundings unreadable: `None` if it is not what it should be.
pub(crate) fn or_none<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: serde::de::DeserializeOwned,
{
    let value = serde_json::Value::deserialize(deserializer)?;
    Ok(serde_json::from_value(value).ok())
}

/// A list of replacements in a text.
#[derive(Debug, Default)]
pub(crate) struct Splices(Vec<(Range<usize>, String)>);

impl Splices {
    pub(crate) fn replace(&mut self, range: Range<usize>, with: impl Into<String>) {
        self.0.push((range, with.into()));
    }

    pub(crate) fn insert(&mut self, at: usize, text: impl Into<String>) {
        self.replace(at..at, text);
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Removes `members` (in order) of the object in `json`, each with one of the commas around it.
    pub(crate) fn remove(&mut self, json: &[u8], members: &[Member]) {
        let mut last: Option<Range<usize>> = None;
        for member in members {
            let after = skip_space(json, member.value.end);
            let range = if json.get(after) == Some(&b',') {
                member.key.start..skip_space(json, after + 1)
            } else {
                // The last member: the comma before it goes, which may stand before members that go as well.
                let start = match &last {
                    Some(range) if range.end == member.key.start => range.start,
                    _ => member.key.start,
                };
                let before = trim_space(json, start);
                if before > 0 && json[before - 1] == b',' {
                    before - 1..member.value.end
                } else {
                    start..member.value.end
                }
            };
            match &mut last {
                Some(run) if range.start <= run.end => *run = run.start.min(range.start)..range.end,
                _ => {
                    if let Some(run) = last.replace(range) {
                        self.replace(run, "");
                    }
                }
            }
        }
        if let Some(run) = last {
            self.replace(run, "");
        }
    }

    /// Returns `text` with all replacements made. They must not overlap.
    pub(crate) fn apply(mut self, text: &[u8]) -> Vec<u8> {
        self.0.sort_by_key(|(range, _)| (range.start, range.end));
        let grown: usize = self.0.iter().map(|(_, with)| with.len()).sum();
        let mut out = Vec::with_capacity(text.len() + grown);
        let mut position = 0;
        for (range, with) in &self.0 {
            out.extend_from_slice(&text[position..range.start]);
            out.extend_from_slice(with.as_bytes());
            position = range.end;
        }
        out.extend_from_slice(&text[position..]);
        out
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// Returns the first position from `at` on that is no white space.
pub(crate) fn skip_space(json: &[u8], at: usize) -> usize {
    at + json[at..].iter().take_while(|&&byte| is_space(byte)).count()
}

/// Returns the end of the text before `at` without its trailing white space.
fn trim_space(json: &[u8], at: usize) -> usize {
    at - json[..at].iter().rev().take_while(|&&byte| is_space(byte)).count()
}

/// Writes `text` as a JSON string.
pub(crate) fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a string is always JSON")
}

/// Replaces the strings at `spans` by `model`; `None` if there is nothing to change.
pub(crate) fn renamed(json: &[u8], spans: &[Range<usize>], model: &str) -> Option<Vec<u8>> {
    let name = quoted(model);
    let mut splices = Splices::default();
    for span in spans {
        if json.get(span.start) == Some(&b'"') && json[span.clone()] != *name.as_bytes() {
            splices.replace(span.clone(), name.as_str());
        }
    }
    (!splices.is_empty()).then(|| splices.apply(json))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn removed(json: &str, names: &[&str]) -> String {
        let members = members(json.as_bytes(), |name| names.contains(&name)).expect("an object");
        let mut splices = Splices::default();
        splices.remove(json.as_bytes(), &members);
        String::from_utf8(splices.apply(json.as_bytes())).expect("still text")
    }

    #[test]
    fn members_are_removed_with_their_commas() {
        for (json, expected) in [
            (r#"{"a":1,"x":2,"b":3}"#, r#"{"a":1,"b":3}"#),
            (r#"{"x":1}"#, "{}"),
            (r#"{"x":1, "y":2}"#, "{}"),
            (r#"{"a":1,"x":2}"#, r#"{"a":1}"#),
            (r#"{"a":1 , "x":2 , "y": [3] }"#, r#"{"a":1  }"#),
            (r#"{"x":1,"a":2,"y":3}"#, r#"{"a":2}"#),
            (r#"{ "x" : {"y":1} , "a":2}"#, r#"{ "a":2}"#),
            (r#"{"a":{"x":1},"\u0078":2}"#, r#"{"a":{"x":1}}"#),
            (r#"{"x":1,"x":2,"a":3,"y":4,"x":5}"#, r#"{"a":3}"#),
        ] {
            assert_eq!(removed(json, &["x", "y"]), expected, "{json}");
            serde_json::from_str::<serde_json::Value>(&removed(json, &["x", "y"])).expect("valid");
        }
    }
}
