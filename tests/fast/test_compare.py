"""Runs side by side: paired tests by hand, what cannot be compared, which is the best, and what every form shows."""

import csv
import dataclasses
import html
import io
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from components.compare import core, report
from components.compare.core import compare_runs
from components.compare.paired import CHOICES, GAP, holm, paired_tests
from components.run.evaluation import Summary
from components.run.findings import FAILED, Gate
from components.run.plan import write_plans
from components.run.statistics import compare
from components.run.training_options import TrainingOptions
from components.shared.problems import Problems
from components.shared.storage import write_json
from pipeline.cli import comparison, main
from pipeline.local.comparison import find_runs
from tests.run_records import GRADING, MET_CONDITION, PLAN, REPORT, choice, evaluation, result, summary_of

NOT_GOOD = Gate(conditions=[dataclasses.replace(MET_CONDITION, state=FAILED)])


def run(
    gap: str, general: str = "", key: str = "aaaa000000000000", options: dict[str, Any] | None = None, **changes: Any
) -> Summary:
    """A run whose adapted model answers these questions right (1), wrong (0), without a grade (?) or trained on (t);
    the base model answers gap questions wrong and general ones right."""
    answers = [
        result(False, {"1": True, "0": False, "?": None, "t": True}[letter], f"Gap {n}?", in_training=letter == "t")
        for n, letter in enumerate(gap)
    ]
    chosen = [choice(True, letter == "1", f"General {n}?", subject=f"s{n % 2}") for n, letter in enumerate(general)]
    choices = compare([True] * len(chosen), [one.adapted == one.right for one in chosen]) if chosen else None
    parsed = TrainingOptions.from_mapping(options or {})
    plan = dataclasses.replace(PLAN, run_key=key, options=parsed.as_json())
    training = dataclasses.replace(REPORT, run_key=key, plan=plan, method=parsed.method)
    return summary_of(evaluation(answers, choice_answers=chosen, choices=choices, **changes), training)


@pytest.mark.parametrize(
    ("p_values", "corrected"),
    [
        ([], []),
        ([0.04], [0.04]),
        ([0.01, 0.04, 0.03], [0.03, 0.06, 0.06]),  # 3 x 0.01, 2 x 0.03, then 1 x 0.04, which is no less than before
        ([0.5, 0.9, 0.001, 0.4], [1.0, 1.0, 0.004, 1.0]),
    ],
)
def test_holm_by_hand(p_values, corrected):
    assert holm(p_values) == pytest.approx(corrected)


def test_each_two_adapted_models_are_tested_on_the_questions_that_count_for_both():
    tests = paired_tests(
        {"one": run("0000000011?t", "1111"), "two": run("1111111110011", "1101"), "three": run("1" * 13)}
    )

    gap = [test for test in tests if test.kind == GAP]
    assert [(test.first, test.second) for test in gap] == list(combinations(("one", "two", "three"), 2))
    first = gap[0].compared
    assert first is not None
    # Of ten questions eight are right in the second only, and one in the first only: 2 x (1 + 9) / 2^9.
    assert (first.questions, first.closed, first.regressed) == (10, 8, 1)
    assert first.p_value == pytest.approx(20 / 512)
    assert gap[0].remark == "only 10 of 10 and 13 questions count for both"
    others = [test.compared.p_value for test in gap if test.compared]
    assert others == pytest.approx([20 / 512, 2 / 256, 0.5])  # 8 to 0, and 2 to 0
    assert [test.p_holm for test in gap] == pytest.approx([40 / 512, 6 / 256, 0.5])
    assert [test.shown for test in gap] == [False, True, False]
    (general, *unasked) = [test for test in tests if test.kind == CHOICES]
    assert general.compared is not None
    assert (general.compared.questions, general.compared.regressed) == (4, 1)
    assert {test.remark for test in unasked} == {"no question in common"}


OTHER_BASE = dataclasses.replace(REPORT, plan=dataclasses.replace(PLAN, model=PLAN.model | {"commit": "1" * 40}))


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (run("11", grading=dataclasses.replace(GRADING, grader="rules")), "another grader: the local judge"),
        (dataclasses.replace(run("11"), training=OTHER_BASE), "another base model: ibm-"),
        (run(""), "no question in common"),
    ],
)  # fmt: skip
def test_runs_that_cannot_be_compared_are_named_and_still_shown(tmp_path, other, reason):
    found = compare_runs({"one": run("00"), "other": other}, {})

    assert found.tests[0].compared is None
    assert found.tests[0].remark.startswith(reason)
    assert (found.best, found.choice[:26]) == ("", "No run is called the best:")
    for form, text in forms(found, tmp_path).items():
        assert reason in text or form == "runs", form


@pytest.mark.parametrize(
    ("runs", "best", "said"),
    [
        ({"few": run("1100"), "many": run("1110")}, "many", "Best: many, which closed 3 gap questions; 2 of 2 pass"),
        ({"many": run("1110", gate=NOT_GOOD), "few": run("1100")}, "few", "1 of 2 pass the gate"),
        ({"forgets": run("1100", "10"), "keeps": run("1100", "11")}, "keeps", "than forgets (2 closed, p = 1.000)"),
        ({"one": run("1" * 9), "other": run("0" * 9)}, "one", "2 of 2 pass the gate"),
        ({"one": run("1", gate=NOT_GOOD), "other": run("1", gate=NOT_GOOD)}, "", "None of 2 runs passes the gate"),
    ],
)
def test_the_best_closed_most_of_those_that_pass_the_gate_and_no_more_is_said_than_is_shown(runs, best, said):
    found = compare_runs(runs, {})

    assert found.best == best
    assert said in found.choice
    assert ("not shown to be better" in found.choice) == (best in ("many", "keeps", "few"))


def forms(found: core.Compared, folder: Path) -> dict[str, str]:
    """What a reader sees, by form."""
    names = ("page", "runs", "tests")
    report.write(found, **{name: folder / name for name in names})
    shown = io.StringIO()
    comparison.show(found, Console(file=shown, width=220))
    page = html.unescape(re.sub(r"<[^>]*>", "", (folder / "page").read_text(encoding="utf-8")))
    tables = {name: (folder / name).read_text(encoding="utf-8") for name in ("runs", "tests")}
    return {"page": page, "terminal": shown.getvalue(), **tables}


def test_every_form_shows_results_costs_settings_tests_and_failures_and_no_markup_of_others(tmp_path):
    runs = {"slow": run("1100", "1101"), "<b>fast": run("1110", "1111", options={"learning_rate": 1e-4})}
    found = compare_runs(runs, {"wild": "1 problem\n1. the loss is <i>NaN</i>\n  where: step 3"})
    shown = forms(found, tmp_path)

    for form in ("page", "terminal"):
        for said in ("0 → 3 of 4", "20.00 → 21.00", "kept", "0.0001", "wild", "the loss is <i>NaN</i>", "not shown"):
            assert said in shown[form], (form, said)
    page = (tmp_path / "page").read_text(encoding="utf-8")
    assert page.count('class="dot"') == 2
    assert "<i>" not in page
    assert "&lt;b&gt;fast" in page
    rows = list(csv.DictReader(io.StringIO((tmp_path / "runs").read_text(encoding="utf-8"))))
    assert [(row["run"], row["gap: closed"], row["option learning_rate"]) for row in rows[:2]] == [
        ("slow", "2.0", "5e-06"), ("<b>fast", "3.0", "0.0001"),
    ]  # fmt: skip
    assert (rows[0]["subject s1: regressed"], rows[0]["tokens per second"]) == ("0.0", "100.0")
    assert (rows[2]["run"], rows[2]["gap: closed"], "NaN" in rows[2]["error"]) == ("wild", "", True)
    tests = list(csv.DictReader(io.StringIO((tmp_path / "tests").read_text(encoding="utf-8"))))
    assert [(row["questions"], row["points"], row["p, Holm"]) for row in tests] == [
        (GAP, "25.0", "1.0"), (CHOICES, "25.0", "1.0"),
    ]  # fmt: skip


@pytest.fixture
def workspace(tmp_path):
    for key in ("aaaa000000000001", "aaaa000000000002", "bbbb000000000003"):
        write_json(tmp_path / "runs" / key / "summary.json", dataclasses.asdict(run("10", key=key)))
    write_json(tmp_path / "runs" / "cccc" / "summary.json", {"schema": 1})
    return tmp_path


def test_runs_are_found_by_folder_key_or_beginning_of_a_key(workspace):
    named = [str(workspace / "runs" / "bbbb000000000003"), "aaaa000000000001", "aaaa000000000002", "bbbb"]

    assert list(find_runs(named, workspace)) == ["bbbb000000000003", "aaaa000000000001", "aaaa000000000002"]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["none", "bbbb", "nothing"], "no evaluated run is known as none, nothing"),
        (["none", "aaaa"], "2 problems(?s:.*)several runs begin with aaaa"),
        (["aaaa000000000001", "cccc"], "the result of cccc cannot be read(?s:.*)evaluate the model again"),
        (["bbbb", "bbbb000000000003"], "there is one run only"),
        ([], "no run is named"),
    ],
)
def test_all_runs_that_cannot_be_had_are_named_at_once(workspace, names, said):
    with pytest.raises(Problems, match=said):
        find_runs(names, workspace)


def test_the_command_writes_the_page_and_the_tables(workspace):
    done = CliRunner().invoke(
        main.app,
        ["compare", "aaaa000000000001", "bbbb", "--workspace", str(workspace), "--output", str(workspace / "out")],
    )

    assert done.exit_code == 0, done.output
    assert "Best: aaaa000000000001" in done.output
    assert {file.name for file in (workspace / "out").iterdir()} == {"comparison.html", "runs.csv", "tests.csv"}


def test_a_sweep_without_any_result_is_an_error_with_all_reasons(tmp_path):
    write_plans(tmp_path / "plans", {"one": PLAN, "two": PLAN})
    write_json(tmp_path / "outcomes", {"one": "1 problem\n1. no GPU\n  where: here", "two": ""})
    paths = {name: tmp_path / name for name in ("plans", "outcomes", "page", "runs", "tests", "adapted", "plan")}

    with pytest.raises(Problems, match=r"none of the 2 settings(?s:.*)one: 1\. no GPU; two: it has no evaluation"):
        core.compare(workspace=tmp_path, **paths)
