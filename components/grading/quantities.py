"""A text as tokens in the form in which verdicts compare them: numbers, quantities, times and dates in one form each.

    twenty-four, 24                                  24
    1,440 and 1 440 and 1440, 12.50 and 12,5, 2 million     1440, 12.5, 2000000
    half a kilometre, 0.5 km, 500 metres             500 m         (a quantity is one token, in the base of its unit)
    two weeks, 14-day                                1209600 s
    three years, 36 months                           36 month      (months are never turned into days)
    100 °C, 100 degrees Celsius; 5 %, 5 per cent     100 °c; 5 %
    €12.50, 12.50 euros, EUR 12.5                    12.5 euro
    5:30 pm, half past five in the afternoon, 17:30  17:30         (without am, pm or the like: 5:30)
    15 May, May 15th, the fifteenth of May           15 may
    third, 3rd                                       #3            (an ordinal is not a number, except in dates)

Everything else is a word, Unicode NFKC and case folded, or a punctuation mark. Units of other systems are other
quantities: miles are not turned into kilometres, nor °F into °C.
"""

# ruff: noqa: SIM905 - a text of words reads better than a list of strings
import csv
import re
import unicodedata
from decimal import Decimal
from importlib import resources
from typing import NamedTuple

_SMALL = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
ONES = {word: number for number, word in enumerate(_SMALL.split())}
TENS = {
    word: 10 * number
    for number, word in enumerate("twenty thirty forty fifty sixty seventy eighty ninety".split(), start=2)
}
POWERS = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9}
_ORDINALS = (
    "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth fifteenth "
    "sixteenth seventeenth eighteenth nineteenth twentieth"
)
ORDINALS = {word: number for number, word in enumerate(_ORDINALS.split(), start=1)} | {"thirtieth": 30}
MONTHS = "january february march april may june july august september october november december".split()
_DAYS = {str(day) for day in range(1, 32)}
MONTH_NAMES = {name: month for month in MONTHS for name in (month, month[:3])} | {"sept": "september"}


class Unit(NamedTuple):
    """A unit as it was written: its first name, its base and how many of the base it is."""

    name: str
    base: str
    factor: Decimal


def _read_units() -> dict[tuple[str, ...], Unit]:
    """Units by the words of each of their names, in the singular."""
    units: dict[tuple[str, ...], Unit] = {}
    table = resources.files("components.grading").joinpath("units.csv").read_text(encoding="utf-8")
    for row in csv.DictReader(table.splitlines()):
        names = row["names"].split(" | ")
        unit = Unit(names[0], row["base"], Decimal(row["factor"]))
        units |= {tuple(name.split()): unit for name in names}
    return units


UNITS = _read_units()
CURRENCIES = {("€",), ("£",), ("$",), ("eur",), ("gbp",), ("usd",)}

_TOKEN = re.compile(
    r"\d{1,2}:\d\d(?!\d)"
    r"|\d{1,4}(?:st|nd|rd|th)(?![^\W_])"
    r"|\d{1,3}(?:,\d{3}){1,6}(?!\d)(?:\.\d+)?"
    r"|\d{1,3}(?:[ ]\d{3}){1,6}(?!\d)(?:\.\d+)?"
    r"|(?<![\d,])\d+,\d{1,2}(?![\d,])"
    r"|\d+(?:\.\d+)?"
    r"|[^\W\d_]+"
    r"|(?<=\d)[-−–](?=\d)|(?<=[ ])[-–](?=[ ])|—|\.\.\."
    r"|[%€£$°×÷=+/.,;:!?()\n]"
)
_HOURS = "|".join(list(ONES)[1:13])
_TIME = re.compile(
    rf"(?<![\d.,:\w])(?:(half|(?:a )?quarter) (past|to) )?(\d{{1,2}}|{_HOURS})(?!\w)(?:[:.](\d\d)(?!\d))?"
    r"( o'clock)?(?:[ ]?([ap])(?:m\b|\. ?m\b\.?)| in the (morning|afternoon|evening)| at (night))?"
)
_LIST_NUMBER = re.compile(r"^[ \t]{0,8}(\d{1,2})[.)][ \t](?=.)", re.MULTILINE)
_FRACTIONS = {"¼": ".25", "½": ".5", "¾": ".75"}
_NAMED_TIMES = {"noon": "12:00", "midday": "12:00", "midnight": "0:00"}


class Token(NamedTuple):
    """A piece of a text; its kind is word, mark, ordinal, number (without a unit), time, date or a unit's name."""

    text: str
    kind: str
    number: str = ""
    """The number of a quantity as it was written: 3 of three years."""


def plain(text: str) -> str:
    """The text NFKC and case folded, n't as not, without Markdown's marks and the numbers of a list."""
    text = text.replace("²", " squared").replace("³", " cubed")
    for fraction, decimals in _FRACTIONS.items():
        text = re.sub(rf"(?<!\d){fraction}", "0" + decimals, text).replace(fraction, decimals)
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    text = re.sub("[’‘ʼ´]", "'", text).replace("**", "").replace("__", "").replace("`", "")
    text = re.sub(r"n't\b", " not", text).replace("cannot", "can not")
    text = re.sub(r"(?<=\d) ?[*x] ?(?=\d)", " × ", text)
    text = re.sub(r"(?<![^\s(])[-−](?=\d)", "minus ", text)
    numbers = _LIST_NUMBER.findall(text)
    return _LIST_NUMBER.sub("", text) if len(numbers) > 1 and numbers[0] == "1" else text


def read(text: str) -> list[Token]:
    """The tokens of a text that `plain` has returned."""
    with_times = _TIME.sub(_clock_time, re.sub(r"(?<=\d)(?=[ap](?:m\b|\.))", " ", text))
    return _quantities(_dates(_numbers(_TOKEN.findall(with_times))))


def is_number(token: Token) -> bool:
    """Whether the token states a number, a quantity, a time or a date."""
    return token.kind not in ("word", "mark", "ordinal")


def singular(word: str) -> str:
    """A word without the ending of a simple plural."""
    if len(word) <= 3 or not word.isalpha() or not word.endswith("s") or word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    return word[:-2] if word.endswith(("ches", "shes", "xes", "sses", "zes")) else word[:-1]


def unit_at(tokens: list[Token], place: int) -> tuple[Unit, int] | None:
    """The unit whose name starts at this place, and of how many tokens the name is."""
    for length in (3, 2, 1):
        name = tuple(singular(token.text) for token in tokens[place : place + length])
        if len(name) == length and name in UNITS:
            return UNITS[name], length
    return None


def quantity(number: str, unit: Unit) -> Token:
    """A number of a unit as one token."""
    return Token(f"{_written(Decimal(number) * unit.factor)} {unit.base}", unit.name, number)


def _written(number: Decimal) -> str:
    digits = f"{number:f}"
    return digits.rstrip("0").rstrip(".") if "." in digits else digits


def _clock_time(found: re.Match[str]) -> str:
    """The time of day as 17:30; the text as it was when it is no time of day."""
    quarter, direction, hour_text, minute_text, o_clock, half_day, part_of_day, night = found.groups()
    if not (quarter or o_clock or half_day or part_of_day or night) and ":" not in found.group():
        return found.group()
    hour = ONES[hour_text] if hour_text in ONES else int(hour_text)
    minute = int(minute_text or 0)
    if quarter:
        minute = 30 if quarter == "half" else 15 if direction == "past" else 45
        hour -= direction == "to"
    if hour > 24 or minute > 59:
        return found.group()
    after_noon = half_day == "p" or part_of_day in ("afternoon", "evening") or bool(night and hour > 5)
    if after_noon and hour < 12:
        hour += 12
    elif (half_day == "a" or part_of_day == "morning") and hour == 12:
        hour = 0
    return f"{hour % 24}:{minute:02d}"


def _numbers(pieces: list[str]) -> list[Token]:
    """Number words as digits: twenty four -> 24, two thousand three hundred and five -> 2305, twelve four -> 12 4."""
    tokens: list[Token] = []
    number: int | None = None  # what the number words so far come to
    for place, piece in enumerate(pieces):
        value = ONES.get(piece, TENS.get(piece, POWERS.get(piece)))
        before = 1 if number is None else number
        last = before % 1000 or before  # two thousand three | hundred: the power takes the three only
        if piece in POWERS and number is None and tokens and _scales(tokens[-1], POWERS[piece]):  # 1.5 million
            tokens[-1] = Token(_written(Decimal(tokens[-1].text) * POWERS[piece]), "number")
        elif piece in POWERS and last < POWERS[piece]:
            number = before - last + last * POWERS[piece]
        elif value is not None and number is not None and _continues(number, value):
            number += value
        elif piece == "and" and number and number % 100 == 0 and {*pieces[place + 1 : place + 2]} & {*ONES, *TENS}:
            continue
        elif number and number % 100 in TENS.values() and ORDINALS.get(piece, 10) < 10:
            tokens.append(Token(f"#{number + ORDINALS[piece]}", "ordinal"))
            number = None
        else:
            if number is not None:
                _append_number(tokens, str(number))
            number = value
            if value is None:
                _append(tokens, piece)
    if number is not None:
        _append_number(tokens, str(number))
    return tokens


def _scales(token: Token, power: int) -> bool:
    """Whether a power multiplies the number in digits before it."""
    return token.kind == "number" and abs(Decimal(token.text)) < power


def _continues(number: int, value: int) -> bool:
    """Whether the next word continues a number: twenty | four, two hundred | five, but twelve | four are two."""
    if number and number % 100 == 0:
        return 0 < value < 100
    return number % 100 >= 20 and number % 10 == 0 and 0 < value < 10


def _append(tokens: list[Token], piece: str) -> None:
    """Append a piece of text that is not a number word."""
    if ":" in piece and len(piece) > 1:
        tokens.append(Token(f"{int(piece[:-3])}{piece[-3:]}", "time"))
    elif piece[0].isdigit() and piece[-1].isalpha():
        tokens.append(Token(f"#{int(piece[:-2])}", "ordinal"))
    elif piece[0].isdigit():
        decimal_comma = re.fullmatch(r"\d+,\d{1,2}", piece)
        digits = piece.replace(",", ".") if decimal_comma else piece.replace(",", "").replace(" ", "")
        _append_number(tokens, _written(Decimal(digits)))
    elif piece in _NAMED_TIMES:
        tokens.append(Token(_NAMED_TIMES[piece], "time"))
    elif piece == "second" and tokens and (tokens[-1].kind == "number" or tokens[-1].text in ("per", "/")):
        tokens.append(Token(piece, "word"))
    elif piece in ORDINALS:
        tokens.append(Token(f"#{ORDINALS[piece]}", "ordinal"))
    else:
        tokens.append(Token(piece, "word" if piece.isalpha() or piece in "%€£$°" else "mark"))


def _append_number(tokens: list[Token], digits: str) -> None:
    """Append a number; it is negative after a minus that does not stand between two numbers."""
    if tokens and tokens[-1].text == "minus" and not (tokens[1:] and is_number(tokens[-2])):
        tokens[-1] = Token(f"-{digits}", "number")
    else:
        tokens.append(Token(digits, "number"))


def _dates(tokens: list[Token]) -> list[Token]:
    """Days of a month as one token, in both orders."""
    result: list[Token] = []
    place = 0
    while place < len(tokens):
        for pattern in (("day", "month"), ("day", "of", "month"), ("month", "day"), ("month", "the", "day")):
            part = tokens[place : place + len(pattern)]
            if len(part) == len(pattern) and all(map(_fits, part, pattern)):
                day = part[pattern.index("day")].text.strip("#")
                result.append(Token(f"{day} {MONTH_NAMES[part[pattern.index('month')].text]}", "date"))
                place += len(pattern)
                break
        else:
            result.append(tokens[place])
            place += 1
    return result


def _fits(token: Token, what: str) -> bool:
    if what == "day":
        return token.kind in ("number", "ordinal") and token.text.strip("#") in _DAYS
    return token.text in MONTH_NAMES if what == "month" else token.text == what


def _quantities(tokens: list[Token]) -> list[Token]:
    """Numbers with their units as one token."""
    result: list[Token] = []
    place = 0
    while place < len(tokens):
        token = tokens[place]
        place += 1
        following = [after.text for after in tokens[place : place + 3]]
        if token.kind == "number":
            number = token.text
            if following == ["and", "a", "half"] and "." not in number:
                number, place = f"{number}.5", place + 3
            unit = unit_at(tokens, place)
            if unit is not None:
                place += unit[1]
                result.append(quantity(number, unit[0]))
            elif result and (result[-1].text,) in CURRENCIES:
                result[-1] = quantity(number, UNITS[(result[-1].text,)])
            else:
                result.append(Token(number, "number"))
        elif token.text == "half" and following[:1] in (["a"], ["an"]) and unit_at(tokens, place + 1):
            unit = unit_at(tokens, place + 1)
            assert unit is not None
            result.append(quantity("0.5", unit[0]))
            place += 1 + unit[1]
        else:
            result.append(token)
    return result
