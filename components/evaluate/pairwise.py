"""Base and adapted model answer the same questions: what was closed, what was lost, and was OSFT's promise kept?

One model is in memory at a time. No sampling: with the references as judge the same models give the same evaluation.
"""

import dataclasses
import gc
import math
from importlib import resources
from pathlib import Path
from typing import Any

from components.evaluate import audit, harness
from components.evaluate.answering import Answer, answer, load
from components.evaluate.likelihood import answer_perplexity, choose, perplexity
from components.evaluate.overlap import Phrases, contaminated
from components.evaluate.statistics import compare
from components.grading.judge import Case, Judge, Verdict
from components.grading.reference_rules import is_right
from components.run.evaluation import Answered, Chosen, Comparison, Evaluation, Gate, HeldOut, Said, Score
from components.run.evaluation_options import EvaluationOptions
from components.shared import progress

BY_REFERENCE = "the references"
MAX_HELD_OUT = 1000  # rows whose answers are scored; evenly spread over all of them


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Replies:
    """What one model said to everything."""

    answers: list[Answer]
    prompted: list[int]
    unprompted: list[int]
    perplexity: float
    held_out_perplexity: float
    """Of the held-out answers; 0 when there are none."""
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
        held_out: the same of the rows that were set aside.
        unfreeze_rank_ratio, target_patterns: the training's, for the audit.

    Raises:
        Problems: for models that are no pair, answers that could not be judged, and tasks that failed.
    """
    harness.check_installed(options.tasks)
    audit.check_pair(base, adapted)
    judge = Judge(options.judge_url, options.judge_model) if options.judge_url else None
    if judge:
        judge.check()
    several = [entry for entry in retention if entry["choices"]]
    asked = [*gap, *(entry for entry in retention if not entry["choices"])]

    questions = [entry["question"] for entry in asked]
    scored = held_out[:: max(1, math.ceil(len(held_out) / MAX_HELD_OUT))]
    replies = {
        who: _ask(folder, who, system_prompt, questions, several, scored, options)
        for who, folder in (("base", base), ("adapted", adapted))
    }
    verdicts = _judged(asked, replies, judge)

    def said(entry: dict[str, Any], reply: Answer) -> Said:
        verdict = verdicts[Case(entry["question"], entry["reference"], reply.text)]
        return Said(answer=reply.text, right=verdict.right, reason=verdict.reason, cut=reply.cut)

    known = Phrases(text for _, text in trained)
    answers = [
        Answered(
            question=entry["question"],
            reference=entry["reference"],
            subject=entry.get("subject", ""),
            others=entry.get("others", {}),
            base=said(entry, before),
            adapted=said(entry, after),
            base_phrases=known.share(entry["question"], before.text),
            adapted_phrases=known.share(entry["question"], after.text),
        )
        for entry, before, after in zip(asked, replies["base"].answers, replies["adapted"].answers, strict=True)
    ]
    gap_answers, open_answers = answers[: len(gap)], answers[len(gap) :]
    choice_answers = [
        Chosen(
            question=entry["question"],
            subject=entry.get("subject", ""),
            right=entry["choices"][0],
            base=entry["choices"][replies["base"].prompted[place]],
            adapted=entry["choices"][replies["adapted"].prompted[place]],
            base_unprompted=entry["choices"][replies["base"].unprompted[place]],
            adapted_unprompted=entry["choices"][replies["adapted"].unprompted[place]],
        )
        for place, entry in enumerate(several)
    ]
    found = contaminated([entry["question"] for entry in gap], (question for question, _ in trained))
    names = {match.question for match in found}
    clean = [one for one in gap_answers if one.question not in names]
    compared = _compared(gap_answers)
    assert compared is not None
    choices = _chosen(choice_answers, "base", "adapted")
    unprompted = _chosen(choice_answers, "base_unprompted", "adapted_unprompted")
    in_full = _compared(open_answers)
    patterns = target_patterns or audit.default_patterns(base)
    audits = audit.audit(base, adapted, unfreeze_rank_ratio, patterns)
    before, after = replies["base"], replies["adapted"]
    return Evaluation(
        judged_by=judge.name if judge else BY_REFERENCE,
        gap=compared,
        gap_answers=gap_answers,
        contamination=found,
        clean_gap=_compared(clean) if found else None,
        choices=choices,
        choices_unprompted=unprompted,
        choice_answers=choice_answers,
        open=in_full,
        open_answers=open_answers,
        base_phrases=_mean([one.base_phrases for one in open_answers]) if trained else None,
        adapted_phrases=_mean([one.adapted_phrases for one in open_answers]) if trained else None,
        base_perplexity=before.perplexity,
        adapted_perplexity=after.perplexity,
        held_out=HeldOut(
            answers=len(scored),
            base_perplexity=before.held_out_perplexity,
            adapted_perplexity=after.held_out_perplexity,
        )
        if scored
        else None,
        scores=[
            Score(task=task, metric=metric, base=value, adapted=after.scores[task, metric])
            for (task, metric), value in before.scores.items()
        ],
        protected_change_ratio=audit.overall(audits),
        rounding_ratio=audit.overall_rounding(audits),
        audit=audits,
        gate=judge_by_bar(compared, {
            "general questions, multiple choice": choices,
            "the same without the system prompt": unprompted,
            "general questions answered in full": in_full,
        }, options),
    )  # fmt: skip


def judge_by_bar(gap: Comparison, general: dict[str, Comparison | None], options: EvaluationOptions) -> Gate:
    """Whether the adapted model is good enough.

    Args:
        general: comparisons on general questions, by what they are called.
    """
    reasons = []
    if gap.closed < options.closed_min:
        reasons.append(f"{gap.closed} gap questions closed, at least {options.closed_min} wanted")
    if gap.regressed > options.regressed_max:
        reasons.append(f"{gap.regressed} gap questions lost, at most {options.regressed_max} allowed")
    for name, compared in general.items():
        if compared and -compared.difference > options.retention_drop_max:
            reasons.append(
                f"{name}: {-compared.difference:.1f} percentage points lost, at most "
                f"{options.retention_drop_max:g} allowed"
            )
    return Gate(good_enough=not reasons, reasons=reasons)


def general_text() -> str:
    """The ordinary prose whose perplexity is measured."""
    return resources.files("components.evaluate").joinpath("general_text.txt").read_text(encoding="utf-8")


def _ask(
    folder: Path, who: str, system_prompt: str, questions: list[str], several: list[dict[str, Any]],
    held_out: list[tuple[str, str]], options: EvaluationOptions,
) -> _Replies:  # fmt: skip
    progress.log(f"{who}: answering {len(questions)} questions, choosing in {len(several)}")
    model, tokenizer = load(folder)
    statements = [(entry["question"], entry["choices"]) for entry in several]
    replies = _Replies(
        answers=answer(model, tokenizer, system_prompt, questions, options.max_answer_tokens, who),
        prompted=choose(model, tokenizer, system_prompt, statements, who),
        unprompted=choose(model, tokenizer, "", statements, f"{who}, no system prompt"),
        perplexity=perplexity(model, tokenizer, general_text(), who),
        held_out_perplexity=answer_perplexity(model, tokenizer, system_prompt, held_out, who) if held_out else 0.0,
        scores=harness.scores(model, tokenizer, options.tasks, who),
    )
    del model  # one model in memory at a time
    gc.collect()
    return replies


def _judged(asked: list[dict[str, Any]], replies: dict[str, _Replies], judge: Judge | None) -> dict[Case, Verdict]:
    """A verdict for every question with every answer to it."""
    cases = [
        Case(entry["question"], entry["reference"], reply.text)
        for one in replies.values()
        for entry, reply in zip(asked, one.answers, strict=True)
    ]
    if judge:
        return judge.verdicts(cases)
    return {case: Verdict(is_right(case.question, case.reference, case.answer), "") for case in cases}


def _compared(answers: list[Answered]) -> Comparison | None:
    return compare([one.base.right for one in answers], [one.adapted.right for one in answers]) if answers else None


def _chosen(answers: list[Chosen], base: str, adapted: str) -> Comparison | None:
    if not answers:
        return None
    return compare(*([getattr(one, field) == one.right for one in answers] for field in (base, adapted)))


def _mean(numbers: list[float]) -> float | None:
    return sum(numbers) / len(numbers) if numbers else None
