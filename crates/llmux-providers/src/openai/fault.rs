//! Whether a request that a vendor refuses may suit another model or another vendor.
//!
//! Few vendors have a code for it, so their texts decide where no code does. The words are those of the vendors'
//! documentation and of the answers that they give; a text that fits none stays a plain mistake of the client.

use llmux_types::{ErrorObject, FailureClass};
use serde_json::Value;

/// How much of a text is read, in bytes. Vendors say early what is wrong and may quote the request after it.
const READ: usize = 512;

/// Codes (and types) that say that the context window is too small.
const WINDOW_CODES: [&str; 5] = [
    "context_length_exceeded",
    // llama.cpp.
    "exceed_context_size_error",
    // GitHub's models and Copilot.
    "tokens_limit_reached",
    "model_max_prompt_tokens_exceeded",
    // Z.ai.
    "model_context_window_exceeded",
];

/// Texts that say that the context window is too small, in lower case.
const WINDOW_TEXTS: [&str; 22] = [
    // OpenAI of old, Azure, OpenRouter, DeepSeek, vLLM, Mistral ("too large for model with N maximum context length").
    "maximum context length",
    // Anthropic, Fireworks, Vertex.
    "prompt is too long",
    // Azure ("of N tokens").
    "input tokens exceed the configured limit",
    // Groq, Cerebras.
    "reduce the length of the messages",
    // Gemini and Vertex, in two wordings.
    "exceeds the maximum number of tokens allowed",
    "but model only supports up to",
    // Together, SGLang.
    "is longer than the model's context length",
    // Text Generation Inference: Hugging Face, Together of old.
    "`inputs` tokens + `max_new_tokens` must be",
    "`inputs` must have less than",
    // vLLM, in two wordings.
    "longer than the maximum model length",
    "context length is only",
    // LM Studio, in two wordings.
    "context length of only",
    "greater than the context length",
    // Cohere, Voyage.
    "too many tokens",
    // Bedrock, in three wordings.
    "too many input tokens",
    "input is too long for requested model",
    "input tokens exceeds maximum length",
    // xAI.
    "maximum prompt length is",
    // Kimi.
    "exceeded model token limit",
    // Qwen.
    "range of input length should be",
    // Z.ai.
    "prompt exceeds max length",
    // Perplexity.
    "length of all messages is too long",
];

/// What a request may exceed, in lower case: OpenAI's "exceeds the context window of this model", Anthropic's "exceed
/// context limit", MiniMax' "context window exceeds limit", llama.cpp's "exceeds the available context size", Ollama's
/// "input length exceeds the context length".
const WINDOW_NOUNS: [&str; 4] =
    ["context window", "context length", "context limit", "context size"];

/// Codes (and types) that say that the content is refused.
const POLICY_CODES: [&str; 11] = [
    "content_filter",
    "content_policy_violation",
    "image_content_policy_violation",
    "moderation_blocked",
    "cyber_policy",
    // Azure, outer and inner.
    "contentFilter",
    "ResponsibleAIPolicyViolation",
    // Qwen, in two spellings.
    "data_inspection_failed",
    "DataInspectionFailed",
    // Volcengine.
    "InputTextSensitiveContentDetected",
    "SensitiveContentDetected",
];

/// Texts that say that the content is refused, in lower case.
const POLICY_TEXTS: [&str; 13] = [
    // Anthropic.
    "blocked by content filtering policy",
    "blocked under anthropic's usage policy",
    // OpenAI: reasoning models, images.
    "flagged as potentially violating",
    "limited access to this content for safety reasons",
    "result of our safety system",
    // Azure.
    "content management policy",
    // DeepSeek.
    "content exists risk",
    // xAI.
    "content violates usage guidelines",
    // Kimi.
    "rejected because it was considered high risk",
    // Qwen.
    "may contain inappropriate content",
    // Z.ai.
    "unsafe or sensitive content",
    // Google's image models.
    "google's responsible ai practices",
    // Bedrock.
    "blocked by our content filters",
];

/// Tells whether the refusal is one that another model ([`FailureClass::ContextWindow`]) or another vendor
/// ([`FailureClass::ContentPolicy`]) may not repeat. `object` is the vendor's own error object, for the members that
/// `error` does not keep.
pub(super) fn of_request(error: &ErrorObject, object: &Value) -> Option<FailureClass> {
    let code = error.code.as_ref().and_then(Value::as_str);
    // Azure says `innererror`, for images `inner_error`.
    let inner = ["innererror", "inner_error"]
        .into_iter()
        .find_map(|name| object.get(name)?.get("code")?.as_str());
    let coded = |codes: &[&str]| {
        [Some(error.kind.as_str()), code, inner].into_iter().flatten().any(|it| codes.contains(&it))
    };
    if coded(&POLICY_CODES) {
        return Some(FailureClass::ContentPolicy);
    }
    if coded(&WINDOW_CODES) {
        return Some(FailureClass::ContextWindow);
    }
    // OpenRouter quotes the vendor that refused.
    let quoted = object.get("metadata").and_then(|metadata| metadata.get("raw")?.as_str());
    [Some(error.message.as_str()), quoted].into_iter().flatten().find_map(by_text)
}

fn by_text(text: &str) -> Option<FailureClass> {
    // A list is a validator's, which quotes what it was given.
    if text.starts_with('[') {
        return None;
    }
    let text = text[..text.floor_char_boundary(READ)].to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|words| text.contains(words));
    if says(&POLICY_TEXTS) {
        return Some(FailureClass::ContentPolicy);
    }
    // Groq refuses by its token rate with 413.
    let by_rate = says(&["per minute", "rate limit"]);
    let by_window = says(&WINDOW_TEXTS) || (text.contains("exceed") && says(&WINDOW_NOUNS));
    (by_window && !by_rate).then_some(FailureClass::ContextWindow)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use llmux_types::FailureClass::{
        ContentPolicy, ContextWindow, Forbidden, RateLimited, Request,
    };

    use super::*;
    use crate::openai::Rejection;

    fn class(status: u16, body: &str) -> FailureClass {
        serde_json::from_str::<Value>(body).expect("JSON");
        Rejection::from_reply(status, Bytes::copy_from_slice(body.as_bytes())).class
    }

    /// What vendors answer to a request that is too long, by vendor.
    const TOO_LONG: [(&str, u16, &str); 41] = [
        (
            "OpenAI, chat",
            400,
            r#"{"error":{"message":"This model's maximum context length is 8192 tokens. However, your messages resulted in 8545 tokens. Please reduce the length of the messages.","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}"#,
        ),
        (
            "OpenAI, responses",
            400,
            r#"{"error":{"message":"Your input exceeds the context window of this model. Please adjust your input and try again.","type":"invalid_request_error","param":"input","code":"context_length_exceeded"}}"#,
        ),
        (
            "OpenAI, embeddings",
            400,
            r#"{"error":{"message":"This model's maximum context length is 8192 tokens, however you requested 10346 tokens (10346 in your prompt; 0 for the completion). Please reduce your prompt; or completion length.","type":"invalid_request_error","param":null,"code":null}}"#,
        ),
        (
            "Azure",
            400,
            r#"{"error":{"message":"Input tokens exceed the configured limit of 272000 tokens. Your messages resulted in 509178 tokens. Please reduce the length of the messages.","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}"#,
        ),
        (
            "GitHub Models",
            413,
            r#"{"error":{"code":"tokens_limit_reached","message":"Request body too large for gpt-4o model. Max size: 8000 tokens.","details":""}}"#,
        ),
        (
            "GitHub Copilot",
            400,
            r#"{"error":{"message":"prompt token count of 145000 exceeds the limit of 128000","code":"model_max_prompt_tokens_exceeded"}}"#,
        ),
        (
            "Anthropic",
            400,
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 3333404 tokens > 200000 maximum"},"request_id":"req_1"}"#,
        ),
        (
            "Anthropic, with the output",
            400,
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"input length and `max_tokens` exceed context limit: 188240 + 21333 > 200000, decrease input length or `max_tokens` and try again"}}"#,
        ),
        (
            "Claude at Vertex",
            413,
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"Prompt is too long"}}"#,
        ),
        (
            "Gemini",
            400,
            r#"{"error":{"code":400,"message":"The input token count (1594712) exceeds the maximum number of tokens allowed (1048576).","status":"INVALID_ARGUMENT"}}"#,
        ),
        (
            "Gemini, compatible endpoint",
            400,
            r#"[{"error":{"code":400,"message":"The input token count (1594712) exceeds the maximum number of tokens allowed (1048576).","status":"INVALID_ARGUMENT"}}]"#,
        ),
        (
            "Vertex",
            400,
            r#"{"error":{"code":400,"message":"Unable to submit request because the input token count is 1200000 but model only supports up to 1048576. Reduce the input token count and try again.","status":"INVALID_ARGUMENT"}}"#,
        ),
        (
            "Groq",
            400,
            r#"{"error":{"message":"Please reduce the length of the messages or completion.","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}"#,
        ),
        (
            "Cerebras",
            400,
            r#"{"message":"Please reduce the length of the messages or completion. Current length is 9120 while limit is 8192","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}"#,
        ),
        (
            "Mistral",
            400,
            r#"{"object":"error","message":"Prompt contains 40020 tokens and 0 draft tokens, too large for model with 32768 maximum context length","type":"invalid_request_error","param":null,"code":"3051"}"#,
        ),
        (
            "DeepSeek",
            400,
            r#"{"error":{"message":"This model's maximum context length is 65536 tokens. However, you requested 65762 tokens (57570 in the messages, 8192 in the completion). Please reduce the length of the messages or completion.","type":"invalid_request_error","param":null,"code":"invalid_request_error"}}"#,
        ),
        (
            "Together",
            422,
            r#"{"error":{"message":"The input (265330 tokens) is longer than the model's context length (262144 tokens).","type":"invalid_request_error","param":null,"code":null}}"#,
        ),
        (
            "Together of old",
            422,
            r#"{"error":{"message":"Input validation error: `inputs` tokens + `max_new_tokens` must be <= 32769. Given: 50000 `inputs` tokens and 512 `max_new_tokens`","type":"invalid_request_error","param":"max_tokens","code":null}}"#,
        ),
        (
            "Hugging Face",
            422,
            r#"{"error":"Input validation error: `inputs` must have less than 4095 tokens. Given: 5000","error_type":"validation"}"#,
        ),
        (
            "Fireworks",
            400,
            r#"{"error":{"object":"error","type":"invalid_request_error","code":"invalid_request_error","message":"The prompt is too long: 150000, model maximum context length: 131071"}}"#,
        ),
        (
            "vLLM",
            400,
            r#"{"object":"error","message":"This model's maximum context length is 4096 tokens. However, you requested 5000 tokens in the messages, Please reduce the length of the messages.","type":"BadRequestError","param":null,"code":400}"#,
        ),
        (
            "vLLM, with the output",
            400,
            r#"{"error":{"message":"'max_tokens' or 'max_completion_tokens' is too large: 2000. This model's maximum context length is 4096 tokens and your request has 2104 input tokens (2000 > 4096 - 2104).","type":"BadRequestError","param":null,"code":400}}"#,
        ),
        (
            "vLLM, prompt alone",
            400,
            r#"{"error":{"message":"The decoder prompt (length 5000) is longer than the maximum model length of 4096. Make sure that `max_model_len` is no smaller than the number of text tokens.","type":"BadRequestError","param":null,"code":400}}"#,
        ),
        (
            "vLLM, lately",
            400,
            r#"{"error":{"message":"You passed 5000 input tokens and requested 100 output tokens. However, the model's context length is only 4096 tokens, resulting in a maximum input length of 3996 tokens.","type":"BadRequestError","param":"input_tokens","code":400}}"#,
        ),
        (
            "SGLang",
            400,
            r#"{"object":"error","message":"Requested token count exceeds the model's maximum context length of 32768 tokens. You requested a total of 40000 tokens.","type":"BadRequestError","param":null,"code":400}"#,
        ),
        (
            "Ollama",
            400,
            r#"{"error":{"message":"prompt too long; exceeded max context length by 4096 tokens","type":"invalid_request_error","param":null,"code":null}}"#,
        ),
        (
            "Ollama, embeddings",
            400,
            r#"{"error":{"message":"the input length exceeds the context length","type":"invalid_request_error","param":null,"code":null}}"#,
        ),
        (
            "llama.cpp",
            400,
            r#"{"error":{"code":400,"message":"request (9000 tokens) exceeds the available context size (8192 tokens), try increasing it","type":"exceed_context_size_error","n_prompt_tokens":9000,"n_ctx":8192}}"#,
        ),
        (
            "LM Studio",
            400,
            r#"{"error":"The number of tokens to keep from the initial prompt is greater than the context length. Try to load the model with a larger context length, or provide a shorter input"}"#,
        ),
        (
            "LM Studio of old",
            400,
            r#"{"error":"Trying to keep the first 6269 tokens when context the overflows. However, the model is loaded with context length of only 4096 tokens, which is not enough."}"#,
        ),
        (
            "OpenRouter",
            400,
            r#"{"error":{"message":"This endpoint's maximum context length is 131072 tokens. However, you requested about 537812 tokens (537312 of text input, 500 in the output). Please reduce the length of either one.","code":400}}"#,
        ),
        (
            "OpenRouter, for Anthropic",
            400,
            r#"{"error":{"message":"Provider returned error","code":400,"metadata":{"raw":"{\"type\":\"error\",\"error\":{\"type\":\"invalid_request_error\",\"message\":\"prompt is too long: 209303 tokens > 200000 maximum\"}}","provider_name":"Anthropic"}}}"#,
        ),
        (
            "Cohere",
            400,
            r#"{"error_type":"TOO_MANY_TOKENS","id":"1","message":"too many tokens: size limit exceeded by 25836 tokens. Try using shorter or fewer inputs. The limit for this model is 288000 tokens."}"#,
        ),
        (
            "Voyage",
            400,
            r#"{"detail":"Request to model 'voyage-3' failed. The example at index 0 in your batch has too many tokens and does not fit into the model's context window of 32000 tokens."}"#,
        ),
        (
            "xAI",
            400,
            r#"{"code":"Client specified an invalid argument","error":"This model's maximum prompt length is 131072 but the request contains 537812 tokens."}"#,
        ),
        (
            "Bedrock",
            400,
            r#"{"message":"The model returned the following errors: Input Tokens Exceeded: Number of input tokens exceeds maximum length. Please update the input to try again."}"#,
        ),
        ("Claude at Bedrock", 400, r#"{"message":"Input is too long for requested model."}"#),
        (
            "Kimi",
            400,
            r#"{"error":{"message":"Invalid request: Your request exceeded model token limit: 131072 (requested: 200000)","type":"invalid_request_error"}}"#,
        ),
        (
            "Qwen",
            400,
            r#"{"error":{"code":"invalid_parameter_error","param":null,"message":"Range of input length should be [1, 129024]","type":"invalid_request_error"},"id":"1"}"#,
        ),
        (
            "MiniMax",
            400,
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"invalid params, context window exceeds limit (2013)"}}"#,
        ),
        (
            "Perplexity",
            400,
            r#"{"error":{"message":"The total length of all messages is too long.","type":"invalid_message","code":400}}"#,
        ),
    ];

    /// What vendors answer to content that they refuse, by vendor.
    const REFUSED: [(&str, u16, &str); 19] = [
        (
            "Azure",
            400,
            r#"{"error":{"message":"The response was filtered due to the prompt triggering Azure OpenAI's content management policy. Please modify your prompt and retry.","type":null,"param":"prompt","code":"content_filter","status":400,"innererror":{"code":"ResponsibleAIPolicyViolation","content_filter_result":{"hate":{"filtered":true,"severity":"high"}}}}}"#,
        ),
        (
            "Azure, by the inner code alone",
            400,
            r#"{"error":{"message":"m","type":null,"param":"prompt","code":null,"innererror":{"code":"ResponsibleAIPolicyViolation"}}}"#,
        ),
        (
            "Azure, images",
            400,
            r#"{"error":{"code":"contentFilter","message":"Your task failed as a result of our safety system.","inner_error":{"code":"ResponsibleAIPolicyViolation"}}}"#,
        ),
        (
            "OpenAI, images of old",
            400,
            r#"{"error":{"code":"content_policy_violation","message":"Your request was rejected as a result of our safety system. Your prompt may contain text that is not allowed by our safety system.","param":null,"type":"invalid_request_error"}}"#,
        ),
        (
            "OpenAI, images",
            400,
            r#"{"error":{"message":"Your request was rejected by the safety system.","type":"image_generation_user_error","param":null,"code":"moderation_blocked"}}"#,
        ),
        (
            "OpenAI, reasoning",
            400,
            r#"{"error":{"message":"Invalid prompt: your prompt was flagged as potentially violating our usage policy. Please try again with a different prompt: https://platform.openai.com/docs/guides/reasoning#advice-on-prompting","type":"invalid_request_error","param":null,"code":"invalid_prompt"}}"#,
        ),
        (
            "OpenAI, reasoning, lately",
            400,
            r#"{"error":{"message":"Invalid prompt: we've limited access to this content for safety reasons.","type":"invalid_request_error","param":null,"code":"invalid_prompt"}}"#,
        ),
        (
            "OpenAI, security",
            400,
            r#"{"error":{"message":"m","type":"invalid_request_error","param":null,"code":"cyber_policy"}}"#,
        ),
        (
            "Anthropic",
            400,
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"Output blocked by content filtering policy"},"request_id":"req_1"}"#,
        ),
        (
            "Imagen",
            400,
            r#"{"error":{"code":400,"message":"The prompt could not be submitted. This prompt contains sensitive words that violate Google's Responsible AI practices. Try rephrasing the prompt.","status":"INVALID_ARGUMENT"}}"#,
        ),
        (
            "DeepSeek",
            400,
            r#"{"error":{"message":"Content Exists Risk","type":"invalid_request_error","param":null,"code":"invalid_request_error"}}"#,
        ),
        ("DeepSeek of old", 400, r#"{"detail":"Content Exists Risk"}"#),
        (
            "Qwen",
            400,
            r#"{"error":{"code":"data_inspection_failed","param":null,"message":"Input data may contain inappropriate content.","type":"data_inspection_failed"},"id":"1"}"#,
        ),
        (
            "Kimi",
            400,
            r#"{"error":{"message":"The request was rejected because it was considered high risk","type":"content_filter"}}"#,
        ),
        (
            "Z.ai",
            400,
            r#"{"error":{"code":"1301","message":"System detected potentially unsafe or sensitive content in input or generation."},"contentFilter":[{"level":1,"role":"user"}]}"#,
        ),
        (
            "Volcengine",
            400,
            r#"{"error":{"code":"InputTextSensitiveContentDetected","message":"The request failed because the input text may contain sensitive information.","param":"","type":"BadRequest"}}"#,
        ),
        (
            "xAI",
            400,
            r#"{"code":"invalid-argument","error":"Content violates usage guidelines. Team: t, API key ID: k, Model: grok-3, Failed check: SAFETY_CHECK_TYPE_BIO"}"#,
        ),
        (
            "Bedrock",
            400,
            r#"{"message":"This request has been blocked by our content filters. Our filters automatically flagged this prompt because it may conflict with our AUP."}"#,
        ),
        (
            "OpenRouter, for Azure",
            400,
            r#"{"error":{"message":"Provider returned error","code":400,"metadata":{"raw":"{\"error\":{\"message\":\"The response was filtered due to the prompt triggering Azure OpenAI's content management policy.\"}}","provider_name":"Azure"}}}"#,
        ),
    ];

    /// Mistakes that no other model and no other vendor would forgive, or that say less than they seem to.
    const PLAIN: [(u16, &str); 17] = [
        (
            400,
            r#"{"error":{"message":"max_tokens is too large: 100000. This model supports at most 16384 completion tokens, whereas you provided 100000.","type":"invalid_request_error","param":"max_tokens","code":null}}"#,
        ),
        (
            400,
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"max_tokens: 100000 > 8192, which is the maximum allowed number of output tokens for claude-3-5-sonnet-20241022"}}"#,
        ),
        (
            400,
            r#"{"error":{"message":"`max_tokens` must be less than or equal to `8192`, the maximum value for `max_tokens` is less than the `context_window` for this model","type":"invalid_request_error"}}"#,
        ),
        (
            400,
            r#"{"error":{"message":"Invalid max_tokens value, the valid range of max_tokens is [1, 8192]","type":"invalid_request_error","param":null,"code":"invalid_request_error"}}"#,
        ),
        (
            400,
            r#"{"error":{"code":400,"message":"Unable to submit request because it has a maxOutputTokens value of 100000 but the supported range is from 1 (inclusive) to 65537 (exclusive).","status":"INVALID_ARGUMENT"}}"#,
        ),
        // A limit of OpenAI's fields, whatever the model.
        (
            400,
            r#"{"error":{"message":"Invalid 'user': string too long. Expected a string with maximum length 64, but got a string with length 70 instead.","type":"invalid_request_error","param":"user","code":"string_above_max_length"}}"#,
        ),
        (
            400,
            r#"{"error":{"message":"Invalid 'messages[1].content': string too long. Expected a string with maximum length 1048576, but got a string with length 1540820 instead.","type":"invalid_request_error","param":"messages[1].content","code":"string_above_max_length"}}"#,
        ),
        // Bytes, not tokens.
        (
            413,
            r#"{"type":"error","error":{"type":"request_too_large","message":"Request exceeds the maximum size"}}"#,
        ),
        (
            400,
            r#"{"error":{"code":400,"message":"Request payload size exceeds the limit: 20971520 bytes.","status":"INVALID_ARGUMENT"}}"#,
        ),
        (413, "\"<html>Request Entity Too Large</html>\""),
        // A batch, not a text.
        (
            400,
            r#"{"error":{"message":"Invalid 'input': maximum request size is 300000 tokens per request.","type":"invalid_request_error","param":null,"code":null}}"#,
        ),
        // Groq's rate of tokens.
        (
            413,
            r#"{"error":{"message":"Request too large for model `llama-3.1-8b-instant` in organization `o` service tier `on_demand` on tokens per minute (TPM): Limit 6000, Requested 7164, please reduce your message size and try again.","type":"tokens","code":"rate_limit_exceeded"}}"#,
        ),
        (
            400,
            r#"{"error":{"message":"Too many tokens per minute, please wait before trying again","type":"tokens","code":null}}"#,
        ),
        (
            400,
            r#"{"error":{"message":"Invalid token in prompt: 123456. Minimum value is 0, maximum value is 100257 (inclusive).","type":"invalid_request_error","param":null,"code":null}}"#,
        ),
        // A validator that quotes the client.
        (
            422,
            r#"{"detail":[{"loc":["body","messages"],"msg":"value is not a valid list","input":"prompt is too long; flagged as potentially violating"}]}"#,
        ),
        (
            400,
            r#"{"error":{"message":"Invalid prompt: empty","type":"invalid_request_error","param":null,"code":"invalid_prompt"}}"#,
        ),
        (404, r#"{"error":{"message":"no","code":"content_filter"}}"#),
    ];

    #[test]
    fn a_request_that_is_too_long_may_suit_a_larger_model() {
        for (vendor, status, body) in TOO_LONG {
            assert_eq!(class(status, body), ContextWindow, "{vendor}");
        }
    }

    #[test]
    fn content_that_is_refused_may_suit_another_vendor() {
        for (vendor, status, body) in REFUSED {
            assert_eq!(class(status, body), ContentPolicy, "{vendor}");
        }
    }

    #[test]
    fn other_mistakes_stay_the_clients() {
        for (status, body) in PLAIN {
            assert_eq!(class(status, body), Request, "{body}");
        }
    }

    #[test]
    fn other_statuses_keep_their_class() {
        let flagged = r#"{"error":{"message":"Your chosen model requires moderation and your input was flagged","code":"content_filter"}}"#;
        assert_eq!(class(403, flagged), Forbidden);
        let rate = r#"{"error":{"message":"Too many tokens, please wait before trying again","code":null}}"#;
        assert_eq!(class(429, rate), RateLimited);
    }

    #[test]
    fn a_text_is_read_to_a_limit() {
        let body = |space: usize| {
            format!(r#"{{"error":{{"message":"{}prompt is too long"}}}}"#, "é".repeat(space))
        };
        assert_eq!(class(400, &body(40)), ContextWindow);
        assert_eq!(class(400, &body(255)), Request);
        assert_eq!(class(400, &body(300)), Request);
    }

    #[test]
    fn errors_in_streams_are_told_alike() {
        for (error, expected) in [
            (
                serde_json::json!({"error": {"message": "m", "code": "context_length_exceeded"}}),
                ContextWindow,
            ),
            (
                serde_json::json!({"type": "error", "error": {"type": "invalid_request_error", "message": "Output blocked by content filtering policy"}}),
                ContentPolicy,
            ),
            (
                serde_json::json!({"code": "moderation_blocked", "message": "m", "type": "image_generation_user_error"}),
                ContentPolicy,
            ),
            (
                serde_json::json!({"error": {"message": "the request exceeds the available context size", "code": 400}}),
                ContextWindow,
            ),
            // Neither a number nor a known word.
            (
                serde_json::json!({"error": {"message": "This model's maximum context length is 4096 tokens."}}),
                ContextWindow,
            ),
            (
                serde_json::json!({"error": {"message": "m", "type": "invalid_request_error"}}),
                Request,
            ),
        ] {
            let rejection = Rejection::from_stream(&error);
            assert_eq!((rejection.status, rejection.class), (400, expected), "{error}");
        }
    }
}
