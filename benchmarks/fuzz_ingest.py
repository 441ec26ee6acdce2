"""Coverage-guided fuzzing of how data is read: no input may give anything but rows or a problem that a user can solve.

    python -m pip install atheris          # not among the project's requirements
    python -m benchmarks.fuzz_ingest WORK_FOLDER [SECONDS | columnar]

WORK_FOLDER keeps the corpus and what was found (crash-*, timeout-*, oom-*). Bounds: 10 seconds and 1 GiB for an input.
Parquet and Arrow files are read by C++ without coverage; with `columnar` instead of SECONDS, COLUMNAR_FILES of each are
mutated blindly.
"""

import contextlib
import gzip
import io
import json
import random
import sys
import tempfile
import time
from pathlib import Path

with contextlib.suppress(ImportError):
    import atheris

    with atheris.instrument_imports(include=["components", "csv", "json", "gzip", "codecs"]):
        from components.data import tables
        from components.data.questions import read_gap_questions, read_retention_questions
        from components.ingest_sdg.core import check_data, ingest_sdg
        from components.run.data_options import DataOptions
        from components.shared.problems import Problems

COLUMNAR_FILES = 2000
NAMES = ("question", "response", "faithfulness_judgment")
QUESTIONS = b"question,reference\nWho?,heron\n"
QUESTION_NAMES = {"prompt": "question", "answer": "reference", "category": "subject", "rag": "approach"}
OPTIONS = {"unjudged": "keep", "near_duplicates": 0.5, "held_out_share": 0.5}
SEEDS = (
    b"question,response,faithfulness_judgment\nWho?,The heron.,YES\nWhat?,A sash.,NO\n",
    b'\xef\xbb\xbfquestion;response;faithfulness_judgment\r\n"Who; ""so""?";"two\r\nlines";YES\r\n',
    b'question\tresponse\tfaithfulness_judgment\na\t"unclosed\tYES\n',
    "question,response,faithfulness_judgment\nSchärpe?,風,YES\n".encode("utf-16"),
    b'{"question": "Who?", "response": "A.", "faithfulness_judgment": "YES", "more": {"a": [1]}}\n{"question": 1}\n',
    b'{"question": "\\ud83d", "response": NaN, "faithfulness_judgment": true}\n[1]\n{"a": 1e999}\n' + b'{"a":' * 3000,
    b"question,reference,rag\nWho?,heron | a heron,right\n",
    b'{"question": "Who?", "reference": 40, "rag": true}\n',
    b"question,response\nq,\xff\xfe\n",
    b"question,question\na,b\n" + b"a," * 500,
    b"sep=;\nquestion;response;;\nWhen?;Now.;;\nWhen;Not now.;;\nWhen, then?;Not now.;;\n",
    b'[{"question": "Who?"}]',
    b'{"question": "\\u200b", "response": "\\u0000", "question ": 1}\n',
    b"PK\x03\x04",
    b"PAR1PAR1",
    b'question,response,faithfulness_judgment\nWho?,A,It is so. YES\nWhat?,B,"Judgment: NO\nIt is not."\nHow?,C,1.0\n',
    b'{"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "Who?"}, '
    b'{"role": "assistant", "content": "A."}], "faithfulness_judgment": "[NO]"}\n{"messages": []}\n',
    b'messages\n"[{""role"": ""user"", ""content"": ""a""}, {""role"": ""assistant"", ""content"": ""\\ud83d""}]"\n',
    b"Unnamed: 0,prompt,answer,category,rag,needs_review\n0,Who?,heron,birds,yes,0\n1,What?,40 | forty,,0,True\n",
    b"question,reference,distractors,statement,subject\nHow many?,8 | eight,6 | 7,It is {}.,biology\nB?,c,d,,\n",
    b'{"question": "Who?", "reference": "a", "tags": [{"b": [1]}], "distractors": "b", "statement": "It is {}."}\n',
    b"\xff\xff\xff\xff\xf0\x02\x00\x00",
)
TOKENS = (
    "question",
    "response",
    "faithfulness_judgment",
    "reference",
    "messages",
    "role",
    "content",
    "assistant",
    "distractors",
    "statement",
    "approach",
    "right",
    "YES",
    "\\x22\\x22",
    "\\x0d\\x0a",
    "\\x00",
    "sep=",
    "not",
    "NaN",
)


def try_file(content: bytes) -> None:
    """Read a file's content in every way that the step does."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        file, questions = Path(folder) / "data", Path(folder) / "questions.csv"
        file.write_bytes(content)
        questions.write_bytes(QUESTIONS)
        for read in (
            lambda: check_data(str(file), DataOptions(unjudged="keep", columns="question=a, response=b")),
            lambda: read_gap_questions(str(file)),
            lambda: read_gap_questions(str(file), QUESTION_NAMES),
            lambda: read_retention_questions(str(file)),
            lambda: read_retention_questions(str(file), QUESTION_NAMES),
            lambda: tables.read_table(str(file)),
            lambda: ingest_sdg(
                data=str(file),
                questions=str(questions),
                retention_questions=str(questions),
                output=Path(folder) / "out",
                review=Path(folder) / "review.html",
                options=OPTIONS,
            ),
        ):
            with contextlib.suppress(Problems), contextlib.redirect_stdout(None):
                read()


def test_one_input(content: bytes) -> None:
    """The first byte says whether the rest is packed, and whether that is cut off."""
    how, rest = content[:1], content[1:]
    packed = gzip.compress(rest, 1) if how in (b"g", b"c") else rest
    try_file(packed[: len(packed) * 2 // 3] if how == b"c" else packed)


def try_columnar(kind: str, seed: int) -> int:
    """Mutate good files of a kind in many ways; gives how many were still read as one."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    choice = random.Random(seed)  # noqa: S311 - mutations
    columns = {name: [f"{name} {row}" for row in range(50)] for name in NAMES}
    columns["messages"] = [[{"role": role, "content": f"{row}"} for role in ("user", "assistant")] for row in range(50)]
    table = pa.table(columns)
    read = 0
    for number in range(COLUMNAR_FILES):
        whole = io.BytesIO()
        if kind == "parquet":
            pq.write_table(table, whole, compression=choice.choice(["none", "snappy", "zstd", "gzip"]))
        else:
            options = pa.ipc.IpcWriteOptions(compression=choice.choice([None, "lz4", "zstd"]))
            with choice.choice([pa.ipc.new_stream, pa.ipc.new_file])(whole, table.schema, options=options) as stream:
                stream.write_table(table)
        content = bytearray(whole.getvalue())
        if number % 3 == 0:
            del content[choice.randrange(4, len(content)) :]
        for _ in range(choice.choice([1, 1, 2, 8, 64])):
            if len(content) > 8:
                content[choice.randrange(4, len(content))] = choice.randrange(256)
        with tempfile.NamedTemporaryFile() as file:
            file.write(content)
            file.flush()
            with contextlib.suppress(Problems):
                opened = tables.open_table(Path(file.name), "hostile")
                list(opened.rows([*NAMES, "messages"], NAMES))
                read += 1
    return read


def main() -> None:
    work, asked = Path(sys.argv[1]), (sys.argv[2:] or ["660"])[0]
    if asked == "columnar":
        for kind in ("parquet", "arrow"):
            started, read = time.monotonic(), try_columnar(kind, 0)
            found = {"kind": kind, "files": COLUMNAR_FILES, "read": read, "seconds": time.monotonic() - started}
            print(json.dumps(found), flush=True)
        return
    corpus = work / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(SEEDS):
        for how in (b"p", b"g", b"c"):
            (corpus / f"seed-{number}-{how.decode()}").write_bytes(how + seed)
    (work / "tokens").write_text("".join(f'"{token}"\n' for token in TOKENS), encoding="utf-8")
    bounds = [f"-max_total_time={asked}", "-timeout=10", "-rss_limit_mb=1024", "-max_len=20000"]
    places = [f"-dict={work / 'tokens'}", f"-artifact_prefix={work}/", str(corpus)]
    atheris.Setup([sys.argv[0], *bounds, *places], test_one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
