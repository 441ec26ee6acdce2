"""What training data and evaluation have in common: questions that were learnt, and phrases that leak into answers.

Questions are compared by their sets of four-letter pieces ("what colour" holds "what", "hat ", "at c", ...): the share
of the pieces of both that both hold is their similarity (Jaccard). A question is learnt nearly when that is 0.6 or more
and both name the same numbers: "level 7" and "level 6" are other questions. It is computed exactly, by an index of the
gap questions' pieces; estimating it (MinHash) pays where both sides are large.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable

from components.run.evaluation import Match

PIECE = 4  # letters
NEAR = 0.6
PHRASE = 3  # words
NUMBER = re.compile(r"\d+")
WORD = re.compile(r"\w+")


def contaminated(questions: list[str], trained: Iterable[str]) -> list[Match]:
    """The gap questions that were learnt word by word or nearly, in their order, each with the row most like it."""
    wanted = [pieces(question) for question in questions]
    numbers = [numbers_in(question) for question in questions]
    index: dict[str, list[int]] = {}
    for place, found in enumerate(wanted):
        for piece in found:
            index.setdefault(piece, []).append(place)
    best: dict[int, Match] = {}
    for row, text in enumerate(trained, 1):
        mine = pieces(text)
        shared = Counter(place for piece in mine for place in index.get(piece, ()))
        for place, count in shared.items():
            similarity = count / (len(mine) + len(wanted[place]) - count)
            known = best[place].similarity if place in best else 0.0
            if similarity >= NEAR and similarity > known and numbers_in(text) == numbers[place]:
                best[place] = Match(question=questions[place], row=row, trained_question=text, similarity=similarity)
    return [best[place] for place in sorted(best)]


class Phrases:
    """All runs of three words in the training's answers."""

    def __init__(self, texts: Iterable[str]) -> None:
        self.known = {phrase for text in texts for phrase in phrases(text)}

    def share(self, question: str, answer: str) -> float:
        """Share of an answer's phrases, without those of its question, that stand in the training's answers."""
        said = phrases(answer) - phrases(question)
        return len(said & self.known) / len(said) if said else 0.0


def pieces(text: str) -> set[str]:
    words = " ".join(WORD.findall(_folded(text)))
    plain = f" {words} "
    return {plain[start : start + PIECE] for start in range(max(1, len(plain) - PIECE + 1))} if words else set()


def phrases(text: str) -> set[tuple[str, ...]]:
    words = WORD.findall(_folded(text))
    return {tuple(words[start : start + PHRASE]) for start in range(len(words) - PHRASE + 1)}


def numbers_in(text: str) -> list[str]:
    return sorted(NUMBER.findall(_folded(text)))


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()
