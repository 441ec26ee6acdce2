"""The form in which two spellings of a question are one question.

    What is the rank of a MEMBER, at level twenty-one?    what is the rank of a member at level 21

Case, white space, Unicode forms, PUNCTUATION and numbers in words make no difference; other signs may: 2 + 2 is not
2 - 2. `number_words.csv` has the numbers to a hundred in English, German, French and Spanish, and English ordinals; its
third column those that are other words as well: the one that you see, English once and Spanish once.
"""

import csv
import re
import unicodedata
from collections.abc import Mapping
from functools import partial
from importlib import resources

from components.data.tables import without_format_characters

PUNCTUATION = frozenset("?!.,;:\"'`´“”„‘’‚«»‹›¿¡()…？！。、，")
ARITHMETIC = frozenset("+*/=^×÷<>−-")  # beside these, parentheses change what is asked
TOKEN = re.compile(
    r"\d+(?:[.,]\d+)+"
    r"|[\u3040-\u30ff\u3400-\u9fff]"  # Japanese and Chinese have no blanks between words
    r"|[^\W_\u3040-\u30ff\u3400-\u9fff]+|[^\w\s]|_"
)
THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
HYPHEN = re.compile(r"(?<=[^\W\d_])[-‐‑–](?=[^\W\d_])")
ROUND_NUMBERS = [
    (word, size, re.compile(
        rf"(?<!\S)(?:(\d{{1,{zeros}}}|an?) |(?<!\d )){word}(?!\S)(?: (?:and )?(\d{{1,{zeros}}})(?!\S))?"
    ))
    for word, size, zeros in (("hundred", 100, 2), ("thousand", 1000, 3))
]  # fmt: skip


def _read(column: str) -> dict[str, str]:
    table = resources.files("components.data").joinpath("number_words.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(table.splitlines())
    return {words.casefold(): row["digits"] for row in rows for words in row[column].split(" | ") if words}


CERTAIN_WORDS = _read("words")
NUMBER_WORDS = CERTAIN_WORDS | _read("doubtful")
FIRST_WORDS = frozenset(words.split()[0] for words in NUMBER_WORDS) | {"hundred", "thousand"}
LONGEST = max(len(words.split()) for words in NUMBER_WORDS)


def normal_form(text: str) -> str:
    """Equal for two spellings of one question."""
    tokens = with_digits(split(text))
    ignored = PUNCTUATION if ARITHMETIC.isdisjoint(tokens) else PUNCTUATION - {"(", ")"}
    return " ".join([token for token in tokens if token not in ignored] or tokens)


def split(text: str) -> list[str]:
    """Words, numbers and signs, in one Unicode form and case."""
    if not text.isascii():
        text = without_format_characters(unicodedata.normalize("NFKC", text))
        text = unicodedata.normalize("NFKC", text.casefold())
    return TOKEN.findall(THOUSANDS.sub("", HYPHEN.sub(" ", text.casefold())).replace("_", " _ "))


def with_digits(tokens: list[str], known: Mapping[str, str] = NUMBER_WORDS) -> list[str]:
    """The same with digits for numbers in words."""
    if FIRST_WORDS.isdisjoint(tokens):
        return tokens
    result: list[str] = []
    place = 0
    while place < len(tokens):
        length = LONGEST if tokens[place] in FIRST_WORDS else 0
        while length and " ".join(tokens[place : place + length]) not in known:
            length -= 1
        result.append(known[" ".join(tokens[place : place + length])] if length else tokens[place])
        place += length or 1
    for word, size, pattern in ROUND_NUMBERS:
        if word in result:
            result = pattern.sub(partial(_sum, size), " ".join(result)).split(" ")
    return result


def _sum(size: int, found: re.Match[str]) -> str:
    """2 hundred and 5 is 205, a thousand 1000."""
    count, rest = found.groups()
    return str((int(count) if count and count.isdigit() else 1) * size + int(rest or 0))
