"""What `make demo` found, in 25 lines: OSFT beside plain fine-tuning on the same rows.

    python examples/story.py workspace

Reads the newest result of each method in the workspace.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path

from components.evaluate import words
from components.run.evaluation import Summary
from components.run.findings import Comparison, QuestionResult
from components.run.training_options import OSFT, SFT
from components.run.training_report import TrainingReport
from components.shared.progress import printable
from components.shared.workspace import SUMMARY

NAMES = ("base", "OSFT", "plain")
LONGEST = 100  # characters of an answer


def story(osft: Summary, plain: Summary) -> list[str]:
    """The lines; what they say comes from the two summaries."""
    first, second = osft.evaluation, plain.evaluation
    trained, beside = training(osft), training(plain)
    assert trained.plan.data_digest == beside.plan.data_digest  # the same rows
    rates = [one.plan.training_options.learning_rate for one in (trained, beside)]
    kept = 100 * (1 - trained.plan.training_options.unfreeze_rank_ratio)
    return [
        f"OSFT beside plain fine-tuning: the same {trained.samples} rows, {trained.steps} steps each, peak learning "
        f"rates {rates[0]:g} and {rates[1]:g}, one seed.",
        f"OSFT keeps the strongest {kept:g} % of the directions of each layer's matrices as they are, plain "
        "fine-tuning none.",
        row("graded right; gain in points, 95 % interval", *NAMES),
        *compare("taught: questions about the guild", first.gap, second.gap),
        *compare("known before: general, multiple choice", first.choices, second.choices),
        *compare("known before: general, in full", first.open, second.open),
        row(
            "perplexity on ordinary text (low is good)",
            *(f"{value:.1f}" for value in (first.base_perplexity, first.adapted_perplexity, second.adapted_perplexity)),
        ),
        row(
            "change in directions that OSFT protects",
            "",
            *(f"{100 * found.audit.protected_change_ratio:.2f} %" for found in (first, second)),
        ),
        row("the gate's verdict (only Good is published)", "", *map(words.headline, (first, second))),
        "",
        *example(
            "Learnt", first.gap_answers, second.gap_answers, lambda one: not one.base_either and one.adapted.right
        ),
        *example(
            "Forgot", first.open_answers, second.open_answers, lambda one: one.base.right and not one.adapted.right
        ),
        "",
        *(
            f"{name}: {'; '.join(one.finding for one in found.gate.unmet) or 'all conditions of the gate are met'}"
            for name, found in zip(NAMES[1:], (first, second), strict=True)
        ),
        *next_steps(osft),
    ]


def training(summary: Summary) -> TrainingReport:
    assert summary.training is not None  # there in every run's summary
    return summary.training


def row(title: str, *cells: str) -> str:
    widths = (7, 24, 24)
    return f"{title:<45}" + "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))


def compare(title: str, *found: Comparison | None) -> list[str]:
    """A line of the table; none where nothing was asked."""
    cells = [f"{one.adapted_right}  {one.difference:+.0f} ({one.low:+.0f} to {one.high:+.0f})" for one in found if one]
    first = found[0]
    return [row(f"{title}, {first.questions}", str(first.base_right), *cells)] if first else []


def example(
    title: str, osft: list[QuestionResult], plain: list[QuestionResult], shows: Callable[[QuestionResult], bool | None]
) -> list[str]:
    """A question and all answers to it: the first one that shows it with OSFT, or else with plain fine-tuning."""
    for one, other in sorted(zip(osft, plain, strict=True), key=lambda pair: -bool(shows(pair[0]))):
        if shows(one) or shows(other):
            answers = zip(NAMES, (one.base, one.adapted, other.adapted), strict=True)
            return [
                f"{title}: {printable(one.question)} ({one.reference})",
                *(f"  {'✓' if each.right else '✗'} {name:<5} {shorten(each.answer)}" for name, each in answers),
            ]
    return []


def shorten(text: str) -> str:
    plain = printable(" ".join(text.split()))
    return plain if len(plain) <= LONGEST else plain[: LONGEST - 1] + "…"


def next_steps(osft: Summary) -> list[str]:
    advice = dict.fromkeys(one for condition in osft.evaluation.gate.unmet for one in condition.advice)
    return [
        f"To try: {'; '.join(advice)}" if advice else "To do next: the same with a larger model",
        "Which method, and at what rate, measured on a larger model with three seeds: docs/methods.md",
        f"Every answer of OSFT's model, with its grade: {os.path.relpath(osft.report_path)}",
        "Your own rows and questions: .venv/bin/osft-pipeline run --data qa.csv --questions gaps.csv --model MODEL",
    ]


def newest(workspace: Path, method: str) -> Summary:
    """The last evaluation of a model that this method trained."""
    summaries = [Summary.read(path.parent) for path in workspace.glob(f"runs/*/{SUMMARY}")]
    found = [one for one in summaries if training(one).plan.training_options.method == method]
    if not found:
        sys.exit(f"error: {workspace} has no result of the method {method}; type: make demo")
    return max(found, key=lambda one: one.date)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    print("\n".join(story(newest(folder, OSFT), newest(folder, SFT))))
