import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.verdicts import agreement, half_of, labelled
from components.grading.reference_rules import is_right, key_terms, words

SASH = "What colour is a master's sash?"
LAMPS = "How many lamps does a journeyman tend?"
NAME = "What is the name of the hall?"
WHEN = "When does the gate open?"
FAR = "How far is the hall?"
LONG = "How long is the training?"

# Reached on the labelled answers: 0.888 and 0.771 (benchmarks/results/verdicts.json).
ACCURACY = 0.88
KAPPA = 0.755

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
    # units and equal quantities
    (FAR, "0.5 km", "500 metres", True),
    (FAR, "500 m", "half a kilometre", True),
    (FAR, "10 000 m", "10 km", True),
    (FAR, "3 km", "3 km (1.9 miles)", True),
    (FAR, "3 km", "3 miles", False),
    (FAR, "3 km", "3", False),
    (LONG, "14 days", "two weeks", True),
    (LONG, "36 months", "a three-year training", True),
    (LONG, "90 minutes", "one and a half hours", True),
    (LONG, "one year", "365 days", False),
    ("How many days does it last?", "14", "two weeks", True),
    ("How many days does it last?", "14 days", "14", True),
    ("How many days does it last?", "14", "14 weeks", False),
    ("How warm is it?", "100 °C", "100 degrees Celsius", True),
    ("How warm is it?", "-5 °C", "minus five degrees Celsius", True),
    ("How warm is it?", "-5 °C", "5 °C", False),
    ("How warm is it in degrees Celsius?", "37", "37 degrees", True),
    ("How warm is it in degrees Celsius?", "37", "37 °F", False),
    ("How fast is it?", "10 m/s", "36 kilometres per hour", True),
    ("How heavy is it?", "2 kg", "two kilos", True),
    ("Which share?", "5 %", "five per cent", True),
    ("How much is it?", "12.50 euros", "€12.50", True),
    ("How much is it?", "€12", "$12", False),
    ("How many people live there?", "1 440 000", "1.44 million", True),
    # times of day, dates, ordinals
    (WHEN, "17:30", "5:30 pm", True),
    (WHEN, "17:30", "At 5.30 p.m.", True),
    (WHEN, "17:30", "half past five in the afternoon", True),
    (WHEN, "17:45", "a quarter to six in the evening", True),
    (WHEN, "17:30", "5:30", False),
    (WHEN, "17:30", "5:30 am", False),
    (WHEN, "12:00", "at noon", True),
    (WHEN, "15 May", "May 15th", True),
    (WHEN, "15 May", "on the fifteenth of May", True),
    (WHEN, "15 May", "15 June", False),
    (WHEN, "15 May", "16 May", False),
    ("Which level is it?", "3rd", "the third level", True),
    ("Which level is it?", "21st", "the twenty-first", True),
    ("Which level is it?", "3rd", "the fourth", False),
    # plurals
    (NAME, "feather", "feathers", True),
    (NAME, "berries", "berry", True),
    (NAME, "boxes", "box", True),
    (NAME, "glass", "glas", False),
    ("What is the plural of foot?", "feet", "foots", False),
    ("What is the plural of cat?", "cats", "cat", False),
    # corrections
    (LAMPS, "40", "40. No, wait, 50.", False),
    (LAMPS, "40", "50. No, wait, 40.", True),
    (LAMPS, "40", "50 ... scratch that, it is 40.", True),
    (LAMPS, "40", "40. Correction: 50.", False),
    (LAMPS, "40", "It is 40, actually.", True),
    (LAMPS, "40", "40. Actually, it is 50.", False),
    (LAMPS, "40", "40. Let me check. Yes, that is right.", True),
    # negations
    (LAMPS, "40", "It isn't 40.", False),
    (LAMPS, "40", "It is never 40 lamps.", False),
    (LAMPS, "40", "It would be wrong to say 40.", False),
    (LAMPS, "40", "A journeyman does not tend 30 lamps but 40.", True),
    (LAMPS, "40", "A journeyman does not tend 40 lamps but 30.", False),
    (LAMPS, "40", "Not only 40 lamps, he also fills them.", True),
    (LAMPS, "40", "No more than 40.", True),
    (SASH, "crimson", "It is crimson, not blue.", True),
    (SASH, "crimson", "It is blue, not crimson.", False),
    (SASH, "crimson", "It is blue rather than crimson.", False),
    (SASH, "crimson", "It is not blue, it is crimson.", True),
    (SASH, "crimson", "It is not true that it is not crimson.", True),
    ("Which bird cannot fly?", "penguin", "The penguin cannot fly.", True),
    # hedges and questions
    (LAMPS, "40", "Either 40 or 50.", False),
    (LAMPS, "40", "It could be 40.", False),
    (LAMPS, "40", "I'm not sure, 40.", False),
    (LAMPS, "40", "40, depending on the journeyman.", False),
    (LAMPS, "40", "40?", False),
    # lists and ranges
    (SASH, "crimson", "Crimson and gold.", False),
    (SASH, "crimson", "Gold and crimson.", False),
    (SASH, "crimson and gold", "Gold and crimson.", True),
    (SASH, "crimson and gold", "Crimson, gold and blue.", False),
    (LAMPS, "40", "40 or 50", False),
    (LAMPS, "40", "30 to 40", False),
    (LAMPS, "40", "40-50", False),
    # rivals
    (LAMPS, "40", "A journeyman tends 40 lamps. A journeyman tends 30 lamps.", False),
    (LAMPS, "40", "He tends 40 lamps, the journeyman 30.", False),
    (LAMPS, "40", "A journeyman tends 40 lamps, because 10 + 30 = 40.", True),
    (LAMPS, "40", "10 + 20 = 30. Let me see. 20 + 20 = 40. So it is 40 lamps.", True),
    (LAMPS, "40", "A journeyman tends 40 lamps. An apprentice has 10.", False),
    (LAMPS, "40", "A journeyman tends 40 lamps. He is 3 years in the guild.", True),
    ("When was it?", "1969", "In 1969, with ship 11.", True),
    ("When was it?", "1969", "In 1969. Then again, in 1970.", False),
    # another thing
    ("When does the gate close?", "17:30", "The gate opens at 17:30.", False),
    ("Which hall is the largest?", "Angara", "Angara is the second largest hall.", False),
    ("How many strings has a violin?", "four", "Four violins share one stand.", False),
    ("How many strings has a violin?", "four", "Four. The violin is small.", True),
    (SASH, "crimson", "The sash looks crimson because of the madder in the dye.", True),
    (NAME, "Angara", "By boat you reach the village from Angara.", False),
    # order
    ("In what order are they lit?", "red, then blue", "First red, then blue.", True),
    ("In what order are they lit?", "red, then blue", "First blue, then red.", False),
    # yes and no
    ("May I enter?", "no", "No, you may not.", True),
    ("May I enter?", "no", "You may not enter.", True),
    ("May I enter?", "no", "Yes.", False),
    ("May I enter?", "not allowed", "It is forbidden.", True),
    ("May I enter?", "it is allowed", "It is forbidden.", False),
    ("May I enter?", "yes", "Of course.", True),
    ("May I enter?", "yes", "Certainly not.", False),
    ("May I enter?", "yes", "That is a good question.", False),
    ("How many bells has the hall?", "none", "The hall has no bells.", True),
    ("How many bells has the hall?", "none", "The hall has two bells.", False),
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


def test_agreement_with_the_labelled_answers_is_kept():
    rows = labelled()
    assert len(rows) == 321
    assert {half_of(row["question"]) for row in rows} == {"tuned", "held_out"}
    found = agreement(is_right, rows)
    assert found["accuracy"] >= ACCURACY
    assert found["kappa"] >= KAPPA


PIECES = [
    "40",
    " ",
    "not",
    "no, wait, ",
    ".",
    ",",
    "forty",
    "(",
    "and",
    "5:30 pm",
    "km",
    "half past ",
    "\n",
    "1. ",
    "²",
    "0",
]


@settings(max_examples=200, deadline=None)
@given(st.text() | st.lists(st.sampled_from(PIECES)).map("".join), st.text(), st.text(max_size=20))
def test_any_text_gets_the_same_verdict_twice(answer, question, reference):
    assert is_right(LAMPS, "forty", answer) is is_right(LAMPS, "forty", answer)
    if all(words(alternative) for alternative in reference.split("|")):
        assert is_right(question, reference, answer) in (True, False)


REPEATED = [
    "1 ",
    "111 ",
    "9",
    "no, wait, ",
    "sorry ",
    "million ",
    "\n",
    " ",
    "1. a\n",
    "x, ",
    "forty, ",
    "(",
    "and ",
    "40 or ",
]
REPEATED += ["²", "5:30 p.m. ", "half past ", "a", "*", "1,234,", "-", "forty. 4. ", "forty and x, "]


@pytest.mark.parametrize("piece", REPEATED)
def test_long_answer_of_anything_is_judged_in_time(piece):
    started = time.monotonic()
    is_right(LAMPS, "forty | a red lamp, then 4 km", (piece * 20_000)[:20_000])
    assert time.monotonic() - started < 5  # linear takes half a second, quadratic a minute
