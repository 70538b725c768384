//! Everything that is not text generation or embeddings: models, moderations, images, audio.

use bytes::Bytes;
use serde_json::Value;

use super::embeddings::{count, encode_base64};
use super::{Call, Dialect, EVENT_STREAM, Look, Prepared, quote};
use crate::Options;
use crate::reply::Reply;

/// A PNG of one pixel.
const PIXEL: &[u8] =
    b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\x06\0\0\0\x1f\x15\xc4\x89\
\0\0\0\rIDATx\xdac\x64\xf8\xcfP\x0f\0\x03\x86\x01\x80Z4}k\0\0\0\0IEND\xaeB`\x82";

const CATEGORIES: [&str; 13] = [
    "harassment",
    "harassment/threatening",
    "hate",
    "hate/threatening",
    "illicit",
    "illicit/violent",
    "self-harm",
    "self-harm/instructions",
    "self-harm/intent",
    "sexual",
    "sexual/minors",
    "violence",
    "violence/graphic",
];

/// `GET models` and `GET models/{id}`.
pub(super) fn models(dialect: Dialect, created: u64, path: &str) -> Prepared {
    let one = path.split_once("/models/").map(|(_, id)| id).filter(|id| !id.is_empty());
    let model = |id: &str| {
        let id = quote(id);
        match dialect {
            Dialect::Anthropic => format!(
                r#"{{"type":"model","id":{id},"display_name":{id},"created_at":"2026-01-31T00:00:00Z","lifecycle":"active"}}"#
            ),
            Dialect::Gemini => format!(
                r#"{{"name":{},"displayName":{id},"inputTokenLimit":1048576,"outputTokenLimit":65536,"supportedGenerationMethods":["generateContent","countTokens"]}}"#,
                quote(&format!("models/{}", id.trim_matches('"')))
            ),
            Dialect::OpenAi | Dialect::Azure => {
                format!(r#"{{"id":{id},"object":"model","created":{created},"owned_by":"mock"}}"#)
            }
        }
    };
    if let Some(id) = one {
        return Prepared::json(model(id));
    }
    let list = [model("mock"), model("mock-large")].join(",");
    Prepared::json(match dialect {
        Dialect::Anthropic => {
            format!(
                r#"{{"data":[{list}],"has_more":false,"first_id":"mock","last_id":"mock-large"}}"#
            )
        }
        Dialect::Gemini => format!(r#"{{"models":[{list}]}}"#),
        Dialect::OpenAi | Dialect::Azure => format!(r#"{{"object":"list","data":[{list}]}}"#),
    })
}

/// `POST moderations`: nothing is ever flagged.
pub(super) fn moderations(model: &str, look: &Look<'_>) -> Prepared {
    let each = |value: &str| -> String {
        let fields: Vec<String> =
            CATEGORIES.iter().map(|name| format!(r#""{name}":{value}"#)).collect();
        format!("{{{}}}", fields.join(","))
    };
    let result = format!(
        r#"{{"flagged":false,"categories":{},"category_scores":{},"category_applied_input_types":{}}}"#,
        each("false"),
        each("0.0001"),
        each(r#"["text"]"#)
    );
    let count = look.input.map_or(1, count);
    let results = vec![result; count].join(",");
    Prepared::json(format!(
        r#"{{"id":"modr-mock","model":{},"results":[{results}]}}"#,
        quote(model)
    ))
}

/// `POST images/generations`.
pub(super) fn images(created: u64, body: &[u8]) -> Prepared {
    let request: Value = serde_json::from_slice(body).unwrap_or_default();
    let image = if request["response_format"] == "url" {
        r#"{"url":"https://example.com/mock.png"}"#.to_owned()
    } else {
        format!(r#"{{"b64_json":"{}"}}"#, encode_base64(PIXEL))
    };
    let count = request["n"].as_u64().unwrap_or(1).clamp(1, 10) as usize;
    let (input, output) = ((body.len() as u64 / 4).max(1), 100 * count as u64);
    Prepared::json(format!(
        r#"{{"created":{created},"data":[{}],"usage":{{"input_tokens":{input},"input_tokens_details":{{"image_tokens":0,"text_tokens":{input}}},"output_tokens":{output},"total_tokens":{}}}}}"#,
        vec![image; count].join(","),
        input + output
    ))
}

/// `POST audio/speech`: a tenth of a second of silence, as WAV if that was asked for.
pub(super) fn speech(body: &[u8]) -> Prepared {
    let request: Value = serde_json::from_slice(body).unwrap_or_default();
    if request["response_format"] == "wav" {
        let samples = vec![0; 1600];
        let mut wav = b"RIFF".to_vec();
        wav.extend((36 + samples.len() as u32).to_le_bytes());
        // 8 kHz, one channel, 16 bits.
        wav.extend(b"WAVEfmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0\x80\x3e\0\0\x02\0\x10\0data");
        wav.extend((samples.len() as u32).to_le_bytes());
        wav.extend(samples);
        return Prepared::whole("audio/wav", wav);
    }
    // MPEG-1 layer III, 64 kbit/s, 44.1 kHz, mono: 208 bytes a frame, 26 ms each.
    let mut frame = vec![0; 208];
    frame[..4].copy_from_slice(b"\xff\xfb\x50\xc4");
    Prepared::whole("audio/mpeg", frame.repeat(4))
}

/// `POST audio/transcriptions` and `audio/translations`, whose requests are multipart.
pub(super) fn transcription(call: &Call<'_>, options: &Options, reply: &Reply) -> Prepared {
    let text = reply.text.as_deref().unwrap_or(&options.text);
    let tokens = text.split_whitespace().count() as u64;
    let input = (call.body.len() as u64 / 4).max(1);
    let usage = format!(
        r#"{{"type":"tokens","input_tokens":{input},"input_token_details":{{"text_tokens":0,"audio_tokens":{input}}},"output_tokens":{tokens},"total_tokens":{}}}"#,
        input + tokens
    );
    let text_json = quote(text);
    if field(call.body, "stream").is_some_and(|value| value == "true") {
        let mut events: Vec<Bytes> = text
            .split_inclusive(' ')
            .map(|piece| {
                let delta = quote(piece);
                format!("data: {{\"type\":\"transcript.text.delta\",\"delta\":{delta}}}\n\n").into()
            })
            .collect();
        let done = format!(
            "data: {{\"type\":\"transcript.text.done\",\"text\":{text_json},\"usage\":{usage}}}\n\n"
        );
        events.push(done.into());
        return Prepared::stream(EVENT_STREAM, events);
    }
    match field(call.body, "response_format") {
        Some("text") => Prepared::whole("text/plain; charset=utf-8", format!("{text}\n")),
        Some("srt") => Prepared::whole(
            "text/plain; charset=utf-8",
            format!("1\n00:00:00,000 --> 00:00:01,000\n{text}\n\n"),
        ),
        Some("vtt") => Prepared::whole(
            "text/plain; charset=utf-8",
            format!("WEBVTT\n\n00:00:00.000 --> 00:00:01.000\n{text}\n\n"),
        ),
        Some("verbose_json") => Prepared::json(format!(
            r#"{{"task":"transcribe","language":"english","duration":1.0,"text":{text_json},"segments":[],"usage":{{"type":"duration","seconds":1}}}}"#
        )),
        _ => Prepared::json(format!(r#"{{"text":{text_json},"usage":{usage}}}"#)),
    }
}

/// The value of a short text field in a multipart body.
fn field<'a>(body: &'a [u8], name: &str) -> Option<&'a str> {
    let head = format!("name=\"{name}\"");
    let at = find(body, head.as_bytes())? + head.len();
    let value = &body[at..];
    let value = &value[find(value, b"\r\n\r\n")? + 4..];
    std::str::from_utf8(&value[..find(value, b"\r\n")?]).ok()
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}
