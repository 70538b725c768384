"""What users of the official openai SDK and of curl see of the gateway."""

import base64
import json
import struct
import subprocess

import openai
import pydantic
import pytest
from conftest import MASTER_KEY, TEXT

QUESTION = [{"role": "user", "content": "What does the fox do?"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Tells the weather",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
MODELS = ["plain", "team/alias", "mock/plain", "azure-model"]


# Chat


@pytest.mark.parametrize("model", MODELS)
def test_chat(client, model):
    answer = client.chat.completions.create(model=model, messages=QUESTION)
    assert answer.object == "chat.completion"
    assert answer.model == model
    assert len(answer.choices) == 1
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].message.content == TEXT
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 0


@pytest.mark.parametrize("model", MODELS)
def test_chat_stream(client, model):
    with client.chat.completions.create(model=model, messages=QUESTION, stream=True) as stream:
        chunks = list(stream)
    assert len(chunks) > 3
    assert {chunk.model for chunk in chunks} == {model}
    assert len({chunk.id for chunk in chunks}) == 1
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    assert all(len(chunk.choices) == 1 for chunk in chunks), "no usage chunk for who did not ask"
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == TEXT
    reasons = [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices[0].finish_reason]
    assert reasons == ["stop"]
    assert all(chunk.usage is None for chunk in chunks)


@pytest.mark.parametrize("model", MODELS)
def test_chat_stream_with_usage(client, model):
    options = {"include_usage": True}
    chunks = list(client.chat.completions.create(model=model, messages=QUESTION, stream=True, stream_options=options))
    assert chunks[-1].choices == []
    usage = chunks[-1].usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens > 0
    assert all(chunk.usage is None and len(chunk.choices) == 1 for chunk in chunks[:-1])


def test_several_choices(client):
    answer = client.chat.completions.create(model="plain", messages=QUESTION, n=3)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    chunks = list(client.chat.completions.create(model="plain", messages=QUESTION, n=3, stream=True))
    for index in range(3):
        pieces = [c.choices[0].delta.content or "" for c in chunks if c.choices[0].index == index]
        assert "".join(pieces) == TEXT


def test_a_cut_answer_says_length(client):
    answer = client.chat.completions.create(model="too-long", messages=QUESTION, max_completion_tokens=5)
    assert answer.choices[0].finish_reason == "length"


def test_reasoning_is_passed_on(client):
    answer = client.chat.completions.create(model="reasoning", messages=QUESTION)
    assert answer.choices[0].message.reasoning_content == "Let me think."
    chunks = list(client.chat.completions.create(model="reasoning", messages=QUESTION, stream=True))
    thoughts = [getattr(chunk.choices[0].delta, "reasoning_content", None) or "" for chunk in chunks]
    assert "".join(thoughts) == "Let me think."


async def ask_many(gateway):
    import asyncio

    async with openai.AsyncOpenAI(base_url=f"{gateway}/v1", api_key=MASTER_KEY, max_retries=0) as client:

        async def one():
            stream = await client.chat.completions.create(model="plain", messages=QUESTION, stream=True)
            return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

        return await asyncio.gather(*[one() for _ in range(50)])


def test_many_at_once(gateway):
    import asyncio

    assert asyncio.run(ask_many(gateway)) == [TEXT] * 50


# Tools


def test_tool_call(client):
    answer = client.chat.completions.create(
        model="plain", messages=QUESTION, tools=[WEATHER], tool_choice={"type": "function", "function": {"name": "get_weather"}}
    )
    message = answer.choices[0].message
    assert answer.choices[0].finish_reason == "tool_calls"
    assert message.content is None
    assert len(message.tool_calls) == 1
    call = message.tool_calls[0]
    assert (call.type, call.function.name) == ("function", "get_weather")
    assert call.id
    assert isinstance(json.loads(call.function.arguments)["city"], str)
    history = [*QUESTION, message.to_dict(), {"role": "tool", "tool_call_id": call.id, "content": "sunny"}]
    assert client.chat.completions.create(model="plain", messages=history, tools=[WEATHER]).choices[0].message.content == TEXT


def test_parallel_tool_calls(client):
    answer = client.chat.completions.create(model="two-tools", messages=QUESTION, tools=[WEATHER], parallel_tool_calls=True)
    calls = answer.choices[0].message.tool_calls
    assert [call.function.name for call in calls] == ["get_weather", "get_time"]
    assert [json.loads(call.function.arguments) for call in calls] == [
        {"city": "Paris"},
        {"zone": "Europe/Paris", "exact": True},
    ]
    assert len({call.id for call in calls}) == 2


def test_parallel_tool_calls_in_a_stream(client):
    calls = {}
    reason = None
    for chunk in client.chat.completions.create(model="two-tools", messages=QUESTION, tools=[WEATHER], stream=True):
        reason = chunk.choices[0].finish_reason or reason
        for piece in chunk.choices[0].delta.tool_calls or []:
            call = calls.setdefault(piece.index, {"id": piece.id, "name": piece.function.name, "arguments": ""})
            call["arguments"] += piece.function.arguments or ""
    assert reason == "tool_calls"
    assert sorted(calls) == [0, 1]
    assert (calls[0]["name"], json.loads(calls[0]["arguments"])) == ("get_weather", {"city": "Paris"})
    assert (calls[1]["name"], json.loads(calls[1]["arguments"])) == ("get_time", {"zone": "Europe/Paris", "exact": True})
    assert calls[0]["id"] and calls[1]["id"] and calls[0]["id"] != calls[1]["id"]


# Structured output


class Fox(pydantic.BaseModel):
    name: str
    jumps: int
    colours: list[str]


def test_json_schema(client):
    schema = {"type": "json_schema", "json_schema": {"name": "fox", "strict": True, "schema": Fox.model_json_schema()}}
    answer = client.chat.completions.create(model="plain", messages=QUESTION, response_format=schema)
    assert answer.choices[0].finish_reason == "stop"
    Fox.model_validate_json(answer.choices[0].message.content)


def test_parse(client):
    answer = client.chat.completions.parse(model="plain", messages=QUESTION, response_format=Fox)
    assert isinstance(answer.choices[0].message.parsed, Fox)


def test_parse_a_stream(client):
    with client.chat.completions.stream(model="plain", messages=QUESTION, response_format=Fox) as stream:
        final = stream.get_final_completion()
    assert isinstance(final.choices[0].message.parsed, Fox)
    assert final.model == "plain"


# Embeddings


@pytest.mark.parametrize("model", ["plain", "azure-model"])
def test_embeddings(client, model):
    answer = client.embeddings.create(model=model, input=["one", "two", "three"])
    assert answer.model == model
    assert [item.index for item in answer.data] == [0, 1, 2]
    assert all(len(item.embedding) == 1536 and isinstance(item.embedding[0], float) for item in answer.data)
    assert answer.usage.prompt_tokens > 0
    plain = client.embeddings.create(model=model, input=["one", "two", "three"], encoding_format="float")
    for decoded, floats in zip(answer.data, plain.data, strict=True):
        assert decoded.embedding == pytest.approx(floats.embedding, abs=1e-6)


def test_embeddings_in_base64(client):
    answer = client.embeddings.with_raw_response.create(model="plain", input="one", encoding_format="base64", dimensions=8)
    vector = base64.b64decode(json.loads(answer.text)["data"][0]["embedding"])
    assert len(struct.unpack("<8f", vector)) == 8


def test_embeddings_of_tokens(client):
    answer = client.embeddings.create(model="plain", input=[[1, 2, 3], [4, 5]], dimensions=16)
    assert [len(item.embedding) for item in answer.data] == [16, 16]


# Responses


def test_responses(client):
    answer = client.responses.create(model="team/alias", input="What does the fox do?")
    assert answer.output_text == TEXT
    assert answer.model == "team/alias"
    assert answer.status == "completed"
    assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens > 0


def test_responses_stream(client):
    events = list(client.responses.create(model="team/alias", input="x", stream=True))
    assert [events[0].type, events[-1].type] == ["response.created", "response.completed"]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == TEXT
    assert {event.response.model for event in events if hasattr(event, "response")} == {"team/alias"}


def test_responses_parse(client):
    answer = client.responses.parse(model="plain", input="x", text_format=Fox)
    assert isinstance(answer.output_parsed, Fox)


def test_responses_error_event(client):
    with pytest.raises(openai.APIError, match="Lost my mind"):
        list(client.responses.create(model="error-event", input="x", stream=True))


# The other endpoints


def test_completions(client):
    answer = client.completions.create(model="plain", prompt="Once")
    assert (answer.object, answer.model, answer.choices[0].text) == ("text_completion", "plain", TEXT)
    answer = client.completions.create(model="plain", prompt=["Once", "Twice"])
    assert [choice.index for choice in answer.choices] == [0, 1]
    chunks = list(client.completions.create(model="plain", prompt="Once", stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == TEXT
    assert {chunk.model for chunk in chunks} == {"plain"}


def test_moderations(client):
    answer = client.moderations.create(model="plain", input=["fine", "fine too"])
    assert [result.flagged for result in answer.results] == [False, False]
    assert answer.model == "plain"


def test_speech(client):
    answer = client.audio.speech.create(model="plain", voice="alloy", input="hello", response_format="wav")
    assert answer.content[:4] == b"RIFF" and len(answer.content) > 1000
    with client.audio.speech.with_streaming_response.create(model="plain", voice="alloy", input="hello") as stream:
        assert stream.headers["content-type"] == "audio/mpeg"
        assert b"".join(stream.iter_bytes())[:2] == b"\xff\xfb"


@pytest.mark.parametrize("model", ["plain", "team/alias"])
def test_transcriptions(client, model):
    audio = ("a.wav", b"RIFF\x00\xff\r\n--" + bytes(range(256)) * 100, "audio/wav")
    assert client.audio.transcriptions.create(model=model, file=audio).text == TEXT
    events = list(client.audio.transcriptions.create(model=model, file=audio, stream=True))
    assert events[-1].type == "transcript.text.done" and events[-1].text == TEXT


def test_images(client):
    answer = client.images.generate(model="plain", prompt="a fox", n=2)
    assert [base64.b64decode(image.b64_json)[1:4] for image in answer.data] == [b"PNG", b"PNG"]


def test_models(client):
    models = client.models.list().data
    ids = [model.id for model in models]
    assert ids == sorted(ids)
    assert {"plain", "team/alias", "azure-model", "limited"} <= set(ids)
    assert all(model.object == "model" and model.created >= 0 and model.owned_by for model in models)
    for name in ["plain", "team/alias"]:
        assert client.models.retrieve(name).id == name
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nope")


# Azure's client


def test_azure_client(gateway):
    client = openai.AzureOpenAI(azure_endpoint=gateway, api_key=MASTER_KEY, api_version="2024-10-21", max_retries=0)
    with client:
        for model in ["plain", "azure-model"]:
            answer = client.chat.completions.create(model=model, messages=QUESTION)
            assert (answer.model, answer.choices[0].message.content) == (model, TEXT)
            chunks = list(client.chat.completions.create(model=model, messages=QUESTION, stream=True))
            assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == TEXT
            assert len(client.embeddings.create(model=model, input="x").data[0].embedding) == 1536
        with pytest.raises(openai.NotFoundError):
            client.chat.completions.create(model="nope", messages=QUESTION)


def test_azure_client_with_a_wrong_key(gateway):
    client = openai.AzureOpenAI(azure_endpoint=gateway, api_key="wrong", api_version="2024-10-21", max_retries=0)
    with client, pytest.raises(openai.AuthenticationError):
        client.chat.completions.create(model="plain", messages=QUESTION)


# Errors

ERRORS = [
    # model, exception, status, type, code, part of the message
    ("nope", openai.NotFoundError, 404, "invalid_request_error", "model_not_found", "nope"),
    ("bad-request", openai.BadRequestError, 400, None, "wrong_thing", "Wrong thing"),
    ("refused-key", openai.InternalServerError, 502, None, None, ""),
    ("no-credit", openai.InternalServerError, 502, None, None, ""),
    ("forbidden", openai.PermissionDeniedError, 403, None, "unsupported_country", "Not in your country"),
    ("gone", openai.NotFoundError, 404, None, "model_not_found", "No such deployment"),
    ("unprocessable", openai.UnprocessableEntityError, 422, None, None, "Cannot process"),
    ("limited", openai.RateLimitError, 429, None, None, "Slow down"),
    ("broken", openai.InternalServerError, 502, None, None, "Oops"),
    ("overloaded", openai.InternalServerError, 503, None, None, "Busy"),
    ("hanging", openai.InternalServerError, 504, None, None, ""),
    ("garbage", openai.InternalServerError, 502, None, None, ""),
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("model", "exception", "status", "kind", "code", "message"), ERRORS)
def test_errors(client, model, exception, status, kind, code, message, stream):
    with pytest.raises(exception) as caught:
        client.chat.completions.create(model=model, messages=QUESTION, stream=stream)
    error = caught.value
    assert error.status_code == status
    assert set(error.body) >= {"message", "type", "param", "code"}
    assert message in error.body["message"]
    if kind:
        assert error.type == kind
    if code:
        assert error.code == code
    if model in ("refused-key", "no-credit"):
        assert "upstream_authentication_error" in (error.type, error.code)
    if status in (429, 503):
        assert int(error.response.headers["retry-after"]) >= 1
    assert error.response.headers["x-request-id"]


@pytest.mark.parametrize("key", ["wrong", MASTER_KEY[:-1], MASTER_KEY + "x"])
def test_a_wrong_key(gateway, key):
    with openai.OpenAI(base_url=f"{gateway}/v1", api_key=key, max_retries=0) as client:
        for call in [
            lambda: client.chat.completions.create(model="plain", messages=QUESTION),
            lambda: client.chat.completions.create(model="nope", messages=QUESTION, stream=True),
            lambda: client.embeddings.create(model="plain", input="x"),
            lambda: client.models.list(),
        ]:
            with pytest.raises(openai.AuthenticationError) as caught:
                call()
            assert (caught.value.status_code, caught.value.type, caught.value.code) == (401, "authentication_error", "invalid_api_key")


def test_bad_requests(client):
    for model in [{}, {"model": 1}, {"model": ""}, {"model": "x" * 257}]:
        with pytest.raises(openai.BadRequestError) as caught:
            client.post("/chat/completions", body={"messages": QUESTION, **model}, cast_to=object)
        assert (caught.value.type, caught.value.param) == ("invalid_request_error", "model")
    with pytest.raises(openai.NotFoundError) as caught:
        client.post("/nope", body={}, cast_to=object)
    assert caught.value.type == "invalid_request_error"
    with pytest.raises(openai.APIStatusError) as caught:
        client.get("/chat/completions", cast_to=object)
    assert caught.value.status_code == 405


def test_the_clients_own_timeout(client):
    with pytest.raises(openai.APITimeoutError):
        client.with_options(timeout=0.3).chat.completions.create(model="hanging", messages=QUESTION)


@pytest.mark.parametrize(("model", "message"), [("error-event", "Lost my mind"), ("cut", None)])
def test_an_error_inside_a_stream(client, model, message):
    chunks = []
    with pytest.raises(openai.APIError, match=message) as caught:
        for chunk in client.chat.completions.create(model=model, messages=QUESTION, stream=True):
            chunks.append(chunk)
    assert not isinstance(caught.value, openai.APIConnectionError), "the body ends properly"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert TEXT.startswith("".join(chunk.choices[0].delta.content or "" for chunk in chunks))
    assert all(chunk.choices[0].finish_reason is None for chunk in chunks)


def test_an_error_before_the_first_output_is_a_status(client):
    with pytest.raises(openai.InternalServerError, match="Never had one"):
        client.chat.completions.create(model="early-error-event", messages=QUESTION, stream=True)


# curl


def curl(*arguments):
    done = subprocess.run(["curl", "-sS", "--max-time", "60", *arguments], capture_output=True, check=True)
    return done.stdout.decode()


def test_curl(gateway):
    key = ["-H", f"Authorization: Bearer {MASTER_KEY}"]
    body = ["-H", "Content-Type: application/json", "-d", json.dumps({"model": "plain", "messages": QUESTION})]
    answer = json.loads(curl(*key, *body, f"{gateway}/v1/chat/completions"))
    assert answer["choices"][0]["message"]["content"] == TEXT
    # As most people type it: curl then calls the body a form.
    answer = json.loads(curl(*key, "-d", body[-1], f"{gateway}/v1/chat/completions"))
    assert answer["choices"][0]["message"]["content"] == TEXT
    assert json.loads(curl(*key, f"{gateway}/v1/models"))["object"] == "list"
    assert json.loads(curl(f"{gateway}/health/ready"))["status"] == "ok"
    refused = curl(*body, "-w", "\n%{http_code}", f"{gateway}/v1/chat/completions").rsplit("\n", 1)
    assert refused[1] == "401"
    assert json.loads(refused[0])["error"]["code"] == "invalid_api_key"


def test_curl_stream(gateway):
    body = json.dumps({"model": "plain", "messages": QUESTION, "stream": True})
    output = curl("-N", "-i", "-H", f"x-api-key: {MASTER_KEY}", "-H", "Content-Type: application/json", "-d", body, f"{gateway}/v1/chat/completions")
    head, stream = output.replace("\r\n", "\n").split("\n\n", 1)
    assert head.startswith("HTTP/1.1 200")
    assert "content-type: text/event-stream" in head.lower()
    events = [event for event in stream.split("\n\n") if event]
    assert events[-1] == "data: [DONE]" and events.count("data: [DONE]") == 1
    assert all(event.startswith("data: ") for event in events)
    pieces = [json.loads(event[6:])["choices"][0]["delta"].get("content") or "" for event in events[:-1]]
    assert "".join(pieces) == TEXT


def test_curl_upload(gateway, tmp_path):
    audio = tmp_path / "a.wav"
    audio.write_bytes(b"RIFF" + bytes(5000))
    key = ["-H", f"api-key: {MASTER_KEY}"]
    answer = curl(*key, "-F", f"file=@{audio}", "-F", "model=team/alias", f"{gateway}/v1/audio/transcriptions")
    assert json.loads(answer)["text"] == TEXT
