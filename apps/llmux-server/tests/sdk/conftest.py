"""Runs the gateway and the mock vendor as programs and gives clients for them."""

import contextlib
import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import openai
import pytest

MASTER_KEY = "sk-master-0123456789abcdef0123456789abcdef"
TEXT = "The quick brown fox jumps over the lazy dog. Größe 中文 🦀"

# Models whose vendor misbehaves: name, and what the mock does.
FAULTS = {
    "bad-request": "status=400;message=Wrong thing;code=wrong_thing",
    "refused-key": "status=401",
    "no-credit": "status=402",
    "forbidden": "status=403;message=Not in your country;code=unsupported_country",
    "gone": "status=404;message=No such deployment;code=model_not_found",
    "unprocessable": "status=422;message=Cannot process",
    "limited": "status=429;retry-after=3;message=Slow down",
    "broken": "status=500;message=Oops",
    "overloaded": "status=503;message=Busy",
    "hanging": "hang",
    "garbage": "garbage",
    "cut": "cut=3",
    "error-event": "error-event=3;message=Lost my mind",
    "early-error-event": "error-event=1;message=Never had one",
    "two-tools": 'tool-call=get_weather:{"city":"Paris"};tool-call=get_time:{"zone":"Europe/Paris","exact":true}',
    "reasoning": "reasoning=Let me think.",
    "too-long": "finish=length",
}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Program:
    """A program that is stopped and shown when the tests are over."""

    def __init__(self, arguments, folder, environment=None):
        self.log = folder / (Path(arguments[0]).name + ".log")
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                arguments, cwd=folder, env=environment or {}, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )

    def wait_until(self, ready):
        deadline = time.monotonic() + 60
        while not ready():
            assert self.process.poll() is None, f"stopped with {self.process.returncode}:\n{self.log.read_text()}"
            assert time.monotonic() < deadline, f"not ready:\n{self.log.read_text()}"
            time.sleep(0.02)

    def stop(self):
        self.process.terminate()
        try:
            return self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return None


def answers(url):
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:
            return reply.status == 200
    except (urllib.error.URLError, OSError):
        return False


def binary(variable):
    path = os.environ.get(variable)
    assert path and os.access(path, os.X_OK), f"{variable} must name the program under test"
    return path


@pytest.fixture(scope="session")
def mock(tmp_path_factory):
    """The mock vendor's URL."""
    folder = tmp_path_factory.mktemp("mock")
    program = Program([binary("LLMUX_MOCK_BIN"), "--port", "0", "--text", TEXT], folder)
    program.wait_until(lambda: "listening on http://" in program.log.read_text())
    yield "http://" + program.log.read_text().split("listening on http://")[1].split()[0].rstrip("/")
    program.stop()


def control(mock, route, body=None):
    """Asks a control route of the mock, and returns its JSON if it has any."""
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(f"{mock}/_mock/{route}", data=data), timeout=5) as reply:
        text = reply.read()
    return json.loads(text) if text else None


@contextlib.contextmanager
def scripted(mock, replies):
    """Has the mock give these replies. Yields a function that lists what it received meanwhile."""
    control(mock, "reset", {})
    if replies:
        control(mock, "script", replies)
    received = []
    try:
        yield lambda: received
    finally:
        received.extend(control(mock, "received"))
        # Replies that nobody took must not reach another test.
        control(mock, "reset", {})


@pytest.fixture(scope="session")
def gateway(mock, tmp_path_factory):
    """The gateway's URL."""
    folder = tmp_path_factory.mktemp("gateway")
    models = ["plain", {"name": "team/alias", "upstream": "real-model"}]
    providers = [
        {"name": "mock", "type": "openai", "api_key": "sk-vendor", "base_url": f"{mock}/v1", "models": models},
        {
            "name": "azure",
            "type": "azure",
            "api_key": "sk-azure",
            "base_url": mock,
            "api_version": "2024-10-21",
            "models": [{"name": "azure-model", "upstream": "deployment"}],
        },
        {
            "name": "claude",
            "type": "anthropic",
            "api_key": "sk-ant",
            "base_url": f"{mock}/claude",
            "models": [{"name": "claude", "upstream": "claude-sonnet-4-5"}],
        },
        {
            "name": "google",
            "type": "gemini",
            "api_key": "sk-google",
            "base_url": f"{mock}/google",
            "models": [
                {"name": "gemini", "upstream": "gemini-3-pro-preview"},
                {"name": "gemini-embedding", "upstream": "gemini-embedding-001"},
            ],
        },
    ]
    for name, fault in FAULTS.items():
        providers.append(
            {
                "name": f"mock-{name}",
                "type": "openai",
                "api_key": "sk-vendor",
                "base_url": f"{mock}/v1",
                "headers": {"x-mock-fault": fault},
                "timeout": "1s" if name == "hanging" else "60s",
                "models": [name],
            }
        )
    with running(folder, {"providers": providers}) as url:
        yield url


@pytest.fixture(scope="session")
def caching_client(mock, tmp_path_factory):
    """The official client of a gateway that keeps answers."""
    provider = {
        "name": "mock",
        "type": "openai",
        "api_key": "sk-vendor",
        "base_url": f"{mock}/v1",
        "models": ["plain"],
    }
    tools = {**provider, "name": "tools", "models": ["two-tools"], "headers": {"x-mock-fault": FAULTS["two-tools"]}}
    folder = tmp_path_factory.mktemp("caching")
    with running(folder, {"providers": [provider, tools], "cache": {"enabled": True}}) as url:
        with openai.OpenAI(base_url=f"{url}/v1", api_key=MASTER_KEY, max_retries=0, timeout=60) as client:
            yield client


@contextlib.contextmanager
def running(folder, settings):
    """Runs a gateway and yields its URL."""
    port = free_port()
    configuration = {
        "server": {"host": "127.0.0.1", "port": port, "workers": 2},
        "auth": {"master_key": MASTER_KEY},
        "routing": {"retry_count": 0},
        "metrics": {"litellm_names": True},
        **settings,
    }
    # JSON is YAML.
    (folder / "config.yaml").write_text(json.dumps(configuration, indent=1))
    arguments = [binary("LLMUX_SERVER_BIN"), "--config", str(folder / "config.yaml")]
    program = Program(arguments, folder, {"LLMUX_DATA_DIR": str(folder / "data")})
    url = f"http://127.0.0.1:{port}"
    program.wait_until(lambda: answers(f"{url}/health/ready"))
    yield url
    code = program.stop()
    assert code == 0, f"the gateway stopped with {code}:\n{program.log.read_text()}"


@pytest.fixture(scope="session")
def client(gateway):
    """The official client. It never retries by itself, so that each error is seen as it is."""
    with openai.OpenAI(base_url=f"{gateway}/v1", api_key=MASTER_KEY, max_retries=0, timeout=60) as client:
        yield client
