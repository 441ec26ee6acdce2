"""Charts for the report, as PNG inside the page."""

import re
from typing import Any

from components.run.findings import MatrixAudit
from components.shared.pages import png

IN_LAYER = re.compile(r".*\blayers\.(?P<layer>\d+)\.(?P<matrix>.+)\.weight")


def loss_chart(metrics: list[dict[str, Any]]) -> str:
    """Training loss and learning rate over the optimizer steps, as a data: URI."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.2), dpi=110, layout="constrained")
    loss = figure.add_subplot()
    steps = [entry["step"] for entry in metrics]
    (line,) = loss.plot(steps, [entry["loss"] for entry in metrics], color="#1f5fa8", label="loss")
    loss.set_xlabel("optimizer step")
    loss.set_ylabel("loss (nats per token)")
    loss.set_ylim(0, 1.08 * max(entry["loss"] for entry in metrics))
    loss.grid(alpha=0.3)
    rate = loss.twinx()
    (schedule,) = rate.plot(
        steps, [entry["learning_rate"] for entry in metrics], color="#999999", linestyle="--", label="learning rate"
    )
    rate.set_ylim(0, 1.08 * max(entry["learning_rate"] for entry in metrics))
    rate.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    figure.legend(handles=[line, schedule], loc="outside upper right", ncols=2, frameon=False)
    return png(figure)


def audit_chart(audits: list[MatrixAudit]) -> str:
    """Heat maps of layers against matrices: the change of each, and its share in protected directions; a data: URI.

    Empty when no matrix is protected.
    """
    import numpy as np
    from matplotlib.figure import Figure

    places = {a.name: found for a in audits if a.protected and (found := IN_LAYER.fullmatch(a.name))}
    matrices = list(dict.fromkeys(found["matrix"] for found in places.values()))
    layers = sorted({int(found["layer"]) for found in places.values()})
    if not places:
        return ""
    figure = Figure(figsize=(9, max(2.4, 0.17 * len(layers) + 1.2)), dpi=110, layout="constrained")
    for axes, title, value in zip(
        figure.subplots(1, 2, sharey=True),
        ("change, % of the matrix norm", "of that in protected directions, %"),
        ("relative_change", "protected_change_ratio"),
        strict=True,
    ):
        cells = np.full((len(layers), len(matrices)), np.nan)
        for a in audits:
            if a.name in places:
                found = places[a.name]
                cells[layers.index(int(found["layer"])), matrices.index(found["matrix"])] = 100 * getattr(a, value)
        image = axes.imshow(cells, aspect="auto", cmap="viridis", vmin=0)
        axes.set_title(title, fontsize=10)
        axes.set_xticks(range(len(matrices)), [name.split(".")[-1] for name in matrices], rotation=45, ha="right")
        axes.set_yticks(range(0, len(layers), max(1, len(layers) // 10)), layers[:: max(1, len(layers) // 10)])
        figure.colorbar(image, ax=axes)
    figure.supylabel("layer", fontsize=10)
    return png(figure)
