"""What a run continues from: the model published last under its name; and the same data are not trained on twice."""

import dataclasses
import shutil
from pathlib import Path

import pytest

from components.plan_training.beginning import Beginning, find_beginning
from components.run.lineage import check_start, earlier_questions
from components.run.plan import Generation, TrainingPlan
from components.run.run_key import run_key
from components.run.training_options import TrainingOptions
from components.shared.problems import Problems
from components.shared.storage import read_json, write_json
from tests.run_records import PLAN, REPORT, as_written, evaluation, result, write_summary

NAME = "granite-osft"
BASE = "a1" * 20
OPTIONS = TrainingOptions()
FIRST, SECOND = f"{1:016x}", f"{2:016x}"


def finished(
    workspace: Path, key: str, data: str, at: str = "", share: str = "", commit: str = BASE, name: str = NAME,
    lineage: list[Generation] | None = None, right: dict[str, bool] | None = None,
) -> TrainingPlan:  # fmt: skip
    """A run that was evaluated, and at a time published; the questions that it asked with whether it was right."""
    plan = dataclasses.replace(
        PLAN, run_key=key, data=PLAN.data | {"data_digest": data}, model=PLAN.model | {"commit": commit},
        lineage=lineage or [],
    )  # fmt: skip
    model = workspace / "adapted" / f"{key}{share}"
    report = as_written(REPORT, plan=plan)
    write_json(model / "training_report.json", report)
    write_summary(workspace / "runs" / key, "good", {})
    asked = evaluation(
        [result(False, is_right, question, key) for question, is_right in (right or {"?": True}).items()]
    )
    summary = read_json(workspace / "runs" / key / "summary.json")
    summary |= {"training": report, "evaluation": dataclasses.asdict(asked), "adapted": str(model)}
    write_json(workspace / "runs" / key / "summary.json", summary)
    if at:
        note = {"name": name, "version": model.name, "registry": "", "entry": "", "uri": "", "published_at": at}
        write_json(workspace / "runs" / key / "published.json", note)
    return plan


def begin(workspace: Path, data: str, start_from: str = "published", options: TrainingOptions = OPTIONS) -> Beginning:
    return find_beginning(workspace, start_from, NAME, data, BASE, options, 1)


def test_the_first_scheduled_run_starts_from_the_base_model_says_so_and_is_the_run_that_it_would_be_anyway(tmp_path):
    assert not begin(tmp_path, "d1", "base").note
    begun = begin(tmp_path, "d1")

    assert begun.note.startswith(f"no model made from this base model is published as {NAME} yet")
    assert (begun.run_key, begun.lineage) == (run_key("d1", BASE, OPTIONS, 1), [])
    assert begun.run_key == begin(tmp_path, "d1", "base").run_key


def test_new_data_are_trained_on_top_of_the_model_published_last(tmp_path):
    finished(tmp_path, FIRST, "d1", "2026-03-01T00:00:00")  # of an older release, without a time zone
    finished(tmp_path, SECOND, "d2", "2026-03-01T01:00:00+02:00", share="-0.75")  # an hour before
    finished(tmp_path, f"{3:016x}", "d3", "2026-04-01T00:00:00Z", name="another")
    finished(tmp_path, f"{4:016x}", "d4", "2026-04-01T00:00:00Z", commit="b2" * 20)
    finished(tmp_path, f"{5:016x}", "d5")  # not published

    begun = begin(tmp_path, "d9")

    assert [one.model for one in begun.lineage] == [FIRST]
    assert begun.run_key == run_key("d9", BASE, OPTIONS, 1, FIRST) != run_key("d9", BASE, OPTIONS, 1)
    assert "the training starts from" in begun.note
    assert begin(tmp_path, "d9", "base").lineage == []


@pytest.mark.parametrize("options", [OPTIONS, TrainingOptions(num_epochs=9)], ids=["same options", "other options"])
@pytest.mark.parametrize("share", ["", "-0.75"])
def test_the_data_of_the_model_published_last_are_not_trained_on_again(tmp_path, share, options):
    first = finished(tmp_path, FIRST, "d1", "2026-03-01T00:00:00Z")
    lineage = begin(tmp_path, "d2").lineage
    assert begin(tmp_path, "d1", options=options).run_key == first.run_key
    finished(tmp_path, SECOND, "d2", "2026-03-02T00:00:00Z", share=share, lineage=lineage)

    for _ in range(2):
        begun = begin(tmp_path, "d2", options=options)
        assert (begun.run_key, begun.lineage, begun.options) == (SECOND, lineage, first.training_options)
        assert "was trained on these very data" in begun.note
    # Data that were replaced since are new ones again: a rollback is trained on top, once.
    again = begin(tmp_path, "d1")
    assert [one.model for one in again.lineage] == [FIRST, f"{SECOND}{share}"]
    assert again.run_key not in (FIRST, SECOND)


def test_a_model_that_was_rewound_is_another_one_to_start_from(tmp_path):
    finished(tmp_path, FIRST, "d1", "2026-03-01T00:00:00Z")
    whole = begin(tmp_path, "d2").run_key
    finished(tmp_path, FIRST, "d1", "2026-03-01T00:00:00Z", share="-0.5")

    assert begin(tmp_path, "d2").run_key != whole


def test_earlier_questions_come_with_the_answer_of_the_last_run_that_was_right(tmp_path):
    finished(tmp_path, FIRST, "d1", "2026-03-01T00:00:00Z", right={"a": True, "b": True, "c": False})
    one = begin(tmp_path, "d2")
    finished(
        tmp_path, SECOND, "d2", "2026-03-02T00:00:00Z", lineage=one.lineage, right={"b": False, "c": True, "d": False}
    )
    two = begin(tmp_path, "d3")

    found = {
        asked.question: (asked.run_key, asked.answer, asked.right) for asked in earlier_questions(tmp_path, two.lineage)
    }
    assert found == {
        "a": (FIRST, FIRST, True), "b": (FIRST, FIRST, True), "c": (SECOND, SECOND, True), "d": (SECOND, SECOND, False),
    }  # fmt: skip
    assert one.questions_digest != two.questions_digest
    assert not begin(tmp_path, "d1", "base").questions_digest


def test_what_a_run_cannot_continue_from_is_named_with_the_way_out(tmp_path):
    finished(tmp_path, FIRST, "d1", "2026-03-01T00:00:00Z")
    with pytest.raises(Problems, match="start_from is 'publish'"):
        check_start("publish")

    shutil.move(tmp_path / "adapted" / FIRST, tmp_path / "away")
    with pytest.raises(Problems, match=f"(?s)the model published last as {NAME} is not there.*--start-from base"):
        begin(tmp_path, "d2")
    shutil.move(tmp_path / "away", tmp_path / "adapted" / FIRST)
    for name in ("summary.json", "published.json"):
        content = (tmp_path / "runs" / FIRST / name).read_text()
        (tmp_path / "runs" / FIRST / name).write_text("{}")
        with pytest.raises(Problems, match=f"{name} of run {FIRST} cannot be read"):
            begin(tmp_path, "d2")
        (tmp_path / "runs" / FIRST / name).write_text(content)
