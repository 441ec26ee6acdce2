import functools
import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from scipy.stats import binom, binomtest, bootstrap

from components.run import statistics
from components.run.findings import SIGNIFICANT
from components.run.statistics import (
    POWER,
    compare,
    detectable,
    mcnemar_p,
    p_value_words,
)

interval = functools.cache(statistics.interval)  # ten milliseconds each
ANSWERS = {"kept": (True, True), "lost": (True, False), "closed": (False, True), "failed": (False, False)}


def verdicts(**counts: int) -> tuple[list[bool], list[bool]]:
    """Verdicts before and after, by how many questions were kept, lost, closed or failed."""
    pairs = [ANSWERS[what] for what, count in counts.items() for _ in range(count)]
    return [before for before, _ in pairs], [after for _, after in pairs]


def exact_p(closed: int, regressed: int) -> Fraction:
    """Twice the smaller tail of a fair coin; the distribution is symmetric, so that is the two-sided test."""
    changed = closed + regressed
    tail = sum(math.comb(changed, k) for k in range(min(closed, regressed) + 1))
    return min(Fraction(1), Fraction(2 * tail, 2**changed))


def test_p_value_is_that_of_the_exact_test() -> None:
    tables = [(closed, regressed) for closed in range(26) for regressed in range(26)]
    for table in tables:
        assert mcnemar_p(*table) == pytest.approx(float(exact_p(*table)), rel=1e-9), table
    for closed, regressed in tables[1:]:
        assert mcnemar_p(closed, regressed) == binomtest(closed, closed + regressed).pvalue


@pytest.mark.parametrize(
    ("p_value", "words"),
    [(1.0, "= 1.000"), (0.015625, "= 0.016"), (0.001, "= 0.001"), (0.00099, "< 0.001"), (1e-9, "< 0.001")],
)
def test_p_value_in_words_is_never_zero(p_value: float, words: str) -> None:
    assert p_value_words(p_value) == words


@pytest.mark.parametrize("questions", [1, 2, 5, 6, 7, 14, 30])
def test_interval_holds_zero_exactly_when_the_test_finds_nothing(questions: int) -> None:
    step = 1 if questions <= 7 else 3
    decided = set()
    for closed in range(questions + 1):
        for regressed in range(0, min(closed, questions - closed) + 1, step):
            low, high = interval(closed, regressed, questions)
            finds_nothing = mcnemar_p(closed, regressed) >= SIGNIFICANT
            assert (low <= 0 <= high) == finds_nothing, (closed, regressed)
            assert -1 <= low <= (closed - regressed) / questions <= high <= 1, (closed, regressed)
            assert low < high
            decided.add(finds_nothing)
    assert decided == ({True, False} if questions >= 6 else {True})


@pytest.mark.parametrize("questions", [1, 6, 17, 30])
def test_interval_of_the_swapped_table_is_the_mirror_image(questions: int) -> None:
    for closed in range(0, questions + 1, 4):
        for regressed in range(0, min(closed, questions - closed) + 1, 3):
            low, high = interval(closed, regressed, questions)
            assert interval(regressed, closed, questions) == pytest.approx((-high, -low), abs=2e-6)


def test_interval_covers_the_true_difference_in_at_least_95_of_100_evaluations() -> None:
    """All outcomes of ten questions, each with its probability."""
    questions = 10
    tables = [(closed, lost) for closed in range(questions + 1) for lost in range(questions + 1 - closed)]
    limits = {table: interval(*table, questions) for table in tables}
    shares = (0.0, 0.02, 0.1, 0.25, 0.4, 0.6, 0.9)
    truths = [(closing, losing) for closing in shares for losing in shares if closing + losing <= 1]
    assert len(truths) > 30
    for closing, losing in truths:
        covered = whole = 0.0
        for (closed, lost), (low, high) in limits.items():
            same = questions - closed - lost
            ways = math.factorial(questions) / math.factorial(closed) / math.factorial(lost) / math.factorial(same)
            probability = ways * closing**closed * losing**lost * max(0.0, 1 - closing - losing) ** same
            whole += probability
            covered += probability * (low - 1e-6 <= closing - losing <= high + 1e-6)
        assert whole == pytest.approx(1)
        assert covered >= 0.95, (closing, losing)


@pytest.mark.parametrize("questions", [1, 10, 200])
def test_interval_has_a_width_when_nothing_changed(questions: int) -> None:
    low, high = interval(0, 0, questions)
    assert low == pytest.approx(-high)
    assert high > 1 / questions if questions > 1 else high > 0.9


@pytest.mark.parametrize(("closed", "regressed"), [(20, 8), (60, 30), (30, 2), (12, 12), (5, 40)])
def test_interval_is_near_that_of_a_bootstrap(closed: int, regressed: int) -> None:
    questions = 200
    differences = np.repeat([1.0, -1.0, 0.0], [closed, regressed, questions - closed - regressed])
    drawn = bootstrap(
        (differences,), np.mean, method="percentile", n_resamples=4000, rng=np.random.default_rng(0)
    ).confidence_interval
    low, high = interval(closed, regressed, questions)
    assert low == pytest.approx(drawn.low, abs=0.03)
    assert high == pytest.approx(drawn.high, abs=0.03)
    assert high - low > 0.95 * (drawn.high - drawn.low)


@pytest.mark.parametrize("questions", [6, 7, 10, 30, 300])
def test_detectable_difference_is_found_with_80_percent_probability(questions: int) -> None:
    effect = detectable(questions)
    assert effect is not None
    found = sum(
        binom.pmf(closed, questions, effect / 100)
        for closed in range(questions + 1)
        if mcnemar_p(closed, 0) < SIGNIFICANT
    )
    assert found == pytest.approx(POWER) == pytest.approx(0.8)


def test_detectable_difference_falls_as_questions_grow() -> None:
    effects = [effect for n in range(6, 200) if (effect := detectable(n)) is not None]
    assert len(effects) == 194
    assert all(before > after for before, after in pairwise(effects))
    assert effects[0] > 95
    assert effects[-1] < 5


@pytest.mark.parametrize("questions", [1, 2, 3, 4, 5])
def test_fewer_than_six_questions_can_show_nothing(questions: int) -> None:
    assert detectable(questions) is None
    assert mcnemar_p(questions, 0) >= SIGNIFICANT


@pytest.mark.parametrize(
    ("counts", "base_right", "adapted_right", "difference", "few", "significant"),
    [
        ({"failed": 1}, 0, 0, 0.0, True, False),
        ({"closed": 1}, 0, 1, 100.0, True, False),
        ({"kept": 1, "lost": 1, "closed": 1, "failed": 1}, 2, 2, 0.0, True, False),
        ({"closed": 6, "failed": 4}, 0, 6, 60.0, True, True),
        ({"lost": 6, "kept": 4}, 10, 4, -60.0, True, True),
        ({"kept": 20, "lost": 1, "closed": 8, "failed": 0}, 21, 28, 700 / 29, True, True),
        ({"kept": 20, "lost": 1, "closed": 8, "failed": 1}, 21, 28, 700 / 30, False, True),
        ({"kept": 25, "lost": 5}, 30, 25, -500 / 30, False, False),
    ],
)
def test_comparison_counts_what_changed(
    counts: dict[str, int], base_right: int, adapted_right: int, difference: float, few: bool, significant: bool
) -> None:
    found = compare(*verdicts(**counts))
    closed, lost, questions = counts.get("closed", 0), counts.get("lost", 0), sum(counts.values())
    assert (found.questions, found.closed, found.regressed) == (questions, closed, lost)
    assert found.unchanged == questions - closed - lost
    assert (found.base_right, found.adapted_right) == (base_right, adapted_right)
    assert found.base_percent == pytest.approx(100 * base_right / questions)
    assert found.adapted_percent - found.base_percent == pytest.approx(found.difference)
    assert found.difference == pytest.approx(difference)
    assert (found.low, found.high) == pytest.approx(tuple(100 * end for end in interval(closed, lost, questions)))
    assert found.p_value == mcnemar_p(closed, lost)
    assert found.detectable == detectable(questions)
    assert (found.few, found.significant) == (few, significant)


def test_swapped_models_give_the_mirror_image() -> None:
    base, adapted = verdicts(kept=4, lost=2, closed=9, failed=5)
    one, other = compare(base, adapted), compare(adapted, base)
    assert (one.closed, one.regressed) == (other.regressed, other.closed) == (9, 2)
    assert (one.base_right, one.adapted_right) == (other.adapted_right, other.base_right)
    assert one.difference == -other.difference
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low), abs=2e-4)
    assert one.p_value == other.p_value


@pytest.mark.parametrize(("base", "adapted"), [([], []), ([True], []), ([], [True]), ([True], [True, False])])
def test_lists_that_do_not_correspond_are_refused(base: list[bool], adapted: list[bool]) -> None:
    with pytest.raises(ValueError, match=f"{len(base)} and {len(adapted)} verdicts"):
        compare(base, adapted)
