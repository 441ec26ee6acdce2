"""The page for a person: what was dropped, and rows to look at."""

import dataclasses
import random

import numpy as np

from components.ingest_sdg.report import DROP_REASONS, IngestReport, remarks
from components.shared import pages

DRAWN, OF_EACH = 20, 3  # rows drawn at random; shortest, longest and most repeated ones
MAX_SHOWN = 4000  # characters of a text


@dataclasses.dataclass(frozen=True, kw_only=True)
class SampleRow:
    """A row that is trained on, and why it is shown."""

    why: str
    question: str
    response: str
    file: str
    line: int
    count: int
    """Rows that say the same, this one included."""


def choose(kept: np.ndarray, lengths: np.ndarray, counts: np.ndarray) -> dict[int, str]:
    """Rows to show by number: a fixed random draw, the shortest and longest answers, the most repeated rows."""
    by_length = kept[np.argsort(lengths[kept], kind="stable")].tolist()
    by_count = kept[np.argsort(counts[kept], kind="stable")][::-1]
    repeated = [int(row) for row in by_count[:OF_EACH] if counts[row] > 1]
    drawn = random.Random(0).sample(kept.tolist(), min(DRAWN, len(kept)))  # noqa: S311 - a sample, not a secret
    chosen = dict.fromkeys(sorted(drawn), "random")
    chosen |= dict.fromkeys(by_length[:OF_EACH], "shortest")
    chosen |= dict.fromkeys(by_length[-OF_EACH:], "longest")
    return chosen | dict.fromkeys(repeated, "repeated")


def render(report: IngestReport, sample: list[SampleRow]) -> str:
    """The page as HTML; all texts are escaped and cut where they are very long."""
    return pages.render(
        "components.ingest_sdg",
        "review.html.j2",
        title="Training data to review",
        report=report,
        reasons=DROP_REASONS,
        remarks=remarks(report),
        sample=[
            dataclasses.replace(row, question=_cut(row.question), response=_cut(row.response))
            for row in sorted(sample, key=lambda row: ("repeated", "shortest", "longest", "random").index(row.why))
        ],
    )


def _cut(text: str) -> str:
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]} … ({len(text):,} characters)"
