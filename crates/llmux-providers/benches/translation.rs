//! What a request, an answer and a chunk cost: translated, and relayed. `cargo bench -p llmux-providers`.

use bytes::{Bytes, BytesMut};
use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use llmux_providers::anthropic::Anthropic;
use llmux_providers::gemini::Gemini;
use llmux_providers::openai::{self, AnswerHead, Relay, Reply, Translation};
use llmux_providers::sse::{EventTooLong, Frame, Framer};
use llmux_providers::{ChatCodec, ClientStream, Encoding, Endpoint, JsonRequest, RequestEdits};

const CHUNKS: usize = 1000;

const REQUEST: &str = r#"{"model":"m","stream":true,"messages":[{"role":"system","content":"You plan trips."},
{"role":"user","content":"Where is it warmer, and what time is it there?"},{"role":"assistant","content":null,"tool_calls":
[{"id":"c1","type":"function","function":{"name":"get_weather","arguments":"{\"city\":\"Paris\"}"}}]},
{"role":"tool","tool_call_id":"c1","content":"{\"degrees\":20}"}],"tools":[{"type":"function","function":{"name":"get_weather",
"parameters":{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}}}]}"#;

/// A chunk in OpenAI's dialect.
const EVENT: &str = "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":7,\"model\":\"v\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" warmer\"},\"finish_reason\":null}]}\n\n";

fn main() {
    divan::main();
}

fn head() -> AnswerHead {
    AnswerHead { id: "id".into(), model: "m".into(), created: 7 }
}

fn translated_request(bencher: Bencher<'_, '_>, codec: &dyn ChatCodec, model: &str) {
    let encoding =
        Encoding { base_url: "http://host", model, drop_params: false, max_output_tokens: None };
    bencher.bench_local(|| {
        let request = openai::read_request(black_box(REQUEST.as_bytes())).expect("a request");
        codec.encode(&request, &encoding).expect("the vendor has words for it")
    });
}

#[divan::bench]
fn request_to_anthropic(bencher: Bencher<'_, '_>) {
    translated_request(bencher, &Anthropic, "claude-sonnet-4-5");
}

#[divan::bench]
fn request_to_gemini(bencher: Bencher<'_, '_>) {
    translated_request(bencher, &Gemini, "gemini-2.5-pro");
}

#[divan::bench]
fn request_relayed(bencher: Bencher<'_, '_>) {
    let body = Bytes::from_static(REQUEST.as_bytes());
    bencher.bench_local(|| {
        let request = JsonRequest::look(black_box(body.clone()), Endpoint::ChatCompletions);
        request.expect("a request").edited(&RequestEdits { model: "vendors", ask_usage: true })
    });
}

#[divan::bench]
fn answer_of_anthropic(bencher: Bencher<'_, '_>) {
    let body = br#"{"id":"msg_1","type":"message","role":"assistant","model":"c","content":[{"type":"text","text":"It is warmer in Paris, and noon."}],"stop_reason":"end_turn","usage":{"input_tokens":20,"output_tokens":10}}"#;
    bencher.bench_local(|| {
        let answer = Anthropic.decode(black_box(body)).expect("an answer");
        openai::write_response(&answer, &head())
    });
}

#[divan::bench]
fn answer_of_gemini(bencher: Bencher<'_, '_>) {
    let body = br#"{"candidates":[{"content":{"role":"model","parts":[{"text":"It is warmer in Paris, and noon."}]},"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":20,"candidatesTokenCount":10,"totalTokenCount":30}}"#;
    bencher.bench_local(|| {
        let answer = ChatCodec::decode(&Gemini, black_box(body)).expect("an answer");
        openai::write_response(&answer, &head())
    });
}

#[divan::bench]
fn answer_relayed(bencher: Bencher<'_, '_>) {
    let body = Bytes::from_static(br#"{"id":"c","object":"chat.completion","created":7,"model":"v","choices":[{"index":0,"message":{"role":"assistant","content":"It is warmer in Paris, and noon."},"finish_reason":"stop"}],"usage":{"prompt_tokens":20,"completion_tokens":10,"total_tokens":30}}"#);
    bencher.bench_local(|| {
        let reply = Reply::look(black_box(body.clone()), Endpoint::ChatCompletions);
        reply.expect("an answer").with_model("m")
    });
}

/// Feeds one chunk after another to one stream.
fn chunks<S: ClientStream>(
    bencher: Bencher<'_, '_>,
    make: impl Fn() -> S,
    begin: &str,
    chunk: &str,
) {
    bencher.counter(ItemsCount::new(CHUNKS)).bench_local(|| {
        let mut out = BytesMut::with_capacity(4096);
        let mut stream = make();
        stream.feed(begin.as_bytes(), &mut out).expect("a beginning");
        for _ in 0..CHUNKS {
            out.clear();
            stream.feed(black_box(chunk.as_bytes()), &mut out).expect("a chunk");
            assert!(!out.is_empty());
        }
    });
}

#[divan::bench]
fn thousand_chunks_of_anthropic(bencher: Bencher<'_, '_>) {
    let begin = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"c\",\"content\":[],\"usage\":{\"input_tokens\":1,\"output_tokens\":1}}}\n\nevent: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n";
    let chunk = "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\" warmer\"}}\n\n";
    chunks(bencher, || Translation::new(Anthropic.decoder(), head(), true), begin, chunk);
}

#[divan::bench]
fn thousand_chunks_of_gemini(bencher: Bencher<'_, '_>) {
    let chunk = "data: {\"candidates\":[{\"content\":{\"role\":\"model\",\"parts\":[{\"text\":\" warmer\"}]}}],\"usageMetadata\":{\"promptTokenCount\":20,\"totalTokenCount\":30}}\r\n\r\n";
    chunks(bencher, || Translation::new(Gemini.decoder(), head(), true), "", chunk);
}

#[divan::bench]
fn thousand_chunks_relayed(bencher: Bencher<'_, '_>) {
    chunks(bencher, || Relay::new(Endpoint::ChatCompletions, "m", false), "", EVENT);
}

/// Cutting a stream of a thousand chunks into events: as it came with one event in each piece, in packets that end
/// anywhere, and all at once.
#[divan::bench(args = [EVENT.len(), 1448, EVENT.len() * CHUNKS])]
fn thousand_events_framed(bencher: Bencher<'_, '_>, piece: usize) {
    let stream = EVENT.repeat(CHUNKS);
    bencher.counter(ItemsCount::new(CHUNKS)).bench_local(|| {
        let mut framer = Framer::default();
        let mut events = 0;
        for piece in black_box(stream.as_bytes()).chunks(piece) {
            let take = |frame: &Frame<'_>| {
                events += usize::from(black_box(frame).data.is_some());
                Ok::<(), EventTooLong>(())
            };
            framer.feed(piece, take).expect("short events");
        }
        assert_eq!(events, CHUNKS);
    });
}
