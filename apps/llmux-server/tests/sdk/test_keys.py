"""Virtual keys, as the official clients see them."""

import json
import urllib.error
import urllib.request

import anthropic
import httpx2 as httpx
import openai
import pytest

from conftest import MASTER_KEY

QUESTION = [{"role": "user", "content": "Hi"}]


def manage(gateway, path, body=None, key=MASTER_KEY):
    """Asks a route of the management API, and returns its JSON."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"authorization": f"Bearer {key}"}
    with urllib.request.urlopen(urllib.request.Request(gateway + path, data=data, headers=headers), timeout=10) as reply:
        return json.loads(reply.read())


def generate(gateway, **fields):
    return manage(gateway, "/key/generate", fields)["key"]


def counting():
    """An HTTP client, and the list of what it sends: the official clients try again by themselves."""
    sent = []
    return httpx.Client(event_hooks={"request": [lambda request: sent.append(request.url.path)]}), sent


def test_a_key_uses_its_models_until_it_is_blocked(gateway):
    key = generate(gateway, models=["plain"])
    with openai.OpenAI(base_url=f"{gateway}/v1", api_key=key, max_retries=0) as client:
        assert client.chat.completions.create(model="plain", messages=QUESTION).choices[0].message.content
        assert [model.id for model in client.models.list()] == ["plain"]
        with pytest.raises(openai.PermissionDeniedError) as caught:
            client.chat.completions.create(model="claude", messages=QUESTION)
        assert (caught.value.type, caught.value.code, caught.value.param) == ("permission_error", "model_not_allowed", "model")
        manage(gateway, "/key/block", {"key": key})
        with pytest.raises(openai.AuthenticationError):
            client.chat.completions.create(model="plain", messages=QUESTION)
        manage(gateway, "/key/unblock", {"key": key})
        assert client.chat.completions.create(model="plain", messages=QUESTION)


def test_a_regenerated_key_is_a_new_key(gateway):
    old = generate(gateway)
    new = manage(gateway, "/key/regenerate", {"key": old})["key"]
    for key, works in [(old, False), (new, True)]:
        with openai.OpenAI(base_url=f"{gateway}/v1", api_key=key, max_retries=0) as client:
            if works:
                assert client.chat.completions.create(model="plain", messages=QUESTION)
            else:
                with pytest.raises(openai.AuthenticationError):
                    client.chat.completions.create(model="plain", messages=QUESTION)


@pytest.mark.parametrize("stream", [False, True])
def test_clients_do_not_try_again_where_a_budget_is_used_up(gateway, stream):
    http, sent = counting()
    key = generate(gateway, max_budget=0)
    with openai.OpenAI(base_url=f"{gateway}/v1", api_key=key, max_retries=5, http_client=http) as client:
        with pytest.raises(openai.APIStatusError) as caught:
            client.chat.completions.create(model="claude", messages=QUESTION, stream=stream)
        assert (caught.value.status_code, caught.value.type, caught.value.code) == (402, "insufficient_quota", "budget_exceeded")
        assert "key" in caught.value.message
        assert len(sent) == 1


def test_clients_do_not_try_again_where_nothing_is_allowed(gateway):
    http, sent = counting()
    key = generate(gateway, rpm_limit=0)
    with openai.OpenAI(base_url=f"{gateway}/v1", api_key=key, max_retries=5, http_client=http) as client:
        with pytest.raises(openai.RateLimitError) as caught:
            client.chat.completions.create(model="plain", messages=QUESTION)
        assert caught.value.code == "rate_limit_exceeded"
        assert len(sent) == 1


def test_what_is_left_of_a_limit_is_told(gateway):
    key = generate(gateway, rpm_limit=2, tpm_limit=100_000)
    with openai.OpenAI(base_url=f"{gateway}/v1", api_key=key, max_retries=0) as client:
        left = []
        for _ in range(2):
            answer = client.chat.completions.with_raw_response.create(model="plain", messages=QUESTION, max_tokens=50)
            assert answer.headers["x-ratelimit-limit-requests"] == "2"
            assert answer.headers["x-ratelimit-limit-tokens"] == "100000"
            left.append(answer.headers["x-ratelimit-remaining-requests"])
        assert left == ["1", "0"]
        with pytest.raises(openai.RateLimitError) as caught:
            client.chat.completions.create(model="plain", messages=QUESTION)
        headers = caught.value.response.headers
        assert 1 <= int(headers["retry-after"]) <= 61
        assert headers["x-ratelimit-remaining-requests"] == "0"


def test_anthropics_client_gets_its_own_words(gateway):
    key = generate(gateway, max_budget=0)
    http, sent = counting()
    with anthropic.Anthropic(base_url=gateway, api_key=key, max_retries=5, http_client=http) as client:
        with pytest.raises(anthropic.APIStatusError) as caught:
            client.messages.create(model="claude", max_tokens=10, messages=QUESTION)
        assert caught.value.status_code == 402
        assert caught.value.body["error"]["type"] == "billing_error"
        assert len(sent) == 1
    key = generate(gateway, models=["plain"])
    with anthropic.Anthropic(base_url=gateway, api_key=key, max_retries=0) as client:
        with pytest.raises(anthropic.PermissionDeniedError) as caught:
            client.messages.create(model="claude", max_tokens=10, messages=QUESTION)
        assert caught.value.body["error"]["type"] == "permission_error"


def test_a_key_spends_and_is_told_what(gateway):
    key = generate(gateway, max_budget=1, soft_budget=0.000001)
    with openai.OpenAI(base_url=f"{gateway}/v1", api_key=key, max_retries=0) as client:
        first = client.chat.completions.with_raw_response.create(model="claude", messages=QUESTION, max_tokens=50)
        assert "x-llmux-soft-budget" not in first.headers
        cost = float(first.headers["x-llmux-response-cost"])
        assert cost > 0
        second = client.chat.completions.with_raw_response.create(model="claude", messages=QUESTION, max_tokens=50)
        assert second.headers["x-llmux-soft-budget"] == "exceeded"
    spent = 0.0
    while spent < 1.5 * cost:
        spent = manage(gateway, "/key/info", key=key)["spend"]
    assert spent == pytest.approx(2 * cost, rel=1e-12)


@pytest.mark.parametrize("key", ["sk-unknown-unknown-unknown-unknown-unknown", ""])
def test_strangers_manage_nothing(gateway, key):
    for path in ["/key/info", "/key/list", "/team/list", "/user/list", "/organization/list", "/control/state"]:
        with pytest.raises(urllib.error.HTTPError) as caught:
            manage(gateway, path, key=key)
        assert caught.value.code == 401
