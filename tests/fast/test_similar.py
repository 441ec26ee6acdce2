"""Signatures, and the pairs that they find."""

import itertools
import random

import numpy as np
import pytest

from components.ingest_sdg import similar
from tests.tables import table

CHOICE = random.Random(0)
WORDS = ["".join(CHOICE.choices("abcdefghijklmnop", k=CHOICE.randint(2, 9))) for _ in range(2000)]
TEXTS = [" ".join(CHOICE.choices(WORDS, k=60)) for _ in range(1500)]


def with_other_words(text: str, count: int) -> str:
    words = text.split()
    for place in CHOICE.sample(range(len(words)), count):
        words[place] = CHOICE.choice(WORDS)
    return " ".join(words)


@pytest.mark.parametrize(("threshold", "words"), [(0.95, 1), (0.8, 3), (0.5, 10)])
def test_pairs_at_the_threshold_are_found_and_few_others_proposed(threshold, words):
    texts = [*TEXTS, *(with_other_words(text, words) for text in TEXTS)]
    alike = {
        (number, number + len(TEXTS))
        for number in range(len(TEXTS))
        if similar.similarity(texts[number], texts[number + len(TEXTS)]) >= threshold
    }

    found = similar.candidates(similar.signatures(texts), np.arange(len(texts)), threshold)

    pairs = {(int(one), int(other)) for one, other in found}
    assert len(alike) > 100
    assert len(alike & pairs) >= 0.98 * len(alike)
    assert len(pairs) < 2 * len(TEXTS)


def test_signature_estimates_the_similarity():
    for words in (0, 2, 8, 40):
        others = [with_other_words(text, words) for text in TEXTS[:300]]
        estimated = (similar.signatures(TEXTS[:300]) == similar.signatures(others)).mean(axis=1)
        exact = [similar.similarity(one, other) for one, other in zip(TEXTS, others, strict=False)]
        assert np.abs(estimated - exact).mean() < 0.05
        assert abs((estimated - exact).mean()) < 0.01


def test_signature_does_not_depend_on_what_stands_beside_it():
    texts = ["", "a", "short", *TEXTS[:5], "風" * 10]
    alone = np.concatenate([similar.signatures([text]) for text in texts])

    assert (similar.signatures(texts) == alone).all()
    assert similar.signatures([]).shape == (0, similar.SIGNATURE)


def test_a_thousand_alike_give_a_thousand_pairs_with_the_first_of_them():
    order = np.arange(1000)[::-1]

    pairs = similar.candidates(similar.signatures([TEXTS[0]] * 1000), order, 0.9)

    assert len(pairs) == 999
    assert set(pairs[:, 0]) == {999}


def test_rows_apart_are_no_pair():
    apart = np.array([1, 2, 1], np.uint64)

    pairs = similar.candidates(similar.signatures([TEXTS[0]] * 3), np.arange(3), 0.9, apart)

    assert pairs.tolist() == [[0, 2]]


@pytest.mark.parametrize("threshold", [0.5, 0.6, 0.8, 0.9, 0.95, 0.99])
def test_bands_find_what_they_promise(threshold):
    bands, length = similar.shape(threshold)

    assert bands * length <= similar.SIGNATURE
    assert 1 - (1 - threshold**length) ** bands >= similar.RECALL


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [([], [0, 1, 2, 3, 4]), ([(3, 1)], [0, 1, 2, 1, 4]), ([(4, 3), (3, 2), (0, 1)], [0, 0, 2, 2, 2])],
)
def test_groups_are_named_by_their_first_row(pairs, expected):
    assert similar.groups(5, np.array(pairs, np.int64).reshape(-1, 2)).tolist() == expected


@pytest.mark.parametrize(("text", "found"), table("similar", "numbers"))
def test_numbers_and_negations_of_a_text(text, found):
    assert similar.numbers_and_negations(text) == found


def similar_rows(texts: list[str], threshold: float) -> dict[int, int]:
    apart = np.zeros(len(texts), np.uint64)
    return similar.duplicates(similar.signatures(texts), np.arange(len(texts)), threshold, apart, texts.__getitem__)


def test_no_row_goes_for_one_that_it_does_not_resemble():
    passage = CHOICE.choices(WORDS, k=400)
    texts = [" ".join(passage[start : start + 150]) for start in range(250)]

    gone = similar_rows(texts, 0.95)

    assert len(gone) > 150
    assert not set(gone.values()) & set(gone)
    assert all(similar.similarity(texts[row], texts[other]) >= 0.95 for row, other in gone.items())
    left = [text for number, text in enumerate(texts) if number not in gone]
    assert sum(similar.similarity(one, other) >= 0.95 for one, other in itertools.pairwise(left)) < 0.5 * len(left)


def test_rows_with_a_common_passage_are_told_apart_from_those_that_are_alike():
    passage = " ".join(CHOICE.choices(WORDS, k=100))
    texts = [f"{passage} {' '.join(CHOICE.choices(WORDS, k=12))}" for _ in range(600)]
    texts += [f"{text} so" for text in texts[:100]]

    gone = similar_rows(texts, 0.95)

    assert {(row, other) for row, other in gone.items() if row - other != 600} == set()
    assert len(gone) > 60
