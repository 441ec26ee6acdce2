import csv
import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.data.questions import read_gap_questions, read_retention_questions
from components.data.tables import clean
from components.ingest_sdg.core import check_data
from components.ingest_sdg.report import DROP_REASONS
from components.ingest_sdg.selection import DUPLICATE, HELD_OUT, KEPT, NEAR_DUPLICATE, RowIndex, same
from components.ingest_sdg.similar import similarity
from components.run.data_options import DataOptions
from components.shared.storage import read_json, read_jsonl
from tests.fast.conftest import ingest as ingest_files
from tests.fast.conftest import only_problem_of, problems_of, write_csv
from tests.tables import table

HEADER = ("question", "response", "faithfulness_judgment")
SASH = ("What colour is a master's sash?", "It is crimson.", "YES")
LAMPS = ("How many lamps does a journeyman tend?", "Forty lamps.", "YES")
QUESTIONS = "question,reference,rag,best_of_n\nWhat does an apprentice carry?,a feather | a quill,wrong,Right \n"
GAP = {"question": "What does an apprentice carry?", "reference": "a feather | a quill", "subject": ""}


@pytest.fixture
def ingest(tmp_path):
    """Runs the step on a table's text or rows; the questions are good unless others are given."""

    def run(data=(SASH, LAMPS), questions=QUESTIONS, retention_questions="", **options):
        addresses = []
        for name, content in (("data.csv", data), ("questions.csv", questions)):
            path = tmp_path / name
            if isinstance(content, tuple):
                write_csv(path, HEADER, content)
            elif content is not None:
                path.write_bytes(content if isinstance(content, bytes) else content.encode())
            addresses.append(str(path))
        return ingest_files(tmp_path, *addresses, retention_questions, **options)

    return run


def kept(tmp_path):
    return [(row["question"], row["response"]) for row in read_jsonl(tmp_path / "out" / "records.jsonl")]


def test_every_row_is_kept_or_dropped_with_its_reason(ingest, tmp_path):
    rows = (
        SASH,
        ("Who winds the great clock?", "The master.", "NO"),
        ("", "An answer.", "YES"),
        (" \n", "An answer.", "YES"),
        ("Who opens the gate?", "  ", "YES"),
        ("what COLOUR is  a master's sash? ", "it is crimson. ", "yes"),
        ("Where is the hall?", "North.", "YES"),
        ("where is the hall?", "South.", "YES"),
        ("Where is the hall?", "North.", "YES"),
        LAMPS,
        (LAMPS[0], "Fifty lamps.", "NO"),
    )
    report = ingest(rows)
    assert report.rows_read == len(rows) == report.kept + sum(report.dropped.values())
    assert kept(tmp_path) == [SASH[:2], LAMPS[:2]]
    dropped = {row["line"]: row["reason"] for row in read_jsonl(tmp_path / "out" / "dropped.jsonl")}
    assert dropped == {
        3: "judged unfaithful", 4: "empty question", 5: "empty question", 7: "empty response", 8: "duplicate",
        9: "conflict", 10: "conflict", 11: "duplicate", 13: "judged unfaithful",
    }  # fmt: skip
    assert report.dropped == {reason: [*dropped.values()].count(reason) for reason in DROP_REASONS}
    assert report.conflicts == 1
    assert [question.casefold() for question in report.conflicting_questions] == ["where is the hall?"]
    assert read_json(tmp_path / "out" / "report.json") == dataclasses.asdict(report)


@pytest.mark.parametrize(("text", "pair"), table("ingest_sdg", "good"))
def test_good_table_is_read_as_its_writer_meant_it(ingest, tmp_path, text, pair):
    report = ingest(text)
    assert kept(tmp_path) == [tuple(pair)]
    assert report.rows_read == report.kept == 1


def test_row_is_named_by_the_line_that_it_begins_in(ingest, tmp_path):
    ingest('question,response,faithfulness_judgment\n"a\nb\r\nc",r,YES\n\nq,"r\ns",NO\n')
    assert [row["line"] for row in read_jsonl(tmp_path / "out" / "records.jsonl")] == [2]
    assert [row["line"] for row in read_jsonl(tmp_path / "out" / "dropped.jsonl")] == [6]


def test_own_column_names_are_read(ingest, tmp_path):
    table = "question,antwort,urteil,response\nq,right,YES,wrong\n"
    ingest(table, columns=" response = antwort, judgment=urteil, ")
    assert kept(tmp_path) == [("q", "right")]


def test_questions_are_handed_on_with_the_verdicts_of_other_approaches(ingest, tmp_path):
    report = ingest()
    (found,) = read_jsonl(tmp_path / "out" / "gap_questions.jsonl")
    assert found == GAP | {"others": {"rag": False, "best_of_n": True}}
    assert report.gap_questions == 1


def test_bundled_retention_questions_are_used_when_none_are_given(ingest, tmp_path):
    report = ingest()
    questions = read_jsonl(tmp_path / "out" / "retention_questions.jsonl")
    assert questions == read_retention_questions("")
    assert len(questions) == report.retention_questions >= 300
    assert all(set(entry) == {"question", "reference", "choices", "subject"} for entry in questions)
    france = next(entry for entry in questions if "France" in entry["question"])
    assert france["choices"][:2] == ["The capital of France is Paris.", "The capital of France is London."]


def test_own_retention_questions_are_used(ingest, tmp_path):
    own = write_csv(tmp_path / "own.csv", ("subject", "question", "reference"), [(" sums", "2 + 2?", "4")])
    report = ingest(retention_questions=own)
    assert report.retention_questions == 1
    assert read_jsonl(tmp_path / "out" / "retention_questions.jsonl") == [
        {"question": "2 + 2?", "reference": "4", "choices": [], "subject": "sums"}
    ]


def test_digest_of_the_questions_changes_with_any_of_them(ingest, tmp_path):
    def digest(name, reference):
        own = write_csv(tmp_path / f"{name}.csv", ("question", "reference"), [("2 + 2?", reference)])
        return ingest(retention_questions=own).questions_digest

    assert digest("a", "4") == digest("b", "4") != digest("c", "four")
    assert ingest(questions=QUESTIONS.replace("wrong", "right")).questions_digest != ingest().questions_digest


def test_decomposed_gap_question_is_found_in_composed_data(ingest, tmp_path):
    table = "question,reference\nWelche Scha\u0308rpe?,rot\n"
    report = ingest((SASH, ("Welche Schärpe?", "Rot.", "YES")), questions=table)
    assert report.gap_questions_in_data == ["Welche Schärpe?"]
    assert kept(tmp_path) == [SASH[:2]]


def test_texts_are_escaped_in_the_review_page(ingest, tmp_path):
    evil = "<script>alert(1)</script><img src=x onerror=alert(2)>"
    ingest(((f"Why {evil}?", f"Because {evil}.", "YES"), (f"Who {evil}?", "a", "YES"), (f"Who {evil}?", "b", "YES")))
    page = (tmp_path / "review.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "<img" not in page
    assert page.count("&lt;script&gt;") == 3  # a question, its response, a question with conflicting answers


GOOD_ROW = "question,response,faithfulness_judgment\nq,r,YES\n"
BAD_DATA = [
    *table("ingest_sdg", "bad_data"),
    (GOOD_ROW.encode() + b"Sch\xe4rpe?,r,YES\n", "not UTF-8: byte 0xe4", "data.csv, line 3"),
    (GOOD_ROW.encode("utf-16-le"), "NUL character", "line 1"),
]
BAD_QUESTIONS = table("ingest_sdg", "bad_questions")


@pytest.mark.parametrize(
    ("data", "questions", "what", "where"),
    [*((data, QUESTIONS, *found) for data, *found in BAD_DATA), *(((SASH,), *case) for case in BAD_QUESTIONS)],
)
def test_bad_input_is_named_with_its_place_and_nothing_is_made(ingest, tmp_path, data, questions, what, where):
    found = problems_of(ingest, data, questions)[0]
    assert what in found.what
    assert where in found.where
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "review.html").exists()


def test_problems_of_data_and_of_questions_arrive_in_one_error(ingest, tmp_path):
    found = problems_of(
        ingest,
        "question,faithfulness_judgment\nq,YES\n",
        "question,reference,rag\na,b,right\na,c,maybe\n",
        retention_questions=str(tmp_path / "absent.csv"),
    )
    assert [problem.what for problem in found] == [
        "column 'response' is missing",
        "row 3 repeats the question of row 2: 'a'",
        "'maybe' is no verdict",
        "no such file",
    ]


@pytest.mark.parametrize(("address", "what"), table("ingest_sdg", "addresses"))
@pytest.mark.parametrize("read", [read_gap_questions, lambda address: check_data(address, DataOptions())])
def test_address_that_is_no_readable_file_is_named(tmp_path, address, what, read):
    (tmp_path / "data.csv").write_text("x")
    address = address.format(folder=tmp_path)
    found = only_problem_of(read, address)
    assert what in found.what
    assert address in found.where


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=6) | st.sampled_from(
    ["", "a", "A ", "b", "a\r\nb"]
)
ROWS = st.lists(st.tuples(TEXT, TEXT, st.sampled_from(["YES", "no", "Yes "])), max_size=12)


@settings(max_examples=15, deadline=None)
@given(rows=ROWS)
def test_any_rows_are_accounted_for_by_file_and_line(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("any")
    questions = write_csv(folder / "questions.csv", ("question", "reference"), [("b", "c")])
    data = write_csv(folder / "data.csv", HEADER, [*rows, SASH])
    report = ingest_files(folder, data, questions, questions)
    kept, dropped = (read_jsonl(folder / "out" / f"{file}.jsonl") for file in ("records", "dropped"))
    assert report.rows_read == len(rows) + 1 == report.kept + sum(report.dropped.values())
    assert report.dropped == {reason: [row["reason"] for row in dropped].count(reason) for reason in DROP_REASONS}
    assert sorted(row["line"] for row in kept + dropped) == lines_of(folder / "data.csv")
    assert all(row["question"] and row["response"] and same(row["question"]) != "b" for row in kept)


def lines_of(path):
    """Where the rows begin, as Python's csv says."""
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.reader(file)
        lines = [reader.line_num + 1 for _ in reader]
    return lines[:-1]


PAIRS = st.lists(st.tuples(TEXT.filter(str.strip), TEXT.filter(str.strip)), min_size=1, max_size=12)


@settings(max_examples=150, deadline=None)
@given(
    pairs=PAIRS,
    random=st.randoms(use_true_random=False),
    near=st.sampled_from([0.5, 0.95, 1]),
    share=st.sampled_from([0.0, 0.3]),
    conflicts=st.sampled_from(["drop", "keep"]),
)
def test_what_is_trained_on_does_not_depend_on_the_order_of_rows(pairs, random, near, share, conflicts):
    options = DataOptions(near_duplicates=near, held_out_share=share, conflicts=conflicts)

    def decide(pairs):
        rows = [(clean(question), clean(response)) for question, response in pairs]
        index = RowIndex(options, ["b"])
        for row in rows:
            index.add(*row)
        decision = index.decide(lambda number: rows[number])
        outcomes, stays = decision.rows["outcome"].tolist(), decision.rows["duplicate_of"].tolist()
        assert len(outcomes) == len(rows)
        for number, (outcome, other) in enumerate(zip(outcomes, stays, strict=True)):
            assert (outcome in (DUPLICATE, NEAR_DUPLICATE)) == (other != number)
            assert outcomes[other] not in (DUPLICATE, NEAR_DUPLICATE)
            if outcome == NEAR_DUPLICATE:
                assert similarity(*("\n".join(map(same, rows[one])) for one in (number, other))) >= near
        trained_on = {row for row, outcome in zip(rows, outcomes, strict=True) if outcome == KEPT}
        held_out = {row for row, outcome in zip(rows, outcomes, strict=True) if outcome == HELD_OUT}
        assert not {same(question) for question, _ in trained_on} & {same(question) for question, _ in held_out}
        assert len(held_out) <= share * (len(trained_on) + len(held_out))
        if conflicts == "drop":
            assert len({same(question) for question, _ in trained_on}) == len(trained_on)
        assert "b" not in {same(question) for question, _ in trained_on}
        return trained_on, held_out

    shuffled = list(pairs)
    random.shuffle(shuffled)
    assert decide(pairs) == decide(shuffled)


def test_column_of_free_text_taken_for_judgments_is_one_problem(tmp_path):
    data = tmp_path / "data.csv"
    rows = "".join(f"Who {n}?,The heron.,reason {n}\n" for n in range(50))
    data.write_text("question,response,faithfulness_judgment\n" + rows, encoding="utf-8")

    found = only_problem_of(check_data, str(data), DataOptions())
    assert found.what.startswith("more than 5 unknown judgments in 50 rows, for instance 'reason 0'")


def test_missing_column_that_goes_by_another_name_is_proposed_by_that_name(tmp_path):
    data = write_csv(tmp_path / "data.csv", ("prompt", "Answer", "verdict"), [("Who?", "The heron.", "YES")])

    found = problems_of(check_data, data, DataOptions())

    assert [p.what.partition("(is it ")[2] for p in found] == ["prompt?)", "Answer?)", "verdict?)"]
    assert "--data-option columns=response=Answer " in found[1].remedy
