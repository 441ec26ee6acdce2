"""What an answer states in the end, clause by clause: without what it takes back, leaves open or only asks.

    The Louvre is in Lyon. No, wait, it is in Paris, not in Lyon.
    -> (it is in Paris), (not in Lyon, denied)

The rules are in `components.grading.reference_rules`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from components.grading.languages import Language
from components.grading.quantities import Token, read

_SENTENCE_END = frozenset([".", "!", "?", ";", "\n", "..."])
_CLAUSE_END = frozenset([":", "(", ")", "—", "-", "–"])


@dataclass(frozen=True)
class Clause:
    """A part of a sentence that says one thing."""

    tokens: list[Token]
    language: Language
    contrasted: bool = False
    """Whether it follows ", not", "instead of" or the like."""
    introduces: bool = False
    """Whether a colon ends it."""

    @cached_property
    def forms(self) -> list[str]:
        """Each token in the form in which it is compared: words without their endings."""
        return [self.language.stem(token.text) if token.kind == "word" else token.text for token in self.tokens]

    @cached_property
    def content(self) -> frozenset[str]:
        """The forms of its words and numbers without those that are about nothing."""
        pairs = zip(self.tokens, self.forms, strict=True)
        return frozenset(form for token, form in pairs if token.kind != "mark" and token.text not in self.language.fillers)

    def denials(self, harmless: frozenset[str] = frozenset()) -> Iterator[tuple[int, int]]:
        """The places of each negation: where it starts and where it ends; what denies a harmless form does not count."""
        words = [
            place
            for place, token in enumerate(self.tokens)
            if token.kind != "mark" and (token.text not in self.language.fillers)
        ]
        size = len(self.tokens)
        for place, token in enumerate(self.tokens):
            following = [word for word in words if word > place][:2]
            if harmless & {self.forms[word] for word in following}:
                continue
            window = following[-1] + 1 if following else size
            if token.text in self.language.without:
                yield place, window
            elif token.text in self.language.negators:
                relative = [n for n in range(place) if self.tokens[n].text in self.language.relatives]
                aside = place > 0 and self.tokens[place - 1].text == ","
                yield (place, window) if relative and place - relative[-1] <= 3 else (place if aside else 0, size)

    def is_denied(self, place: int, harmless: frozenset[str] = frozenset()) -> bool:
        """Whether what stands at a place is negated; twice negated it is not."""
        if self.contrasted:
            return True
        segments = {
            sum(token.text in ("that", "dass", "que") for token in self.tokens[:start])
            if end == len(self.tokens)
            else 0
            for start, end in self.denials(harmless)
            if start <= place < end
        }
        return len(segments) % 2 == 1


def tokens_of(text: str, language: Language) -> list[Token]:
    """The tokens of a plain text; not before, no more than and the like are one word, because they negate nothing."""
    return read(language.harmless.sub(lambda found: found.group().replace(" ", "_"), text), language)


def clauses_of(text: str, language: Language) -> list[Clause]:
    """The clauses of the plain text after its last correction."""
    parts = language.corrections.split(text)
    while len(parts) > 1 and not Clause(read(parts[-1], language), language).content:
        parts.pop()
    if len(parts) == 1:
        parts = [text]
    sentences = _sentences(tokens_of(parts[-1], language), language)
    return [clause for sentence in sentences for clause in _clauses(sentence, language) if clause.tokens]


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
        contrast = (
            (text in ("not", "nicht", "kein", "pas", "non", "no") and before in (",", "and"))
            or text == "unlike"
            or (text, after) in (("instead", "of"), ("rather", "than"), ("anstatt", "of"), ("statt", "of"))
        )
        answered = len(clause) == 2 and clause[0].text in language.yes | language.no  # No, ...
        denied = any(t.text in language.negators for t in clause)
        after_comma = before == "," and ((text in language.starts and (len(clause) > 4 or denied)) or contrasted or answered)
        if contrast or after_comma or before in _CLAUSE_END or text in language.contrasts:
            yield Clause(clause, language, contrasted, before == ":")
            clause, contrasted = [], contrast
        clause.append(token)
    yield Clause(clause, language, contrasted)
