"""Reads the blocks of code in the documentation, and does what they say."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import yaml

from conftest import MASTER_KEY, Program, answers, binary, free_port

ROOT = Path(__file__).resolve().parents[4]

# The ports that the documents name. Each story has ports of its own in their place.
PORTS = ("8080", "8090")

# What a reader has in the environment: the master key of the gateway that is running, and what configurations ask for.
VARIABLES = {
    "LLMUX_MASTER_KEY": MASTER_KEY,
    "OPENAI_API_KEY": "sk-vendor",
    "AZURE_OPENAI_API_KEY": "vendor",
    "ANTHROPIC_API_KEY": "sk-ant-vendor",
    "AZURE_KEY": "vendor",
    "DATABASE_URL": "postgres://llmux@127.0.0.1/llmux",
}

# A gateway whose configuration no document gives, for the commands that need one.
GATEWAY = """
providers:
  - name: openai
    type: mock
    models: [gpt-4o, gpt-4o-mini]
  - name: other
    type: mock
    models: [gpt-4o]
"""

# What a part of a configuration needs around it: the models that the documents name.
PROVIDERS = """
providers:
  - {name: mock, type: mock, models: [gpt-4o, fast, claude-sonnet-5-5, gemini-2.5-pro]}
"""

# `cargo run` without cargo: the programs that it would build are there.
CARGO = """#!/bin/sh
[ "$1" = run ] && shift || exit 64
program=llmux-server
while [ $# -gt 0 ]; do
  case "$1" in
    --) shift; break ;;
    --profile) shift 2 ;;
    --release) shift ;;
    --package | -p) program=$2; shift 2 ;;
    *) exit 64 ;;
  esac
done
exec "$program" "$@"
"""

SQLITE = """#!/bin/sh
exec python3 -c 'import sqlite3, sys; print(*sqlite3.connect(sys.argv[1]).execute(sys.argv[2]), sep="\\n")' "$@"
"""

# Errors are failures, and nothing waits for ever.
CURL = "silent\nshow-error\nfail-with-body\nmax-time = 120\n"

STARTS = re.compile(r"^(\w+=\S+ )*(cargo run|llmux-server|\./bin/llmux)\b(?!.*\b(check|routes|version|config-schema)\b)")


@dataclass
class Block:
    """A fenced block of code."""

    document: str
    line: int
    language: str
    text: str
    # The block right before it, with nothing but an empty line between: this one is what that one prints.
    before: "Block | None" = None

    @property
    def first(self):
        return self.text.split("\n")[0]

    def __str__(self):
        return f"{self.document}:{self.line}"


def blocks(document):
    """Returns the blocks of a document, in order."""
    found, fence, end, indent = [], None, -2, 0
    for number, line in enumerate((ROOT / document).read_text().split("\n"), 1):
        mark = re.match(r"( *)(```+|~~~+)(.*)$", line)
        if fence is None and mark:
            indent, fence = len(mark[1]), mark[2]
            language = re.split(r"[,\s]", mark[3].strip())[0]
            before = found[-1] if found and number - end <= 2 else None
            found.append(Block(document, number, language, "", before))
        elif fence is not None and mark and mark[2].startswith(fence) and not mark[3].strip():
            fence, end = None, number
            found[-1].text = found[-1].text.rstrip("\n")
        elif fence is not None:
            found[-1].text += line[indent:] + "\n"
    assert fence is None, f"{document}: a block does not end"
    return found


def shown(expected, found):
    """Tells whether `found` has what a document shows of it. `...` in a text stands for anything."""
    if isinstance(expected, dict):
        return isinstance(found, dict) and all(name in found and shown(value, found[name]) for name, value in expected.items())
    if isinstance(expected, list):
        return isinstance(found, list) and len(found) >= len(expected) and all(map(shown, expected, found))
    if isinstance(expected, str) and isinstance(found, str):
        pattern = ".*".join(map(re.escape, expected.split("...")))
        return re.fullmatch(pattern, found, re.DOTALL) is not None
    return type(expected) is type(found) and expected == found


class Story:
    """A reader who follows one document, block by block, in an empty folder with the project's `config`."""

    def __init__(self, folder, variables):
        self.folder = folder / "work"
        self.state = folder / "state"
        self.program = None
        self.ports = {port: str(free_port()) for port in PORTS}
        programs = folder / "programs"
        for path in [self.folder, programs, folder / "home"]:
            path.mkdir()
        shutil.copytree(ROOT / "config", self.folder / "config")
        for name, variable in [("llmux-server", "LLMUX_SERVER_BIN"), ("llmux-mock", "LLMUX_MOCK_BIN")]:
            (programs / name).symlink_to(binary(variable))
        (self.folder / "bin").mkdir()
        (self.folder / "bin/llmux").symlink_to(binary("LLMUX_SERVER_BIN"))
        scripts = {"cargo": CARGO} if shutil.which("sqlite3") else {"cargo": CARGO, "sqlite3": SQLITE}
        for name, text in scripts.items():
            (programs / name).write_text(text)
            (programs / name).chmod(0o755)
        (folder / "home/.curlrc").write_text(CURL)
        self.environment = {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "HOME": str(folder / "home"),
            "CURL_HOME": str(folder / "home"),
            # The port, for a gateway and for the demo.
            "LLMUX_SERVER__PORT": self.ports["8080"],
            "PORT": self.ports["8080"],
            **variables,
        }
        self.state.write_text("")

    def with_ports(self, text):
        for port, own in self.ports.items():
            text = re.sub(rf"\b{port}\b", own, text)
        return text

    # What a block says, by its language.

    def sh(self, block, expected=None):
        """Runs commands. A gateway that the last one starts stays, until another is started or the story ends."""
        commands = self.with_ports(block.text)
        *before, last = commands.split("\n")
        if STARTS.match(last):
            if before:
                self.bash("\n".join(before))
            self.start(last)
            return
        if self.program is None and "127.0.0.1" in commands:
            (self.folder / "config/config.yaml").write_text(GATEWAY)
            self.start("llmux-server")
        # What was asked for a moment ago is not in the database yet; reading does no harm.
        reads = " -d " not in block.text and " -X " not in block.text
        deadline = time.monotonic() + (60 if reads else 0)
        while True:
            code, printed = self.bash(commands, fails=self.is_refusal(expected))
            if expected is None or self.printed(expected, printed):
                return
            assert time.monotonic() < deadline, f"{expected}: not what is printed:\n{printed}"
            time.sleep(0.1)

    @staticmethod
    def is_refusal(expected):
        return expected is not None and expected.language == "json" and "error" in json.loads(expected.text)

    @staticmethod
    def printed(expected, printed):
        if expected.language == "json":
            return shown(json.loads(expected.text), json.loads(printed))
        # In this order.
        lines = iter(printed.replace("\r", "").split("\n"))
        return all(any(shown(line, found) for found in lines) for line in expected.text.split("\n"))

    def bash(self, commands, fails=False):
        """Runs commands as one shell after the other would: what is set stays set."""
        script = f"set -a; . '{self.state}'; trap \"export -p > '{self.state}'\" EXIT; set -euo pipefail\n{commands}"
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
        )
        printed = done.stdout + done.stderr
        wanted = "does not fail" if fails else f"failed with {done.returncode}"
        assert (done.returncode != 0) == fails, f"{commands}\n{wanted}:\n{printed}\n{self.log()}"
        return done.returncode, done.stdout

    def start(self, command):
        self.stop()
        script = f"set -a; . '{self.state}'; exec env {command}"
        self.program = Program(["bash", "-c", script], self.folder, self.environment)
        if "llmux-mock" in command:
            self.program.wait_until(lambda: "listening on" in self.log())
        else:
            self.program.wait_until(lambda: answers(f"http://127.0.0.1:{self.ports['8080']}/health/ready"))

    def stop(self):
        if self.program is not None:
            program, self.program = self.program, None
            code = program.stop()
            assert code == 0, f"the gateway stopped with {code}:\n{program.log.read_text()}"

    def log(self):
        return self.program.log.read_text() if self.program else ""

    def python(self, block):
        text = self.with_ports(block.text)
        done = subprocess.run(
            [sys.executable, "-c", text], cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, f"{block}: failed:\n{done.stderr}\n{self.log()}"
        assert done.stdout.strip(), f"{block}: prints nothing"

    def yaml(self, block):
        """Checks a configuration, or a part of one. One that begins with a file's name is kept under it."""
        given = yaml.safe_load(block.text)
        text = block.text if "providers" in given else block.text + PROVIDERS
        named = re.fullmatch(r"# ([\w.-]+\.yaml)", block.first)
        path = self.folder / (named[1] if named else "block.yaml")
        path.write_text(text)
        done = subprocess.run(
            [binary("LLMUX_SERVER_BIN"), "check", "--config", str(path)],
            cwd=self.folder,
            env={**VARIABLES, "LLMUX__STRICT_ENV": "true"},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0 and "warning" not in done.stdout, f"{block}:\n{done.stdout}{done.stderr}"
