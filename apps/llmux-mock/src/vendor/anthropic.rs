//! Anthropic's Messages.

use bytes::Bytes;

use super::content::Content;
use super::{EVENT_STREAM, Prepared, quote};
use crate::reply::Finish;

/// `POST v1/messages`.
pub(super) fn messages(model: &str, stream: bool, content: &Content) -> Prepared {
    let model = quote(model);
    let stop = match content.finish {
        Finish::Stop if !content.tools.is_empty() => "\"tool_use\"",
        Finish::Stop => "\"end_turn\"",
        Finish::Length => "\"max_tokens\"",
        Finish::ContentFilter => "\"refusal\"",
    };
    if !stream {
        let mut blocks = Vec::new();
        if !content.reasoning.is_empty() {
            let thinking = quote(&content.whole_reasoning());
            blocks.push(format!(
                r#"{{"type":"thinking","thinking":{thinking},"signature":"bW9jay1zaWduYXR1cmU="}}"#
            ));
        }
        if !content.text.is_empty() {
            blocks.push(format!(r#"{{"type":"text","text":{}}}"#, quote(&content.whole_text())));
        }
        blocks.extend(content.tools.iter().enumerate().map(|(number, tool)| {
            let (name, input) = (quote(&tool.name), tool.whole_arguments());
            let input = if input.is_empty() { "{}" } else { &input };
            format!(
                r#"{{"type":"tool_use","id":"toolu_mock_{number}","name":{name},"input":{input}}}"#
            )
        }));
        return Prepared::json(format!(
            r#"{{"id":"msg_mock","type":"message","role":"assistant","model":{model},"content":[{}],"stop_reason":{stop},"stop_sequence":null,"usage":{}}}"#,
            blocks.join(","),
            usage(content, content.completion_tokens())
        ));
    }
    let mut events = Events::default();
    events.push(
        "message_start",
        &format!(
            r#""message":{{"id":"msg_mock","type":"message","role":"assistant","model":{model},"content":[],"stop_reason":null,"stop_sequence":null,"usage":{}}}"#,
            usage(content, 1)
        ),
    );
    if !content.reasoning.is_empty() {
        events.start(r#"{"type":"thinking","thinking":"","signature":""}"#);
        for piece in &content.reasoning {
            events.delta(&format!(r#"{{"type":"thinking_delta","thinking":{}}}"#, quote(piece)));
        }
        events.delta(r#"{"type":"signature_delta","signature":"bW9jay1zaWduYXR1cmU="}"#);
        events.stop();
    }
    if !content.text.is_empty() {
        events.start(r#"{"type":"text","text":""}"#);
        for piece in &content.text {
            events.delta(&format!(r#"{{"type":"text_delta","text":{}}}"#, quote(piece)));
        }
        events.stop();
    }
    for (number, tool) in content.tools.iter().enumerate() {
        let name = quote(&tool.name);
        events.start(&format!(
            r#"{{"type":"tool_use","id":"toolu_mock_{number}","name":{name},"input":{{}}}}"#
        ));
        events.delta(r#"{"type":"input_json_delta","partial_json":""}"#);
        for piece in &tool.arguments {
            events.delta(&format!(
                r#"{{"type":"input_json_delta","partial_json":{}}}"#,
                quote(piece)
            ));
        }
        events.stop();
    }
    events.ping();
    let usage = usage(content, content.completion_tokens());
    events.push(
        "message_delta",
        &format!(r#""delta":{{"stop_reason":{stop},"stop_sequence":null}},"usage":{usage}"#),
    );
    events.push("message_stop", "");
    Prepared::stream(EVENT_STREAM, events.list)
}

/// The events of one stream, numbering blocks.
#[derive(Default)]
struct Events {
    list: Vec<Bytes>,
    block: usize,
    pinged: bool,
}

impl Events {
    fn push(&mut self, name: &str, fields: &str) {
        let comma = if fields.is_empty() { "" } else { "," };
        self.list.push(
            format!("event: {name}\ndata: {{\"type\":\"{name}\"{comma}{fields}}}\n\n").into(),
        );
    }

    fn start(&mut self, block: &str) {
        let index = self.block;
        self.push("content_block_start", &format!(r#""index":{index},"content_block":{block}"#));
        self.ping();
    }

    fn delta(&mut self, delta: &str) {
        let index = self.block;
        self.push("content_block_delta", &format!(r#""index":{index},"delta":{delta}"#));
    }

    fn stop(&mut self) {
        let index = self.block;
        self.push("content_block_stop", &format!(r#""index":{index}"#));
        self.block += 1;
    }

    /// One ping a stream, behind the first block's start as the vendor has it.
    fn ping(&mut self) {
        if !self.pinged {
            self.pinged = true;
            self.push("ping", "");
        }
    }
}

/// Anthropic's `input_tokens` leave cached ones out.
fn usage(content: &Content, output_tokens: u64) -> String {
    format!(
        r#"{{"input_tokens":{},"cache_creation_input_tokens":0,"cache_read_input_tokens":{},"output_tokens":{output_tokens},"service_tier":"standard"}}"#,
        content.prompt_tokens - content.cached_tokens,
        content.cached_tokens
    )
}
