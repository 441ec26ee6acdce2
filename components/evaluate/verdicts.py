"""Is an answer right? Decided by the reference, without a judge model.

    question   How many lamps does a journeyman tend?
    reference  forty | 40                                    alternatives, separated by |
    answer     A journeyman of the guild tends 40 lamps.     right: it says all that the reference adds to the question

Both are reduced to words: Unicode NFKC, case folded, number words as digits, articles and other small words left out.
The key terms of a reference are its words that the question does not already hold (all of them, if that leaves none).
An answer is right when it holds every key term of at least one alternative. The order of words does not count, a
number counts only as the whole number.
"""

import re
import unicodedata

WORD = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|[^\W\d_]+")
SMALL_WORDS = frozenset(
    "a an the is are was were be of to in on at for and or it its by with as that this".split()  # noqa: SIM905
)
UNITS = {
    word: number
    for number, word in enumerate(
        [
            "zero",
            "one",
            "two",
            "three",
            "four",
            "five",
            "six",
            "seven",
            "eight",
            "nine",
            "ten",
            "eleven",
            "twelve",
            "thirteen",
            "fourteen",
            "fifteen",
            "sixteen",
            "seventeen",
            "eighteen",
            "nineteen",
        ]
    )
}
TENS = {
    word: number
    for number, word in zip(
        range(20, 100, 10), ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"], strict=True
    )
}
POWERS = {"hundred": 100, "thousand": 1000}
NUMBER_WORDS = {*UNITS, *TENS}


def is_right(question: str, reference: str, answer: str) -> bool:
    """The verdict on an answer; see the module's text for the rule.

    Raises:
        ValueError: when an alternative of the reference holds no word: nothing can be judged by it.
    """
    said = set(words(answer))
    return any(terms <= said for terms in key_terms(question, reference))


def key_terms(question: str, reference: str) -> list[set[str]]:
    """For each alternative of the reference the words that an answer must hold."""
    asked = set(words(question))
    alternatives = []
    for alternative in reference.split("|"):
        terms = set(words(alternative))
        if not terms:
            raise ValueError(f"the reference {reference!r} has an alternative without a word")
        alternatives.append(terms - asked or terms)
    return alternatives


def words(text: str) -> list[str]:
    """The words of a text in the form in which they are compared."""
    found = [word.replace(",", "") for word in WORD.findall(unicodedata.normalize("NFKC", text).casefold())]
    return [word for word in _digits(found) if word not in SMALL_WORDS]


def _digits(found: list[str]) -> list[str]:
    """Number words as digits: twenty four -> 24, two thousand three hundred and five -> 2305, twelve four -> 12 4."""
    result: list[str] = []
    number: int | None = None
    for place, word in enumerate(found):
        value = UNITS.get(word, TENS.get(word))
        if word in POWERS:
            before = 1 if number is None else number
            last = before % 1000 or before  # two thousand three | hundred: the power takes the three only
            number = before - last + last * POWERS[word]
        elif value is not None:
            if number is not None and not _continues(number, value):
                result.append(str(number))
                number = None
            number = (number or 0) + value
        elif word == "and" and number and number % 100 == 0 and set(found[place + 1 : place + 2]) & NUMBER_WORDS:
            continue
        else:
            if number is not None:
                result.append(str(number))
                number = None
            result.append(word)
    return [*result, str(number)] if number is not None else result


def _continues(number: int, value: int) -> bool:
    """Whether the next word goes on with a number: twenty | four, two hundred | five, but twelve | four are two."""
    if number and number % 100 == 0:
        return value > 0
    return number % 100 >= 20 and number % 10 == 0 and 0 < value < 10
