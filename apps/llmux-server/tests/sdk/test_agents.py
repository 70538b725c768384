"""Agents: what Anthropic and Gemini are sent when a client of another vendor's SDK lets their models use tools."""

import copy
import json
import urllib.request

import anthropic
import openai
import pytest
from conftest import MASTER_KEY, TEXT, scripted

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": name,
            "description": f"Tells the {field}'s facts",
            "strict": True,
            "parameters": {
                "type": "object",
                "properties": {field: {"type": "string"}},
                "required": [field],
                "additionalProperties": False,
            },
        },
    }
    for name, field in [("get_weather", "city"), ("get_time", "zone")]
]
SYSTEM = "You plan trips."
QUESTION = "Where is it warmer, and what time is it there?"
# What the model does in its first two turns: what it thinks, and the calls. The third turn is text.
TURNS = [
    ("First the facts of Paris.", [("get_weather", {"city": "Paris"}), ("get_time", {"zone": "Europe/Paris"})]),
    ("Größe matters: now Oslo.", [("get_weather", {"city": "Oslo"}), ("get_time", {"zone": "Europe/Oslo"})]),
]
ANSWER = "Paris is warmer. 中文 🦀"
# Signatures are opaque base64.
SIGNATURES = ["RXJzdGUgVW50ZXJzY2hyaWZ0+/8=", "WndlaXRlIFVudGVyc2NocmlmdA=="]
MODES = ["whole", "stream", "helper"]


def run(name, arguments):
    return {"result": f"{name} of {' '.join(arguments.values())}"}


def collected(chunks):
    """Puts a stream together as clients do that know nothing of a gateway but the names of its extensions."""
    message = {"role": "assistant", "content": ""}
    calls = {}
    reason = None
    for chunk in chunks:
        for choice in chunk.choices:
            delta = choice.delta
            message["content"] += delta.content or ""
            thought = getattr(delta, "reasoning_content", None)
            if thought:
                message["reasoning_content"] = message.get("reasoning_content", "") + thought
            blocks = getattr(delta, "thinking_blocks", None)
            if blocks:
                message.setdefault("thinking_blocks", []).extend(blocks)
            extra = getattr(delta, "extra_content", None)
            if extra:
                message["extra_content"] = extra
            for call in delta.tool_calls or []:
                new = {"type": "function", "function": {"name": "", "arguments": ""}}
                known = calls.setdefault(call.index, new)
                if call.id:
                    known["id"] = call.id
                extra = getattr(call, "extra_content", None)
                if extra:
                    known["extra_content"] = extra
                known["function"]["name"] += call.function.name or ""
                known["function"]["arguments"] += call.function.arguments or ""
            reason = choice.finish_reason or reason
    if calls:
        message["tool_calls"] = [calls[index] for index in sorted(calls)]
    return message, reason


def turn(client, mode, request):
    """Asks once, and returns the message as the client sends it back, and why it ended."""
    if mode == "whole":
        choice = client.chat.completions.create(**request).choices[0]
        return choice.message.to_dict(), choice.finish_reason
    if mode == "stream":
        return collected(client.chat.completions.create(**request, stream=True))
    with client.chat.completions.stream(**request) as stream:
        choice = stream.get_final_completion().choices[0]
    return choice.message.to_dict(), choice.finish_reason


def converse(client, model, mode):
    """Runs tools until the model is content. Returns the ids of the calls, turn by turn."""
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": QUESTION}]
    ids = []
    for thought, calls in [*TURNS, (None, [])]:
        request = {"model": model, "messages": copy.deepcopy(messages), "tools": TOOLS, "reasoning_effort": "low"}
        message, reason = turn(client, mode, request)
        messages.append(message)
        if not calls:
            assert reason == "stop"
            assert message["content"] == ANSWER
            return ids
        assert reason == "tool_calls"
        assert message["reasoning_content"] == thought
        seen = [(call["function"]["name"], json.loads(call["function"]["arguments"])) for call in message["tool_calls"]]
        assert seen == calls
        ids.append([call["id"] for call in message["tool_calls"]])
        assert len(set(ids[-1])) == 2 and all(ids[-1])
        for call in message["tool_calls"]:
            result = run(call["function"]["name"], json.loads(call["function"]["arguments"]))
            messages.append({"role": "tool", "tool_call_id": call["id"], "content": json.dumps(result)})
    raise AssertionError("unreachable")


# Anthropic


def claude_turns():
    """The content of each of the model's messages."""
    said = []
    for place, (thought, calls) in enumerate(TURNS):
        blocks = [{"type": "thinking", "thinking": thought, "signature": SIGNATURES[place]}]
        if place == 1:
            blocks.append({"type": "text", "text": "One moment."})
        for index, (name, arguments) in enumerate(calls):
            blocks.append({"type": "tool_use", "id": f"toolu_{place}{index}", "name": name, "input": arguments})
        said.append(blocks)
    return [*said, [{"type": "text", "text": ANSWER}]]


def claude_message(content, **fields):
    reason = "tool_use" if content and content[-1]["type"] == "tool_use" else "end_turn"
    usage = {"input_tokens": 20, "output_tokens": 10}
    head = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-4-5"}
    return {**head, "content": content, "stop_reason": reason, "stop_sequence": None, "usage": usage, **fields}


def claude_events(content):
    """A message's events; texts come in two pieces."""
    whole = claude_message(content)
    events = [{"type": "message_start", "message": {**whole, "content": [], "stop_reason": None}}, {"type": "ping"}]
    for index, block in enumerate(content):
        kind = block["type"]
        if kind == "thinking":
            empty, text, key, delta = {"thinking": "", "signature": ""}, block["thinking"], "thinking", "thinking_delta"
        elif kind == "text":
            empty, text, key, delta = {"text": ""}, block["text"], "text", "text_delta"
        else:
            empty, text, key, delta = {"input": {}}, json.dumps(block["input"]), "partial_json", "input_json_delta"
        events.append({"type": "content_block_start", "index": index, "content_block": {**block, **empty}})
        for piece in (text[:5], text[5:]):
            events.append({"type": "content_block_delta", "index": index, "delta": {"type": delta, key: piece}})
        if kind == "thinking":
            signed = {"type": "signature_delta", "signature": block["signature"]}
            events.append({"type": "content_block_delta", "index": index, "delta": signed})
        events.append({"type": "content_block_stop", "index": index})
    end = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
    events.append({"type": "message_delta", "delta": end, "usage": {"output_tokens": 10}})
    events.append({"type": "message_stop"})
    return events


def claude_reply(content, streamed):
    if not streamed:
        return {"path": "/messages", "body": claude_message(content)}
    lines = [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in claude_events(content)]
    return {"path": "/messages", "events": lines, "content-type": "text/event-stream"}


@pytest.mark.parametrize("mode", MODES)
def test_an_agent_on_anthropic_sends_signed_thoughts_ids_and_results(client, mock, mode):
    said = claude_turns()
    with scripted(mock, [claude_reply(content, mode != "whole") for content in said]) as received:
        ids = converse(client, "claude", mode)
    assert ids == [["toolu_00", "toolu_01"], ["toolu_10", "toolu_11"]]
    requests = received()
    assert [request["path"] for request in requests] == ["/claude/v1/messages"] * 3
    for count, request in enumerate(requests):
        body = json.loads(request["body"])
        assert body["model"] == "claude-sonnet-4-5"
        assert body["thinking"]["type"] == "enabled"
        assert body["max_tokens"] > body["thinking"]["budget_tokens"] >= 1024
        assert body.get("stream", False) == (mode != "whole")
        assert [(tool["name"], tool["input_schema"]) for tool in body["tools"]] == [
            (tool["function"]["name"], tool["function"]["parameters"]) for tool in TOOLS
        ]
        assert SYSTEM in json.dumps(body["system"])
        messages = body["messages"]
        assert [message["role"] for message in messages] == ["user", "assistant"] * count + ["user"]
        assert QUESTION in json.dumps(messages[0])
        for place in range(count):
            assert messages[2 * place + 1]["content"] == said[place], "its own words, the thought first"
            results = messages[2 * place + 2]["content"]
            assert [(block["type"], block["tool_use_id"]) for block in results] == [
                ("tool_result", id) for id in ids[place]
            ]
            for block, (name, arguments) in zip(results, TURNS[place][1], strict=True):
                content = block["content"]
                text = content if isinstance(content, str) else "".join(part["text"] for part in content)
                assert json.loads(text) == run(name, arguments)
                assert not block.get("is_error")


@pytest.mark.parametrize("mode", MODES)
def test_several_thoughts_of_anthropic_come_back_each_with_its_signature(client, mock, mode):
    thoughts = [
        {"type": "thinking", "thinking": "One.", "signature": SIGNATURES[0]},
        {"type": "thinking", "thinking": "", "signature": SIGNATURES[1]},
    ]
    call = {"type": "tool_use", "id": "toolu_1", "name": "get_time", "input": {"zone": "UTC"}}
    contents = [[*thoughts, call], [{"type": "text", "text": "Noon."}]]
    messages = [{"role": "user", "content": QUESTION}]
    request = {"model": "claude", "messages": messages, "tools": TOOLS, "reasoning_effort": "low"}
    with scripted(mock, [claude_reply(content, mode != "whole") for content in contents]) as received:
        message, _ = turn(client, mode, request)
        messages += [message, {"role": "tool", "tool_call_id": "toolu_1", "content": "12:00"}]
        assert turn(client, mode, request)[0]["content"] == "Noon."
    assert json.loads(received()[1]["body"])["messages"][1]["content"] == [*thoughts, call]


# Gemini


def gemini_turns(ids):
    """The parts of each of the model's contents: a thought, then calls, of which the first alone is signed."""
    said = []
    for place, (thought, calls) in enumerate(TURNS):
        parts = [{"text": thought, "thought": True}]
        for index, (name, arguments) in enumerate(calls):
            call = {"name": name, "args": arguments}
            if ids:
                call["id"] = f"g{place}{index}"
            parts.append({"functionCall": call})
        parts[1]["thoughtSignature"] = SIGNATURES[place]
        said.append(parts)
    return [*said, [{"text": ANSWER}]]


def gemini_body(parts, **fields):
    usage = {"promptTokenCount": 20, "candidatesTokenCount": 10, "thoughtsTokenCount": 5, "totalTokenCount": 35}
    candidate = {"content": {"role": "model", "parts": parts}, "index": 0, **fields}
    return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "gemini-3-pro-preview"}


def gemini_reply(parts, streamed):
    if not streamed:
        return {"path": ":generateContent", "body": gemini_body(parts, finishReason="STOP")}
    bodies = [gemini_body([part]) for part in parts] + [gemini_body([{"text": ""}], finishReason="STOP")]
    events = [f"data: {json.dumps(body)}\r\n\r\n" for body in bodies]
    return {"path": ":streamGenerateContent", "events": events, "content-type": "text/event-stream"}


@pytest.mark.parametrize("with_ids", [False, True], ids=["without_ids", "with_ids"])
@pytest.mark.parametrize("mode", MODES)
def test_an_agent_on_gemini_sends_signatures_and_named_results(client, mock, mode, with_ids):
    said = gemini_turns(with_ids)
    with scripted(mock, [gemini_reply(parts, mode != "whole") for parts in said]) as received:
        ids = converse(client, "gemini", mode)
    if with_ids:
        assert ids == [["g00", "g01"], ["g10", "g11"]]
    method = "generateContent" if mode == "whole" else "streamGenerateContent?alt=sse"
    requests = received()
    assert [request["path"] for request in requests] == [f"/google/v1beta/models/gemini-3-pro-preview:{method}"] * 3
    for count, request in enumerate(requests):
        body = json.loads(request["body"])
        declared = [tool for tools in body["tools"] for tool in tools["functionDeclarations"]]
        assert [tool["name"] for tool in declared] == ["get_weather", "get_time"]
        assert SYSTEM in json.dumps(body["systemInstruction"])
        assert body["generationConfig"]["thinkingConfig"]["includeThoughts"] is True
        contents = body["contents"]
        assert [content["role"] for content in contents] == ["user", "model"] * count + ["user"]
        assert contents[0]["parts"] == [{"text": QUESTION}]
        for place in range(count):
            calls = contents[2 * place + 1]["parts"]
            assert [part.get("thoughtSignature") for part in calls] == [SIGNATURES[place], None]
            results = contents[2 * place + 2]["parts"]
            assert [set(part) for part in results] == [{"functionResponse"}] * 2
            for index, (name, arguments) in enumerate(TURNS[place][1]):
                call, result = calls[index]["functionCall"], results[index]["functionResponse"]
                assert (call["name"], call["args"]) == (name, arguments)
                assert (result["name"], result["response"]) == (name, run(name, arguments))
                assert call.get("id") == result.get("id"), "linked, or both without"
                if with_ids:
                    assert call["id"] == ids[place][index]


@pytest.mark.parametrize("texts", ["One", ["One"], ["One", "Größe 🦀", "One"]])
@pytest.mark.parametrize("options", [{}, {"encoding_format": "float"}], ids=["base64", "float"])
def test_gemini_embeddings(client, mock, texts, options):
    """Base64 is what the client asks for by itself."""
    many = [texts] if isinstance(texts, str) else texts
    vectors = [[0.5, -0.25, float(index)] for index in range(len(many))]
    single = {"path": ":embedContent", "body": {"embedding": {"values": vectors[0]}}}
    batch = {"path": ":batchEmbedContents", "body": {"embeddings": [{"values": vector} for vector in vectors]}}
    with scripted(mock, [single, batch]) as received:
        answer = client.embeddings.create(model="gemini-embedding", input=texts, dimensions=3, **options)
    assert answer.object == "list"
    assert answer.model == "gemini-embedding"
    assert [(item.object, item.index, item.embedding) for item in answer.data] == [
        ("embedding", index, vector) for index, vector in enumerate(vectors)
    ]
    (request,) = received()
    body = json.loads(request["body"])
    asked = body.get("requests", [body])
    assert [[part["text"] for part in item["content"]["parts"]] for item in asked] == [[text] for text in many]
    assert "gemini-embedding-001" in request["path"]


# Anthropic's own SDK

CLAUDE = {"model": "claude", "max_tokens": 100, "messages": [{"role": "user", "content": QUESTION}]}


@pytest.fixture(scope="module")
def claude(gateway):
    """The official client of the vendor. It never retries by itself."""
    with anthropic.Anthropic(base_url=gateway, api_key=MASTER_KEY, max_retries=0, timeout=60) as client:
        yield client


def test_messages_with_the_vendors_own_sdk(claude, mock):
    with scripted(mock, []) as received:
        message = claude.messages.create(**CLAUDE)
    assert message.type == "message"
    assert message.role == "assistant"
    assert [(block.type, block.text) for block in message.content] == [("text", TEXT)]
    assert message.stop_reason == "end_turn"
    assert message.usage.input_tokens > 0 and message.usage.output_tokens > 0
    (request,) = received()
    headers = {name.lower(): value for name, value in request["headers"]}
    assert headers["x-api-key"] == "sk-ant"
    assert headers["anthropic-version"] == claude.default_headers["anthropic-version"]
    assert MASTER_KEY not in json.dumps(request), "the client's key stays here"
    assert json.loads(request["body"]) == {**CLAUDE, "model": "claude-sonnet-4-5"}


def test_a_stream_with_the_vendors_own_sdk(claude):
    with claude.messages.stream(**CLAUDE) as stream:
        assert "".join(stream.text_stream) == TEXT
        message = stream.get_final_message()
    assert message.stop_reason == "end_turn"
    assert message.content[0].text == TEXT
    assert message.usage.output_tokens > 0


@pytest.mark.parametrize("streamed", [False, True])
def test_tools_with_the_vendors_own_sdk(claude, mock, streamed):
    said = claude_turns()
    tools = [{"name": tool["function"]["name"], "input_schema": tool["function"]["parameters"]} for tool in TOOLS]
    messages = [{"role": "user", "content": QUESTION}]
    with scripted(mock, [claude_reply(content, streamed) for content in said]) as received:
        for place in range(3):
            asked = {"tools": tools, "thinking": {"type": "enabled", "budget_tokens": 1024}}
            asked |= {"model": "claude", "max_tokens": 2048, "messages": list(messages)}
            if streamed:
                with claude.messages.stream(**asked) as stream:
                    message = stream.get_final_message()
            else:
                message = claude.messages.create(**asked)
            messages.append({"role": "assistant", "content": message.content})
            calls = [block for block in message.content if block.type == "tool_use"]
            results = [{"type": "tool_result", "tool_use_id": call.id, "content": "warm"} for call in calls]
            messages.append({"role": "user", "content": results})
    assert message.content[0].text == ANSWER
    last = json.loads(received()[2]["body"])["messages"]
    for place in range(2):
        sent = [{key: value for key, value in block.items() if value is not None} for block in last[2 * place + 1]["content"]]
        assert sent == said[place]
        assert [block["tool_use_id"] for block in last[2 * place + 2]["content"]] == [f"toolu_{place}0", f"toolu_{place}1"]


def test_count_tokens_with_the_vendors_own_sdk(claude, mock):
    with scripted(mock, []) as received:
        count = claude.messages.count_tokens(model="claude", messages=CLAUDE["messages"])
    assert count.input_tokens > 0
    (request,) = received()
    assert request["path"].endswith("/v1/messages/count_tokens")
    assert json.loads(request["body"])["model"] == "claude-sonnet-4-5"


@pytest.mark.parametrize(
    ("status", "kind", "error"),
    [
        (400, "invalid_request_error", anthropic.BadRequestError),
        (429, "rate_limit_error", anthropic.RateLimitError),
        (529, "overloaded_error", anthropic.APIStatusError),
    ],
)
@pytest.mark.parametrize("streamed", [False, True])
def test_errors_with_the_vendors_own_sdk(claude, mock, status, kind, error, streamed):
    body = {"type": "error", "error": {"type": kind, "message": "max_tokens: too many"}, "request_id": "req_1"}
    with scripted(mock, [{"path": "/messages", "status": status, "body": body, "content-type": "application/json"}]):
        with pytest.raises(error) as caught:
            claude.messages.create(**CLAUDE, stream=streamed)
    assert caught.value.body["type"] == "error"
    assert caught.value.body["error"]["type"] == kind
    assert caught.value.status_code == (503 if status == 529 else status)
    assert "max_tokens: too many" in caught.value.message


def test_an_unknown_model_is_an_error_of_the_vendors_own_sdk(claude):
    with pytest.raises(anthropic.NotFoundError) as caught:
        claude.messages.create(**{**CLAUDE, "model": "nonsense"})
    assert caught.value.body["error"]["type"] == "not_found_error"


def test_a_refused_key_is_an_error_of_the_vendors_own_sdk(gateway):
    with anthropic.Anthropic(base_url=gateway, api_key="sk-wrong", max_retries=0) as stranger:
        with pytest.raises(anthropic.AuthenticationError) as caught:
            stranger.messages.create(**CLAUDE)
    assert caught.value.body["error"]["type"] == "authentication_error"


def test_an_error_in_a_stream_is_an_error_of_the_vendors_own_sdk(claude, mock):
    events = claude_events([{"type": "text", "text": "Half a word"}])[:4]
    events.append({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}})
    lines = [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events]
    with scripted(mock, [{"path": "/messages", "events": lines, "content-type": "text/event-stream"}]):
        with pytest.raises(anthropic.APIStatusError, match="(?i)overloaded"):
            list(claude.messages.create(**CLAUDE, stream=True))


def test_errors_of_other_vendors_are_the_clients_own(client, mock):
    """What Anthropic and Gemini refuse is an exception of the SDK that asked."""
    refusal = {"type": "error", "error": {"type": "invalid_request_error", "message": "messages: too long"}}
    google = {"error": {"code": 400, "message": "messages: too long", "status": "INVALID_ARGUMENT"}}
    replies = [
        {"path": "/messages", "status": 400, "body": refusal, "content-type": "application/json"},
        {"path": "generateContent", "status": 400, "body": google, "content-type": "application/json"},
    ]
    with scripted(mock, replies):
        for model in ("claude", "gemini"):
            with pytest.raises(openai.BadRequestError, match="messages: too long") as caught:
                client.chat.completions.create(model=model, messages=[{"role": "user", "content": QUESTION}])
            assert caught.value.type == "invalid_request_error"
