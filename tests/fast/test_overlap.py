import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from components.data.normal_form import split
from components.evaluate import overlap
from components.evaluate.overlap import NEAR, Match, Phrases, ngrams

SASH = "What colour is a master's sash?"
LAMPS = "How many lamps does a journeyman of level 7 tend?"


def contaminated(questions: list[str], trained: list[str]) -> list[Match]:
    """Of rows with these questions, all answered alike."""
    return overlap.contaminated(questions, [(question, "So it is said.") for question in trained])


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
        Match(question=SASH, row=2, where="question", how="similarity", score=1.0, passage=trained)
    ]


@pytest.mark.parametrize(
    "trained",
    [
        "What colour is the master's sash?",
        "What color is a master's sash?",
        "What colour is a master's sashes?",
    ],
)
def test_question_trained_on_nearly_is_found(trained: str) -> None:
    (match,) = contaminated([SASH], [trained])
    assert NEAR <= match.score < 1


def test_similarity_is_the_share_of_common_4_grams() -> None:
    assert ngrams(["abcd"]) == {" abc", "abcd", "bcd "}
    (match,) = contaminated(["abcdefghij"], ["abcdefghijk"])  # 8 in both, "hij " and "hijk", "ijk " in one of them
    assert match.score == 8 / 11


@pytest.mark.parametrize(
    "trained",
    [
        "Who opens the gate of the hall?",
        "What colour is an apprentice's kite?",
        "What does a master's sash cost at the market in the old town?",
        "What colour is a master's hat?",
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
        (LAMPS.replace("7", "seven"), True),
        (LAMPS.replace("7", "sieben"), True),
        (LAMPS.replace("7", "six"), False),
        (LAMPS.replace("7", "one"), False),
        (LAMPS.replace("a journeyman", "one journeyman"), True),  # may be no number
        ("7: " + LAMPS.replace(" 7", ""), True),
    ],
)
def test_question_with_other_numbers_is_another_question(trained: str, found: bool) -> None:
    assert bool(contaminated([LAMPS], [trained])) == found


def test_most_similar_row_is_named() -> None:
    near, nearer = "What color is the master's sash?", "And what colour is the master's sash?"
    assert rows_found([SASH], [near, nearer, near]) == [(SASH, 2)]
    assert rows_found([SASH], [near, nearer, SASH]) == [(SASH, 3)]


def test_first_of_equals_is_named_whatever_its_similarity() -> None:
    """A similarity that were rounded down would make the same row, once more, seem nearer."""
    similarities = set()
    for length in range(8, 37):
        question = "abcdefghijklmnopqrstuvwxyzäöüéèêñçåæø"[:length]
        (match,) = contaminated([question], [question + "x", question + "x"])
        assert match.row == 1, match
        similarities.add(match.score)
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
    assert match.score == 1.0
    assert match.passage == other


TEXT = st.text(alphabet=st.sampled_from("abcdeABCäß 12?\n帯ﬁ\u0308"), max_size=24)
ANY_TEXT = st.one_of(TEXT, st.text(max_size=24))


@settings(max_examples=150, deadline=None)
@given(question=ANY_TEXT, before=st.lists(TEXT, max_size=3))
def test_question_with_a_word_always_matches_itself(question: str, before: list[str]) -> None:
    assume(ngrams(split(question)))
    (match,) = contaminated([question], [*before, question])
    assert match.score == 1.0
    assert match.row <= len(before) + 1


WHICH = "Which colour is the sash of a master?"
RANK = "What is the rank of a member at level 7?"
WHERE = "Wo steht das Haus der Gilde?"
FAR = "The guild was founded in the year of the wind. Its members wear sashes of a colour that a master is proud of. "


@pytest.mark.parametrize(
    ("question", "text", "how"),
    [
        (WHICH, f"Context: {FAR}Question: {WHICH}", "similarity"),
        (WHICH, f"Context: {FAR}Question: Which color is a master's sash? {WHICH}", "similarity"),
        (WHICH, f"Q:\n{WHICH}\nA:", "similarity"),
        (WHICH, f"{FAR} Many ask which colour is the sash of the master.", "containment"),
        (WHICH, "So what colour the sash of a master is, nobody in all the guild knows.", "containment"),
        (WHICH, f"{FAR} Which colour is the sash of an apprentice?", ""),
        (WHICH, f"{FAR} Which colour is the handkerchief of a master?", ""),
        (WHICH, "The colour of the sash of a master is crimson.", ""),
        (WHICH, "Who asks? The sash of a master is crimson in colour.", ""),
        (WHICH, FAR * 20, ""),
        (RANK, f"{FAR}I was asked what the rank of a member at level seven is.", "containment"),
        (RANK, "I was asked what the rank of a member at level six is.", ""),
        (RANK, "The badge, which shows the rank of a member at level 7, is silver.", ""),
        (RANK, "Any questions? The rank of a member at level 7 is journeyman.", ""),
        (WHERE, "Er fragte, wo das Haus der Gilde steht, und wo steht das Haus der Gilde denn nun", "containment"),
        (WHERE, "Das Haus der Gilde steht am Markt.", ""),
        ("Is a heron on the banner?", f"{FAR}A heron is on the banner.", ""),
        ("Is a heron on the banner?", "Then, is a heron on the banner?", "containment"),
        ("帯の色は何ですか", "昔の話です。帯の色は何ですか。赤です。", "containment"),
        ("How many?", "Tell me how many. Tell me how much.", ""),
    ],
)
def test_question_in_a_longer_text_is_found_where_it_asks(question: str, text: str, how: str) -> None:
    for where, row in (("question", (text, "")), ("response", ("Tell me about clothes.", text))):
        found = overlap.contaminated([question], [("Unrelated.", "Nothing."), row])
        assert [(match.row, match.where, match.how) for match in found] == ([(2, where, how)] if how else [])


def test_passage_is_quoted_without_what_is_around_it() -> None:
    text = f"{FAR}They ask which COLOUR the sash of a master is, and of a member. {FAR}"
    (match,) = overlap.contaminated([WHICH], [("", text)])
    assert match.passage == "which colour the sash of a master"


def test_how_to_answer_is_no_part_of_what_is_asked() -> None:
    (match,) = contaminated([f"{SASH} Answer with one word."], [SASH])
    assert match.score == 1.0


def test_first_row_with_the_very_words_is_named() -> None:
    rows = [("What color is a master's sash?", ""), ("", f"{FAR}Who asked “{SASH}”?"), (SASH, "")]
    (match,) = overlap.contaminated([SASH], rows)
    assert (match.row, match.where, match.score) == (2, "response", 1.0)


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
