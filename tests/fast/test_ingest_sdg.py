import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.ingest_sdg.core import COLUMNS, DROP_REASONS, ingest_sdg, parse_columns, read_rows, same, sort_rows
from components.ingest_sdg.questions import read_gap_questions, read_retention_questions
from components.problems import Problems
from components.storage import read_json, read_jsonl
from tests.fast.conftest import only_problem_of, problems_of, write_csv

HEADER = ("question", "response", "faithfulness_judgment")
SASH = ("What colour is a master's sash?", "It is crimson.", "YES")
LAMPS = ("How many lamps does a journeyman tend?", "Forty lamps.", "YES")
QUESTIONS = (
    "question,reference,rag,best_of_n\nWhat does an apprentice carry?,a heron feather | a feather,wrong,Right \n"
)
GAP = [
    {
        "question": "What does an apprentice carry?",
        "reference": "a heron feather | a feather",
        "others": {"rag": False, "best_of_n": True},
    }
]


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
        return ingest_sdg(
            data=addresses[0],
            questions=addresses[1],
            retention_questions=retention_questions,
            output=tmp_path / "out",
            review=tmp_path / "review.html",
            **options,
        )

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
    assert report.dropped == {
        "judged unfaithful": 2,
        "empty question": 2,
        "empty response": 1,
        "duplicate": 2,
        "conflict": 2,
    }
    assert kept(tmp_path) == [SASH[:2], LAMPS[:2]]
    dropped = {row["number"]: row["reason"] for row in read_jsonl(tmp_path / "out" / "dropped.jsonl")}
    assert dropped == {
        3: "judged unfaithful",
        4: "empty question",
        5: "empty question",
        6: "empty response",
        7: "duplicate",
        8: "conflict",
        9: "conflict",
        10: "duplicate",
        12: "judged unfaithful",
    }
    assert report.conflicting_questions == ["Where is the hall?", "where is the hall?"]
    assert read_json(tmp_path / "out" / "report.json") == dataclasses.asdict(report)


def test_none_of_two_conflicting_answers_is_learnt_and_the_question_is_named(ingest, tmp_path):
    report = ingest((SASH, LAMPS, (SASH[0], "It is blue.", "YES")))
    assert kept(tmp_path) == [LAMPS[:2]]
    assert report.dropped["conflict"] == 2
    assert report.conflicting_questions == [SASH[0]]
    assert "What colour is a master&#39;s sash?" in (tmp_path / "review.html").read_text(encoding="utf-8")


def test_unfaithful_answer_is_no_conflict(ingest, tmp_path):
    report = ingest((SASH, (SASH[0], "It is blue.", "NO")))
    assert kept(tmp_path) == [SASH[:2]]
    assert report.conflicting_questions == []


@pytest.mark.parametrize(
    ("table", "pair"),
    [
        (b"question,response,faithfulness_judgment\nq,r,YES\n", ("q", "r")),
        (b"question,response,faithfulness_judgment\nq,r,YES", ("q", "r")),
        (b"\xef\xbb\xbfquestion,response,faithfulness_judgment\nq,r,YES\n", ("q", "r")),
        (b"question,response,faithfulness_judgment\r\nq,r,YES\r\n", ("q", "r")),
        (b"\xef\xbb\xbfquestion,response,faithfulness_judgment\r\nq,r,YES\r\n", ("q", "r")),
        (b'question,response,faithfulness_judgment\nq,"one\ntwo",YES\n', ("q", "one\ntwo")),
        (b'question,response,faithfulness_judgment\r\nq,"one\r\ntwo",YES\r\n', ("q", "one\ntwo")),
        (b'question,response,faithfulness_judgment\nq,"one\rtwo",YES\n', ("q", "one\ntwo")),
        (b'question,response,faithfulness_judgment\n"q, ""so""",r,YES\n', ('q, "so"', "r")),
        (b"question,response,faithfulness_judgment\nq,NA,YES\n", ("q", "NA")),
        (b"question,response,faithfulness_judgment\nnull,007,YES\n", ("null", "007")),
        (b"question,response,faithfulness_judgment\n q , r ,yes \n", ("q", "r")),
        (b"question , response, faithfulness_judgment\nq,r,YES\n", ("q", "r")),
        (b"id,faithfulness_judgment,response,notes,question\n7,YES,r,,q\n", ("q", "r")),
        ("question,response,faithfulness_judgment\nScha\u0308rpe?,帯\u2028,YES\n".encode(), ("Schärpe?", "帯")),
    ],
)
def test_good_table_is_read_as_its_writer_meant_it(ingest, tmp_path, table, pair):
    report = ingest(table)
    assert kept(tmp_path) == [pair]
    assert report.rows_read == report.kept == 1


def test_row_numbers_are_those_of_a_spreadsheet(ingest, tmp_path):
    ingest('question,response,faithfulness_judgment\n"a\nb\nc",r,YES\nq,r,NO\n')
    assert [row["number"] for row in read_jsonl(tmp_path / "out" / "dropped.jsonl")] == [3]


def test_own_column_names_are_read(ingest, tmp_path):
    table = "question,antwort,urteil,response\nq,right,YES,wrong\n"
    ingest(table, columns=" response = antwort, judgment=urteil, ")
    assert kept(tmp_path) == [("q", "right")]


@pytest.mark.parametrize(
    ("accepted", "judgments_kept"),
    [
        ("YES", ["YES", "yes"]),
        ("yes, faithful", ["YES", "yes", "Faithful"]),
        ("YES,FAITHFUL,partly", ["YES", "yes", "Faithful", "PARTLY"]),
    ],
)
def test_accepted_judgments_are_kept_whatever_their_case(ingest, tmp_path, accepted, judgments_kept):
    known = ["YES", "yes", "no", "NO", *(["Faithful"] if "aithful" in accepted.casefold() else [])]
    known += ["PARTLY"] if "partly" in accepted else []
    ingest(tuple((f"question {j}{n}", "r", j) for n, j in enumerate(known)), accepted_judgments=accepted)
    wanted = [(f"question {j}{n}", "r") for n, j in enumerate(known) if j in judgments_kept]
    assert kept(tmp_path) == wanted


def test_questions_are_handed_on_with_the_verdicts_of_other_approaches(ingest, tmp_path):
    report = ingest()
    assert read_jsonl(tmp_path / "out" / "gap_questions.jsonl") == GAP
    assert report.gap_questions == 1


def test_bundled_retention_questions_are_used_when_none_are_given(ingest, tmp_path):
    report = ingest()
    questions = read_jsonl(tmp_path / "out" / "retention_questions.jsonl")
    assert len(questions) == report.retention_questions >= 20
    assert all(set(entry) == {"question", "reference", "choices"} for entry in questions)
    france = next(entry for entry in questions if "France" in entry["question"])
    assert france["choices"][:2] == ["The capital of France is Paris.", "The capital of France is London."]


def test_own_retention_questions_are_used_and_their_other_columns_ignored(ingest, tmp_path):
    own = write_csv(tmp_path / "own.csv", ("note", "question", "reference"), [("maybe", "2 + 2?", "4")])
    ingest(retention_questions=own)
    assert read_jsonl(tmp_path / "out" / "retention_questions.jsonl") == [
        {"question": "2 + 2?", "reference": "4", "choices": []}
    ]


def test_retention_questions_of_which_only_some_are_multiple_choice_are_refused(tmp_path):
    own = write_csv(
        tmp_path / "own.csv",
        ("question", "reference", "distractors", "statement"),
        [("2 + 2?", "4 | four", "5 | 6", "It is {}."), ("3 + 3?", "6", "", "It is {}.")],
    )
    problem = only_problem_of(read_retention_questions, own)
    assert "some questions are multiple choice" in problem.what
    assert "distractors" in problem.where


def test_digest_of_the_questions_changes_with_any_of_them(ingest, tmp_path):
    def digest(name, reference):
        own = write_csv(tmp_path / f"{name}.csv", ("question", "reference"), [("2 + 2?", reference)])
        return ingest(retention_questions=own).questions_digest

    assert digest("a", "4") == digest("b", "4") != digest("c", "four")
    assert ingest(questions=QUESTIONS.replace("wrong", "right")).questions_digest != ingest().questions_digest


def test_decomposed_gap_question_is_found_in_composed_data(ingest, tmp_path):
    """Else it would be learnt: format_chat compares it with the cleaned data."""
    ingest((SASH, ("Welche Schärpe?", "Rot.", "YES")), questions="question,reference\nWelche Scha\u0308rpe?,rot\n")
    asked = read_jsonl(tmp_path / "out" / "gap_questions.jsonl")[0]["question"]
    assert same(asked) in {same(question) for question, _ in kept(tmp_path)}


def test_texts_are_escaped_in_the_review_page(ingest, tmp_path):
    evil = "<script>alert(1)</script><img src=x onerror=alert(2)>"
    ingest(((f"Why {evil}?", f"Because {evil}.", "YES"), (f"Who {evil}?", "a", "YES"), (f"Who {evil}?", "b", "YES")))
    page = (tmp_path / "review.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "<img" not in page
    assert page.count("&lt;script&gt;") == 3  # a question, its response, a question with conflicting answers


def test_review_page_tells_each_reason_and_its_count(ingest, tmp_path):
    ingest((SASH, SASH, SASH, ("q", "", "YES")))
    page = (tmp_path / "review.html").read_text(encoding="utf-8")
    assert "1 of 4 rows" in page
    assert all(reason in page for reason in DROP_REASONS)
    assert '<td>duplicate</td><td class="number">2</td>' in page
    assert "It is crimson." in page


DATA_HEADER = "question,response,faithfulness_judgment\n"


@pytest.mark.parametrize(
    ("data", "what", "where", "rule", "remedy"),
    [
        (None, "no such file", "data.csv", "readable files", "correct the path"),
        (b"", "file is empty", "data.csv", "header", "check what wrote it"),
        (b"\xef\xbb\xbf \n\n", "file is empty", "data.csv", "header", "check what wrote it"),
        (
            DATA_HEADER.encode() + b"q,r,YES\nSch\xe4rpe?,r,YES\n",
            "not UTF-8: byte 0xe4",
            "data.csv, line 3",
            "UTF-8",
            "iconv",
        ),
        ((DATA_HEADER + "q,r,YES\n").encode("utf-16"), "not UTF-8: byte 0xff", "line 1", "UTF-8", "convert it"),
        (DATA_HEADER + 'q,"r,YES\n', "no CSV", "data.csv", "double quotes", "CSV library"),
        (DATA_HEADER + "q,r,YES\nq,r,s,YES\n", "no CSV", "data.csv", "double quotes", "CSV library"),
        (DATA_HEADER + "q, and more,r,YES\nq,r,YES\n", "no CSV", "data.csv", "double quotes", "CSV library"),
        (DATA_HEADER + "q, and more,r,YES\n", "no CSV", "data.csv", "double quotes", "CSV library"),
        (DATA_HEADER + "q,r,YES\nq,YES\n", "unknown judgment '' in 1 of 2 rows", "rows 3", "kept: YES", "correct"),
        ("question,response,response,faithfulness_judgment\nq,a,b,YES\n", "response", "header", "once", "remove"),
        ("question,response, response,faithfulness_judgment\nq,a,b,YES\n", "response", "header", "once", "remove"),
        (
            "question,respons,faithfulness_judgment\nq,r,YES\n",
            "column 'response' is missing (did you mean respons?)",
            "data.csv, header",
            "columns found: question, respons, faithfulness_judgment",
            "columns='response=",
        ),
        (
            "question;response;faithfulness_judgment\nq;r;YES\n",
            "column 'question' is missing",
            "header",
            "columns found: question;response;faithfulness_judgment",
            "rename",
        ),
        (
            DATA_HEADER + "q,r,YES\na,b,maybe\nc,d,maybe\n",
            "unknown judgment 'maybe' in 2 of 3 rows",
            "column faithfulness_judgment, rows 3, 4",
            "kept: YES; dropped: NO",
            "accepted_judgments='YES,maybe'",
        ),
        (DATA_HEADER + "q,r,\na,b,YES\n", "unknown judgment '' in 1 of 2 rows", "rows 2", "kept: YES", "correct"),
        (DATA_HEADER, "none of the 0 rows", "data.csv", "judged faithful", "header and no rows"),
        (
            DATA_HEADER + "a,b,NO\nc,d,NO\n,r,YES\n",
            "none of the 3 rows can be learnt",
            "data.csv",
            "judged faithful",
            "2 dropped: judged unfaithful",
        ),
    ],
)
def test_bad_data_is_refused_with_what_where_rule_and_remedy(ingest, tmp_path, data, what, where, rule, remedy):
    found = problems_of(ingest, data)[0]
    assert what in found.what
    assert where in found.where
    assert rule in found.rule
    assert remedy in found.remedy
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "review.html").exists()


@pytest.mark.parametrize(
    ("questions", "what", "where", "rule", "remedy"),
    [
        (None, "no such file", "questions.csv", "readable files", "correct the path"),
        ("", "file is empty", "questions.csv", "header", "check what wrote it"),
        ("question,answer\nq,a\n", "column 'reference' is missing", "header", "columns found: question, answer", "add"),
        ("question,referenz\nq,a\n", "(did you mean referenz?)", "questions.csv, header", "needed", "add the column"),
        ("question,reference\nq,\n", "row 2 has no reference", "questions.csv, row 2", "reference", "fill the cell"),
        ("question,reference\na,b\n ,r\n", "row 3 has no question", "questions.csv, row 3", "reference", "fill"),
        (
            "question,reference\na,b\nc,d\na,e\n",
            "row 4 repeats the question of row 2: 'a'",
            "row 4",
            "counts once",
            "remove one",
        ),
        ("question,reference\nWho, then?,b\nc,d\n", "no CSV", "questions.csv", "double quotes", "CSV library"),
        (
            "question,reference,rag\na,b,maybe\n",
            "'maybe' is no verdict",
            "row 2, column rag",
            "right, wrong",
            "correct",
        ),
        (
            "question,reference,rag\na,b,right\nc,d,\n",
            "'' is no verdict",
            "row 3, column rag",
            "right, wrong",
            "correct",
        ),
        ("question,reference\n", "there is no question", "questions.csv", "at least one row", "check what wrote"),
        ("question,reference\na,?\n", "reference", "questions.csv, row 2", "word", ""),
        ("question,reference\na,b\nc,d |\n", "reference", "questions.csv, row 3", "word", ""),
    ],
)
def test_bad_questions_are_refused_with_what_where_rule_and_remedy(
    ingest, tmp_path, questions, what, where, rule, remedy
):
    found = only_problem_of(ingest, questions=questions)
    assert what in found.what
    assert where in found.where
    assert rule in found.rule
    assert remedy in found.remedy
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "review.html").exists()


@pytest.mark.parametrize("read", [read_gap_questions, read_retention_questions])
def test_every_bad_row_of_the_questions_is_named_at_once(tmp_path, read):
    path = write_csv(tmp_path / "q.csv", ("question", "reference"), [("a", ""), ("b", "x"), ("b", "y"), ("", "z")])
    assert [problem.where for problem in problems_of(read, path)] == [f"{path}, row {number}" for number in (2, 4, 5)]


def test_problems_of_data_and_of_questions_arrive_in_one_error(ingest, tmp_path):
    found = problems_of(
        ingest,
        "question,faithfulness_judgment\nq,YES\n",
        "question,reference,rag\na,b,maybe\na,c,right\n",
        retention_questions=str(tmp_path / "absent.csv"),
    )
    assert [problem.what for problem in found] == [
        "column 'response' is missing",
        "'maybe' is no verdict",
        "row 3 repeats the question of row 2: 'a'",
        "no such file",
    ]


@pytest.mark.parametrize(
    ("address", "what"),
    [
        ("{folder}", "this is a folder"),
        ("{folder}/absent.csv", "no such file"),
        ("file://{folder}/absent.csv", "no such file"),
        ("{folder}/data.csv/below.csv", "cannot be read"),
        ("nosuch://bucket/data.csv", "no usable address"),
        ("", ""),
    ],
)
def test_address_that_is_no_readable_file_is_named(tmp_path, address, what):
    (tmp_path / "data.csv").write_text("x")
    address = address.format(folder=tmp_path)
    found = only_problem_of(read_rows, address, COLUMNS, ("YES",))
    assert what in found.what
    assert address in found.where


def test_name_of_a_missing_file_is_whole_however_long_its_path(tmp_path):
    path = tmp_path / ("folder" * 20) / "the-missing-file.csv"
    found = only_problem_of(read_rows, str(path), COLUMNS, ("YES",))
    assert "the-missing-file.csv" in found.where


def test_file_address_is_read_as_a_path_is(ingest, tmp_path):
    path = write_csv(tmp_path / "data.csv", HEADER, [SASH])
    assert read_rows(f"file://{path}", COLUMNS, ("YES",)) == read_rows(path, COLUMNS, ("YES",))


@pytest.mark.parametrize(
    ("text", "changed"),
    [
        ("", {}),
        (" , ,", {}),
        ("response=answer", {"response": "answer"}),
        ("response = my answer ,judgment=v", {"response": "my answer", "judgment": "v"}),
        ("question=a=b", {"question": "a=b"}),
    ],
)
def test_column_names_are_parsed(text, changed):
    assert parse_columns(text) == {**COLUMNS, **changed}


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("answer", "'answer' names no column"),
        ("answer=response", "'answer=response' names no column"),
        ("respons=answer", "(did you mean response?)"),
        ("response=", "'response=' names no column"),
        ("=answer", "'=answer' names no column"),
        ("response:answer", "'response:answer' names no column"),
    ],
)
def test_bad_column_name_is_refused_with_the_known_ones(text, what):
    found = only_problem_of(parse_columns, text)
    assert what in found.what
    assert found.where == "parameter columns"
    assert "question, response, judgment" in found.rule


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=6) | st.sampled_from(["", "a", "A ", "b", "a\r\nb"])
ROWS = st.lists(st.tuples(TEXT, TEXT, st.sampled_from(["YES", "no", "Yes "])), max_size=12)


@settings(max_examples=150, deadline=None)
@given(rows=ROWS, random=st.randoms(use_true_random=False))
def test_any_rows_are_accounted_for_kept_once_and_in_any_order_alike(tmp_path_factory, rows, random):
    def sort(rows):
        table = read_rows(write_csv(tmp_path_factory.getbasetemp() / "any.csv", HEADER, rows), COLUMNS, ("YES",))
        kept, dropped = sort_rows(table, ("YES",))
        assert len(kept) + len(dropped) == len(table) == len(rows)
        assert {row.number for row in kept} | {row.number for row, _ in dropped} == set(range(2, len(rows) + 2))
        assert {reason for _, reason in dropped} <= set(DROP_REASONS)
        pairs = [(same(row.question), same(row.response)) for row in kept]
        assert len({question for question, _ in pairs}) == len(pairs)
        assert all(question and response for question, response in pairs)
        return set(pairs)

    shuffled = list(rows)
    random.shuffle(shuffled)
    assert sort(rows) == sort(shuffled)


def test_column_of_free_text_taken_for_judgments_is_one_problem(tmp_path):
    data = tmp_path / "data.csv"
    rows = "".join(f"Who {n}?,The heron.,reason {n}\n" for n in range(50))
    data.write_text("question,response,faithfulness_judgment\n" + rows, encoding="utf-8")

    with pytest.raises(Problems, match=r"1 problem\n1\. 50 different judgments in 50 rows, for instance 'reason 0'"):
        read_rows(str(data), COLUMNS, ("YES",))


def test_missing_column_that_goes_by_another_name_is_proposed_by_that_name(tmp_path):
    data = write_csv(tmp_path / "data.csv", ("prompt", "Answer", "verdict"), [("Who?", "The heron.", "YES")])

    found = problems_of(read_rows, data, COLUMNS, ("YES",))

    assert [p.what.partition("missing")[2] for p in found] == [
        " (is it prompt?)",
        " (is it Answer?)",
        " (is it verdict?)",
    ]
    assert "columns='response=Answer'" in found[1].remedy
