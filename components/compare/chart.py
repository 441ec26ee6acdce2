"""What each run gained on gap questions against what it kept of the general ones."""

from collections.abc import Mapping

from markupsafe import Markup

from components.run.evaluation import Summary
from components.run.findings import Comparison
from components.run.statistics import general
from components.shared.drawing import BOTTOM, LEFT, LINE, RIGHT, TEXT, TOP, WIDTH, svg, ticks

HEIGHT = 320
RADIUS = 4
MARGIN = 0.04  # beyond the ends of the intervals
DOT = Markup('<circle class="dot" cx="{:.1f}" cy="{:.1f}" r="{}"/>')


def trade_off(runs: Mapping[str, Summary]) -> Markup:
    """A dot for each run with its 95 % intervals: points gained on gap questions upwards, on general ones to the right.
    Runs have the numbers of the tables. Empty when no run was asked both."""
    both = {
        number: (kept, run.evaluation.gap)
        for number, run in enumerate(runs.values(), 1)
        if run.evaluation.gap and (kept := general(run.evaluation))
    }
    if not both:
        return Markup("")
    across, upwards = (_Axis([pair[place] for pair in both.values()]) for place in (0, 1))
    right, floor = WIDTH - RIGHT, HEIGHT - BOTTOM

    def x(points: float) -> float:
        return LEFT + across.share(points) * (right - LEFT)

    def y(points: float) -> float:
        return floor - upwards.share(points) * (floor - TOP)

    parts = [
        LINE.format("axis", LEFT, floor, right, floor),
        LINE.format("axis", LEFT, TOP, LEFT, floor),
        LINE.format("mark", x(0), TOP, x(0), floor),
        LINE.format("mark", LEFT, y(0), right, y(0)),
        TEXT.format("", (LEFT + right) / 2, HEIGHT - 6, "middle", "general questions, points against the base model"),
        TEXT.format("", 0, 14, "start", "gap questions, points against the base model"),
        *(
            TEXT.format("", x(tick), floor + 16, "middle", f"{tick:+g}" if tick else "0")
            for tick in ticks(across.low, across.high)
        ),
        *(
            TEXT.format("", LEFT - 6, y(tick) + 4, "end", f"{tick:+g}" if tick else "0")
            for tick in ticks(upwards.low, upwards.high)
        ),
    ]
    for number, (kept, gained) in both.items():
        at = x(kept.difference), y(gained.difference)
        parts += [
            LINE.format("second", x(kept.low), at[1], x(kept.high), at[1]),
            LINE.format("second", at[0], y(gained.low), at[0], y(gained.high)),
            DOT.format(*at, RADIUS),
            TEXT.format("first", at[0] + 7, at[1] - 7, "start", number),
        ]
    return svg(
        HEIGHT,
        "Points gained on gap questions against points gained or lost on general ones, one dot a run; the numbers are "
        "in the table below",
        parts,
    )


class _Axis:
    """From the lowest end of an interval to the highest, and 0."""

    def __init__(self, shown: list[Comparison]) -> None:
        low, high = min(0.0, *(one.low for one in shown)), max(0.0, *(one.high for one in shown))
        margin = MARGIN * (high - low)
        self.low, self.high = low - margin, high + margin

    def share(self, points: float) -> float:
        """Where a value lies, from 0 to 1."""
        return (points - self.low) / (self.high - self.low)
