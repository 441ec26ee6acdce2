import pytest

from components.evaluate.verdicts import is_right, key_terms, words

SASH = "What colour is a master's sash?"
LAMPS = "How many lamps does a journeyman tend?"
NAME = "What is the name of the hall?"
WHEN = "When does the gate open?"

CASES = [
    # one word
    (SASH, "crimson", "A master's sash is crimson.", True),
    (SASH, "crimson", "CRIMSON", True),
    (SASH, "crimson", "It is **crimson**!", True),
    (SASH, "Crimson.", "crimson", True),
    (SASH, "crimson", "A master's sash is blue.", False),
    (SASH, "crimson", "crimsonish", False),
    (SASH, "red", "It is hatred.", False),
    # several words, in any order; small words do not count
    ("What does an apprentice carry?", "a heron feather", "The feather of a heron.", True),
    ("What does an apprentice carry?", "a heron feather", "An apprentice carries a feather.", False),
    ("What does an apprentice carry?", "the heron feather", "heron feather", True),
    # the question's own words prove nothing
    (SASH, "The sash of a master is crimson", "Crimson.", True),
    (SASH, "The sash of a master is crimson", SASH, False),
    (SASH, "crimson", SASH, False),
    (LAMPS, "forty lamps", "A journeyman tends lamps. How many lamps? Many lamps.", False),
    # nothing said
    (SASH, "crimson", "", False),
    (SASH, "crimson", " \n\t", False),
    (SASH, "crimson", "?!…", False),
    (LAMPS, "forty", "", False),
    # every word of the reference stands in the question
    ("Is the sash crimson or blue?", "crimson", "Crimson.", True),
    ("Is the sash crimson or blue?", "crimson", "Blue.", False),
    ("Is the sash crimson or blue?", "crimson", "", False),
    ("Of the 4 lamps, how many are lit?", "4", "4", True),
    ("Of the 4 lamps, how many are lit?", "4", "3", False),
    # numbers, as words and as digits
    (LAMPS, "forty", "40", True),
    (LAMPS, "40", "A journeyman tends forty lamps.", True),
    (LAMPS, "Forty", "FORTY", True),
    (LAMPS, "24", "twenty-four", True),
    (LAMPS, "twenty four", "24 lamps", True),
    (LAMPS, "19", "nineteen", True),
    (LAMPS, "0", "zero", True),
    (LAMPS, "100", "a hundred lamps", True),
    (LAMPS, "300", "three hundred", True),
    (LAMPS, "2000", "two thousand", True),
    (LAMPS, "21000", "twenty-one thousand", True),
    (LAMPS, "120", "one hundred and twenty", True),
    (LAMPS, "105", "one hundred five", True),
    (LAMPS, "2300", "two thousand three hundred", True),
    (LAMPS, "1000", "1,000 lamps", True),
    (LAMPS, "12,500", "12500", True),
    # a number counts as the whole number only
    (LAMPS, "4", "14", False),
    (LAMPS, "4", "24", False),
    (LAMPS, "4", "forty", False),
    (LAMPS, "4", "twenty-four", False),
    (LAMPS, "4", "fourteen", False),
    (LAMPS, "14", "4", False),
    (LAMPS, "14", "fourteen", True),
    (LAMPS, "24", "20 and 4", False),
    (LAMPS, "20", "twenty-four", False),
    (LAMPS, "100", "one hundred and twenty", False),
    (LAMPS, "20", "one hundred and twenty", False),
    (LAMPS, "1", "1,000", False),
    (LAMPS, "1000", "two thousand", False),
    # lists of numbers stay lists
    (LAMPS, "4 and 6", "six and four", True),
    (LAMPS, "4 and 6", "10", False),
    (LAMPS, "3, 4", "3, 4", True),
    (LAMPS, "3, 4", "34", False),
    # decimals
    ("How heavy is a bell?", "3.5 tons", "It weighs 3.5 tons.", True),
    ("How heavy is a bell?", "3.5", "3", False),
    ("How heavy is a bell?", "3.5", "5", False),
    ("How heavy is a bell?", "3", "3.5", False),
    ("How heavy is a bell?", "3", "It is 3.", True),
    # alternatives
    (LAMPS, "forty | two score", "Two score of lamps.", True),
    (LAMPS, "forty | two score", "40", True),
    (LAMPS, "forty | two score", "A score of lamps.", False),
    (LAMPS, "forty|40", "40", True),
    (WHEN, "at dawn | at sunrise", "The gate opens at sunrise.", True),
    (WHEN, "at dawn | at sunrise", "The gate opens at dusk.", False),
    (WHEN, "early dawn | late dusk", "late dawn", False),
    # beyond ASCII
    (NAME, "Straße", "strasse", True),
    (NAME, "Hôtel-Dieu", "HO\u0302TEL DIEU", True),
    (NAME, "café", "cafe", False),
    (NAME, "Ангара", "Зал называется «Ангара».", True),
    (NAME, "東京", "東京", True),
    (NAME, "42", "４２", True),
    (NAME, "final", "ﬁnal", True),
    (NAME, "snake case", "snake_case", True),
    (NAME, "B12", "hall B12", True),
    (NAME, "B12", "hall B13", False),
]


def test_table_has_cases_of_both_verdicts():
    assert len(CASES) == len(set(CASES)) >= 40
    assert min(sum(right for *_, right in CASES), sum(not right for *_, right in CASES)) >= 20


@pytest.mark.parametrize(("question", "reference", "answer", "right"), CASES)
def test_verdict(question, reference, answer, right):
    assert is_right(question, reference, answer) == right


@pytest.mark.parametrize("reference", sorted({reference for _, reference, *_ in CASES}))
def test_reference_itself_is_a_right_answer_and_the_empty_one_is_not(reference):
    for alternative in reference.split("|"):
        assert is_right(NAME, reference, alternative)
    assert not is_right(NAME, reference, "")


@pytest.mark.parametrize("reference", ["", " ", "?", "…", "the", "it is", "|", "crimson |", "| crimson", "a | crimson"])
def test_reference_without_a_word_is_refused(reference):
    with pytest.raises(ValueError, match="without a word") as caught:
        is_right(SASH, reference, "crimson")
    assert repr(reference) in str(caught.value)


@pytest.mark.parametrize(
    ("reference", "terms"),
    [
        ("The sash is crimson", [{"crimson"}]),
        ("crimson | deep red", [{"crimson"}, {"deep", "red"}]),
        ("the colour", [{"colour"}]),
        ("twenty-four threads", [{"24", "threads"}]),
    ],
)
def test_key_terms_are_what_the_reference_adds_to_the_question(reference, terms):
    assert key_terms(SASH, reference) == terms


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", []),
        ("The Sash, it IS crimson!", ["sash", "crimson"]),
        ("twenty-four of 3.5", ["24", "3.5"]),
        ("one two three", ["1", "2", "3"]),
        ("twenty twenty", ["20", "20"]),
        ("twenty eleven", ["20", "11"]),
        ("hundreds of thousands", ["hundreds", "thousands"]),
    ],
)
def test_words_are_compared_in_this_form(text, found):
    assert words(text) == found
