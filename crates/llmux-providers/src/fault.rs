//! What serde says of a client's body, in words for clients.

use std::borrow::Cow;

use serde_json::Error;
use serde_json::error::Category;

/// Says what is wrong with JSON of a client: `an object is expected, not a string`.
///
/// No name of our types is in it, no value of the JSON, and no position: serde counts from where it began to read, which
/// may be in the middle of the client's body.
pub(crate) fn words(error: &Error) -> String {
    let mut text = error.to_string();
    let position = position(error);
    if text.ends_with(&position) {
        text.truncate(text.len() - position.len());
    }
    match error.classify() {
        Category::Data => data(&text),
        _ => syntax(&text).into_owned(),
    }
}

/// Says it with the position: for JSON that is the client's whole body.
pub(crate) fn words_and_position(error: &Error) -> String {
    words(error) + &position(error)
}

fn position(error: &Error) -> String {
    match error.line() {
        0 => String::new(),
        line => format!(" at line {line} column {}", error.column()),
    }
}

fn syntax(text: &str) -> Cow<'_, str> {
    match text {
        "expected ident" => "expected true, false or null".into(),
        "expected value" => "expected a value".into(),
        "recursion limit exceeded" => "it is nested too deeply".into(),
        "EOF while parsing a list" => "it ends inside an array".into(),
        _ => match text.strip_prefix("EOF while parsing ") {
            Some(inside) => format!("it ends inside {inside}").into(),
            None => text.into(),
        },
    }
}

fn data(text: &str) -> String {
    let named = |prefix| text.strip_prefix(prefix).filter(|name: &&str| is_name(name));
    if let Some(name) = named("missing field ") {
        return format!("{name} is missing");
    }
    if let Some(name) = named("duplicate field ") {
        return format!("{name} is given twice");
    }
    let faults = ["invalid type: ", "invalid value: ", "invalid length "];
    let found = faults.iter().find_map(|prefix| text.strip_prefix(prefix));
    // A value may hold anything, but stands before what was expected.
    let Some((found, expected)) = found.and_then(|text| text.rsplit_once(", expected ")) else {
        // Whatever else there is, serde may name our types in it.
        return "it is not as it is defined".into();
    };
    let expected = kind_expected(expected);
    match kind_found(found) {
        // `a number is expected, not a number` would help nobody.
        Some(found) if !(found == "a number" && expected.starts_with("an integer")) => {
            format!("{expected} is expected, not {found}")
        }
        _ => format!("{expected} is expected"),
    }
}

/// Tells whether it is a name as serde writes that of a field: all that it quotes here are names of ours.
fn is_name(quoted: &str) -> bool {
    let name = quoted.strip_prefix('`').and_then(|name| name.strip_suffix('`'));
    name.is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'))
}

/// The words of a `Visitor` for what it takes. Those that we wrote ourselves are meant for clients already.
fn kind_expected(expected: &str) -> &str {
    match expected.split(' ').next().unwrap_or_default() {
        "struct" | "internally" | "adjacently" => return "an object",
        "u8" | "u16" | "u32" | "u64" | "u128" | "usize" => return "an integer that is not negative",
        "i8" | "i16" | "i32" | "i64" | "i128" | "isize" => return "an integer",
        "f32" | "f64" => return "a number",
        "string" => return "a string",
        "unit" => return "null",
        "tuple" => return "an array",
        _ => {}
    }
    match expected {
        "a map" => "an object",
        "a sequence" => "an array",
        "a boolean" => "true or false",
        "a borrowed string" | "a character" => "a string",
        tuple if tuple.starts_with("a tuple") => "an array",
        ours if ["a string", "an array", "an object"].iter().any(|kind| ours.starts_with(kind)) => {
            ours
        }
        _ => "another value",
    }
}

/// serde's word for what it found, without the value. `None` where it has none of JSON's.
fn kind_found(found: &str) -> Option<&'static str> {
    let word = found.split(' ').next().unwrap_or_default();
    Some(match word {
        "string" | "character" => "a string",
        "integer" | "floating" | "number" => "a number",
        "boolean" => "true or false",
        "map" => "an object",
        "sequence" => "an array",
        "null" | "unit" => "null",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;
    use serde::de::DeserializeOwned;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "only read")]
    struct Inner {
        count: Option<u64>,
        offset: Option<i64>,
        heat: Option<f64>,
        on: Option<bool>,
        texts: Option<Vec<String>>,
        kinds: Option<BTreeMap<String, u64>>,
        pair: Option<(u64, u64)>,
        nested: Option<Box<Self>>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(untagged)]
    #[expect(dead_code, reason = "only read")]
    enum Either {
        One(u64),
        Two(Inner),
    }

    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "only read")]
    struct Needy {
        role: String,
    }

    fn said<T: DeserializeOwned + std::fmt::Debug>(json: &str) -> String {
        words(&serde_json::from_str::<T>(json).expect_err(json))
    }

    #[test]
    fn types_are_told_in_the_words_of_json() {
        for (json, want) in [
            (r#""x""#, "an object is expected, not a string"),
            ("[]", "an object is expected"),
            ("5", "an object is expected, not a number"),
            (r#"{"count":"5"}"#, "an integer that is not negative is expected, not a string"),
            (r#"{"count":-5}"#, "an integer that is not negative is expected"),
            (r#"{"count":1.5}"#, "an integer that is not negative is expected"),
            (r#"{"offset":1e30}"#, "an integer is expected"),
            (r#"{"heat":{}}"#, "a number is expected, not an object"),
            (r#"{"on":"true"}"#, "true or false is expected, not a string"),
            (r#"{"texts":true}"#, "an array is expected, not true or false"),
            (r#"{"texts":[null]}"#, "a string is expected, not null"),
            (r#"{"kinds":[]}"#, "an object is expected, not an array"),
            (r#"{"pair":[1]}"#, "an array is expected"),
            (r#"{"nested":{"nested":7}}"#, "an object is expected, not a number"),
            (r#"{"count":1,"count":2}"#, "`count` is given twice"),
        ] {
            assert_eq!(said::<Inner>(json), want, "{json}");
        }
        assert_eq!(said::<Needy>("{}"), "`role` is missing");
        assert_eq!(said::<Either>("true"), "it is not as it is defined");
    }

    #[test]
    fn values_are_not_repeated() {
        for secret in [
            "sk-1",
            ", expected struct Secret",
            " at line 1 column 3",
            "`a`, expected u64 at line 1",
        ] {
            let json = serde_json::json!({ "count": secret }).to_string();
            let said = said::<Inner>(&json);
            assert_eq!(said, "an integer that is not negative is expected, not a string");
        }
    }

    #[test]
    fn faults_of_the_syntax_keep_their_words() {
        for (json, want) in [
            ("", "it ends inside a value"),
            ("{", "it ends inside an object"),
            (r#"{"texts":["a""#, "it ends inside an array"),
            (r#"{"texts":["a"#, "it ends inside a string"),
            (r#"{"on":tru}"#, "expected true, false or null"),
            (r#"{"on":}"#, "expected a value"),
            (r#"{"on":true,}"#, "trailing comma"),
            (r#"{"heat":1e999}"#, "number out of range"),
        ] {
            assert_eq!(said::<Inner>(json), want, "{json}");
        }
        let deep = format!("{}1{}", r#"{"nested":"#.repeat(200), "}".repeat(200));
        assert_eq!(said::<Inner>(&deep), "it is nested too deeply");
        let error = serde_json::from_str::<Inner>("{\n x").expect_err("no key");
        assert_eq!(words_and_position(&error), "key must be a string at line 2 column 2");
    }
}
