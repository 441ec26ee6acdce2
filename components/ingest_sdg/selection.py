"""Which of the rows that could be learnt are learnt; from hashes and signatures, without their texts.

What is decided does not depend on the order of the rows: of rows that count once, one that begins with a capital stays,
else the one with the smallest hash, and the first of those with the very same text.
"""

import dataclasses
import unicodedata
from array import array
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import xxhash

from components.data.tables import without_format_characters
from components.ingest_sdg import similar
from components.run.data_options import DataOptions

GROUP_QUESTIONS, GROUP_RESPONSES = 0.5, 0.8
"""From which similarity on questions, and answers, are about the same: what is held out must not be learnt in other
words. Estimated from signatures."""
MIN_WORDS = 4  # of an answer that is compared for that; "Yes." is an answer to anything
MIX = np.uint64(0x9E3779B97F4A7C15)  # odd: an order without a pattern
AT_ONCE, CHARACTERS_AT_ONCE = 4096, 1 << 22  # texts whose signatures are made together
MAX_COMPARED_CHARACTERS = (
    1 << 16
)  # characters; what is longer is no near duplicate of anything, and no model reads it whole

PUNCTUATION = str.maketrans(dict.fromkeys("?!.,;:\"'“”„‘’«»¿¡()…？！。、，", " "))
"""What makes no difference between questions; other signs may: 2 + 2 is not 2 - 2."""

KEPT, HELD_OUT, GAP_QUESTION, DUPLICATE, NEAR_DUPLICATE, CONFLICT = range(6)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Decision:
    """What becomes of each row."""

    fates: np.ndarray
    """KEPT, HELD_OUT, GAP_QUESTION, DUPLICATE, NEAR_DUPLICATE or CONFLICT."""
    instead: np.ndarray
    """Of a duplicate and a near duplicate the row that stays instead."""
    times: np.ndarray
    """How many rows say the same as this one, it included; near duplicates count."""
    held_out_asked: int
    """Rows that the share asks for."""
    largest_group: int
    """Rows of the largest group, of which all or none are held out; 0 when nothing is asked for."""


class Candidates:
    """Collects what is needed of each row to decide: some 60 bytes, and 260 for each kind of similarity asked for."""

    def __init__(self, options: DataOptions, gap_questions: Sequence[str]) -> None:
        self._options = options
        self._gap = {words(question): question for question in gap_questions}
        self._asked_by: dict[int, str] = {}
        self._texts, self._questions, self._pairs = array("Q"), array("Q"), array("Q")
        self._numbers = array("Q")
        self._lengths = array("Q")
        self._near = _Signer(options.near_duplicates < 1)
        self._asked = _Signer(options.held_out_share > 0)
        self._answered = _Signer(options.held_out_share > 0)
        self._short = array("b")

    def __len__(self) -> int:
        return len(self._texts)

    def add(self, question: str, response: str) -> None:
        """A row's cleaned texts."""
        asked, answered = same(question), same(response)
        both = f"{asked}\n{answered}"
        if gap := self._gap.get(words(question)):
            self._asked_by[len(self)] = gap
        self._texts.append(_rank(question, response))
        self._questions.append(xxhash.xxh3_64_intdigest(asked.encode()))
        self._pairs.append(xxhash.xxh3_64_intdigest(both.encode()))
        self._lengths.append(len(response))
        if self._near.wanted:
            long = len(both) > MAX_COMPARED_CHARACTERS
            self._numbers.append(
                xxhash.xxh3_64_intdigest((both if long else similar.numbers_and_negations(both)).encode())
            )
            self._near.add("" if long else both)
        if self._asked.wanted:
            self._asked.add(asked[:MAX_COMPARED_CHARACTERS])
            self._answered.add(answered[:MAX_COMPARED_CHARACTERS])
            self._short.append(answered.count(" ") + 1 < MIN_WORDS)

    @property
    def lengths(self) -> np.ndarray:
        """Characters of each answer."""
        return _numbers(self._lengths)

    def decide(self, text_of: Callable[[int], tuple[str, str]]) -> Decision:
        """Decide about all rows.

        Args:
            text_of: question and response of a row by its number.
        """
        size = len(self)
        texts, questions = _numbers(self._texts), _numbers(self._questions)
        fates, instead = np.full(size, KEPT, np.uint8), np.arange(size)

        if self._options.gap_questions == "drop":
            fates[np.fromiter(self._asked_by, np.int64)] = GAP_QUESTION
        rows = np.flatnonzero(fates == KEPT)
        pairs = _numbers(self._pairs)
        order = rows[np.lexsort((texts[rows], pairs[rows]))]
        _keep_first(order, pairs[order], DUPLICATE, fates, instead)
        if self._near.wanted:
            self._drop_near(texts, fates, instead, text_of)
        times = np.bincount(instead, minlength=size)
        if self._options.conflicts == "drop":
            fates[conflicting(questions, fates)] = CONFLICT
        asked, largest = self._hold_out(texts, questions, fates) if self._options.held_out_share else (0, 0)
        return Decision(fates=fates, instead=instead, times=times, held_out_asked=asked, largest_group=largest)

    def conflicts(self, decision: Decision) -> np.ndarray:
        """The rows whose question has several answers, whether dropped or kept."""
        return np.flatnonzero(conflicting(_numbers(self._questions), decision.fates))

    def question_keys(self) -> np.ndarray:
        """Equal where the questions are."""
        return _numbers(self._questions)

    def gap_questions(self) -> list[str]:
        """Those that rows ask."""
        return sorted(set(self._asked_by.values()))

    def _drop_near(
        self, texts: np.ndarray, fates: np.ndarray, instead: np.ndarray, text_of: Callable[[int], tuple[str, str]]
    ) -> None:
        rows = np.flatnonzero(fates == KEPT)
        found = similar.duplicates(
            self._near.signatures()[rows],
            texts[rows],
            self._options.near_duplicates,
            _numbers(self._numbers)[rows],
            lambda number: "\n".join(map(same, text_of(int(rows[number])))),
        )
        dropped = rows[np.fromiter(found, np.int64, len(found))]
        fates[dropped] = NEAR_DUPLICATE
        instead[dropped] = rows[np.fromiter(found.values(), np.int64, len(found))]
        np.copyto(instead, instead[instead])  # a duplicate of a near duplicate

    def _hold_out(self, texts: np.ndarray, questions: np.ndarray, fates: np.ndarray) -> tuple[int, int]:
        """Whole groups of rows about the same, in an order that only their texts decide, up to the share; gives how
        many rows that is, and those of the largest group."""
        rows = np.flatnonzero(fates == KEPT)
        order = texts[rows] * MIX
        asked = similar.candidates(self._asked.signatures()[rows], order, GROUP_QUESTIONS)
        answered = similar.candidates(self._answered.signatures()[rows], order, GROUP_RESPONSES)
        short = np.frombuffer(self._short, np.int8).astype(bool)[rows]
        answered = answered[~short[answered].any(axis=1)]
        by_question = np.argsort(questions[rows], kind="stable")
        equal = questions[rows][by_question][1:] == questions[rows][by_question][:-1]
        same_question = np.stack([by_question[:-1][equal], by_question[1:][equal]], axis=1)
        labels = similar.groups(len(rows), np.concatenate([asked, answered, same_question]))
        _, members, sizes = np.unique(labels, return_inverse=True, return_counts=True)
        rank = np.full(len(sizes), np.iinfo(np.uint64).max, np.uint64)
        np.minimum.at(rank, members, order)
        left = wanted = int(self._options.held_out_share * len(rows))
        taken = np.zeros(len(sizes), bool)
        for group in np.argsort(rank):
            if sizes[group] <= left:
                taken[group] = True
                left -= int(sizes[group])
        fates[rows[taken[members]]] = HELD_OUT
        return wanted, int(sizes.max(initial=0))


class _Signer:
    """Signatures of texts that come one by one."""

    def __init__(self, wanted: bool) -> None:
        self.wanted = wanted
        self._waiting: list[str] = []
        self._characters = 0
        self._done: list[np.ndarray] = [np.empty((0, similar.SIGNATURE), np.uint32)]

    def add(self, text: str) -> None:
        self._waiting.append(text)
        self._characters += len(text)
        if len(self._waiting) == AT_ONCE or self._characters >= CHARACTERS_AT_ONCE:
            self._sign()

    def signatures(self) -> np.ndarray:
        if self._waiting:
            self._sign()
        self._done = [np.concatenate(self._done)]
        return self._done[0]

    def _sign(self) -> None:
        self._done.append(similar.signatures(self._waiting))
        self._waiting.clear()
        self._characters = 0


def words(text: str) -> str:
    """The form in which a question is a gap question: how its letters are written, what nobody sees and PUNCTUATION
    make no difference either."""
    text = without_format_characters(unicodedata.normalize("NFKC", text))
    return same(text.translate(PUNCTUATION)) or same(text)


def same(text: str) -> str:
    """The form in which two texts count as the same: white space and upper and lower case make no difference."""
    return " ".join(text.casefold().split())


def _rank(question: str, response: str) -> int:
    """A number by which rows are ordered: capitals first, then by a hash."""
    first = int.from_bytes(question.encode()[:2], "big")
    return first << 48 | xxhash.xxh3_64_intdigest(f"{question}\0{response}".encode()) >> 16


def conflicting(questions: np.ndarray, fates: np.ndarray) -> np.ndarray:
    """Of each row, whether it is left or a conflict and another such row asks the same."""
    rows = np.flatnonzero((fates == KEPT) | (fates == HELD_OUT) | (fates == CONFLICT))
    _, members, counts = np.unique(questions[rows], return_inverse=True, return_counts=True)
    found = np.zeros(len(fates), bool)
    found[rows[counts[members] > 1]] = True
    return found


def _keep_first(order: np.ndarray, keys: np.ndarray, fate: int, fates: np.ndarray, instead: np.ndarray) -> None:
    """Of rows in an order, with equal keys side by side, the first of each key stays; the others get the fate."""
    first = np.concatenate(([True], keys[1:] != keys[:-1]))[: len(keys)]
    if not len(keys):
        return
    stays = order[first][np.cumsum(first) - 1]
    fates[order[~first]] = fate
    instead[order[~first]] = stays[~first]


def _numbers(values: "array[Any]") -> np.ndarray:
    return np.frombuffer(values, np.uint64) if len(values) else np.empty(0, np.uint64)
