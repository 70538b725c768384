//! What recorded usage objects cost: `data/usage-costs.json` has them with the nano-dollars that another program computed
//! from LiteLLM's price map, by each vendor's own rules.

use bytes::Bytes;
use llmux_providers::{Dialect, Endpoint, anthropic, openai};
use llmux_types::{PriceTable, Usage, cost};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
struct Row {
    vendor: String,
    model: String,
    api: String,
    service_tier: Option<String>,
    usage: Value,
    nanos: i64,
    #[serde(default)]
    unpriced: Vec<String>,
}

impl Row {
    /// Reads the usage as the gateway does: out of a whole answer, by the vendor's dialect.
    fn read(&self) -> Usage {
        let body = |answer: Value| Bytes::from(answer.to_string());
        let usage = match self.api.as_str() {
            "messages" => {
                let answer = body(json!({"usage": self.usage}));
                anthropic::Reply::look(answer).expect("JSON").summary().usage
            }
            "generateContent" => {
                let answer = body(json!({
                    "candidates": [{"content": {"parts": [{"text": "x"}]}, "finishReason": "STOP"}],
                    "usageMetadata": self.usage,
                }));
                let codec = Dialect::Gemini.chat_codec().expect("a codec");
                codec.decode(&answer).expect("an answer").usage
            }
            "embeddings" if self.vendor == "gemini" => {
                let answer =
                    body(json!({"embedding": {"values": [1.0]}, "usageMetadata": self.usage}));
                let codec = Dialect::Gemini.embeddings_codec().expect("a codec");
                codec.decode(&answer).expect("an answer").usage
            }
            api => {
                let endpoint = match api {
                    "responses" => Endpoint::Responses,
                    "embeddings" => Endpoint::Embeddings,
                    "completions" => Endpoint::Completions,
                    "audio.transcriptions" => Endpoint::AudioTranscriptions,
                    _ => Endpoint::ChatCompletions,
                };
                let answer = body(json!({"usage": self.usage, "service_tier": self.service_tier}));
                openai::Reply::look(answer, endpoint).expect("JSON").summary().usage
            }
        };
        usage.expect("usage")
    }
}

#[test]
fn recorded_usage_costs_what_it_was_computed_to() {
    let rows: Vec<Row> =
        serde_json::from_str(include_str!("data/usage-costs.json")).expect("the table");
    assert!(rows.len() >= 40, "{}", rows.len());
    let table = PriceTable::default();
    let mut wrong = Vec::new();
    for row in &rows {
        let name = format!("{} {} {}", row.vendor, row.model, row.usage);
        let Some(found) = table.find(&row.vendor, &row.model) else {
            wrong.push(format!("{name}: no price"));
            continue;
        };
        let usage = row.read();
        let bill = cost(&found.prices, &usage);
        let unpriced: Vec<&str> = [
            ("input", bill.unpriced.input),
            ("output", bill.unpriced.output),
            ("search", bill.unpriced.search),
        ]
        .into_iter()
        .filter_map(|(name, missing)| missing.then_some(name))
        .collect();
        if bill.total.nanos() != row.nanos || unpriced != row.unpriced {
            wrong.push(format!("{name}: {} instead of {}, {bill:?}", bill.total, row.nanos));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
}
