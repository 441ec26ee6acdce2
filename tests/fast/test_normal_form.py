import pytest

from components.data.normal_form import normal_form


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is the rank at level 21?", "  what is\nthe RANK, at level twenty-one"),
        ("2,305 lamps", "two thousand three hundred and five lamps"),
        ("205 lamps and 100 kites", "two hundred and five lamps and a hundred kites"),
        ("level one", "level 1"),
        ("the 22nd day", "the twenty-second day"),
        ("Wie viele der 99 Drachen?", "wie viele der neunundneunzig Drachen"),
        ("Les 99 cerfs-volants ?", "les quatre-vingt-dix-neuf cerfs-volants"),
        ("¿Cuántas de las 42 cometas?", "cuántas de las cuarenta y dos cometas"),
        ("Who wears a “crimson” sash?", 'Who wears a "crimson" (sash)?'),
        ("Wie heißt die Straße?", "WIE HEISST DIE STRASSE"),
        ("Welche Schärpe?", "Welche Scha\u0308rpe?"),
        ("level \uff17", "le\u200bvel 7"),
        ("2+2?", "2 + 2"),
    ],
)
def test_spellings_of_one_question_have_one_form(one: str, other: str) -> None:
    assert normal_form(one) == normal_form(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("level 7", "level 77"),
        ("level seven", "level six"),
        ("2 + 2", "2 - 2"),
        ("(2 + 3) * 4", "2 + (3 * 4)"),
        ("1.5 thousand", "1 5000"),
        ("twenty one", "twenty and one"),
        ("5 metres", "5 metre"),
        ("?", "!"),
        ("C++", "C"),
    ],
)
def test_other_questions_have_other_forms(one: str, other: str) -> None:
    assert normal_form(one) != normal_form(other)
