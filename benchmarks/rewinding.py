"""Of several shares of a change, which is called good? Two rules, on simulated runs with known truths.

The shares are tried from the largest on. By all questions, each with its part of the chance to err, as
components/evaluate/rewinding.py does it; or one half of the questions chooses, by the gate, and the other half judges.

python -m benchmarks.rewinding
"""

import numpy as np

from benchmarks.gate import AUDIT, BASE_GAP, BASE_GENERAL
from components.data.questions import read_retention_questions
from components.evaluate.gate import decide
from components.run.evaluation_options import EvaluationOptions
from components.run.statistics import compare

DRAWS = 500
GAP = 44
FLIPS = 0.05  # share of the questions whose verdict differs by chance
TRUTHS = {
    "less lost on the way back": ((0.7, 0.05), (0.5, 0.01)),
    "a little less lost on the way back": ((0.7, 0.08), (0.5, 0.05)),
    "the margin lost all the way": ((0.7, 0.10), (0.7, 0.10)),
    "nothing learnt": ((0.0, 0.0), (0.0, 0.0)),
}
"""Of each share what is learnt, of the gap questions, and lost, of all general ones."""
Answers = list[tuple[np.ndarray, np.ndarray]]
"""Of each kind of questions which ones the base model has right, and which ones a share."""


def main() -> None:
    from benchmarks import common  # imports torch

    general = read_retention_questions("")
    choices = sum(bool(entry["choices"]) for entry in general)
    sizes = (GAP, choices, len(general) - choices)
    cells = [{"truth": name, **simulate(shares, sizes)} for name, shares in TRUTHS.items()]
    common.write_result("rewinding", {"draws": DRAWS, "flips": FLIPS, "sizes": sizes, "cells": cells}, arguments="")


def simulate(shares: tuple[tuple[float, float], ...], sizes: tuple[int, int, int]) -> dict[str, float]:
    """How often each rule calls a share good."""
    draw = np.random.default_rng(0)
    good = {"by_all": 0, "by_halves": 0}
    for _ in range(DRAWS):
        models = _draw(draw, shares, sizes)
        good["by_all"] += any(is_good(model, slice(None), len(models)) for model in models)
        chosen = next((model for model in models if is_good(model, slice(0, None, 2), 1)), None)
        good["by_halves"] += chosen is not None and is_good(chosen, slice(1, None, 2), 1)
    return {rule: count / DRAWS for rule, count in good.items()}


def is_good(model: Answers, part: slice, trials: int) -> bool:
    """What the gate says of a model by a part of the questions."""
    gap, choices, open_ended = (compare(base[part].tolist(), adapted[part].tolist()) for base, adapted in model)
    general = {"multiple choice": choices, "open-ended": open_ended}
    return decide(gap, general, (0, 1), AUDIT, EvaluationOptions(), trials=trials).good


def _draw(
    draw: np.random.Generator, shares: tuple[tuple[float, float], ...], sizes: tuple[int, int, int]
) -> list[Answers]:
    """One run: the same base model and questions for all shares; what a smaller one lost, a larger one lost as well."""
    known = (BASE_GAP, *BASE_GENERAL)
    asked = [(draw.random(size) < share, draw.random(size)) for size, share in zip(sizes, known, strict=True)]
    models = []
    for learnt, lost in shares:
        changes = (learnt * (1 - BASE_GAP), -lost, -lost)
        model = []
        for (before, moved), right, change in zip(asked, known, changes, strict=True):
            after = before & (moved >= -change / right) if change <= 0 else before | (moved < change / (1 - right))
            model.append((before, after ^ (draw.random(len(before)) < FLIPS)))
        models.append(model)
    return models


if __name__ == "__main__":
    main()
