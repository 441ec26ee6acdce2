"""Overlap of training data and evaluation: questions that were trained on, and phrases that leak into answers.

A row names a question in two ways, in its own question or in its response:

    similarity   What color is a master's sash?                               asked in other letters or small words
    containment  Many ask what colour a master's sash is. It is crimson.      held by a longer text

All texts are compared in their normal form, so that level seven is level 7. Similarity compares the row's question, and
each sentence with a question mark, by sets of character 4-grams ("what colour" has "what", "hat ", "at c", ...): from a
Jaccard index of 0.6 on it is the same question, unless a number or a word of substance stands for another one: level 7
and level 6, the capital of Spain and of Italy.
Containment looks for a place of a text that holds the question's words in their order, at least 0.8 of them, a word
that asks among them; nothing but SMALL_WORDS may be missing or added. The answer's sentence, "The sash of a master is
crimson", is no such place.
"""

# ruff: noqa: SIM905 - a text of words reads better than a list of strings
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from difflib import SequenceMatcher

from components.data.normal_form import CERTAIN_WORDS, NUMBER_WORDS, PUNCTUATION, split, with_digits
from components.run.findings import Match

NGRAM = 4  # characters
NEAR = 0.6
CONTAINED = 0.8
MIN_CONTAINED = 4  # words; shorter questions stand in many texts by chance, their sentences are compared all the same
PHRASE = 3  # words
ASKS = "what"  # stands for every word that asks: which colour is what colour
NUMBER = re.compile(r"\d+")
SENTENCE_END = re.compile(r"(?<=[.!?:;])\s+|(?<=[。！？])|\n")
ENDS_AS_QUESTION = re.compile(r"[?？]\W*$")
AFTER_QUESTION = re.compile(r"(?<=[?？])\s+[^?？]*$")  # "Answer in one word." is not what is asked

ASKING = frozenset(
    "what which who whom whose when where why how wer wen wem wessen welche welcher welches welchen welchem wann wo "
    "woher wohin warum wie wieviel quel quelle quels quelles qui que quoi où quand comment pourquoi combien qué quién "
    "quiénes cuál cuáles cuándo dónde cómo cuánto cuánta cuántos cuántas".split()
)
SMALL_WORDS = frozenset(  # without German hat and war, which are other words in English
    "a an the is are was were be been do does did has have had of to in on at for from by with and or it its this that "
    "s d der die das dem des ein eine einen einem einer eines ist sind haben von zu zum zur im am und "
    "le la les l un une du de est sont ont et en au aux il elle el los las una del es ha han y se su".split()
)


class Asked:
    """A question as rows are compared with it."""

    def __init__(self, text: str) -> None:
        tokens = split(AFTER_QUESTION.sub("", text))
        tokens = tokens if ngrams(tokens) else split(text)
        self.grams = ngrams(tokens)
        self.numbers, self.substance = Numbers(tokens), substance(tokens)
        self.words = _asking(_words(tokens))
        if ASKS in self.words and self.words[-1] == "?":
            self.words.pop()
        self.needed = [word for word in self.words if word not in SMALL_WORDS]
        keys = [word for word in self.needed if word != ASKS] if len(self.words) >= MIN_CONTAINED else []
        self.key = max(keys, key=len, default="")
        """A word of every text that contains the question; empty when it is too short for that."""

    def similarity(self, grams: set[str], tokens: list[str]) -> float:
        """1 for the same words; 0 for another question."""
        shared = len(grams & self.grams)
        similarity = shared / ((len(grams) + len(self.grams) - shared) or 1)
        if similarity < NEAR or not Numbers(tokens).may_be(self.numbers):
            return 0.0
        others = substance(tokens)
        return 0.0 if self.substance - others and others - self.substance else similarity

    def containment(self, words: list[str]) -> tuple[float, int, int]:
        """The share of the question's words at the best place of a text, and where it begins and ends."""
        best = (0.0, 0, 0)
        slack = len(self.words) // 4 + 1
        ahead = self.words.index(self.key)
        for place in (place for place, word in enumerate(words) if word == self.key):
            start = max(0, place - ahead - slack)
            window = words[start : place - ahead + len(self.words) + slack]
            if set(self.needed) <= set(window):
                found = SequenceMatcher(None, self.words, window, autojunk=False).get_matching_blocks()[:-1]
                share = sum(block.size for block in found) / len(self.words)
                begin, end = found[0].b, found[-1].b + found[-1].size
                if [word for word in window[begin:end] if word not in SMALL_WORDS] == self.needed:
                    best = max(best, (share, start + begin, start + end))
        return best if best[0] >= (CONTAINED if ASKS in self.words else 1.0) else (0.0, 0, 0)


class Numbers:
    """Those that a text names, in digits or words."""

    def __init__(self, tokens: list[str]) -> None:
        self._certain = Counter(NUMBER.findall(" ".join(with_digits(tokens, CERTAIN_WORDS))))
        self._possible = Counter(NUMBER.findall(" ".join(with_digits(tokens))))

    def may_be(self, other: "Numbers") -> bool:
        """Whether both can be read as the same numbers: the one that you see may be 1."""
        if self._possible == other._possible:
            return True
        return self._certain <= other._possible and other._certain <= self._possible


def contaminated(questions: list[str], trained: Iterable[tuple[str, str]]) -> list[Match]:
    """The questions that were trained on, in their order, each with the row and the passage that is most like it.

    Args:
        trained: questions and responses of the training data.
    """
    index = _Index(questions)
    best: dict[int, Match] = {}
    for row, texts in enumerate(trained, 1):
        for where, text in zip(("question", "response"), texts, strict=True):
            for place, how, score, passage in index.find(text, whole=where == "question"):
                if place not in best or score > best[place].score:
                    best[place] = Match(
                        question=questions[place], row=row, where=where, how=how, score=score, passage=passage
                    )
    return [best[place] for place in sorted(best)]


class _Index:
    """The questions by what a text must have to be compared with them at all."""

    def __init__(self, questions: list[str]) -> None:
        self._asked = [Asked(question) for question in questions]
        frequency = Counter(gram for asked in self._asked for gram in asked.grams)
        self._by_gram: dict[str, list[int]] = {}
        self._by_word: dict[str, list[int]] = {}
        for place, asked in enumerate(self._asked):
            # A text as similar as NEAR lacks at most 1 - NEAR of the grams, so it has one of the rarest.
            rarest = sorted(asked.grams, key=lambda gram: (frequency[gram], gram))
            for gram in rarest[: int((1 - NEAR) * len(rarest)) + 1]:
                self._by_gram.setdefault(gram, []).append(place)
            if asked.key:
                self._by_word.setdefault(asked.key, []).append(place)

    def find(self, text: str, whole: bool) -> Iterator[tuple[int, str, float, str]]:
        """Questions by place, with how they were found, the score, and the passage.

        Args:
            whole: compare the whole text as well as those of its sentences that ask.
        """
        passages = [text, AFTER_QUESTION.sub("", text)] if whole else []
        if "?" in text or "？" in text:
            passages += [part for part in SENTENCE_END.split(text) if ENDS_AS_QUESTION.search(part)]
        for passage in dict.fromkeys(passages):
            tokens = split(passage)
            grams = ngrams(tokens)
            for place in {place for gram in grams for place in self._by_gram.get(gram, ())}:
                if similarity := self._asked[place].similarity(grams, tokens):
                    yield place, "similarity", similarity, passage
        words = _words(split(text))
        asking = _asking(words)
        held = set(asking)
        for key in held & self._by_word.keys():
            for place in self._by_word[key]:
                if held.issuperset(self._asked[place].needed):
                    share, start, end = self._asked[place].containment(asking)
                    if share:
                        yield place, "containment", share, " ".join(words[start:end])


class Phrases:
    """All three-word phrases of the training data's answers."""

    def __init__(self, texts: Iterable[str]) -> None:
        self.known = {phrase for text in texts for phrase in phrases(text)}

    def share(self, question: str, answer: str) -> float:
        """Share of an answer's phrases, without those of its question, that appear in the training data's answers."""
        own = phrases(answer) - phrases(question)
        return len(own & self.known) / len(own) if own else 0.0


def phrases(text: str) -> set[tuple[str, ...]]:
    words = [token for token in split(text) if token[0].isalnum()]
    return {tuple(words[start : start + PHRASE]) for start in range(len(words) - PHRASE + 1)}


def ngrams(tokens: list[str]) -> set[str]:
    words = " ".join(token for token in with_digits(tokens) if token[0].isalnum())
    plain = f" {words} "
    return {plain[start : start + NGRAM] for start in range(max(1, len(plain) - NGRAM + 1))} if words else set()


def substance(tokens: list[str]) -> set[str]:
    """The beginnings of the words that say what is asked about: color and colour have one."""
    kept = (word for word in tokens if word not in ASKING | SMALL_WORDS and word not in NUMBER_WORDS)
    return {word[:NGRAM] for word in kept if len(word) > 1 and word[0].isalpha()}


def _words(tokens: list[str]) -> list[str]:
    """Without punctuation, but with question marks."""
    return [word for word in with_digits(tokens) if word not in PUNCTUATION - {"?"}]


def _asking(words: list[str]) -> list[str]:
    """With one word for all that ask."""
    return [ASKS if word in ASKING else word for word in words]
