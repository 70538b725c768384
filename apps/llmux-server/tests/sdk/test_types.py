"""Requests that reach an Anthropic vendor are of the types that its own SDK defines."""

import functools
import json
import threading
import types
import typing
from collections.abc import Iterable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx2
import pytest
import typing_extensions
from anthropic.types import message_create_params

from conftest import MASTER_KEY, Program, answers, binary, free_port

FIXTURES = Path(__file__).parents[4] / "crates/llmux-providers/tests/fixtures"
MODELS = ["claude-sonnet-4-5", "claude-opus-4-8"]
# These still take what the SDK's types have no more: temperature, top_p and top_k.
SAMPLED = ["claude-sonnet-4-5"]
ANSWER = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude",
    "content": [{"type": "text", "text": "Yes."}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 1, "output_tokens": 1},
}


def faults(value, wanted, place="body"):
    """Lists what makes `value` another type than `wanted`. Stricter than the SDK: unknown members are faults too."""
    origin, arguments = typing.get_origin(wanted), typing.get_args(wanted)
    if wanted in (typing.Any, object):
        return []
    if origin in (typing.Annotated, typing.Required, typing.NotRequired, typing_extensions.Required):
        return faults(value, arguments[0], place)
    if origin in (typing.Union, types.UnionType):
        found = [faults(value, one, place) for one in arguments]
        # Of the wrong types, the one that is nearest has the most to say.
        return [] if [] in found else max(found, key=lambda some: max(len(fault.split(":")[0]) for fault in some))
    if origin is typing.Literal:
        return [] if value in arguments else [f"{place}: {value!r} is none of {arguments}"]
    if origin in (list, Iterable, Sequence):
        if not isinstance(value, list):
            return [f"{place}: no list"]
        return [fault for at, one in enumerate(value) for fault in faults(one, arguments[0], f"{place}[{at}]")]
    if origin in (dict, typing.get_origin(typing.Mapping[str, str])):
        if not isinstance(value, dict):
            return [f"{place}: no object"]
        return [fault for name, one in value.items() for fault in faults(one, arguments[1], f"{place}.{name}")]
    if typing_extensions.is_typeddict(wanted):
        return members(value, wanted, place)
    if wanted is float:
        wanted = (int, float)
    elif wanted is type(None) or not isinstance(wanted, type):
        return [] if value is None else [f"{place}: not null"]
    matches = isinstance(value, wanted) and (wanted is bool or not isinstance(value, bool))
    return [] if matches else [f"{place}: {value!r} is no {wanted}"]


@functools.cache
def hints_of(wanted):
    return typing_extensions.get_type_hints(wanted, include_extras=True)


def members(value, wanted, place):
    if not isinstance(value, dict):
        return [f"{place}: no object"]
    hints = hints_of(wanted)
    # A schema may have any keyword.
    extra = [] if wanted.__name__.startswith("InputSchema") else sorted(value.keys() - hints.keys())
    found = [f"{place}.{name}: unknown to {wanted.__name__}" for name in extra]
    for name, hint in hints.items():
        needed = typing.get_origin(hint) in (typing.Required, typing_extensions.Required)
        if name in value:
            found += faults(value[name], hint, f"{place}.{name}")
        elif needed:
            found.append(f"{place}: {name} is missing")
    return found


class Vendor(BaseHTTPRequestHandler):
    """Keeps what it is asked, and answers always the same."""

    protocol_version = "HTTP/1.1"
    # Head and body in one piece.
    wbufsize = -1

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.asked.append(body)
        answer = json.dumps(ANSWER).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def vendor():
    with ThreadingHTTPServer(("127.0.0.1", 0), Vendor) as server:
        server.asked = []
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def claude(vendor, tmp_path_factory):
    """The URL of a gateway before an Anthropic vendor."""
    folder = tmp_path_factory.mktemp("claude")
    provider = {
        "name": "claude",
        "type": "anthropic",
        "api_key": "sk-vendor",
        "base_url": f"http://127.0.0.1:{vendor.server_port}",
        "models": MODELS,
    }
    port = free_port()
    configuration = {
        "server": {"host": "127.0.0.1", "port": port, "workers": 1},
        "auth": {"master_key": MASTER_KEY},
        "providers": [provider],
        "routing": {"retry_count": 0},
        "drop_params": True,
    }
    # JSON is YAML.
    (folder / "config.yaml").write_text(json.dumps(configuration))
    arguments = [binary("LLMUX_SERVER_BIN"), "--config", str(folder / "config.yaml")]
    program = Program(arguments, folder, {"LLMUX_DATA_DIR": str(folder / "data")})
    url = f"http://127.0.0.1:{port}"
    program.wait_until(lambda: answers(f"{url}/health/ready"))
    yield url
    program.stop()


def recorded():
    """The recorded requests with a conversation that Anthropic has words for."""
    lines = (FIXTURES / "requests-exceptions.txt").read_text().splitlines()
    keys = [line.split(": ")[0].split(" ") for line in lines if not line.startswith("#")]
    excepted = {key[0] for key in keys if key[1:] in (["anthropic"], ["all"])}
    for file in sorted(FIXTURES.glob("*/*.json")):
        fixture = json.loads(file.read_text())
        kind = {"chat": "request", "messages": "client_request", "generateContent": "client_request"}.get(fixture["api"])
        body = (fixture.get(kind) or {}).get("body")
        if isinstance(body, dict) and "messages" in body and fixture["id"] not in excepted:
            yield fixture["id"], body


@pytest.mark.parametrize("model", MODELS)
def test_recorded_requests_become_anthropics_types(claude, vendor, model):
    wrong, total = [], 0
    headers = {"authorization": f"Bearer {MASTER_KEY}"}
    wanted = message_create_params.MessageCreateParamsNonStreaming
    with httpx2.Client(headers=headers, timeout=60) as client:
        for name, body in recorded():
            total += 1
            vendor.asked.clear()
            body = {**body, "model": model, "stream": False}
            body.pop("stream_options", None)
            reply = client.post(f"{claude}/v1/chat/completions", json=body)
            if reply.status_code != 200 or len(vendor.asked) != 1:
                wrong.append(f"{name}: {reply.status_code} {reply.text[:200]}")
                continue
            asked = vendor.asked[0]
            if model in SAMPLED:
                sampling = [asked.pop(field, 0) for field in ("temperature", "top_p", "top_k")]
                assert all(isinstance(value, (int, float)) for value in sampling), name
            wrong += [f"{name}: {fault}" for fault in faults(asked, wanted)[:3]]
    print(f"types: {total - len({fault.split(':')[0] for fault in wrong})} / {total}")
    assert not wrong, "\n".join(wrong)
    assert total > 270


def test_wrong_types_are_found():
    good = {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}]}
    wanted = message_create_params.MessageCreateParamsNonStreaming
    assert faults(good, wanted) == []
    block = good["messages"][0]["content"][0]
    for bad in [
        {**good, "other": 1},
        {**good, "max_tokens": "1"},
        {"model": "m", "messages": []},
        {**good, "messages": [{"role": "user", "content": [{**block, "type": "txt"}]}]},
        {**good, "messages": [{"role": "user", "content": [{**block, "more": 1}]}]},
        {**good, "messages": [{"role": "user", "content": [{"type": "text"}]}]},
        {**good, "tools": [{"name": "f"}]},
    ]:
        assert faults(bad, wanted), bad
