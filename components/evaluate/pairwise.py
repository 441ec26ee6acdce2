"""Base and adapted model answer the same questions: what was closed, what regressed, and did OSFT keep its guarantee?

One model is in memory at a time. Nothing is sampled: unless an endpoint grades, a repetition gives the same result.
"""

import dataclasses
import gc
import math
from pathlib import Path
from typing import Any

from components.evaluate import audit, harness
from components.evaluate.answering import Answer, load
from components.evaluate.asking import Asked, Model, Outputs, ask
from components.evaluate.gate import decide
from components.evaluate.grading import Panel, kind_of_grader
from components.evaluate.kept import Kept, state_of
from components.evaluate.overlap import Phrases, contaminated
from components.evaluate.pair import check_pair, check_same_language
from components.evaluate.rewinding import rewind
from components.grading.cases import Case, Verdict
from components.grading.endpoint_judge import EndpointJudge
from components.grading.local_judge import LocalJudge
from components.run.evaluation import Evaluation
from components.run.evaluation_options import ENDPOINT, LOCAL, EvaluationOptions
from components.run.findings import (
    Audit,
    ChoiceResult,
    Comparison,
    EarlierResult,
    GradedAnswer,
    Grading,
    HeldOut,
    QuestionResult,
    Score,
    Style,
)
from components.run.lineage import EarlierQuestion
from components.run.statistics import compare
from components.shared.storage import read_json
from components.shared.workspace import SNAPSHOT_MANIFEST

MAX_HELD_OUT = 1000  # answers that are scored, evenly spread over all held-out rows


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inputs:
    """What is compared, and with what."""

    base: Path
    """Model folders of the same architecture."""
    adapted: Path
    start: Path
    """What the adapted model was trained from: the base model, or one that was adapted from it before."""
    system_prompt: str
    """The training's."""
    gap: list[dict[str, Any]]
    """As components.data.questions reads them."""
    retention: list[dict[str, Any]]
    earlier: list[EarlierQuestion]
    """What the runs before in the lineage asked."""
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
    rewound: Path | None
    """Where a model with a share of the change is written, the share behind its name; None when none is tried."""
    seed: int
    """The training's, for the rounding of such a model."""


def evaluate_models(inputs: Inputs, options: EvaluationOptions) -> Evaluation:
    """Evaluate an adapted model against its base; where it is not good, and options say so, a share of its change.

    Raises:
        Problems: for models that are no pair or have NaN or infinite weights, answers that could not be graded, tasks
            that failed, and when there is no room for a model with a share of the change.
    """
    pair = Pair(inputs, options)
    audited = pair.audit(inputs.adapted)
    before = pair.ask(Model(who="base", folder=inputs.base), in_brief=True)
    after = pair.ask(Model(who="adapted", folder=inputs.adapted))
    whole = pair.conclude(before, after, *pair.grade(before, after), audited)
    if whole.gate.good or not options.rewind_shares or inputs.rewound is None:
        return whole
    return rewind(pair, before, whole, options.rewind_shares, inputs.rewound)


class Pair:
    """Two models that are compared, checked when made: each part of an evaluation, to be put together.

    Raises:
        Problems: when the models are no pair, or a judge at an endpoint cannot be asked.
    """

    def __init__(self, inputs: Inputs, options: EvaluationOptions) -> None:
        harness.check_installed(options.tasks)
        check_pair(inputs.base, inputs.adapted)
        self.inputs, self.options = inputs, options
        self.differences = check_same_language(inputs.base, inputs.adapted, options.accept_differences)
        self.kept, self.kind = Kept(inputs.kept), kind_of_grader(options)
        self.panel = Panel(self.kept)
        if self.kind == ENDPOINT:
            self.panel.offer(_endpoint_judge(options))
        self.open = [entry for entry in inputs.retention if not entry["choices"]]
        self.asked = Asked(
            system_prompt=inputs.system_prompt,
            questions=[entry["question"] for entry in (*inputs.gap, *self.open)],
            choices=[entry for entry in inputs.retention if entry["choices"]],
            held_out=inputs.held_out[:: max(1, math.ceil(len(inputs.held_out) / MAX_HELD_OUT))],
        )
        asked = [entry["question"] for entry in (*inputs.gap, *inputs.retention)]
        self.matches = contaminated(asked, inputs.trained)
        self.in_training = {match.question for match in self.matches}
        self.phrases = Phrases(text for _, text in inputs.trained)

    def audit(self, adapted: Path) -> Audit:
        """Of what an adapted model changed of the one that it was trained from."""
        inputs = self.inputs
        patterns = inputs.target_patterns or audit.default_patterns(inputs.base)
        return audit.audit(inputs.start, adapted, inputs.unfreeze_rank_ratio, patterns, inputs.promised)

    def ask(self, model: Model, in_brief: bool = False) -> Outputs:
        """Ask a model; the base model alone in brief, all others what earlier runs asked."""
        further = [] if in_brief else [one.question for one in self.inputs.earlier]
        outputs = ask(model, self.asked, further, in_brief, self.options, self.kept)
        gc.collect()  # one model in memory at a time
        return outputs

    def grade(self, before: Outputs, after: Outputs) -> tuple[dict[Case, Verdict], Grading]:
        """Verdicts on all answers, and who gave them."""
        cases = [
            Case(entry["question"], entry["reference"], answers[entry["question"]].text)
            for entry in (*self.inputs.gap, *self.open)
            for answers in (before.answers, before.brief, after.answers)
        ]
        cases += [
            Case(one.question, one.reference, answer)
            for one in self.inputs.earlier
            for answer in (one.answer, after.answers[one.question].text)
        ]
        if self.kind != LOCAL:
            return self.panel.grade(cases)
        panel = Panel(self.kept)
        panel.offer(_local_judge(self.inputs.judge or self.inputs.base))
        graded = panel.grade(cases)
        del panel  # and with it the judge
        gc.collect()
        return graded

    def conclude(
        self, before: Outputs, after: Outputs, verdicts: dict[Case, Verdict], grading: Grading, audited: Audit,
        trials: int = 1,
    ) -> Evaluation:  # fmt: skip
        """All results together, of one of so many models that are tried until one is good."""
        gap, open_results = (
            self._results(entries, before, after, verdicts) for entries in (self.inputs.gap, self.open)
        )
        choices, earlier = self._choices(before, after), self._earlier(after, verdicts)
        counted, open_counted = ([one for one in results if one.counts] for results in (gap, open_results))
        choices_counted = [one for one in choices if one.counts]
        compared = _compare([(one.base_either, one.adapted.right) for one in counted])
        prompted = _compare([(one.base == one.right, one.adapted == one.right) for one in choices_counted])
        in_brief = sum(bool(one.base_brief.right) for one in open_counted) > sum(
            bool(one.base.right) for one in open_counted
        )
        open_ended = _compare(
            [((one.base_brief if in_brief else one.base).right, one.adapted.right) for one in open_counted]
        )
        remembered = _compare([(one.then.right, one.now.right) for one in earlier if one.counts])
        asked = [one for one in (*gap, *open_results) if not one.in_training]
        leaking = open_results if self.inputs.trained else []
        scored = self.asked.held_out
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
            trained_rows=len(self.inputs.trained),
            contamination=self.matches,
            contaminated_gap=_compare(
                [(one.base_either, one.adapted.right) for one in gap if one.in_training and one.graded]
            ),
            choices=prompted,
            choices_unprompted=_compare(
                [(one.base_unprompted == one.right, one.adapted_unprompted == one.right) for one in choices_counted]
            ),
            choice_answers=choices,
            open=open_ended,
            open_in_brief=in_brief,
            open_answers=open_results,
            differences=self.differences,
            base_phrases=_mean([one.base_phrases for one in leaking]),
            adapted_phrases=_mean([one.adapted_phrases for one in leaking]),
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
                self.options,
                remembered,
                len(earlier),
                trials,
            ),
            earlier=remembered,
            earlier_answers=earlier,
        )  # fmt: skip

    def _results(
        self, entries: list[dict[str, Any]], before: Outputs, after: Outputs, verdicts: dict[Case, Verdict]
    ) -> list[QuestionResult]:
        """Each question with the answers and their grades."""

        def graded(entry: dict[str, Any], answers: dict[str, Answer]) -> GradedAnswer:
            reply = answers[entry["question"]]
            return _graded(entry["question"], entry["reference"], reply, verdicts)

        return [
            QuestionResult(
                question=entry["question"],
                reference=entry["reference"],
                subject=entry.get("subject", ""),
                others=entry.get("others", {}),
                base=graded(entry, before.answers),
                base_brief=graded(entry, before.brief),
                adapted=graded(entry, after.answers),
                in_training=entry["question"] in self.in_training,
                base_phrases=self.phrases.share(entry["question"], before.answers[entry["question"]].text),
                adapted_phrases=self.phrases.share(entry["question"], after.answers[entry["question"]].text),
            )
            for entry in entries
        ]

    def _choices(self, before: Outputs, after: Outputs) -> list[ChoiceResult]:
        return [
            ChoiceResult(
                question=entry["question"],
                subject=entry.get("subject", ""),
                right=entry["choices"][0],
                base=before.prompted[place],
                adapted=after.prompted[place],
                base_unprompted=before.unprompted[place],
                adapted_unprompted=after.unprompted[place],
                in_training=entry["question"] in self.in_training,
            )
            for place, entry in enumerate(self.asked.choices)
        ]

    def _earlier(self, after: Outputs, verdicts: dict[Case, Verdict]) -> list[EarlierResult]:
        return [
            EarlierResult(
                question=one.question,
                reference=one.reference,
                run_key=one.run_key,
                then=_graded(one.question, one.reference, Answer(one.answer, one.cut), verdicts),
                now=_graded(one.question, one.reference, after.answers[one.question], verdicts),
            )
            for one in self.inputs.earlier
        ]


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


def _graded(question: str, reference: str, reply: Answer, verdicts: dict[Case, Verdict]) -> GradedAnswer:
    verdict = verdicts[Case(question, reference, reply.text)]
    return GradedAnswer(answer=reply.text, right=verdict.right, reason=verdict.reason, cut=reply.cut)


def _style(counted: list[QuestionResult]) -> Style:
    closed = [one for one in counted if one.adapted.right and not one.base.right]
    return Style(closed_as_asked=len(closed), closed_by_style=sum(bool(one.base_brief.right) for one in closed))


def _compare(pairs: list[tuple[bool | None, bool | None]]) -> Comparison | None:
    """Compare verdicts on base and adapted model, all of them given; None without any."""
    return compare([bool(base) for base, _ in pairs], [bool(adapted) for _, adapted in pairs]) if pairs else None


def _mean(numbers: list[float]) -> float | None:
    return sum(numbers) / len(numbers) if numbers else None
