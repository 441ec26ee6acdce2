"""Base and adapted model answer the same questions: what was closed, what regressed, and did OSFT keep its guarantee?

One model is in memory at a time. Nothing is sampled: graded against the references, a repetition gives the same result.
"""

import dataclasses
import gc
import math
from importlib import resources
from pathlib import Path
from typing import Any

from components.evaluate import audit, harness
from components.evaluate.answering import Answer, answer, load
from components.evaluate.gate import decide
from components.evaluate.likelihood import answer_perplexity, choose, perplexity
from components.evaluate.overlap import Phrases, contaminated
from components.evaluate.statistics import compare
from components.grading.cases import Case, Verdict
from components.grading.judge import Judge
from components.grading.reference_rules import is_right
from components.run.evaluation import (
    BY_REFERENCE,
    ChoiceResult,
    Comparison,
    Evaluation,
    GradedAnswer,
    HeldOut,
    QuestionResult,
    Score,
)
from components.run.evaluation_options import EvaluationOptions
from components.shared import progress

MAX_HELD_OUT = 1000  # answers that are scored, evenly spread over all held-out rows


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Outputs:
    """What one model answered, chose and finds likely."""

    answers: list[Answer]
    prompted: list[str]
    """The statements chosen with the training's system prompt."""
    unprompted: list[str]
    perplexity: float
    held_out_perplexity: float
    """0 when no rows were held out."""
    scores: dict[tuple[str, str], float]


def evaluate_models(
    *,
    base: Path,
    adapted: Path,
    system_prompt: str,
    gap: list[dict[str, Any]],
    retention: list[dict[str, Any]],
    trained: list[tuple[str, str]],
    held_out: list[tuple[str, str]],
    unfreeze_rank_ratio: float,
    target_patterns: tuple[str, ...] | None,
    options: EvaluationOptions,
) -> Evaluation:
    """Evaluate an adapted model against its base.

    Args:
        base, adapted: model folders of the same architecture.
        system_prompt: the training's.
        gap, retention: as components.data.questions reads them.
        trained: questions and answers of the training data, in its order; may be empty.
        held_out: questions and answers of the held-out rows.
        unfreeze_rank_ratio, target_patterns: the training's, for the audit.

    Raises:
        Problems: for models that are no pair, answers that could not be graded, and tasks that failed.
    """
    harness.check_installed(options.tasks)
    audit.check_pair(base, adapted)
    judge = Judge(options.judge_url, options.judge_model) if options.judge_url else None
    if judge:
        judge.check()
    choices = [entry for entry in retention if entry["choices"]]
    questions = [*gap, *(entry for entry in retention if not entry["choices"])]
    scored = held_out[:: max(1, math.ceil(len(held_out) / MAX_HELD_OUT))]

    def run(who: str, folder: Path) -> _Outputs:
        outputs = _run_model(folder, who, system_prompt, questions, choices, scored, options)
        gc.collect()  # one model in memory at a time
        return outputs

    before, after = run("base", base), run("adapted", adapted)
    results = _grade(questions, before, after, judge, Phrases(text for _, text in trained))
    gap_results, open_results = results[: len(gap)], results[len(gap) :]
    choice_results = [
        ChoiceResult(
            question=entry["question"],
            subject=entry.get("subject", ""),
            right=entry["choices"][0],
            base=before.prompted[place],
            adapted=after.prompted[place],
            base_unprompted=before.unprompted[place],
            adapted_unprompted=after.unprompted[place],
        )
        for place, entry in enumerate(choices)
    ]
    matches = contaminated([entry["question"] for entry in gap], trained)
    in_training = {match.question for match in matches}
    audits = audit.audit(base, adapted, unfreeze_rank_ratio, target_patterns or audit.default_patterns(base))
    clean = [one for one in gap_results if one.question not in in_training] if matches else []
    compared = _compare([(one.base.right, one.adapted.right) for one in gap_results])
    assert compared is not None
    prompted = _compare([(one.base == one.right, one.adapted == one.right) for one in choice_results])
    unprompted = _compare(
        [(one.base_unprompted == one.right, one.adapted_unprompted == one.right) for one in choice_results]
    )
    open_ended = _compare([(one.base.right, one.adapted.right) for one in open_results])
    return Evaluation(
        judged_by=judge.name if judge else BY_REFERENCE,
        gap=compared,
        gap_answers=gap_results,
        contamination=matches,
        clean_gap=_compare([(one.base.right, one.adapted.right) for one in clean]),
        choices=prompted,
        choices_unprompted=unprompted,
        choice_answers=choice_results,
        open=open_ended,
        open_answers=open_results,
        base_phrases=_mean([one.base_phrases for one in open_results]) if trained else None,
        adapted_phrases=_mean([one.adapted_phrases for one in open_results]) if trained else None,
        base_perplexity=before.perplexity,
        adapted_perplexity=after.perplexity,
        held_out=HeldOut(
            answers=len(scored),
            base_perplexity=before.held_out_perplexity,
            adapted_perplexity=after.held_out_perplexity,
        ) if scored else None,
        scores=[
            Score(task=task, metric=metric, base=value, adapted=after.scores[task, metric])
            for (task, metric), value in before.scores.items()
        ],
        protected_change_ratio=audit.overall(audits),
        rounding_ratio=audit.overall_rounding(audits),
        audit=audits,
        gate=decide(compared, {
            "general questions, multiple choice": prompted,
            "the same without the system prompt": unprompted,
            "general questions, open-ended": open_ended,
        }, options),
    )  # fmt: skip


def general_text() -> str:
    """The ordinary prose whose perplexity is measured."""
    return resources.files("components.evaluate").joinpath("general_text.txt").read_text(encoding="utf-8")


def _run_model(
    folder: Path, who: str, system_prompt: str, questions: list[dict[str, Any]], choices: list[dict[str, Any]],
    held_out: list[tuple[str, str]], options: EvaluationOptions,
) -> _Outputs:  # fmt: skip
    progress.log(f"{who}: {len(questions)} open-ended and {len(choices)} multiple-choice questions")
    model, tokenizer = load(folder)
    texts = [entry["question"] for entry in questions]
    statements = [(entry["question"], entry["choices"]) for entry in choices]

    def chosen(prompt: str, name: str) -> list[str]:
        places = choose(model, tokenizer, prompt, statements, name)
        return [options[place] for (_, options), place in zip(statements, places, strict=True)]

    return _Outputs(
        answers=answer(model, tokenizer, system_prompt, texts, options.max_answer_tokens, who),
        prompted=chosen(system_prompt, who),
        unprompted=chosen("", f"{who}, no system prompt"),
        perplexity=perplexity(model, tokenizer, general_text(), who),
        held_out_perplexity=answer_perplexity(model, tokenizer, system_prompt, held_out, who) if held_out else 0.0,
        scores=harness.scores(model, tokenizer, options.tasks, who),
    )


def _grade(
    questions: list[dict[str, Any]], before: _Outputs, after: _Outputs, judge: Judge | None, known: Phrases
) -> list[QuestionResult]:
    """Grade every answer of both models."""
    triples = list(zip(questions, before.answers, after.answers, strict=True))
    cases = [
        Case(entry["question"], entry["reference"], reply.text) for entry, *replies in triples for reply in replies
    ]
    verdicts = (
        judge.verdicts(cases)
        if judge
        else {case: Verdict(is_right(case.question, case.reference, case.answer), "") for case in cases}
    )

    def graded(entry: dict[str, Any], reply: Answer) -> GradedAnswer:
        verdict = verdicts[Case(entry["question"], entry["reference"], reply.text)]
        return GradedAnswer(answer=reply.text, right=verdict.right, reason=verdict.reason, cut=reply.cut)

    return [
        QuestionResult(
            question=entry["question"],
            reference=entry["reference"],
            subject=entry.get("subject", ""),
            others=entry.get("others", {}),
            base=graded(entry, base),
            adapted=graded(entry, adapted),
            base_phrases=known.share(entry["question"], base.text),
            adapted_phrases=known.share(entry["question"], adapted.text),
        )
        for entry, base, adapted in triples
    ]


def _compare(pairs: list[tuple[bool, bool]]) -> Comparison | None:
    """Compare verdicts on base and adapted model; None without any."""
    return compare([base for base, _ in pairs], [adapted for _, adapted in pairs]) if pairs else None


def _mean(numbers: list[float]) -> float | None:
    return sum(numbers) / len(numbers) if numbers else None
