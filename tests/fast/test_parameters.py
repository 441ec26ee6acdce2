"""An option is declared once; a run's parameters are one file, on a laptop and on a cluster."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.testing import CliRunner

from benchmarks.tables import options_table
from components.run import parameters as declared_parameters
from components.run.parameters import all_parameters, with_help
from components.run.training_options import TrainingOptions
from components.shared.options import integer, option, parameters_of
from components.shared.problems import Checks, Problems
from pipeline.cli.flags import given_only, with_flags
from pipeline.cluster.compiled_file import PIPELINE, read_pipeline
from pipeline.compile import COMPILED
from pipeline.local.parameters import read_run_parameters, write_parameters
from pipeline.parameters import read_parameters


@dataclasses.dataclass(frozen=True, kw_only=True)
class MoreOptions(TrainingOptions):
    made_up: int = option(3, "how often something is done", integer(1, 9), parameter=True)


def test_an_option_that_is_declared_has_its_flag_its_help_its_row_and_its_rule(monkeypatch):
    monkeypatch.setattr(declared_parameters, "TrainingOptions", MoreOptions)
    app, taken = typer.Typer(), []

    @app.command()
    @with_flags({"Training": parameters_of(MoreOptions)})
    def run(**flags: Any) -> None:
        taken.append(given_only(flags))

    @with_help
    def graph(made_up: int) -> None:
        """A pipeline."""

    text = "how often something is done; an integer from 1 to 9"
    shown = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["--help"]).output
    assert "--made-up" in shown
    assert f"{text[0].upper()}{text[1:]}. Default: 3" in shown
    assert CliRunner().invoke(app, ["--made-up", "5"]).exit_code == 0
    assert taken == [{"made_up": 5}]
    assert f"made_up: {text}" in (graph.__doc__ or "")
    assert f"| `made_up` | `3` | {text} |" in options_table(all_parameters())
    with pytest.raises(Problems, match=r"made_up is '10'(?s:.*)--made-up 3 \(on a cluster: made_up=3\)"):
        MoreOptions.from_mapping({"made_up": 10})


def test_the_compiled_pipeline_has_the_declared_parameters_with_their_defaults_and_help():
    compiled = next(yaml.safe_load_all(COMPILED.read_text(encoding="utf-8")))["root"]["inputDefinitions"]["parameters"]

    assert set(compiled) == set(all_parameters())
    for name, declared in all_parameters().items():
        assert compiled[name]["description"] == declared.text
        assert compiled[name].get("defaultValue", "") == declared.default, name


@pytest.fixture
def file(tmp_path):
    given = {
        "data": "/mnt/osft/qa.csv", "questions": "/mnt/osft/gaps.csv", "model": "org/name", "learning_rate": "1e-5",
        "num_epochs": 3, "training_options": {"warmup_steps": 2},
    }  # fmt: skip
    (tmp_path / "nightly.yaml").write_text(yaml.safe_dump(given), encoding="utf-8")
    return tmp_path / "nightly.yaml"


def read(file: Path, flags: dict[str, Any] | None = None, further: dict[str, Any] | None = None) -> dict[str, Any]:
    checks = Checks()
    found = read_run_parameters(file, flags or {}, further or {}, checks)
    checks.raise_if_any()
    return found


def test_a_laptop_takes_the_file_that_a_cluster_takes_and_flags_go_over_it(file):
    on_cluster = read_parameters(read_pipeline(PIPELINE), [], file)
    further = {"training_options": {"beta1": 0.8}, "data_options": {}}
    here = read(file, {"workspace": "ws", "num_epochs": 4}, further)

    assert on_cluster == {name: here[name] for name in on_cluster} | {
        "num_epochs": 3, "training_options": {"warmup_steps": 2}
    }  # fmt: skip
    assert here["learning_rate"] == 1e-5
    assert here["num_epochs"] == 4
    assert here["training_options"] == {"warmup_steps": 2, "beta1": 0.8}
    assert here["workspace"] == str(Path("ws").resolve())


def test_a_set_of_questions_is_no_path(file):
    for given, taken in (("mmlu", "mmlu"), ("./mmlu", str(Path("mmlu").resolve())), ("", "")):
        assert read(file, {"workspace": "ws", "retention_questions": given})["retention_questions"] == taken


def test_what_a_run_leaves_is_what_it_takes(file, tmp_path):
    first = read(file, {"workspace": str(tmp_path), "system_prompt": "Say: «ja»\n# no"})
    write_parameters(tmp_path / "runs" / "1", first)

    assert read(tmp_path / "runs" / "1" / "params.yaml") == first


@pytest.mark.parametrize(
    ("flags", "further", "found"),
    [
        ({"num_epochs": 0}, {}, ["num_epochs is '0'"]),
        ({"learning_rate": 2.0, "seed": -1}, {}, ["learning_rate is '2.0'", "seed is '-1'"]),
        ({}, {"training_options": {"warmup": 1}}, ["unknown training option 'warmup'"]),
        ({}, {"training_options": {"num_epochs": 1}}, ["num_epochs is given among the further options"]),
        ({}, {"data_options": {"conflicts": "maybe"}}, ["conflicts is 'maybe'"]),
    ],
)
def test_all_that_is_wrong_is_said_at_once(file, flags, further, found):
    with pytest.raises(Problems) as caught:
        read(file, flags, further)

    said = [problem.what for problem in caught.value.problems]
    assert said[0] == "workspace is missing"
    assert [any(text in what for what in said) for text in found] == [True] * len(found)


@pytest.mark.parametrize("name", ["num_epochs", "seed", "effective_batch_size", "max_seq_len"])
def test_a_whole_number_is_no_fraction(file, name):
    with pytest.raises(Problems, match=f"{name} is '2.5'"):
        read_parameters(read_pipeline(PIPELINE), [f"{name}=2.5"], file)
