"""Is an answer right? Decided by the reference, without a judge model: a check of short facts.

    question   How many lamps does a journeyman tend?
    reference  forty | 40                                    alternatives, separated by |
    answer     A journeyman of the guild tends 40 lamps.     right: it says all that the reference adds to the question

The key terms of a reference are its words that the question does not already hold (all of them, if that leaves none).
An answer is right when its clauses together state the key terms of an alternative, and nothing against them:

1. One form. Case, endings, function words and Markdown do not count. Numbers, ordinals, quantities, times of day and
   dates are compared by value; a number without a unit has the one asked for ("How many days ...?"). All numbers must
   be there, three quarters of all terms, and one of every part of a list.
2. What is taken back ("40. No, wait, 50."), left open (either, perhaps, it depends) or asked states nothing.
3. Negations. A clause with a negator states nothing, twice negated it does: "not crimson but blue" states blue. In a
   relative clause, and after without, only the next words are denied: "A member who is not a master wears grey." Nor is
   a negation what question or reference negate themselves.
4. Lists. One thing more than the reference names makes it wrong: "crimson and gold", "40 or 50".
5. Rivals. Another number of the same unit makes it wrong, unless its clause is about less of the question: "The frame
   is covered for 36 months, the battery only for 18."
6. Another thing. A clause states nothing when it has the opposite of a word of the question (opens for closes), and
   when another one is about more of the question: "The wardens wear green. Visitors wear a yellow badge."
7. Yes and no. A reference that says yes, no, not allowed ... asks for that stance: the answer's first word decides,
   otherwise the clause that is most about the question. Of what it says besides one term is enough.

Other sentences do no harm: chat models add them.
"""

import re
from dataclasses import dataclass
from functools import cache, lru_cache

from components.data.questions import SMALL_WORDS
from components.grading.languages import Language, language_of, words_of
from components.grading.quantities import BETWEEN_NUMBERS, Token, Unit, is_number, plain, quantity, unit_at
from components.grading.statements import Clause, clause_of, clauses_of

_TERMS_STATED = 0.75
# Of the words after the terms, as _kind_in_list writes them; a list is read no further than this.
_LIST_AFTER = re.compile(r"k*(?:[cj]+k*fk*)*?c*j+k*fk*(?:c|x?$)")
_LIST_TOKENS = 40


@dataclass(frozen=True)
class _Question:
    """What a verdict needs of the question."""

    language: Language
    roots: frozenset[str]
    """Its words and numbers as they are compared."""
    unit: Unit | None
    """The unit of a number without one: minutes in "How many minutes ...?"."""
    counts: bool
    """Whether it asks how many."""
    negated: frozenset[str]
    """What it negates: the master of "Who is not a master?"."""
    is_negated: bool
    """Whether it asks who or what does not: "Which bird cannot fly?"."""


@dataclass(frozen=True)
class _Expected:
    """What an answer must state, by one alternative of the reference."""

    clause: Clause
    stance: bool | None
    """Yes or no, when the reference says so first or says nothing else."""
    terms: frozenset[str]
    parts: list[set[str]]
    """The terms of each thing that it lists."""
    known: frozenset[str]
    """Words that say nothing beside the terms: those of the question and of all alternatives."""
    harmless: frozenset[str]
    """What question and alternative negate themselves."""


def is_right(question: str, reference: str, answer: str) -> bool:
    """The verdict on an answer; see the module's text for the rules.

    Raises:
        ValueError: when an alternative of the reference has no word: nothing can be graded against it.
    """
    asked, alternatives = _read_question(question), _alternatives(question, reference)
    clauses = clauses_of(plain(answer).replace(plain(question) or "\n", "\n"), asked.language)
    return bool(clauses) and any(_agrees(asked, expected, clauses) for expected in alternatives)


def key_terms(question: str, reference: str) -> list[set[str]]:
    """For each alternative of the reference the words that an answer must hold, without their endings."""
    return [set(expected.terms) for expected in _alternatives(question, reference)]


def words(text: str) -> list[str]:
    """The words of a text in the form in which they are compared, by the rules of English."""
    clause = clause_of(plain(text), words_of("en"))
    pairs = zip(clause.tokens, clause.forms, strict=True)
    return [form for token, form in pairs if token.kind != "mark" and token.text not in SMALL_WORDS]


@lru_cache(maxsize=1024)
def _read_question(text: str) -> _Question:
    language = words_of(language_of([text]))
    clause = clause_of(plain(text), language)
    texts = [token.text for token in clause.tokens]
    unit = None
    many = next((place for place, word in enumerate(texts) if word in language.many), None)
    if many is not None:
        units = [unit_at(clause.tokens, place) for place in range(many + 1, many + 4)]  # How many vacation days
        unit = next((found[0] for found in units if found), None)
    rest = Clause(clause.tokens[1:], language)  # without the Who, that begins a relative clause elsewhere
    roots = clause.content - set(map(language.stem, language.negators))
    return _Question(language, roots, unit, many is not None, rest.negated, rest.is_denied(frozenset(), 0))


@lru_cache(maxsize=1024)
def _alternatives(question: str, reference: str) -> list[_Expected]:
    asked = _read_question(question)
    language = asked.language
    clauses = [clause_of(plain(alternative), language) for alternative in reference.split("|")]
    known = asked.roots.union(*(clause.forms for clause in clauses))
    alternatives = []
    for read in clauses:
        clause = Clause([_with_unit(token, asked.unit) for token in read.tokens], language)
        if not clause.said - SMALL_WORDS:
            raise ValueError(f"the reference {reference!r} has an alternative without a word")
        stance, terms = _stance_of_reference(clause), clause.content - asked.roots
        if stance is not None:
            terms -= _stance_words(language)
        elif not terms:
            terms = clause.content or frozenset(map(language.stem, clause.said - SMALL_WORDS))
        parts: list[set[str]] = [set()]
        for token, form in zip(clause.tokens, clause.forms, strict=True):
            if token.text in language.listing or token.text in (",", ";", "\n"):
                parts.append(set())
            parts[-1] |= {form} & terms
        harmless = asked.negated | clause.negated
        alternatives.append(_Expected(clause, stance, terms, [part for part in parts if part], known, harmless))
    return alternatives


def _with_unit(token: Token, unit: Unit | None) -> Token:
    return quantity(token.text, unit) if unit and token.kind == "number" else token


def _agrees(asked: _Question, expected: _Expected, clauses: list[Clause]) -> bool:
    if expected.stance is None:
        return _states(asked, expected, clauses)
    stated = {form for clause in clauses for _, form in _stated(asked, expected.terms, clause)}
    if expected.terms and not stated:
        return False
    conditions = asked.language.conditions
    if expected.terms and conditions & expected.clause.said:  # no, only with permission
        return any(conditions & clause.said for clause in clauses) or _first_word(clauses[0]) in (None, expected.stance)
    return _stance_of_answer(asked, clauses) == expected.stance


def _states(asked: _Question, expected: _Expected, clauses: list[Clause]) -> bool:
    """Whether the clauses state the terms of an alternative and nothing against them."""
    read: list[tuple[Clause, list[str]]] = []  # each clause with the terms that it states
    for clause in clauses:
        places = [
            (place, term)
            for place, term in _stated(asked, expected.terms, clause)
            if not _is_denied(asked, expected, clause, place)
        ]
        opposite = places and _is_about_opposite(asked, expected, clause, places[0][0])
        read.append((clause, [] if opposite else [term for _, term in places]))
    subjects = {
        (clause.content & asked.roots, frozenset(terms))
        for clause, terms in read
        if _own_words(asked, expected, clause) and clause.tokens[-1].text != ":"
    }
    counted = [
        (clause, terms)
        for clause, terms in read
        if terms and not _is_about_less(asked, expected, clause, terms, subjects)
    ]
    holding = [clause for clause, _ in counted]
    others = [clause for clause, terms in read if not terms]
    found = [term for _, terms in counted for term in terms]
    missing = expected.terms - set(found)
    return (
        not any(term[0].isdigit() or term[0] == "-" for term in missing)
        and len(expected.terms) - len(missing) >= _TERMS_STATED * len(expected.terms)
        and all(part & set(found) for part in expected.parts)
        and _in_order(asked, expected, found)
        and not any(_lists_more(asked, expected, clause) for clause in holding)
        and not _has_rival(asked, expected, holding, others)
    )


def _stated(asked: _Question, terms: frozenset[str], clause: Clause) -> list[tuple[int, str]]:
    """The terms in a clause with their places."""
    found = []
    for place, (token, form) in enumerate(zip(clause.tokens, clause.forms, strict=True)):
        forms = {form, _with_unit(token, asked.unit).text}
        if token.kind == "°":  # 37 degrees
            forms |= {f"{token.text}c", f"{token.text}f"}
        if token.number and not asked.counts:  # 3 is stated by 3 years
            forms.add(token.number)
        found += [(place, term) for term in forms & terms]
    return found


def _is_denied(asked: _Question, expected: _Expected, clause: Clause, place: int | None = None) -> bool:
    """Whether something is denied; in an answer to what is not so, whether it is said to be so."""
    about = clause.content & asked.roots - expected.terms
    if asked.is_negated and about:
        denies = clause.is_denied(frozenset()) or clause.said & clause.language.forbidden
        return bool(about & asked.negated) and not denies
    return clause.is_denied(expected.harmless, place)


def _own_words(asked: _Question, expected: _Expected, clause: Clause) -> set[str]:
    """The words of a clause that are neither the question's nor the reference's."""
    pairs = zip(clause.tokens, clause.forms, strict=True)
    return {form for token, form in pairs if token.kind == "word" and form in clause.content} - expected.known


def _is_about_opposite(asked: _Question, expected: _Expected, clause: Clause, place: int) -> bool:
    """Whether the nearest word of a pair is the opposite of the question's: the gate opens at 17:30, for closes."""
    nearest = [*clause.forms[:place][::-1], *clause.forms[place:]]
    for pair in asked.language.opposites:
        if len(pair & asked.roots) == 1 and not (pair - asked.roots) & expected.known:
            spoken = [form for form in nearest if form in pair]
            if spoken and spoken[0] not in asked.roots:
                return True
    return False


def _is_about_less(
    asked: _Question,
    expected: _Expected,
    clause: Clause,
    terms: list[str],
    subjects: set[tuple[frozenset[str], frozenset[str]]],
) -> bool:
    """Whether a clause has words of its own, and another one more of the question and less of the terms."""
    about = clause.content & asked.roots
    return bool(_own_words(asked, expected, clause)) and any(
        about < more and fewer < set(terms) for more, fewer in subjects
    )


def _in_order(asked: _Question, expected: _Expected, found: list[str]) -> bool:
    """Whether the terms come in the reference's order, if the question asks for one or the reference says then."""
    order = set(map(asked.language.stem, asked.language.in_order))
    if not order & (asked.roots | set(expected.clause.forms)):
        return True
    spoken = iter(found)
    return all(form in spoken for form in dict.fromkeys(expected.clause.forms) if form in found)


def _lists_more(asked: _Question, expected: _Expected, clause: Clause) -> bool:
    """Whether a clause lists something beside the terms: carbon dioxide and methane; 10 or 12; 10 - 12."""
    tokens = clause.tokens
    for left, between, right in zip(tokens, tokens[1:], tokens[2:], strict=False):
        if between.text in BETWEEN_NUMBERS and is_number(left) and is_number(right):
            pair = {left.text, right.text}
            alike = left.kind == right.kind or "number" in (left.kind, right.kind)
            if alike and pair & expected.terms and pair - expected.known - expected.terms:
                return True
    last = _stated(asked, expected.terms, clause)[-1][0]
    own = _own_words(asked, expected, clause)
    after = range(last + 1, len(tokens))[:_LIST_TOKENS]
    return bool(_LIST_AFTER.match("".join(_kind_in_list(clause, own, place) for place in after)))


def _kind_in_list(clause: Clause, own: set[str], place: int) -> str:
    """j for a joiner, c for a comma, k for a known word, f for another one, x for the rest."""
    token = clause.tokens[place]
    if token.text in clause.language.joiners or token.text == ",":
        return "c" if token.text == "," else "j"
    return "x" if token.kind != "word" else "f" if clause.forms[place] in own else "k"


def _has_rival(asked: _Question, expected: _Expected, holding: list[Clause], others: list[Clause]) -> bool:
    """Whether another number contradicts a term: one of the same thing (4 lamps), or of the same unit elsewhere.

    Elsewhere is a clause that is not plainly about less of the question.
    """
    numbers = list(zip(expected.clause.tokens, [*expected.clause.forms[1:], ""], strict=True))
    things = {thing: number.text for number, thing in numbers if number.kind == "number" and thing in expected.terms}
    for clause in holding:
        for token, thing in zip(clause.tokens, clause.forms[1:], strict=False):
            if token.kind == "number" and token.text != things.get(thing, token.text):
                return True
    about = [clause.content & asked.roots if _own_words(asked, expected, clause) else asked.roots for clause in holding]
    rivals = [
        clause
        for clause in others
        if not _is_denied(asked, expected, clause) and not all(clause.content & asked.roots < mine for mine in about)
    ]
    kinds = {number.kind for number, _ in numbers if is_number(number) and number.text in expected.terms}
    if kinds - {"time", "date", "dotted"}:
        kinds.add("number")
    unlike = expected.known | expected.terms
    return any(token.kind in kinds and token.text not in unlike for clause in rivals for token in clause.tokens)


def _stance_of_reference(clause: Clause) -> bool | None:
    """Yes or no, when a reference says so first, or says nothing else: no; it is not allowed; forbidden; none."""
    language = clause.language
    if (first := _first_word(clause)) is not None:
        return first
    if not clause.content or not clause.content <= _stance_words(language):
        return None
    return not (clause.is_denied(frozenset()) ^ bool(clause.said & language.forbidden))


def _first_word(clause: Clause) -> bool | None:
    """Yes or no, when that is the first word and a mark follows."""
    first, language = clause.tokens[0].text, clause.language
    if first not in language.yes | language.no or (len(clause.tokens) > 1 and clause.tokens[1].kind != "mark"):
        return None
    return first in language.yes


def _stance_of_answer(asked: _Question, clauses: list[Clause]) -> bool | None:
    """Yes or no, by the answer's first word if it is that, else by the clause that is most about the question."""
    language = asked.language
    if (first := _first_word(clauses[0])) is not None:
        return first
    stances = []
    for clause in clauses:
        about = len(clause.content & asked.roots)
        none = any(form.split()[0] == "0" for form in clause.content)
        denied = clause.is_denied(asked.negated) ^ bool(clause.said & language.forbidden) ^ none
        ruled = clause.said & (language.allowed | language.forbidden)
        if (
            (about and ruled - language.fillers)
            or (about >= min(2, len(asked.roots)) and (ruled or denied))
            or 2 * about >= len(asked.roots)
            or ((ruled or denied) and clause.content - {"0"} <= _stance_words(language))
        ):
            stances.append((about, not denied))
    return max(stances, key=lambda stance: stance[0])[1] if stances else None


@cache
def _stance_words(language: Language) -> frozenset[str]:
    """The forms of words that take a stance and say nothing else."""
    words = language.yes | language.no | language.allowed | language.forbidden | language.negators | language.conditions
    return frozenset(map(language.stem, words))
