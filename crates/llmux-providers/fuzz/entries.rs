//! One entry a parser, for any bytes: nothing panics, what is written is JSON, and a stream is the same wherever it is
//! cut. Driven by `cargo fuzz` and, over mutated recordings, by `tests/mutations.rs`.

use bytes::{Bytes, BytesMut};
use llmux_providers::anthropic::{self, Anthropic};
use llmux_providers::gemini::Gemini;
use llmux_providers::openai::{self, AnswerHead, Rejection, Translation};
use llmux_providers::sse::{EventTooLong, Framer};
use llmux_providers::{
    ChatCodec, ClientStream, EmbeddingsCodec, Encoding, Endpoint, JsonRequest, MultipartRequest,
    Outgoing, RequestEdits,
};
use llmux_types::embeddings::EncodingFormat;
use serde_json::value::RawValue;

/// A parser's name and its entry.
pub(crate) type Entry = (&'static str, fn(&[u8]));

/// All entries.
pub(crate) const ENTRIES: [Entry; 9] = [
    ("anthropic_answer", anthropic_answer),
    ("anthropic_stream", anthropic_stream),
    ("gemini_answer", gemini_answer),
    ("gemini_stream", gemini_stream),
    ("openai_request", openai_request),
    ("openai_answer", openai_answer),
    ("openai_stream", openai_stream),
    ("multipart", multipart),
    ("sse", sse),
];

fn head() -> AnswerHead {
    AnswerHead { id: "id".into(), model: "m".into(), created: 7 }
}

fn assert_json(written: &[u8]) {
    assert!(serde_json::from_slice::<&RawValue>(written).is_ok(), "JSON is written");
}

/// Bytes that pass are not read as a whole: what is wrong with them stays.
fn assert_still_json(written: &[u8], data: &[u8]) {
    if serde_json::from_slice::<&RawValue>(data).is_ok() {
        assert_json(written);
    }
}

/// Where to cut: anywhere, but the same for the same bytes.
fn cut(data: &[u8]) -> usize {
    let sum = data
        .iter()
        .fold(data.len(), |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(*byte)));
    sum % (data.len() + 1)
}

/// Runs a stream in these pieces: what the client gets, and the failure.
fn run(mut stream: impl ClientStream, pieces: &[&[u8]]) -> (BytesMut, Option<String>) {
    let mut out = BytesMut::new();
    let fed = pieces.iter().try_for_each(|piece| stream.feed(piece, &mut out));
    let result = fed.and_then(|()| stream.finish(&mut out));
    let _ = stream.summary();
    (out, result.err().map(|failure| failure.to_string()))
}

fn assert_stream<S: ClientStream>(make: impl Fn() -> S, data: &[u8]) {
    let at = cut(data);
    let whole = run(make(), &[data]);
    assert_eq!(run(make(), &[&data[..at], &data[at..]]), whole, "cut at {at}");
}

fn chat_answer(codec: &dyn ChatCodec, data: &[u8]) {
    if let Ok(answer) = codec.decode(data) {
        assert_json(&openai::write_response(&answer, &head()));
    }
    assert_json(&codec.rejection(400, Bytes::copy_from_slice(data)).body);
}

pub(crate) fn anthropic_answer(data: &[u8]) {
    chat_answer(&Anthropic, data);
    if let Ok(reply) = anthropic::Reply::look(Bytes::copy_from_slice(data)) {
        assert_still_json(&reply.with_model("m"), data);
    }
}

pub(crate) fn anthropic_stream(data: &[u8]) {
    assert_stream(|| Translation::new(Anthropic.decoder(), head(), true), data);
    assert_stream(|| anthropic::Relay::new("m"), data);
}

pub(crate) fn gemini_answer(data: &[u8]) {
    chat_answer(&Gemini, data);
    if let Ok(answer) = EmbeddingsCodec::decode(&Gemini, data) {
        assert_json(&openai::write_embeddings(&answer, "m", EncodingFormat::Float));
        assert_json(&openai::write_embeddings(&answer, "m", EncodingFormat::Base64));
    }
}

pub(crate) fn gemini_stream(data: &[u8]) {
    assert_stream(|| Translation::new(Gemini.decoder(), head(), true), data);
}

pub(crate) fn openai_request(data: &[u8]) {
    for model in [
        "claude-sonnet-4-5",
        "claude-opus-4-6",
        "gemini-2.5-pro",
        "gemini-3-pro-preview",
        "gemini-embedding-001",
    ] {
        for drop_params in [false, true] {
            let encoding =
                Encoding { base_url: "http://host", model, drop_params, max_output_tokens: None };
            let check = |outgoing: Outgoing| assert_json(&outgoing.body);
            if let Ok(request) = openai::read_request(data) {
                let _ = Anthropic.encode(&request, &encoding).map(check);
                let _ = ChatCodec::encode(&Gemini, &request, &encoding).map(check);
            }
            if let Ok(request) = openai::parse_embeddings(data) {
                let _ = EmbeddingsCodec::encode(&Gemini, &request, &encoding).map(check);
            }
        }
    }
    for endpoint in Endpoint::ALL {
        if let Ok(request) = JsonRequest::look(Bytes::copy_from_slice(data), endpoint) {
            assert_still_json(
                &request.edited(&RequestEdits { model: "m\"", ask_usage: true }),
                data,
            );
        }
    }
}

pub(crate) fn openai_answer(data: &[u8]) {
    let body = Bytes::copy_from_slice(data);
    for endpoint in Endpoint::ALL {
        if let Ok(reply) = openai::Reply::look(body.clone(), endpoint) {
            let _ = reply.rejection();
            assert_still_json(&reply.with_model("m\""), data);
        }
    }
    assert_json(&Rejection::from_reply(429, body).body);
}

pub(crate) fn openai_stream(data: &[u8]) {
    for endpoint in [Endpoint::ChatCompletions, Endpoint::Completions, Endpoint::Responses] {
        for hide_usage in [false, true] {
            assert_stream(|| openai::Relay::new(endpoint, "m", hide_usage), data);
        }
    }
}

pub(crate) fn multipart(data: &[u8]) {
    for content_type in ["multipart/form-data; boundary=X", "multipart/form-data; boundary=\"a b\""]
    {
        if let Ok(request) = MultipartRequest::look(Bytes::copy_from_slice(data), content_type) {
            let _ = request.model();
            let _ = request.edited("m");
        }
    }
    // The first line is the content type.
    let text = String::from_utf8_lossy(data);
    let _ = MultipartRequest::look(
        Bytes::copy_from_slice(data),
        text.lines().next().unwrap_or_default(),
    );
}

pub(crate) fn sse(data: &[u8]) {
    let frames = |pieces: &[&[u8]]| {
        let mut framer = Framer::default();
        let mut raw = Vec::new();
        let mut out = BytesMut::new();
        for piece in pieces {
            let fed = framer.feed::<EventTooLong>(piece, |frame| {
                raw.extend_from_slice(frame.raw);
                frame.write_with_data(b"{}", &mut out);
                Ok(())
            });
            assert!(fed.is_ok(), "short events are kept");
        }
        let _ = framer.finish::<EventTooLong>(|frame| {
            raw.extend_from_slice(frame.raw);
            Ok(())
        });
        assert!(raw == data, "nothing gets lost");
        out
    };
    let at = cut(data);
    let _ = frames(&[data]);
    let _ = frames(&[&data[..at], &data[at..]]);
}
