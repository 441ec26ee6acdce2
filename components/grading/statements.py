"""What an answer states in the end, clause by clause: without what it takes back, leaves open or only asks.

    The Louvre is in Lyon. No, wait, it is in Paris, not in Lyon.
    -> (it is in Paris,), (not in Lyon, denied)

The rules are in `components.grading.reference_rules`.
"""

# ruff: noqa: SIM905 - a text of words reads better than a list of strings
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from components.data.questions import SMALL_WORDS
from components.grading.quantities import Token, read, singular

# Words that decide nothing and are about nothing.
FILLERS = SMALL_WORDS | frozenset(
    "i you he she we they there these those their his her s ll d m re ve do does did has have had will would can "
    "could must should may well let me us yes correct right indeed sure again just so but which who when where such "
    "from into than more very some any each every about only both between during until since also".split()
)
NEGATORS = frozenset("not never no none nobody nothing neither nor without wrong incorrect false untrue".split())
YES = frozenset("yes yeah yep true certainly definitely absolutely course".split())
NO = frozenset("no nope none never nobody false not".split())

_CORRECTION = re.compile(
    r"\bwait\b(?=[,.!:;]| no\b)|\bhmm+\b|\b(?:scratch|strike) that\b|\bcorrection\b|\bon second thoughts?\b"
    r"|\blet me (?:correct|check|re|think|rephrase|double|fix)[\w-]*|\bthinking about it(?: again)?\b"
    r"|\bmy (?:mistake|bad|error)\b|\b(?:i'm )?sorry\b|\bi apologi[sz]e\b|\bapologies\b|\bor rather\b|\bfinal answer\b"
    r"|\bi (?:mixed|confused|misspoke|was wrong|made an? (?:mistake|error)|meant?|stand corrected|take that back)\b"
    r"|\bso i'd say\b|[.!?:;,—–-][ ]?(?:no, )?actually\b|[.!;,—–-][ ]?no[,.:]"
)
_CONCLUSION = re.compile(r"(?:\n|[.!?:] ?)(?:so|therefore|thus|hence|in total|in short|in summary|altogether)\b")
_HEDGE = re.compile(
    r"\b(?:either|could be|could have been|might|maybe|perhaps|possibly|unsure|uncertain|unclear|unknown|guess|such as"
    r"|not (?:\w+ )?(?:sure|certain|know|remember|recall)|can? not (?:say|tell|remember|recall|be sure|give)"
    r"|(?:hard|difficult|impossible) to say|no idea|depends?|depending|differs?|varies|vary)\b"
)
_NO_NEGATION = re.compile(
    r"\bnot (?:only|just|merely|simply|until|before|later|more|less|fewer|earlier|exceed)\b|\bnothing (?:but|other)\b"
    r"|\bno (?:later|more|less|fewer|earlier|sooner|doubt|matter|problem)\b|\bwithout (?:doubt|question)\b|\bif not\b"
    r"|\bnot \w+ (?:more|less|fewer|later|earlier|longer) than\b"
)
_SENTENCE_END = frozenset([".", "!", "?", ";", "\n", "..."])
_CLAUSE_END = frozenset([":", "(", ")", "—", "-", "–"])
_AFTER_COMMA = frozenset(
    "it they he she we you there i the this these those which who where when and so their your our".split()
)
_CONTRAST = frozenset("but whereas while although though however yet".split())


@dataclass(frozen=True)
class Clause:
    """A part of a sentence that says one thing."""

    tokens: list[Token]
    contrasted: bool
    """Whether it follows ", not", "instead of" or the like."""

    @cached_property
    def roots(self) -> frozenset[str]:
        return frozenset(root(token.text) for token in self.tokens if says_something(token))

    def is_denied(self, deniers: frozenset[str], harmless: frozenset[str]) -> bool:
        """Whether it is negated, twice is not at all; what denies one of the harmless roots does not count."""
        texts = [token.text for token in self.tokens if says_something(token)]
        pairs = zip(texts, [*texts[1:], ""], strict=False)
        count = sum(text in deniers and root(after) not in harmless for text, after in pairs)
        return self.contrasted or count % 2 == 1


def tokens_of(text: str) -> list[Token]:
    """The tokens of a plain text; not before, no more than and the like are one word, because they negate nothing."""
    return read(_NO_NEGATION.sub(lambda found: found.group().replace(" ", ""), text))


def says_something(token: Token) -> bool:
    return token.kind != "mark" and token.text not in SMALL_WORDS


def root(word: str) -> str:
    """A word without the endings of plurals and verbs: closing, closes, closed -> clos."""
    word = singular(word)
    for ending in ("ing", "ed", "e"):
        if word.endswith(ending) and len(word) >= len(ending) + 3:
            return word[: -len(ending)]
    return word


def denied_roots(tokens: list[Token]) -> frozenset[str]:
    """What follows the negations: the fly of "Which bird cannot fly?"."""
    texts = [token.text for token in tokens if says_something(token)]
    return frozenset(root(after) for before, after in pairwise(texts) if before in NEGATORS)


def readings(text: str) -> Iterator[list[Clause]]:
    """The clauses of the plain text after its last correction, then those of its conclusion alone."""
    final = _after_last_correction(text)
    for part in dict.fromkeys((final, _CONCLUSION.split(final)[-1])):
        yield [clause for sentence in _sentences(tokens_of(part)) for clause in _clauses(sentence)]


def _after_last_correction(text: str) -> str:
    """What follows the last "no, wait", "actually", "sorry" and the like that is followed by something."""
    parts = _CORRECTION.split(text)
    for number in range(len(parts) - 1, 0, -1):
        if any(token.kind != "mark" and token.text not in FILLERS for token in read(parts[number])):
            return " ".join(parts[number:])
    return text


def _sentences(tokens: list[Token]) -> Iterator[list[Token]]:
    """The sentences that state something: no questions, none that says perhaps, either, it depends and the like."""
    sentence: list[Token] = []
    for token in [*tokens, Token(".", "mark")]:
        sentence.append(token)
        if token.text in _SENTENCE_END:
            if token.text != "?" and not _HEDGE.search(" ".join(token.text for token in sentence)):
                yield sentence
            sentence = []


def _clauses(sentence: list[Token]) -> Iterator[Clause]:
    texts = [token.text for token in sentence]
    clause: list[Token] = []
    contrasted = False
    for before, text, after, token in zip(["", *texts], texts, [*texts[1:], ""], sentence, strict=False):
        contrast = (
            (text == "not" and before in (",", "and"))
            or text == "unlike"
            or (text, after) in (("instead", "of"), ("rather", "than"))
        )
        answered = len(clause) == 2 and clause[0].text in YES | NO  # No, ...
        after_comma = before == "," and (text in _AFTER_COMMA or contrasted or answered)
        if contrast or after_comma or before in _CLAUSE_END or text in _CONTRAST:
            yield Clause(clause, contrasted)
            clause, contrasted = [], contrast
        clause.append(token)
    yield Clause(clause, contrasted)
