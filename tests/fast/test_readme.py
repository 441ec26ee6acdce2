"""The README's parameters and file tree are those that there are; tests/fast/test_docs.py checks all else."""

import re
from pathlib import Path
from typing import Any

import yaml

from pipeline.compile import COMPILED
from pipeline.graph import build
from pipeline.settings import load_settings

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def parameter_table() -> str:
    """The compiled pipeline's parameters as the README shows them, in the order of graph.py."""
    pipeline = next(yaml.safe_load_all(COMPILED.read_text(encoding="utf-8")))
    parameters: dict[str, dict[str, Any]] = pipeline["root"]["inputDefinitions"]["parameters"]
    rows = []
    order = build(load_settings()).component_spec.inputs or {}
    assert set(order) == set(parameters)
    for name in order:
        parameter = parameters[name]
        default = parameter.get("defaultValue", "required")
        if parameter["parameterType"] == "NUMBER_INTEGER":
            default = int(default)
        shown = default if default == "required" else f"`{default}`" if default != "" else "empty"
        rows.append(f"| `{name}` | {shown} | {parameter['description']} |")
    return "\n".join(rows)


def test_the_parameters_are_those_of_the_compiled_pipeline() -> None:
    table = parameter_table()

    assert table in README, f"README.md, Parameters: the table is\n{table}"


def test_every_path_of_its_file_tree_exists() -> None:
    listed = re.findall(r"^((?:components|pipeline|examples|tests)/\S*)", README, re.MULTILINE)

    assert len(listed) > 8
    for path in (path for path in listed if "<" not in path):
        assert (ROOT / path).exists(), path
