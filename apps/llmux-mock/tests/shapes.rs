//! The default answers, endpoint by endpoint, and what the mock tells about itself.

use llmux_mock::{Mock, Options};
use serde_json::{Value, json};

use crate::client::{post, post_http2, raw, send};

async fn mock() -> Mock {
    Mock::start(Options::default()).await.unwrap()
}

/// A schema, and the instance that the mock makes of it.
fn schema() -> (Value, Value) {
    let schema = json!({
        "type": "object", "required": ["city"], "additionalProperties": false,
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    });
    (schema, json!({"city": "mock", "days": 1}))
}

#[tokio::test]
async fn a_forced_tool_is_called_in_each_dialect() {
    let (schema, expected) = schema();
    let function = json!({"name": "weather", "parameters": schema});
    let other = json!({"name": "other", "parameters": {"type": "object"}});
    let chat_tools = json!([{"type": "function", "function": other}, {"type": "function", "function": function}]);
    let mock = mock().await;

    for choice in [
        json!({"type": "function", "function": {"name": "weather"}}),
        json!({"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [chat_tools[1]]}}),
    ] {
        let body = json!({"model": "m", "tools": chat_tools, "tool_choice": choice});
        let choice = post(&mock, "/v1/chat/completions", &body).await.json()["choices"][0].clone();
        assert_eq!(choice["finish_reason"], "tool_calls");
        assert_eq!(choice["message"]["content"], Value::Null);
        let call = &choice["message"]["tool_calls"][0]["function"];
        assert_eq!(call["name"], "weather");
        assert_eq!(
            serde_json::from_str::<Value>(call["arguments"].as_str().unwrap()).unwrap(),
            expected
        );
    }
    let body = json!({"model": "m", "tools": chat_tools, "tool_choice": "required"});
    let answer = post(&mock, "/v1/chat/completions", &body).await.json();
    assert_eq!(answer["choices"][0]["message"]["tool_calls"][0]["function"]["name"], "other");

    let flat = json!([{"type": "function", "name": "weather", "parameters": schema}]);
    let body = json!({"model": "m", "input": "x", "tools": flat, "tool_choice": "required"});
    let item = post(&mock, "/v1/responses", &body).await.json()["output"][0].clone();
    assert_eq!((&item["type"], &item["name"]), (&json!("function_call"), &json!("weather")));

    let tools = json!([{"name": "weather", "input_schema": schema}]);
    let body = json!({"model": "m", "tools": tools, "tool_choice": {"type": "any"}});
    let message = post(&mock, "/v1/messages", &body).await.json();
    assert_eq!(message["stop_reason"], "tool_use");
    assert_eq!(
        (&message["content"][0]["name"], &message["content"][0]["input"]),
        (&json!("weather"), &expected)
    );

    let body = json!({
        "contents": [], "tools": [{"functionDeclarations": [other, function]}],
        "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["weather"]}},
    });
    let answer = post(&mock, "/v1beta/models/g:generateContent", &body).await.json();
    let call = &answer["candidates"][0]["content"]["parts"][0]["functionCall"];
    assert_eq!(call, &json!({"name": "weather", "args": expected}));
}

#[tokio::test]
async fn tools_that_are_not_forced_are_not_called() {
    let body = json!({"model": "m", "tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": "auto"});
    let answer = post(&mock().await, "/v1/chat/completions", &body).await.json();
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
}

#[tokio::test]
async fn a_request_for_json_gets_json_in_each_dialect() {
    let (schema, expected) = schema();
    let mock = mock().await;
    let format = json!({"type": "json_schema", "name": "w", "schema": schema});
    let cases = [
        (
            "/v1/chat/completions",
            json!({"model": "m", "response_format": {"type": "json_schema", "json_schema": {"schema": schema}}}),
            "/choices/0/message/content",
        ),
        (
            "/v1/responses",
            json!({"model": "m", "text": {"format": format}}),
            "/output/0/content/0/text",
        ),
        (
            "/v1/messages",
            json!({"model": "m", "output_config": {"format": format}}),
            "/content/0/text",
        ),
        (
            "/v1beta/models/g:generateContent",
            json!({"generationConfig": {"responseMimeType": "application/json", "responseJsonSchema": schema}}),
            "/candidates/0/content/parts/0/text",
        ),
    ];
    for (path, body, pointer) in cases {
        let answer = post(&mock, path, &body).await.json();
        let text = answer.pointer(pointer).unwrap().as_str().unwrap();
        assert_eq!(serde_json::from_str::<Value>(text).unwrap(), expected, "{path}");
    }
    let body = json!({"model": "m", "response_format": {"type": "json_object"}});
    let answer = post(&mock, "/v1/chat/completions", &body).await.json();
    let text = answer["choices"][0]["message"]["content"].as_str().unwrap();
    assert!(serde_json::from_str::<Value>(text).unwrap().is_object());
}

#[tokio::test]
async fn usage_counts_the_conversation_and_not_the_settings() {
    let mock = mock().await;
    let messages = json!([{"role": "user", "content": "hello"}]);
    let tokens = messages.to_string().len() / 4;
    for extra in [json!({}), json!({"temperature": 1, "model": "a-longer-name"})] {
        let mut body = json!({"model": "m", "messages": messages});
        body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        let usage = post(&mock, "/v1/chat/completions", &body).await.json()["usage"].clone();
        assert_eq!(
            (&usage["prompt_tokens"], &usage["completion_tokens"]),
            (&json!(tokens), &json!(11))
        );
        assert_eq!(usage["total_tokens"], tokens + 11);
    }
    let count =
        post(&mock, "/v1/messages/count_tokens", &json!({"model": "m", "messages": messages}))
            .await;
    assert_eq!(count.json(), json!({"input_tokens": tokens}));
}

#[tokio::test]
async fn embeddings_are_the_same_as_floats_and_as_base64() {
    let mock = mock().await;
    let ask = |input: Value, format: &str| json!({"model": "e", "input": input, "dimensions": 3, "encoding_format": format});
    let floats = post(&mock, "/v1/embeddings", &ask(json!(["a", "b"]), "float")).await.json();
    let base64 = post(&mock, "/v1/embeddings", &ask(json!(["a", "b"]), "base64")).await.json();
    for index in 0..2 {
        let numbers = floats["data"][index]["embedding"].as_array().unwrap();
        assert_eq!((numbers.len(), &floats["data"][index]["index"]), (3, &json!(index)));
        let text = base64["data"][index]["embedding"].as_str().unwrap();
        assert_eq!(text.len(), 16);
        let bytes = decode_base64(text);
        let decoded = bytes.chunks(4).map(|four| f32::from_le_bytes(four.try_into().unwrap()));
        assert!(numbers.iter().map(|number| number.as_f64().unwrap() as f32).eq(decoded));
    }
    assert_ne!(floats["data"][0]["embedding"], floats["data"][1]["embedding"]);
    let tokens = post(&mock, "/v1/embeddings", &ask(json!([1, 2, 3]), "float")).await.json();
    assert_eq!(tokens["data"].as_array().unwrap().len(), 1);
}

fn decode_base64(text: &str) -> Vec<u8> {
    let letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bits: Vec<usize> = text.chars().filter_map(|letter| letters.find(letter)).collect();
    let bytes = bits.chunks_exact(4).flat_map(|four| {
        let group = four[0] << 18 | four[1] << 12 | four[2] << 6 | four[3];
        [(group >> 16) as u8, (group >> 8) as u8, group as u8]
    });
    bytes.collect()
}

#[tokio::test]
async fn gemini_embeddings_follow_their_requests() {
    let mock = mock().await;
    let one = json!({"content": {"parts": [{"text": "a"}]}, "outputDimensionality": 2});
    let single = post(&mock, "/v1beta/models/e:embedContent", &one).await.json();
    let batch =
        post(&mock, "/v1beta/models/e:batchEmbedContents", &json!({"requests": [one, one]}))
            .await
            .json();
    assert_eq!(batch["embeddings"], json!([single["embedding"], single["embedding"]]));
    assert_eq!(single["embedding"]["values"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn models_are_listed_in_each_dialect() {
    let mock = mock().await;
    let openai = send(&mock, "GET", "/v1/models", &[], "").await.json();
    assert_eq!(
        (&openai["object"], &openai["data"][0]["object"]),
        (&json!("list"), &json!("model"))
    );
    let anthropic =
        send(&mock, "GET", "/v1/models", &[("anthropic-version", "2023-06-01")], "").await.json();
    assert_eq!(
        (&anthropic["has_more"], &anthropic["data"][0]["type"]),
        (&json!(false), &json!("model"))
    );
    let gemini = send(&mock, "GET", "/v1beta/models", &[], "").await.json();
    assert_eq!(gemini["models"][0]["name"], "models/mock");
    let by_key = send(&mock, "GET", "/v1/models", &[("x-goog-api-key", "k")], "").await.json();
    assert_eq!(by_key, gemini);
    assert_eq!(send(&mock, "GET", "/v1/models/x", &[], "").await.json()["id"], "x");
}

#[tokio::test]
async fn moderations_and_images_answer_as_often_as_asked() {
    let mock = mock().await;
    let answer = post(&mock, "/v1/moderations", &json!({"input": ["a", "b"]})).await.json();
    assert_eq!(answer["results"].as_array().unwrap().len(), 2);
    assert_eq!(answer["results"][0]["flagged"], false);
    let answer =
        post(&mock, "/v1/images/generations", &json!({"prompt": "a cat", "n": 2})).await.json();
    assert_eq!(answer["data"].as_array().unwrap().len(), 2);
    assert!(decode_base64(answer["data"][0]["b64_json"].as_str().unwrap()).starts_with(b"\x89PNG"));
}

#[tokio::test]
async fn speech_is_sound_in_the_format_asked_for() {
    let mock = mock().await;
    let mp3 = post(&mock, "/v1/audio/speech", &json!({"input": "hi", "voice": "v"})).await;
    assert_eq!((mp3.headers["content-type"].to_str().unwrap(), mp3.body[0]), ("audio/mpeg", 0xff));
    let wav =
        post(&mock, "/v1/audio/speech", &json!({"input": "hi", "response_format": "wav"})).await;
    assert_eq!((&wav.body[..4], wav.body.len()), (&b"RIFF"[..], 44 + 1600));
}

#[tokio::test]
async fn transcriptions_read_multipart_and_answer_in_the_format_asked_for() {
    let mock = mock().await;
    let form = |name: &str, value: &str| {
        format!(
            "--b\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a.mp3\"\r\n\r\n\u{1}\u{2}\r\n\
             --b\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n--b--\r\n"
        )
    };
    let multipart = [("content-type", "multipart/form-data; boundary=b")];
    let text = Options::default().text;
    for path in ["/v1/audio/transcriptions", "/v1/audio/translations"] {
        let json = send(&mock, "POST", path, &multipart, &form("model", "whisper-1")).await.json();
        assert_eq!(json["text"], text);
        let plain = send(&mock, "POST", path, &multipart, &form("response_format", "text")).await;
        assert_eq!(plain.text().trim_end(), text);
        let stream = send(&mock, "POST", path, &multipart, &form("stream", "true")).await.events();
        assert_eq!(stream.last().unwrap()["text"], text);
    }
}

#[tokio::test]
async fn what_the_mock_cannot_read_or_does_not_have_is_an_error_of_the_vendor() {
    let mock = mock().await;
    let answer = send(&mock, "POST", "/v1/messages", &[], "{").await;
    assert_eq!(
        (answer.status, &answer.json()["error"]["type"]),
        (400, &json!("invalid_request_error"))
    );
    let answer = post(&mock, "/v1/nowhere", &json!({})).await;
    assert_eq!((answer.status, &answer.json()["error"]["param"]), (404, &Value::Null));
}

#[tokio::test]
async fn an_azure_path_names_the_model() {
    let mock = mock().await;
    let path = "/openai/deployments/my-gpt/chat/completions?api-version=2024-10-21";
    let answer = post(&mock, path, &json!({"messages": []})).await;
    assert_eq!(answer.json()["model"], "my-gpt");
    assert!(answer.headers.contains_key("apim-request-id"));
}

#[tokio::test]
async fn requests_are_kept_as_they_arrived() {
    let mock = mock().await;
    let (_, end) = raw(&mock, "X-B: 1\r\nx-a: 2\r\nX-B: 3\r\nconnection: close\r\n").await;
    end.unwrap();
    post_http2(&mock, "/v1/embeddings?q=1", &json!({"input": "x"})).await;
    let received = mock.received();
    let [first, second] = received.as_slice() else { unreachable!("{received:?}") };
    assert_eq!(
        (first.method.as_str(), first.path.as_str(), first.connection),
        ("POST", "/v1/chat/completions", 1)
    );
    let names: Vec<_> =
        first.headers.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(names[1..4], ["x-b=1", "x-b=3", "x-a=2"]);
    assert_eq!(first.header("x-a"), Some("2"));
    assert_eq!(first.json()["stream"], true);
    assert_eq!((second.path.as_str(), second.connection), ("/v1/embeddings?q=1", 2));
    assert_eq!((mock.connections(), mock.open_requests(), mock.abandoned()), (2, 0, 0));
    mock.clear();
    assert!(mock.received().is_empty());
}

#[tokio::test]
async fn nothing_is_kept_when_recording_is_off() {
    let mock = Mock::start(Options { record: false, ..Options::default() }).await.unwrap();
    post(&mock, "/v1/chat/completions", &json!({})).await;
    assert!(mock.received().is_empty());
}

#[tokio::test]
async fn a_dropped_mock_no_longer_listens() {
    let mock = mock().await;
    let addr = mock.addr();
    drop(mock);
    while tokio::net::TcpStream::connect(addr).await.is_ok() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn control_routes_script_show_and_reset() {
    let mock = mock().await;
    let script = json!([
        {"status": 503, "headers": {"retry-after": "1"}, "times": 2},
        {"path": "/embeddings", "body": {"a": 1}, "latency": "1ms"},
        {"events": ["data: 1\n\n", "data: 2\n\n"], "cut": 1},
        "status=418",
    ]);
    assert_eq!(post(&mock, "/_mock/script", &script).await.json(), json!({"scripted": 5}));
    assert_eq!(post(&mock, "/v1/embeddings", &json!({})).await.json(), json!({"a": 1}));
    for expected in [503, 503, 200, 418] {
        assert_eq!(post(&mock, "/v1/chat/completions", &json!({})).await.status, expected);
    }
    let received = send(&mock, "GET", "/_mock/received", &[], "").await.json();
    assert_eq!(received.as_array().unwrap().len(), 5);
    assert_eq!(
        (&received[0]["path"], &received[0]["body"]),
        (&json!("/v1/embeddings"), &json!("{}"))
    );
    let stats = send(&mock, "GET", "/_mock/stats", &[], "").await.json();
    assert_eq!(
        stats,
        json!({"requests": 5, "open": 0, "abandoned": 0, "connections": 8, "scripted": 0})
    );
    post(&mock, "/_mock/reset", &json!({})).await;
    assert_eq!(send(&mock, "GET", "/_mock/received", &[], "").await.json(), json!([]));
    let wrong = post(&mock, "/_mock/script", &json!([{"status": 500}, {"stauts": 1}])).await;
    assert_eq!(wrong.status, 400);
    assert!(wrong.text().starts_with("reply 1: unknown field `stauts`"), "{}", wrong.text());
    assert_eq!(mock.scripted(), 0);
}

#[tokio::test]
async fn a_plain_mock_answers_as_others_do() {
    let options = Options { chunks: 5, ..Options::default() };
    let usual = Mock::start(options.clone()).await.unwrap();
    let gap = std::time::Duration::from_millis(1);
    for options in [
        Options { plain: true, ..options.clone() },
        Options { plain: true, chunk_gap: gap, ..options },
    ] {
        let plain = Mock::start(options).await.unwrap();
        for path in ["/v1/chat/completions", "/v1/messages"] {
            for stream in [false, true] {
                let body = json!({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}], "stream": stream});
                let (expected, got) =
                    (post(&usual, path, &body).await, post(&plain, path, &body).await);
                assert_eq!(got.status, 200);
                assert!(got.complete);
                assert_eq!(got.headers["content-type"], expected.headers["content-type"]);
                // `created` is each mock's start.
                let shape = |text: &str| {
                    text.split(r#""created":"#)
                        .map(|part| {
                            part.trim_start_matches(|c: char| c.is_ascii_digit()).to_owned()
                        })
                        .collect::<Vec<_>>()
                };
                assert_eq!(shape(got.text()), shape(expected.text()), "{path} stream={stream}");
            }
        }
    }
}
