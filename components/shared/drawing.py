"""Charts as SVG inside a page: in the page's own colours, so that they follow dark mode, and without a library."""

import math
from collections.abc import Iterable

from markupsafe import Markup

WIDTH = 520  # of the drawing's own units: a phone shows it at two thirds, with text that can still be read
HEIGHT = 220  # of a plot
LEFT, RIGHT, TOP, BOTTOM = 48, 52, 28, 40
MAX_POINTS = 1000  # of a curve

LINE = Markup('<line class="{}" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>')
RECTANGLE = Markup('<rect class="{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" fill-opacity="{:.3f}"/>')
TEXT = Markup('<text class="{}" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>')


def svg(height: float, words: str, parts: Iterable[Markup]) -> Markup:
    """A drawing.

    Args:
        words: what it shows, for who cannot see it.
    """
    whole = Markup("").join(parts)
    return Markup('<svg class="chart" viewBox="0 0 {} {:.0f}" role="img" aria-label="{}">{}</svg>').format(
        WIDTH, height, words, whole
    )


class Plot:
    """Axes, and what is drawn into them."""

    def __init__(self, low: float, high: float, label: str) -> None:
        """
        Args:
            low, high: ends of the axis to the right.
            label: of it.
        """
        self.low, self.span = low, (high - low) or 1
        self.floor, self.right = HEIGHT - BOTTOM, WIDTH - RIGHT
        self.parts = [
            LINE.format("axis", LEFT, self.floor, self.right, self.floor),
            TEXT.format("", (LEFT + self.right) / 2, HEIGHT - 6, "middle", label),
            *(TEXT.format("", self.x(tick), self.floor + 16, "middle", f"{tick:g}") for tick in ticks(low, high)),
        ]

    def x(self, value: float) -> float:
        return LEFT + (value - self.low) / self.span * (self.right - LEFT)

    def y(self, value: float, most: float) -> float:
        return self.floor - value / most * (self.floor - TOP)

    def scale(self, values: Iterable[float], label: str, style: str, on_the_right: bool = False) -> float:
        """Draw an axis upwards from 0 for these values; return its end."""
        most = 1.08 * max(values, default=0) or 1
        edge, anchor = (self.right, "start") if on_the_right else (LEFT, "end")
        shift = 6 if on_the_right else -6
        self.parts += [LINE.format("axis", edge, TOP, edge, self.floor)]
        self.parts += [
            TEXT.format("", edge + shift, self.y(tick, most) + 4, anchor, f"{tick:g}") for tick in ticks(0, most)
        ]
        outer = WIDTH if on_the_right else 0
        self.parts.append(TEXT.format(style, outer, 14, "end" if on_the_right else "start", label))
        return most

    def curve(self, points: list[tuple[float, float]], label: str, style: str, on_the_right: bool = False) -> None:
        """Draw a curve with an axis of its own."""
        points = [(x, y) for x, y in points if math.isfinite(y)]
        most = self.scale((y for _, y in points), label, style, on_the_right)
        places = (f"{self.x(x):.1f},{self.y(y, most):.1f}" for x, y in points[:: 1 + len(points) // MAX_POINTS])
        self.parts.append(Markup('<polyline class="{}" points="{}"/>').format(style, " ".join(places)))

    def bars(self, counts: list[int], width: float, label: str) -> None:
        """Draw a histogram: how many values lie between 0 and `width`, and so on."""
        most = self.scale(counts, label, "")
        for place, count in enumerate(counts):
            left, top = self.x(place * width), self.y(count, most)
            size = self.x((place + 1) * width) - left
            self.parts.append(RECTANGLE.format("bar", left, top, size, self.floor - top, 1))

    def mark(self, value: float, name: str) -> None:
        """Draw a line upwards with its name at the top."""
        at = self.x(value)
        is_left = at < (LEFT + self.right) / 2
        self.parts += [
            LINE.format("mark", at, TOP, at, self.floor),
            TEXT.format("mark", at + (5 if is_left else -5), TOP + 10, "start" if is_left else "end", name),
        ]

    def svg(self, words: str) -> Markup:
        return svg(HEIGHT, words, self.parts)


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers from `low` to `high`, `most` at most."""
    if high <= low:
        return [low]
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(power * factor for factor in (1, 2, 5, 10, 20) if (high - low) / (power * factor) < most)
    return [round(number * step, 12) for number in range(math.ceil(low / step), math.floor(high / step) + 1)]
