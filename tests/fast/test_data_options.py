"""The data's options."""

import pytest

from components.run.data_options import DataOptions
from tests.fast.conftest import only_problem_of


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"near_duplicates": 1.0, "held_out_share": 0},
        {
            "near_duplicates": 0.5,
            "held_out_share": 0.5,
            "conflicts": "keep",
            "gap_questions": "keep",
            "unjudged": "keep",
        },
        {"columns": "response=answer", "accepted_judgments": "yes, partly ,", "rejected_judgments": "no, false"},
        {"columns": "question=response, response=question"},
        {"columns": " , ,"},
        {"columns": "question=a=b, response = my answer"},
    ],
)
def test_good_options_are_taken(given):
    options = DataOptions.from_mapping(given)

    assert {name: getattr(options, name) for name in given} == given


def test_lists_are_read():
    options = DataOptions(columns=" response = my=answer ,", accepted_judgments="yes, partly ,")

    assert options.accepted == ("yes", "partly")
    assert options.column_names == {
        "question": "question", "response": "my=answer", "judgment": "faithfulness_judgment"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("given", "what", "rule"),
    [
        ({"near_duplicate": 1}, "unknown data option 'near_duplicate' (did you mean near_duplicates?)", "known are"),
        ({"near_duplicates": 0.4}, "near_duplicates is '0.4'", "from 0.5 to 1"),
        ({"near_duplicates": True}, "near_duplicates is 'True'", "from 0.5 to 1"),
        ({"near_duplicates": "0.9"}, "near_duplicates is '0.9'", "from 0.5 to 1"),
        ({"near_duplicates": float("nan")}, "near_duplicates is 'nan'", "from 0.5 to 1"),
        ({"held_out_share": 0.6}, "held_out_share is '0.6'", "from 0 to 0.5"),
        ({"held_out_share": -0.1}, "held_out_share is '-0.1'", "from 0 to 0.5"),
        ({"conflicts": "Drop"}, "conflicts is 'Drop'", "one of drop, keep"),
        ({"unjudged": True}, "unjudged is 'True'", "one of refuse, keep"),
        ({"gap_questions": ""}, "gap_questions is ''", "one of drop, keep"),
        ({"accepted_judgments": " , "}, "accepted_judgments is ' , '", "comma-separated"),
        ({"accepted_judgments": ["YES"]}, "accepted_judgments is \"['YES']\"", "comma-separated"),
        ({"rejected_judgments": ""}, "rejected_judgments is ''", "comma-separated"),
        ({"rejected_judgments": "x" * 81}, f"rejected_judgments is '{'x' * 79}…'", "at most 80 characters"),
        ({"accepted_judgments": "no"}, "'no' is accepted and rejected", "one or the other"),
        ({"near_duplicates": 10**400}, f"near_duplicates is '1{'0' * 78}…'", "from 0.5 to 1"),
        ({"columns": "question=response"}, "question and response are both the column 'response'", "a column each"),
        ({"columns": "question=a, question=b"}, "question is named twice: 'a' and 'b'", "one column"),
        ({"columns": 5}, "columns is '5'", "known=name"),
        ({"columns": "answer"}, "'answer' names no column", "known=name"),
        ({"columns": "respons=a"}, "'respons=a' names no column (did you mean response?)", "response, judgment"),
        ({"columns": "response="}, "'response=' names no column (did you mean response?)", "known=name"),
        ({"columns": "=answer"}, "'=answer' names no column", "known=name"),
    ],
)
def test_bad_option_is_one_problem(given, what, rule):
    found = only_problem_of(DataOptions.from_mapping, given)

    assert found.what == what
    assert rule in found.rule
