"""A report whose texts are as hostile as texts can be, and what a reader sees of a page."""

import dataclasses
import json
from html.parser import HTMLParser
from itertools import cycle
from pathlib import Path
from typing import Any

from components.evaluate import report
from components.run.evaluation import Evaluation, Summary
from components.run.findings import (
    NOT_SHOWN,
    ChoiceResult,
    Condition,
    EarlierResult,
    Gate,
    HeldOut,
    Match,
    MatrixAudit,
    Rewind,
    RewindTrial,
    Score,
)
from components.run.statistics import compare
from tests import run_records
from tests.run_records import AGREEMENT, AUDIT, GRADING, as_written, compared, evaluation, result

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
PLAN = as_written(run_records.PLAN) | {
    "run_key": "run <b>key</b>",
    "samples": 64,
    "options": {"num_epochs": 3, "lr_scheduler": "<i>cosine</i>"},
    "model": {"source": "hub\u202e <script>alert(3)</script>", "commit": "c0ffee", "bytes": 1000},
    "data": {
        "ingest": {
            "data": 's3://bucket/"><img src=x onerror=alert(4)>.csv',
            "gap_questions_in_data": HOSTILE[:4],
            "rows_read": 77,
            "kept": 64,
            "held_out": 3,
            "dropped": {"duplicate": 10, "empty question": 0},
        },
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
    "plan": PLAN,
}
ADAPTED = '"><img src=x onerror=alert(7)>\u202e {{7*7}}'
METRICS = [{"step": step, "loss": 2.0 / step, "learning_rate": 1e-4 * step} for step in range(1, 5)]
TENSOR = 'model.layers.0.<b>q</b>"><img src=x onerror=alert(6)>\u202e.weight'


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
    hostile_tensor = MatrixAudit(
        name=TENSOR,
        protected=True,
        relative_change=0.5,
        protected_change_ratio=0.2,
        rounding_ratio=0.0,
        change_norm=1.0,
    )
    open_answers = [dataclasses.replace(one, question=f"open {one.question}", others={}) for one in gap]
    grader = f"the model {HOSTILE[0]} {HOSTILE[8]}"
    return evaluation(
        gap,
        grading=dataclasses.replace(GRADING, grader=grader, refused={HOSTILE[9]: AGREEMENT}, adaptations=[HOSTILE[1]]),
        contamination=[
            Match(
                question=one.question,
                row=row,
                passage=f"trained {next(texts)}",
                score=0.75,
                where="question",
                how="similarity",
            )
            for row, one in enumerate(gap, 1)
        ],
        contaminated_gap=compare([True, False], [True, True]),
        choices=compare(right, [False] * len(right)),
        choices_unprompted=compare(right, right),
        choice_answers=chosen,
        open=compared([(one.base.right, one.adapted.right) for one in open_answers]),
        open_answers=open_answers,
        base_phrases=0.01,
        adapted_phrases=0.02,
        held_out=HeldOut(answers=12, base_perplexity=8.0, adapted_perplexity=4.0),
        scores=[Score(task=HOSTILE[0], metric=HOSTILE[1], base=0.5, adapted=0.25)],
        audit=dataclasses.replace(AUDIT, worst=TENSOR, matrices=[*AUDIT.matrices, hostile_tensor]),
        earlier=compared([(one.base.right, one.adapted.right) for one in gap]),
        earlier_answers=[
            EarlierResult(
                question=f"before {one.question}",
                reference=one.reference,
                run_key=HOSTILE[0],
                then=one.base,
                now=one.adapted,
            )
            for one in gap
        ],
        rewind=Rewind(
            share=0.5,
            shares=2,
            trials=[RewindTrial(share=1.0, verdict=NOT_SHOWN, findings=HOSTILE)],
        ),
        gate=Gate(conditions=[Condition(name="gap", state=NOT_SHOWN, finding="p < 0.1", advice=["a_b", "c"])]),
    )


def write(folder: Path, found: Evaluation, training: dict[str, Any] | None = None, **values: Any) -> Summary:
    """Write the report of an evaluation below a folder, with hostile names of models."""
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
        if tag != "meta":
            self.inside.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

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


def read_markdown(folder: Path) -> str:
    return (folder / "out" / "report.md").read_text(encoding="utf-8")
