"""The page for a person: what was dropped, and rows to look at."""

import dataclasses
import random
from typing import TYPE_CHECKING

import numpy as np

from components.shared import pages

if TYPE_CHECKING:
    from components.ingest_sdg.core import IngestReport

DRAWN, OF_EACH = 20, 3  # rows drawn at random; shortest, longest and most repeated ones
MAX_SHOWN = 4000  # characters of a text


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sampled:
    """A row that is learnt, and why it is shown."""

    why: str
    question: str
    response: str
    file: str
    line: int
    times: int
    """How many rows say it."""


def choose(kept: np.ndarray, lengths: np.ndarray, times: np.ndarray) -> dict[int, str]:
    """Rows to show by number: a fixed random draw, the shortest and longest answers, the most repeated rows."""
    by_length = kept[np.argsort(lengths[kept], kind="stable")].tolist()
    by_times = [int(row) for row in kept[np.argsort(times[kept], kind="stable")][::-1][:OF_EACH] if times[row] > 1]
    drawn = random.Random(0).sample(kept.tolist(), min(DRAWN, len(kept)))  # noqa: S311 - a sample, not a secret
    chosen = dict.fromkeys(sorted(drawn), "random")
    chosen |= dict.fromkeys(by_length[:OF_EACH], "shortest")
    chosen |= dict.fromkeys(by_length[-OF_EACH:], "longest")
    return chosen | dict.fromkeys(by_times, "repeated")


def page(report: "IngestReport", reasons: dict[str, str], sample: list[Sampled]) -> str:
    """The page as HTML; all texts are escaped and cut where they are very long."""
    return pages.render(
        "components.ingest_sdg",
        "review.html.j2",
        title="Training data to review",
        report=report,
        reasons=reasons,
        sample=[
            dataclasses.replace(row, question=_cut(row.question), response=_cut(row.response))
            for row in sorted(sample, key=lambda row: ("repeated", "shortest", "longest", "random").index(row.why))
        ],
    )


def _cut(text: str) -> str:
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]} … ({len(text):,} characters)"
