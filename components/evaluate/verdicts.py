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

WORD = re.compile(r"\d+(?:\.\d+)?|[^\W\d_]+")
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
    found = WORD.findall(unicodedata.normalize("NFKC", text).casefold())
    return [word for word in _digits(found) if word not in SMALL_WORDS]


def _digits(found: list[str]) -> list[str]:
    """Number words as digits: twenty four -> 24, three hundred -> 300."""
    result: list[str] = []
    number: int | None = None
    last_was_tens = False
    for word in found:
        if word in POWERS:
            number, last_was_tens = (1 if number is None else number) * POWERS[word], False
        elif word in UNITS and number is not None and (last_was_tens and 0 < UNITS[word] < 10):
            number, last_was_tens = number + UNITS[word], False
        elif word in UNITS or word in TENS:
            if number is not None:
                result.append(str(number))
            number, last_was_tens = UNITS.get(word, TENS.get(word)), word in TENS
        else:
            if number is not None:
                result.append(str(number))
            number, last_was_tens = None, False
            result.append(word)
    return [*result, str(number)] if number is not None else result
