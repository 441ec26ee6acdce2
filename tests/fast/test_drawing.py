import re

import pytest

from components.evaluate.charts import loss_chart
from components.plan_training.lengths import length_chart
from components.shared.drawing import Plot, ticks


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.5, 1]),
        (1, 80, [20, 40, 60, 80]),
        (0, 5.4e-6, [0, 2e-6, 4e-6]),
        (0, 1024, [0, 500, 1000]),
        (3, 3, [3]),
        (-1, 1, [-1, -0.5, 0, 0.5, 1]),
    ],
)
def test_ticks_are_few_and_round(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high) == pytest.approx(expected)


def test_names_in_a_drawing_are_text() -> None:
    plot = Plot(0, 10, "<b>steps</b>")
    plot.mark(5, "</text><script>")
    drawing = plot.svg('"><script>')
    assert "<script" not in drawing
    assert "<b>" not in drawing
    assert "&lt;/text&gt;&lt;script&gt;" in drawing


@pytest.mark.parametrize(
    ("losses", "points"),
    [([2.0, 1.0, 0.5], 3), ([2.0], 1), ([2.0, float("nan"), 1.0], 2), ([float("inf")], 0), ([0.0], 1)],
)
def test_loss_is_drawn_as_far_as_it_is_a_number(losses: list[float], points: int) -> None:
    metrics = [{"step": step, "loss": loss, "learning_rate": 1e-5} for step, loss in enumerate(losses, 1)]
    (first, *_) = re.findall(r'<polyline class="first" points="(.*?)"', loss_chart(metrics))
    assert len(first.split()) == points
    assert "nan" not in first


def test_histogram_counts_every_sample() -> None:
    heights = [
        float(height) for height in re.findall(r'class="bar".*? height="([\d.]+)"', length_chart([5, 5, 30], 40))
    ]
    assert [round(height / max(heights), 2) for height in heights if height] == [1.0, 0.5]
