"""What an answer states in the end, clause by clause: without what it takes back, leaves open or only asks.

    The Louvre is in Lyon. No, wait, it is in Paris, not in Lyon.
    -> (it is in Paris,), (not in Lyon, denied)

The rules are in `components.grading.reference_rules`.
"""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from components.grading.languages import Language
from components.grading.quantities import Token, is_number, read

_SENTENCE_END = frozenset([".", "!", "?", ";", "\n", "..."])
_DASHES = frozenset(["-", "–", "—"])
_CLAUSE_END = _DASHES | {":", "(", ")"}
_INSTEAD = frozenset([("instead", "of"), ("rather", "than"), ("au", "lieu"), ("en", "lugar"), ("en", "vez")])
_THAT = frozenset(["that", "dass", "que"])


@dataclass(frozen=True)
class Clause:
    """A part of a sentence that says one thing."""

    tokens: list[Token]
    language: Language
    contrasted: bool = False
    """Whether it follows ", not", "instead of" or the like."""

    @cached_property
    def forms(self) -> list[str]:
        """Each token in the form in which it is compared: words without their endings."""
        return [self.language.stem(token.text) if token.kind == "word" else token.text for token in self.tokens]

    @cached_property
    def content(self) -> frozenset[str]:
        """The forms of all that is neither a mark nor a filler."""
        return frozenset(self.forms[place] for place in self._content_places)

    @cached_property
    def said(self) -> frozenset[str]:
        """Its words and numbers as they were written."""
        return frozenset(token.text for token in self.tokens if token.kind != "mark")

    @cached_property
    def _content_places(self) -> list[int]:
        fillers = self.language.fillers
        return [n for n, token in enumerate(self.tokens) if token.kind != "mark" and token.text not in fillers]

    @cached_property
    def negated(self) -> frozenset[str]:
        """The forms that follow its first negator."""
        negators = self.language.negators | self.language.without
        first = next((place for place, token in enumerate(self.tokens) if token.text in negators), len(self.tokens))
        return frozenset(self.forms[place] for place in self._content_places if place > first)

    def is_denied(self, harmless: frozenset[str], place: int | None = None) -> bool:
        """Whether what stands at a place (anywhere without one) is negated; once more in a that-clause, it is not.

        The negation of a harmless form, one that question or reference negate themselves, does not count.
        """
        levels = {
            level
            for scope, level, denied in self._negations
            if not harmless & denied and (place is None or place in scope)
        }
        return self.contrasted or len(levels) % 2 == 1

    @cached_property
    def _negations(self) -> list[tuple[range, int, set[str]]]:
        """What each negator denies, how many that-clauses it is in, and the next two words.

        It denies the clause up to an unless or until; in a relative clause and after without, the next two words.
        """
        texts = [token.text for token in self.tokens]
        limits = self.language.limits
        negations = []
        for place, text in enumerate(texts):
            local = text in self.language.without
            if local or text in self.language.negators:
                following = self._content_places[bisect_right(self._content_places, place) :][:2]
                local = local or bool(self.language.relatives & set(texts[max(0, place - 3) : place]))
                limit = next(
                    (after for after, word in enumerate(texts) if word in limits and after > place), len(texts)
                )
                scope = range(place, following[-1] + 1) if local and following else range(limit)
                level = sum(before in _THAT for before in texts[:place])
                negations.append((scope, level, {self.forms[after] for after in following}))
        return negations


def clause_of(text: str, language: Language) -> Clause:
    """A plain text as one clause; not before, no more than and the like are left out, because they negate nothing."""
    return Clause(read(language.harmless.sub("", text), language), language)


def clauses_of(text: str, language: Language) -> list[Clause]:
    """The clauses of the plain text after its last correction that is followed by something."""
    parts = language.corrections.split(text)
    decided = [part for part in parts if clause_of(part, language).content] or [""]
    after = parts[parts.index(decided[-1]) :] if decided[-1] else parts
    clauses: list[Clause] = []
    for sentence in _sentences(clause_of(" ".join(after), language).tokens, language):
        clauses += [clause for clause in _clauses(sentence, language) if clause.said]
    return clauses


def _sentences(tokens: list[Token], language: Language) -> Iterator[list[Token]]:
    """The sentences that state something: no questions, none that says perhaps, either, it depends and the like."""
    sentence: list[Token] = []
    for token in [*tokens, Token(".", "mark")]:
        sentence.append(token)
        if token.text in _SENTENCE_END:
            if token.text != "?" and not language.hedges.search(" ".join(token.text for token in sentence)):
                yield sentence
            sentence = []


def _clauses(sentence: list[Token], language: Language) -> Iterator[Clause]:
    texts = [token.text for token in sentence]
    clause: list[Token] = []
    contrasted = False
    for before, text, after, token in zip(["", *texts], texts, [*texts[1:], ""], sentence, strict=False):
        negated = text in language.negators and before in (",", "and") and len(clause) > 1
        contrast = negated or (text, after) in _INSTEAD
        after_comma = before == "," and (text in language.starts or contrasted)
        ends = before in _CLAUSE_END and not (before in _DASHES and is_number(token))
        if contrast or after_comma or ends or text in language.contrasts:
            yield Clause(clause, language, contrasted)
            clause, contrasted = [], contrast
        clause.append(token)
    yield Clause(clause, language, contrasted)
