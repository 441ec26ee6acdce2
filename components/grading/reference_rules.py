"""Is an answer right? Decided by the reference, without a judge model. In doubt an answer is wrong.

    question   How many lamps does a journeyman tend?
    reference  forty | 40                                    alternatives, separated by |
    answer     A journeyman of the guild tends 40 lamps.     right: it says all that the reference adds to the question

The key terms of a reference are its words that the question does not already hold (all of them, if that leaves none).
An answer is right when it states every key term of at least one alternative, and nothing against them:

1. One form. Case, Unicode forms, articles and other small words, Markdown and simple plurals do not count (plurals do
   where the question asks for one). Numbers, ordinals, quantities, times of day and dates are compared by value: forty
   and 40; 0.5 km and 500 m; two weeks and 14 days; half past five in the afternoon and 17:30; 15 May and the fifteenth
   of May. A number counts as the whole number only: 4 is not in 14. A number without a unit has the one asked for
   ("How many days ...?"). Words may come in any order, unless the question asks for one or the reference says then.
2. Corrections. After the last "no, wait", "actually", "sorry", "correction", "let me check" ... only what follows
   counts, if it decides something: "40. No, wait, 50." is 50.
3. Negations. A clause with not, never, no, wrong ... states nothing, twice negated it does: "not crimson but blue"
   states blue, "crimson, not blue" crimson. Not only, not until, no more than ... are no negations. Nor is what
   question or reference negate themselves: "Which bird cannot fly?"
4. Hedges. A sentence with either, maybe, might, could be, not sure, it depends ... states nothing, nor does a question.
5. Lists. One thing more than the reference names makes it wrong: "crimson and gold", "40 or 50", "40 - 50".
6. Rivals. Another number of the same unit in another clause makes it wrong: "The frame is covered for 36 months, the
   battery only for 18." Not so a conversion (26.2 miles), a number of the question, and a clause that is about less of
   the question. "So ..." at the end may decide by itself.
7. Another thing. A clause states nothing when it has the opposite of a word of the question (opens for closes), the
   second largest for the largest, a count of another thing of the question (four violins for strings), or three words
   more of its own than of the question: "It stands in Rome and can be reached by train from Paris." What follows the
   terms after a comma, because, which, and ... is not among them.
8. Yes and no. A reference that is only yes, no, none, not allowed, forbidden ... asks for that stance: the answer's
   first clause decides if it is yes or no, otherwise the clauses about the question, if they agree.
"""

# ruff: noqa: SIM905 - a text of words reads better than a list of strings
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from components.grading.quantities import UNITS, Token, Unit, is_number, plain, quantity, singular, unit_at
from components.grading.statements import (
    FILLERS,
    NEGATORS,
    NO,
    SMALL_WORDS,
    YES,
    Clause,
    denied_roots,
    readings,
    root,
    says_something,
    tokens_of,
)

PROHIBITIONS = frozenset("forbidden forbid prohibited prohibit banned ban disallowed refused".split())
PERMISSIONS = frozenset("may can allowed allow permitted permit welcome".split())
_STANCE_ROOTS = {root(word) for word in FILLERS | PROHIBITIONS | PERMISSIONS | NEGATORS}
_OPPOSITES = [
    frozenset(map(root, pair.split()))
    for pair in (
        "open close, open shut, start end, begin end, start finish, begin finish, first last, largest smallest, "
        "biggest smallest, highest lowest, longest shortest, oldest youngest, fastest slowest, heaviest lightest, "
        "minimum maximum, least most, above below, arrive depart, arrive leave, arrival departure, buy sell, "
        "inside outside, freeze boil, melt freeze, win lose, enter leave, entrance exit, inner outer, upper lower, "
        "summer winter, weekday weekend, earliest latest"
    ).split(", ")
]
_BETWEEN_NUMBERS = frozenset("and or / - – − to ,".split())
# Of the words after and before the terms, as _kind_in_list writes them; a list is read no further than this.
_LIST_AFTER = re.compile(r"k*(?:[cj]+k*fk*)*?c*j+k*fk*(?:c|x?$)")
_LIST_BEFORE = re.compile(r"k{0,3}jf(?:k|$)")
_LIST_TOKENS = 40
_STRAY_WORDS = 3  # two more words of its own are the usual phrase: the American astronaut
_SIDE_REMARKS = frozenset("because since due which who and".split())


@dataclass(frozen=True)
class _Question:
    """What a verdict needs of the question."""

    terms: frozenset[str]
    """Its words and numbers as they are compared."""
    roots: frozenset[str]
    """The same without the endings of verbs."""
    unit: Unit | None
    """The unit of a number without one: minutes in "How many minutes ...?", metres in "... in metres?"."""
    units: frozenset[str]
    """The names of the units that it holds, and of those of the same base."""
    counted: str
    """The lamp in "How many lamps ...?"."""
    denied: frozenset[str]
    """The fly in "Which bird cannot fly?"."""
    stem: Callable[[str], str]
    """Takes off the plural's ending; leaves it where the question asks for a plural."""


@dataclass(frozen=True)
class _Expected:
    """What an answer must state, by one alternative of the reference."""

    terms: frozenset[str]
    numbers: list[Token]
    """The numbers among the terms."""
    order: list[str]
    """The terms in the order in which they are to be named; empty where the order does not count."""
    known: frozenset[str]
    """Words that say nothing beside the terms: those of the question and of all alternatives."""
    denied: frozenset[str]
    """What question and alternative negate themselves."""


def is_right(question: str, reference: str, answer: str) -> bool:
    """The verdict on an answer; see the module's text for the rules.

    Raises:
        ValueError: when an alternative of the reference has no word: nothing can be graded against it.
    """
    parsed = _read_question(question)
    alternatives = list(zip(reference.split("|"), key_terms(question, reference), strict=True))
    known = parsed.terms | {parsed.stem(word) for word in words(reference)}
    for clauses in readings(plain(answer)):
        for alternative, terms in alternatives:
            stance = _stance_of_reference(alternative)
            if stance is None and _states(parsed, _expect(parsed, alternative, terms, known), clauses):
                return True
            if stance is not None and _stance_of_answer(parsed, clauses) == stance:
                return True
    return False


def key_terms(question: str, reference: str) -> list[set[str]]:
    """For each alternative of the reference the words that an answer must hold."""
    parsed = _read_question(question)
    alternatives = []
    for alternative in reference.split("|"):
        tokens = [token for token in tokens_of(plain(alternative)) if says_something(token)]
        terms = {_with_unit(token, parsed.unit).text for token in tokens}
        if not terms:
            raise ValueError(f"the reference {reference!r} has an alternative without a word")
        alternatives.append({term for term in terms if parsed.stem(term) not in parsed.terms} or terms)
    return alternatives


def words(text: str) -> list[str]:
    """The words of a text in the form in which they are compared."""
    return [token.text for token in tokens_of(plain(text)) if says_something(token)]


@lru_cache(maxsize=1024)
def _read_question(text: str) -> _Question:
    tokens = tokens_of(plain(text))
    texts = [token.text for token in tokens if says_something(token)]
    stem = str if {"plural", "singular"} & set(texts) else singular
    unit, counted, units = None, "", {token.kind for token in tokens if token.number}
    for place, before in enumerate(tokens[:-1], start=1):
        found = unit_at(tokens, place) if len(tokens[place].text) > 1 else None
        if found is not None:
            units.add(found[0].name)
        if before.text in ("many", "in") and found is not None and unit is None:
            unit = found[0]
        if before.text == "many":
            counted = root(tokens[place].text)
    bases = {known.base for known in UNITS.values() if known.name in units}
    return _Question(
        terms=frozenset(map(stem, texts)),
        roots=frozenset(map(root, texts)),
        unit=unit,
        units=frozenset(known.name for known in UNITS.values() if known.base in bases),
        counted=counted,
        denied=denied_roots(tokens),
        stem=stem,
    )


def _expect(question: _Question, alternative: str, terms: set[str], known: frozenset[str]) -> _Expected:
    tokens = tokens_of(plain(alternative))
    stems = frozenset(map(question.stem, terms))
    in_order = question.roots & {"order", "sequence"} or any(token.text == "then" for token in tokens)
    numbers = [_with_unit(token, question.unit) for token in tokens if is_number(token)]
    return _Expected(
        terms=stems,
        numbers=[number for number in numbers if number.text in terms],
        order=[stem for stem in (question.stem(token.text) for token in tokens) if stem in stems] if in_order else [],
        known=known,
        denied=question.denied | denied_roots(tokens),
    )


def _with_unit(token: Token, unit: Unit | None) -> Token:
    return quantity(token.text, unit) if unit and token.kind == "number" else token


def _states(question: _Question, expected: _Expected, clauses: list[Clause]) -> bool:
    """Whether the clauses state all terms of an alternative and nothing against them."""
    holding: list[Clause] = []
    others: list[Clause] = []
    found: set[str] = set()
    for clause in clauses:
        if clause.is_denied(NEGATORS, expected.denied) or _is_about_another_thing(question, expected, clause):
            continue
        stated = expected.terms & set().union(*_forms(question, clause.tokens))
        (holding if stated else others).append(clause)
        found |= stated
    if found != expected.terms:
        return False
    spoken = iter([question.stem(token.text) for clause in holding for token in clause.tokens])
    about = {clause.roots & question.roots for clause in holding}
    return (
        all(term in spoken for term in expected.order)
        and not any(_lists_more(question, expected, clause) for clause in holding)
        and not any(
            _is_rival(question, expected, number, clause, about) for number in expected.numbers for clause in others
        )
        and min(_stray_words(question, expected, clause) for clause in holding) < _STRAY_WORDS
    )


def _is_about_another_thing(question: _Question, expected: _Expected, clause: Clause) -> bool:
    """Whether a clause speaks of the opposite of what is question, or of the second largest for the largest."""
    known = {root(word) for word in expected.known}
    for pair in _OPPOSITES:
        if len(pair & question.roots) == len(pair & clause.roots) == 1 and not pair & clause.roots & known:
            return True
    return any(
        token.kind == "ordinal" and token.text not in question.terms and after.text.endswith(("est", "most"))
        for token, after in pairwise(clause.tokens)
    )


def _forms(question: _Question, tokens: list[Token]) -> list[set[str]]:
    """For each token the forms in which it can match a term."""
    result = []
    for place, token in enumerate(tokens):
        forms = {question.stem(token.text)}
        if token.kind == "number" and _counts_another_thing(question, tokens[place + 1 : place + 5]):
            forms = set()
        elif token.kind == "number":
            forms.add(_with_unit(token, question.unit).text)
        elif (
            token.kind == "°" and question.unit and question.unit.base.startswith("°")
        ):  # 37 degrees, Celsius question for
            forms.add(quantity(token.number, question.unit).text)
        elif token.number and token.kind not in question.units:
            forms.add(token.number)
        result.append(forms)
    return result


def _counts_another_thing(question: _Question, following: list[Token]) -> bool:
    """Whether a number counts another word of the question than the one question for: four violins for strings."""
    roots = [root(token.text) for token in following]
    return bool(question.counted and roots) and roots[0] in question.roots and question.counted not in roots


def _places(question: _Question, expected: _Expected, clause: Clause) -> list[int]:
    return [place for place, forms in enumerate(_forms(question, clause.tokens)) if forms & expected.terms]


def _lists_more(question: _Question, expected: _Expected, clause: Clause) -> bool:
    """Whether a clause lists something beside the terms: carbon dioxide and methane; 10 or 12; 10 - 12."""
    tokens = clause.tokens
    places = _places(question, expected, clause)
    for left, between, right in zip(tokens, tokens[1:], tokens[2:], strict=False):
        if between.text in _BETWEEN_NUMBERS and is_number(left) and is_number(right):
            pair = {left.text, right.text}
            alike = left.kind == right.kind or "number" in (left.kind, right.kind)
            if alike and pair & expected.terms and pair - expected.known - expected.terms:
                return True
    after = tokens[places[-1] + 1 :][:_LIST_TOKENS]
    before = tokens[: places[0]][-_LIST_TOKENS:][::-1]
    kinds_after, kinds_before = (
        "".join(_kind_in_list(question, expected, token) for token in part) for part in (after, before)
    )
    return bool(_LIST_AFTER.match(kinds_after) or _LIST_BEFORE.match(kinds_before))


def _kind_in_list(question: _Question, expected: _Expected, token: Token) -> str:
    """j for a joiner, c for a comma, k for a word of question or reference, f for another one, x for the rest."""
    if token.text in ("and", "or", "/", ","):
        return "c" if token.text == "," else "j"
    if token.kind != "word":
        return "x"
    return "k" if token.text in SMALL_WORDS or question.stem(token.text) in expected.known else "f"


def _is_rival(
    question: _Question, expected: _Expected, number: Token, clause: Clause, about: set[frozenset[str]]
) -> bool:
    """Whether a clause states another number of the same unit, and is not plainly about less of the question."""
    shared = clause.roots & question.roots
    if shared and all(shared < other for other in about):
        return False
    kinds = {number.kind} if number.kind in ("time", "date") else {number.kind, "number"}
    return any(is_number(token) and token.text not in expected.known and token.kind in kinds for token in clause.tokens)


def _stray_words(question: _Question, expected: _Expected, clause: Clause) -> int:
    """How many more words a clause has of its own than of the question, up to a side remark after the terms."""
    last = _places(question, expected, clause)[-1]
    rest = enumerate(clause.tokens[last:], start=last)
    end = next((place for place, token in rest if token.kind == "mark" or token.text in _SIDE_REMARKS), None)
    texts = {token.text for token in clause.tokens[:end] if token.kind == "word"} - FILLERS
    own = {root(word) for word in texts if question.stem(word) not in expected.known} - question.roots
    return len(own) - len({root(word) for word in texts} & question.roots)


def _stance_of_reference(alternative: str) -> bool | None:
    """Yes or no, when the alternative says nothing else: no; it is not allowed; forbidden; none."""
    texts = set(words(alternative))
    if not texts <= YES | NO | PROHIBITIONS | PERMISSIONS or texts <= {"may", "can", "course"}:
        return None
    return len(texts & (NEGATORS | NO | PROHIBITIONS)) % 2 == 0


def _stance_of_answer(question: _Question, clauses: list[Clause]) -> bool | None:
    """Yes or no, by the answer's first clause if it is that, else by the clauses about the question if they agree."""
    first = {token.text for token in clauses[0].tokens if says_something(token)} if clauses else set()
    if first and first <= YES | NO:
        return not first & NO
    stances = set()
    for clause in clauses:
        denied = clause.is_denied(NEGATORS | PROHIBITIONS, question.denied)
        ruled = any(token.text in PERMISSIONS | PROHIBITIONS for token in clause.tokens)
        about = len(clause.roots & question.roots)
        nothing_else = clause.roots - question.roots <= _STANCE_ROOTS
        decides = (ruled and about) or (nothing_else and (ruled or denied))
        if decides or (about > 1 and (denied or 2 * about >= len(question.roots))):
            stances.add(not denied)
    return stances.pop() if len(stances) == 1 else None
