"""What users of the official openai SDK see of kept answers."""

import json

import pytest
from conftest import TEXT

QUESTION = [{"role": "user", "content": "Asked once?"}]


def streamed(client, **more):
    """Reads a stream by the SDK's own helper; returns where it came from, the final answer and the usage."""
    stream = client.chat.completions.with_raw_response.create(messages=QUESTION, stream=True, **more)
    chunks = list(stream.parse())
    return stream.headers["x-llmux-cache"], chunks


@pytest.mark.parametrize("usage", [False, True])
def test_a_replayed_stream_is_a_stream(caching_client, usage):
    options = {"model": "plain", "seed": int(usage), "stream_options": {"include_usage": usage}}
    results = [streamed(caching_client, **options) for _ in range(2)]
    assert [source for source, _ in results] == ["miss", "hit"]
    for _, chunks in results:
        with_choices = [chunk for chunk in chunks if chunk.choices]
        text = "".join(chunk.choices[0].delta.content or "" for chunk in with_choices)
        assert text == TEXT
        assert with_choices[0].choices[0].delta.role == "assistant"
        assert with_choices[-1].choices[0].finish_reason == "stop"
        assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
        assert {chunk.model for chunk in chunks} == {"plain"}
        assert [chunk.usage is not None for chunk in chunks if not chunk.choices] == [True] * usage
    assert results[0][1][0].id == results[1][1][0].id


def test_tool_calls_are_replayed_by_the_helper_that_puts_them_together(caching_client):
    answers = []
    for _ in range(2):
        with caching_client.chat.completions.stream(model="two-tools", messages=QUESTION) as stream:
            answers.append(stream.get_final_completion())
    whole = caching_client.chat.completions.with_raw_response.create(model="two-tools", messages=QUESTION)
    assert whole.headers["x-llmux-cache"] == "hit"
    answers.append(whole.parse())
    for answer in answers:
        calls = answer.choices[0].message.tool_calls
        assert [call.function.name for call in calls] == ["get_weather", "get_time"]
        assert json.loads(calls[1].function.arguments) == {"zone": "Europe/Paris", "exact": True}
        assert [call.id for call in calls] == [call.id for call in answers[0].choices[0].message.tool_calls]
        assert answer.choices[0].finish_reason == "tool_calls"


def test_embeddings_are_kept(caching_client):
    def embed():
        raw = caching_client.embeddings.with_raw_response.create(model="plain", input="hello")
        return raw.headers["x-llmux-cache"], raw.parse().data[0].embedding

    (first, vector), (second, again) = embed(), embed()
    assert (first, second) == ("miss", "hit")
    assert vector == again
