"""A schedule over weeks: a first run, nothing new, new data on top of the published model, nothing new again."""

import json
from pathlib import Path
from typing import Any

import pytest

from components.shared.storage import read_json
from tests.runs.test_run import DATA, GAPS, STEPS, Run, osft_pipeline_run

SECOND_DATA = """question,response,faithfulness_judgment
What hangs in the hall?,A lantern hangs there.,YES
Who keeps the keys?,The warden keeps them.,YES
When is the feast?,It is in autumn.,YES
"""
SECOND_GAPS = "question,reference\nSay what hangs in the hall.,lantern\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("run")


def scheduled(folder: Path, model: Path, data: str = DATA, gaps: str = GAPS) -> Run:
    named = {"publish-as": "handbook", "start-from": "published", "data-option": "conflicts=keep"}
    run = osft_pipeline_run(folder, model, gaps, data, **named)
    assert run.code == 0, run.out + run.err
    return run


def summaries(run: Run) -> dict[str, dict[str, Any]]:
    return {path.parent.name: read_json(path) for path in run.workspace.glob("runs/*/summary.json")}


def publish(folder: Path, model: Path, key: str, *given: str) -> Run:
    """Call a run's model good, which one so small never is, and let the next run of the schedule publish it."""
    file = folder / "workspace" / "runs" / key / "summary.json"
    file.write_text(json.dumps(read_json(file) | {"good": True}), encoding="utf-8")
    run = scheduled(folder, model, *given)
    assert run.steps() == {*STEPS, "publish"}
    return run


def test_two_generations_of_a_schedule(folder: Path, tiny_model: Path) -> None:
    first = scheduled(folder, tiny_model)
    assert "published as handbook yet: the training starts from the base model" in first.out
    (one,) = summaries(first)
    publish(folder, tiny_model, one)

    idle = scheduled(folder, tiny_model)
    assert idle.steps() == set(STEPS) - {"train_osft", "evaluate"}
    assert f"{one}, published last as handbook, was trained on these very data" in idle.out
    assert list(summaries(idle)) == [one]

    second = scheduled(folder, tiny_model, SECOND_DATA, SECOND_GAPS)
    (two,) = summaries(second).keys() - {one}
    found = summaries(second)[two]
    asked = {
        entry["question"]: entry["adapted"]["answer"] for entry in summaries(first)[one]["evaluation"]["gap_answers"]
    }
    then = {entry["question"]: entry["then"]["answer"] for entry in found["evaluation"]["earlier_answers"]}
    report = read_json(folder / "workspace" / "adapted" / two / "training_report.json")
    assert "2 gap questions of earlier runs are asked again" in second.out
    assert f"loading {folder / 'workspace' / 'adapted' / one} on" in second.out
    assert then == asked
    assert "earlier questions" in [condition["name"] for condition in found["evaluation"]["gate"]["conditions"]]
    assert found["evaluation"]["audit"]["word"] == "kept"  # measured against what it started from
    assert found["base"] == summaries(first)[one]["base"]  # and all else against the base model
    assert [entry["model"] for entry in report["plan"]["lineage"]] == [one]
    page = Path(found["report_path"]).read_text(encoding="utf-8")
    assert "Questions of earlier runs" in page
    assert f"{one}: trained on " in page

    publish(folder, tiny_model, two, SECOND_DATA, SECOND_GAPS)
    idle = scheduled(folder, tiny_model, SECOND_DATA, SECOND_GAPS)
    assert idle.steps() == set(STEPS) - {"train_osft", "evaluate"}
    assert set(summaries(idle)) == {one, two}

    asked_anew = scheduled(folder, tiny_model, SECOND_DATA, SECOND_GAPS + "Who has the keys?,warden\n")
    assert "already trained, nothing to do" in asked_anew.out
    assert len(summaries(asked_anew)[two]["evaluation"]["gap_answers"]) == 2
    assert len(summaries(asked_anew)[two]["evaluation"]["earlier_answers"]) == 2
    assert set(summaries(asked_anew)) == {one, two}
