"""A text as tokens in the form in which verdicts compare them: numbers, quantities, times and dates in one form each.

    twenty-four, 24; vierundzwanzig in German        24
    1,440 and 1 440 and 1440; 1.500 in German        1440; 1500
    half a kilometre, 0.5 km, 500 metres             500 m         (a quantity is one token, in the base of its unit)
    two weeks, 14-day                                1209600 s
    three years, 36 months                           36 month      (months are never turned into days)
    between 2 and 8 °C                               2 °c, 8 °c
    €12.50, 12.50 euros, EUR 12.5                    12.5 euro
    5:30 pm, half past five in the afternoon, 17:30  17:30         (without am, pm or the like: 5:30)
    15 May, May 15th; le 15 mai in French            15#5
    third, 3rd                                       #3            (an ordinal is not a number, except in dates)
    192.168.10.1, 2.3.1                              as they are

Everything else is a word, Unicode NFKC and case folded (a Chinese or Japanese character is one by itself), or a
punctuation mark. Units of other systems are other quantities: miles are not turned into kilometres, nor °F into °C.
Number words are read by text2num.
"""

# ruff: noqa: SIM905 - a text of words reads better than a list of strings
import csv
import re
import unicodedata
from decimal import Decimal
from importlib import resources
from typing import NamedTuple

from text_to_num import alpha2digit

from components.grading.languages import Language


class Unit(NamedTuple):
    """A unit as it was written: its first name, its base and how many of the base it is."""

    name: str
    base: str
    factor: Decimal


class Token(NamedTuple):
    """A piece of a text; its kind is word, mark, ordinal, number (without a unit), dotted, time, date, or its unit."""

    text: str
    kind: str
    number: str = ""
    """The number of a quantity as it was written: 3 of three years."""


def _read_units() -> dict[tuple[str, ...], Unit]:
    """Units by the words of each of their names, in the singular."""
    units: dict[tuple[str, ...], Unit] = {}
    table = resources.files("components.grading").joinpath("units.csv").read_text(encoding="utf-8")
    for row in csv.DictReader(table.splitlines()):
        names = row["names"].split(" | ")
        unit = Unit(names[0], row["base"], Decimal(row["factor"]))
        units |= {tuple(name.split()): unit for name in names}
    return units


_UNITS = _read_units()
_CURRENCIES = frozenset("€ £ $ ¥ eur gbp usd chf".split())
_SCALES = {"1000": 1000, "1000000": 10**6, "1000000000": 10**9}
_HALVES = frozenset("half halb halbe halben demi demie media medio".split())
BETWEEN_NUMBERS = frozenset("and or to / - – − , und oder bis et ou à y o a".split())
_EVERY = frozenset("every each jede jeden jedes chaque cada".split())
_NAMED_TIMES = dict.fromkeys("noon midday mittag midi mediodía".split(), "12:00") | dict.fromkeys(
    "midnight mitternacht minuit medianoche".split(), "0:00"
)
_AFTER_NOON = frozenset("p afternoon evening nachmittags abends soir midi tarde noche".split())

_NUMBER = r"\d{1,2}:\d\d(?!\d)|\d{1,2}#\d{1,2}|\d{1,4}(?:st|nd|rd|th|er|re|ère|ème|e|o|a|º|ª)(?![^\W_])"
_LETTER = r"[^\W\d_぀-ヿ㐀-鿿]"  # Chinese and Japanese characters are words by themselves
_NO_NUMBER = (
    rf"|{_LETTER}+\d(?:{_LETTER}|\d)*(?!\.?\d)|{_LETTER}+|[^\W\d_]"
    r"|(?<=\d)[-−–](?=\d)|(?<=[ ])[-–](?=[ ])|—|\.\.\.|[%€£$¥°×÷=+/.,;:!?()&\n]"
)
_TOKEN = re.compile(
    rf"{_NUMBER}|\d+(?:\.\d+){{2,}}|\d{{1,3}}(?:,\d{{3}}){{1,6}}(?!\d)(?:\.\d+)?"
    rf"|\d{{1,3}}(?:[ ']\d{{3}}){{1,6}}(?!\d)(?:\.\d+)?|(?<![\d,])\d+,\d{{1,2}}(?![\d,])|\d+(?:\.\d+)?{_NO_NUMBER}"
)
_TOKEN_WITH_DECIMAL_COMMA = re.compile(
    rf"{_NUMBER}|\d{{1,3}}(?:[. ']\d{{3}}){{1,6}}(?!\.?\d)(?:,\d+)?|\d+(?:\.\d+){{2,}}|\d+(?:[.,]\d+)?{_NO_NUMBER}"
)
_TIME = re.compile(
    r"(?<![\d.,:\w])(?:(half|halb|(?:a )?quarter)(?: (past|to))? )?(\d{1,2})(?!\w)(?! ?[.,:]\d{3})(?:[:.](\d\d)(?!\d))?"
    r"(?:( ?(?:uhr|o'clock|h|heures?|horas?)(?!\w))(?: (\d\d)(?!\d))?)?(?: (?:et|y) (demie|quart|media|cuarto))?"
    r"(?:[ ]?([ap])\.? ?m(?!\w)\.?|(?: (?:in the|at|am|du|de la|de|en la))? (?:après )?(morning|afternoon|evening|night"
    r"|morgens|vormittags|nachmittags|abends|matin|midi|soir|mañana|tarde|noche))?(?!\w)"
)
_LIST_NUMBER = re.compile(r"^[ \t]{0,8}(\d{1,2})[.)][ \t](?=.)", re.MULTILINE)
_SPELLINGS = {
    "en": [
        (r"(?<=\d)(?=[ap](?:m\b|\.))", " "),  # 5pm
    ],
    "de": [
        (r"\b(?:eineinhalb|anderthalb)\b", "1,5"),
        (r"(?<=\b\d)\. (?=[^\W\d])|(?<=\b\d\d)\. (?=[^\W\d])", " "),  # 15. Mai
    ],
    "fr": [
        (r"\b(?:[ldscnmtj]|qu)'", ""),  # l'heure
        (r"(?<=\d) ?h ?(?=\d\d\b)", ":"),  # 17 h 30
        (r"(?<=\bà )(\d{1,2}) ?h(?:eures)?\b(?! ?\d| et)", r"\1:00"),
    ],
}


def plain(text: str) -> str:
    """The text NFKC and in lower case, n't as not, without Markdown's marks and the numbers of a list."""
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).lower())
    text = re.sub("[’‘ʼ´]", "'", re.sub(r"\*\*|__|`", "", text)).replace("。", ". ").replace("、", ", ")
    text = re.sub(r"(?<=[^\W\d])-(?=[^\W\d])", " ", text)  # three-year
    text = re.sub(r"n't\b", " not", text).replace("cannot", "can not")
    text = re.sub(r"(?<![^\s(])[-−](?=\d)", "minus ", text)
    numbers = _LIST_NUMBER.findall(text)
    return _LIST_NUMBER.sub("", text) if len(numbers) > 1 and numbers[0] == "1" else text


def read(text: str, language: Language) -> list[Token]:
    """The tokens of a text that `plain` has returned."""
    # Line by line: no number goes over several items of a list.
    text = "\n".join(alpha2digit(line, language.code, 0.0) for line in text.split("\n")).casefold()
    for pattern, spelling in _SPELLINGS.get(language.code, []):
        text = re.sub(pattern, spelling, text)
    text = re.sub(r"\b(per|\d+)([ /-]+)2nd\b", r"\1\2second", text)  # text2num takes every second for an ordinal
    pieces = _TOKEN if language.code == "en" else _TOKEN_WITH_DECIMAL_COMMA
    tokens: list[Token] = []
    for piece in pieces.findall(_TIME.sub(_clock_time, _dates(text, language))):
        before = tokens[-1] if tokens else Token("", "mark")
        if piece in _SCALES and before.kind == "number" and abs(Decimal(before.text)) < _SCALES[piece]:  # 1.5 million
            tokens[-1] = Token(_written(Decimal(before.text) * _SCALES[piece]), "number")
        elif before.text == "minus" and piece[0].isdigit() and not (tokens[1:] and is_number(tokens[-2])):
            number = _token(piece, language)
            tokens[-1] = number._replace(text=f"-{number.text}")
        else:
            tokens.append(_token(piece, language))
    return _quantities(tokens)


def is_number(token: Token) -> bool:
    """Whether the token states a number, a quantity, a time or a date."""
    return token.kind not in ("word", "mark", "ordinal")


def unit_at(tokens: list[Token], place: int) -> tuple[Unit, int] | None:
    """The unit whose name starts at this place, and of how many tokens the name is."""
    for length in (4, 3, 2, 1):
        written = tuple(token.text for token in tokens[place : place + length])
        singular = tuple(re.sub(r"(?<=\w\w)(?<![sui])s$", "", text) for text in written)
        for name in (written, singular):
            if len(name) == length and name in _UNITS:
                return _UNITS[name], length
    return None


def quantity(number: str, unit: Unit) -> Token:
    """A number of a unit as one token."""
    return Token(f"{_written(Decimal(number) * unit.factor)} {unit.base}", unit.name, number)


def _written(number: Decimal) -> str:
    digits = f"{number:f}"
    return digits.rstrip("0").rstrip(".") if "." in digits else digits


def _clock_time(found: re.Match[str]) -> str:
    """The time of day as 17:30; the text as it was when it is no time of day."""
    quarter, direction, hour_text, minute_text, clock, minute_after, fraction, half_day, part_of_day = found.groups()
    on_the_clock = clock is not None and (clock.strip() in ("uhr", "o'clock") or minute_after)
    if not (
        ":" in found.group() or on_the_clock or fraction or direction or quarter == "halb" or half_day or part_of_day
    ):
        return found.group()
    hour, minute = int(hour_text), int(minute_text or minute_after or 0)
    if fraction:
        minute = 30 if fraction in _HALVES else 15
    elif quarter:
        minute = 30 if quarter in _HALVES else 15 if direction == "past" else 45
        hour -= direction == "to" or quarter == "halb"
    if hour > 24 or minute > 59:
        return found.group()
    after_noon = half_day == "p" or part_of_day in _AFTER_NOON or (part_of_day == "night" and hour > 5)
    if after_noon and hour < 12:
        hour += 12
    elif hour == 12 and (half_day == "a" or part_of_day == "morning"):
        hour = 0
    return f"{hour % 24}:{minute:02d}"


def _token(piece: str, language: Language) -> Token:
    if ":" in piece and len(piece) > 1:
        return Token(f"{int(piece[:-3])}{piece[-3:]}", "time")
    if "#" in piece:
        return Token(piece, "date")
    if not piece[0].isdigit():
        if piece in _NAMED_TIMES:
            return Token(_NAMED_TIMES[piece], "time")
        return Token(piece, "word" if piece[0].isalpha() or piece in "%€£$¥°" else "mark")
    if piece[-1].isalpha():
        return Token("#" + str(int(re.sub(r"\D", "", piece))), "ordinal")
    decimal_comma = language.code != "en" or re.fullmatch(r"\d+,\d{1,2}", piece)
    if decimal_comma and re.match(r"\d{1,3}(?:[. ']\d{3})+(?![.\d])", piece):  # 1.500,50
        piece = re.sub("[. ']", "", piece)
    if piece.count(".") > 1:
        return Token(piece, "dotted")
    return Token(_written(Decimal(piece.replace(",", ".") if decimal_comma else re.sub("[, ']", "", piece))), "number")


def _dates(text: str, language: Language) -> str:
    """Days of a month as 15#5, in both orders."""
    numbers = {name: number for number, month in enumerate(language.months, start=1) for name in (month, month[:3])}
    day, month = r"(\d{1,2})(?:st|nd|rd|th|er|º)?", rf"({'|'.join(sorted(numbers, key=len, reverse=True))})"
    text = re.sub(rf"\b{day}(?: of| de)? {month}\b", lambda found: f"{int(found[1])}#{numbers[found[2]]}", text)
    return re.sub(rf"\b{month}(?: the)? {day}(?![\d:]|\w)", lambda found: f"{int(found[2])}#{numbers[found[1]]}", text)


def _quantities(tokens: list[Token]) -> list[Token]:
    """Numbers with their units as one token."""
    result: list[Token] = []
    place = 0
    while place < len(tokens):
        token = tokens[place]
        place += 1
        following = [after.text for after in tokens[place : place + 3]]
        number = token.text if token.kind == "number" else ""
        if token.text in _HALVES and unit_at(tokens, place + (following[:1] in (["a"], ["an"]))):  # half an hour
            number, place = "0.5", place + (following[0] in ("a", "an"))
        elif number and following == ["and", "a", "half"]:  # one and a half hours
            number, place = f"{number}.5" if "." not in number else number, place + 3
        elif token.text in _EVERY and following and len(following[0]) > 2 and unit_at(tokens, place):
            number = "1"
        unit = unit_at(tokens, place) if number else None
        if unit is not None:
            place += unit[1]
            result.append(quantity(number, unit[0]))
        elif number and result and result[-1].text in _CURRENCIES:
            result[-1] = quantity(number, _UNITS[(result[-1].text,)])
        else:
            result.append(Token(number, "number") if number else token)
    for place, (left, between, right) in enumerate(zip(result, result[1:], result[2:], strict=False)):
        if left.kind == "number" and between.text in BETWEEN_NUMBERS and right.number:  # between 2 and 8 °C
            result[place] = quantity(left.text, _UNITS[tuple(right.kind.split())])
    return result
