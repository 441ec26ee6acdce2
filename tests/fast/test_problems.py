import pytest

from components.shared.problems import MAX_QUOTE, Checks, Problems, list_some, problem, quote, suggest
from tests.tables import table

PARTS = {"where": "qa.csv, header", "rule": "columns needed: question", "remedy": "rename it"}


def test_every_problem_stands_in_the_text_with_its_four_parts():
    checks = Checks()
    checks.add("column 'question' is missing", **PARTS)
    checks.add("the file is old", where="b.csv", rule="younger than a day", remedy="write it anew")
    with pytest.raises(ValueError, match="2 problems") as caught:
        checks.raise_if_any()
    lines = str(caught.value).splitlines()
    assert lines[0] == "2 problems"
    assert lines[1] == "1. column 'question' is missing"
    assert [line.strip() for line in lines[2:5]] == [
        "where:  qa.csv, header",
        "rule:   columns needed: question",
        "remedy: rename it",
    ]
    assert lines[5] == "2. the file is old"
    assert len(lines) == 9


def test_collected_problems_keep_their_order_and_parts():
    checks = Checks()
    checks.add("first", **PARTS)
    with checks.collecting():
        raise problem("second", where="w", rule="r", remedy="m")
    checks.add("third", **PARTS)
    with pytest.raises(Problems) as caught:
        checks.raise_if_any()
    assert [found.what for found in caught.value.problems] == ["first", "second", "third"]
    assert caught.value.problems[1].where == "w"


def test_collecting_lets_through_what_is_no_problem_of_the_user():
    with pytest.raises(ValueError, match="not ours"), Checks().collecting():
        raise ValueError("not ours")


@pytest.mark.parametrize(("value", "shown"), table("problems", "quoted"))
def test_quoted_value_is_printable_and_on_one_line(value, shown):
    assert quote(value) == shown
    assert quote(value).isprintable()


@pytest.mark.parametrize(
    ("length", "shown_length"), [(1, 1), (MAX_QUOTE, MAX_QUOTE), (MAX_QUOTE + 1, MAX_QUOTE), (10_000, MAX_QUOTE)]
)
def test_long_value_is_cut_and_says_so(length, shown_length):
    shown = quote("x" * length).strip("'")
    assert len(shown) == shown_length
    assert shown.endswith("…") == (length > MAX_QUOTE)


@pytest.mark.parametrize(
    ("values", "most", "text"),
    [
        ([], 3, ""),
        (["a"], 3, "a"),
        (["a", "b", "c"], 3, "a, b, c"),
        (["a", "b", "c", "d"], 3, "a, b, c and 1 more"),
        (range(100), 2, "0, 1 and 98 more"),
        ((letter for letter in "abc"), 1, "a and 2 more"),
    ],
)
def test_list_names_the_first_and_counts_the_rest(values, most, text):
    assert list_some(values, most) == text


@pytest.mark.parametrize(("name", "known", "nearest"), table("problems", "near"))
def test_near_name_is_suggested_whatever_its_case(name, known, nearest):
    assert suggest(name, known) == f" (did you mean {nearest}?)"


@pytest.mark.parametrize(("name", "known"), [("colour", ["question", "response"]), ("seed", []), ("", ["seed"])])
def test_nothing_is_suggested_for_a_far_name(name, known):
    assert suggest(name, known) == ""
