"""Tables in every form, and files that are none."""

import contextlib
import gzip
import json
import math
import os
import random
import subprocess
import sys
import tracemalloc
import zlib
from collections.abc import Sequence
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
from components.ingest_sdg.core import check_data, ingest_sdg
from components.ingest_sdg.rows import Judgments, Row
from components.run.data_options import DataOptions
from components.shared.problems import Problems
from components.shared.storage import read_json, read_jsonl
from tests.fast.conftest import only_problem_of, problems_of

NAMES = ("question", "response", "faithfulness_judgment")
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


def json_lines(rows: Any = ROWS, names: Sequence[str] = NAMES) -> str:
    more = {"document": "x\ny", "metadata": {"n": [1, 2]}, "score": float("nan")}
    return "".join(json.dumps({**more, **dict(zip(names, row, strict=True))}) + "\n" for row in rows)


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
    "JSONL": json_lines().encode(),
    "JSONL, gzip": gzip.compress(json_lines().encode()),
    "JSONL, CRLF": b"\xef\xbb\xbf\r\n" + json_lines().replace("\n", "\r\n").encode(),
    "delimiter in a line of its own": b"sep=;\r\n" + write_dialect(";", end="\r\n").encode(),
    "columns without a name": write_dialect(end=",,\n").encode(),
    "JSONL, other order": json_lines([row[::-1] for row in ROWS], NAMES[::-1]).encode(),
}


@pytest.fixture
def ingest(tmp_path: Path) -> Any:
    (tmp_path / "gap.csv").write_text("question,reference\nWhich bird?,heron\n", encoding="utf-8")

    def run(data: Path | str, name: str = "out", **options: Any) -> Any:
        return ingest_sdg(
            data=str(data),
            questions=str(tmp_path / "gap.csv"),
            retention_questions=str(tmp_path / "gap.csv"),
            output=tmp_path / name,
            review=tmp_path / "review.html",
            options=options,
        )

    return run


def digest(tmp_path: Path, name: str) -> str:
    return format_chat(records=tmp_path / name, system_prompt="x", output=tmp_path / f"{name}-chat").data_digest


def test_same_rows_have_the_same_digest_in_every_form(ingest: Any, tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(FORMS["comma"])
    ingest(tmp_path / "data", "comma")
    expected = digest(tmp_path, "comma")
    assert read_jsonl(tmp_path / "comma" / "records.jsonl") == [
        {"question": "Who, then?", "response": 'The heron;\nor "nobody".', "file": "data", "line": 2},
        {"question": "Schärpe | 風?", "response": "Rot.", "file": "data", "line": 4},
    ]
    for number, content in enumerate(FORMS.values()):
        (tmp_path / "data").write_bytes(content)
        report = ingest(tmp_path / "data", str(number))
        assert (report.rows_read, report.kept, report.dropped["judged unfaithful"]) == (3, 2, 1), list(FORMS)[number]
        assert digest(tmp_path, str(number)) == expected, list(FORMS)[number]


@pytest.mark.parametrize("options", [{}, {"compression": "zstd", "row_group_size": 1}, {"use_dictionary": False}])
def test_parquet_has_the_same_digest(ingest: Any, tmp_path: Path, options: dict[str, Any]) -> None:
    (tmp_path / "data").write_bytes(FORMS["comma"])
    ingest(tmp_path / "data", "comma")
    ingest(write_parquet(tmp_path / "data", **options), "parquet")
    assert digest(tmp_path, "parquet") == digest(tmp_path, "comma")
    dropped = read_jsonl(tmp_path / "parquet" / "dropped.jsonl")
    assert [row["line"] for row in dropped] == [3]


def test_folder_of_forms_is_one_table_whose_rows_know_their_file(ingest: Any, tmp_path: Path) -> None:
    (tmp_path / "rounds" / "b").mkdir(parents=True)
    (tmp_path / "rounds" / "a.csv.gz").write_bytes(FORMS["gzip"])
    (tmp_path / "rounds" / "b" / "c.jsonl").write_text(json_lines([("New?", "Yes, it is.", "YES")]), encoding="utf-8")
    write_parquet(tmp_path / "rounds" / "b" / "d.parquet")

    report = ingest(tmp_path / "rounds")

    assert (report.files, report.rows_read, report.kept) == (3, 7, 3)
    assert report.dropped["duplicate"] == 2
    rows = read_jsonl(tmp_path / "out" / "records.jsonl")
    assert [(row["file"], row["line"]) for row in rows] == [("a.csv.gz", 2), ("a.csv.gz", 4), ("b/c.jsonl", 1)]
    duplicates = [row for row in read_jsonl(tmp_path / "out" / "dropped.jsonl") if row["reason"] == "duplicate"]
    assert [row["duplicate_of"] for row in duplicates] == [{"file": "a.csv.gz", "line": n} for n in (2, 4)]


def test_what_sdg_hub_writes_without_judgments_is_learnt_when_the_user_says_so(ingest: Any, tmp_path: Path) -> None:
    row = {"key_fact": "…", "question": "Who?", "response": " The heron.\n", "raw_key_fact_qa": ["a", "b"]}
    (tmp_path / "data.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")

    found = only_problem_of(ingest, tmp_path / "data.jsonl")
    assert "column 'faithfulness_judgment' is missing" in found.what
    assert '--data-option unjudged=keep (on a cluster: data_options={"unjudged": "keep"})' in found.remedy
    assert ingest(tmp_path / "data.jsonl", unjudged="keep").kept == 1


@pytest.mark.parametrize("first", [0, 1])
def test_each_object_is_judged_or_not_by_itself(ingest: Any, tmp_path: Path, first: int) -> None:
    rows = [{"question": "a?", "response": "x"}, {"question": "b?", "response": "y", "faithfulness_judgment": "NO"}]
    lines = [json.dumps(row) + "\n" for row in (rows[first], rows[1 - first])]
    (tmp_path / "data.jsonl").write_text("".join(lines), encoding="utf-8")

    report = ingest(tmp_path / "data.jsonl", unjudged="keep")

    assert (report.kept, report.dropped["judged unfaithful"]) == (1, 1)
    assert problems_of(ingest, tmp_path / "data.jsonl")


def test_null_is_no_judgment_that_anybody_gave(ingest: Any, tmp_path: Path) -> None:
    (tmp_path / "data").write_text('{"question": "a?", "response": "x", "faithfulness_judgment": null}\n')

    found = only_problem_of(ingest, tmp_path / "data", unjudged="keep")

    assert (found.what, found.remedy) == ("unknown judgment '' in 1 of 1 rows", "fill the cells, or take the rows out")


@pytest.mark.parametrize(
    ("judgment", "remedy"),
    [
        (
            "a b",
            '--data-option \'rejected_judgments=NO,a b\' (on a cluster: data_options={"rejected_judgments": "NO,a b"})',
        ),
        ("a, b", "correct the rows"),
        ("x" * 1000, "correct the rows"),
    ],
)
def test_remedy_for_an_unknown_judgment_is_one_that_has_an_effect(
    ingest: Any, tmp_path: Path, judgment: str, remedy: str
) -> None:
    (tmp_path / "data").write_text(json_lines([("a?", "x", judgment)]), encoding="utf-8")

    found = only_problem_of(ingest, tmp_path / "data")

    assert found.remedy.endswith(remedy)
    assert len(str(found)) < 1000


def test_judgments_of_another_judge_are_accepted_and_rejected(ingest: Any, tmp_path: Path) -> None:
    rows = [{"question": f"{said}?", "response": "x", "faithfulness_judgment": said} for said in (True, False, "FALSE")]
    (tmp_path / "data").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

    report = ingest(tmp_path / "data", accepted_judgments="true", rejected_judgments="False, fail")

    assert (report.kept, report.dropped["judged unfaithful"]) == (1, 2)


def test_judgments_count_where_there_are_some_although_others_have_none(ingest: Any, tmp_path: Path) -> None:
    (tmp_path / "rounds").mkdir()
    (tmp_path / "rounds" / "a.csv").write_bytes(FORMS["comma"])
    (tmp_path / "rounds" / "b.csv").write_text("question,response\nNew?,It is new.\n", encoding="utf-8")

    assert ingest(tmp_path / "rounds", unjudged="keep").dropped["judged unfaithful"] == 1


LONG = ", ".join(f"the {number}th word of a long answer" for number in range(40))
SAME = ("Say it?", LONG, "YES")


@pytest.mark.parametrize(
    ("other", "options", "dropped"),
    [
        (("say  IT?", LONG, "YES"), {}, {"duplicate": 1}),
        (("Say it?", f"{LONG}.", "YES"), {}, {"near duplicate": 1}),
        (("Say it?", f"{LONG}.", "YES"), {"near_duplicates": 1}, {"conflict": 2}),
        (("Say it?", f"{LONG}.", "YES"), {"near_duplicates": 1, "conflicts": "keep"}, {}),
        (("Say it?", LONG.replace("39th", "38th"), "YES"), {}, {"conflict": 2}),
        (("Say it?", f"{LONG} not", "YES"), {"near_duplicates": 0.8}, {"conflict": 2}),
        (("Say it?", f"without {LONG}", "YES"), {"near_duplicates": 0.8}, {"conflict": 2}),
        (("Say it?", f"{LONG} so", "YES"), {"near_duplicates": 0.8}, {"near duplicate": 1}),
        (("Say it?", "No.", "YES"), {"conflicts": "keep"}, {}),
        (("Which bird?", "A heron.", "YES"), {}, {"gap question": 1}),
        (("which  bird ?!", "A heron.", "YES"), {}, {"gap question": 1}),
        (("\u200b", "A heron.", "YES"), {}, {"empty question": 1}),
        (("Who?", " \u200b\ufeff ", "YES"), {}, {"empty response": 1}),
        (("Which bird?", "A heron.", "YES"), {"gap_questions": "keep"}, {}),
    ],
)
def test_row_beside_another_is_kept_or_dropped(
    ingest: Any, tmp_path: Path, other: tuple[str, str, str], options: dict[str, Any], dropped: dict[str, int]
) -> None:
    rows = [SAME, other, ("Another?", "Quite another answer.", "YES")]
    (tmp_path / "data.jsonl").write_text(json_lines(rows), encoding="utf-8")

    report = ingest(tmp_path / "data.jsonl", **options)

    assert {reason: count for reason, count in report.dropped.items() if count} == dropped
    assert report.conflicts == ("conflict" in dropped or options.get("conflicts") == "keep")
    assert bool(report.gap_questions_in_data) == ("bird" in other[0])


def test_duplicate_of_a_near_duplicate_names_the_row_that_stays(ingest: Any, tmp_path: Path) -> None:
    rows = [("Say it?", LONG, "YES"), ("say it?", LONG, "YES"), ("Lay it?", LONG, "YES")]
    (tmp_path / "data.jsonl").write_text(json_lines(rows), encoding="utf-8")

    ingest(tmp_path / "data.jsonl")

    assert [row["line"] for row in read_jsonl(tmp_path / "out" / "records.jsonl")] == [3]
    dropped = read_jsonl(tmp_path / "out" / "dropped.jsonl")
    assert [(row["reason"], row["duplicate_of"]["line"]) for row in dropped] == [
        ("near duplicate", 3),
        ("duplicate", 3),
    ]


def test_texts_that_no_model_reads_whole_are_no_near_duplicates(ingest: Any, tmp_path: Path) -> None:
    rows = [("One?", LONG * 60, "YES"), ("One?", f"{LONG * 60}.", "YES"), ("One?", LONG * 60, "YES")]
    (tmp_path / "data.jsonl").write_text(json_lines(rows), encoding="utf-8")

    report = ingest(tmp_path / "data.jsonl", conflicts="keep", held_out_share=0.1)

    assert (report.kept, report.dropped["duplicate"], report.dropped["near duplicate"]) == (2, 1, 0)


def test_held_out_rows_share_neither_question_nor_answer_with_learnt_ones(ingest: Any, tmp_path: Path) -> None:
    choice = random.Random(0)
    words = ["".join(choice.choices("abcdefghijklmnop", k=7)) for _ in range(400)]
    rows = []
    for _ in range(60):
        question, response = choice.sample(words, 9), " ".join(choice.sample(words, 12))
        rows.append((f"What {' '.join(question)}?", response, "YES"))
        rows.append((f"So what {' '.join(question)}, please?", f"Quite another answer: {choice.choice(words)}.", "YES"))
        rows.append((f"Tell: {' '.join(choice.sample(words, 9))}!", response, "YES"))
    (tmp_path / "data.jsonl").write_text(json_lines(rows), encoding="utf-8")

    report = ingest(tmp_path / "data.jsonl", held_out_share=0.25)

    held_out = {row["line"] for row in read_jsonl(tmp_path / "out" / "held_out.jsonl")}
    assert report.kept + report.held_out == len(rows) == 180
    assert report.held_out == len(held_out) == 45
    assert all({fact * 3 + n for n in (1, 2, 3)} <= held_out for fact in {(line - 1) // 3 for line in held_out})


def test_share_that_groups_are_too_large_for_is_told(
    ingest: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        (f"What is the duty of the officer whom the hall calls by the name of {n}?", f"{n}", "YES") for n in range(40)
    ]
    (tmp_path / "data.jsonl").write_text(json_lines(rows), encoding="utf-8")

    report = ingest(tmp_path / "data.jsonl", held_out_share=0.25)

    assert (report.held_out, report.held_out_asked, report.largest_group) == (0, 10, 40)
    assert "asked to hold out 10 rows, held out 0" in capsys.readouterr().out
    assert "0 of the 10 requested are held out" in (tmp_path / "review.html").read_text(encoding="utf-8")


def test_short_answers_do_not_make_rows_one_group(ingest: Any, tmp_path: Path) -> None:
    questions = ["Who tends lamps?", "Is grass blue?", "May kites sing loudly?", "Does snow burn hot?"]
    rows = [(question, "Yes, it is.", "YES") for question in questions]
    (tmp_path / "data.jsonl").write_text(json_lines(rows), encoding="utf-8")

    assert ingest(tmp_path / "data.jsonl", held_out_share=0.25).held_out == 1


def test_review_shows_the_shortest_the_longest_and_the_most_repeated_rows(ingest: Any, tmp_path: Path) -> None:
    rows = [(f"Question {n}?", f"Answer {'x' * (5 + n)}.", "YES") for n in range(400)]
    rows += [("Short?", "a", "YES"), ("Long?", "b" * 900, "YES"), ("Often?", "Always the same.", "YES")]
    rows += [("Often?", "always the  same.", "YES")] * 3
    (tmp_path / "data.jsonl").write_text(json_lines(rows), encoding="utf-8")

    ingest(tmp_path / "data.jsonl", near_duplicates=1)

    page = (tmp_path / "review.html").read_text(encoding="utf-8")
    shown = [(why, page[page.index(f"<td>{why}") :].count(f"<td>{why}")) for why in ("shortest", "longest", "random")]
    assert shown[:2] == [("shortest", 3), ("longest", 3)]
    assert shown[2][1] >= 14
    assert "<td>repeated, 4 times</td>" in page
    for question in ("Short?", "Long?", "Often?"):
        assert f">{question}</bdi>" in page


def limited(path: Path) -> tuple[str, float]:
    """What the step says of a file, in a program with at most 2 GiB of address space; with its peak memory in MiB."""
    source = """
import resource, sys
from pathlib import Path
resource.setrlimit(resource.RLIMIT_AS, (1 << 31, 1 << 31))
from components.ingest_sdg.core import ingest_sdg
from components.shared.problems import Problems
data = Path(sys.argv[1])
gap = data.with_name("gap.csv")
gap.write_text("question,reference\\nWhich bird?,heron\\n")
try:
    ingest_sdg(data=str(data), questions=str(gap), retention_questions=str(gap), output=data.with_name("out"),
               review=data.with_name("review.html"), options={})
except Problems as error:
    print(error.problems[0].what[:200])
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM:")))
"""
    done = subprocess.run([sys.executable, "-c", source, str(path)], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr[-2000:]
    *_, said, memory = done.stdout.splitlines()
    return said, float(memory) / 1024


HEADER = ",".join(NAMES).encode() + b"\n"
HOSTILE: dict[str, tuple[Any, str]] = {
    "a cell of 50 MB": (lambda: HEADER + b'q,"' + b"x" * 50_000_000 + b'",YES\n', "the row is longer than 16,777,216"),
    "a line of 50 MB": (lambda: b'{"question": "' + b"x" * 50_000_000 + b'"}', "the row is longer than 16,777,216"),
    "a quote that is never closed": (
        lambda: HEADER + b'q,"r,YES\n' + b"q,r,YES\n" * 3_000_000,
        "the row is longer than",
    ),
    "10,000 columns": (
        lambda: b",".join(b"c%d" % n for n in range(10_000)) + b"\n" + b"," * 9_999 + b"\n",
        "column 'question' is missing",
    ),
    "100,000 columns": (lambda: b",".join(b"c%d" % n for n in range(100_000)) + b"\n", "the header has 100000 columns"),
    "zeros in gzip": (lambda: zeros(HEADER, b"\0"), "the row is longer than 16,777,216"),
    "empty lines in gzip": (lambda: zeros(HEADER + b"q,r,YES\n", b"\n"), "there are more than 1,000,000 empty lines"),
    "rows in gzip": (lambda: zeros(HEADER, b"q," + b"r" * 1000 + b",YES\n"), "the file unpacks to more than 64 MiB"),
    "NUL bytes": (lambda: HEADER + b"q\0,r,YES\n", "there is a NUL character"),
    "nested JSON": (lambda: b'{"question": ' + b"[" * 1_000_000, "line 1 is no JSON: nested too deeply"),
    "nested objects": (lambda: b'{"question": "a"}\n' + b'{"a":' * 1_000_000, "column 'response' is missing"),
    "a number of a million digits": (lambda: b'{"question": ' + b"1" * 1_000_000 + b"}", "line 1 is no JSON: "),
    "half a Parquet file": (lambda: parquet_bytes()[: len(parquet_bytes()) // 2], "the Parquet file cannot be read"),
    "a Parquet file of nothing": (lambda: b"PAR1" + b"\xff" * 100 + b"PAR1", "the Parquet file cannot be read"),
}


def test_rows_of_nearly_the_greatest_length_are_not_held(tmp_path: Path) -> None:
    packer = zlib.compressobj(1, wbits=31)
    with (tmp_path / "data").open("wb") as file:
        file.write(packer.compress(HEADER))
        for number in range(2):
            file.write(packer.compress(f"q{number},{'0123456789𝕩' * 1_420_000},YES\n".encode()))
        file.write(packer.flush())

    said, memory = limited(tmp_path / "data")

    assert said.startswith("osft | kept 2 of 2 rows")
    assert memory < 1024


def test_unknown_judgments_are_not_held_whole() -> None:
    judgments = Judgments("data", DataOptions())

    tracemalloc.start()
    for number in range(200):
        judgments.accepts(Row(number, "q", "r", f"{number}{'x' * 100_000}"))
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert held < 100_000


def zeros(start: bytes, filling: bytes) -> bytes:
    """100 MB of the same, packed to 100 kB."""
    packer = zlib.compressobj(wbits=31)
    return packer.compress(start + filling * (100_000_000 // len(filling))) + packer.flush()


def parquet_bytes() -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({name: ["a", "b"] * 100 for name in NAMES}), sink)
    return bytes(sink.getvalue())


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_file_is_one_problem_within_bounds(tmp_path: Path, kind: str) -> None:
    content, what = HOSTILE[kind]
    (tmp_path / "data").write_bytes(content())

    said, memory = limited(tmp_path / "data")

    assert said.startswith(what)
    assert memory < 512


@pytest.mark.parametrize(
    ("table", "what"),
    [
        (
            {"question": [["a"]], "response": ["b"], "faithfulness_judgment": ["YES"]},
            "the column 'question' holds 'list",
        ),
        (
            {"question": [b"a"], "response": ["b"], "faithfulness_judgment": ["YES"]},
            "the column 'question' holds 'binary",
        ),
        (
            {"question": pa.array([b"abcd"], pa.binary(4)), "response": ["b"], "faithfulness_judgment": ["YES"]},
            "the column 'question' holds 'fixed_size_binary[4]",
        ),
        (
            {"question": pa.array([0], pa.timestamp("s")), "response": ["b"], "faithfulness_judgment": ["YES"]},
            "the column 'question' holds 'timestamp",
        ),
        ({"question": [math.inf], "response": ["b"], "faithfulness_judgment": ["YES"]}, "a number is infinite"),
        ({"question": ["a\0"], "response": ["b"], "faithfulness_judgment": ["YES"]}, "there is a NUL character"),
        (
            {"question": ["a"], "question ": ["c"], "response": ["b"], "faithfulness_judgment": ["YES"]},
            "the column question is there more than once",
        ),
    ],
)
def test_parquet_column_that_holds_no_texts_is_named(tmp_path: Path, table: dict[str, Any], what: str) -> None:
    path = write_parquet(tmp_path / "data", pa.table(table))

    assert what in only_problem_of(check_data, str(path), DataOptions()).what


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


def test_backslash_that_stands_before_no_quote_is_text(ingest: Any, tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(HEADER + b'"What is \\alpha, ""a\\""?",C:\\,YES\n')

    ingest(tmp_path / "data")

    (row,) = read_jsonl(tmp_path / "out" / "records.jsonl")
    assert (row["question"], row["response"]) == ('What is \\alpha, "a\\"?', "C:\\")


def test_many_broken_lines_are_counted(tmp_path: Path) -> None:
    (tmp_path / "data").write_text(json_lines() + "[]\n" * 1000, encoding="utf-8")

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
        if file.startswith(tables.PARQUET):
            continue
        path.write_bytes(file)
        for read in (lambda: check_data(str(path), DataOptions()), lambda: tables.read_table(str(path))):
            with contextlib.suppress(Problems):
                read()


def test_every_row_that_is_dropped_says_where_it_stood(ingest: Any, tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(FORMS["comma"])
    report = ingest(tmp_path / "data")

    assert read_json(tmp_path / "out" / "report.json")["dropped"] == report.dropped
    (row,) = read_jsonl(tmp_path / "out" / "dropped.jsonl")
    assert row == {
        "question": "Where?", "response": "North.", "file": "data", "line": 5, "judgment": "NO",
        "reason": "judged unfaithful",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("question", "found"),
    [
        ("which  BIRD", True),
        ("“Which bird?!”", True),
        ("Which birds?", False),
        ("Which\u200b b\u00adird?", True),
        ("Ｗｈｉｃｈ bird？", True),
        ("Which - bird?", False),
        ("?", False),
    ],
)
def test_gap_question_is_found_whatever_its_punctuation(
    ingest: Any, tmp_path: Path, question: str, found: bool
) -> None:
    (tmp_path / "data.jsonl").write_text(json_lines([SAME, (question, "A heron.", "YES")]), encoding="utf-8")

    report = ingest(tmp_path / "data.jsonl")

    assert report.gap_questions_in_data == (["Which bird?"] if found else [])


def test_names_that_are_no_text_do_not_end_in_a_traceback(ingest: Any, tmp_path: Path) -> None:
    folder = tmp_path / "rounds"
    folder.mkdir()
    path = os.path.join(os.fsencode(folder), b"caf\xe9.csv")
    with open(path, "wb") as file:
        file.write(FORMS["comma"])
    assert ingest(folder).kept == 2
    with open(path, "w", encoding="utf-8") as file:
        file.write('{"\\ud800": 1, "' + "x" * 5000 + '": 2}\n')
    found = problems_of(check_data, str(folder), DataOptions(unjudged="keep"))
    assert [problem.what for problem in found] == [f"column '{name}' is missing" for name in NAMES[:2]]
    assert len("".join(map(str, found)).encode()) < 2000
