//! Embeddings: unit vectors that depend on the input alone.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use serde_json::Value;
use serde_json::value::RawValue;

use super::{Look, Prepared, quote};

/// Dimensions when the request names none.
const OPENAI_DIMENSIONS: usize = 1536;
const GEMINI_DIMENSIONS: usize = 3072;
/// More would only fill memory.
const MAX_DIMENSIONS: usize = 16_384;

/// `POST embeddings`.
pub(super) fn openai(model: &str, look: &Look<'_>, prompt_tokens: u64) -> Prepared {
    let dimensions = look.dimensions.unwrap_or(OPENAI_DIMENSIONS).clamp(1, MAX_DIMENSIONS);
    let base64 = look.encoding_format.as_deref() == Some("base64");
    let data: Vec<String> = inputs(look.input)
        .iter()
        .enumerate()
        .map(|(index, input)| {
            let vector = vector(&input.to_string(), dimensions);
            let embedding = if base64 {
                let bytes: Vec<u8> = vector.iter().flat_map(|value| value.to_le_bytes()).collect();
                quote(&encode_base64(&bytes))
            } else {
                floats(&vector)
            };
            format!(r#"{{"object":"embedding","index":{index},"embedding":{embedding}}}"#)
        })
        .collect();
    Prepared::json(format!(
        r#"{{"object":"list","data":[{}],"model":{},"usage":{{"prompt_tokens":{prompt_tokens},"total_tokens":{prompt_tokens}}}}}"#,
        data.join(","),
        quote(model)
    ))
}

/// `:embedContent` and `:batchEmbedContents`, which tell no usage.
pub(super) fn gemini(body: &[u8], batch: bool) -> Prepared {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let values = |request: &Value| {
        let dimensions = request["outputDimensionality"]
            .as_u64()
            .map_or(GEMINI_DIMENSIONS, |wanted| wanted as usize);
        let vector = vector(&request["content"].to_string(), dimensions.clamp(1, MAX_DIMENSIONS));
        format!(r#"{{"values":{}}}"#, floats(&vector))
    };
    Prepared::json(if batch {
        let requests = body["requests"].as_array().into_iter().flatten();
        let embeddings: Vec<String> = requests.map(values).collect();
        format!(r#"{{"embeddings":[{}]}}"#, embeddings.join(","))
    } else {
        format!(r#"{{"embedding":{}}}"#, values(&body))
    })
}

/// Returns how many inputs there are in a string, a list of strings, a list of tokens or a list of such lists.
pub(super) fn count(input: &RawValue) -> usize {
    inputs(Some(input)).len()
}

fn inputs(input: Option<&RawValue>) -> Vec<Value> {
    match input.and_then(|input| serde_json::from_str(input.get()).ok()) {
        Some(Value::Array(list)) if !list.iter().all(Value::is_number) => list,
        Some(one) => vec![one],
        None => Vec::new(),
    }
}

fn vector(input: &str, dimensions: usize) -> Vec<f32> {
    let mut hasher = DefaultHasher::new();
    input.hash(&mut hasher);
    let mut random = hasher.finish() | 1;
    let mut vector: Vec<f32> = (0..dimensions)
        .map(|_| {
            // xorshift64; its upper bits as a number from -0.5 to 0.5.
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            (random >> 40) as f32 / (1 << 24) as f32 - 0.5
        })
        .collect();
    let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
    if length > 0.0 {
        vector.iter_mut().for_each(|value| *value /= length);
    }
    vector
}

/// JSON text with the shortest digits that give the same numbers.
fn floats(vector: &[f32]) -> String {
    let numbers: Vec<String> = vector.iter().map(f32::to_string).collect();
    format!("[{}]", numbers.join(","))
}

/// Standard base64 with padding.
pub(super) fn encode_base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |index: usize| u32::from(group.get(index).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for letter in 0..4 {
            if letter <= group.len() {
                text.push(char::from(LETTERS[(bits >> (18 - 6 * letter) & 63) as usize]));
            } else {
                text.push('=');
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_pads_like_the_standard() {
        let cases =
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")];
        for (plain, encoded) in cases {
            assert_eq!(encode_base64(plain.as_bytes()), encoded);
        }
    }
}
