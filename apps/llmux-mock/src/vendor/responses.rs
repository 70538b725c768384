//! OpenAI's Responses.

use bytes::Bytes;

use super::content::Content;
use super::{EVENT_STREAM, Prepared, quote};
use crate::reply::Finish;

/// `POST responses`.
pub(super) fn answer(model: &str, created: u64, stream: bool, content: &Content) -> Prepared {
    let model = quote(model);
    let response = |status: &str, output: &str, usage: &str| {
        let completed_at =
            if status == "completed" { created.to_string() } else { "null".to_owned() };
        let details = match content.finish {
            _ if status != "incomplete" => "null",
            Finish::ContentFilter => r#"{"reason":"content_filter"}"#,
            Finish::Length | Finish::Stop => r#"{"reason":"max_output_tokens"}"#,
        };
        format!(
            r#"{{"id":"resp_mock","object":"response","created_at":{created},"status":"{status}","background":false,"completed_at":{completed_at},"error":null,"incomplete_details":{details},"instructions":null,"max_output_tokens":null,"model":{model},"output":[{output}],"parallel_tool_calls":true,"previous_response_id":null,"reasoning":{{"effort":null,"summary":null}},"service_tier":"default","store":false,"temperature":1.0,"text":{{"format":{{"type":"text"}},"verbosity":"medium"}},"tool_choice":"auto","tools":[],"top_logprobs":0,"top_p":1.0,"truncation":"disabled","usage":{usage},"user":null,"metadata":{{}}}}"#
        )
    };
    let status = if content.finish == Finish::Stop { "completed" } else { "incomplete" };
    let items = Item::all(content, status);
    let output: Vec<&str> = items.iter().map(|item| item.done.as_str()).collect();
    let last = response(status, &output.join(","), &usage(content));
    if !stream {
        return Prepared::json(last);
    }
    let mut events = Events::default();
    let begun = response("in_progress", "", "null");
    events.push("response.created", &format!(r#""response":{begun}"#));
    events.push("response.in_progress", &format!(r#""response":{begun}"#));
    for (index, item) in items.iter().enumerate() {
        let at = format!(r#""output_index":{index},"item":"#);
        events.push("response.output_item.added", &format!("{at}{}", item.added));
        for (name, fields) in &item.events {
            events
                .push(name, &format!(r#""item_id":"{}","output_index":{index},{fields}"#, item.id));
        }
        events.push("response.output_item.done", &format!("{at}{}", item.done));
    }
    events.push(&format!("response.{status}"), &format!(r#""response":{last}"#));
    Prepared::stream(EVENT_STREAM, events.0)
}

#[derive(Default)]
struct Events(Vec<Bytes>);

impl Events {
    fn push(&mut self, name: &str, fields: &str) {
        let number = self.0.len();
        let event = format!(
            "event: {name}\ndata: {{\"type\":\"{name}\",\"sequence_number\":{number},{fields}}}\n\n"
        );
        self.0.push(event.into());
    }
}

/// One item of the output: as first shown, what happens in it, and as it ends.
struct Item {
    id: String,
    added: String,
    events: Vec<(&'static str, String)>,
    done: String,
}

impl Item {
    fn all(content: &Content, status: &str) -> Vec<Self> {
        let mut items = Vec::new();
        if !content.reasoning.is_empty() {
            items.push(Self::reasoning(content));
        }
        if !content.text.is_empty() {
            items.push(Self::message(content, status));
        }
        items.extend((0..content.tools.len()).map(|number| Self::call(content, number)));
        items
    }

    fn reasoning(content: &Content) -> Self {
        let whole = quote(&content.whole_reasoning());
        let part = format!(r#"{{"type":"summary_text","text":{whole}}}"#);
        let mut events = vec![(
            "response.reasoning_summary_part.added",
            r#""summary_index":0,"part":{"type":"summary_text","text":""}"#.to_owned(),
        )];
        events.extend(content.reasoning.iter().map(|piece| {
            (
                "response.reasoning_summary_text.delta",
                format!(r#""summary_index":0,"delta":{}"#, quote(piece)),
            )
        }));
        events.push((
            "response.reasoning_summary_text.done",
            format!(r#""summary_index":0,"text":{whole}"#),
        ));
        events.push((
            "response.reasoning_summary_part.done",
            format!(r#""summary_index":0,"part":{part}"#),
        ));
        Self {
            id: "rs_mock".to_owned(),
            added: r#"{"id":"rs_mock","type":"reasoning","summary":[]}"#.to_owned(),
            events,
            done: format!(r#"{{"id":"rs_mock","type":"reasoning","summary":[{part}]}}"#),
        }
    }

    fn message(content: &Content, status: &str) -> Self {
        let whole = quote(&content.whole_text());
        let part =
            format!(r#"{{"type":"output_text","annotations":[],"logprobs":[],"text":{whole}}}"#);
        let mut events = vec![(
            "response.content_part.added",
            r#""content_index":0,"part":{"type":"output_text","annotations":[],"logprobs":[],"text":""}"#.to_owned(),
        )];
        events.extend(content.text.iter().map(|piece| {
            (
                "response.output_text.delta",
                format!(r#""content_index":0,"delta":{},"logprobs":[]"#, quote(piece)),
            )
        }));
        events.push((
            "response.output_text.done",
            format!(r#""content_index":0,"text":{whole},"logprobs":[]"#),
        ));
        events.push(("response.content_part.done", format!(r#""content_index":0,"part":{part}"#)));
        let item = |status: &str, parts: &str| {
            format!(
                r#"{{"id":"msg_mock","type":"message","status":"{status}","content":[{parts}],"role":"assistant"}}"#
            )
        };
        Self {
            id: "msg_mock".to_owned(),
            added: item("in_progress", ""),
            events,
            done: item(status, &part),
        }
    }

    fn call(content: &Content, number: usize) -> Self {
        let tool = &content.tools[number];
        let (name, whole) = (quote(&tool.name), quote(&tool.whole_arguments()));
        let mut events: Vec<_> = tool
            .arguments
            .iter()
            .map(|piece| {
                ("response.function_call_arguments.delta", format!(r#""delta":{}"#, quote(piece)))
            })
            .collect();
        events.push(("response.function_call_arguments.done", format!(r#""arguments":{whole}"#)));
        let item = |status: &str, arguments: &str| {
            format!(
                r#"{{"id":"fc_mock_{number}","type":"function_call","status":"{status}","arguments":{arguments},"call_id":"call_mock_{number}","name":{name}}}"#
            )
        };
        Self {
            id: format!("fc_mock_{number}"),
            added: item("in_progress", "\"\""),
            events,
            done: item("completed", &whole),
        }
    }
}

fn usage(content: &Content) -> String {
    let (input, output) = (content.prompt_tokens, content.completion_tokens());
    format!(
        r#"{{"input_tokens":{input},"input_tokens_details":{{"cached_tokens":{},"cache_write_tokens":0}},"output_tokens":{output},"output_tokens_details":{{"reasoning_tokens":{}}},"total_tokens":{}}}"#,
        content.cached_tokens,
        content.reasoning_tokens(),
        input + output
    )
}
