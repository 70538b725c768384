//! What the cache costs a request: deriving its key, finding its answer in memory, replaying it as a stream.
//! `cargo bench -p llmux-cache`.
#![expect(clippy::unwrap_used, reason = "in a benchmark it is a failure")]

use std::sync::Arc;

use bytes::Bytes;
use divan::Bencher;
use llmux_cache::{Asker, CacheKey, Entry, Form, Kind, Local, LocalConfig, Question, Scope, fold};

fn main() {
    divan::main();
}

/// A chat request of about this many bytes.
fn body(bytes: usize) -> String {
    let messages: Vec<String> = (0..bytes.div_ceil(500))
        .map(|number| {
            format!(r#"{{"role":"user","content":"{number} {}"}}"#, "Lorem ipsum \\n ".repeat(30))
        })
        .collect();
    format!(r#"{{"model":"gpt-4o","temperature":0.7,"messages":[{}]}}"#, messages.join(","))
}

fn key(body: &str) -> CacheKey {
    let question = Question {
        scope: Scope::Key,
        asker: Asker { key: Some("0f2d7a52"), team: Some("t"), organization: Some("o") },
        route: "/v1/chat/completions",
        model: "gpt-4o",
        tags: &[],
        body: body.as_bytes(),
    };
    CacheKey::derive(&"llmux".into(), &question).unwrap()
}

fn answer() -> Arc<Entry> {
    let text = "word ".repeat(400);
    let body = format!(
        r#"{{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}"}},"finish_reason":"stop"}}]}}"#
    );
    Arc::new(
        Entry::whole(Kind::Chat, Bytes::from(body), "application/json", None, 0, 1_000).unwrap(),
    )
}

#[divan::bench(args = [1_000, 20_000, 200_000])]
fn derive_key(bencher: Bencher<'_, '_>, bytes: usize) {
    let body = body(bytes);
    bencher.bench(|| key(divan::black_box(&body)));
}

#[divan::bench]
fn find_in_memory(bencher: Bencher<'_, '_>) {
    let local = Local::new(LocalConfig::default());
    let keys: Vec<CacheKey> =
        (0..1_000).map(|number| key(&format!("{{\"n\":{number}}}"))).collect();
    keys.iter().for_each(|key| local.keep(key, answer(), 0));
    let mut next = keys.iter().cycle();
    bencher.bench_local(|| local.find(next.next().unwrap(), 1));
}

#[divan::bench]
fn replay_answer(bencher: Bencher<'_, '_>) {
    let entry = answer();
    bencher.bench(|| entry.body(Form::Stream { include_usage: true }));
}

#[divan::bench]
fn fold_stream(bencher: Bencher<'_, '_>) {
    let chunk = |delta: &str, reason: &str| {
        format!(
            "data: {{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{{\"index\":0,\"delta\":{delta},\"finish_reason\":{reason}}}]}}\n\n"
        )
    };
    let words = chunk(r#"{"content":"word "}"#, "null").repeat(400);
    let stream = format!("{words}{}data: [DONE]\n\n", chunk("{}", "\"stop\""));
    bencher.bench(|| fold(Kind::Chat, divan::black_box(stream.as_bytes())).unwrap());
}
