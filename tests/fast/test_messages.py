"""Rows of messages, and folders that datasets saved."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest

from components.data.chat import read_pair
from components.shared.storage import read_jsonl
from tests.fast.conftest import only_problem_of, problems_of, write_csv
from tests.tables import table


def messages(question: str, answer: str, system: str = "") -> list[dict[str, str]]:
    roles = [("system", system)] * bool(system) + [("user", question), ("assistant", answer)]
    return [{"role": role, "content": content} for role, content in roles]


ROWS = [
    {"messages": messages("Which colour?", "Crimson.\r\n"), "metadata": {"domain": "guild"}},
    {"messages": messages("Who?", "The master.", "You know the guild."), "metadata": {"domain": "guild"}},
    {"messages": messages("Where?", " "), "metadata": None},
]


def write_lines(path: Path, rows: list[dict[str, Any]] = ROWS) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_stream(path: Path) -> None:
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, pa.Table.from_pylist(ROWS).schema) as stream:
        stream.write_table(pa.Table.from_pylist(ROWS), max_chunksize=2)


FORMS: dict[str, Callable[[Path], Any]] = {
    "JSONL": write_lines,
    "CSV": lambda path: write_csv(path, ("id", "messages"), [("1", json.dumps(row["messages"])) for row in ROWS]),
    "Parquet": lambda path: pq.write_table(pa.Table.from_pylist(ROWS), path),
    "Arrow stream": write_stream,
    "Feather": lambda path: feather.write_feather(pa.Table.from_pylist(ROWS), str(path)),
}


@pytest.mark.parametrize("form", FORMS)
def test_messages_of_one_question_and_one_answer_are_read(
    ingest_data: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    FORMS[form](tmp_path / "data")

    report = ingest_data(tmp_path / "data")

    kept = [(row["question"], row["response"]) for row in read_jsonl(tmp_path / "out" / "records.jsonl")]
    assert kept == [("Which colour?", "Crimson."), ("Who?", "The master.")]
    assert (report.dropped["empty response"], report.unjudged, report.own_system_messages) == (1, 3, 1)
    logged = capsys.readouterr().out
    assert "rows without a judgment, which count as faithful: 3" in logged
    assert "as 'You know the guild.': 1; the run's system_prompt takes its place" in logged


def test_judgments_beside_messages_count(ingest_data: Any, tmp_path: Path) -> None:
    judged = [row | {"faithfulness_judgment": word} for row, word in zip(ROWS, ("YES", "NO"), strict=False)]
    write_lines(tmp_path / "data", [*judged, ROWS[0]])

    report = ingest_data(tmp_path / "data")

    assert (report.kept, report.unjudged, report.judgments) == (1, 1, {"YES": 1, "NO": 1})


def test_columns_of_question_and_response_go_before_messages(ingest_data: Any, tmp_path: Path) -> None:
    write_lines(tmp_path / "data", [ROWS[0] | {"question": "a?", "response": "b", "faithfulness_judgment": "YES"}])

    ingest_data(tmp_path / "data")

    assert read_jsonl(tmp_path / "out" / "records.jsonl")[0]["question"] == "a?"


@pytest.mark.parametrize(("cell", "why"), table("messages", "bad"))
def test_messages_that_are_no_pair_say_why(cell: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        read_pair(cell)


def test_rows_of_several_turns_are_counted_and_named(ingest_data: Any, tmp_path: Path) -> None:
    turns = {"messages": [*ROWS[0]["messages"], *ROWS[1]["messages"]]}
    write_lines(tmp_path / "data", [ROWS[0], turns, turns, {"messages": None}])

    found = problems_of(ingest_data, tmp_path / "data")

    assert [problem.what.partition(":")[0] for problem in found] == [
        "2 rows are no question with its answer",
        "1 rows are no question with its answer",
    ]
    assert found[0].where.endswith("data, lines 2, 3")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset, and one with two splits, as datasets saves them; one of their folders holds a cache as well."""
    import datasets

    folder = tmp_path_factory.mktemp("saved")
    dataset = datasets.Dataset.from_list([{**row, "metadata": "x"} for row in ROWS[:2]])
    dataset.save_to_disk(folder / "one")
    datasets.load_from_disk(folder / "one").map(lambda row: {"metadata": "y"})
    datasets.DatasetDict(train=dataset, test=dataset).save_to_disk(folder / "splits")
    datasets.DatasetDict(train=dataset).save_to_disk(folder / "one split")
    assert list((folder / "one").glob("cache-*.arrow"))
    return folder


@pytest.mark.parametrize("name", ["one", "splits/train", "one split"])
def test_saved_dataset_is_read_without_what_datasets_remembers(ingest_data: Any, saved: Path, name: str) -> None:
    report = ingest_data(saved / name)

    assert (report.files, report.rows_read, report.kept) == (1, 2, 2)


def test_splits_of_a_saved_dataset_are_not_trained_on_together(ingest_data: Any, saved: Path) -> None:
    found = only_problem_of(ingest_data, saved / "splits")

    assert found.what == "the folder holds a dataset with 2 splits"
    assert found.remedy == f"name one of them: {saved}/splits/test, {saved}/splits/train"
