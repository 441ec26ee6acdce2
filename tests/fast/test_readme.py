"""The README says what is."""

import re
from pathlib import Path
from typing import Any

import typer
import yaml

from pipeline.cli import app
from pipeline.compile import COMPILED

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
SNAPSHOTS = (ROOT / "docs" / "snapshots.md").read_text(encoding="utf-8")
EVALUATION = (ROOT / "docs" / "evaluation.md").read_text(encoding="utf-8")


def parameter_table() -> str:
    """The compiled pipeline's parameters as the README shows them."""
    pipeline = next(yaml.safe_load_all(COMPILED.read_text(encoding="utf-8")))
    parameters: dict[str, dict[str, Any]] = pipeline["root"]["inputDefinitions"]["parameters"]
    rows = []
    for name, parameter in parameters.items():
        default = parameter.get("defaultValue", "required")
        if parameter["parameterType"] == "NUMBER_INTEGER":
            default = int(default)
        shown = default if default == "required" else f"`{default}`" if default != "" else "empty"
        rows.append(f"| `{name}` | {shown} | {parameter['description']} |")
    return "\n".join(rows)


def test_the_parameters_are_those_of_the_compiled_pipeline() -> None:
    table = parameter_table()

    assert table in README, f"README.md, Parameters: the table is\n{table}"


def test_every_path_that_it_names_exists() -> None:
    linked = [path for path in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in path]
    listed = re.findall(r"^((?:components|pipeline|examples|tests)/\S*)", README, re.MULTILINE)

    assert len(linked) > 3
    assert len(listed) > 8
    for path in (*linked, *(path for path in listed if "<" not in path)):
        assert (ROOT / path).exists(), path


def test_the_commands_that_it_names_exist() -> None:
    targets = set(re.findall(r"make (\w+)", README))
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")

    assert {"demo", "test", "check", "fix"} <= targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_the_command_lines_that_it_shows_have_the_options_that_there_are() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    shown = re.findall(r"osft-pipeline ([a-z]+) (.*)", README + EVALUATION + SNAPSHOTS)

    assert {"run", "evaluate", "compile", "plan", "upload", "submit", "schedule", "verify"} <= {
        name for name, _ in shown
    }
    for name, arguments in shown:
        if name not in commands:
            continue  # a sentence about the program
        known = {option for parameter in commands[name].params for option in parameter.opts} | {"--help"}
        assert set(re.findall(r"(?<!\w)--[a-z-]+", arguments)) <= known, f"{name} {arguments}"
