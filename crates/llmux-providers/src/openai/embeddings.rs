//! OpenAI's embeddings as a client asks for them and reads them.
//!
//! See <https://platform.openai.com/docs/api-reference/embeddings>.

use llmux_types::embeddings::{EmbeddingsRequest, EmbeddingsResponse, EncodingFormat};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::codec::EncodeError;
use crate::fault::words;

/// Texts that one request may hold.
const MAX_INPUTS: usize = 2048;

/// Reads a request's body. The fields `model`, and those that are null, are not kept.
///
/// # Errors
/// [`EncodeError`] naming the field at fault. Arrays of tokens are refused: they mean nothing to other vendors.
pub fn parse_embeddings(body: &[u8]) -> Result<EmbeddingsRequest, EncodeError> {
    let mut fields: Map<String, Value> = serde_json::from_slice(body).map_err(|error| {
        refuse("", format!("the request body cannot be read: {}", words(&error)))
    })?;
    fields.remove("model");
    fields.retain(|_, value| !value.is_null());
    let inputs = inputs(fields.remove("input"))?;
    let dimensions = match fields.remove("dimensions") {
        None => None,
        Some(value) => match value.as_u64() {
            Some(number) if number > 0 => Some(number),
            _ => return Err(refuse("dimensions", "dimensions must be a positive integer")),
        },
    };
    let encoding_format = match fields.remove("encoding_format") {
        None => EncodingFormat::Float,
        Some(value) => match value.as_str() {
            Some("float") => EncodingFormat::Float,
            Some("base64") => EncodingFormat::Base64,
            _ => return Err(refuse("encoding_format", "encoding_format must be float or base64")),
        },
    };
    let user = match fields.remove("user") {
        None => None,
        Some(Value::String(user)) => Some(user),
        Some(_) => return Err(refuse("user", "user must be a string")),
    };
    Ok(EmbeddingsRequest { inputs, dimensions, encoding_format, user, others: fields })
}

fn refuse(param: &str, message: impl Into<String>) -> EncodeError {
    EncodeError { param: param.to_owned(), message: message.into() }
}

fn inputs(input: Option<Value>) -> Result<Vec<String>, EncodeError> {
    let inputs = match input {
        None => return Err(refuse("input", "input is required")),
        Some(Value::String(text)) => vec![text],
        Some(Value::Array(items)) => items
            .into_iter()
            .map(|item| match item {
                Value::String(text) => Ok(text),
                Value::Number(_) | Value::Array(_) => Err(refuse(
                    "input",
                    "input as tokens is not supported by this model: send text",
                )),
                _ => Err(refuse("input", "input must be a string or an array of strings")),
            })
            .collect::<Result<_, _>>()?,
        Some(_) => return Err(refuse("input", "input must be a string or an array of strings")),
    };
    match inputs.len() {
        0 => Err(refuse("input", "input must not be empty")),
        count if count > MAX_INPUTS => {
            Err(refuse("input", format!("input takes at most {MAX_INPUTS} texts")))
        }
        _ if inputs.iter().any(String::is_empty) => {
            Err(refuse("input", "input must not hold an empty text"))
        }
        _ => Ok(inputs),
    }
}

#[derive(Serialize)]
struct Answer<'a> {
    object: &'static str,
    data: Vec<Item<'a>>,
    model: &'a str,
    usage: AnswerUsage,
}

#[derive(Serialize)]
struct Item<'a> {
    object: &'static str,
    index: usize,
    embedding: Vector<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Vector<'a> {
    Numbers(&'a [f32]),
    Base64(String),
}

#[derive(Serialize)]
struct AnswerUsage {
    prompt_tokens: u64,
    total_tokens: u64,
}

/// Writes an answer. The dialect has no word for unknown usage, and its clients need the object: unknown tokens are 0.
pub fn write_embeddings(
    response: &EmbeddingsResponse,
    model: &str,
    format: EncodingFormat,
) -> Vec<u8> {
    let vectors = response.embeddings.iter().enumerate();
    let data = vectors
        .map(|(index, vector)| Item {
            object: "embedding",
            index,
            embedding: match format {
                EncodingFormat::Float => Vector::Numbers(vector),
                EncodingFormat::Base64 => Vector::Base64(base64(vector)),
            },
        })
        .collect();
    let usage = response.usage.unwrap_or_default();
    let prompt_tokens = usage.prompt_tokens.unwrap_or_default();
    let total_tokens = usage.total_tokens.unwrap_or(prompt_tokens);
    let usage = AnswerUsage { prompt_tokens, total_tokens };
    let answer = Answer { object: "list", data, model, usage };
    serde_json::to_vec(&answer).expect("texts and numbers are always JSON")
}

/// Writes the bytes of little-endian numbers.
fn base64(vector: &[f32]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bytes: Vec<u8> = vector.iter().flat_map(|number| number.to_le_bytes()).collect();
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or_default());
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4 {
            if place <= chunk.len() {
                let digit = bits >> (18 - 6 * place) & 63;
                text.push(char::from(DIGITS[digit as usize]));
            } else {
                text.push('=');
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use llmux_types::Usage;
    use serde_json::json;

    use super::*;

    #[test]
    fn bodies_are_read() {
        let parse = |body: Value| parse_embeddings(body.to_string().as_bytes()).unwrap();
        let one =
            parse(json!({"model": "m", "input": "a", "encoding_format": "base64", "user": null}));
        assert_eq!(one.inputs, ["a"]);
        assert_eq!(one.encoding_format, EncodingFormat::Base64);
        assert!(one.others.is_empty());
        let two =
            parse(json!({"input": ["a", "b"], "dimensions": 8, "user": "u", "task_type": "X"}));
        assert_eq!(two.inputs, ["a", "b"]);
        assert_eq!((two.dimensions, two.user.as_deref()), (Some(8), Some("u")));
        assert_eq!(two.encoding_format, EncodingFormat::Float);
        assert_eq!(two.others["task_type"], "X");
    }

    #[test]
    fn faults_name_their_field() {
        for (body, param) in [
            (json!({}), "input"),
            (json!({"input": null}), "input"),
            (json!({"input": []}), "input"),
            (json!({"input": ""}), "input"),
            (json!({"input": [1, 2]}), "input"),
            (json!({"input": [[1, 2]]}), "input"),
            (json!({"input": {"a": 1}}), "input"),
            (json!({"input": vec!["a"; 2049]}), "input"),
            (json!({"input": "a", "dimensions": 0}), "dimensions"),
            (json!({"input": "a", "dimensions": "8"}), "dimensions"),
            (json!({"input": "a", "encoding_format": "hex"}), "encoding_format"),
            (json!({"input": "a", "user": 1}), "user"),
            (json!([]), ""),
        ] {
            let error = parse_embeddings(body.to_string().as_bytes()).unwrap_err();
            assert_eq!(error.param, param, "{error}");
        }
        let error = parse_embeddings(b"[]").unwrap_err();
        let want = "the request body cannot be read: an object is expected, not an array";
        assert_eq!(error.message, want);
    }

    #[test]
    fn vectors_are_written_as_numbers_or_as_their_bytes() {
        let response = EmbeddingsResponse {
            embeddings: vec![vec![-0.008762145, 1.0], vec![0.5]],
            usage: Some(Usage { prompt_tokens: Some(3), ..Usage::default() }),
        };
        let write = |format| String::from_utf8(write_embeddings(&response, "m", format)).unwrap();
        assert_eq!(
            write(EncodingFormat::Float),
            r#"{"object":"list","data":[{"object":"embedding","index":0,"embedding":[-0.008762145,1.0]},{"object":"embedding","index":1,"embedding":[0.5]}],"model":"m","usage":{"prompt_tokens":3,"total_tokens":3}}"#
        );
        // python3 -c 'import base64,struct; print(base64.b64encode(struct.pack("<ff", -0.008762145, 1.0)))'
        let answer: Value = serde_json::from_str(&write(EncodingFormat::Base64)).unwrap();
        assert_eq!(answer["data"][0]["embedding"], "Go8PvAAAgD8=");
        assert_eq!(answer["data"][1]["embedding"], "AAAAPw==");
    }

    #[test]
    fn base64_pads_each_length() {
        assert_eq!(base64(&[]), "");
        assert_eq!(base64(&[0.0, 0.0, 0.0]), "AAAAAAAAAAAAAAAA");
        assert_eq!(base64(&[f32::MAX]), "//9/fw==");
    }
}
