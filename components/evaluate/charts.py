"""Charts for the report."""

import re
from typing import Any

from markupsafe import Markup

from components.run.findings import MatrixAudit
from components.shared.drawing import LEFT, RECTANGLE, TEXT, TOP, WIDTH, Plot, svg
from components.shared.progress import printable

IN_LAYER = re.compile(r".*\blayers\.(?P<layer>\d+)\.(?P<matrix>.+)\.weight")
GAP = 16  # between two maps
HEIGHT = 320  # of a map, about
MAX_NAME = 24  # characters below a column


def loss_chart(metrics: list[dict[str, Any]]) -> Markup:
    """Training loss and learning rate over the optimizer steps."""
    steps = [entry["step"] for entry in metrics]
    plot = Plot(min(steps), max(steps), "optimizer step")
    for name, label, style in (("loss", "loss, nats per token", "first"), ("learning_rate", "learning rate", "second")):
        points = [(entry["step"], entry[name]) for entry in metrics]
        plot.curve(points, label, style, on_the_right=style == "second")
    first, last = metrics[0]["loss"], metrics[-1]["loss"]
    return plot.svg(f"Training loss by optimizer step, from {first:.2f} to {last:.2f}, with the learning rate")


def audit_chart(audits: list[MatrixAudit]) -> Markup:
    """Maps of layers against matrices: the change of each, and its share in protected directions.

    Empty when no matrix is protected.
    """
    places = {a.name: found for a in audits if a.protected and (found := IN_LAYER.fullmatch(a.name))}
    if not places:
        return Markup("")
    matrices = list(dict.fromkeys(found["matrix"] for found in places.values()))
    names = [printable(matrix.split(".")[-1])[:MAX_NAME] for matrix in matrices]
    layers = sorted({int(found["layer"]) for found in places.values()})
    shown = [a for a in audits if a.name in places]
    across = (WIDTH - LEFT - GAP) / 2
    wide, high = across / len(matrices), min(18.0, HEIGHT / len(layers))
    floor = TOP + high * len(layers)
    every = 1 + len(layers) * 14 // HEIGHT  # so that numbers do not overlap
    parts = [
        TEXT.format("", LEFT - 6, TOP + high * (place + 0.5) + 4, "end", layers[place])
        for place in range(0, len(layers), every)
    ]
    parts.append(TEXT.format("", 0, 16, "start", "layer"))
    for side, (title, value) in enumerate(
        (("change, % of norm", "relative_change"), ("of that protected, %", "protected_change_ratio"))
    ):
        left = LEFT + side * (across + GAP)
        most = max(getattr(a, value) for a in shown)
        parts.append(TEXT.format("", left, 16, "start", f"{title}: 0 to {100 * most:.3g}"))
        for a in shown:
            layer, matrix = int(places[a.name]["layer"]), places[a.name]["matrix"]
            x, y = left + wide * matrices.index(matrix), TOP + high * layers.index(layer)
            parts.append(RECTANGLE.format("bar", x, y, wide, high, getattr(a, value) / most if most else 0))
        parts.append(RECTANGLE.format("axis", left, TOP, across, floor - TOP, 0))
        for place, name in enumerate(names):
            turned = Markup('<g transform="translate({:.1f} {:.1f}) rotate(-45)">{}</g>')
            parts.append(turned.format(left + wide * (place + 0.5) + 4, floor + 12, TEXT.format("", 0, 0, "end", name)))
    return svg(
        floor + 16 + 5.5 * max(map(len, names)),
        "Two maps of layers against matrices: how much each matrix changed, and how much of that lies in protected "
        "directions; the numbers are in the table below",
        parts,
    )
