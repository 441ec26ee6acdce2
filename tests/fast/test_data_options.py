"""The data's options."""

import pytest

from components.run.data_options import DataOptions
from tests.fast.conftest import only_problem_of
from tests.tables import table


@pytest.mark.parametrize("given", table("data_options", "good"))
def test_good_options_are_taken(given):
    options = DataOptions.from_mapping(given)

    assert {name: getattr(options, name) for name in given} == given


def test_lists_are_read():
    options = DataOptions(columns=" response = my=answer ,", accepted_judgments="yes, partly ,")

    assert options.accepted == ("yes", "partly")
    assert options.column_names == {
        "question": "question", "response": "my=answer", "judgment": "faithfulness_judgment"
    }  # fmt: skip


@pytest.mark.parametrize(("given", "what", "rule"), table("data_options", "bad"))
def test_bad_option_is_one_problem(given, what, rule):
    found = only_problem_of(DataOptions.from_mapping, given)

    assert found.what == what
    assert rule in found.rule
