//! OpenAI's chat completions and completions.

use bytes::Bytes;

use super::content::Content;
use super::{DONE, EVENT_STREAM, Prepared, quote};
use crate::reply::Finish;

/// `POST chat/completions`.
pub(super) fn chat(
    model: &str,
    created: u64,
    stream: bool,
    include_usage: bool,
    content: &Content,
) -> Prepared {
    let model = quote(model);
    let finish = finish(content);
    if !stream {
        let choices: Vec<String> = (0..content.choices)
            .map(|index| {
                format!(
                    r#"{{"index":{index},"message":{},"logprobs":null,"finish_reason":{finish}}}"#,
                    message(content, index)
                )
            })
            .collect();
        return Prepared::json(format!(
            r#"{{"id":"chatcmpl-mock","object":"chat.completion","created":{created},"model":{model},"choices":[{}],"usage":{},"service_tier":"default","system_fingerprint":"fp_mock"}}"#,
            choices.join(","),
            usage(content)
        ));
    }
    let head = format!(
        r#"data: {{"id":"chatcmpl-mock","object":"chat.completion.chunk","created":{created},"model":{model},"service_tier":"default","system_fingerprint":"fp_mock","choices":["#
    );
    let tail = if include_usage { "],\"usage\":null}\n\n" } else { "]}\n\n" };
    let chunk = |index: usize, delta: &str, finish: &str| {
        Bytes::from(format!(
            r#"{head}{{"index":{index},"delta":{delta},"logprobs":null,"finish_reason":{finish}}}{tail}"#
        ))
    };
    let mut events = Vec::new();
    let mut deltas = vec![if content.text.is_empty() && !content.tools.is_empty() {
        r#"{"role":"assistant","content":null}"#.to_owned()
    } else {
        r#"{"role":"assistant","content":"","refusal":null}"#.to_owned()
    }];
    deltas.extend(
        content
            .reasoning
            .iter()
            .map(|piece| format!(r#"{{"reasoning_content":{}}}"#, quote(piece))),
    );
    deltas.extend(content.text.iter().map(|piece| format!(r#"{{"content":{}}}"#, quote(piece))));
    for delta in &deltas {
        events.extend((0..content.choices).map(|index| chunk(index, delta, "null")));
    }
    for index in 0..content.choices {
        for (number, tool) in content.tools.iter().enumerate() {
            let call = format!(
                r#"{{"tool_calls":[{{"index":{number},"id":"call_mock_{index}_{number}","type":"function","function":{{"name":{},"arguments":""}}}}]}}"#,
                quote(&tool.name)
            );
            events.push(chunk(index, &call, "null"));
            for piece in &tool.arguments {
                let arguments = quote(piece);
                let call = format!(
                    r#"{{"tool_calls":[{{"index":{number},"function":{{"arguments":{arguments}}}}}]}}"#
                );
                events.push(chunk(index, &call, "null"));
            }
        }
    }
    events.extend((0..content.choices).map(|index| chunk(index, "{}", finish)));
    if include_usage {
        events.push(format!("{head}],\"usage\":{}}}\n\n", usage(content)).into());
    }
    events.push(Bytes::from_static(DONE));
    Prepared::stream(EVENT_STREAM, events)
}

fn message(content: &Content, index: usize) -> String {
    let text = if content.text.is_empty() && !content.tools.is_empty() {
        "null".to_owned()
    } else {
        quote(&content.whole_text())
    };
    let reasoning = if content.reasoning.is_empty() {
        String::new()
    } else {
        format!(r#","reasoning_content":{}"#, quote(&content.whole_reasoning()))
    };
    let calls: Vec<String> = content
        .tools
        .iter()
        .enumerate()
        .map(|(number, tool)| {
            format!(
                r#"{{"id":"call_mock_{index}_{number}","type":"function","function":{{"name":{},"arguments":{}}}}}"#,
                quote(&tool.name),
                quote(&tool.whole_arguments())
            )
        })
        .collect();
    let calls = if calls.is_empty() {
        String::new()
    } else {
        format!(r#","tool_calls":[{}]"#, calls.join(","))
    };
    format!(
        r#"{{"role":"assistant","content":{text}{reasoning}{calls},"refusal":null,"annotations":[]}}"#
    )
}

fn finish(content: &Content) -> &'static str {
    match content.finish {
        Finish::Stop if !content.tools.is_empty() => "\"tool_calls\"",
        Finish::Stop => "\"stop\"",
        Finish::Length => "\"length\"",
        Finish::ContentFilter => "\"content_filter\"",
    }
}

fn usage(content: &Content) -> String {
    let (prompt, completion) = (content.prompt_tokens, content.completion_tokens());
    format!(
        r#"{{"prompt_tokens":{prompt},"completion_tokens":{completion},"total_tokens":{},"prompt_tokens_details":{{"cached_tokens":{},"audio_tokens":0}},"completion_tokens_details":{{"reasoning_tokens":{},"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}}}"#,
        prompt + completion,
        content.cached_tokens,
        content.reasoning_tokens()
    )
}

/// `POST completions`.
pub(super) fn completions(
    model: &str,
    created: u64,
    stream: bool,
    include_usage: bool,
    content: &Content,
) -> Prepared {
    let model = quote(model);
    let finish = finish(content);
    let (prompt, completion) = (content.prompt_tokens, content.completion_tokens());
    let usage = format!(
        r#"{{"prompt_tokens":{prompt},"completion_tokens":{completion},"total_tokens":{}}}"#,
        prompt + completion
    );
    let choice = |index: usize, text: &str, finish: &str| {
        let text = quote(text);
        format!(r#"{{"text":{text},"index":{index},"logprobs":null,"finish_reason":{finish}}}"#)
    };
    if !stream {
        let text = content.whole_text();
        let choices: Vec<String> =
            (0..content.choices).map(|index| choice(index, &text, finish)).collect();
        return Prepared::json(format!(
            r#"{{"id":"cmpl-mock","object":"text_completion","created":{created},"model":{model},"choices":[{}],"usage":{usage}}}"#,
            choices.join(",")
        ));
    }
    let chunk = |choices: &str, usage: &str| {
        Bytes::from(format!(
            "data: {{\"id\":\"cmpl-mock\",\"object\":\"text_completion\",\"created\":{created},\"choices\":[{choices}],\
             \"model\":{model}{usage}}}\n\n"
        ))
    };
    let no_usage = if include_usage { ",\"usage\":null" } else { "" };
    let mut events = Vec::new();
    for piece in &content.text {
        events.extend(
            (0..content.choices).map(|index| chunk(&choice(index, piece, "null"), no_usage)),
        );
    }
    events.extend((0..content.choices).map(|index| chunk(&choice(index, "", finish), no_usage)));
    if include_usage {
        events.push(chunk("", &format!(",\"usage\":{usage}")));
    }
    events.push(Bytes::from_static(DONE));
    Prepared::stream(EVENT_STREAM, events)
}
