"""The settings of a sweep one after the other: what is done is not done again, and what fails stops no other."""

import dataclasses
import os
import signal
import subprocess
import sys
import time

import pytest

from components.run.plan import write_plans
from components.run_sweep.core import ATTEMPTS, environment_of, run_sweep
from components.shared.records import STARTED, StepRecord, read_records
from components.shared.storage import read_json, write_json
from tests.run_records import PLAN, evaluation, hand_on, result, summary_of


@pytest.fixture
def records(tmp_path, monkeypatch):
    monkeypatch.setenv("OSFT_STEP_RECORDS", str(tmp_path / "records"))
    monkeypatch.setenv("KFP_RUN_ID", "run")
    return tmp_path / "records" / "run"


@pytest.fixture
def given(tmp_path):
    """What run_sweep is given, for a setting whose base model is away, and one that is complete."""
    workspace, model = tmp_path / "workspace", tmp_path / "workspace" / "models" / "gone"
    model.mkdir(parents=True)
    note = hand_on(model, workspace, "snapshot.json")
    (model / "snapshot.json").unlink()
    plans = {"away": PLAN, "done": dataclasses.replace(PLAN, run_key="b" * 16)}
    write_plans(tmp_path / "plans", plans)
    adapted = workspace / "adapted" / ("b" * 16)
    write_json(adapted / "training_report.json", {})
    found = evaluation([result(False, True)])
    summary = summary_of(found, evaluation_key=PLAN.evaluation_key, adapted=str(adapted))
    write_json(workspace / "runs" / ("b" * 16) / "summary.json", dataclasses.asdict(summary))
    others = {"dataset": tmp_path, "plans": tmp_path / "plans", "outcomes": tmp_path / "outcomes"}
    return {"workspace": workspace, "snapshot": note, **others}


def test_what_may_pass_is_tried_again_and_then_the_next_setting_begins(given, records):
    found = run_sweep(**given)

    assert found == read_json(given["outcomes"])
    assert "the model is not there any more" in found["away"]
    assert found["done"] == ""
    assert read_records(records / "away")["train_osft"].attempt == ATTEMPTS
    assert not (records / "done").exists()


def test_only_what_grades_gets_the_judges_key(records, monkeypatch):
    monkeypatch.setenv("JUDGE_API_KEY", "key")

    assert "JUDGE_API_KEY" not in environment_of("lora", "train_osft")
    assert environment_of("lora", "evaluate")["JUDGE_API_KEY"] == "key"
    assert environment_of("lora", "evaluate")["KFP_RUN_ID"] == "run/lora"


def test_a_mistake_is_not_tried_again(given, records):
    given["snapshot"].write_text("no note", encoding="utf-8")

    assert "the note about the model cannot be read" in run_sweep(**given)["away"]
    assert read_records(records / "away")["train_osft"].attempt == 1


def test_a_setting_that_ended_with_its_pod_too_often_is_passed_over(given, records):
    killed = StepRecord(
        step="train_osft", state=STARTED, attempt=ATTEMPTS, started_at="2026-11-22T02:00:00+00:00", error="", facts={}
    )
    write_json(records / "away" / "train_osft.json", dataclasses.asdict(killed))

    assert run_sweep(**given)["away"] == "train_osft was ended from outside 2 times (memory, time, eviction)"
    assert read_records(records / "away")["train_osft"] == killed


def test_without_records_the_exit_code_is_said(given, monkeypatch):
    monkeypatch.delenv("KFP_RUN_ID", raising=False)

    assert run_sweep(**given)["away"] == "train_osft ended with exit code 1"


STOPPED = """
import pathlib, sys
from components.run_sweep import core
core._run_process("away", "train_osft", {"plan": pathlib.Path("/nowhere")})
print("went on")
"""


def test_who_ends_it_ends_the_setting_that_works_and_no_other_begins(tmp_path):
    """The step is a program of that name that waits."""
    waiting = "import signal, sys, time\nsignal.signal(15, lambda *_: (print('checkpoint', flush=True), sys.exit(1)))\n"
    step = tmp_path / "step.py"
    step.write_text(waiting + "print('waits', flush=True)\ntime.sleep(60)\n", encoding="utf-8")
    program = STOPPED.replace("core._run_process", f"sys.executable = {str(tmp_path / 'python')!r}\ncore._run_process")
    (tmp_path / "python").write_text(f"#!/bin/sh\nexec {sys.executable} {step}\n", encoding="utf-8")
    (tmp_path / "python").chmod(0o755)
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waits\n"
        time.sleep(0.2)
        os.kill(process.pid, signal.SIGTERM)
        said, _ = process.communicate(timeout=30)

    assert (process.returncode, said) == (143, "checkpoint\n")
