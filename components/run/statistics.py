"""Paired statistics of right and wrong answers: the same questions, asked before and after."""

from functools import lru_cache

import numpy as np
from scipy.stats import beta, binomtest

from components.run.evaluation import Evaluation
from components.run.findings import SIGNIFICANT, Comparison

POWER = 0.8  # probability to find an effect of the size named in `detectable`
MIN_SHOWN = 0.001  # a p-value with three decimals says 0.000 of less, which none is
GRID = 500


def compare(base: list[bool], adapted: list[bool]) -> Comparison:
    """Compare the verdicts on the same questions, in the same order.

    Raises:
        ValueError: when there is no question, or the lists are not of one length.
    """
    if not base or len(base) != len(adapted):
        raise ValueError(f"{len(base)} and {len(adapted)} verdicts cannot be compared")
    closed = sum(after and not before for before, after in zip(base, adapted, strict=True))
    regressed = sum(before and not after for before, after in zip(base, adapted, strict=True))
    low, high = interval(closed, regressed, len(base))
    return Comparison(
        questions=len(base),
        base_right=sum(base),
        adapted_right=sum(adapted),
        closed=closed,
        regressed=regressed,
        unchanged=len(base) - closed - regressed,
        p_value=mcnemar_p(closed, regressed),
        difference=100 * (closed - regressed) / len(base),
        low=100 * low,
        high=100 * high,
        detectable=detectable(len(base)),
    )


def general(found: Evaluation) -> Comparison | None:
    """Base and adapted model on the general questions that count, multiple choice and open-ended together; None
    without any."""
    pairs = [pair for each in _general_pairs(found).values() for pair in each]
    return compare([base for base, _ in pairs], [adapted for _, adapted in pairs]) if pairs else None


def by_subject(found: Evaluation) -> dict[str, Comparison]:
    """The same by subject, the largest loss first. Empty where there is one subject or none."""
    compared = {
        name or "no subject": compare([base for base, _ in each], [adapted for _, adapted in each])
        for name, each in _general_pairs(found).items()
    }
    if len(compared) < 2:
        return {}
    return dict(sorted(compared.items(), key=lambda item: (item[1].difference, item[0])))


def _general_pairs(found: Evaluation) -> dict[str, list[tuple[bool, bool]]]:
    pairs: dict[str, list[tuple[bool, bool]]] = {}
    for chosen in found.choice_answers:
        if chosen.counts:
            pair = (chosen.base == chosen.right, chosen.adapted == chosen.right)
            pairs.setdefault(chosen.subject, []).append(pair)
    for one in found.open_answers:
        if one.counts:
            base = one.base_brief if found.open_in_brief else one.base
            pairs.setdefault(one.subject, []).append((bool(base.right), bool(one.adapted.right)))
    return pairs


def mcnemar_p(closed: int, regressed: int) -> float:
    """Exact two-sided p-value that closed and regressed questions differ by chance only (McNemar 1947)."""
    changed = closed + regressed
    return float(binomtest(closed, changed, 0.5).pvalue) if changed else 1.0


def p_value_words(p_value: float) -> str:
    """What stands after "p": '= 0.016', '< 0.001'."""
    return f"= {p_value:.3f}" if p_value >= MIN_SHOWN else f"< {MIN_SHOWN}"


@lru_cache(maxsize=4096)
def interval(closed: int, regressed: int, questions: int, tail: float = 0.025) -> tuple[float, float]:
    """Interval of the difference of two paired proportions, from -1 to 1; `tail` is the chance to miss it on one side.

    Melds the exact (Clopper-Pearson) limits of two proportions: of the questions that changed, those that closed; of
    all questions, those that changed. At 95 % it holds 0 exactly when the exact McNemar test finds nothing (Fay &
    Lumbard 2021, Statistics in Medicine 40:1147), and unlike a bootstrap it has a width when nothing changed.
    """
    changed, same = closed + regressed, questions - closed - regressed
    grid = (np.arange(GRID) + 0.5) / GRID

    def limit(successes: int, failures: int, upper: bool) -> np.ndarray:
        """Quantiles of the distribution of a proportion's lower or upper limit."""
        one, other = (successes + 1, failures) if upper else (successes, failures + 1)
        if one == 0 or other == 0:
            return np.full(GRID, 1.0 if upper else 0.0)
        return np.asarray(beta.ppf(grid, one, other))

    few, many = limit(changed, same, upper=False), limit(changed, same, upper=True)

    def melded(share_closed: np.ndarray) -> np.ndarray:
        direction = 2 * share_closed[:, None] - 1
        return np.where(direction > 0, direction * few, direction * many)

    low = np.quantile(melded(limit(closed, regressed, upper=False)), tail)
    high = -np.quantile(melded(1 - limit(closed, regressed, upper=True)), tail)
    return float(np.round(low, 6)) + 0.0, float(np.round(high, 6)) + 0.0


def detectable(questions: int) -> float | None:
    """The smallest true difference, in percentage points, that a significant test would show with 80 % probability.

    With nothing regressed the exact test needs six closed questions for p < 0.05; None when there are not six.
    """
    needed = next(closed for closed in range(1, 64) if mcnemar_p(closed, 0) < SIGNIFICANT)
    if questions < needed:
        return None
    return float(100 * beta.ppf(POWER, needed, questions - needed + 1))
