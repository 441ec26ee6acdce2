"""Which of the rows are kept, held out or dropped; from hashes and signatures, without their texts.

The decision does not depend on the order of the rows: of duplicates the one that begins with a capital stays, else the
one with the smallest hash, and the first of those with the very same text.
"""

import dataclasses
from array import array
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import xxhash

from components.data.normal_form import normal_form
from components.ingest_sdg import similar
from components.run.data_options import DataOptions

GROUP_QUESTIONS, GROUP_RESPONSES = 0.5, 0.8
"""Similarity from which questions, and answers, belong to one group: what is held out must not be trained on in other
words. Estimated from signatures."""
MIN_WORDS = 4  # of an answer that is compared for that; "Yes." is an answer to anything
MIX = np.uint64(0x9E3779B97F4A7C15)  # odd: an order without a pattern
AT_ONCE, CHARACTERS_AT_ONCE = 4096, 1 << 22  # texts whose signatures are made together
MAX_COMPARED_CHARACTERS = 1 << 16  # what is longer is no near duplicate of anything, and no model reads it whole

KEPT, HELD_OUT, GAP_QUESTION, DUPLICATE, NEAR_DUPLICATE, CONFLICT = range(6)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Decision:
    """What becomes of each row."""

    rows: pd.DataFrame
    """By row: `outcome` is KEPT, HELD_OUT, GAP_QUESTION, DUPLICATE, NEAR_DUPLICATE or CONFLICT; `duplicate_of` is the
    row that stays of duplicates and near duplicates, else the row itself; `count` is how many rows say the same as this
    one, it and near duplicates included; `question` is equal where the questions are."""
    held_out_asked: int
    """Rows that the share asks for."""
    largest_group: int
    """Rows of the largest group, of which all or none are held out; 0 when nothing is asked for."""

    @property
    def conflicts(self) -> pd.Index:
        """The first row of each question with several answers, whether dropped or kept."""
        return _conflicting(self.rows).drop_duplicates("question").index


class RowIndex:
    """What is needed of each row to decide: some 60 bytes, and 260 for each kind of similarity asked for."""

    def __init__(self, options: DataOptions, gap_questions: Sequence[str]) -> None:
        self._options = options
        self._gap = {normal_form(question): question for question in gap_questions}
        self._asked_by: dict[int, str] = {}
        self._ranks, self._questions, self._pairs = array("Q"), array("Q"), array("Q")
        self._numbers = array("Q")
        self._lengths = array("Q")
        self._near = _Signer(options.near_duplicates < 1)
        self._asked = _Signer(options.held_out_share > 0)
        self._answered = _Signer(options.held_out_share > 0)
        self._short = array("b")

    def __len__(self) -> int:
        return len(self._ranks)

    def add(self, question: str, response: str) -> None:
        """A row's cleaned texts."""
        asked, answered = same(question), same(response)
        both = f"{asked}\n{answered}"
        if gap := self._gap.get(normal_form(question)):
            self._asked_by[len(self)] = gap
        self._ranks.append(_rank(question, response))
        self._questions.append(xxhash.xxh3_64_intdigest(asked.encode()))
        self._pairs.append(xxhash.xxh3_64_intdigest(both.encode()))
        self._lengths.append(len(response))
        if self._near.is_needed:
            is_long = len(both) > MAX_COMPARED_CHARACTERS
            told_apart_by = both if is_long else similar.numbers_and_negations(both)
            self._numbers.append(xxhash.xxh3_64_intdigest(told_apart_by.encode()))
            self._near.add("" if is_long else both)
        if self._asked.is_needed:
            self._asked.add(asked[:MAX_COMPARED_CHARACTERS])
            self._answered.add(answered[:MAX_COMPARED_CHARACTERS])
            self._short.append(answered.count(" ") + 1 < MIN_WORDS)

    def lengths(self) -> np.ndarray:
        """Characters of each answer."""
        return _numbers(self._lengths)

    def gap_questions(self) -> list[str]:
        """Those that rows ask."""
        return sorted(set(self._asked_by.values()))

    def decide(self, text_of: Callable[[int], tuple[str, str]]) -> Decision:
        """Decide about all rows, once; `text_of` gives question and response of a row by its number."""
        rows = pd.DataFrame({"rank": _numbers(self._ranks), "question": _numbers(self._questions)})
        rows["outcome"] = np.uint8(KEPT)
        rows["duplicate_of"] = np.arange(len(rows))
        if self._options.gap_questions == "drop":
            rows.loc[list(self._asked_by), "outcome"] = GAP_QUESTION
        ordered = rows.assign(pair=_numbers(self._pairs))[rows["outcome"] == KEPT].sort_values("rank", kind="stable")
        rows.loc[ordered.index, "duplicate_of"] = ordered.groupby("pair")["duplicate_of"].transform("first")
        rows.loc[rows["duplicate_of"] != rows.index, "outcome"] = DUPLICATE
        if self._near.is_needed:
            self._drop_near(rows, text_of)
        rows["count"] = np.bincount(rows["duplicate_of"], minlength=len(rows))
        if self._options.conflicts == "drop":
            rows.loc[_conflicting(rows).index, "outcome"] = CONFLICT
        asked, largest = self._hold_out(rows) if self._options.held_out_share else (0, 0)
        return Decision(rows=rows, held_out_asked=asked, largest_group=largest)

    def _drop_near(self, rows: pd.DataFrame, text_of: Callable[[int], tuple[str, str]]) -> None:
        kept = np.flatnonzero(rows["outcome"] == KEPT)
        found = similar.duplicates(
            self._near.take()[kept],
            rows["rank"].to_numpy()[kept],
            self._options.near_duplicates,
            _numbers(self._numbers)[kept],
            lambda number: "\n".join(map(same, text_of(int(kept[number])))),
        )
        dropped = kept[np.fromiter(found, np.int64, len(found))]
        rows.loc[dropped, "outcome"] = NEAR_DUPLICATE
        rows.loc[dropped, "duplicate_of"] = kept[np.fromiter(found.values(), np.int64, len(found))]
        # A duplicate of a near duplicate is one of the row that stays.
        rows["duplicate_of"] = rows["duplicate_of"].to_numpy()[rows["duplicate_of"]]

    def _hold_out(self, rows: pd.DataFrame) -> tuple[int, int]:
        """Whole groups of similar rows, in an order that only their texts decide, up to the share; gives how many rows
        that is, and those of the largest group."""
        kept = np.flatnonzero(rows["outcome"] == KEPT)
        questions, order = rows["question"].to_numpy()[kept], rows["rank"].to_numpy()[kept] * MIX
        asked = similar.candidates(self._asked.take()[kept], order, GROUP_QUESTIONS)
        answered = similar.candidates(self._answered.take()[kept], order, GROUP_RESPONSES)
        short = np.frombuffer(self._short, np.int8).astype(bool)[kept]
        answered = answered[~short[answered].any(axis=1)]
        by_question = np.argsort(questions, kind="stable")
        equal = questions[by_question][1:] == questions[by_question][:-1]
        same_question = np.stack([by_question[:-1][equal], by_question[1:][equal]], axis=1)
        labels = similar.groups(len(kept), np.concatenate([asked, answered, same_question]))
        groups = pd.Series(order).groupby(labels).agg(["min", "size"]).sort_values("min")
        left = requested = int(self._options.held_out_share * len(kept))
        chosen: list[int] = []
        for group, size in zip(groups.index.tolist(), groups["size"].tolist(), strict=True):
            if size <= left:
                chosen.append(group)
                left -= size
        rows.loc[kept[np.isin(labels, chosen)].tolist(), "outcome"] = HELD_OUT
        return requested, int(groups["size"].max()) if len(groups) else 0


class _Signer:
    """Signatures of texts that come one by one."""

    def __init__(self, is_needed: bool) -> None:
        self.is_needed = is_needed
        self._waiting: list[str] = []
        self._characters = 0
        self._done: list[np.ndarray] = [np.empty((0, similar.SIGNATURE), np.uint32)]

    def add(self, text: str) -> None:
        self._waiting.append(text)
        self._characters += len(text)
        if len(self._waiting) == AT_ONCE or self._characters >= CHARACTERS_AT_ONCE:
            self._sign()

    def take(self) -> np.ndarray:
        """All signatures, of which none is kept here: a million take a quarter of a GiB."""
        if self._waiting:
            self._sign()
        taken = np.concatenate(self._done)
        self._done.clear()
        return taken

    def _sign(self) -> None:
        self._done.append(similar.signatures(self._waiting))
        self._waiting.clear()
        self._characters = 0


def same(text: str) -> str:
    """The form in which two texts count as the same: white space and upper and lower case make no difference."""
    return " ".join(text.casefold().split())


def _rank(question: str, response: str) -> int:
    """A number by which rows are ordered: capitals first, then by a hash."""
    first = int.from_bytes(question.encode()[:2], "big")
    return first << 48 | xxhash.xxh3_64_intdigest(f"{question}\0{response}".encode()) >> 16


def _conflicting(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows that are left, or a conflict, and share their question with another such row."""
    left = rows[rows["outcome"].isin([KEPT, HELD_OUT, CONFLICT])]
    return left[left.duplicated("question", keep=False)]


def _numbers(values: "array[Any]") -> np.ndarray:
    return np.frombuffer(values, np.uint64) if len(values) else np.empty(0, np.uint64)
