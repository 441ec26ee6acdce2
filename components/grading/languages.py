"""The languages that the reference rules read, and which language a question is in.

    language_of(["Wie lange dauert die Probezeit?", "sechs Monate"])        de
    unread([("Quanto dura il periodo di prova?", "sei mesi")])              ["it"]

What the rules know of a language stands in words.toml; stems are Snowball's, languages are told apart by py3langid.
"""

import re
import tomllib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

import py3langid
import snowballstemmer

READ = {"en": "english", "de": "german", "fr": "french", "es": "spanish"}
"""ISO 639-1 codes of the languages that the rules claim to read, with Snowball's names of them."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Language:
    """What the rules know of a language; the lists are explained in words.toml."""

    code: str
    stem: Callable[[str], str]
    """A word without its endings: closing, closes, closed -> close."""
    fillers: frozenset[str]
    negators: frozenset[str]
    without: frozenset[str]
    yes: frozenset[str]
    no: frozenset[str]
    of_course: frozenset[str]
    allowed: frozenset[str]
    forbidden: frozenset[str]
    conditions: frozenset[str]
    contrasts: frozenset[str]
    starts: frozenset[str]
    relatives: frozenset[str]
    joiners: frozenset[str]
    listing: frozenset[str]
    in_order: frozenset[str]
    many: frozenset[str]
    months: list[str]
    opposites: list[frozenset[str]]
    """Pairs of stems."""
    hedges: re.Pattern[str]
    corrections: re.Pattern[str]
    harmless: re.Pattern[str]


def language_of(texts: Iterable[str]) -> str:
    """The ISO 639-1 code (639-3 for a few) of the language that texts are in."""
    return str(py3langid.classify("\n".join(texts))[0])


def unread(questions: Iterable[tuple[str, str]]) -> list[str]:
    """The languages among questions with their references that the rules do not read, the most frequent first."""
    found = [language_of(pair) for pair in questions]
    return sorted(set(found) - set(READ), key=lambda code: (-found.count(code), code))


@lru_cache(maxsize=None)
def words_of(code: str) -> Language:
    """What the rules know of a language; of English for one that they do not read."""
    code = code if code in READ else "en"
    table: dict[str, Any] = tomllib.loads(
        resources.files("components.grading").joinpath("words.toml").read_text(encoding="utf-8")
    )[code]
    stem = lru_cache(maxsize=65536)(snowballstemmer.stemmer(READ[code]).stemWord)
    known: dict[str, Any] = {}
    for name, value in table.items():
        if isinstance(value, list):
            known[name] = re.compile(rf"\b(?:{'|'.join(value)})(?!\w)")
        elif name == "opposites":
            known[name] = [frozenset(map(stem, pair.casefold().split())) for pair in value.split(",")]
        else:
            known[name] = value.casefold().split() if name == "months" else frozenset(value.casefold().split())
    return Language(code=code, stem=stem, **known)
