"""A sweep on this machine, as a cluster runs it: one setting fails and stops no other, and nothing is done twice."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pipeline.compile import SWEEP
from tests.fast.test_compiled import STEPS
from tests.runs.test_run import DATA, GAPS, RETENTION


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_model):
    folder = tmp_path_factory.mktemp("sweep")
    for name, text in (("qa.csv", DATA), ("gaps.csv", GAPS), ("retention.csv", RETENTION)):
        (folder / name).write_text(text, encoding="utf-8")
    parameters = {
        "data": str(folder / "qa.csv"),
        "questions": str(folder / "gaps.csv"),
        "retention_questions": str(folder / "retention.csv"),
        "model": str(tiny_model),
        "workspace": str(folder / "workspace"),
        "evaluation_options": {"max_answer_tokens": 24},
        "learning_rate": "1e-2",
        "settings": [
            {"name": "wild", "method": "sft", "learning_rate": 0.999, "num_epochs": 60},  # its loss diverges
            {"name": "osft", "num_epochs": [1, 2]},
        ],
    }
    (folder / "sweep.yaml").write_text(yaml.safe_dump(parameters), encoding="utf-8")
    return folder


def sweep(folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipeline", "compare", "--sweep", str(folder / "sweep.yaml"), *more]
    return subprocess.run([*command, "--output", str(folder / "out")], capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def first(folder):
    done = sweep(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def started(output: str) -> list[str]:
    return [line.split("|")[0].strip() for line in output.splitlines() if " | started" in line]


def test_a_dry_run_says_how_many_runs_and_touches_nothing(folder):
    done = sweep(folder, "--dry-run")

    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 settings; to do: train 3, evaluate 3, compare them" in done.stdout
    assert "training would take about" in done.stdout
    assert not (folder / "workspace").exists()


def test_a_setting_that_fails_stops_no_other_and_is_shown(folder, first):
    steps = started(first.stdout)
    assert steps == [
        "ingest_sdg", "format_chat", "snapshot_model", "plan_sweep", "run_sweep",
        "train_osft", "train_osft", "evaluate", "train_osft", "evaluate", "compare",
    ]  # fmt: skip
    assert set(steps) - {"train_osft", "evaluate"} == STEPS[SWEEP] - {"publish", "notify"}
    rows = list(csv.DictReader((folder / "out" / "runs.csv").read_text(encoding="utf-8").splitlines()))
    assert [row["run"] for row in rows if not row["error"]] == ["osft-1", "osft-2"]
    assert {row["option num_epochs"] for row in rows} == {"1.0", "2.0", ""}
    assert "diverge" in rows[2]["error"]
    assert "failed    wild" in first.stdout
    assert "None of 2 runs passes the gate" in first.stdout
    assert "gap questions" in (folder / "out" / "tests.csv").read_text(encoding="utf-8")
    assert "<svg" in (folder / "out" / "comparison.html").read_text(encoding="utf-8")


def test_the_same_sweep_again_trains_nothing_that_is_complete(folder, first):
    again = sweep(folder)

    assert again.returncode == 0, again.stdout + again.stderr
    assert "plan_sweep | 3 settings; to do: train 1, evaluate 1, compare them" in again.stdout
    assert started(again.stdout).count("train_osft") == 1  # of the one that failed
    assert "evaluate" not in started(again.stdout)


def test_the_best_that_passes_the_gate_is_published(folder, first):
    """So small a model never passes: two summaries are made to say so."""
    for file in (folder / "workspace").glob("runs/*/summary.json"):
        summary = json.loads(file.read_text(encoding="utf-8"))
        for condition in summary["evaluation"]["gate"]["conditions"]:
            condition["state"] = "met"
        file.write_text(json.dumps(summary | {"good": True}), encoding="utf-8")

    done = sweep(folder)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 of 2 pass the gate" in done.stdout
    (published,) = (folder / "workspace").glob("runs/*/published.json")
    best = json.loads(published.with_name("summary.json").read_text(encoding="utf-8"))
    assert f"Best: osft-{best['training']['plan']['options']['num_epochs']}," in done.stdout


@pytest.mark.parametrize("dry_run", [["--dry-run"], []])
def test_mistakes_of_all_settings_are_said_before_anything_is_trained(folder, tmp_path, dry_run):
    parameters = yaml.safe_load((folder / "sweep.yaml").read_text(encoding="utf-8"))
    wrong = {"settings": [{"name": "a", "max_seq_len": 16}, {"name": "b", "max_seq_len": 17, "seed": 1}]}
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(parameters | wrong), encoding="utf-8")

    done = sweep(tmp_path, "--workspace", str(tmp_path / "workspace"), *dry_run)

    assert done.returncode == 1
    for name in ("a", "b"):
        assert f"setting {name}: 4 of 4 samples are longer than max_seq_len" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    assert not (tmp_path / "workspace" / "runs").exists()
