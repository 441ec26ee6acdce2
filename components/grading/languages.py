"""The languages that the reference rules read, and which language a question is in.

    language_of(["Wie lange dauert die Probezeit?"])                        de
    unread([("Quanto dura il periodo di prova?", "sei mesi")])              ["it"]

What the rules know of a language stands in words.toml; stems are Snowball's, languages are told apart by py3langid.
"""

# ruff: noqa: SIM905 - a text of words reads better than a list of strings
import re
import tomllib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import resources
from typing import Any

import py3langid
import snowballstemmer

READ = {"en": "english", "de": "german", "fr": "french", "es": "spanish"}
"""ISO 639-1 codes of the languages that the rules claim to read, with Snowball's names of them."""
# Rare ones are left out: short questions would be taken for them.
_TOLD_APART = (
    "ar bg ca cs da de el en es et fa fi fr he hi hr hu id it ja ko lt lv nl no pl pt ro ru sk sl sr sv th tr uk vi zh"
).split()
_MIN_SHARE = 0.05  # of the questions; fewer may be short questions that are told wrongly


@dataclass(frozen=True, kw_only=True, eq=False)
class Language:
    """What the rules know of a language; words.toml explains the lists."""

    code: str
    stem: Callable[[str], str]
    """Takes off a word's endings: closing, closes, closed -> close."""
    fillers: frozenset[str]
    negators: frozenset[str]
    without: frozenset[str]
    limits: frozenset[str]
    yes: frozenset[str]
    no: frozenset[str]
    allowed: frozenset[str]
    forbidden: frozenset[str]
    conditions: frozenset[str]
    contrasts: frozenset[str]
    starts: frozenset[str]
    relatives: frozenset[str]
    listing: frozenset[str]
    joiners: frozenset[str]
    in_order: frozenset[str]
    many: frozenset[str]
    months: list[str]
    opposites: list[frozenset[str]]
    """Pairs of stems."""
    hedges: re.Pattern[str]
    corrections: re.Pattern[str]
    harmless: re.Pattern[str]


def language_of(texts: Iterable[str]) -> str:
    """The ISO 639-1 code of the language that texts are in."""
    return str(_told_apart().classify("\n".join(texts))[0])


def unread(questions: Iterable[tuple[str, str]]) -> list[str]:
    """The languages among questions (each with its reference) that the rules do not read, the most frequent first.

    A reference is often a name, which says nothing of the language.
    """
    groups: dict[str, list[str]] = {}
    for question, _ in questions:
        groups.setdefault(language_of([question]), []).append(question)
    total = sum(map(len, groups.values()))
    return [
        code
        for code, group in sorted(groups.items(), key=lambda item: -len(item[1]))
        if code not in READ and len(group) >= _MIN_SHARE * total and language_of(group) not in READ
    ]


@cache
def words_of(code: str) -> Language:
    """What the rules know of a language; of English for one that they do not read."""
    code = code if code in READ else "en"
    table = tomllib.loads(resources.files("components.grading").joinpath("words.toml").read_text(encoding="utf-8"))
    words = table[code]
    irregular = dict(pair.split() for pair in words.pop("irregular").casefold().split(","))
    stemmer = snowballstemmer.stemmer(READ[code])

    @lru_cache(maxsize=65536)
    def stem(word: str) -> str:
        return str(stemmer.stemWord(irregular.get(word, word)))

    known: dict[str, Any] = {}
    for name, value in words.items():
        if isinstance(value, list):
            known[name] = re.compile(rf"\b(?:{'|'.join(value)})(?!\w)")
        elif name == "opposites":
            known[name] = [frozenset(map(stem, pair.casefold().split())) for pair in value.split(",")]
        elif name == "months":
            known[name] = value.split()
        else:
            known[name] = frozenset(value.casefold().split())
    return Language(code=code, stem=stem, **known)


@cache
def _told_apart() -> Any:
    identifier = py3langid.langid.LanguageIdentifier.from_model_file(py3langid.langid.MODEL_FILE)
    identifier.set_languages(_TOLD_APART)
    return identifier
