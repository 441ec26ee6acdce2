"""Texts of users, models and files are never markup in a report, and its markup is sound."""

import html
import re
import unicodedata
from itertools import pairwise
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from tests.report_page import (
    ADAPTED,
    APPROACHES,
    HOSTILE,
    LONG,
    PLAN,
    TENSOR,
    TRAINING,
    Page,
    hostile_evaluation,
    read,
    read_markdown,
    seen,
    write,
)
from tests.run_records import evaluation, result

ELEMENTS = {
    "html", "head", "meta", "title", "style", "body", "main", "h1", "h2", "p", "strong", "em", "div", "table", "tr",
    "th", "td", "details", "summary", "bdi", "span", "figure", "figcaption", "code", "ul", "li",
    "svg", "g", "line", "rect", "text", "polyline",
}  # fmt: skip
ATTRIBUTES = {
    "lang", "charset", "name", "content", "class", "scope", "tabindex", "role", "aria-label", "colspan", "open",
    "viewbox", "x", "y", "x1", "y1", "x2", "y2", "width", "height", "fill-opacity", "text-anchor", "points",
    "transform",
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    write(folder, hostile_evaluation(), TRAINING)
    return folder


@pytest.fixture(scope="module", params=["hostile", "hostile, not trained here", "plain", "none graded", "no questions"])
def page(request: pytest.FixtureRequest, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Page:
    if request.param == "hostile":
        return read(folder)
    other = tmp_path_factory.mktemp("other")
    plain = {
        "plain": evaluation([result(False, True)]),
        "none graded": evaluation([result(None, None, others={"rag": True})]),
        "no questions": evaluation([]),
    }
    write(other, plain.get(request.param) or hostile_evaluation())
    return read(other)


def test_page_has_only_the_templates_own_elements_and_attributes(page: Page) -> None:
    assert {tag for tag, _ in page.elements} <= ELEMENTS
    assert {name for _, found in page.elements for name in found} <= ATTRIBUTES


def test_page_loads_nothing(page: Page) -> None:
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
    drawings = [*page.of("svg"), *(one for one in page.of("span") if one.get("role") == "img")]
    assert all(one["role"] == "img" and one["aria-label"] for one in drawings)
    assert all(header.get("scope") in ("col", "row") for header in page.of("th"))
    scrolled = [attributes for attributes in page.of("div") if attributes.get("class") == "wide"]
    assert all(one["tabindex"] == "0" and one["role"] == "region" and one["aria-label"] for one in scrolled)
    assert len({one["aria-label"] for one in scrolled}) == len(scrolled) > 2


def test_charts_have_no_colour_of_their_own(folder: Path) -> None:
    charts = re.findall(r"<svg.*?</svg>", read(folder).html, re.DOTALL)
    assert len(charts) == 2
    assert not any(re.search(r"#[0-9a-f]{3}|(fill|stroke)=|style=", chart) for chart in charts)


def test_page_is_told_from_other_pages_by_its_title(tmp_path: Path, folder: Path) -> None:
    write(tmp_path, evaluation([result(False, True)]), TRAINING | {"plan": PLAN | {"run_key": "another"}})
    titles = [html.unescape(re.findall(r"<title>(.*)</title>", read(one).html)[0]) for one in (folder, tmp_path)]
    assert titles == [
        f"Evaluation report: hub  <script>alert(3)</script>, run {key}" for key in ("run <b>key</b>", "another")
    ]


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
        for shown in (one.question, one.reference, one.base.answer, one.base.reason, one.adapted.answer, one.subject):
            assert seen(shown) in text, shown
    for one in found.open_answers:
        assert seen(one.question) in text
    for match in found.contamination:
        assert seen(match.passage) in text
    for chosen in found.choice_answers:
        assert all(seen(shown) in text for shown in (chosen.question, chosen.right, chosen.adapted))
    grading, score = found.grading, found.scores[0]
    names = (*APPROACHES, grading.grader, *grading.refused, *grading.adaptations, score.task, score.metric, TENSOR)
    for name in names:
        assert seen(name) in text, name
    assert LONG in text


def test_lineage_is_visible(folder: Path) -> None:
    text = seen(read(folder).text)
    data, model = TRAINING["plan"]["data"], TRAINING["plan"]["model"]
    lineage = [
        str(folder / "<script>alert(8)</script>"),
        str(folder / ADAPTED),
        "run <b>key</b>, evaluation outside of a run",
        f"{model['source']} at c0ffee",
        f"{data['ingest']['data']}: 64 samples, digest d1ge57",
        "77 read, 64 trained on, 3 held out, 10 dropped as duplicate",
        "; ".join(HOSTILE[:4]),
        "OSFT with num_epochs = 3, lr_scheduler = <i>cosine</i>",
        "the project's <u>own</u>, torch 2.13.0, <s>hub</s> 0.11.2",
        "a GPU <script>alert(5)</script>, 2 min 05 s",
    ]
    for value in lineage:
        assert seen(value) in text, value


def tokens_of(text: str) -> list[Token]:
    """The parts of a Markdown text, inline ones too."""
    blocks = MarkdownIt("commonmark").enable("table").parse(text)
    return [token for block in blocks for token in (block, *(block.children or []))]


def test_markdown_holds_no_markup_of_others(folder: Path) -> None:
    text = read_markdown(folder)
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
    tables = [part.splitlines() for part in read_markdown(folder).split("\n\n") if part.startswith("|")]
    assert [len(table) for table in tables] == [2 + 5 + len(APPROACHES), 2 + 7]
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table}) == 1
        assert re.fullmatch(r"\|( ---:? \|)+", table[1])


def test_texts_in_markdown_are_shown_as_they_are_and_cut(folder: Path) -> None:
    cells = [token.content for token in tokens_of(read_markdown(folder)) if token.type == "inline"]
    shown = {"".join(child.content for child in MarkdownIt().parseInline(cell)[0].children or []) for cell in cells}
    found = hostile_evaluation()
    changed = [one for one in found.gap_answers if one.base.right != one.adapted.right]
    assert len(changed) == 7
    for one in changed:
        question, answer = seen(one.question), f"{'✓' if one.adapted.right else '✗'} {seen(one.adapted.answer)}"
        assert question in shown or f"{question[:159]}…" in shown, question
        assert answer in shown or f"{answer[:161]}…" in shown, answer
    sentences = " ".join(shown)
    for name in (found.grading.grader, *found.grading.refused, TENSOR):
        assert seen(name) in sentences, name
    assert max(map(len, shown)) < 800
