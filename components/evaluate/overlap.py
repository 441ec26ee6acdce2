"""Overlap of training data and evaluation: gap questions that were trained on, and phrases that leak into answers.

Questions are compared by their sets of character 4-grams ("what colour" has "what", "hat ", "at c", ...): their
similarity is the Jaccard index of the two sets. A question is a near match from 0.6 on if both name the same numbers:
"level 7" and "level 6" are different questions. It is computed exactly, with an index of the gap questions' 4-grams;
estimating it (MinHash) pays off where both sides are large.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable

from components.run.findings import Match

NGRAM = 4  # characters
NEAR = 0.6
PHRASE = 3  # words
NUMBER = re.compile(r"\d+")
WORD = re.compile(r"\w+")


def contaminated(questions: list[str], trained: Iterable[str]) -> list[Match]:
    """The gap questions that were trained on, verbatim or nearly, in their order, each with the most similar row."""
    grams_of = [ngrams(question) for question in questions]
    numbers = [numbers_in(question) for question in questions]
    index: dict[str, list[int]] = {}
    for place, grams in enumerate(grams_of):
        for gram in grams:
            index.setdefault(gram, []).append(place)
    best: dict[int, Match] = {}
    for row, text in enumerate(trained, 1):
        grams = ngrams(text)
        shared = Counter(place for gram in grams for place in index.get(gram, ()))
        for place, count in shared.items():
            similarity = count / (len(grams) + len(grams_of[place]) - count)
            known = best[place].similarity if place in best else 0.0
            if similarity >= NEAR and similarity > known and numbers_in(text) == numbers[place]:
                best[place] = Match(question=questions[place], row=row, trained_question=text, similarity=similarity)
    return [best[place] for place in sorted(best)]


class Phrases:
    """All three-word phrases of the training data's answers."""

    def __init__(self, texts: Iterable[str]) -> None:
        self.known = {phrase for text in texts for phrase in phrases(text)}

    def share(self, question: str, answer: str) -> float:
        """Share of an answer's phrases, without those of its question, that appear in the training data's answers."""
        own = phrases(answer) - phrases(question)
        return len(own & self.known) / len(own) if own else 0.0


def ngrams(text: str) -> set[str]:
    words = " ".join(WORD.findall(_folded(text)))
    plain = f" {words} "
    return {plain[start : start + NGRAM] for start in range(max(1, len(plain) - NGRAM + 1))} if words else set()


def phrases(text: str) -> set[tuple[str, ...]]:
    words = WORD.findall(_folded(text))
    return {tuple(words[start : start + PHRASE]) for start in range(len(words) - PHRASE + 1)}


def numbers_in(text: str) -> list[str]:
    return sorted(NUMBER.findall(_folded(text)))


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()
