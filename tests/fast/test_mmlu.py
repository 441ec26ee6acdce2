"""MMLU's questions in the form in which lm-evaluation-harness carries them."""

from pathlib import Path

import pytest

from components.data.questions import read_retention_questions
from tests.fast.conftest import only_problem_of

TASK = """\
dataset_name: high_school_physics
fewshot_config:
  sampler: first_n
  samples:
  - question: 'Which statement, |a| or |b|, holds?

      (A) |a| (B) |b| (C) both, {} (D) |b|'
    target: Let's think step by step. It is not (A). The answer is (C).
  - question: 'How many lines (in sum)?

      (A) 4 (B) 3 (C) 6 (D) 24 (E) 8'
    target: 'Four times two is eight. The answer is (E).


      '
  - question: 'Which statement, |a| or |b|, holds?

      (A) |a| (B) |b| (C) both, {} (D) |b|'
    target: The answer is (C).
"""


@pytest.fixture
def harness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of that name, for this test, with the folder that its questions lie in."""
    folder = tmp_path / "lm_eval" / "tasks" / "mmlu" / "flan_cot_fewshot"
    folder.mkdir(parents=True)
    (tmp_path / "lm_eval" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    return folder


def test_questions_are_multiple_choice_with_the_right_one_first(harness: Path) -> None:
    (harness / "mmlu_high_school_physics.yaml").write_text(TASK, encoding="utf-8")
    (harness / "_mmlu.yaml").write_text("group: mmlu", encoding="utf-8")
    assert read_retention_questions("mmlu") == [
        {
            "question": "Which statement, |a| or |b|, holds?",
            "reference": "both, {}",
            "choices": ["both, {}", "|a|", "|b|"],
            "subject": "high school physics",
        },
        {
            "question": "How many lines (in sum)?",
            "reference": "8",
            "choices": ["8", "4", "3", "6", "24"],
            "subject": "high school physics",
        },
    ]


def test_a_harness_without_them_is_an_error_with_the_remedy(harness: Path) -> None:
    found = only_problem_of(read_retention_questions, "mmlu")
    assert found.where == "parameter retention_questions"
    assert "pip install '.[harness]'" in found.remedy
