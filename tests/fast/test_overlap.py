import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from components.evaluate.overlap import NEAR, WORD, Match, Phrases, contaminated, ngrams

SASH = "What colour is a master's sash?"
LAMPS = "How many lamps does a journeyman of level 7 tend?"


def rows_found(questions: list[str], trained: list[str]) -> list[tuple[str, int]]:
    return [(match.question, match.row) for match in contaminated(questions, trained)]


@pytest.mark.parametrize(
    "trained",
    [
        SASH,
        "what COLOUR is a master's sash",
        "  What colour\nis a master's   sash ?!",
        "“What colour is a master’s sash?”",
        "What colour is a master s sash",
        "\uff37\uff48\uff41\uff54 colour is a master's sash?",  # full-width letters
    ],
)
def test_question_trained_on_verbatim_is_found(trained: str) -> None:
    assert contaminated([SASH], ["Who opens the gate?", trained]) == [
        Match(question=SASH, row=2, trained_question=trained, similarity=1.0)
    ]


@pytest.mark.parametrize(
    "trained",
    [
        "What colour is the master's sash?",
        "What color is a master's sash?",
        "And what colour is a master's sash?",
        "What colour is a master's sashes?",
    ],
)
def test_question_trained_on_nearly_is_found(trained: str) -> None:
    (match,) = contaminated([SASH], [trained])
    assert (match.row, match.trained_question) == (1, trained)
    assert NEAR <= match.similarity < 1


def test_similarity_is_the_share_of_common_4_grams() -> None:
    assert ngrams("abcd") == {" abc", "abcd", "bcd "}
    (match,) = contaminated(["abcdefghij"], ["abcdefghijk"])  # 8 in both, "hij " and "hijk", "ijk " in one of them
    assert match.similarity == 8 / 11


@pytest.mark.parametrize(
    "trained",
    [
        "Who opens the gate of the hall?",
        "What colour is an apprentice's kite?",
        "What does a master's sash cost at the market in the old town?",
        "",
        "?",
    ],
)
def test_another_question_is_not_found(trained: str) -> None:
    assert contaminated([SASH], [trained]) == []


@pytest.mark.parametrize(
    ("trained", "found"),
    [
        (LAMPS, True),
        (LAMPS.replace("7", "6"), False),
        (LAMPS.replace("7", "77"), False),
        (LAMPS.replace("level 7", "level"), False),
        (LAMPS.replace("7", "7 7"), False),
        (LAMPS.replace("7", "\uff17"), True),  # a full-width 7
        ("7: " + LAMPS.replace(" 7", ""), True),
    ],
)
def test_question_with_other_numbers_is_another_question(trained: str, found: bool) -> None:
    assert bool(contaminated([LAMPS], [trained])) == found


def test_most_similar_row_is_named() -> None:
    near, nearer = "And then, what colour is the master's sash?", "What colour is the master's sash?"
    assert rows_found([SASH], [near, nearer, near]) == [(SASH, 2)]
    assert rows_found([SASH], [near, nearer, SASH]) == [(SASH, 3)]


def test_first_of_equals_is_named_whatever_its_similarity() -> None:
    """A similarity that were rounded down would make the same row, once more, seem nearer."""
    similarities = set()
    for length in range(8, 37):
        question = "abcdefghijklmnopqrstuvwxyzäöüéèêñçåæø"[:length]
        (match,) = contaminated([question], [question + "x", question + "x"])
        assert match.row == 1, match
        similarities.add(match.similarity)
    assert len(similarities) == 29


def test_matches_keep_the_order_of_the_questions() -> None:
    questions = ["Who opens the gate?", SASH, "Where is the hall of the guild?", LAMPS]
    trained = [LAMPS, "Unrelated words altogether.", SASH, "Who opens the gate"]
    assert rows_found(questions, trained) == [(questions[0], 4), (SASH, 3), (LAMPS, 1)]


@pytest.mark.parametrize(
    ("questions", "trained"),
    [
        ([], []),
        ([], [SASH]),
        ([SASH], []),
        (["?"], ["?"]),
        (["", " \n"], ["", "…"]),
        (["?!"], [SASH]),
        ([SASH], ["?!"]),
    ],
)
def test_nothing_is_found_without_questions_data_or_words(questions: list[str], trained: list[str]) -> None:
    assert contaminated(questions, trained) == []


@pytest.mark.parametrize("word", ["a", "5", "ab", "帯", "帯は"])
def test_question_of_a_single_short_word_is_found(word: str) -> None:
    assert rows_found([word], ["Something else.", f"{word}?"]) == [(word, 2)]
    assert contaminated([word], ["zz", "9"]) == []


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Welche Farbe hat die Schärpe?", "Welche Farbe hat die Scha\u0308rpe?"),
        ("Wo ist die Straße?", "WO IST DIE STRASSE?"),
        ("What is a ﬁeld ofﬁce?", "What is a field office?"),
        ("帯の色は何ですか", "帯の色は何ですか。"),
        ("Какого цвета пояс?", "какого ЦВЕТА пояс"),
        ("Wie hoch ist der Turm Ⅳ?", "Wie hoch ist der Turm IV?"),
    ],
)
def test_other_unicode_form_of_a_question_is_the_same_question(one: str, other: str) -> None:
    (match,) = contaminated([one], [other])
    assert match.similarity == 1.0
    assert match.trained_question == other


TEXT = st.text(alphabet=st.sampled_from("abcdeABCäß 12?\n帯ﬁ\u0308"), max_size=24)
ANY_TEXT = st.one_of(TEXT, st.text(max_size=24))


@settings(max_examples=150, deadline=None)
@given(one=ANY_TEXT, other=ANY_TEXT)
def test_similarity_is_symmetric(one: str, other: str) -> None:
    for text in (other, one + other):
        there, back = contaminated([one], [text]), contaminated([text], [one])
        assert [match.similarity for match in there] == [match.similarity for match in back]


@settings(max_examples=150, deadline=None)
@given(question=ANY_TEXT, before=st.lists(TEXT, max_size=3))
def test_question_with_a_word_always_matches_itself(question: str, before: list[str]) -> None:
    assume(WORD.search(question))
    (match,) = contaminated([question], [*before, question])
    assert match.similarity == 1.0
    assert match.row <= len(before) + 1


ANSWERS = ["A master of the guild wears a crimson sash.", "Forty lamps are lit at dusk."]


@pytest.mark.parametrize(
    ("question", "answer", "share"),
    [
        ("Who?", "A master of the guild wears a crimson sash.", 1.0),
        ("Who?", "a MASTER of the guild, wears", 1.0),
        ("Who?", "Forty lamps are", 1.0),
        ("Who?", "Paris is the capital of France.", 0.0),
        ("Who?", "wears crimson sash", 0.0),
        # "the guild wears" and "guild wears a" are known, "wears a hat" is not
        ("Who?", "The guild wears a hat", 2 / 3),
        # "lamps are lit" is known; "sash forty lamps" runs over two answers
        ("Who?", "sash forty lamps", 0.0),
        ("Who?", "lamps are lit daily", 1 / 2),
        # a phrase counts once, however often it is said
        ("Who?", "Forty lamps are forty lamps are", 1 / 3),
    ],
)
def test_share_of_phrases_by_hand(question: str, answer: str, share: float) -> None:
    assert Phrases(ANSWERS).share(question, answer) == pytest.approx(share)


def test_phrases_of_the_question_do_not_count() -> None:
    known = Phrases(ANSWERS)
    assert known.share("Who of the guild wears a sash?", "Of the guild wears") == 0.0
    assert known.share("Which master of the guild?", "A master of the guild wears") == 1.0  # three of its own
    assert known.share("Which master of the guild?", "Any master of the guild sings") == 0.0


def test_nothing_is_known_without_training_data() -> None:
    assert Phrases([]).share("Who?", ANSWERS[0]) == 0.0
    assert Phrases(["", "two words"]).known == set()
