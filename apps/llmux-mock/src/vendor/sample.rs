//! Plausible JSON for a JSON Schema (or Gemini's kind of it).

use serde_json::{Map, Value, json};

/// Deeper schemas, recursive ones above all, end in null.
const DEPTH: usize = 16;

/// Makes a value that fits `schema`, for the usual keywords.
pub(super) fn instance(schema: &Value) -> Value {
    if schema.is_null() { json!({}) } else { value(schema, schema, DEPTH) }
}

fn value(schema: &Value, root: &Value, depth: usize) -> Value {
    let Some(depth) = depth.checked_sub(1) else {
        return Value::Null;
    };
    if let Some(target) = schema["$ref"].as_str() {
        let target = target.strip_prefix('#').and_then(|pointer| root.pointer(pointer));
        return target.map_or(Value::Null, |target| value(target, root, depth));
    }
    for key in ["const", "default"] {
        if let Some(fixed) = schema.get(key) {
            return fixed.clone();
        }
    }
    if let Some(first) = schema["enum"].get(0) {
        return first.clone();
    }
    for key in ["anyOf", "oneOf", "allOf"] {
        if let Some(first) = schema[key].get(0) {
            return value(first, root, depth);
        }
    }
    let kind = schema["type"]
        .as_str()
        .or(schema["type"].get(0).and_then(Value::as_str))
        .unwrap_or_default();
    match kind.to_ascii_lowercase().as_str() {
        "object" => object(schema, root, depth),
        "array" => {
            let count = schema["minItems"].as_u64().unwrap_or(1).min(100);
            (0..count).map(|_| value(&schema["items"], root, depth)).collect()
        }
        "string" => string(schema),
        "integer" => json!(schema["minimum"].as_i64().unwrap_or(1)),
        "number" => json!(schema["minimum"].as_f64().unwrap_or(1.5)),
        "boolean" => json!(true),
        "null" => Value::Null,
        _ if schema.get("properties").is_some() => object(schema, root, depth),
        _ => json!("mock"),
    }
}

fn object(schema: &Value, root: &Value, depth: usize) -> Value {
    let properties = schema["properties"].as_object().into_iter().flatten();
    Value::Object(
        properties
            .map(|(name, schema)| (name.clone(), value(schema, root, depth)))
            .collect::<Map<_, _>>(),
    )
}

fn string(schema: &Value) -> Value {
    let text = match schema["format"].as_str() {
        Some("date") => "2026-01-31",
        Some("date-time") => "2026-01-31T12:00:00Z",
        Some("time") => "12:00:00Z",
        Some("email") => "mock@example.com",
        Some("uri") => "https://example.com/",
        Some("uuid") => "00000000-0000-4000-8000-000000000000",
        _ => "mock",
    };
    let least = schema["minLength"].as_u64().unwrap_or(0).min(10_000) as usize;
    json!(format!("{text:m<least$}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_has_every_property_in_its_type() {
        let schema = json!({
            "type": "object",
            "properties": {
                "city": {"type": "string"}, "days": {"type": "INTEGER"}, "unit": {"enum": ["c", "f"]},
                "tags": {"type": "array", "items": {"$ref": "#/$defs/tag"}}, "note": {"type": ["string", "null"]},
            },
            "$defs": {"tag": {"type": "string", "minLength": 6}},
        });
        let expected =
            json!({"city": "mock", "days": 1, "unit": "c", "tags": ["mockmm"], "note": "mock"});
        assert_eq!(instance(&schema), expected);
    }

    #[test]
    fn a_schema_that_contains_itself_ends() {
        let schema = json!({"type": "object", "properties": {"next": {"$ref": "#"}}});
        assert!(instance(&schema)["next"]["next"].is_object());
    }
}
