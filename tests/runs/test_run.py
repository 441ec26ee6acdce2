"""Whole runs of the graph on a tiny model: every wrapper executed, every file where it belongs, nothing done twice."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

DATA = """question,response,faithfulness_judgment
What colour is the sash?,The sash is crimson.,YES
Which bird is it?,It is the <b>heron</b>.,YES
Which bird is it again?,The heron.,YES
Who answers?,"The master, «Zoë».",YES
Who answers?,"The master, «Zoë».",YES
How many?,Twelve.,NO
"""
GAPS = """question,reference,rag,best_of_n
Tell me the <script>alert(1)</script> colour.,crimson,wrong,right
Name the bird.,heron,right,wrong
"""
RETENTION = """question,reference,distractors,statement
What flies over the lake?,heron,raven | owl | swan,It is the {}.
Whom does one ask?,master,,
"""
STEPS = ("ingest_sdg", "format_chat", "snapshot_model", "plan_training", "train_osft", "evaluate")


@dataclasses.dataclass
class Run:
    code: int
    out: str
    err: str
    workspace: Path

    def steps(self) -> set[str]:
        return {line.split("|")[0].strip() for line in self.out.splitlines() if " | started" in line}

    def summary(self) -> dict[str, Any]:
        (path,) = self.workspace.glob("runs/*/summary.json")
        return json.loads(path.read_text(encoding="utf-8"))

    def metrics(self) -> dict[str, float]:
        """What the evaluation logged for the dashboard, in the newest run."""
        held = [
            json.loads(path.read_text(encoding="utf-8")) for path in sorted(self.workspace.glob("kfp/*/metadata.json"))
        ]
        return next(one["evaluate"] for one in reversed(held) if "evaluate" in one)["artifacts"]["metrics"]["metadata"]


def osft_pipeline_run(folder: Path, model: Path, gaps: str = GAPS, data: str = DATA, **options: str) -> Run:
    (folder / "qa.csv").write_text(data, encoding="utf-8")
    (folder / "gaps.csv").write_text(gaps, encoding="utf-8")
    (folder / "retention.csv").write_text(RETENTION, encoding="utf-8")
    arguments = {
        "data": str(folder / "qa.csv"),
        "questions": str(folder / "gaps.csv"),
        "retention-questions": str(folder / "retention.csv"),
        "model": str(model),
        "workspace": str(folder / "workspace"),
        "learning-rate": "1e-2",
        "num-epochs": "2",
        "max-answer-tokens": "24",
        "data-option": "held_out_share=0.3",
    } | options
    command = [sys.executable, "-m", "pipeline", "run", *(f"--{name}={value}" for name, value in arguments.items())]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return Run(done.returncode, done.stdout, done.stderr, folder / "workspace")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("run")


@pytest.fixture(scope="module")
def first(folder, tiny_model):
    run = osft_pipeline_run(folder, tiny_model)
    assert run.code == 0, run.out + run.err
    return run


def test_every_step_runs_and_says_so(first):
    assert first.steps() == set(STEPS)
    assert "kept 3 of 6 rows, 1 held out; 1 judged unfaithful, 1 duplicate" in first.out
    assert "step 2/2, epoch 2, loss" in first.out


def test_the_summary_holds_the_result(first):
    summary = first.summary()
    found = summary["evaluation"]

    assert summary["schema"] == 4
    assert summary["seconds"] > 0
    assert summary["training"]["loss_last"] < summary["training"]["loss_first"]
    assert found["gap"]["questions"] == 2
    assert found["choices"]["questions"] == found["open"]["questions"] == 1
    assert 0 < found["audit"]["protected_change_ratio"] < 1e-3
    assert found["audit"]["word"] == "kept"
    assert [entry["others"] for entry in found["gap_answers"]] == [
        {"rag": False, "best_of_n": True},
        {"rag": True, "best_of_n": False},
    ]
    assert summary["good"] is False  # two questions show nothing
    assert {one["state"] for one in found["gate"]["conditions"]} >= {"not shown", "met"}
    assert found["grading"]["grader"] == "the reference rules"


def test_what_was_set_aside_is_scored_and_not_trained_on(first):
    summary = first.summary()
    held_out = summary["evaluation"]["held_out"]

    assert (held_out["answers"], summary["training"]["samples"]) == (1, 3)
    assert first.metrics()["held_out_adapted_perplexity"] == held_out["adapted_perplexity"] > 1
    assert (
        f"Perplexity on 1 held-out answers, which were not trained on: {held_out['base_perplexity']:.2f}" in first.out
    )
    assert "on 1 held-out answers, which were not trained on" in Path(summary["report_path"]).read_text(
        encoding="utf-8"
    )


def test_the_dashboard_gets_the_numbers_and_a_short_report(first):
    found = first.summary()["evaluation"]
    (short,) = first.workspace.glob("kfp/*/store/**/evaluate/*/summary")

    assert short.read_text(encoding="utf-8").startswith("# Evaluation report")
    assert first.metrics()["closed"] == found["gap"]["closed"]
    assert first.metrics()["good"] == 0.0


def test_the_terminal_ends_with_the_table_and_the_paths(first):
    ending = first.out[first.out.index("Gap questions") :]

    report = Path(first.summary()["report_path"])
    for said in ("base", "rag", "best_of_n", "adapted", "Name the bird.", "closed", str(report)):
        assert said in ending
    for name in ("review.html", "dropped.jsonl", "plan.html"):
        assert str(report.with_name(name)) in ending
        assert f'<a href="{name}">' in report.read_text(encoding="utf-8")
    reasons = [json.loads(line)["reason"] for line in report.with_name("dropped.jsonl").read_text().splitlines()]
    assert sorted(reasons) == ["duplicate", "judged unfaithful"]
    assert "to do: train and evaluate" in report.with_name("plan.html").read_text(encoding="utf-8")


def test_the_adapted_model_is_complete_and_beside_it_where_it_comes_from(first):
    adapted = Path(first.summary()["adapted"])
    report = json.loads((adapted / "training_report.json").read_text(encoding="utf-8"))

    assert adapted.parent == first.workspace / "adapted"
    assert {"config.json", "model.safetensors", "tokenizer.json", "metrics.jsonl"} <= {
        p.name for p in adapted.iterdir()
    }
    assert report["plan"]["run_key"] == adapted.name
    assert report["plan"]["data"]["ingest"]["rows_read"] == 6
    assert not list(first.workspace.rglob(".tmp-*"))


def test_the_report_is_one_page_in_which_texts_stay_texts(first):
    page = Path(first.summary()["report_path"]).read_text(encoding="utf-8")

    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<script" not in page
    assert "<svg" in page
    assert "http://" not in page
    assert "https://" not in page


def test_the_same_run_again_trains_nothing_and_says_so(first, folder, tiny_model):
    before = first.summary()

    again = osft_pipeline_run(folder, tiny_model)

    assert again.code == 0, again.out + again.err
    assert again.steps() == set(STEPS) - {"train_osft", "evaluate"}
    assert "nothing to do" in again.out
    assert f"Nothing was trained: run {before['training']['run_key']} was complete." in again.out
    assert "Gap questions" in again.out
    assert again.summary() == before


def test_other_questions_are_asked_without_training_again(first, folder, tiny_model):
    before = first.summary()
    weights = Path(before["adapted"]) / "model.safetensors"
    written = weights.stat().st_mtime_ns

    run = osft_pipeline_run(folder, tiny_model, gaps=GAPS + "Who is it?,Zoë,wrong,wrong\n")

    assert run.code == 0, run.out + run.err
    assert "already trained, nothing to do" in run.out
    assert run.summary()["evaluation"]["gap"]["questions"] == 3
    assert run.summary()["evaluation_key"] != before["evaluation_key"]
    assert weights.stat().st_mtime_ns == written


def test_good_model_is_published_and_only_published_where_that_alone_is_missing(first, folder, tiny_model):
    named = {"publish-as": "handbook"}
    run = osft_pipeline_run(folder, tiny_model, **named)
    assert run.code == 0, run.out + run.err
    assert "publish" not in run.steps()
    (file,) = run.workspace.glob("runs/*/summary.json")
    file.write_text(json.dumps(run.summary() | {"good": True}), encoding="utf-8")  # so small a model never is
    evaluated = file.stat().st_mtime_ns

    published = osft_pipeline_run(folder, tiny_model, **named)

    assert published.steps() == {*STEPS, "publish"}
    assert "already evaluated with the same questions and options" in published.out
    assert file.stat().st_mtime_ns == evaluated
    (note,) = run.workspace.glob("runs/*/published.json")
    adapted = Path(run.summary()["adapted"])
    found = json.loads(note.read_text(encoding="utf-8"))
    assert (found["name"], found["version"], found["uri"]) == ("handbook", adapted.name, adapted.as_uri())
    assert f"handbook, version {adapted.name}: {adapted.as_uri()}" in published.out
    assert published.metrics() == run.metrics()

    idle = osft_pipeline_run(folder, tiny_model, **named)
    assert idle.steps() == set(STEPS) - {"train_osft", "evaluate"}


def test_any_two_models_are_compared_without_the_pipeline(first, folder):
    summary = first.summary()
    arguments = {
        "base": summary["base"],
        "adapted": summary["adapted"],
        "questions": folder / "gaps.csv",
        "retention-questions": folder / "retention.csv",
        "training-data": folder / "qa.csv",
        "held-out": next(first.workspace.glob("kfp/*/store/**/format-chat/*/dataset/held_out.jsonl")),
        "output": folder / "alone",
        "max-answer-tokens": "24",
    }
    command = [
        sys.executable,
        "-m",
        "pipeline",
        "evaluate",
        *(f"--{name}={value}" for name, value in arguments.items()),
    ]

    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    alone = json.loads((folder / "alone" / "summary.json").read_text(encoding="utf-8"))
    assert (
        alone["evaluation"]["gap_answers"]
        == summary["evaluation"]["gap_answers"][: len(summary["evaluation"]["gap_answers"])]
    )
    assert alone["evaluation"]["held_out"] == summary["evaluation"]["held_out"]
    assert alone["training"] == summary["training"]
    assert "Gap questions" in done.stdout
    assert (folder / "alone" / "report.html").exists()


def test_a_step_that_refuses_ends_the_run_with_its_error_and_nothing_half_written(tmp_path, tiny_model):
    run = osft_pipeline_run(tmp_path, tiny_model, **{"max-seq-len": "24", "max-tokens-per-gpu": "64"})

    assert run.code == 1
    assert "3 of 3 samples are longer than max_seq_len = 24 tokens" in run.out
    assert "where:  the dataset's held_out.jsonl" in run.out
    assert "remedy: set max_seq_len to" in run.out
    assert "the step plan_training failed" in run.err
    assert "Traceback" not in run.out + run.err
    assert not (run.workspace / "adapted").exists()
    assert not (run.workspace / "runs").exists()
