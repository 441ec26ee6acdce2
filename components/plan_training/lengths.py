"""How long the samples are, in tokens, and a histogram of it."""

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from components.shared.drawing import Plot

MIN_STOCK_SAMPLE = 20  # tokens; instructlab.training.data_process drops what is shorter
BARS = 40


def length_chart(lengths: Sequence[int], max_seq_len: int) -> Markup:
    """How many samples have how many tokens, up to max_seq_len."""
    width = max(1, -(-max_seq_len // BARS))
    counts = np.bincount(np.asarray(lengths) // width, minlength=1).tolist()
    plot = Plot(0, max(max_seq_len, width * len(counts)), "tokens per sample")
    plot.bars(counts, width, "samples")
    plot.mark(MIN_STOCK_SAMPLE, "mini-trainer drops shorter ones")
    plot.mark(max_seq_len, "max_seq_len")
    return plot.svg("Histogram: how many samples have how many tokens")
