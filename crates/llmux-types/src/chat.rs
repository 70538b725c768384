//! The canonical chat: what client dialects are read into, and what vendors' dialects are written from.
//!
//! Hub and spoke: each dialect has one codec to and from these types, and no dialect knows another. The vocabulary is
//! OpenAI's where it has a word. Unknown values of vendors' enums are kept as text rather than refused.

use serde_json::{Map, Value};

use crate::Usage;

/// A request for a chat completion.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ChatRequest {
    /// The conversation, system messages included, in order.
    pub messages: Vec<Message>,
    /// The functions that the model may call.
    pub tools: Vec<Tool>,
    /// Which of them it may or must call; `None`: the vendor's default.
    pub tool_choice: Option<ToolChoice>,
    /// Whether several calls may come in one answer; `None`: the vendor's default.
    pub parallel_tool_calls: Option<bool>,
    /// What the answer's text must look like.
    pub response_format: ResponseFormat,
    /// The most tokens of the answer, reasoning included (`max_completion_tokens`, `max_tokens`).
    pub max_tokens: Option<u64>,
    /// 0 to 2.
    pub temperature: Option<f64>,
    /// 0 to 1.
    pub top_p: Option<f64>,
    /// An extension of OpenAI's dialect.
    pub top_k: Option<u64>,
    /// Texts that end the answer.
    pub stop: Vec<String>,
    /// Answers wanted.
    pub n: Option<u64>,
    /// For answers that can be had again.
    pub seed: Option<i64>,
    /// -2 to 2.
    pub presence_penalty: Option<f64>,
    /// -2 to 2.
    pub frequency_penalty: Option<f64>,
    /// Log probabilities wanted, with this many alternatives for each token.
    pub logprobs: Option<u64>,
    /// `none`, `minimal`, `low`, `medium`, `high`, `xhigh`, `max`.
    pub reasoning_effort: Option<String>,
    /// Anthropic's `thinking` object, an extension of OpenAI's dialect that many clients send.
    pub thinking: Option<Value>,
    /// The end user (`user`, `safety_identifier`).
    pub user: Option<String>,
    /// `auto`, `default`, `flex`, `priority`.
    pub service_tier: Option<String>,
    /// The options of web search, if it is wanted.
    pub web_search: Option<Value>,
    /// Kinds of output wanted: `text`, `audio`, `image`; empty: the vendor's default.
    pub modalities: Vec<String>,
    /// Anthropic's top-level mark for its cache, an extension.
    pub cache_control: Option<Value>,
    /// Whether the answer is to be streamed.
    pub stream: bool,
    /// All fields of the client's request that have no member above, by name. What a vendor cannot honour of them, it
    /// must refuse or, if told so, drop; see [`ChatRequest::harmless`].
    pub others: Map<String, Value>,
}

impl ChatRequest {
    /// Tells whether a field of [`ChatRequest::others`] can be left out without changing the answer: hints for caches,
    /// storage and speed.
    pub fn harmless(name: &str) -> bool {
        matches!(
            name,
            "store"
                | "metadata"
                | "prompt_cache_key"
                | "prompt_cache_options"
                | "prompt_cache_retention"
                | "prediction"
                | "stream_options"
        )
    }
}

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// Instructions (`system`, `developer`).
    System {
        /// Text parts.
        content: Vec<Part>,
    },
    /// What the user says.
    User {
        /// Text, images, files, audio.
        content: Vec<Part>,
    },
    /// What the model said.
    Assistant(AssistantMessage),
    /// The result of a call.
    Tool {
        /// The id of the call.
        call_id: String,
        /// Text, or images where the vendor takes them.
        content: Vec<Part>,
    },
}

/// What the model says: in a conversation, and as an answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AssistantMessage {
    /// Reasoning, in order; before the rest of the message.
    pub reasoning: Vec<Reasoning>,
    /// Text (and images made by the model).
    pub content: Vec<Part>,
    /// Calls, in order.
    pub tool_calls: Vec<ToolCall>,
    /// Why the model will not answer, in its words.
    pub refusal: Option<String>,
    /// Sources, as OpenAI's `annotations`.
    pub annotations: Vec<Value>,
    /// A signature of Gemini's that belongs to the text rather than to a call.
    pub signature: Option<String>,
}

/// A piece of a message.
#[derive(Clone, Debug, PartialEq)]
pub enum Part {
    /// Text.
    Text {
        /// The text; may be empty.
        text: String,
        /// Anthropic's `cache_control`, an extension.
        cache_control: Option<Value>,
    },
    /// An image.
    Image {
        /// Where its bytes are.
        source: Source,
        /// `low`, `high`, `auto`.
        detail: Option<String>,
        /// Anthropic's `cache_control`, an extension.
        cache_control: Option<Value>,
    },
    /// A file: PDF, text.
    File {
        /// Where its bytes are.
        source: Source,
        /// Its name.
        filename: Option<String>,
        /// Anthropic's `cache_control`, an extension.
        cache_control: Option<Value>,
    },
    /// Speech for the model.
    Audio {
        /// Base64.
        data: String,
        /// `wav`, `mp3`.
        format: String,
    },
}

impl Part {
    /// Makes a plain text part.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text { text: text.into(), cache_control: None }
    }
}

/// Where the bytes of an image or a file are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// At an http or https URL.
    Url(String),
    /// Here.
    Data {
        /// Such as `image/png`.
        media_type: String,
        /// Base64.
        data: String,
    },
    /// With the vendor, uploaded before.
    FileId(String),
}

/// A block of reasoning. Vendors that sign it want it back unchanged in the next turn, even when it is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reasoning {
    /// What the model thought; may be empty or withheld.
    pub text: String,
    /// The vendor's signature of this very block.
    pub signature: Option<String>,
    /// Anthropic's encrypted block (`redacted_thinking.data`) instead of a text.
    pub redacted: Option<String>,
}

/// A call that the model makes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ToolCall {
    /// Unique in the conversation; made up where the vendor gives none.
    pub id: String,
    /// The function's name.
    pub name: String,
    /// JSON text, as the model wrote it; `{}` for none.
    pub arguments: String,
    /// Gemini's `thoughtSignature` of the part that held the call.
    pub signature: Option<String>,
}

/// A function that the model may call.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// What it does.
    pub description: Option<String>,
    /// The JSON schema of its arguments.
    pub parameters: Option<Value>,
    /// Whether arguments must fit the schema exactly.
    pub strict: Option<bool>,
    /// Anthropic's `cache_control`, an extension.
    pub cache_control: Option<Value>,
}

/// Which functions the model may or must call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToolChoice {
    /// None.
    None,
    /// The model decides.
    Auto,
    /// At least one.
    Required,
    /// This one.
    Function(String),
    /// Among these (`allowed_tools`); at least one of them if `required`.
    Allowed {
        /// Their names.
        names: Vec<String>,
        /// Whether one must be called.
        required: bool,
    },
}

/// What the answer's text must look like.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum ResponseFormat {
    /// Anything.
    #[default]
    Text,
    /// A JSON object.
    JsonObject,
    /// JSON that fits a schema.
    JsonSchema {
        /// The schema's name.
        name: String,
        /// The schema.
        schema: Value,
        /// Whether it must fit exactly.
        strict: Option<bool>,
    },
}

/// Why an answer ended, in OpenAI's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// The model was done, or a stop text came.
    Stop,
    /// The most tokens were reached.
    Length,
    /// The model waits for results of its calls.
    ToolCalls,
    /// The vendor's content filter, or a refusal.
    ContentFilter,
}

impl FinishReason {
    /// Returns OpenAI's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::ToolCalls => "tool_calls",
            Self::ContentFilter => "content_filter",
        }
    }
}

/// A whole answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ChatResponse {
    /// The vendor's id of the answer; empty where it gives none.
    pub id: String,
    /// One for each answer that was asked for.
    pub choices: Vec<Choice>,
    /// The tokens.
    pub usage: Option<Usage>,
    /// The tier that was used, where the vendor tells.
    pub service_tier: Option<String>,
}

/// One of the answers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Choice {
    /// Its number.
    pub index: u64,
    /// What the model said.
    pub message: AssistantMessage,
    /// Why it ended; `None` where the vendor's reason has no counterpart.
    pub finish_reason: Option<FinishReason>,
    /// OpenAI's `logprobs` object.
    pub logprobs: Option<Value>,
}

/// A piece of a streamed answer. Text and arguments come in fragments; everything else comes once.
#[derive(Clone, Debug, PartialEq)]
pub enum ChatEvent {
    /// The answer begins.
    Start {
        /// The vendor's id of it; empty where it gives none.
        id: String,
    },
    /// Text.
    Text {
        /// The number of the answer.
        choice: u64,
        /// The next fragment.
        text: String,
    },
    /// Text of the current block of reasoning.
    Reasoning {
        /// The number of the answer.
        choice: u64,
        /// The next fragment.
        text: String,
    },
    /// A block of reasoning is complete: its signature, or its encrypted content. The block's text, if it had one, came
    /// before as [`ChatEvent::Reasoning`] and is repeated here, so that a client can send the block back.
    ReasoningEnd {
        /// The number of the answer.
        choice: u64,
        /// The whole block.
        block: Reasoning,
    },
    /// A refusal.
    Refusal {
        /// The number of the answer.
        choice: u64,
        /// The next fragment.
        text: String,
    },
    /// A call begins.
    ToolCall {
        /// The number of the answer.
        choice: u64,
        /// The number of the call in the answer, from 0: calls are counted, not blocks.
        index: u64,
        /// The call with its id, name and signature; its arguments are what is known of them.
        call: ToolCall,
    },
    /// Arguments of a call.
    Arguments {
        /// The number of the answer.
        choice: u64,
        /// The number of the call.
        index: u64,
        /// The next fragment of JSON text.
        text: String,
    },
    /// An image that the model made.
    Image {
        /// The number of the answer.
        choice: u64,
        /// The image.
        source: Source,
    },
    /// Sources, as OpenAI's `annotations`.
    Annotations {
        /// The number of the answer.
        choice: u64,
        /// The sources.
        annotations: Vec<Value>,
    },
    /// A signature of Gemini's that belongs to the text.
    Signature {
        /// The number of the answer.
        choice: u64,
        /// The signature.
        signature: String,
    },
    /// Log probabilities: a part of OpenAI's `logprobs` object.
    Logprobs {
        /// The number of the answer.
        choice: u64,
        /// The part.
        logprobs: Value,
    },
    /// An answer ends. Comes once for each answer, after all of its pieces.
    Finish {
        /// The number of the answer.
        choice: u64,
        /// Why; `None` where the vendor's reason has no counterpart.
        reason: Option<FinishReason>,
    },
    /// The tokens of the whole call. The last one counts.
    Usage(Usage),
}
