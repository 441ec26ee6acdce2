"""What was answered and graded is not asked for again."""

from collections.abc import Iterable
from pathlib import Path

import pytest

from components.evaluate.grading import Panel
from components.evaluate.kept import Kept, state_of
from components.grading.cases import Case, OnVerdict, Verdict, ignore
from components.grading.trial import labelled_answers

LABELS = {Case(row["question"], row["reference"], row["answer"]): row["right"] == "yes" for row in labelled_answers()}
CASES = [Case("Which bird?", "heron", answer) for answer in ("The heron.", "A raven.", "An owl.")]


class Truthful:
    """A grader that knows the labels, is asked one case after the other, and may die on the way."""

    name, identity = "one that knows", "truthful"

    def __init__(self, dies_at: str = "") -> None:
        self.dies_at = dies_at
        self.asked: list[str] = []

    def verdicts(self, cases: Iterable[Case], on_verdict: OnVerdict = ignore) -> dict[Case, Verdict]:
        found = {}
        for case in cases:
            if case.answer == self.dies_at:
                raise KeyboardInterrupt
            self.asked.append(case.answer)
            found[case] = Verdict(LABELS.get(case, "heron" in case.answer), "as labelled")
            on_verdict(case, found[case])
        return found


def graded(file: Path, grader: Truthful) -> dict[Case, Verdict]:
    panel = Panel(Kept(file))
    assert panel.offer(grader)
    return panel.grade(CASES)[0]


def test_a_later_attempt_asks_only_for_the_verdicts_that_are_missing(tmp_path: Path) -> None:
    first, second, third = Truthful(dies_at="An owl."), Truthful(), Truthful()
    with pytest.raises(KeyboardInterrupt):
        graded(tmp_path / "kept.jsonl", first)

    found = graded(tmp_path / "kept.jsonl", second)

    assert len(first.asked) == len(LABELS) + 2
    assert second.asked == ["An owl."]
    assert [found[case].right for case in CASES] == [True, False, False]
    assert graded(tmp_path / "kept.jsonl", third) == found
    assert third.asked == []


def test_verdicts_of_another_grader_do_not_count(tmp_path: Path) -> None:
    graded(tmp_path / "kept.jsonl", Truthful())
    other = Truthful()
    other.identity = "another rubric"

    graded(tmp_path / "kept.jsonl", other)

    assert len(other.asked) == len(LABELS) + len(CASES)


@pytest.mark.parametrize("damage", ['{"key": "12', '{"value": 1}', "[]", "\x00\xff"])
def test_a_damaged_line_costs_only_what_it_held(tmp_path: Path, damage: str) -> None:
    file = tmp_path / "kept.jsonl"
    Kept(file).put("before", "one")
    with file.open("a", encoding="latin-1") as out:
        out.write("\n" + damage)
    Kept(file).put("after", "two")

    kept = Kept(file)
    assert (kept.get("one"), kept.get("two"), kept.get("three")) == ("before", "after", None)


def test_the_state_of_a_model_is_that_of_its_files_but_for_the_marker_that_runs_touch(tmp_path: Path) -> None:
    for name in ("model.safetensors", "config.json", "snapshot.json"):
        (tmp_path / name).write_text(name)
    before = state_of(tmp_path)

    (tmp_path / "snapshot.json").write_text("touched")
    assert state_of(tmp_path) == before
    (tmp_path / "config.json").write_text("another one")
    assert state_of(tmp_path) != before
