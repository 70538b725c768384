use llmux_types::FailureClass;

use super::*;

struct Run {
    out: String,
    result: Result<(), StreamFailure>,
    relay: Relay,
}

fn run(endpoint: Endpoint, hide_usage: bool, pieces: &[&[u8]]) -> Run {
    let mut relay = Relay::new(endpoint, "fast", hide_usage);
    let mut out = BytesMut::new();
    let mut result = Ok(());
    for piece in pieces {
        if let Err(failure) = relay.feed(piece, &mut out) {
            result = Err(failure);
            break;
        }
    }
    if result.is_ok() {
        result = relay.finish(&mut out);
    }
    Run { out: String::from_utf8(out.to_vec()).expect("text"), result, relay }
}

fn chat(stream: &str) -> Run {
    run(Endpoint::ChatCompletions, true, &[stream.as_bytes()])
}

const ROLE: &str = r#"data: {"model":"up","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}"#;
const TEXT: &str =
    r#"data: {"model":"up","choices":[{"index":0,"delta":{"content":"hé"},"finish_reason":null}]}"#;
const STOP: &str =
    r#"data: {"model":"up","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;
const USAGE: &str = r#"data: {"model":"up","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4}}"#;
const DONE: &str = "data: [DONE]";

fn stream(events: &[&str], end: &str) -> String {
    events.iter().map(|event| format!("{event}{end}")).collect()
}

#[test]
fn events_pass_with_the_clients_name_of_the_model_and_without_the_hidden_usage() {
    for end in ["\n\n", "\r\n\r\n"] {
        let whole = stream(&[": ping", ROLE, TEXT, STOP, USAGE, DONE], end);
        let run = chat(&whole);
        run.result.expect("whole");
        let expected =
            stream(&[": ping", ROLE, TEXT, STOP, DONE], end).replace("\"up\"", "\"fast\"");
        assert_eq!(run.out, expected);
        let summary = run.relay.summary();
        assert_eq!(summary.finish_reason.as_deref(), Some("stop"));
        assert_eq!(summary.usage.and_then(|usage| usage.total_tokens), Some(4));
    }
}

#[test]
fn usage_that_was_asked_for_is_shown() {
    let whole = stream(&[TEXT, STOP, USAGE, DONE], "\n\n");
    let run = run(Endpoint::ChatCompletions, false, &[whole.as_bytes()]);
    assert_eq!(run.out, whole.replace("\"up\"", "\"fast\""));
}

#[test]
fn every_split_position_gives_the_same_bytes() {
    let whole = stream(&[": ping", ROLE, TEXT, STOP, USAGE, DONE], "\r\n\r\n");
    let expected = chat(&whole).out;
    for at in 0..=whole.len() {
        let (left, right) = whole.as_bytes().split_at(at);
        let run = run(Endpoint::ChatCompletions, true, &[left, right]);
        run.result.expect("whole");
        assert_eq!(run.out, expected, "split at {at}");
    }
}

#[test]
fn there_is_exactly_one_done_marker() {
    for (events, shown) in [
        (vec![TEXT, STOP, DONE, DONE], 1),
        (vec![TEXT, STOP], 1),
        (vec![TEXT, STOP, DONE, TEXT], 1),
    ] {
        let run = chat(&stream(&events, "\n\n"));
        run.result.expect("whole");
        assert_eq!(run.out.matches("[DONE]").count(), shown);
        assert!(run.out.ends_with("data: [DONE]\n\n"));
    }
}

#[test]
fn a_missing_last_blank_line_is_made_up_for() {
    let run = chat(&format!("{}{DONE}", stream(&[TEXT, STOP], "\n\n")));
    run.result.expect("whole");
    assert!(run.out.ends_with("data: [DONE]\n\n"), "{}", run.out);
}

#[test]
fn a_stream_without_its_end_failed() {
    for events in [vec![], vec![ROLE, TEXT]] {
        let run = chat(&stream(&events, "\n\n"));
        assert!(matches!(run.result, Err(StreamFailure::Truncated)));
        assert!(!run.out.contains("[DONE]"));
    }
}

#[test]
fn roles_and_empty_shells_are_no_output() {
    for (delta, output) in [
        (r#"{"role":"assistant","content":""}"#, false),
        (r#"{"role":"assistant","content":null,"refusal":null,"tool_calls":[]}"#, false),
        (r#"{"function_call":{"name":"","arguments":""}}"#, false),
        ("{}", false),
        (r#"{"content":" "}"#, true),
        (r#"{"reasoning_content":"hm"}"#, true),
        (
            r#"{"tool_calls":[{"index":0,"id":"call","function":{"name":"f","arguments":""}}]}"#,
            true,
        ),
    ] {
        let mut relay = Relay::new(Endpoint::ChatCompletions, "m", true);
        let event = format!(
            "data: {{\"choices\":[{{\"index\":0,\"delta\":{delta},\"finish_reason\":null}}]}}\n\n"
        );
        relay.feed(event.as_bytes(), &mut BytesMut::new()).expect("fine");
        assert_eq!(relay.progress().output, output, "{delta}");
    }
    let azure = "data: {\"choices\":[],\"model\":\"\",\"prompt_filter_results\":[]}\n\n";
    let mut relay = Relay::new(Endpoint::ChatCompletions, "m", true);
    relay.feed(azure.as_bytes(), &mut BytesMut::new()).expect("fine");
    assert_eq!(relay.progress(), Progress::default());
}

#[test]
fn errors_inside_the_stream_are_failures() {
    let plain = r#"data: {"error":{"message":"boom","type":"server_error"}}"#;
    let named = "event: error\ndata: {\"error\":{\"message\":\"boom\",\"status_code\":400}}";
    let with_choices = r#"data: {"error":{"code":429,"message":"boom"},"choices":[{"delta":{"content":""}}],"usage":{"prompt_tokens":3}}"#;
    for (event, class) in [
        (plain, FailureClass::Server),
        (named, FailureClass::Request),
        (with_choices, FailureClass::RateLimited),
    ] {
        let run = chat(&stream(&[TEXT, event, DONE], "\n\n"));
        let Err(StreamFailure::Rejected(rejection)) = run.result else { unreachable!("{event}") };
        assert_eq!(rejection.error.message, "boom");
        assert_eq!(rejection.class, class);
        assert!(run.out.contains("hé") && !run.out.contains("boom") && !run.out.contains("[DONE]"));
    }
}

#[test]
fn an_event_that_is_not_json_is_a_failure() {
    let run = chat(&stream(&[TEXT, "data: <html>"], "\n\n"));
    assert!(matches!(run.result, Err(StreamFailure::Malformed)));
}

#[test]
fn members_given_twice_hide_nothing() {
    let twice = r#"data: {"model":"up","model":"up","choices":[{"delta":{"content":"x"},"finish_reason":"stop"}]}"#;
    let run = chat(&stream(&[twice, DONE], "\n\n"));
    run.result.expect("whole");
    assert!(!run.out.contains("up"), "{}", run.out);
    let error = r#"data: {"model":"up","model":"up","error":{"message":"boom"}}"#;
    assert!(matches!(chat(&stream(&[error], "\n\n")).result, Err(StreamFailure::Rejected(_))));
}

#[test]
fn data_of_several_lines_is_one_event() {
    let run = chat(&stream(
        &[
            "data: {\"model\":\"up\",\ndata: \"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}",
            DONE,
        ],
        "\n\n",
    ));
    run.result.expect("whole");
    assert!(run.out.starts_with("data: {\"model\":\"fast\",\ndata: \"choices\""), "{}", run.out);
}

const CREATED: &str = "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"r\",\"model\":\"up\",\"status\":\"in_progress\"}}";
const DELTA: &str = "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"x\"}";
const COMPLETED: &str = "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"model\":\"up\",\"status\":\"completed\",\"output\":[{\"type\":\"message\"}],\"usage\":{\"input_tokens\":1,\"output_tokens\":2,\"total_tokens\":3}}}";

#[test]
fn responses_end_with_their_own_event() {
    let whole = stream(&[CREATED, DELTA, COMPLETED], "\n\n");
    let run = run(Endpoint::Responses, true, &[whole.as_bytes()]);
    run.result.expect("whole");
    assert_eq!(run.out, whole.replace("\"up\"", "\"fast\""));
    let summary = run.relay.summary();
    assert_eq!(summary.finish_reason.as_deref(), Some("stop"));
    assert_eq!(summary.usage.and_then(|usage| usage.completion_tokens), Some(2));
}

#[test]
fn responses_fail_when_they_say_so_or_stop_early() {
    let failed = "event: response.failed\ndata: {\"type\":\"response.failed\",\"response\":{\"status\":\"failed\",\"error\":{\"code\":\"rate_limit_exceeded\",\"message\":\"slow\"}}}";
    let early = run(Endpoint::Responses, true, &[stream(&[CREATED, failed], "\n\n").as_bytes()]);
    let Err(StreamFailure::Rejected(rejection)) = early.result else {
        unreachable!("before output")
    };
    assert_eq!(
        (rejection.class, rejection.error.message.as_str()),
        (FailureClass::RateLimited, "slow")
    );

    let late =
        run(Endpoint::Responses, true, &[stream(&[CREATED, DELTA, failed], "\n\n").as_bytes()]);
    assert!(matches!(late.result, Err(StreamFailure::Told(_))));
    assert!(late.out.contains("response.failed"));

    let cut = run(Endpoint::Responses, true, &[stream(&[CREATED, DELTA], "\n\n").as_bytes()]);
    assert!(matches!(cut.result, Err(StreamFailure::Truncated)));
}

#[test]
fn the_service_tier_of_a_stream_is_the_last_one_told() {
    let tier =
        |word: &str| TEXT.replace(r#"{"model""#, &format!(r#"{{"service_tier":{word},"model""#));
    for (word, expected) in
        [("\"priority\"", Some(ServiceTier::Priority)), ("\"default\"", None), ("null", None)]
    {
        let run = chat(&stream(&[ROLE, &tier(word), STOP, USAGE, DONE], "\n\n"));
        run.result.expect("whole");
        let usage = run.relay.summary().usage.expect("usage");
        assert_eq!(usage.service_tier, expected, "{word}");
    }
    let event = r#"data: {"type":"response.completed","response":{"status":"completed","service_tier":"flex","usage":{"input_tokens":3}}}"#;
    let run = run(Endpoint::Responses, false, &[stream(&[event], "\n\n").as_bytes()]);
    let usage = run.relay.summary().usage.expect("usage");
    assert_eq!(usage.service_tier, Some(ServiceTier::Flex));
}
