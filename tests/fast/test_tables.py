"""Tables in every form, and files that are none."""

import contextlib
import gzip
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.data import tables
from components.data.json_lines import MAX_NAMED
from components.format_chat.core import format_chat
from components.ingest_sdg.core import check_data
from components.run.data_options import DataOptions
from components.shared.problems import Problems
from components.shared.storage import read_json, read_jsonl
from tests.fast.conftest import NAMES, json_lines, only_problem_of, problems_of

HEADER = ",".join(NAMES).encode() + b"\n"
ROWS = [
    ("Who, then?", 'The heron;\nor "nobody".', "YES"),
    ("Schärpe | 風?", "Rot.\t ", "yes"),
    ("Where?", "North.", "NO"),
]


def write_dialect(delimiter: str = ",", mark: str = '"', end: str = "\n", always: bool = False) -> str:
    def cell(text: str) -> str:
        special = any(character in text for character in (delimiter, mark, "\n"))
        return f"{mark}{text.replace(mark, mark * 2)}{mark}" if special or always else text

    return "".join(delimiter.join(map(cell, row)) + end for row in (NAMES, *ROWS))


def write_parquet(path: Path, table: Any = None, **options: Any) -> Path:
    columns = dict(zip(NAMES, map(list, zip(*ROWS, strict=True)), strict=True))
    pq.write_table(table or pa.table({"id": [1, 2, 3], **columns}), path, **options)
    return path


FORMS = {
    "comma": write_dialect().encode(),
    "semicolon": write_dialect(";").encode(),
    "tab": write_dialect("\t").encode(),
    "pipe": write_dialect("|").encode(),
    "all quoted": write_dialect(always=True).encode(),
    "CRLF": write_dialect(end="\r\n").encode(),
    "CR": write_dialect(end="\r").encode(),
    "byte order mark": write_dialect().encode("utf-8-sig"),
    "UTF-16": write_dialect().encode("utf-16"),
    "UTF-16 big": b"\xfe\xff" + write_dialect(";").encode("utf-16-be"),
    "gzip": gzip.compress(write_dialect("\t").encode("utf-8-sig")),
    "gzip in two parts": gzip.compress(write_dialect()[:50].encode()) + gzip.compress(write_dialect()[50:].encode()),
    "JSONL": json_lines(ROWS).encode(),
    "JSONL, gzip": gzip.compress(json_lines(ROWS).encode()),
    "JSONL, CRLF": b"\xef\xbb\xbf\r\n" + json_lines(ROWS).replace("\n", "\r\n").encode(),
    "delimiter in a line of its own": b"sep=;\r\n" + write_dialect(";", end="\r\n").encode(),
    "columns without a name": write_dialect(end=",,\n").encode(),
    "JSONL, other order": json_lines([row[::-1] for row in ROWS], NAMES[::-1]).encode(),
}


def digest(tmp_path: Path, name: str) -> str:
    return format_chat(records=tmp_path / name, system_prompt="x", output=tmp_path / f"{name}-chat").data_digest


def test_same_rows_have_the_same_digest_in_every_form(ingest_data: Any, tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(FORMS["comma"])
    ingest_data(tmp_path / "data", "comma")
    expected = digest(tmp_path, "comma")
    assert read_jsonl(tmp_path / "comma" / "records.jsonl") == [
        {"question": "Who, then?", "response": 'The heron;\nor "nobody".', "file": "data", "line": 2},
        {"question": "Schärpe | 風?", "response": "Rot.", "file": "data", "line": 4},
    ]
    for number, content in enumerate(FORMS.values()):
        (tmp_path / "data").write_bytes(content)
        report = ingest_data(tmp_path / "data", str(number))
        assert (report.rows_read, report.kept, report.dropped["judged unfaithful"]) == (3, 2, 1), list(FORMS)[number]
        assert digest(tmp_path, str(number)) == expected, list(FORMS)[number]


@pytest.mark.parametrize("options", [{}, {"compression": "zstd", "row_group_size": 1}, {"use_dictionary": False}])
def test_parquet_has_the_same_digest(ingest_data: Any, tmp_path: Path, options: dict[str, Any]) -> None:
    (tmp_path / "data").write_bytes(FORMS["comma"])
    ingest_data(tmp_path / "data", "comma")
    ingest_data(write_parquet(tmp_path / "data", **options), "parquet")
    assert digest(tmp_path, "parquet") == digest(tmp_path, "comma")
    dropped = read_jsonl(tmp_path / "parquet" / "dropped.jsonl")
    assert [row["line"] for row in dropped] == [3]


def test_folder_of_forms_is_one_table_whose_rows_know_their_file(ingest_data: Any, tmp_path: Path) -> None:
    (tmp_path / "rounds" / "b").mkdir(parents=True)
    (tmp_path / "rounds" / "a.csv.gz").write_bytes(FORMS["gzip"])
    (tmp_path / "rounds" / "b" / "c.jsonl").write_text(json_lines([("New?", "Yes, it is.", "YES")]), encoding="utf-8")
    write_parquet(tmp_path / "rounds" / "b" / "d.parquet")

    report = ingest_data(tmp_path / "rounds")

    assert (report.files, report.rows_read, report.kept) == (3, 7, 3)
    assert report.dropped["duplicate"] == 2
    rows = read_jsonl(tmp_path / "out" / "records.jsonl")
    assert [(row["file"], row["line"]) for row in rows] == [("a.csv.gz", 2), ("a.csv.gz", 4), ("b/c.jsonl", 1)]
    duplicates = [row for row in read_jsonl(tmp_path / "out" / "dropped.jsonl") if row["reason"] == "duplicate"]
    assert [row["duplicate_of"] for row in duplicates] == [{"file": "a.csv.gz", "line": n} for n in (2, 4)]


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"PK\x03\x04rest", "the file is a zip archive or an Excel workbook"),
        (b"BZh9rest", "the file is packed with bzip2"),
        (gzip.compress(HEADER * 100, mtime=0)[:30], "the gzip file is damaged"),
        (b"\x1f\x8b\x08garbage of many bytes", "the gzip file is damaged"),
        (gzip.compress(b"x" * 70_000 + b"\xff", mtime=0), "the file is not UTF-8: byte 0xff"),
        (b"\xff\xfeq\x00u", "the file ends in the middle of a character"),
        (b'"' * 3 + b"\n", "the file is no CSV"),
        (HEADER + b'"a"b,r,YES\n', "the file is no CSV"),
        (HEADER + b'"a"b,"a \\" b, c,YES\n', "the file is no CSV"),
        (b'[\n {"question": "q"}]', "the file is one JSON array"),
        (b"[]", "the file is one JSON array"),
        (json_lines([("a\0", "b", "YES")]).encode(), "there is a NUL character"),
        (b'{"question": "a", "question ": "b"}\n', "line 1 has a name more than once: 'question'"),
        (b'{"a": {"b": 1, "b": 2}, "question": 1, "question": 2}\n', "line 1 has a name more than once: 'question'"),
    ],
)
def test_file_that_is_no_table_is_one_problem(tmp_path: Path, content: bytes, what: str) -> None:
    (tmp_path / "data").write_bytes(content)

    assert only_problem_of(check_data, str(tmp_path / "data"), DataOptions()).what.startswith(what)


def test_backslash_that_stands_before_no_quote_is_text(ingest_data: Any, tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(HEADER + b'"What is \\alpha, ""a\\""?",C:\\,YES\n')

    ingest_data(tmp_path / "data")

    (row,) = read_jsonl(tmp_path / "out" / "records.jsonl")
    assert (row["question"], row["response"]) == ('What is \\alpha, "a\\"?', "C:\\")


def test_many_broken_lines_are_counted(tmp_path: Path) -> None:
    (tmp_path / "data").write_text(json_lines(ROWS) + "[]\n" * 1000, encoding="utf-8")

    with pytest.raises(Problems) as caught:
        check_data(str(tmp_path / "data"), DataOptions())

    assert len(caught.value.problems) == MAX_NAMED + 1
    assert caught.value.problems[-1].what == f"{1000 - MAX_NAMED} more lines are no objects of strings"


@settings(max_examples=150, deadline=None)
@given(
    content=st.binary(max_size=200) | st.text(max_size=100).map(str.encode), start=st.sampled_from([HEADER, b"{", b""])
)
def test_any_bytes_are_a_table_or_a_problem(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, start: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any"
    for file in (start + content, gzip.compress(start + content, 1)):
        path.write_bytes(file)
        for read in (lambda: check_data(str(path), DataOptions()), lambda: tables.read_table(str(path))):
            with contextlib.suppress(Problems):
                read()


def test_every_row_that_is_dropped_says_where_it_stood(ingest_data: Any, tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(FORMS["comma"])
    report = ingest_data(tmp_path / "data")

    assert read_json(tmp_path / "out" / "report.json")["dropped"] == report.dropped
    (row,) = read_jsonl(tmp_path / "out" / "dropped.jsonl")
    assert row == {
        "question": "Where?", "response": "North.", "file": "data", "line": 5, "judgment": "NO",
        "reason": "judged unfaithful",
    }  # fmt: skip


def test_names_that_are_no_text_do_not_end_in_a_traceback(ingest_data: Any, tmp_path: Path) -> None:
    folder = tmp_path / "rounds"
    folder.mkdir()
    path = os.path.join(os.fsencode(folder), b"caf\xe9.csv")
    with open(path, "wb") as file:
        file.write(FORMS["comma"])
    assert ingest_data(folder).kept == 2
    with open(path, "w", encoding="utf-8") as file:
        file.write('{"\\ud800": 1, "' + "x" * 5000 + '": 2}\n')
    found = problems_of(check_data, str(folder), DataOptions(unjudged="keep"))
    assert [problem.what for problem in found] == [f"column '{name}' is missing" for name in NAMES[:2]]
    assert len("".join(map(str, found)).encode()) < 2000
