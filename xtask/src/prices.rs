//! `cargo xtask prices`: makes the built-in price table from LiteLLM's price map.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;

use serde_json::value::RawValue;

use crate::workspace::root;
use crate::{Outcome, say};

const TABLE: &str = "crates/llmux-types/data/model-prices.tsv";

/// Token counts with a column of their own.
const LIMITS: &[(&str, &str)] =
    &[("max_input_tokens", "max_input_tokens"), ("max_output_tokens", "max_output_tokens")];

/// Prices with a column of their own: the field's name in the price map, the column's name.
const PRICES: &[(&str, &str)] = &[
    ("input_cost_per_token", "input"),
    ("output_cost_per_token", "output"),
    ("cache_read_input_token_cost", "cache_read"),
    ("cache_creation_input_token_cost", "cache_write"),
    ("cache_creation_input_token_cost_above_1hr", "cache_write_1h"),
    ("output_cost_per_reasoning_token", "reasoning"),
    ("input_cost_per_audio_token", "audio_input"),
    ("output_cost_per_audio_token", "audio_output"),
];

/// Capabilities: the field's name in the price map, the flag's name.
const FLAGS: &[(&str, &str)] = &[
    ("supports_audio_input", "audio_input"),
    ("supports_function_calling", "function_calling"),
    ("supports_pdf_input", "pdf_input"),
    ("supports_prompt_caching", "prompt_caching"),
    ("supports_reasoning", "reasoning"),
    ("supports_response_schema", "response_schema"),
    ("supports_vision", "vision"),
];

// Numbers stay text until they are integers: a price must not pass through binary floating point.
type Fields<'a> = BTreeMap<String, &'a RawValue>;

/// Reads a price map and writes the table.
pub(crate) fn run(source: &str) -> Outcome {
    let text =
        fs::read_to_string(source).map_err(|error| format!("cannot read {source}: {error}"))?;
    let (table, rows) = table(&text).map_err(|error| format!("{source}: {error}"))?;
    fs::write(root().join(TABLE), &table)
        .map_err(|error| format!("cannot write {TABLE}: {error}"))?;
    say(&format!("{TABLE}: {rows} models, {} bytes", table.len()));
    Ok(true)
}

/// Returns the table of a price map and its number of rows.
fn table(text: &str) -> Result<(String, usize), String> {
    let mut models: BTreeMap<String, Fields<'_>> =
        serde_json::from_str(text).map_err(|error| format!("not a price map: {error}"))?;
    // The format's own description, in the shape of a model.
    models.remove("sample_spec");
    let columns = LIMITS.iter().chain(PRICES).map(|(_, column)| *column);
    let header: Vec<&str> =
        ["key", "provider", "mode"].into_iter().chain(columns).chain(["flags", "other"]).collect();
    let mut table = header.join("\t");
    table.push('\n');
    for (key, fields) in &models {
        row(&mut table, key, fields).map_err(|error| format!("{key}: {error}"))?;
    }
    Ok((table, models.len()))
}

fn row(table: &mut String, key: &str, fields: &Fields<'_>) -> Result<(), String> {
    let word = |name: &str| -> Result<String, String> {
        let Some(value) = fields.get(name) else {
            return Ok(String::new());
        };
        serde_json::from_str(value.get()).map_err(|_| format!("{name} is no string"))
    };
    let mut cells = vec![key.to_owned(), word("litellm_provider")?, word("mode")?];
    for (name, _) in LIMITS {
        cells.push(number(fields, name, 0)?);
    }
    for (name, _) in PRICES {
        cells.push(number(fields, name, 12)?);
    }
    let flags = FLAGS
        .iter()
        .filter(|(name, _)| fields.get(*name).is_some_and(|value| value.get() == "true"));
    cells.push(flags.map(|(_, flag)| *flag).collect::<Vec<_>>().join(","));
    let mut other = BTreeMap::new();
    for (name, value) in fields {
        if !PRICES.iter().any(|(column, _)| name == column) {
            collect(&mut other, name, value)?;
        }
    }
    cells.push(
        other.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(";"),
    );
    if let Some(cell) = cells.iter().find(|cell| cell.contains(|c: char| c.is_control())) {
        return Err(format!("control character in {cell:?}"));
    }
    let _ = writeln!(table, "{}", cells.join("\t"));
    Ok(())
}

/// Adds each price found in a field; those within lists and maps under the path that leads to them. The limits of a
/// tier of prices are numbers of tokens.
fn collect(other: &mut BTreeMap<String, u64>, path: &str, value: &RawValue) -> Result<(), String> {
    let text = value.get();
    let is_tier = path.contains(".range.");
    let is_priced = path.contains("cost") || path.starts_with("tiered_pricing");
    if !is_priced {
        return Ok(());
    }
    match text.as_bytes().first() {
        Some(b'0'..=b'9' | b'-') => {
            let scale = if is_tier { 0 } else { 12 };
            other.insert(
                path.to_owned(),
                scaled(text, scale).map_err(|error| format!("{path}: {error}"))?,
            );
        }
        Some(b'[') => {
            let items: Vec<&RawValue> =
                serde_json::from_str(text).map_err(|error| format!("{path}: {error}"))?;
            for (index, item) in items.iter().enumerate() {
                collect(other, &format!("{path}.{index}"), item)?;
            }
        }
        Some(b'{') => {
            let items: Fields<'_> =
                serde_json::from_str(text).map_err(|error| format!("{path}: {error}"))?;
            for (name, item) in &items {
                collect(other, &format!("{path}.{name}"), item)?;
            }
        }
        _ if text == "null" => {}
        _ => return Err(format!("{path} is no number")),
    }
    Ok(())
}

/// A number's cell: empty where the price map has none.
fn number(fields: &Fields<'_>, name: &str, scale: i32) -> Result<String, String> {
    match fields.get(name).map(|value| value.get()) {
        None | Some("null") => Ok(String::new()),
        Some(text) => match scaled(text, scale) {
            Ok(value) => Ok(value.to_string()),
            Err(error) => Err(format!("{name}: {error}")),
        },
    }
}

/// Returns a JSON number times 10 to the power of `scale`, rounded to the nearest integer, a half upwards. A number
/// that is not zero must not become it.
fn scaled(text: &str, scale: i32) -> Result<u64, String> {
    let parse = || {
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
            None => (text, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits = format!("{whole}{fraction}");
        let value: u128 =
            digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())??;
        let power =
            exponent.checked_add(scale)?.checked_sub(i32::try_from(fraction.len()).ok()?)?;
        let factor = 10_u128.checked_pow(power.unsigned_abs());
        let result = match factor {
            Some(factor) if power >= 0 => value.checked_mul(factor)?,
            Some(factor) => value / factor + u128::from(value % factor >= factor.div_ceil(2)),
            None if power < 0 => 0,
            None => return None,
        };
        (result > 0 || value == 0).then(|| u64::try_from(result).ok())?
    };
    parse().ok_or_else(|| format!("{text} is negative, no number, too large or too small"))
}

#[cfg(test)]
mod tests {
    use super::{scaled, table};

    #[test]
    fn prices_become_exact_integers() {
        for (text, pico) in [
            ("2.5e-06", 2_500_000),
            ("1e-05", 10_000_000),
            ("0.009", 9_000_000_000),
            ("0", 0),
            ("0.0", 0),
            ("3", 3_000_000_000_000),
            ("1.5E+2", 150_000_000_000_000),
            ("0.0000029999900000000002", 2_999_990),
            ("0.000283333333333", 283_333_333),
            ("1.5e-12", 2),
        ] {
            assert_eq!(scaled(text, 12), Ok(pico), "{text}");
        }
    }

    #[test]
    fn numbers_that_are_no_price_are_refused() {
        for text in ["-1", "1e-13", "1e300", "\"1\"", "", "true"] {
            assert!(scaled(text, 12).is_err(), "{text}");
        }
    }

    #[test]
    fn a_row_has_what_the_price_map_says_and_nothing_for_what_it_does_not() {
        let map = r#"{
            "sample_spec": {"mode": "one of: chat, embedding"},
            "b/model": {
                "litellm_provider": "b", "mode": "chat", "max_input_tokens": 1000.0, "input_cost_per_token": 0.0,
                "supports_vision": true, "supports_reasoning": false, "input_cost_per_token_batches": 1e-06,
                "search_context_cost_per_query": {"search_context_size_low": 0.03},
                "tiered_pricing": [{"input_cost_per_token": 2e-06, "range": [0, 32000.0]}]
            },
            "a": {"litellm_provider": "b", "mode": "embedding", "output_cost_per_token": null}
        }"#;
        let (table, rows) = table(map).unwrap();
        assert_eq!(rows, 2);
        let lines: Vec<&str> = table.lines().skip(1).collect();
        assert_eq!(lines[0], "a\tb\tembedding\t\t\t\t\t\t\t\t\t\t\t\t");
        assert_eq!(
            lines[1],
            "b/model\tb\tchat\t1000\t\t0\t\t\t\t\t\t\t\tvision\tinput_cost_per_token_batches=1000000;\
             search_context_cost_per_query.search_context_size_low=30000000000;\
             tiered_pricing.0.input_cost_per_token=2000000;tiered_pricing.0.range.0=0;tiered_pricing.0.range.1=32000"
        );
    }
}
