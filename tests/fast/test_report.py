"""The report of an evaluation whose texts are as hostile as texts can be."""

import dataclasses
import html
import io
import json
import re
import unicodedata
from html.parser import HTMLParser
from itertools import cycle, pairwise
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token
from rich.console import Console

from components.evaluate import report
from components.evaluate.report import few_words, verdict
from components.evaluate.statistics import compare
from components.run.evaluation import Evaluation, Summary
from components.run.findings import ChoiceResult, Gate, HeldOut, Match, MatrixAudit, Score
from pipeline.cli import terminal
from tests import run_records
from tests.run_records import as_written, evaluation, result

LONG = "x" * 5000
HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "{{7*7}} {% include 'page' %}",
    "bell\a, \x1b[31mred\x1b[0m, nul\x00, delete\x7f, next\x85line",
    "right \u202eto left\u202c, \u2066isolated\u2069, \u200fmarked\u200e, \ufeffheaded",
    '=HYPERLINK("http://x")',
    "| a | b |",
    "[x](javascript:alert(1)) ![y](http://x/y.png) <http://x> www.x.example http://x",
    "**bold** _soft_ `code` ~~gone~~ $x$ # head \\| \\",
    "</bdi></details></td></table><iframe src=//x></iframe>",
    "&lt;b&gt; &#60;b&#62; &amp;",
    "<!-- <![CDATA[ ]]> -->",
    "two\r\nlines\u2028three\n\n# four\n| five |",
    LONG,
]
APPROACHES = ["{{7*7}}", "<script>alert(2)</script>", "rag.v2", "7", "values", "a | b", "\u202eknil"]
DOCUMENTATION = Path(__file__).parent.parent.parent / "docs" / "evaluation.md"
ELEMENTS = {
    "html", "head", "meta", "title", "style", "body", "main", "h1", "h2", "p", "strong", "em", "div", "table", "tr",
    "th", "td", "details", "summary", "bdi", "span", "figure", "figcaption", "img", "code",
    "ul", "li",
}  # fmt: skip
WITHOUT_END = {"meta", "img"}
PLAN = as_written(run_records.PLAN) | {
    "run_key": "run <b>key</b>",
    "samples": 64,
    "options": {"num_epochs": 3, "lr_scheduler": "<i>cosine</i>"},
    "model": {"source": "hub\u202e <script>alert(3)</script>", "commit": "c0ffee", "bytes": 1000},
    "data": {
        "ingest": {"data": 's3://bucket/"><img src=x onerror=alert(4)>.csv', "gap_questions_in_data": HOSTILE[:4]},
        "data_digest": "d1ge57",
        "system_prompt": "Be brief.",
    },
}
TRAINING = as_written(run_records.REPORT) | {
    "run_key": "run",
    "trainer": "the project's <u>own</u>",
    "versions": {"torch": "2.13.0", "<s>hub</s>": "0.11.2"},
    "device": "a GPU <script>alert(5)</script>",
    "seconds": 125.0,
    "samples": 64,
    "steps": 48,
    "loss_first": 2.345,
    "loss_last": 0.678,
    "plan": PLAN,
}
ADAPTED = '"><img src=x onerror=alert(7)>\u202e {{7*7}}'
METRICS = [{"step": step, "loss": 2.0 / step, "learning_rate": 1e-4 * step} for step in range(1, 5)]


def hostile_evaluation() -> Evaluation:
    """Every text of it is hostile, each of HOSTILE at least once in every place."""
    texts = cycle(HOSTILE)
    gap = [
        result(
            number % 3 == 0,
            number % 2 == 0,
            question=f"{number} {text}",
            answer=f"said {text}",
            reason=f"because {text}",
            reference=f"rather {text}",
            subject=text,
            others={name: (number + place) % 2 == 0 for place, name in enumerate(APPROACHES)},
            cut=number == 1,
        )
        for number, text in enumerate(HOSTILE)
    ]
    in_full = [dataclasses.replace(one, question=f"open {one.question}", others={}, base_phrases=0.125) for one in gap]
    chosen = [
        ChoiceResult(
            question=f"which {text}",
            subject=text,
            right=f"right {text}",
            base=f"right {text}",
            adapted=f"other {text}",
            base_unprompted=f"right {text}",
            adapted_unprompted=f"right {text}",
        )
        for text in HOSTILE
    ]
    right = [True] * len(chosen)
    tensor = MatrixAudit(
        name='<b>model</b>"><img src=x onerror=alert(6)>\u202e',
        protected=False,
        relative_change=0.5,
        protected_change_ratio=0.0,
        rounding_ratio=0.0,
        change_norm=1.0,
    )
    plain = evaluation(gap)
    return evaluation(
        gap,
        judged_by=f"the model {HOSTILE[0]} {HOSTILE[8]}",
        contamination=[
            Match(question=one.question, row=row, trained_question=f"trained {next(texts)}", similarity=0.75)
            for row, one in enumerate(gap, 1)
        ],
        clean_gap=compare([True, False], [True, True]),
        choices=compare(right, [False] * len(right)),
        choices_unprompted=compare(right, right),
        choice_answers=chosen,
        open=plain.gap,
        open_answers=in_full,
        base_phrases=0.01,
        adapted_phrases=0.02,
        held_out=HeldOut(answers=12, base_perplexity=8.0, adapted_perplexity=4.0),
        scores=[Score(task=HOSTILE[0], metric=HOSTILE[1], base=0.5, adapted=0.25)],
        audit=[*plain.audit, tensor],
        gate=Gate(good_enough=False, reasons=["too few"]),
    )


def write(folder: Path, found: Evaluation, training: dict[str, Any] | None = None, **values: Any) -> Summary:
    adapted = folder / ADAPTED
    adapted.mkdir(exist_ok=True)
    if training:
        (adapted / "training_report.json").write_text(json.dumps(training), encoding="utf-8")
        (adapted / "metrics.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in METRICS), encoding="utf-8")
    base = folder / "<script>alert(8)</script>"
    return report.write(
        found, base=base, adapted=adapted, evaluation_key="", seconds=1.5, output=folder / "out", **values
    )


class Page(HTMLParser):
    """A page's elements with their attributes, and its visible text; fails where elements are not nested."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html = html
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.inside: list[str] = []
        self.feed(html)
        self.close()
        assert self.inside == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in WITHOUT_END:
            self.inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.inside.pop() == tag

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")

    def handle_data(self, data: str) -> None:
        if "style" not in self.inside:
            self.text += data

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def seen(text: str) -> str:
    """What a reader sees of a text: no control characters, white space as one space."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


def read(folder: Path) -> Page:
    return Page((folder / "out" / "report.html").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    write(folder, hostile_evaluation(), TRAINING)
    return folder


@pytest.fixture(scope="module", params=["hostile", "hostile, not trained here", "plain"])
def page(request: pytest.FixtureRequest, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Page:
    if request.param == "hostile":
        return read(folder)
    other = tmp_path_factory.mktemp("other")
    write(other, evaluation([result(False, True)]) if request.param == "plain" else hostile_evaluation())
    return read(other)


def test_page_has_only_the_templates_own_elements_and_attributes(page: Page) -> None:
    assert {tag for tag, _ in page.elements} <= ELEMENTS
    attributes = {name for _, found in page.elements for name in found}
    assert attributes <= {
        "lang", "charset", "name", "content", "class", "scope", "tabindex", "role", "aria-label", "alt", "src",
        "colspan", "open",
    }  # fmt: skip


def test_page_loads_nothing(page: Page) -> None:
    for picture in page.of("img"):
        assert (picture["src"] or "").startswith("data:image/png;base64,")
    assert all("src" not in attributes for tag, attributes in page.elements if tag != "img")
    (style,) = re.findall(r"<style>(.*?)</style>", page.html, re.DOTALL)
    assert "url(" not in style
    assert "@import" not in style


def test_page_holds_no_control_character(page: Page) -> None:
    found = {letter for letter in page.html if unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")}
    assert found == {"\n"}


def test_page_can_be_read_by_everybody(page: Page) -> None:
    assert page.html.startswith("<!doctype html>")
    assert page.of("html") == [{"lang": "en"}]
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in page.of("meta")
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert len(levels) > 4
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert all(picture["alt"] for picture in page.of("img"))
    assert page.of("th")
    assert all(header.get("scope") in ("col", "row") for header in page.of("th"))
    scrolled = [attributes for attributes in page.of("div") if attributes.get("class") == "wide"]
    assert all(one["tabindex"] == "0" and one["role"] == "region" and one["aria-label"] for one in scrolled)
    assert len({one["aria-label"] for one in scrolled}) == len(scrolled) > 2


def test_page_is_told_from_other_pages_by_its_title(tmp_path: Path, folder: Path) -> None:
    write(tmp_path, evaluation([result(False, True)]), TRAINING | {"plan": PLAN | {"run_key": "another"}})
    titles = [html.unescape(re.findall(r"<title>(.*)</title>", read(one).html)[0]) for one in (folder, tmp_path)]
    assert titles == [
        f"Evaluation report: hub  <script>alert(3)</script>, run {key}" for key in ("run <b>key</b>", "another")
    ]


@pytest.mark.parametrize(
    ("gate", "headline"),
    [
        (Gate(good_enough=True, reasons=[]), "Good enough"),
        (Gate(good_enough=False, reasons=["too few closed", "too many regressed"]), "Not good enough"),
    ],
)
def test_page_and_markdown_say_first_whether_it_is_good_enough_and_why(
    tmp_path: Path, gate: Gate, headline: str
) -> None:
    write(tmp_path, evaluation([result(False, True)], gate=gate))
    text = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")

    assert text.startswith(f"# Evaluation report\n\n**{headline}**\n\n")
    (items,) = re.findall(
        rf">{headline}</p>\s*(?:<ul>(.*?)</ul>)?\s*<p>The adapted model closed 1 ", read(tmp_path).html
    )
    assert re.findall("<li>(.*?)</li>", items) == gate.reasons
    assert re.findall("^- (.*)$", text, re.MULTILINE) == gate.reasons


def test_p_value_that_is_very_small_is_nowhere_zero(tmp_path: Path) -> None:
    summary = write(tmp_path, evaluation([result(False, True)] * 30))
    terminal_text = io.StringIO()
    terminal.show(summary, Console(file=terminal_text, width=200))

    assert "(p < 0.001)" in summary.verdict
    assert "(p < 0.001)" in read(tmp_path).text
    assert '<td class="number">&lt; 0.001</td>' in read(tmp_path).html
    assert "| \\< 0.001 |" in (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert "McNemar p < 0.001" in terminal_text.getvalue()


def test_rows_of_a_table_have_as_many_cells_as_its_header(page: Page) -> None:
    for table in re.findall(r"<table>(.*?)</table>", page.html, re.DOTALL):
        cells = [
            sum(int(span or 1) for span in re.findall(r'<t[hd](?=[ >])(?:[^>]*colspan="(\d+)")?', row))
            for row in re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL)
        ]
        assert len(set(cells)) == 1, table[:200]


def test_every_text_is_visible_as_it_is_and_whole(folder: Path) -> None:
    text = seen(read(folder).text)
    found = hostile_evaluation()
    for one in found.gap_answers:
        for shown in (one.question, one.reference, one.base.answer, one.base.reason, one.adapted.answer):
            assert seen(shown) in text, shown
    for one in found.open_answers:
        assert seen(one.question) in text
    for match in found.contamination:
        assert seen(match.trained_question) in text
    for chosen in found.choice_answers:
        assert all(seen(shown) in text for shown in (chosen.question, chosen.right, chosen.adapted))
    for name in (*APPROACHES, found.judged_by, found.scores[0].task, found.scores[0].metric, found.audit[1].name):
        assert seen(name) in text, name
    assert LONG in text


def test_lineage_is_visible(folder: Path) -> None:
    text = seen(read(folder).text)
    data, model = TRAINING["plan"]["data"], TRAINING["plan"]["model"]  # type: ignore[index]
    lineage = [
        str(folder / "<script>alert(8)</script>"),
        str(folder / ADAPTED),
        "run <b>key</b>, evaluation outside of a run",
        f"{model['source']} at c0ffee",
        f"{data['ingest']['data']}: 64 samples, digest d1ge57",
        "; ".join(HOSTILE[:4]),
        "num_epochs = 3, lr_scheduler = <i>cosine</i>",
        "the project's <u>own</u>, torch 2.13.0, <s>hub</s> 0.11.2",
        "a GPU <script>alert(5)</script>, 2 min 05 s",
    ]
    for value in lineage:
        assert seen(value) in text, value


def test_each_approach_has_a_column_with_its_verdicts_and_their_number(folder: Path) -> None:
    found = hostile_evaluation()
    totals = report.approach_totals(found.gap_answers)
    assert totals == {name: 8 - place % 2 for place, name in enumerate(APPROACHES)}
    row = re.search(r"Correct, of 15</th>(.*?)</tr>", read(folder).html, re.DOTALL)
    assert row
    counts = [int(number) for number in re.findall(r"<strong>(\d+)</strong>", row[1])]
    assert counts == [*totals.values(), found.gap.base_right, found.gap.adapted_right]


def test_training_is_shown_when_the_model_says_how_it_was_trained(folder: Path, tmp_path: Path) -> None:
    pictures = read(folder).of("img")
    assert pictures[0]["alt"] == "Training loss by optimizer step, from 2.35 to 0.68, with the learning rate"
    assert len(pictures) == 2
    write(tmp_path, evaluation([result(False, True)]))
    page = read(tmp_path)
    assert Summary.read(tmp_path / "out").training is None
    assert len(page.of("img")) == 1
    assert "Training" not in re.findall(r"<h2>(.*?)</h2>", page.html)


def test_metrics_of_another_trainer_are_no_error(tmp_path: Path) -> None:
    metrics = tmp_path / ADAPTED / "metrics.jsonl"
    metrics.parent.mkdir()
    metrics.write_text('{"train/loss": 1.0}\n', encoding="utf-8")
    write(tmp_path, evaluation([result(False, True)]))
    assert len(read(tmp_path).of("img")) == 1


def test_empty_answer_and_one_that_was_cut_off_say_so(tmp_path: Path) -> None:
    write(tmp_path, evaluation([result(False, False, answer=" \n"), result(True, True, cut=True)]))
    text = read(tmp_path).text
    assert (text.count("(empty)"), text.count("(cut off at max_answer_tokens)")) == (2, 2)


def test_gap_question_in_the_training_data_is_marked(tmp_path: Path) -> None:
    match = Match(question="Who?", row=7, trained_question="Who, then?", similarity=0.8)
    gap = [result(False, True), result(False, True, question="Where?")]
    write(tmp_path, evaluation(gap, contamination=[match], clean_gap=compare([False], [True])))
    html = read(tmp_path).html
    assert html.count("in the training data</span>") == 1
    assert re.search(r"<td>7</td><td><bdi>Who, then\?</bdi></td><td class=\"number\">0.80</td>", html)
    assert "Gap questions not in the training data" in html


def test_held_out_answers_are_shown_with_their_change_only_where_there_are_any(tmp_path: Path) -> None:
    held_out = HeldOut(answers=12, base_perplexity=8.0, adapted_perplexity=4.0)
    words = "Perplexity on 12 held-out answers, which were not trained on: 8.00 → 4.00 (-50.0 %)"
    for found, shown in ((held_out, True), (None, False)):
        folder = tmp_path / str(shown)
        folder.mkdir()
        write(folder, evaluation([result(False, True)], held_out=found))
        for name in ("report.html", "report.md"):
            assert (words in (folder / "out" / name).read_text(encoding="utf-8")) is shown


def test_summary_can_be_read_back_and_equals_what_was_found(tmp_path: Path) -> None:
    found = hostile_evaluation()
    written = write(tmp_path, found, TRAINING)
    read_back = Summary.read(tmp_path / "out")
    assert read_back == written
    assert read_back.evaluation == found
    assert [one.base.answer for one in read_back.evaluation.gap_answers] == [f"said {text}" for text in HOSTILE]
    assert dataclasses.asdict(read_back)["training"] == TRAINING
    assert (read_back.schema, read_back.verdict, read_back.seconds) == (report.SCHEMA, verdict(found), 1.5)
    assert read_back.report_path == str(tmp_path / "out" / "report.html")


def names_in(value: Any) -> set[str]:
    """The fields of a JSON value, at any depth."""
    below = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    return (set(value) if isinstance(value, dict) else set()).union(*map(names_in, below))


def test_documented_fields_of_the_summary_are_those_that_it_has(folder: Path) -> None:
    summary = json.loads((folder / "out" / "summary.json").read_text(encoding="utf-8"))
    _, _, section = DOCUMENTATION.read_text(encoding="utf-8").partition("`summary.json`:")
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    assert len(rows) > 10
    listed = {name.removeprefix("evaluation.") for row in rows for name in re.findall(r"`([\w.]+)`", row.split("|")[1])}
    documented = {name.removeprefix("evaluation.") for row in rows for name in re.findall(r"`([\w.]+)`", row)}
    assert listed == (set(summary) | set(summary["evaluation"])) - {"evaluation"}
    has = names_in({**summary, "training": {}, "metrics": {}}) - set(APPROACHES) - {"evaluation"}
    assert documented - {"training_report.json"} == has


def test_copies_are_the_report_once_more(tmp_path: Path) -> None:
    copies = {"html": tmp_path / "kfp" / "page", "markdown": tmp_path / "kfp" / "summary"}
    write(tmp_path, hostile_evaluation(), copies=copies)
    for name, copy in (("report.html", copies["html"]), ("report.md", copies["markdown"])):
        assert copy.read_bytes() == (tmp_path / "out" / name).read_bytes()


def tokens_of(text: str) -> list[Token]:
    """The parts of a Markdown text, inline ones too."""
    blocks = MarkdownIt("commonmark").enable("table").parse(text)
    return [token for block in blocks for token in (block, *(block.children or []))]


def test_markdown_holds_no_markup_of_others(folder: Path) -> None:
    text = (folder / "out" / "report.md").read_text(encoding="utf-8")
    kinds = {token.type.removesuffix("_open").removesuffix("_close") for token in tokens_of(text)}
    assert kinds == {
        "heading", "inline", "text", "paragraph", "strong", "table", "thead", "tbody", "tr", "th", "td",
        "bullet_list", "list_item",
    }  # fmt: skip
    assert [token.tag for token in tokens_of(text) if token.type == "heading_open"] == ["h1"]
    assert not re.search(r"(?<!\\)[<\[`*_]", text.replace("**", ""))
    assert not re.search(r"www\.|https?:", text)
    assert all(letter == "\n" or letter.isprintable() for letter in text)


def test_rows_of_a_markdown_table_have_as_many_cells_as_its_header(folder: Path) -> None:
    text = (folder / "out" / "report.md").read_text(encoding="utf-8")
    tables = [part.splitlines() for part in text.split("\n\n") if part.startswith("|")]
    assert [len(table) for table in tables] == [2 + 5, 2 + 7]
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table}) == 1
        assert re.fullmatch(r"\|( ---:? \|)+", table[1])


def test_texts_in_markdown_are_shown_as_they_are_and_cut(folder: Path) -> None:
    text = (folder / "out" / "report.md").read_text(encoding="utf-8")
    cells = [token.content for token in tokens_of(text) if token.type == "inline"]
    shown = {"".join(child.content for child in MarkdownIt().parseInline(cell)[0].children or []) for cell in cells}
    changed = [one for one in hostile_evaluation().gap_answers if one.base.right != one.adapted.right]
    assert len(changed) == 7
    for one in changed:
        question, answer = seen(one.question), f"{'✓' if one.adapted.right else '✗'} {seen(one.adapted.answer)}"
        assert question in shown or f"{question[:159]}…" in shown, question
        assert answer in shown or f"{answer[:161]}…" in shown, answer
    assert max(map(len, shown)) < 400


def test_markdown_names_ten_changed_questions_at_most(tmp_path: Path) -> None:
    write(tmp_path, evaluation([result(False, number % 5 > 0, question=f"Question {number}?") for number in range(40)]))
    text = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert re.findall(r"Question (\d+)", text) == ["1", "2", "3", "4", "6", "7", "8", "9", "11", "12"]


@pytest.mark.parametrize(
    ("questions", "words"),
    [
        (1, "One question is too few"),
        (5, "5 questions are too few"),
        (6, "6 questions are few: only a true improvement of 96 percentage points or more"),
        (10, "10 questions are few: only a true improvement of 67 percentage points or more"),
        (30, "With 30 gap questions, a true improvement of 25 percentage points or more is detected"),
    ],
)
def test_page_and_markdown_say_what_so_many_questions_can_show(tmp_path: Path, questions: int, words: str) -> None:
    found = evaluation([result(False, number > 0) for number in range(questions)])
    write(tmp_path, found)
    assert words in seen(read(tmp_path).text)
    few = questions < 30
    assert (
        (few_words(found.gap) in (tmp_path / "out" / "report.md").read_text(encoding="utf-8")) == few if few else True
    )
    assert ("are few" in seen(read(tmp_path).text)) == (5 < questions < 30)


GAP = [result(False, True), result(False, True), result(False, False), result(True, False)]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {},
            "closed 2 of the 3 gap questions that the base model gets wrong, 1 regressed (p = 1.000); good enough",
        ),
        (
            {"choices": compare([True] * 8, [True] * 7 + [False]), "open": compare([True, False], [True, True])},
            "closed 2 of the 3 gap questions that the base model gets wrong, 1 regressed (p = 1.000); "
            "general knowledge: multiple choice -12.5 points, open-ended +50.0 points; good enough",
        ),
        (
            {"gate": Gate(good_enough=False, reasons=["one thing", "another"])},
            "closed 2 of the 3 gap questions that the base model gets wrong, 1 regressed (p = 1.000); "
            "not good enough: one thing; another",
        ),
        (
            {"gap": compare([False] * 6, [True] * 6)},
            "closed 6 of the 6 gap questions that the base model gets wrong, 0 regressed (p = 0.031); good enough",
        ),
    ],
)
def test_verdict_is_a_sentence(changes: dict[str, Any], sentence: str) -> None:
    assert verdict(evaluation(GAP, **changes)) == sentence


@pytest.mark.parametrize(
    ("base", "others", "adapted", "names"),
    [
        (False, {}, False, ""),
        (True, {}, True, "base, adapted"),
        (False, {}, True, "adapted"),
        (True, {"rag": False}, False, "base"),
        (False, {"rag": False, "best_of_n": False}, False, ""),
        (False, {"rag": True, "best_of_n": False}, True, "rag, adapted"),
        (True, {"rag": True, "best_of_n": True}, True, "base, rag, best_of_n, adapted"),
    ],
)
def test_who_answers_a_question_is_named_in_the_order_of_trial(
    base: bool, others: dict[str, bool], adapted: bool, names: str
) -> None:
    assert ", ".join(result(base, adapted, others=others).answered_by) == names


def test_questions_and_answers_are_those_of_the_chat_rows() -> None:
    system = {"role": "system", "content": "s"}
    messages = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    rows = [{"messages": messages}, {"messages": [system, *messages]}]
    assert report.questions_and_answers(rows) == [("q", "a"), ("q", "a")]


@pytest.mark.parametrize("matrices", ["none", "all free"])
def test_where_no_matrix_was_protected_the_report_says_so_and_no_share(matrices: str, tmp_path: Path) -> None:
    plain = evaluation([result(False, True)])
    free = [dataclasses.replace(one, protected=False) for one in plain.audit] if matrices == "all free" else []
    found = dataclasses.replace(plain, audit=free, protected_change_ratio=0.0, rounding_ratio=0.0)

    write(tmp_path, found)

    for name in ("report.html", "report.md"):
        text = (tmp_path / "out" / name).read_text(encoding="utf-8")
        assert "No matrix was protected" in text
        assert "guarantee" not in text
