"""DRAFT"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from components.data.questions import SMALL_WORDS
from components.grading.languages import Language, language_of, words_of
from components.grading.quantities import BETWEEN_NUMBERS, UNITS, Token, Unit, is_number, plain, quantity, unit_at
from components.grading.statements import Clause, clauses_of, tokens_of

OFF = set(os.environ.get("OFF", "").split())
COVER = float(os.environ.get("COVER", "0.65"))
COVERN = float(os.environ.get("COVERN", "0.5"))
STRAY = int(os.environ.get("STRAY", "3"))


@dataclass(frozen=True)
class _Question:
    language: Language
    roots: frozenset[str]
    unit: Unit | None
    units: frozenset[str]
    counted: str
    denied: frozenset[str]


@dataclass(frozen=True)
class _Expected:
    tokens: list[Token]
    terms: frozenset[str]
    numbers: list[Token]
    items: list[set[str]]
    known: frozenset[str]
    denied: frozenset[str]
    negated: bool


def is_right(question: str, reference: str, answer: str) -> bool:
    language = words_of(_language(question, reference))
    parsed = _read_question(question, language)
    alternatives = [_expect(parsed, alternative, reference) for alternative in reference.split("|")]
    clauses = clauses_of(plain(answer), language)
    return any(_agrees(parsed, expected, clauses) for expected in alternatives)


@lru_cache(maxsize=4096)
def _language(question: str, reference: str) -> str:
    return language_of((question, reference))


def key_terms(question: str, reference: str) -> list[set[str]]:
    language = words_of(_language(question, reference))
    parsed = _read_question(question, language)
    return [set(_expect(parsed, alternative, reference).terms) for alternative in reference.split("|")]


def words(text: str) -> list[str]:
    language = words_of("en")
    clause = Clause(tokens_of(plain(text), language), language)
    return [form for token, form in zip(clause.tokens, clause.forms) if token.kind != "mark" and token.text not in SMALL_WORDS]


@lru_cache(maxsize=1024)
def _read_question(text: str, language: Language) -> _Question:
    clause = Clause(tokens_of(plain(text), language), language)
    tokens = clause.tokens
    unit, counted, units = None, "", {token.kind for token in tokens if token.number}
    for place, before in enumerate(tokens[:-1], start=1):
        found = unit_at(tokens, place) if len(tokens[place].text) > 1 else None
        if found is not None:
            units.add(found[0].name)
        many = before.text in ("many", "viele", "combien", "cuántos", "cuántas") or (before.text == "de" and place > 1 and tokens[place - 2].text == "combien")
        if many and found is None:
            found = unit_at(tokens, place + 1)
        if (many or before.text == "in") and found is not None and unit is None:
            unit = found[0]
        if many:
            counted = clause.forms[place]
    bases = {known.base for known in UNITS.values() if known.name in units}
    return _Question(
        language=language,
        roots=clause.content,
        unit=unit,
        units=frozenset(known.name for known in UNITS.values() if known.base in bases),
        counted=counted,
        denied=_denied(clause),
    )


def _denied(clause: Clause) -> frozenset[str]:
    found = set()
    for place, token in enumerate(clause.tokens):
        if token.text in clause.language.negators | clause.language.without:
            found |= {f for t, f in list(zip(clause.tokens, clause.forms))[place + 1 :] if t.kind != "mark" and t.text not in clause.language.fillers}
    return frozenset(found)


@lru_cache(maxsize=4096)
def _expect(question: _Question, alternative: str, reference: str) -> _Expected:
    language = question.language
    clause = Clause([_with_unit(token, question.unit) for token in tokens_of(plain(alternative), language)], language)
    said = [(t, f) for t, f in zip(clause.tokens, clause.forms) if t.kind != "mark" and t.text not in SMALL_WORDS]
    if not said:
        raise ValueError(f"the reference {reference!r} has an alternative without a word")
    content = {f for t, f in said if t.text not in language.fillers and t.text not in language.negators}
    every = {f for _, f in said}
    terms = (content - question.roots) or content or (every - question.roots) or every
    items: list[set[str]] = [set()]
    for token, form in zip(clause.tokens, clause.forms):
        if token.text in language.joiners - {"or", "oder", "ou", "o", "u"} | {",", ";", "\n"}:
            items.append(set())
        elif form in terms:
            items[-1].add(form)
    known = set()
    for part in reference.split("|"):
        known |= set(Clause(tokens_of(plain(part), language), language).forms)
    return _Expected(
        tokens=clause.tokens,
        terms=frozenset(terms),
        numbers=[t for t in clause.tokens if is_number(t) and t.text in terms],
        items=[item for item in items if item],
        known=frozenset(known | question.roots),
        denied=question.denied | _denied(clause),
        negated=any(t.text in language.negators | language.without for t in clause.tokens),
    )


def _with_unit(token: Token, unit: Unit | None) -> Token:
    return quantity(token.text, unit) if unit and token.kind == "number" else token


def _agrees(question: _Question, expected: _Expected, clauses: list[Clause]) -> bool:
    language = question.language
    stance, rest = _stance_of_reference(question, expected)
    if stance is None:
        return _states(question, expected, clauses)
    if not rest:
        return _stance_of_answer(question, clauses) == stance
    terms = frozenset(rest)
    conditional = any(t.text in language.conditions for t in expected.tokens)
    found = _stance_of_answer(question, clauses)
    held = {f for c in clauses for p, f in _places(question, terms, c) if not c.is_denied(p, expected.denied) or stance is False}
    covered = _covers(terms, held, [set(terms)])
    if conditional and "cond" not in OFF:
        flat = bool(clauses) and _leading(clauses[0]) == (not stance) and not any(t.text in language.conditions for c in clauses for t in c.tokens)
        return covered and not flat
    return found == stance and covered


def _places(question: _Question, terms: frozenset[str], clause: Clause) -> list[tuple[int, str]]:
    found = []
    for place, (token, form) in enumerate(zip(clause.tokens, clause.forms, strict=True)):
        forms = {form}
        if token.kind == "number" and _counts_another_thing(question, clause, place):
            forms = set()
        elif token.kind == "number":
            forms.add(_with_unit(token, question.unit).text)
        elif token.kind == "°" and question.unit and question.unit.base.startswith("°"):
            forms.add(quantity(token.number, question.unit).text)
        elif token.number and not question.counted and token.kind not in question.units:
            forms.add(token.number)
        if token.kind == "h":
            forms.add(f"{token.number}:00")
        if token.kind == "word" and "fuzzy" not in OFF:
            forms |= {term for term in terms if _alike(term, form)}
        found += [(place, term) for term in forms & terms]
    return found


def _alike(one: str, other: str) -> bool:
    shared = len(os.path.commonprefix([one, other]))
    return shared >= 5 and max(len(one), len(other)) - shared <= 3 and min(len(one), len(other)) - shared <= 1


def _counts_another_thing(question: _Question, clause: Clause, place: int) -> bool:
    if "counts" in OFF:
        return False
    following = clause.forms[place + 1 : place + 5]
    return bool(question.counted and following) and following[0] in question.roots and question.counted not in following


def _covers(terms: frozenset[str], found: set[str], items: list[set[str]]) -> bool:
    missing = terms - found
    if any(any(ch.isdigit() for ch in term) for term in missing):
        return False
    words = {term for term in terms if not any(ch.isdigit() for ch in term)}
    if not words:
        return True
    return all(item & found for item in items) and len(terms - missing) >= COVER * len(terms)


def _states(question: _Question, expected: _Expected, clauses: list[Clause]) -> bool:
    language = question.language
    holding: list[tuple[Clause, list[int]]] = []
    others: list[Clause] = []
    found: set[str] = set()
    negated = any(list(c.denials()) for c in clauses)
    if expected.negated and not negated and "neg" not in OFF:
        return False
    about = []
    for clause in clauses:
        hits = [
            (p, f) for p, f in _places(question, expected.terms, clause) if expected.negated or not clause.is_denied(p, expected.denied)
        ]
        if hits and not _is_about_another_thing(question, expected, clause, hits[0][0]):
            about.append((clause, hits))
        elif not clause.introduces:
            others.append(clause)
    for clause, hits in about:
        if _is_elsewhere(question, expected, clause, hits, others):
            continue
        holding.append((clause, [p for p, _ in hits]))
        found |= {f for _, f in hits}
    if not holding or not _covers(expected.terms, found, expected.items):
        return False
    if "order" not in OFF and question.roots & {language.stem(w) for w in language.in_order} | ({t.text for t in expected.tokens} & language.in_order):
        wanted = list(dict.fromkeys(f for t, f in zip(expected.tokens, Clause(expected.tokens, language).forms) if f in found))
        spoken = iter([f for c, _ in holding for _, f in _places(question, expected.terms, c)])
        if not all(term in spoken for term in wanted):
            return False
    if "list" not in OFF and any(_lists_more(question, expected, clause, places) for clause, places in holding):
        return False
    strengths = [question.roots if not _foreign(question, expected, clause) else clause.content & question.roots for clause, _ in holding]
    if "rival" not in OFF and any(_is_rival(question, expected, number, clause, strengths) for number in expected.numbers for clause in others):
        return False
    return True


def _foreign(question: _Question, expected: _Expected, clause: Clause, end: int | None = None) -> set[str]:
    tokens = clause.tokens[:end]
    return {
        f
        for t, f in zip(tokens, clause.forms)
        if t.kind == "word" and t.text not in question.language.fillers and f not in expected.known
    }


def _is_about_another_thing(question: _Question, expected: _Expected, clause: Clause, place: int) -> bool:
    if "opposite" not in OFF:
        for pair in question.language.opposites:
            if len(pair & question.roots) == 1 and not (pair - question.roots) & expected.known:
                spoken = [f for f in [*clause.forms[:place][::-1], *clause.forms[place:]] if f in pair]
                if spoken and spoken[0] not in question.roots:
                    return True
    if "second" in OFF:
        return False
    return any(
        token.kind == "ordinal" and token.text not in question.roots and after.text.endswith(("est", "most", "ste", "sten"))
        for token, after in pairwise(clause.tokens)
    )


def _is_elsewhere(question: _Question, expected: _Expected, clause: Clause, hits: list[tuple[int, str]], others: list[Clause]) -> bool:
    foreign = _foreign(question, expected, clause)
    mine = clause.content & question.roots
    last = max(p for p, _ in hits)
    if "stray" not in OFF and len(_foreign(question, expected, clause, last)) - len(mine) >= STRAY:
        return True
    if not foreign or "elsewhere" in OFF:
        return False
    return any(
        ((mine < other.content & question.roots) if "E2" not in OFF else (mine < (theirs := other.content & question.roots) or ((len(theirs - mine) > len(mine - theirs)) and bool(_foreign(question, expected, clause, min(p for p, _ in hits)))))) and _foreign(question, expected, other) and ("D" in OFF or True)
        for other in others
    )


def _lists_more(question: _Question, expected: _Expected, clause: Clause, places: list[int]) -> bool:
    tokens, language = clause.tokens, question.language
    for left, between, right in zip(tokens, tokens[1:], tokens[2:], strict=False):
        if between.text in BETWEEN_NUMBERS and is_number(left) and is_number(right):
            pair = {left.text, right.text}
            alike = left.kind == right.kind or "number" in (left.kind, right.kind)
            if alike and pair & expected.terms and pair - expected.known - expected.terms:
                return True
    after = tokens[places[-1] + 1 :][:40]
    before = tokens[: places[0]][-40:][::-1]
    kinds_after, kinds_before = ("".join(_kind_in_list(question, expected, t) for t in part) for part in (after, before))
    return bool(_LIST_AFTER.match(kinds_after) or _LIST_BEFORE.match(kinds_before))


_LIST_AFTER = re.compile(r"k*(?:[cj]+k*fk*)*?c*j+k*fk*(?:c|x?$)")
_LIST_BEFORE = re.compile(r"k{0,3}jf(?:k|$)")


def _kind_in_list(question: _Question, expected: _Expected, token: Token) -> str:
    if token.text in question.language.joiners or token.text == ",":
        return "c" if token.text == "," else "j"
    if token.kind != "word":
        return "x"
    return "k" if token.text in question.language.fillers or question.language.stem(token.text) in expected.known else "f"


def _is_rival(question: _Question, expected: _Expected, number: Token, clause: Clause, strengths: list[frozenset[str]]) -> bool:
    shared = clause.content & question.roots
    if all(shared < strength for strength in strengths):
        return False
    return any(
        is_number(token)
        and token.text not in expected.known
        and (token.kind == number.kind or (token.kind == "number" and number.kind not in ("time", "date")))
        for token in clause.tokens
    )


def _stance_of_reference(question: _Question, expected: _Expected) -> tuple[bool | None, set[str]]:
    language = question.language
    tokens = [t for t in expected.tokens if t.kind != "mark"]
    stances = language.yes | language.no | language.allowed | language.forbidden | language.negators
    first = tokens[0].text
    leading = first in language.yes | language.no and (len(expected.tokens) == 1 or expected.tokens[1].kind == "mark")
    ruled = {t.text for t in tokens} & stances
    rest = {t.text for t in tokens} - stances - language.fillers - SMALL_WORDS
    only = bool(ruled) and not rest and not ({t.text for t in tokens} <= {"may", "can", "course"} | language.fillers)
    if not leading and not only:
        return None, set()
    if leading and not only:
        forms = Clause(expected.tokens, language).forms
        content = {
            f for t, f in zip(expected.tokens, forms)
            if t.kind != "mark" and t.text not in stances | language.fillers | language.conditions and f not in question.roots
        }
        return first in language.yes, content
    if leading:
        return first in language.yes, set()
    count = len(ruled & (language.negators | language.no | language.forbidden))
    return count % 2 == 0, set()


def _leading(clause: Clause) -> bool | None:
    language = clause.language
    tokens = clause.tokens
    if tokens and tokens[0].text in language.yes | language.no and (len(tokens) == 1 or tokens[1].kind == "mark"):
        return tokens[0].text in language.yes
    return None


def _stance_of_answer(question: _Question, clauses: list[Clause]) -> bool | None:
    language = question.language
    weak = None
    if clauses:
        texts = [t.text for t in clauses[0].tokens if t.kind != "mark"]
        if texts and (len(texts) == 1 or clauses[0].tokens[1].kind == "mark") and texts[0] in ("yes", "no", "ja", "nein", "oui", "non", "sí", "no"):
            return texts[0] in language.yes
        if texts and set(texts) <= language.yes | language.no | language.fillers:
            weak = not set(texts) & language.no
    best = None
    for clause in clauses:
        about = len(clause.content & question.roots)
        ruled = any(t.text in language.allowed | language.forbidden for t in clause.tokens)
        forbidden = sum(t.text in language.forbidden for t in clause.tokens)
        segments = sum(1 for _ in clause.denials(question.denied))
        denied = len({sum(t.text in ("that", "dass", "que") for t in clause.tokens[:s]) for s, _ in _negator_places(clause, question.denied)})
        zero = any(t.text.split()[0] == "0" for t in clause.tokens if t.kind != "mark" and t.text.strip())
        negative = (denied + forbidden + zero) % 2 == 1
        strong = ruled and any(t.text in (language.allowed | language.forbidden) - language.fillers for t in clause.tokens)
        if (about and (strong or zero)) or (about > 1 and (ruled or denied)) or 2 * about >= len(question.roots) or ((ruled or denied) and not clause.content - _stance_forms(language)):
            key = about
            if best is None or key > best[0]:
                best = (key, not negative)
    if best is not None:
        return best[1]
    return weak


def _negator_places(clause: Clause, harmless: frozenset[str]) -> list[tuple[int, int]]:
    found = []
    words = [p for p, t in enumerate(clause.tokens) if t.kind != "mark" and t.text not in clause.language.fillers]
    for place, token in enumerate(clause.tokens):
        if token.text in clause.language.negators | clause.language.without:
            following = [w for w in words if w > place][:1]
            if not harmless & {clause.forms[w] for w in following}:
                found.append((place, place))
    return found


@lru_cache(maxsize=None)
def _stance_forms(language: Language) -> frozenset[str]:
    return frozenset(map(language.stem, language.yes | language.no | language.allowed | language.forbidden | language.negators | language.fillers))
