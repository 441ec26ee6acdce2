"""What the documents say is so: links, paths, commands, keys, and what commands print."""

import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from pipeline.cli import main as cli
from pipeline.cluster import runs, schedules
from pipeline.settings import ClusterSettings, load_settings
from tests.kfp_server import KfpServer

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    path for pattern in ("*.md", "docs/*.md", "manifests/**/*.md", "examples/**/*.md") for path in ROOT.glob(pattern)
)
INSTALL = ROOT / "docs" / "install-openshift-ai.md"
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
QUOTED = re.compile(r"`([^`\n]+)`")
FOLDERS = "benchmarks|components|docs|examples|manifests|pipeline|tests"
LABELS = {"pipeline/runid"}  # KFP's, no path
FILES = {".lock", ".md", ".py", ".toml"}

documents = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())


def text_of(document: Path) -> str:
    return document.read_text(encoding="utf-8")


def blocks(document: Path, kind: str) -> list[str]:
    """The content of the fenced blocks of a kind."""
    return [content for found, content in FENCED.findall(text_of(document)) if found == kind]


def code(document: Path) -> list[str]:
    """Everything that is set as code: lines of fenced blocks, and what stands in backticks."""
    fenced = [line for _, content in FENCED.findall(text_of(document)) for line in content.splitlines()]
    return [*fenced, *QUOTED.findall(FENCED.sub("", text_of(document)))]


def anchors(document: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", FENCED.sub("", text_of(document)), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@documents
def test_links_lead_to_files_and_headings_that_exist(document):
    for link in re.findall(r"\]\(([^)\s]+)\)", text_of(document)):
        path, _, anchor = link.partition("#")
        if "://" in link:
            continue
        target = document.parent / path if path else document
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@documents
def test_paths_that_are_named_exist(document):
    for text in code(document):
        for path in re.findall(rf"^((?:{FOLDERS})/[\w./-]*\w)", text):
            found = (ROOT / path).exists() or (document.parent / path).exists() or list(ROOT.glob(f"{path}*"))
            assert found or path in LABELS, path


@documents
def test_command_lines_have_commands_and_options_that_exist(document):
    for text in code(document):
        for arguments in re.findall(r"osft-pipeline +((?![-/]).*)", text):
            command: Any = typer.main.get_command(cli.app)
            words = arguments.split()
            while words and hasattr(command, "commands"):
                assert words[0] in command.commands, text
                command = command.commands[words.pop(0)]
            known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
            assert set(re.findall(r"(?<!\S)--?[a-z][a-z-]*", " ".join(words))) <= known, text


@documents
def test_keys_of_the_cluster_file_exist(document, tmp_path):
    default = load_settings()
    tables = "|".join(vars(default))
    for text in code(document):
        for name in re.findall(rf"^((?:{tables})(?:\.\w+)+)(?: =.*)?$", text):
            if Path(name).suffix not in FILES:
                assert has_key(default, name), name
        for name in re.findall(rf"^\[((?:{tables})(?:\.\w+)*)\]", text):
            assert has_key(default, name), name
    for content in blocks(document, "toml"):
        file = tmp_path / "cluster.toml"
        file.write_text(content, encoding="utf-8")
        load_settings(file)


def has_key(settings: ClusterSettings, name: str) -> bool:
    found: Any = settings
    for part in name.split("."):
        values = found if isinstance(found, dict) else vars(found)
        if part not in values:
            return False
        found = values[part]
    return True


STORY = [
    {"ingest-sdg": "RUNNING"},
    {"ingest-sdg": "SUCCEEDED", "train-osft": "RUNNING"},
    {"ingest-sdg": "SUCCEEDED", "train-osft": "SUCCEEDED", "evaluate": "SUCCEEDED", "publish": "SUCCEEDED"},
]
"""The steps of the run that the installation shows, look after look."""


def test_the_installations_commands_print_what_is_shown(tmp_path, monkeypatch, capsys):
    (tmp_path / "my-cluster.toml").write_text(blocks(INSTALL, "toml")[0], encoding="utf-8")
    parameters = next(block for block in blocks(INSTALL, "yaml") if "questions:" in block)
    (tmp_path / "nightly.yaml").write_text(parameters, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OSFT_KFP_TOKEN", "a-token")
    monkeypatch.delenv("OSFT_KFP_DASHBOARD", raising=False)
    monkeypatch.setattr(runs, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(schedules, "SETTLE_SECONDS", 0.01)
    shown = [part for block in blocks(INSTALL, "console") for part in re.split(r"^\$ ", block, flags=re.MULTILINE)]
    commands = [part.partition("\n") for part in shown if part.startswith("osft-pipeline")]
    with KfpServer(token="a-token") as server:
        monkeypatch.setenv("OSFT_KFP_HOST", server.url)
        for line, _, output in commands:
            server.story = [run_of(steps) for steps in STORY] if "--wait" in line else []
            monkeypatch.setattr(sys, "argv", shlex.split(line))
            with pytest.raises(SystemExit) as end:
                cli.main()
            written = capsys.readouterr()

            assert (end.value.code or 0, written.err) == (0, ""), line
            assert masked(written.out) == masked(output), line

    assert len(commands) >= 5


def run_of(steps: dict[str, str]) -> dict[str, Any]:
    """A run as the API reports it; it has ended when all its steps have."""
    tasks = [
        {"task_id": name, "display_name": name, "state": state, "start_time": f"2026-11-22T12:00:0{number}Z"}
        for number, (name, state) in enumerate(steps.items())
    ]
    ended = set(steps.values()) == {"SUCCEEDED"}
    return {"state": "SUCCEEDED" if ended else "RUNNING", "run_details": {"task_details": tasks}}


def masked(text: str) -> list[str]:
    """The lines with # for numbers, times and digests."""
    return [re.sub(r"\b(?=\w*\d)[0-9a-f]{6,}\b|\d+", "#", line).rstrip() for line in text.splitlines()]
