//! The data plane. Its bodies are the vendors' dialects: what LLMux itself reads is described, all else passes.

use llmux_providers::Endpoint;
use serde_json::{Map, Value, json};

use super::schema::{Op, T, Table, described, object, properties, reference};

const INFERENCE: &str = "Inference";

/// Where the dialects are described.
const OPENAI: &str = "https://platform.openai.com/docs/api-reference/";
const ANTHROPIC: &str = "https://docs.anthropic.com/en/api/";

const MODEL: &Table = &[(
    "model",
    T::Ref("ModelName"),
    "A configured name or `<provider>/<model>`. May be missing below `/openai/deployments/{model}`.",
)];
const ROUTING: &Table = &[
    ("tags", T::Opt(&T::Ref("Tags")), "Tags that deployments are chosen by. Not passed on."),
    ("user", T::Any, "The end user, as usage records name it."),
    (
        "metadata",
        T::Any,
        "`metadata.tags`, if it is a list, is the same as `tags` and not passed on. `metadata.user_id` names Anthropic's end user.",
    ),
];
const CACHE: &Table = &[(
    "cache",
    T::Opt(&T::Ref("CacheControls")),
    "What the request wants of the response cache. Not passed on.",
)];
const STREAM: &Table =
    &[("stream", T::Opt(&T::Flag), "Whether the answer is wanted as server-sent events.")];
const STREAM_OPTIONS: &Table =
    &[("stream_options", T::Any, "`include_usage: true`: the stream tells the usage at its end.")];
const CHOICES: &Table =
    &[("n", T::Any, "How many answers are wanted; counts for limits and budgets.")];
const MAX_TOKENS: &Table =
    &[("max_tokens", T::Any, "The most tokens of the answer; counts for limits and budgets.")];

/// A request of a dialect: the fields that LLMux reads.
fn request(dialect: &str, required: &[&str], tables: &[&Table]) -> Value {
    let fields: Map<String, Value> = tables.iter().flat_map(|table| properties(table)).collect();
    json!({
        "type": "object", "required": required, "properties": fields, "additionalProperties": true,
        "externalDocs": {"url": dialect, "description": "All other fields."},
    })
}

/// An answer of a dialect.
fn answer(dialect: &str, table: &Table) -> Value {
    let mut schema = json!({
        "type": "object", "additionalProperties": true,
        "externalDocs": {"url": dialect, "description": "The fields of the answer."},
    });
    if !table.is_empty() {
        schema["properties"] = properties(table).into();
    }
    schema
}

const MESSAGES: &Table = &[("messages", T::List(&T::Object), "The conversation.")];
const TEXTS: &Table = &[("input", T::Any, "A text, or a list of them.")];
const PROMPT: &Table = &[("prompt", T::Any, "A text, or a list of them.")];

/// What an endpoint takes and answers.
struct Dialect {
    summary: &'static str,
    docs: String,
    required: &'static [&'static str],
    fields: Vec<&'static Table>,
    answer: &'static Table,
    streams: bool,
}

fn dialect(endpoint: Endpoint) -> Dialect {
    let openai = |path: &str| format!("{OPENAI}{path}");
    const USAGE: &Table = &[
        ("model", T::Text, "The model as the request named it."),
        ("usage", T::Any, "The tokens that were used."),
    ];
    const MODEL_ONLY: &Table = &[("model", T::Text, "The model as the request named it.")];
    const NONE: &Table = &[];
    match endpoint {
        Endpoint::ChatCompletions => Dialect {
            summary: "Chat",
            docs: openai("chat/create"),
            required: &["model", "messages"],
            fields: vec![
                MESSAGES,
                CHOICES,
                STREAM,
                STREAM_OPTIONS,
                MAX_TOKENS,
                ROUTING,
                CACHE,
                &[("max_completion_tokens", T::Any, "The same as `max_tokens`.")],
            ],
            answer: USAGE,
            streams: true,
        },
        Endpoint::Completions => Dialect {
            summary: "Complete a text",
            docs: openai("completions/create"),
            required: &["model", "prompt"],
            fields: vec![PROMPT, CHOICES, STREAM, STREAM_OPTIONS, MAX_TOKENS, ROUTING, CACHE],
            answer: USAGE,
            streams: true,
        },
        Endpoint::Embeddings => Dialect {
            summary: "Embed texts",
            docs: openai("embeddings/create"),
            required: &["model", "input"],
            fields: vec![TEXTS, ROUTING, CACHE],
            answer: USAGE,
            streams: false,
        },
        Endpoint::Responses => Dialect {
            summary: "Respond",
            docs: openai("responses/create"),
            required: &["model"],
            fields: vec![
                TEXTS,
                STREAM,
                ROUTING,
                CACHE,
                &[(
                    "max_output_tokens",
                    T::Any,
                    "The most tokens of the answer; counts for limits and budgets.",
                )],
            ],
            answer: USAGE,
            streams: true,
        },
        Endpoint::Moderations => Dialect {
            summary: "Moderate texts",
            docs: openai("moderations/create"),
            required: &["model", "input"],
            fields: vec![TEXTS, ROUTING, CACHE],
            answer: MODEL_ONLY,
            streams: false,
        },
        Endpoint::ImagesGenerations => Dialect {
            summary: "Make images",
            docs: openai("images/create"),
            required: &["model", "prompt"],
            fields: vec![PROMPT, CHOICES, STREAM, ROUTING, CACHE],
            answer: NONE,
            streams: true,
        },
        Endpoint::AudioSpeech => Dialect {
            summary: "Speak a text",
            docs: openai("audio/createSpeech"),
            required: &["model", "input"],
            fields: vec![
                &[("input", T::Text, "The text; its letters count for prices by the letter.")],
                ROUTING,
                CACHE,
            ],
            answer: NONE,
            streams: true,
        },
        Endpoint::AudioTranscriptions => Dialect {
            summary: "Write down what is spoken",
            docs: openai("audio/createTranscription"),
            required: &["model", "file"],
            fields: vec![STREAM],
            answer: NONE,
            streams: true,
        },
        Endpoint::AudioTranslations => Dialect {
            summary: "Write down in English what is spoken",
            docs: openai("audio/createTranslation"),
            required: &["model", "file"],
            fields: vec![],
            answer: NONE,
            streams: false,
        },
        Endpoint::Messages => Dialect {
            summary: "Chat, in Anthropic's dialect",
            docs: format!("{ANTHROPIC}messages"),
            required: &["model", "messages", "max_tokens"],
            fields: vec![MESSAGES, STREAM, MAX_TOKENS, ROUTING, CACHE],
            answer: USAGE,
            streams: true,
        },
        Endpoint::CountTokens => Dialect {
            summary: "Count tokens, in Anthropic's dialect",
            docs: format!("{ANTHROPIC}messages-count-tokens"),
            required: &["model", "messages"],
            fields: vec![MESSAGES, ROUTING, CACHE],
            answer: &[("input_tokens", T::Count, "The tokens of the request.")],
            streams: false,
        },
    }
}

/// Headers of requests to the data plane.
const ASKED: [&str; 7] = [
    "x-llmux-tags",
    "x-litellm-tags",
    "x-llmux-timeout",
    "x-llmux-cache",
    "x-request-id",
    "traceparent",
    "tracestate",
];

/// Headers of answers of the data plane.
const TOLD: [&str; 13] = [
    "x-llmux-deployment",
    "x-llmux-provider",
    "x-llmux-attempts",
    "x-llmux-cache",
    "x-llmux-overhead-ms",
    "x-llmux-response-cost",
    "x-llmux-soft-budget",
    "x-ratelimit-limit-requests",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-reset-requests",
    "x-ratelimit-limit-tokens",
    "x-ratelimit-remaining-tokens",
    "x-ratelimit-reset-tokens",
];

/// Tells whether an endpoint speaks Anthropic's dialect.
pub(super) const fn is_anthropic(endpoint: Endpoint) -> bool {
    matches!(endpoint, Endpoint::Messages | Endpoint::CountTokens)
}

/// Describes a call.
pub(super) fn operation(endpoint: Endpoint) -> Op {
    let Dialect { summary, docs, required, mut fields, answer: table, streams } = dialect(endpoint);
    fields.insert(0, MODEL);
    let mut body = request(&docs, required, &fields);
    let mut content = Map::new();
    let text = json!({"schema": {"type": "string"}});
    match endpoint {
        Endpoint::AudioSpeech => {
            content.insert("audio/*".to_owned(), json!({"schema": {}}));
        }
        Endpoint::AudioTranscriptions | Endpoint::AudioTranslations => {
            body["properties"]["file"] = json!({"description": "The recording."});
            content.insert("application/json".to_owned(), json!({"schema": answer(&docs, table)}));
            content.insert("text/plain".to_owned(), text);
        }
        _ => {
            content.insert("application/json".to_owned(), json!({"schema": answer(&docs, table)}));
        }
    }
    if streams {
        let about = "With `stream: true`: server-sent events, each with a JSON object of the dialect in `data`. \
            Comments keep silent connections open. Chat and completions end with `data: [DONE]`; a failure after the \
            first output is an event with `error`, and then there is no `[DONE]`.";
        let events = json!({"schema": described(json!({"type": "string"}), about)});
        content.insert("text/event-stream".to_owned(), events);
    }
    let kind = if endpoint.is_multipart() { "multipart/form-data" } else { "application/json" };
    let (dialect_headers, error): (&[&str], _) = if is_anthropic(endpoint) {
        (&["anthropic-version", "anthropic-beta"], "AnthropicError")
    } else {
        (&["openai-beta"], "Error")
    };
    let from_provider = json!({
        "description": "The provider refuses the request: its status and its error object.",
        "headers": {"x-request-id": {"$ref": "#/components/headers/x-request-id"}},
        "content": {"application/json": {"schema": reference(error)}},
    });
    Op::new(INFERENCE, summary)
        .about("The provider's own headers come back as `llm_provider-*`.")
        .headers(&ASKED)
        .headers(dialect_headers)
        .body(kind, &body, true)
        .content("The provider's answer, in the dialect of the route.", content.into())
        .sends(&TOLD)
        .fails(&[400, 401, 402, 403, 404, 408, 413, 415, 429, 500, 502, 503, 504])
        .other("4XX", from_provider)
}

pub(super) fn models() -> Op {
    Op::new("Models", "List the models")
        .about("The configured models that the caller may use, sorted.")
        .ok("The models.", &reference("ModelList"))
        .fails(&[401, 403, 500, 503])
}

pub(super) fn model() -> Op {
    Op::new("Models", "Look at a model")
        .about("Also one that only a wildcard or `<provider>/<model>` matches. Slashes may be written as they are.")
        .parameter(json!({
            "name": "id", "in": "path", "required": true, "description": "The model's name.",
            "schema": {"type": "string", "minLength": 1},
        }))
        .ok("The model.", &reference("Model"))
        .fails(&[401, 403, 404, 500, 503])
}

/// The schemas of the data plane, by name.
pub(super) fn schemas() -> Map<String, Value> {
    let mut schemas = Map::new();
    let mut add = |name: &str, schema: Value| schemas.insert(name.to_owned(), schema);
    let model: &Table = &[
        ("id", T::Text, "What `model` in requests is."),
        ("object", T::Choice(&["model"]), ""),
        ("created", T::Count, "When the gateway started, in Unix seconds."),
        ("owned_by", T::Text, "The provider's name."),
    ];
    add("Model", object("A model.", &[model]));
    let list: &Table =
        &[("object", T::Choice(&["list"]), ""), ("data", T::List(&T::Ref("Model")), "The models.")];
    add("ModelList", object("Models.", &[list]));
    let name = json!({"type": "string", "minLength": 1, "maxLength": 256});
    add("ModelName", described(name, "At most 256 bytes, without control characters."));
    let tags = json!({
        "type": "array", "items": {"type": "string", "maxLength": 256}, "maxItems": 64,
    });
    add("Tags", tags);
    let controls: &Table = &[
        ("no-cache", T::Flag, "Do not answer from the cache; the new answer is kept."),
        ("no-store", T::Flag, "Do not keep the answer; a kept one may answer."),
        ("ttl", T::Count, "Keep the answer for at most so many seconds."),
    ];
    add("CacheControls", json!({"type": "object", "properties": properties(controls)}));
    schemas
}
