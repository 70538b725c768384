"""The documentation is true: each block of code that can be run is run, and each other one is named here.

The blocks of a document are one story, told in order, against a gateway and its built-in fake vendor. A block of JSON or
text right below commands is what these print. A configuration that begins with a file's name is kept under that name.
"""

import json
import os
import re
import subprocess
import tomllib

import pytest

from conftest import binary, control
from documents import ROOT, VARIABLES, Story, blocks

DOCUMENTS = sorted(
    str(path.relative_to(ROOT))
    for pattern in ["README.md", ".github/*.md", "docs/**/*.md", "crates/*/README.md", "apps/*/README.md"]
    for path in ROOT.glob(pattern)
    if blocks(path.relative_to(ROOT))
)

# Blocks that are not run, by document and the beginning of their first line, and why.
NOT_RUN = {
    "README.md": {
        "docker build": "needs a container engine; the workflow `ci` runs it",
        "kubectl apply": "needs a cluster; deploy/check.py validates the manifests",
    },
    "docs/architecture.md": {
        "client --> serve": "a drawing",
    },
    "docs/deployment.md": {
        "docker build": "needs a container engine; the workflow `ci` runs it",
        "docker run": "needs a container engine",
        "cp .env.example": "needs a container engine; deploy/check.py validates the compose file",
        "kubectl apply": "needs a cluster; deploy/check.py validates the manifests",
        "helm install": "needs a cluster; deploy/check.py renders the chart",
        "existingSecret": "values of the chart: deploy/check.py renders it with them",
        "location /": "needs nginx",
        "python3 -m venv": "installs Kubernetes' schemas; the workflow `ci` runs it",
    },
    "docs/getting-started.md": {
        "git clone": "builds for minutes what is built already, and needs the network",
    },
    "docs/migrating-from-litellm.md": {
        "# LiteLLM": "LiteLLM's configuration",
    },
    "docs/observability.md": {
        "scrape_configs": "Prometheus's configuration",
    },
}

# What a reader does not have, in documents that tell how to come by it.
UNSET = {"docs/getting-started.md": ["LLMUX_MASTER_KEY"]}


def reason(block):
    """Says why a block is not run."""
    known = NOT_RUN.get(block.document, {})
    return next((why for first, why in known.items() if block.first.startswith(first)), None)


def tasks(block):
    """Checks commands of the project's own tasks, which take too long: each task and each option exists."""
    usage = (ROOT / "xtask/src/main.rs").read_text().split('USAGE: &str = "')[1].split('";')[0]
    for line in block.text.split("\n"):
        words = line.split("#")[0].split()
        assert words[:2] == ["cargo", "xtask"], f"{block}: no task: {line}"
        assert re.search(rf"^  {words[2]}\b", usage, re.M), f"{block}: no such task: {line}"
        for option in words[3:]:
            assert not option.startswith("--") or option in usage, f"{block}: no such option: {line}"


def compiled(block):
    """Checks that Rust is compiled, by the documentation tests of the crate that includes the document."""
    including = [
        library
        for library in ROOT.glob("*/*/src/lib.rs")
        if f'doc = include_str!("{os.path.relpath(ROOT / block.document, library.parent)}")' in library.read_text()
    ]
    assert including, f"{block}: no crate includes the document"


def dependencies(block):
    """Checks the dependencies of a manifest: the crates and their features are there, and so is the repository."""
    repository = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["repository"]
    for name, wanted in tomllib.loads(block.text)["dependencies"].items():
        manifest = tomllib.loads((ROOT / "crates" / name / "Cargo.toml").read_text())
        assert wanted["git"] == repository, f"{block}: {name}"
        assert set(wanted.get("features", [])) <= manifest.get("features", {}).keys(), f"{block}: {name}"


def script(block, mock):
    """Gives the fake vendor a script."""
    control(mock, "script", json.loads(block.text))
    control(mock, "reset", {})


def prices(block, story):
    """Lays a price file over the built-in prices."""
    (story.folder / "prices.json").write_text(block.text)
    done = subprocess.run(
        [binary("LLMUX_SERVER_BIN"), "check"],
        cwd=story.folder,
        env={**VARIABLES, "LLMUX__PRICING_FILE": str(story.folder / "prices.json")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, f"{block}:\n{done.stdout}{done.stderr}"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_the_blocks_of_a_document_are_true(document, tmp_path, mock):
    variables = {name: value for name, value in VARIABLES.items() if name not in UNSET.get(document, [])}
    story = Story(tmp_path, variables)
    found = blocks(document)
    printed = {id(block.before): block for block in found if block.before and block.before.language == "sh" and block.language != "sh"}
    try:
        for block in found:
            if reason(block) or id(block) in map(id, printed.values()):
                continue
            if block.language == "rust":
                compiled(block)
            elif block.language == "sh" and block.text.startswith("cargo xtask"):
                tasks(block)
            elif block.language == "sh":
                story.sh(block, printed.get(id(block)))
            elif document == "docs/pricing.md" and block.language == "json":
                prices(block, story)
            elif document == "apps/llmux-mock/README.md" and block.language == "json":
                script(block, mock)
            elif block.language == "toml":
                dependencies(block)
            elif block.language in ("python", "yaml"):
                getattr(story, block.language)(block)
            else:
                pytest.fail(f"{block}: `{block.language}` is neither run nor named in NOT_RUN: {block.first}")
        story.stop()
    finally:
        if story.program:
            story.program.stop()


def test_what_is_not_run_is_there():
    """A line of NOT_RUN whose block is gone, or could be run under its name, is gone too."""
    firsts = {document: [block.first for block in blocks(document)] for document in DOCUMENTS}
    for document, known in NOT_RUN.items():
        for first in known:
            assert any(line.startswith(first) for line in firsts.get(document, [])), f"{document}: no block begins with {first}"


def test_the_readmes_are_one_text_in_two_languages():
    def outline(name):
        text = (ROOT / name).read_text()
        found = [(block.language, block.text) for block in blocks(name)]
        links = [link for link in re.findall(r"\]\(([^)]+)\)", text) if not link.startswith("README")]
        # Names of keys, files and headers, in the order of each language.
        return found, links, sorted(re.findall(r"`([\w./*-]+)`", re.sub(r"```.*?```", "", text, flags=re.S)))

    assert outline("README.md") == outline("README_CN.md")


def test_the_map_of_the_code_is_that_of_the_code():
    text = (ROOT / "docs/architecture.md").read_text()
    crates = {str(manifest.parent.relative_to(ROOT)) for pattern in ["*", "crates/*", "apps/*"] for manifest in ROOT.glob(f"{pattern}/Cargo.toml")}
    assert set(re.findall(r"\*\*`([\w/-]+)`\*\*", text)) == crates
    table = text.split("| Module | |")[1].split("\n\n")[0]
    named = set(re.findall(r"`(\w+)`", "\n".join(line.split("|")[1] for line in table.split("\n") if line)))
    source = ROOT / "apps/llmux-server/src"
    modules = {path.stem for path in source.iterdir()} - {"main"}
    assert named == modules


def test_the_readme_leads_to_each_document():
    text = (ROOT / "README.md").read_text().split("## Read on")[1]
    documents = {str(path.relative_to(ROOT)) for path in ROOT.glob("docs/*.md")}
    assert documents - set(re.findall(r"\]\(([\w./-]+)\)", text)) == set()
