"""Base and adapted model answer the same questions: what was closed, what regressed, and did OSFT keep its guarantee?

One model is in memory at a time. Nothing is sampled: unless an endpoint grades, a repetition gives the same result.
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
from components.evaluate.grading import Panel, kind_of_grader
from components.evaluate.kept import Kept, state_of
from components.evaluate.likelihood import answer_perplexity, choose, perplexity
from components.evaluate.overlap import Phrases, contaminated
from components.evaluate.pair import check_pair, check_same_language
from components.grading.cases import Case, Verdict
from components.grading.endpoint_judge import EndpointJudge
from components.grading.local_judge import LocalJudge
from components.run.evaluation import Evaluation
from components.run.evaluation_options import ENDPOINT, LOCAL, EvaluationOptions
from components.run.findings import (
    ChoiceResult,
    Comparison,
    GradedAnswer,
    HeldOut,
    QuestionResult,
    Score,
    Style,
)
from components.run.statistics import compare
from components.shared import progress
from components.shared.storage import read_json
from components.shared.workspace import SNAPSHOT_MANIFEST

MAX_HELD_OUT = 1000  # answers that are scored, evenly spread over all held-out rows
BRIEFLY = "Answer in at most ten words."  # the base model is asked so as well: is what was learnt only to be brief?


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inputs:
    """What is compared, and with what."""

    base: Path
    """Model folders of the same architecture."""
    adapted: Path
    system_prompt: str
    """The training's."""
    gap: list[dict[str, Any]]
    """As components.data.questions reads them."""
    retention: list[dict[str, Any]]
    trained: list[tuple[str, str]]
    """Questions and answers of the training data, in its order; may be empty."""
    held_out: list[tuple[str, str]]
    """Of the held-out rows."""
    unfreeze_rank_ratio: float
    """The training's, for the audit."""
    target_patterns: tuple[str, ...] | None
    """None for those of OSFT."""
    promised: bool
    """Whether the training's method promises to keep out of the protected directions."""
    judge: Path | None
    """Folder of a local judge; None for the base model."""
    kept: Path | None
    """File for answers and verdicts, which a later attempt takes from there."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Outputs:
    """What one model answered, chose and finds likely."""

    answers: list[Answer]
    brief: list[Answer]
    """Asked to be brief; empty for the adapted model."""
    prompted: list[str]
    """The statements chosen with the training's system prompt; empty where a likelihood is NaN or infinite."""
    unprompted: list[str]
    perplexity: float
    held_out_perplexity: float
    """0 when no rows were held out."""
    scores: dict[tuple[str, str], float]


def evaluate_models(inputs: Inputs, options: EvaluationOptions) -> Evaluation:
    """Evaluate an adapted model against its base.

    Raises:
        Problems: for models that are no pair or have NaN or infinite weights, answers that could not be graded, and
            tasks that failed.
    """
    harness.check_installed(options.tasks)
    check_pair(inputs.base, inputs.adapted)
    differences = check_same_language(inputs.base, inputs.adapted, options.accept_differences)
    kept = Kept(inputs.kept)
    panel, kind = Panel(kept), kind_of_grader(options)
    if kind == ENDPOINT:
        panel.offer(_endpoint_judge(options))
    patterns = inputs.target_patterns or audit.default_patterns(inputs.base)
    audited = audit.audit(inputs.base, inputs.adapted, inputs.unfreeze_rank_ratio, patterns, inputs.promised)
    choices = [entry for entry in inputs.retention if entry["choices"]]
    questions = [*inputs.gap, *(entry for entry in inputs.retention if not entry["choices"])]
    scored = inputs.held_out[:: max(1, math.ceil(len(inputs.held_out) / MAX_HELD_OUT))]

    def run(who: str, folder: Path) -> _Outputs:
        outputs = _run_model(folder, who, inputs.system_prompt, questions, choices, scored, options, kept)
        gc.collect()  # one model in memory at a time
        return outputs

    before, after = run("base", inputs.base), run("adapted", inputs.adapted)
    if kind == LOCAL:
        panel.offer(_local_judge(inputs.judge or inputs.base))
    matches = contaminated([entry["question"] for entry in [*inputs.gap, *inputs.retention]], inputs.trained)
    in_training = {match.question for match in matches}
    known = Phrases(text for _, text in inputs.trained)
    cases = [
        Case(entry["question"], entry["reference"], reply.text)
        for entry, *replies in zip(questions, before.answers, before.brief, after.answers, strict=True)
        for reply in replies
    ]
    verdicts, grading = panel.grade(cases)
    del panel  # and with it the judge
    results = _results(questions, before, after, verdicts, in_training, known)
    gap, open_results = results[: len(inputs.gap)], results[len(inputs.gap) :]
    choice_results = _choice_results(choices, before, after, in_training)
    counted, open_counted = ([one for one in each if one.counts] for each in (gap, open_results))
    compared = _compare([(one.base_either, one.adapted.right) for one in counted])
    clean_choices = [one for one in choice_results if not one.in_training]
    prompted = _compare([(one.base == one.right, one.adapted == one.right) for one in clean_choices])
    in_brief = sum(bool(one.base_brief.right) for one in open_counted) > sum(
        bool(one.base.right) for one in open_counted
    )
    open_ended = _compare(
        [((one.base_brief if in_brief else one.base).right, one.adapted.right) for one in open_counted]
    )
    asked = [one for one in results if not one.in_training]
    return Evaluation(
        grading=grading,
        gap=compared,
        style=_style(counted),
        gap_answers=gap,
        approaches={
            name: found
            for name in (gap[0].others if gap else ())
            if (found := _compare([(one.others[name], one.adapted.right) for one in counted]))
        },
        trained_rows=len(inputs.trained),
        contamination=matches,
        contaminated_gap=_compare(
            [(one.base_either, one.adapted.right) for one in gap if one.in_training and one.graded]
        ),
        choices=prompted,
        choices_unprompted=_compare(
            [(one.base_unprompted == one.right, one.adapted_unprompted == one.right) for one in clean_choices]
        ),
        choice_answers=choice_results,
        open=open_ended,
        open_in_brief=in_brief,
        open_answers=open_results,
        differences=differences,
        base_phrases=_mean([one.base_phrases for one in open_results]) if inputs.trained else None,
        adapted_phrases=_mean([one.adapted_phrases for one in open_results]) if inputs.trained else None,
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
        audit=audited,
        gate=decide(
            compared,
            {"general questions, multiple choice": prompted, "general questions, open-ended": open_ended},
            (sum(not one.graded for one in asked), len(asked)),
            audited,
            options,
        ),
    )  # fmt: skip


def general_text() -> str:
    """The ordinary prose whose perplexity is measured."""
    return resources.files("components.evaluate").joinpath("general_text.txt").read_text(encoding="utf-8")


def _endpoint_judge(options: EvaluationOptions) -> EndpointJudge:
    return EndpointJudge(
        options.judge_url,
        options.judge_model,
        concurrency=options.judge_concurrency,
        timeout_seconds=options.judge_timeout_seconds,
        reply_tokens=options.judge_reply_tokens,
    )


def _local_judge(folder: Path) -> LocalJudge:
    manifest = folder / SNAPSHOT_MANIFEST
    name = str(read_json(manifest)["source"]) if manifest.exists() else folder.name
    model, tokenizer = load(folder)
    return LocalJudge(model, tokenizer, name, state_of(folder))


def _run_model(
    folder: Path, who: str, system_prompt: str, questions: list[dict[str, Any]], choices: list[dict[str, Any]],
    held_out: list[tuple[str, str]], options: EvaluationOptions, kept: Kept,
) -> _Outputs:  # fmt: skip
    progress.log(f"{who}: {len(questions)} open-ended and {len(choices)} multiple-choice questions")
    model, tokenizer = load(folder)
    texts = [entry["question"] for entry in questions]
    statements = [(entry["question"], entry["choices"]) for entry in choices]
    state, most = state_of(folder), options.max_answer_tokens

    def chosen(prompt: str, name: str) -> list[str]:
        places = choose(model, tokenizer, prompt, statements, name)
        return ["" if place is None else each[place] for (_, each), place in zip(statements, places, strict=True)]

    def answers(asked: list[str], name: str) -> list[Answer]:
        return answer(model, tokenizer, system_prompt, asked, most, name, kept, state)

    briefly = [f"{text}\n{BRIEFLY}" for text in texts]
    return _Outputs(
        answers=answers(texts, who),
        brief=answers(briefly, f"{who}, in brief") if who == "base" else [],
        prompted=chosen(system_prompt, who),
        unprompted=chosen("", f"{who}, no system prompt"),
        perplexity=perplexity(model, tokenizer, general_text(), who),
        held_out_perplexity=answer_perplexity(model, tokenizer, system_prompt, held_out, who) if held_out else 0.0,
        scores=harness.scores(model, tokenizer, options.tasks, who),
    )


def _results(
    questions: list[dict[str, Any]], before: _Outputs, after: _Outputs, verdicts: dict[Case, Verdict],
    in_training: set[str], known: Phrases,
) -> list[QuestionResult]:  # fmt: skip
    """Each question with the answers and their grades."""

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
            base_brief=graded(entry, brief),
            adapted=graded(entry, adapted),
            in_training=entry["question"] in in_training,
            base_phrases=known.share(entry["question"], base.text),
            adapted_phrases=known.share(entry["question"], adapted.text),
        )
        for entry, base, brief, adapted in zip(questions, before.answers, before.brief, after.answers, strict=True)
    ]


def _choice_results(
    choices: list[dict[str, Any]], before: _Outputs, after: _Outputs, in_training: set[str]
) -> list[ChoiceResult]:
    return [
        ChoiceResult(
            question=entry["question"],
            subject=entry.get("subject", ""),
            right=entry["choices"][0],
            base=before.prompted[place],
            adapted=after.prompted[place],
            base_unprompted=before.unprompted[place],
            adapted_unprompted=after.unprompted[place],
            in_training=entry["question"] in in_training,
        )
        for place, entry in enumerate(choices)
    ]


def _style(counted: list[QuestionResult]) -> Style:
    closed = [one for one in counted if one.adapted.right and not one.base.right]
    return Style(closed_as_asked=len(closed), closed_by_style=sum(bool(one.base_brief.right) for one in closed))


def _compare(pairs: list[tuple[bool | None, bool | None]]) -> Comparison | None:
    """Compare verdicts on base and adapted model, all of them given; None without any."""
    return compare([bool(base) for base, _ in pairs], [bool(adapted) for _, adapted in pairs]) if pairs else None


def _mean(numbers: list[float]) -> float | None:
    return sum(numbers) / len(numbers) if numbers else None
