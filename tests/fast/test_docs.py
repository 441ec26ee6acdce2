"""What the documents say is so: links, paths, commands, keys, errors that they quote, and what commands print."""

import ast
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from components.models.shapes import Shapes
from components.run.training_options import TrainingOptions
from components.training.memory import plan_memory
from pipeline.cli import main as cli
from pipeline.cluster import runs, schedules
from pipeline.placement import PLACES, SECRET_VARIABLES
from pipeline.settings import ClusterSettings, load_settings
from tests.kfp_server import KfpServer
from tests.kustomize import build

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    path for pattern in ("*.md", "docs/*.md", "manifests/**/*.md", "examples/**/*.md") for path in ROOT.glob(pattern)
)
INSTALL = ROOT / "docs" / "install-openshift-ai.md"
OPERATIONS = ROOT / "docs" / "operations.md"
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
QUOTED = re.compile(r"`([^`\n]+)`")
FOLDERS = "benchmarks|components|docs|examples|manifests|pipeline|tests"
LABELS = {"pipeline/runid"}  # KFP's, no path
FILES = {".lock", ".md", ".py", ".toml"}
VARIES = "…"

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


def section(document: Path, heading: str) -> str:
    return text_of(document).split(f"\n## {heading}\n")[1].split("\n## ")[0]


def rows(table: str) -> list[list[str]]:
    """The cells of a Markdown table's rows, without its head."""
    lines = [line for line in table.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def anchors(document: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", FENCED.sub("", text_of(document)), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@documents
def test_links_lead_to_files_and_headings_that_exist(document: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", text_of(document)):
        path, _, anchor = link.partition("#")
        if "://" in link:
            continue
        target = document.parent / path if path else document
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@documents
def test_paths_that_are_named_exist(document: Path) -> None:
    for text in code(document):
        for path in re.findall(rf"^((?:{FOLDERS})/[\w./-]*\w)", text):
            found = (ROOT / path).exists() or (document.parent / path).exists() or list(ROOT.glob(f"{path}*"))
            assert found or path in LABELS, path


@documents
def test_make_targets_exist(document: Path) -> None:
    makefile = text_of(ROOT / "Makefile")
    for text in code(document):
        for target in re.findall(r"^make ([\w./-]+)", text):
            assert re.search(rf"^{re.escape(target)}:", makefile, re.MULTILINE), target


@documents
def test_command_lines_have_commands_and_options_that_exist(document: Path) -> None:
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
def test_keys_of_the_cluster_file_exist(document: Path, tmp_path: Path) -> None:
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


@documents
def test_environment_variables_of_ours_exist(document: Path) -> None:
    source = "\n".join(text_of(path) for path in [*python_files(), *(ROOT / "tests").rglob("*.py")])
    for text in code(document):
        for name in re.findall(r"\bOSFT_[A-Z_]+\b", text):
            assert name in source, name


def test_the_table_of_secrets_is_what_steps_read() -> None:
    names = load_settings().secrets
    read = {names[purpose]: set(variables) for purpose, variables in SECRET_VARIABLES.items()}
    written = {
        cells[0].strip("`"): set(re.findall(r"`([A-Z_0-9]+)`", cells[1]))
        for cells in rows(section(INSTALL, "5. Secrets"))
    }
    server = written.pop("osft-artifacts")  # the pipelines server's, no step's

    assert written == read
    assert server == {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}


def test_the_table_of_what_steps_ask_for_is_the_default_clusters() -> None:
    settings = load_settings()
    told = {}
    for steps, cpu, memory, gpu, hours, again in rows(section(OPERATIONS, "What steps ask for")):
        times = 1 if again == "once" else int(again.removesuffix(" times"))
        for step in QUOTED.findall(steps):
            told[step] = (cpu, memory.replace(" GiB", "Gi"), gpu, int(hours.removesuffix(" h")) * 3600, times)

    assert told == {
        step: (
            settings.resources[place.resources]["cpu"],
            settings.resources[place.resources]["memory"],
            settings.gpu.count if place.gpu else "",
            settings.timeout_seconds[place.time],
            settings.retries[place.time],
        )
        for step, place in PLACES.items()
    }


def test_the_sizes_add_up_and_are_those_of_the_plan() -> None:
    planned = {}
    for name, values in benchmark_shapes().items():
        config = values | {"model_type": "granite", "tie_word_embeddings": True}
        shapes = Shapes.of(config)
        matrices = sum(height * width for height, width in shapes.matrices.values())
        entries = shapes.layers * (matrices + shapes.small) + shapes.vocabulary * shapes.hidden + shapes.hidden
        gib = plan_memory(config, TrainingOptions(train_dtype="bfloat16")).needed_gib
        planned[name] = (f"{2 * entries / 1e9:.1f}", f"{gib:.1f}")
    checked = 0
    for name, model, checkpoint, training, kept, memory in rows(section(OPERATIONS, "Storage")):
        needed = max(2 * float(checkpoint), float(checkpoint) + float(model))
        assert float(training) == pytest.approx(needed, abs=0.11), name
        assert float(kept) == pytest.approx(4 * float(model) + needed, abs=1), name
        if name.lower() in planned:
            checked += 1
            assert (model, memory) == planned[name.lower()], name

    assert checked == 2


def benchmark_shapes() -> dict[str, dict[str, Any]]:
    """SHAPES of benchmarks/common.py, which is not imported because it brings torch."""
    nodes = ast.parse(text_of(ROOT / "benchmarks" / "common.py")).body
    (shapes,) = (node for node in nodes if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "SHAPES")
    assert shapes.value is not None
    return dict(ast.literal_eval(shapes.value))


def test_oc_apply_creates_what_the_overlay_holds() -> None:
    (shown,) = (block for block in blocks(INSTALL, "console") if "oc apply -k" in block)
    created = {tuple(line.split()[0].split("/")) for line in shown.splitlines()[1:]}

    assert created == {
        (resource(found["apiVersion"], found["kind"]), found["metadata"]["name"])
        for found in build(ROOT / "manifests" / "overlays" / "dev")
    }


def resource(api_version: str, kind: str) -> str:
    """As kubectl names it: serviceaccount, role.rbac.authorization.k8s.io."""
    group = api_version.rpartition("/")[0]
    return kind.lower() + (f".{group}" if group else "")


def python_files() -> list[Path]:
    return [path for folder in ("components", "pipeline") for path in (ROOT / folder).rglob("*.py")]


def source_texts() -> Iterator[str]:
    """Every text of the source; an f-string with … for each of its values."""
    for path in python_files():
        for node in ast.walk(ast.parse(text_of(path))):
            if isinstance(node, ast.JoinedStr):
                parts = (part.value if isinstance(part, ast.Constant) else VARIES for part in node.values)
                yield "".join(map(str, parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def test_quoted_errors_are_those_of_the_source() -> None:
    table = section(OPERATIONS, "When something is wrong").rpartition("What this program says")[2]
    quoted = [text for cells in rows(table) for text in QUOTED.findall(cells[0])]
    told = [text for cells in rows(section(OPERATIONS, "Messages")) for text in QUOTED.findall(cells[0])]
    texts = set(source_texts())

    assert len(quoted) > 30
    for text in quoted:
        fixed = r".*".join(map(re.escape, text.strip(VARIES).strip().split(VARIES)))
        assert any(re.search(fixed, found) for found in texts), text
    for text in told:  # made of several texts
        words = [part for part in re.split(r"train_osft|after 4 attempts|…", text) if part.strip()]
        assert all(any(part.strip() in found for found in texts) for part in words), text


STORY = [
    {"ingest-sdg": "RUNNING"},
    {"ingest-sdg": "SUCCEEDED", "train-osft": "RUNNING"},
    {"ingest-sdg": "SUCCEEDED", "train-osft": "SUCCEEDED", "evaluate": "SUCCEEDED", "publish": "SUCCEEDED"},
]
"""The steps of the run that the installation shows, look after look."""


def test_the_installations_commands_print_what_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
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


def test_the_workflow_may_read_alone_and_its_actions_are_pinned() -> None:
    workflow = yaml.safe_load(text_of(ROOT / ".github" / "workflows" / "ci.yml"))
    used = [step["uses"] for job in workflow["jobs"].values() for step in job["steps"] if "uses" in step]
    run = [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]

    assert workflow["permissions"] == {"contents": "read"}
    assert used
    assert all(re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", action) for action in used)
    assert ".ci/run" in run
    assert any("make test-images" in line for line in run)
