"""A model as a judge: its verdict is the likelier word, by itself and whatever else is graded."""

from pathlib import Path
from typing import Any

import pytest
import torch

from components.data.samples import render
from components.evaluate.answering import load
from components.grading.cases import Case, Verdict
from components.grading.local_judge import LocalJudge
from components.grading.rubric import ONE_WORD, VERDICTS
from components.grading.trial import calibrate, labelled_answers

CASES = [Case(row["question"], row["reference"], row["answer"]) for row in labelled_answers()[:40]]


@pytest.fixture(scope="module")
def judge(tiny_model: Path) -> LocalJudge:
    return LocalJudge(*load(tiny_model), "tiny", "its files")


def test_the_verdict_is_the_likelier_first_word_over_both_orders_of_the_rubric(judge: LocalJudge) -> None:
    right, wrong = judge.tokens
    expected = {}
    for case in CASES:
        leaning = 0.0
        for rubric in ONE_WORD:
            content = f"Question: {case.question}\nReference: {case.reference}\nAnswer: {case.answer}"
            messages = [{"role": "system", "content": rubric}, {"role": "user", "content": content}]
            text = render(messages, judge.tokenizer, add_generation_prompt=True)
            tokens = [*judge.tokenizer(text, add_special_tokens=False)["input_ids"], *judge.begin]
            with torch.no_grad():
                logits = judge.model(input_ids=torch.tensor([tokens])).logits[0, -1].log_softmax(-1)
            leaning += float(logits[right] - logits[wrong]) / len(ONE_WORD)
        expected[case] = leaning

    assert dict(judge.leanings(CASES)) == pytest.approx(expected, abs=1e-4)
    judge.threshold = sorted(expected.values())[len(CASES) // 2] + 1e-3
    clear = [case for case in CASES if abs(expected[case] - judge.threshold) > 5e-4]  # rounding decides on the edge
    found = judge.verdicts(CASES)
    assert {found[case].right for case in clear} == {True, False}
    assert [found[case].right for case in clear] == [expected[case] > judge.threshold for case in clear]


def test_a_verdict_does_not_depend_on_what_else_is_graded_and_comes_as_it_is_made(judge: LocalJudge) -> None:
    told: list[tuple[Case, Verdict]] = []
    together = judge.verdicts([*CASES, *CASES], lambda case, verdict: told.append((case, verdict)))

    assert dict(told) == together
    assert len(told) == len(CASES)
    assert all(judge.verdicts([case]) == {case: together[case]} for case in CASES[:5])


def test_a_judge_whose_weights_are_no_numbers_grades_nothing(tiny_model: Path) -> None:
    model, tokenizer = load(tiny_model)
    model.get_input_embeddings().weight.data.fill_(float("nan"))
    found = LocalJudge(model, tokenizer, "broken", "its files").verdicts(CASES[:3])

    assert {verdict.right for verdict in found.values()} == {None}


def test_a_rubric_or_a_model_that_changed_is_another_judge(judge: LocalJudge) -> None:
    assert LocalJudge(judge.model, judge.tokenizer, "tiny", "other files").identity != judge.identity


def test_the_threshold_that_suits_half_the_questions_is_tried_on_the_other_half(judge: LocalJudge) -> None:
    found = calibrate(judge)

    assert found.answers == len(labelled_answers())
    assert judge.threshold != 0
    assert found.kappa_low < 0.5  # so small a model knows nothing about answers


def test_a_template_without_a_system_role_gets_the_rubric_in_the_users_message(tiny_model: Path) -> None:
    model, tokenizer = load(tiny_model)
    refusing = "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    tokenizer.chat_template = refusing + tokenizer.chat_template
    without = LocalJudge(model, tokenizer, "tiny", "its files")

    assert not without.has_system_role
    prompt = tokenizer.decode(without._sample(ONE_WORD[0], CASES[0]).tokens)
    assert ONE_WORD[0].split()[3] in prompt
    assert len(without.verdicts(CASES[:3])) == 3


def test_verdicts_that_begin_alike_are_told_apart_by_the_token_that_parts_them(tiny_model: Path) -> None:
    model, tokenizer = load(tiny_model)

    class WithABlank:
        """A tokenizer that puts a token of its own before every text."""

        def __call__(self, text: str, **more: Any) -> Any:
            found = tokenizer(text, **more)
            return {"input_ids": [7, *found["input_ids"]]} if text in VERDICTS else found

        def __getattr__(self, name: str) -> Any:
            return getattr(tokenizer, name)

    judge, plain = LocalJudge(model, WithABlank(), "tiny", "x"), LocalJudge(model, tokenizer, "tiny", "x")  # type: ignore[arg-type]

    assert judge.begin == [7, *plain.begin]
    assert judge.tokens == plain.tokens
