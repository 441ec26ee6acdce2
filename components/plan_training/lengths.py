"""How long the samples are, in tokens, and a histogram of it."""

from collections.abc import Sequence

from components.shared.pages import png

MIN_STOCK_SAMPLE = 20  # tokens; instructlab.training.data_process drops what is shorter
BARS = 40


def length_chart(lengths: Sequence[int], max_seq_len: int) -> str:
    """How many samples have how many tokens, up to max_seq_len; a data: URI."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 2.8), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    width = max(1, -(-max_seq_len // BARS))
    axes.hist(lengths, bins=list(range(0, max_seq_len + width + 1, width)), color="#1f5fa8")
    for place, name in ((MIN_STOCK_SAMPLE, "mini-trainer drops shorter ones"), (max_seq_len, "max_seq_len")):
        axes.axvline(place, color="#b3362b", linestyle="--")
        axes.annotate(
            f" {name} ", (place, 0.97), xycoords=("data", "axes fraction"), va="top",
            ha="left" if place < max_seq_len / 2 else "right", color="#b3362b",
        )  # fmt: skip
    axes.margins(y=0.2)
    axes.set_xlabel("tokens per sample")
    axes.set_ylabel("samples")
    return png(figure)
