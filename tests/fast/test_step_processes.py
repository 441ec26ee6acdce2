"""Steps forked from one process: each has its own folders, variables and end."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.local.launcher import Pod
from pipeline.local.processes import StepProcesses, step_processes
from tests.tables import table

HEAD = "from kfp import dsl\nfrom kfp.dsl import *\n\n"


@pytest.fixture(scope="module")
def steps():
    with step_processes() as running:
        yield running


def run(steps: StepProcesses, folder: Path, body: str, **environment: str) -> tuple[int, str, Pod]:
    pod = Pod.make(folder / "pod")
    shown: list[str] = []
    told: dict[str, Any] = {"inputs": {}, "outputs": {"outputFile": str(pod.root / "out.json")}}
    program = f"{HEAD}def step():\n    {body}\n"
    code = steps.run(program, "step", told, pod.root, environment, folder / "log", shown.append)
    assert (folder / "log").read_text(encoding="utf-8") == "".join(shown)
    return code, "".join(shown), pod


@pytest.mark.parametrize(("body", "code", "said"), table("step_processes", "ends"))
def test_a_step_ends_alone_with_its_own_code_and_all_that_it_printed(steps, tmp_path, body, code, said):
    ended, shown, _ = run(steps, tmp_path, body)

    assert ended == code
    assert said in shown


def test_a_step_has_variables_and_a_tmp_of_its_own_and_leaves_nothing_to_the_next(steps, tmp_path):
    body = "import os, tempfile; print(os.environ.get('MINE'), tempfile.gettempdir()); os.environ['MINE'] = 'changed'"
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()

    _, first, pod = run(steps, tmp_path / "one", body, MINE="given")
    _, second, _ = run(steps, tmp_path / "two", body)

    assert f"given {pod.root}/tmp" in first
    assert "None " in second


def test_the_sdk_finds_artifacts_below_the_pods_folder(steps, tmp_path):
    body = "print(dsl.Artifact(uri='minio://bucket/key').path, dsl.Artifact(uri='s3://bucket/key').path)"

    _, shown, pod = run(steps, tmp_path, body)

    assert f"{pod.root}/minio/bucket/key {pod.root}/s3/bucket/key" in shown


def test_a_program_that_cannot_be_read_is_an_error_of_the_step(steps, tmp_path):
    code, shown, _ = run(steps, tmp_path, "print(")

    assert code == 1
    assert "SyntaxError" in shown
