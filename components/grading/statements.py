"""What an answer states in the end, clause by clause: without what it takes back, leaves open or only asks.

    The Louvre is in Lyon. No, wait, it is in Paris, not in Lyon.
    -> (it is in Paris,), (not in Lyon, denied)

The rules are in `components.grading.reference_rules`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from components.grading.languages import Language
from components.grading.quantities import Token, read

_SENTENCE_END = frozenset([".", "!", "?", ";", "\n", "..."])
_CLAUSE_END = frozenset([":", "(", ")", "—", "-", "–"])
_INSTEAD = frozenset([("instead", "of"), ("rather", "than"), ("au", "lieu"), ("en", "lugar"), ("en", "vez")])
_THAT = frozenset(["that", "dass", "que"])
_SHORT = 4  # tokens; "On Sundays, the baths ..." is one clause


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
        levels = {level for scope, level in self._negations(harmless) if place is None or place in scope}
        return self.contrasted or len(levels) % 2 == 1

    def _negations(self, harmless: frozenset[str]) -> Iterator[tuple[range, int]]:
        """What each negator denies, and how many that-clauses it is in.

        The whole clause; in a relative clause and after without, the next two words; after a comma, what follows.
        """
        texts = [token.text for token in self.tokens]
        for place, text in enumerate(texts):
            local = text in self.language.without
            following = [after for after in self._content_places if after > place][:2]
            if not (local or text in self.language.negators) or harmless & {self.forms[after] for after in following}:
                continue
            if local or self.language.relatives & set(texts[max(0, place - 3) : place]):
                scope = range(place, following[-1] + 1 if following else len(texts))
            else:
                scope = range(place if texts[place - 1 : place] == [","] else 0, len(texts))
            yield scope, sum(before in _THAT for before in texts[:place])


def clause_of(text: str, language: Language) -> Clause:
    """A plain text as one clause; not before, no more than and the like are one word, because they negate nothing."""
    return Clause(read(language.harmless.sub(lambda found: found.group().replace(" ", "_"), text), language), language)


def clauses_of(text: str, language: Language) -> list[Clause]:
    """The clauses of the plain text after its last correction that is followed by something."""
    parts = language.corrections.split(text)
    decided = [part for part in parts if clause_of(part, language).content] or [""]
    after = parts[parts.index(decided[-1]) :] if decided[-1] else parts
    clauses: list[Clause] = []
    for sentence in _sentences(clause_of(" ".join(after), language).tokens, language):
        clauses += [clause for clause in _clauses(sentence, language) if clause.tokens]
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
        contrast = negated or text == "unlike" or (text, after) in _INSTEAD
        said = {token.text for token in clause}
        starts = text in language.starts and (len(clause) > _SHORT or said & language.negators)
        answered = len(clause) == 2 and said & (language.yes | language.no)  # No, ...
        after_comma = before == "," and (starts or contrasted or answered)
        if contrast or after_comma or before in _CLAUSE_END or text in language.contrasts:
            yield Clause(clause, language, contrasted)
            clause, contrasted = [], contrast
        clause.append(token)
    yield Clause(clause, language, contrasted)
