"""A training that went too far: the share of its change that is right is found, written and reported on."""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from components.evaluate import asking
from components.evaluate.answering import load
from components.evaluate.core import evaluate
from components.publish.core import publish
from components.run.evaluation import Evaluation
from components.run.evaluation_options import EvaluationOptions
from components.run.findings import GOOD, NOT_GOOD
from components.run.lineage import EarlierQuestion, find_start
from components.run.training_options import TrainingOptions
from components.shared.storage import read_json, write_json, write_jsonl
from tests.planted import evaluate_planted, taught
from tests.report_page import METRICS
from tests.run_records import PLAN, REPORT, as_written, hand_on
from tests.tiny_model import write_tiny_model

BIRDS = "heron raven owl swan crane stork robin eagle falcon finch wren gull".split()  # noqa: SIM905
GAP = [
    {"question": f"Which bird stands at gate {number}?", "reference": bird, "others": {}, "subject": ""}
    for number, bird in enumerate(BIRDS)
]
GENERAL = [
    {"question": f"What is thing {number}?", "reference": "ball", "choices": [], "subject": ""} for number in range(4)
]
OPTIONS: dict[str, Any] = {"max_answer_tokens": 12, "grader": "rules", "retention_margin": 100.0}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A base model that knows no bird, and one that went twice as far as the model that knows them all."""
    folder = tmp_path_factory.mktemp("pair")
    general = {one["question"]: "A ball." for one in GENERAL}
    untaught = write_tiny_model(folder / "untaught", hidden_size=64)
    base = taught(untaught, folder / "base", {one["question"]: "A cat." for one in GAP} | general)
    knows = taught(base, folder / "knows", {one["question"]: one["reference"] for one in GAP} | general)
    start, end = (load_file(one / "model.safetensors") for one in (base, knows))
    save_file(
        {name: start[name] + 2 * (end[name] - start[name]) for name in start},
        knows / "model.safetensors",
        metadata={"format": "pt"},
    )
    return base, knows


def evaluated(pair: tuple[Path, Path], folder: Path, shares: str, **changes: Any) -> Evaluation:
    inputs = {"gap": GAP, "retention": GENERAL, "trained": [], "promised": False, "rewound": folder / "model"}
    options = EvaluationOptions(rewind=shares, **OPTIONS)
    return evaluate_planted(*pair, options=options, **inputs | changes)


@pytest.fixture(scope="module")
def found(pair: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Evaluation, Path]:
    folder = tmp_path_factory.mktemp("rewound")
    return evaluated(pair, folder, "0.1,0.5,0.05", kept=folder / "answers.jsonl"), folder


def test_the_largest_share_that_passes_is_taken_and_no_smaller_one_is_tried(found: tuple[Evaluation, Path]) -> None:
    evaluation, _ = found

    assert evaluation.rewind is not None
    assert [(one.share, one.verdict) for one in evaluation.rewind.trials] == [(1.0, NOT_GOOD), (0.5, GOOD)]
    assert (evaluation.share, evaluation.rewind.shares) == (0.5, 3)
    assert evaluation.gap is not None
    assert (evaluation.gap.questions, evaluation.gap.closed) == (12, 12)
    assert "(one-sided 98.3 %)" in evaluation.gate.conditions[2].finding


def test_what_is_written_is_what_was_tried_and_what_is_audited(
    found: tuple[Evaluation, Path], pair: tuple[Path, Path]
) -> None:
    evaluation, folder = found
    written = folder / "model-0.5"
    start, end = (load_file(one / "model.safetensors") for one in pair)

    for name, weight in load_file(written / "model.safetensors").items():
        assert torch.equal(weight, torch.lerp(start[name], end[name], 0.5)), name
    load(written)  # whole: tokenizer and configuration, too
    assert evaluation.audit.matrices[0].relative_change > 0
    again = evaluate_planted(pair[0], written, gap=GAP, retention=GENERAL, trained=[], promised=False,
                             options=EvaluationOptions(**OPTIONS))  # fmt: skip
    assert [one.adapted.answer for one in again.gap_answers] == [one.adapted.answer for one in evaluation.gap_answers]
    assert [m.change_norm for m in again.audit.matrices] == [m.change_norm for m in evaluation.audit.matrices]


def test_an_attempt_after_a_kill_takes_what_is_there(found: tuple[Evaluation, Path], pair: tuple[Path, Path]) -> None:
    evaluation, folder = found
    weights = folder / "model-0.5" / "model.safetensors"
    before = (weights.stat().st_mtime_ns, (folder / "answers.jsonl").read_bytes())

    assert evaluated(pair, folder, "0.1,0.5,0.05", kept=folder / "answers.jsonl") == evaluation
    assert (weights.stat().st_mtime_ns, (folder / "answers.jsonl").read_bytes()) == before


def test_where_no_share_passes_the_verdict_is_of_the_whole_change(pair: tuple[Path, Path], tmp_path: Path) -> None:
    plain, tried = evaluated(pair, tmp_path, ""), evaluated(pair, tmp_path, "0.02")

    assert tried.rewind is not None
    assert [one.share for one in tried.rewind.trials] == [1.0, 0.02]
    assert (tried.share, tried.gap, tried.gate) == (1.0, plain.gap, plain.gate)
    assert plain.rewind is None
    assert not list(tmp_path.iterdir())


def test_a_change_that_passes_whole_is_not_rewound(
    found: tuple[Evaluation, Path], pair: tuple[Path, Path], tmp_path: Path
) -> None:
    whole = evaluated((pair[0], found[1] / "model-0.5"), tmp_path, "0.5,0.25")

    assert (whole.gate.verdict, whole.rewind) == (GOOD, None)
    assert whole.gap is not None
    assert whole.gap.questions == 12


@pytest.mark.parametrize(
    ("reference", "answer", "state"),
    [("", "", "met"), ("ball", "A ball.", "failed"), ("ball", "A cat.", "not shown")],
    ids=["still right", "right then, wrong now", "graded wrong now, whatever the record says"],
)
def test_what_earlier_runs_answered_right_must_be_right_still(
    found: tuple[Evaluation, Path], pair: tuple[Path, Path], tmp_path: Path, reference: str, answer: str, state: str
) -> None:
    earlier = [
        EarlierQuestion(
            question=one["question"],
            reference=reference or one["reference"],
            run_key="1",
            answer=answer or one["reference"],
            right=True,
            cut=False,
        )
        for one in GAP[:4]
    ]
    evaluation = evaluated((pair[0], found[1] / "model-0.5"), tmp_path, "", earlier=earlier)

    (condition,) = [one for one in evaluation.gate.conditions if one.name == "earlier questions"]
    assert condition.state == state
    assert evaluation.earlier is not None
    assert evaluation.earlier.questions == 4
    assert evaluation.gate.good == (state == "met")


def test_a_run_publishes_what_it_rewound_and_the_next_one_starts_from_it(
    pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "general_text", lambda: "The heron stands in the lake.")
    workspace, key = tmp_path / "workspace", PLAN.run_key
    base = shutil.copytree(pair[0], workspace / "models" / "local--base" / ("0" * 40))
    adapted = shutil.copytree(pair[1], workspace / "adapted" / key)
    planned = dataclasses.replace(
        PLAN, options=TrainingOptions(method="sft").as_json(), evaluation=OPTIONS | {"rewind": "0.5"}
    )
    write_json(tmp_path / "plan", as_written(planned))
    write_json(adapted / "training_report.json", as_written(REPORT, plan=planned))
    write_jsonl(adapted / "metrics.jsonl", METRICS)
    rows = {"gap_questions": GAP, "retention_questions": GENERAL, "train": [], "held_out": []}
    (tmp_path / "dataset").mkdir()
    for name, each in rows.items():
        write_jsonl(tmp_path / "dataset" / f"{name}.jsonl", each)
    (tmp_path / "dataset" / "system_prompt.txt").write_text("Be brief.", encoding="utf-8")
    handed = {"adapted": hand_on(adapted, workspace, "training_report.json"), "plan": tmp_path / "plan"}

    snapshot = hand_on(base, workspace, "snapshot.json")
    pages = {name: tmp_path / name for name in ("page", "summary")}
    found = evaluate(dataset=tmp_path / "dataset", snapshot=snapshot, workspace=workspace, **handed, **pages)
    note = tmp_path / "published"
    done = publish(workspace=workspace, claim="osft", registry="", note=note, **handed)
    start = find_start(workspace, PLAN.publish["name"], "0" * 40)

    assert (found.good, found.metrics["share_of_change"]) == (True, 0.5)
    assert (done.version, done.uri) == (f"{key}-0.5", f"pvc://osft/adapted/{key}-0.5")
    assert read_json(note)["path"] == f"adapted/{key}-0.5"
    report = read_json(workspace / "adapted" / f"{key}-0.5" / "training_report.json")
    assert (report["rewound"], report["run_key"], report["path"]) == (0.5, key, str(adapted) + "-0.5")
    assert start is not None
    assert start.generation.model == f"{key}-0.5"
    page = pages["page"].read_text(encoding="utf-8")
    assert "This model holds 50 % of it" in page
