"""Every grader is tried before its verdicts count, on labelled answers that ship with the project.

`trial_answers.csv`, in several languages: chatty, brief, negated, partial answers, lists, units, the right word in a
wrong sentence.

    language,kind,question,reference,answer,right
    en,negated,What colour is the club's flag?,green,"It isn't green, as many think, but blue.",no
"""

import csv
import hashlib
import io
from collections.abc import Sequence
from importlib import resources
from typing import TYPE_CHECKING

import numpy as np

from components.grading.cases import Case, Grader, OnVerdict, ignore
from components.run.findings import Agreement

if TYPE_CHECKING:
    from components.grading.local_judge import LocalJudge

TUNED, HELD_OUT = "tuned", "held_out"
MIN_KAPPA = 0.6  # below it a judge is refused
DRAWS = 1000  # of the bootstrap


def labelled_answers() -> list[dict[str, str]]:
    """The labelled answers, as their table has them."""
    text = resources.files("components.grading").joinpath("trial_answers.csv").read_bytes().decode("utf-8")
    return list(csv.DictReader(io.StringIO(text, newline="")))


def half_of(question: str) -> str:
    """The half that a question belongs to, by its SHA-256: the reference rules were tuned on the half TUNED."""
    return (TUNED, HELD_OUT)[int(hashlib.sha256(question.encode()).hexdigest(), 16) % 2]


def try_grader(grader: Grader, halves: Sequence[str] = (TUNED, HELD_OUT), on_verdict: OnVerdict = ignore) -> Agreement:
    """How a grader's verdicts agree with the labels.

    Args:
        halves: of the questions, for a grader that was made by looking at some of them.

    Raises:
        Problems: as the grader.
    """
    rows = [row for row in labelled_answers() if half_of(row["question"]) in halves]
    verdicts = grader.verdicts({_case(row) for row in rows}, on_verdict)
    return agreement(rows, [verdicts[_case(row)].right for row in rows])


def calibrate(judge: "LocalJudge") -> Agreement:
    """Set a local judge's threshold; how its verdicts agree with the labels that did not set it.

    The questions are in two halves: the threshold that suits one half best gives the verdicts on the other. The judge
    then keeps the one that suits all.
    """
    rows = labelled_answers()
    leaning = dict(judge.leanings(_case(row) for row in rows))
    values = np.array([leaning[_case(row)] for row in rows])
    labels = np.array([row["right"] == "yes" for row in rows])
    questions = list(dict.fromkeys(row["question"] for row in rows))
    half = np.array([questions.index(row["question"]) % 2 for row in rows])
    verdicts: list[bool | None] = [None] * len(rows)
    for this in (0, 1):
        limit = best_threshold(values[half != this], labels[half != this])
        for place in np.flatnonzero((half == this) & np.isfinite(values)):
            verdicts[place] = bool(values[place] > limit)
    judge.threshold = best_threshold(values, labels)
    return agreement(rows, verdicts)


def best_threshold(values: np.ndarray, labels: np.ndarray) -> float:
    """The value above which the share of right answers least that of wrong ones is largest (Youden 1950)."""
    known = np.isfinite(values)
    values, labels = values[known], labels[known]
    edges = np.unique(values)
    if len(edges) < 2 or labels.all() or not labels.any():
        return 0.0
    middles = (edges[1:] + edges[:-1]) / 2
    above = values[None, :] > middles[:, None]
    gains = above[:, labels].mean(axis=1) - above[:, ~labels].mean(axis=1)
    return float(middles[int(gains.argmax())])


def agreement(rows: Sequence[dict[str, str]], verdicts: Sequence[bool | None]) -> Agreement:
    """How verdicts on labelled answers agree with their labels; those that are None count as ungraded."""
    graded = [(row, verdict, row["right"] == "yes") for row, verdict in zip(rows, verdicts, strict=True)
              if verdict is not None]  # fmt: skip
    pairs = np.array([(verdict, label) for _, verdict, label in graded], dtype=bool).reshape(-1, 2)
    questions = [row["question"] for row, _, _ in graded]
    low, high = _interval(pairs, questions)
    languages = list(dict.fromkeys(row.get("language", "en") for row, _, _ in graded))
    return Agreement(
        answers=len(pairs),
        ungraded=len(rows) - len(pairs),
        accuracy=float((pairs[:, 0] == pairs[:, 1]).mean()) if len(pairs) else 0.0,
        kappa=kappa(pairs),
        kappa_low=low,
        kappa_high=high,
        falsely_right=int((pairs[:, 0] & ~pairs[:, 1]).sum()),
        falsely_wrong=int((~pairs[:, 0] & pairs[:, 1]).sum()),
        languages={
            language: float(
                np.mean([verdict == label for row, verdict, label in graded if row.get("language", "en") == language])
            )
            for language in languages
        },
    )


def kappa(pairs: np.ndarray) -> float:
    """Cohen's kappa (Cohen 1960) of verdicts and labels, [n, 2] of bool; 0 when chance alone would agree always."""
    if not len(pairs):
        return 0.0
    agreed = float((pairs[:, 0] == pairs[:, 1]).mean())
    said, labelled = pairs.mean(axis=0)
    by_chance = said * labelled + (1 - said) * (1 - labelled)
    return float((agreed - by_chance) / (1 - by_chance)) if by_chance < 1 else 0.0


def _interval(pairs: np.ndarray, questions: list[str]) -> tuple[float, float]:
    """95 % percentile interval of kappa; whole questions are drawn, because the answers to one are alike."""
    places: dict[str, list[int]] = {}
    for place, question in enumerate(questions):
        places.setdefault(question, []).append(place)
    groups = [np.array(group) for group in places.values()]
    if not groups:
        return 0.0, 0.0
    draw = np.random.default_rng(0)
    drawn = [
        kappa(pairs[np.concatenate([groups[index] for index in draw.integers(len(groups), size=len(groups))])])
        for _ in range(DRAWS)
    ]
    low, high = np.quantile(drawn, (0.025, 0.975))
    return float(low), float(high)


def _case(row: dict[str, str]) -> Case:
    return Case(row["question"], row["reference"], row["answer"])
