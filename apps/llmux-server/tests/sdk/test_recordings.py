"""Recorded answers of Anthropic and Gemini, as the official OpenAI SDK sees them through the gateway."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import openai
import pytest

from conftest import MASTER_KEY, Program, answers, binary, free_port

FIXTURES = Path(__file__).parents[4] / "crates/llmux-providers/tests/fixtures"


def load():
    """The recordings of vendors with dialects of their own that OpenAI's dialect can ask for."""
    for vendor in ("anthropic", "gemini", "vertex"):
        for file in sorted((FIXTURES / vendor).glob("*.json")):
            fixture = json.loads(file.read_text())
            if isinstance(fixture.get("client_request"), dict) and fixture["api"] in ("messages", "generateContent"):
                yield fixture


RECORDED = {fixture["id"]: fixture for fixture in load()}


class Vendor(BaseHTTPRequestHandler):
    """Answers each request with the recording that its path begins with."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        response = RECORDED[self.path.split("/")[1]]["response"]
        body = response["body"].encode()
        self.send_response(response["status"])
        self.send_header("content-type", response["headers"].get("content-type", "application/json"))
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recordings")
    with ThreadingHTTPServer(("127.0.0.1", 0), Vendor) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        providers = [
            {
                "name": f"p{number}",
                "type": "anthropic" if fixture["api"] == "messages" else "gemini",
                "api_key": "sk-vendor",
                "base_url": f"http://127.0.0.1:{server.server_port}/{name}",
                "models": [{"name": name, "upstream": fixture["model"] or "m"}],
            }
            for number, (name, fixture) in enumerate(RECORDED.items())
        ]
        port = free_port()
        configuration = {
            "server": {"host": "127.0.0.1", "port": port, "workers": 1},
            "auth": {"master_key": MASTER_KEY},
            "providers": providers,
            "routing": {"retry_count": 0},
            "drop_params": True,
        }
        # JSON is YAML.
        (folder / "config.yaml").write_text(json.dumps(configuration))
        arguments = [binary("LLMUX_SERVER_BIN"), "--config", str(folder / "config.yaml")]
        program = Program(arguments, folder, {"LLMUX_DATA_DIR": str(folder / "data")})
        url = f"http://127.0.0.1:{port}"
        program.wait_until(lambda: answers(f"{url}/health/ready"))
        yield openai.OpenAI(base_url=f"{url}/v1", api_key=MASTER_KEY, max_retries=0)
        program.stop()
        server.shutdown()
        thread.join()


def whole(client, body):
    completion = client.chat.completions.create(**body)
    choice = completion.choices[0]
    calls = [(call.function.name, call.function.arguments) for call in choice.message.tool_calls or []]
    reasoning = getattr(choice.message, "reasoning_content", None)
    return choice.message.content, reasoning, calls, choice.finish_reason, completion.usage


def streamed(client, body):
    text, reasoning, calls, finish, usage = "", "", {}, None, None
    for chunk in client.chat.completions.create(**body, stream=True, stream_options={"include_usage": True}):
        usage = chunk.usage or usage
        for choice in chunk.choices:
            text += choice.delta.content or ""
            reasoning += getattr(choice.delta, "reasoning_content", None) or ""
            for call in choice.delta.tool_calls or []:
                known = calls.setdefault(call.index, ["", ""])
                known[0] += call.function.name or ""
                known[1] += call.function.arguments or ""
            finish = choice.finish_reason or finish
    return text, reasoning, [tuple(calls[index]) for index in sorted(calls)], finish, usage


@pytest.mark.parametrize("name", RECORDED)
def test_the_sdk_sees_what_the_vendor_meant(client, name):
    fixture = RECORDED[name]
    expect = fixture["expect"]
    body = {**fixture["client_request"]["body"], "model": name}
    body.pop("stream", None)
    body.pop("stream_options", None)
    ask = streamed if fixture["stream"] else whole
    if fixture["response"]["status"] != 200:
        refused_key = "API_KEY_INVALID" in fixture["response"]["body"] or fixture["response"]["status"] == 401
        with pytest.raises(openai.APIStatusError) as raised:
            ask(client, body)
        assert raised.value.status_code == (502 if refused_key else fixture["response"]["status"])
        if not refused_key:
            assert expect["error"]["message"] in raised.value.message
        return
    text, reasoning, calls, finish, usage = ask(client, body)
    assert (text or "") == (expect["text"] or "")
    assert (reasoning or "") == (expect["reasoning"] or "")
    wanted = [(call["name"], call["arguments"]) for call in expect["tool_calls"]]
    assert [(called, json.loads(arguments)) for called, arguments in calls] == wanted
    assert finish is not None and finish == (expect["finish_reason"] or finish)
    if expect["usage"]:
        details = usage.prompt_tokens_details
        seen = {
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.completion_tokens,
            "total_tokens": usage.total_tokens,
            "cached_tokens": details.cached_tokens if details else None,
            "reasoning_tokens": getattr(usage.completion_tokens_details, "reasoning_tokens", None),
        }
        for field, count in seen.items():
            if expect["usage"][field] is not None:
                assert (count or 0) == expect["usage"][field], field


def test_there_are_recordings():
    assert len(RECORDED) > 95
