//! The reference in `docs/configuration.md` and the schema for editors are what the schema says.

use serde_json::Value;

use super::super::{file_schema, schema};

const START: &str = "<!-- reference: made from the schema, see the test -->\n";
const END: &str = "<!-- end of reference -->\n";

/// Adds a row for each key of `object` to `table`; sections follow as their keys.
fn rows(root: &Value, object: &Value, path: &str, table: &mut String) {
    for (key, property) in object["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        let target = resolve(root, property);
        if target.get("properties").is_some() {
            rows(root, target, &path, table);
            continue;
        }
        let description =
            property["description"].as_str().or(target["description"].as_str()).unwrap_or_default();
        let choices: Vec<String> = target["enum"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|choice| {
                format!("`{}`", choice.as_str().map_or_else(|| choice.to_string(), str::to_owned))
            })
            .collect();
        let choices = if choices.is_empty() {
            String::new()
        } else {
            format!(" One of {}.", choices.join(", "))
        };
        let default = match property.get("default") {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) if text.is_empty() => String::new(),
            Some(Value::String(text)) => format!("`{text}`"),
            Some(value) => format!("`{value}`"),
        };
        table.push_str(&format!(
            "| `{path}` | {default} | {}{choices} |\n",
            description.replace('\n', " ")
        ));
        if let Some(items) = target.get("items") {
            let items = resolve(root, items);
            let forms = items["anyOf"].as_array().cloned().unwrap_or_else(|| vec![items.clone()]);
            for form in &forms {
                rows(root, resolve(root, form), &format!("{path}[]"), table);
            }
        }
    }
}

fn resolve<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    let reference = schema["$ref"].as_str().and_then(|reference| reference.strip_prefix('#'));
    reference.and_then(|pointer| root.pointer(pointer)).unwrap_or(schema)
}

/// Compares what stands between two marks of docs/configuration.md with `table`, or writes it there.
fn is_up_to_date(start: &str, end: &str, table: &str) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");
    let text = std::fs::read_to_string(path).expect("docs/configuration.md is there");
    let (before, rest) = text.split_once(start).expect("the start of the table");
    let (found, after) = rest.split_once(end).expect("the end of the table");
    if found.trim() != table.trim() && std::env::var_os("LLMUX_BLESS").is_some() {
        std::fs::write(path, format!("{before}{start}\n{table}\n{end}{after}")).expect("writable");
        return;
    }
    let hint = "run the tests of docs.rs one by one with LLMUX_BLESS=1 to write the tables anew";
    assert_eq!(found.trim(), table.trim(), "{hint}");
}

#[test]
fn the_reference_is_up_to_date() {
    let schema = file_schema();
    let mut table = "| Key | Default | Meaning |\n|---|---|---|\n".to_owned();
    rows(&schema, &schema, "", &mut table);
    is_up_to_date(START, END, &table);
}

#[test]
fn the_list_of_providers_is_up_to_date() {
    let mut table = "| `type` | Default `base_url` | Key |\n|---|---|---|\n".to_owned();
    let mut vendors: Vec<_> = llmux_providers::vendors().iter().collect();
    vendors.sort_by_key(|vendor| vendor.name);
    for vendor in vendors {
        let url = vendor.base_url.map_or("none: it must be given".into(), |url| format!("`{url}`"));
        let key = if vendor.key_required { "needed" } else { "optional" };
        table.push_str(&format!("| `{}` | {url} | {key} |\n", vendor.name));
    }
    is_up_to_date("<!-- providers: start -->", "<!-- providers: end -->", &table);
}

#[test]
fn the_schema_for_editors_is_up_to_date() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../config/config.schema.json");
    let wanted = format!("{:#}\n", schema());
    let found = std::fs::read_to_string(path).unwrap_or_default();
    if found != wanted && std::env::var_os("LLMUX_BLESS").is_some() {
        std::fs::write(path, wanted).expect("writable");
        return;
    }
    assert_eq!(found, wanted, "run this test with LLMUX_BLESS=1 to write the file anew");
}

#[test]
fn editors_may_find_a_variable_where_a_number_or_a_choice_stands() {
    let schema = schema();
    let port = &schema["$defs"]["Server"]["properties"]["port"];
    assert_eq!(port["anyOf"][0]["type"], "integer");
    assert_eq!(port["anyOf"][1], serde_json::json!({ "type": "string", "pattern": "\\$\\{" }));
    assert_eq!(port["default"], 8080);
    assert_eq!(schema["$defs"]["LogFormat"]["anyOf"][0]["enum"][1], "text");
    assert_eq!(schema["$defs"]["Server"]["properties"]["host"]["type"], "string");
}
