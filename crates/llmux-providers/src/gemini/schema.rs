//! JSON schemas for models that take only a subset of OpenAPI's.
//!
//! The subset: <https://ai.google.dev/api/caching#Schema>. Unknown keywords are errors there.

use serde_json::{Map, Value};

/// Deeper schemas, and those that contain themselves, end in an object of any kind.
const MAX_DEPTH: usize = 64;
/// So do schemas whose references, written out, would grow beyond this many parts.
const MAX_PARTS: usize = 20_000;

/// Says a schema in the subset. What the subset has no words for is left out, so the model is told less.
pub(super) fn cleaned(schema: &Value) -> Value {
    Cleaner { root: schema, open: Vec::new(), depth: 0, parts: 0 }.clean(schema)
}

/// Tells whether a schema of arguments asks for none: such functions are declared without parameters.
pub(super) fn is_empty(schema: &Value) -> bool {
    let properties = schema.get("properties").and_then(Value::as_object);
    properties.is_none_or(Map::is_empty) && schema.get("$ref").is_none()
}

struct Cleaner<'a> {
    root: &'a Value,
    /// The references that are being resolved.
    open: Vec<&'a str>,
    depth: usize,
    parts: usize,
}

impl<'a> Cleaner<'a> {
    fn clean(&mut self, schema: &'a Value) -> Value {
        self.parts += 1;
        if self.depth >= MAX_DEPTH || self.parts > MAX_PARTS {
            return typed("object");
        }
        self.depth += 1;
        let cleaned = self.clean_one(schema);
        self.depth -= 1;
        cleaned
    }

    fn clean_one(&mut self, schema: &'a Value) -> Value {
        let Some(object) = schema.as_object() else {
            // `true` and `false` are schemas too.
            return Value::Object(Map::new());
        };
        if let Some(reference) = object.get("$ref").and_then(Value::as_str) {
            return self.resolved(reference, object.get("description"));
        }
        let mut out = Map::new();
        for (key, value) in object {
            match key.as_str() {
                "title" | "description" | "default" | "example" | "required" | "minItems"
                | "maxItems" | "minimum" | "maximum" | "minLength" | "maxLength"
                | "minProperties" | "maxProperties" | "pattern" | "nullable"
                | "propertyOrdering" => {
                    out.insert(key.clone(), value.clone());
                }
                "properties" => {
                    let properties = value.as_object().into_iter().flatten();
                    let cleaned = properties.map(|(name, value)| (name.clone(), self.clean(value)));
                    out.insert(key.clone(), Value::Object(cleaned.collect()));
                }
                "items" => {
                    out.insert(key.clone(), self.clean(value));
                }
                "anyOf" | "oneOf" => self.any_of(value, &mut out),
                "allOf" => {
                    for part in value.as_array().into_iter().flatten() {
                        if let Value::Object(part) = self.clean(part) {
                            merge(&mut out, part);
                        }
                    }
                }
                "type" => set_type(value, &mut out),
                "enum" => set_enum(value.as_array().map_or(&[], Vec::as_slice), &mut out),
                "const" => set_enum(std::slice::from_ref(value), &mut out),
                "format" => {
                    let known = ["enum", "date-time", "float", "double", "int32", "int64"];
                    if value.as_str().is_some_and(|format| known.contains(&format)) {
                        out.insert(key.clone(), value.clone());
                    }
                }
                _ => {}
            }
        }
        out.into()
    }

    fn resolved(&mut self, reference: &'a str, description: Option<&Value>) -> Value {
        let target = reference.strip_prefix('#').and_then(|pointer| self.root.pointer(pointer));
        let mut found = match target {
            Some(target) if !self.open.contains(&reference) => {
                self.open.push(reference);
                let found = self.clean(target);
                self.open.pop();
                found
            }
            _ => typed("object"),
        };
        // Its own description tells more than the one of what it refers to.
        if let (Some(found), Some(description)) = (found.as_object_mut(), description) {
            found.insert("description".to_owned(), description.clone());
        }
        found
    }

    /// A choice with null is a nullable one; a choice of one is that one.
    fn any_of(&mut self, value: &'a Value, out: &mut Map<String, Value>) {
        let is_null = |schema: &Value| schema.get("type").and_then(Value::as_str) == Some("null");
        let mut schemas = Vec::new();
        for schema in value.as_array().into_iter().flatten() {
            if is_null(schema) {
                out.insert("nullable".to_owned(), Value::Bool(true));
            } else {
                schemas.push(self.clean(schema));
            }
        }
        if schemas.len() == 1 {
            if let Some(Value::Object(only)) = schemas.pop() {
                merge(out, only);
            }
        } else if !schemas.is_empty() {
            out.insert("anyOf".to_owned(), Value::Array(schemas));
        }
    }
}

fn typed(kind: &str) -> Value {
    serde_json::json!({"type": kind})
}

fn set_type(value: &Value, out: &mut Map<String, Value>) {
    let kinds: Vec<&str> = match value {
        Value::String(kind) => vec![kind],
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    if kinds.contains(&"null") && kinds.len() > 1 {
        out.insert("nullable".to_owned(), Value::Bool(true));
    }
    let kinds: Vec<&str> =
        kinds.iter().copied().filter(|kind| *kind != "null" || kinds.len() == 1).collect();
    match kinds.as_slice() {
        [] => {}
        [kind] => {
            out.insert("type".to_owned(), Value::from(*kind));
        }
        kinds => {
            let any = kinds.iter().map(|kind| typed(kind)).collect();
            out.insert("anyOf".to_owned(), Value::Array(any));
        }
    }
}

/// Only texts can be enumerated.
fn set_enum(values: &[Value], out: &mut Map<String, Value>) {
    if values.iter().any(Value::is_null) {
        out.insert("nullable".to_owned(), Value::Bool(true));
    }
    let texts: Vec<Value> = values.iter().filter(|value| value.is_string()).cloned().collect();
    let others = values.iter().any(|value| !value.is_string() && !value.is_null());
    if !texts.is_empty() && !others {
        out.insert("enum".to_owned(), Value::Array(texts));
        out.entry("type").or_insert_with(|| Value::from("string"));
    }
}

/// Adds the members of a part of an `allOf`; properties and required names are joined.
fn merge(out: &mut Map<String, Value>, part: Map<String, Value>) {
    for (key, value) in part {
        match (out.get_mut(&key), value) {
            (Some(Value::Object(old)), Value::Object(new)) if key == "properties" => {
                old.extend(new)
            }
            (Some(Value::Array(old)), Value::Array(new)) if key == "required" => {
                let new: Vec<Value> = new.into_iter().filter(|name| !old.contains(name)).collect();
                old.extend(new);
            }
            (Some(_), _) => {}
            (None, value) => {
                out.insert(key, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn schemas_are_said_in_the_subset() {
        for (schema, expected) in [
            (
                json!({"type": "object", "additionalProperties": false, "$schema": "x",
                    "properties": {"a": {"type": ["string", "null"], "examples": ["x"]}}, "required": ["a"]}),
                json!({"type": "object", "properties": {"a": {"type": "string", "nullable": true}}, "required": ["a"]}),
            ),
            (json!({"const": "x"}), json!({"type": "string", "enum": ["x"]})),
            (json!({"type": "integer", "enum": [1, 2]}), json!({"type": "integer"})),
            (
                json!({"anyOf": [{"type": "string"}, {"type": "null"}], "description": "d"}),
                json!({"type": "string", "nullable": true, "description": "d"}),
            ),
            (
                json!({"oneOf": [{"type": "string", "format": "uri"}, {"type": "integer", "format": "int32"}]}),
                json!({"anyOf": [{"type": "string"}, {"type": "integer", "format": "int32"}]}),
            ),
            (
                json!({"type": ["string", "integer"]}),
                json!({"anyOf": [{"type": "string"}, {"type": "integer"}]}),
            ),
            (
                json!({"allOf": [{"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]},
                    {"properties": {"b": {"type": "string"}}, "required": ["a", "b"]}]}),
                json!({"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}}, "required": ["a", "b"]}),
            ),
            // A property may have the name of a keyword.
            (
                json!({"type": "object", "properties": {"$ref": {"type": "string"}, "const": {"type": "string"}}}),
                json!({"type": "object", "properties": {"$ref": {"type": "string"}, "const": {"type": "string"}}}),
            ),
            (json!(true), json!({})),
        ] {
            assert_eq!(cleaned(&schema), expected, "{schema}");
        }
    }

    #[test]
    fn references_are_written_out_and_circles_end() {
        let schema = json!({
            "$defs": {"Node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/Node"}, "v": {"$ref": "#/$defs/V"}}},
                "V": {"type": "integer"}},
            "type": "object",
            "properties": {"root": {"$ref": "#/$defs/Node", "description": "here"}, "v": {"$ref": "#/$defs/V"}, "x": {"$ref": "#/none"}},
        });
        let node = json!({"type": "object", "description": "here",
            "properties": {"next": {"type": "object"}, "v": {"type": "integer"}}});
        let expected = json!({"type": "object",
            "properties": {"root": node, "v": {"type": "integer"}, "x": {"type": "object"}}});
        assert_eq!(cleaned(&schema), expected);
    }

    #[test]
    fn references_that_double_at_each_step_stay_small() {
        let mut defs = Map::new();
        for level in 0..40 {
            let next = json!({"$ref": format!("#/$defs/{}", level + 1)});
            defs.insert(
                level.to_string(),
                json!({"type": "object", "properties": {"a": next, "b": next}}),
            );
        }
        let schema = json!({"$defs": defs, "$ref": "#/$defs/0"});
        assert!(cleaned(&schema).to_string().len() < 4_000_000);
    }

    #[test]
    fn schemas_without_properties_are_empty() {
        assert!(is_empty(&json!({"type": "object", "properties": {}})));
        assert!(is_empty(&json!({})));
        assert!(!is_empty(&json!({"properties": {"a": {}}})));
    }
}
