//! Embeddings: `embedContent` for one text, `batchEmbedContents` for several.
//!
//! See <https://ai.google.dev/api/embeddings>. Vectors come as the vendor makes them: those of
//! `gemini-embedding-001` have a length of 1 only at the model's own number of dimensions.

use bytes::Bytes;
use llmux_types::Usage;
use llmux_types::chat::ChatRequest;
use llmux_types::embeddings::{EmbeddingsRequest, EmbeddingsResponse};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Gemini, bare, errors, outgoing, refuse};
use crate::codec::{DecodeError, EmbeddingsCodec, EncodeError, Encoding, Outgoing};
use crate::openai::Rejection;

/// Texts that one call may hold.
const MAX_INPUTS: usize = 100;

#[derive(Serialize)]
struct Batch<'a> {
    requests: Vec<One<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct One<'a> {
    model: &'a str,
    content: Content<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_dimensionality: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    task_type: Option<&'a str>,
}

#[derive(Serialize)]
struct Content<'a> {
    parts: [Part<'a>; 1],
}

#[derive(Serialize)]
struct Part<'a> {
    text: &'a str,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    embedding: Option<Embedding>,
    embeddings: Option<Vec<Embedding>>,
    #[serde(default, deserialize_with = "crate::json::or_none")]
    usage_metadata: Option<UsageMetadata>,
}

#[derive(Deserialize)]
struct Embedding {
    #[serde(default)]
    values: Vec<f32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct UsageMetadata {
    #[serde(default, deserialize_with = "llmux_types::lenient_count")]
    prompt_token_count: Option<u64>,
    #[serde(default, deserialize_with = "llmux_types::lenient_count")]
    total_token_count: Option<u64>,
}

impl EmbeddingsCodec for Gemini {
    fn encode(
        &self,
        request: &EmbeddingsRequest,
        encoding: &Encoding<'_>,
    ) -> Result<Outgoing, EncodeError> {
        let task_type = task_type(request, encoding)?;
        if request.inputs.is_empty() {
            return Err(refuse("input", "input must not be empty"));
        }
        if request.inputs.len() > MAX_INPUTS {
            let message = format!("input takes at most {MAX_INPUTS} texts with Gemini");
            return Err(refuse("input", message));
        }
        let model = format!("models/{}", bare(encoding.model));
        let one = |text| One {
            model: &model,
            content: Content { parts: [Part { text }] },
            output_dimensionality: request.dimensions,
            task_type,
        };
        let (method, body) = match request.inputs.as_slice() {
            [text] => ("embedContent", serde_json::to_vec(&one(text))),
            texts => {
                let requests = texts.iter().map(|text| one(text)).collect();
                ("batchEmbedContents", serde_json::to_vec(&Batch { requests }))
            }
        };
        let body = body.map_err(|error| refuse("input", error.to_string()))?;
        Ok(outgoing(encoding, method, body))
    }

    fn decode(&self, body: &[u8]) -> Result<EmbeddingsResponse, DecodeError> {
        let answer: Answer = serde_json::from_slice(body)
            .map_err(|error| DecodeError::Malformed(error.to_string()))?;
        let vectors = answer.embeddings.or_else(|| answer.embedding.map(|one| vec![one]));
        let Some(vectors) = vectors else {
            return Err(DecodeError::Malformed("there are no embeddings".to_owned()));
        };
        let usage = answer.usage_metadata.map(|usage| Usage {
            prompt_tokens: usage.prompt_token_count,
            total_tokens: usage.total_token_count.or(usage.prompt_token_count),
            ..Usage::default()
        });
        let embeddings = vectors.into_iter().map(|vector| vector.values).collect();
        Ok(EmbeddingsResponse { embeddings, usage })
    }

    fn rejection(&self, status: u16, body: Bytes) -> Rejection {
        errors::rejection(status, body)
    }
}

/// Finds the vendor's own `taskType` among the other fields, and refuses those that it has no words for.
fn task_type<'a>(
    request: &'a EmbeddingsRequest,
    encoding: &Encoding<'_>,
) -> Result<Option<&'a str>, EncodeError> {
    let mut task_type = None;
    for (name, value) in &request.others {
        match (name.as_str(), value) {
            ("task_type" | "taskType", Value::String(task)) => task_type = Some(task.as_str()),
            (_, Value::Null) => {}
            (name, _) if encoding.drop_params || ChatRequest::harmless(name) => {}
            (name, _) => {
                return Err(refuse(
                    name,
                    format!("{name} is not supported by Gemini's embeddings"),
                ));
            }
        }
    }
    Ok(task_type)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn encoding(drop_params: bool) -> Encoding<'static> {
        Encoding {
            base_url: "https://g",
            model: "gemini-embedding-001",
            drop_params,
            max_output_tokens: None,
        }
    }

    fn request(inputs: &[&str]) -> EmbeddingsRequest {
        let inputs = inputs.iter().map(|text| (*text).to_owned()).collect();
        EmbeddingsRequest { inputs, ..EmbeddingsRequest::default() }
    }

    fn encoded(request: &EmbeddingsRequest) -> (String, Value) {
        let outgoing = EmbeddingsCodec::encode(&Gemini, request, &encoding(false)).unwrap();
        (outgoing.url, serde_json::from_slice(&outgoing.body).unwrap())
    }

    #[test]
    fn one_text_is_sent_alone() {
        let mut request = request(&["a"]);
        request.dimensions = Some(768);
        request.others.insert("task_type".to_owned(), json!("RETRIEVAL_QUERY"));
        request.user = Some("u".to_owned());
        let (url, body) = encoded(&request);
        assert_eq!(url, "https://g/v1beta/models/gemini-embedding-001:embedContent");
        assert_eq!(
            body,
            json!({"model": "models/gemini-embedding-001", "content": {"parts": [{"text": "a"}]},
                "outputDimensionality": 768, "taskType": "RETRIEVAL_QUERY"})
        );
    }

    #[test]
    fn several_texts_are_a_batch_in_order() {
        let (url, body) = encoded(&request(&["a", "b"]));
        assert_eq!(url, "https://g/v1beta/models/gemini-embedding-001:batchEmbedContents");
        let one = |text: &str| json!({"model": "models/gemini-embedding-001", "content": {"parts": [{"text": text}]}});
        assert_eq!(body, json!({"requests": [one("a"), one("b")]}));
    }

    #[test]
    fn too_many_texts_and_unknown_fields_are_refused() {
        let refused = |request: &EmbeddingsRequest, drop: bool| {
            EmbeddingsCodec::encode(&Gemini, request, &encoding(drop))
                .map_err(|error| error.param)
                .err()
        };
        assert_eq!(refused(&request(&["a"; 101]), true).as_deref(), Some("input"));
        assert_eq!(refused(&request(&["a"; 100]), false), None);
        assert_eq!(refused(&request(&[]), false).as_deref(), Some("input"));
        let mut other = request(&["a"]);
        other.others.insert("truncate".to_owned(), json!(true));
        assert_eq!(refused(&other, false).as_deref(), Some("truncate"));
        assert_eq!(refused(&other, true), None);
    }

    #[test]
    fn answers_to_one_and_to_several_are_read() {
        let decode = |body: &str| EmbeddingsCodec::decode(&Gemini, body.as_bytes());
        let one = decode(r#"{"embedding":{"values":[0.5,-1]}}"#).unwrap();
        assert_eq!(one, EmbeddingsResponse { embeddings: vec![vec![0.5, -1.0]], usage: None });
        let two = decode(
            r#"{"embeddings":[{"values":[1]},{"values":[2]}],"usageMetadata":{"promptTokenCount":4}}"#,
        )
        .unwrap();
        assert_eq!(two.embeddings, [[1.0], [2.0]]);
        assert_eq!(two.usage.unwrap().total_tokens, Some(4));
        for body in ["{}", "[]", "", "{\"embeddings\":7}"] {
            assert!(matches!(decode(body), Err(DecodeError::Malformed(_))), "{body}");
        }
    }
}
