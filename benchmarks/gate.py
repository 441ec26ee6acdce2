"""How often does the gate err? Simulated runs with known truths, by the number of questions.

Base and adapted model know the same, but for what the adapted one gained on gap questions or lost on general ones; and
a share of the verdicts differs by chance, either way. Each cell: DRAWS runs, the share of each answer.

python -m benchmarks.gate
"""

import dataclasses

import numpy as np

from components.data.questions import read_retention_questions
from components.evaluate.gate import decide
from components.run.evaluation_options import EvaluationOptions
from components.run.findings import GOOD, NOT_GOOD, NOT_SHOWN, Audit, Comparison
from components.run.statistics import compare

DRAWS = 1000
BASE_GENERAL = (0.75, 0.6)  # of multiple choice and open-ended questions the base model answers right
BASE_GAP = 0.05
AUDIT = Audit(
    word="kept", promised=True, unfreeze_rank_ratio=0.25, protected_change_ratio=0.0, rounding_ratio=0.0,
    unprotected_share=0.0, worst="", identical=False, matrices=[],
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Truth:
    """What a model is."""

    gained: float
    """Share of the gap questions it did not know that it knows now."""
    lost: float
    """Share of all general questions that it knew and does not know now."""
    flips: float
    """Share of the questions whose verdict differs between two equal models, by chance."""


TRUTHS = {
    "learnt half, lost nothing": Truth(0.5, 0.0, 0.02),
    "learnt half, lost nothing, 5 % flip": Truth(0.5, 0.0, 0.05),
    "learnt half, lost the margin": Truth(0.5, 0.10, 0.02),
    "learnt half, lost twice the margin": Truth(0.5, 0.20, 0.02),
    "learnt nothing, lost nothing": Truth(0.0, 0.0, 0.02),
    "learnt nothing, lost nothing, 5 % flip": Truth(0.0, 0.0, 0.05),
}


def main() -> None:
    from benchmarks import common  # imports torch

    general = read_retention_questions("")
    choices = sum(bool(entry["choices"]) for entry in general)
    shipped = (choices, len(general) - choices)
    cells = []
    for gap in (10, 20, 40, 100):
        for sizes in (shipped, (20, 20), (140, 60)):
            for name, truth in TRUTHS.items():
                shares = simulate(gap, sizes, truth)
                cells.append({"gap": gap, "multiple_choice": sizes[0], "open": sizes[1], "truth": name, **shares})
    common.write_result("gate", {"draws": DRAWS, "shipped": shipped, "cells": cells}, arguments="")


def simulate(gap: int, general: tuple[int, int], truth: Truth, draws: int = DRAWS) -> dict[str, float]:
    """The share of each answer of the gate over `draws` runs."""
    draw = np.random.default_rng(0)
    counts = dict.fromkeys((GOOD, NOT_GOOD, NOT_SHOWN), 0)
    options = EvaluationOptions()
    for _ in range(draws):
        names = ("multiple choice", "open-ended")
        compared: dict[str, Comparison | None] = {
            name: _asked(draw, size, known, -truth.lost, truth.flips)
            for name, size, known in zip(names, general, BASE_GENERAL, strict=True)
        }
        gained = _asked(draw, gap, BASE_GAP, truth.gained * (1 - BASE_GAP), truth.flips)
        counts[decide(gained, compared, (0, gap + sum(general)), AUDIT, options).verdict] += 1
    return {verdict: count / draws for verdict, count in counts.items()}


def _asked(draw: np.random.Generator, questions: int, known: float, change: float, flips: float) -> Comparison:
    """The same questions before and after; `change` is the true difference, as a share of all questions."""
    before = draw.random(questions) < known
    moved = draw.random(questions)
    after = before & (moved >= -change / known) if change < 0 else before | (moved < change / (1 - known))
    for verdicts in (before, after):  # either model's may flip, so that a share of `flips` differs between them
        verdicts ^= draw.random(questions) < flips / 2
    return compare(before.tolist(), after.tolist())


if __name__ == "__main__":
    main()
