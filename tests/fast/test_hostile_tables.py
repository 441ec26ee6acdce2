"""Files that would take all memory, or end the process that reads them."""

import math
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.ingest_sdg.core import check_data
from components.run.data_options import DataOptions
from tests.fast.conftest import NAMES, only_problem_of


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
    "half an Arrow stream": (lambda: arrow_bytes()[:-40], "the Arrow file cannot be read"),
    "an Arrow stream with strings from elsewhere": (
        lambda: arrow_bytes().replace(b"\2\0\0\0\3\0\0\0", b"\2\0\0\0\3\0\0\x7f"),
        "the Arrow file cannot be read",
    ),
    "an Arrow stream of nothing": (lambda: b"\xff" * 8 + b"\0" * 100, "the Arrow file cannot be read"),
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


def zeros(start: bytes, filling: bytes) -> bytes:
    """100 MB of the same, packed to 100 kB."""
    packer = zlib.compressobj(wbits=31)
    return packer.compress(start + filling * (100_000_000 // len(filling))) + packer.flush()


def arrow_bytes() -> bytes:
    sink = pa.BufferOutputStream()
    rows = pa.table({name: ["a", "b"] * 100 for name in NAMES})
    with pa.ipc.new_stream(sink, rows.schema) as stream:
        stream.write_table(rows)
    return bytes(sink.getvalue())


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
            "the column 'question' is there more than once",
        ),
    ],
)
def test_parquet_column_that_holds_no_texts_is_named(tmp_path: Path, table: dict[str, Any], what: str) -> None:
    pq.write_table(pa.table(table), tmp_path / "data")

    assert what in only_problem_of(check_data, str(tmp_path / "data"), DataOptions()).what
