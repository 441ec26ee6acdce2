"""Pictures for the report, as PNG inside the page."""

import base64
import io
from typing import Any


def loss_chart(metrics: list[dict[str, Any]]) -> str:
    """The training loss over the optimizer steps, with the learning rate; a data: URI."""
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
    loss.legend(handles=[line, schedule], loc="upper right", frameon=False)
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    return "data:image/png;base64," + base64.b64encode(picture.getvalue()).decode()
