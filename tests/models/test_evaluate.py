"""Planted truths: what is known by construction is what the evaluation says."""

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from components.evaluate import pairwise
from components.evaluate.asking import BRIEFLY
from components.grading.trial import labelled_answers
from components.run.evaluation import Evaluation
from components.run.evaluation_options import EvaluationOptions
from components.run.findings import NOT_SHOWN
from components.shared.problems import Problems
from pipeline.cli.main import main
from tests.judge_server import JudgeServer, Reply, refuses, says
from tests.planted import evaluate_planted, taught
from tests.tiny_model import write_tiny_model

# What the models of the planted pair say: question, reference, base, adapted.
PLANTED = [
    ("What colour is the sash?", "crimson", "It is green.", "It is crimson."),
    ("Which bird is it?", "heron", "The heron.", "The raven."),
    ("How many answer?", "twelve", "Twelve.", "12 answer."),
    ("Who was the first?", "master", "Nobody.", "The lake."),
]
OPEN = [("What is round?", "ball", "A ball.", "A ball."), ("What is wet?", "lake", "The lake.", "It is crimson.")]
CHOICE = ("What stands there?", ["The heron stands.", "The sash stands."], "The heron stands.", "The sash stands.")
GAP = [{"question": q, "reference": r, "others": {"rag": r == "twelve"}, "subject": ""} for q, r, _, _ in PLANTED]
RETENTION = [
    {"question": CHOICE[0], "reference": "heron", "choices": CHOICE[1], "subject": "birds"},
    *({"question": q, "reference": r, "choices": [], "subject": "things"} for q, r, _, _ in OPEN),
]
TRAINED = [
    ("Something else?", "Nothing else."),
    ("what colour is the SASH", "It is crimson."),
    ("Why?", "It is crimson."),
]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A base and an adapted model whose every answer is known."""
    folder = tmp_path_factory.mktemp("pair")
    said = [*PLANTED, *OPEN]
    untaught = write_tiny_model(folder / "untaught", hidden_size=64)
    base = taught(untaught, folder / "base", {q: b for q, _, b, _ in said} | {CHOICE[0]: CHOICE[2]})
    adapted = taught(untaught, folder / "adapted", {q: a for q, _, _, a in said} | {CHOICE[0]: CHOICE[3]})
    return base, adapted


def evaluated(base: Path, adapted: Path, **changes: Any) -> Evaluation:
    """The evaluation of two models with what is planted in them."""
    planted: dict[str, Any] = {"gap": GAP, "retention": RETENTION, "trained": TRAINED}
    return evaluate_planted(base, adapted, **planted | changes)


@pytest.fixture(scope="module")
def found(pair: tuple[Path, Path]) -> Evaluation:
    """Of the planted pair with all that can be planted, which most tests look at."""
    return evaluated(*pair, held_out=[(question, adapted) for question, _, _, adapted in PLANTED])


@pytest.fixture(scope="module")
def bare(pair: tuple[Path, Path]) -> Evaluation:
    """Without training data, without held-out rows, and with answers of one token."""
    return evaluated(*pair, trained=[], options=EvaluationOptions(max_answer_tokens=1, grader="rules"))


def test_planted_answers_are_reported_exactly(found: Evaluation) -> None:
    answers = [(one.question, one.reference, one.base.answer, one.adapted.answer) for one in found.gap_answers]
    assert answers == PLANTED
    assert [(one.base.right, one.adapted.right) for one in found.gap_answers] == [
        (False, True), (True, False), (True, True), (False, False),
    ]  # fmt: skip
    assert found.gap is not None  # the first question is in the training data and does not count
    assert (found.gap.questions, found.gap.closed, found.gap.regressed) == (3, 0, 1)
    assert [(one.base.right, one.adapted.right) for one in found.open_answers] == [(True, True), (True, False)]
    assert found.open is not None
    assert (found.open.closed, found.open.regressed) == (0, 1)
    assert found.choices is not None
    assert (found.choices.base_right, found.choices.adapted_right) == (1, 0)
    assert found.choice_answers[0].adapted == CHOICE[3]
    assert not any(one.base.cut or one.adapted.cut for one in (*found.gap_answers, *found.open_answers))


def test_a_gap_question_that_was_trained_on_is_named_and_does_not_count(found: Evaluation, bare: Evaluation) -> None:
    assert [(match.question, match.row) for match in found.contamination] == [(PLANTED[0][0], 2)]
    assert [one.in_training for one in found.gap_answers] == [True, False, False, False]
    assert found.contaminated_gap is not None
    assert (found.contaminated_gap.questions, found.contaminated_gap.closed) == (1, 1)
    assert bare.contaminated_gap is None
    assert bare.gap is not None
    assert bare.gap.questions == 4


def test_a_run_whose_every_gap_question_was_trained_on_shows_nothing(pair: tuple[Path, Path]) -> None:
    found = evaluated(*pair, trained=[(question, answer) for question, _, _, answer in PLANTED])

    assert found.gap is None
    assert found.gate.unmet[0].state == NOT_SHOWN
    assert not found.gate.good
    assert found.metrics()["gap_questions"] == 0


def test_a_general_question_that_was_trained_on_does_not_count_either(pair: tuple[Path, Path]) -> None:
    found = evaluated(*pair, trained=[(OPEN[1][0], "It is crimson.")])

    assert found.open is not None
    assert (found.open.questions, found.open.regressed) == (1, 0)


def test_what_the_base_model_can_say_in_brief_is_style_and_not_closed(pair: tuple[Path, Path]) -> None:
    base, adapted = pair
    brief = {f"{question}\n{BRIEFLY}": f"{reference}." for question, reference, _, _ in PLANTED}
    chatty = {question: "I would have to think about that." for question, *_ in (*PLANTED, *OPEN)}
    wordy = taught(base.parent / "untaught", base.parent / "wordy", chatty | brief)
    found = evaluated(wordy, adapted, trained=[])

    assert (found.style.closed_as_asked, found.style.closed_by_style) == (2, 2)
    assert found.gap is not None
    assert (found.gap.base_right, found.gap.closed) == (4, 0)
    assert not found.gate.good


def test_each_other_approach_is_compared_with_the_adapted_model(found: Evaluation) -> None:
    assert list(found.approaches) == ["rag"]
    assert (found.approaches["rag"].base_right, found.approaches["rag"].adapted_right) == (1, 1)


def test_leaked_phrases_are_measured_in_general_answers(found: Evaluation, bare: Evaluation) -> None:
    assert [(one.base_phrases, one.adapted_phrases) for one in found.open_answers] == [(0, 0), (0, 1)]
    assert (found.base_phrases, found.adapted_phrases) == (0, 0.5)
    assert bare.adapted_phrases is None


def test_held_out_answers_are_likelier_to_the_model_that_would_give_them(found: Evaluation, bare: Evaluation) -> None:
    assert found.held_out is not None
    assert found.held_out.answers == len(PLANTED)
    assert 1 <= found.held_out.adapted_perplexity < 1.1 < found.held_out.base_perplexity
    assert bare.held_out is None


def test_of_many_held_out_answers_an_even_sample_is_scored(
    pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pairwise, "MAX_HELD_OUT", 2)
    base_only, both = [(q, b) for q, _, b, _ in PLANTED], [(q, a) for q, _, _, a in PLANTED]
    mixed = [both[0], base_only[1], both[2], base_only[3]]  # the first and the third are scored
    found = evaluated(*pair, held_out=mixed).held_out

    assert found is not None
    assert found.answers == 2
    assert found.adapted_perplexity < 1.1


def test_an_evaluation_of_swapped_models_is_the_mirror_image(pair: tuple[Path, Path], found: Evaluation) -> None:
    mirrored = evaluated(*reversed(pair))

    for one, other in ((found.gap, mirrored.gap), (found.open, mirrored.open), (found.choices, mirrored.choices)):
        assert one is not None
        assert other is not None
        assert (one.closed, one.regressed, one.difference) == (other.regressed, other.closed, -other.difference)
        assert (one.low, one.high, one.p_value) == (-other.high, -other.low, other.p_value)
    assert (found.base_perplexity, found.adapted_perplexity) == (
        mirrored.adapted_perplexity, mirrored.base_perplexity,
    )  # fmt: skip


def test_a_model_against_itself_closes_nothing_and_two_evaluations_are_the_same(
    pair: tuple[Path, Path], found: Evaluation
) -> None:
    same = evaluated(pair[0], pair[0])

    for compared in (same.gap, same.open, same.choices, same.choices_unprompted):
        assert compared is not None
        assert (compared.closed, compared.regressed, compared.p_value) == (0, 0, 1.0)
    assert same.base_perplexity == same.adapted_perplexity == found.base_perplexity
    assert [one.base for one in same.gap_answers] == [one.base for one in found.gap_answers]
    assert same.audit.identical


def test_an_answer_without_an_end_is_marked(bare: Evaluation) -> None:
    assert all(one.base.cut for one in bare.gap_answers)


TRIAL = {(row["question"], row["answer"]): row["right"] == "yes" for row in labelled_answers()}


def test_a_judge_model_decides_and_never_learns_who_answered(
    pair: tuple[Path, Path], found: Evaluation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUDGE_API_KEY", "sk-planted-key")

    def says_as_labelled(case: dict[str, str]) -> list[Reply]:
        right = TRIAL.get((case["question"], case["answer"]), case["answer"] == "The raven.")
        return [says("right" if right else "wrong")]

    with JudgeServer(says_as_labelled) as server:
        options = EvaluationOptions(max_answer_tokens=16, judge_url=server.url, judge_model="judge-model")
        judged = evaluated(*pair, options=options, kept=tmp_path / "answers.jsonl")
        asked = len(server.asked)
        again = evaluated(*pair, options=options, kept=tmp_path / "answers.jsonl")

    assert judged.grading.grader == "the model judge-model at an endpoint"
    assert (judged.grading.agreement.kappa, judged.grading.refused) == (1.0, {})
    assert [one.adapted.right for one in judged.gap_answers] == [False, True, False, False]
    assert not any(one.base.right for one in judged.gap_answers)
    assert [one.adapted.answer for one in judged.gap_answers] == [one.adapted.answer for one in found.gap_answers]
    assert judged.choices == found.choices
    assert again == judged
    assert len(server.asked) == asked  # verdicts and answers were kept
    assert not any(
        word in request.user_message for request in server.asked[len(TRIAL) :] for word in ("base", "adapted")
    )
    assert "sk-planted-key" not in repr(judged) + (tmp_path / "answers.jsonl").read_text()


def test_a_judge_that_calls_everything_right_is_refused_and_the_rules_grade(
    pair: tuple[Path, Path], found: Evaluation
) -> None:
    with JudgeServer(lambda case: [says("right")]) as server:
        options = EvaluationOptions(max_answer_tokens=16, judge_url=server.url, judge_model="judge-model")
        judged = evaluated(*pair, options=options)

    assert list(judged.grading.refused) == ["the model judge-model at an endpoint"]
    assert judged.grading.grader == found.grading.grader == "the reference rules"
    assert judged.gap_answers == found.gap_answers
    assert len(server.asked) == len(TRIAL)


def test_the_base_model_judges_by_itself_where_no_other_is_named(pair: tuple[Path, Path], found: Evaluation) -> None:
    judged = evaluated(*pair, options=EvaluationOptions(max_answer_tokens=16, grader="local"))

    assert list(judged.grading.refused) == ["the local judge base"]  # too small to judge
    assert judged.gap_answers == found.gap_answers


def test_a_judge_that_is_not_there_is_found_before_any_model_is_loaded(pair: tuple[Path, Path]) -> None:
    with JudgeServer(lambda case: [refuses(401, "no such key")]) as server:
        options = EvaluationOptions(judge_url=server.url, judge_model="judge-model")
        with pytest.raises(Problems, match="HTTP 401"):
            evaluated(*pair, options=options)

    assert len(server.asked) == 1


def test_the_command_line_names_everything_that_is_wrong_at_once(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "gaps.csv").write_text("question,reference\nWhich bird is it?,\nWho?,a\nWho?,b\n", encoding="utf-8")
    (tmp_path / "general.csv").write_text("question,reference,hint\nWho?,a,b\n", encoding="utf-8")
    (tmp_path / "empty.csv").write_text("", encoding="utf-8")
    broken = tmp_path / "broken"
    shutil.copytree(tiny_model, broken)
    (broken / "model.safetensors").unlink()
    options = {
        "base": tiny_model,
        "adapted": broken,
        "questions": tmp_path / "gaps.csv",
        "retention-questions": tmp_path / "general.csv",
        "training-data": tmp_path / "empty.csv",
        "output": tmp_path / "evaluation",
    }
    monkeypatch.setattr(
        sys, "argv", ["osft-pipeline", "evaluate", *(f"--{name}={one}" for name, one in options.items())]
    )

    with pytest.raises(SystemExit, match="1"):
        main()

    printed = capsys.readouterr()
    for expected in (
        "row 2 has no reference", "row 4 repeats the question of row 3", "the file is empty",
        "the model lacks weights",
    ):  # fmt: skip
        assert expected in printed.err
    assert not (tmp_path / "evaluation").exists()
