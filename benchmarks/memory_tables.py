"""What the plan says of a training's memory beside what was measured: the documents' table and picture of it."""

import io
from collections.abc import Iterator

from benchmarks import common
from benchmarks.common import result, table
from components.run.training_options import LORA, OSFT, TrainingOptions
from components.shared.storage import read_json
from components.training.memory import plan_memory
from pipeline.settings import load_settings


def measured_memory() -> Iterator[tuple[str, TrainingOptions, float]]:
    """Every measured peak: the model's shape, the training's options, GiB."""
    whole, methods = result("training_8b"), common.RESULTS / "methods_8b.json"
    cases = [
        (
            row["shape"],
            row["options"] | {"max_seq_len": row["sequence_length"], "max_tokens_per_gpu": row["max_tokens_per_gpu"]},
            row["peak_memory_gib"],
        )
        for name in ("memory", "memory_8b")
        for row in result(name)["rows"]
    ]
    trainings = [whole["at_2048_tokens"], whole["at_8192_tokens"]]
    trainings += read_json(methods)["rows"] if methods.exists() else []
    cases += [(whole["shape"], row["options"], row["peak_memory_gib"]) for row in trainings]
    for shape, given, measured in cases:
        options = {name: value for name, value in given.items() if name not in ("checkpoint_minutes", "num_epochs")}
        yield shape, TrainingOptions(**options | {"train_dtype": "bfloat16"}), measured


def method_text(options: TrainingOptions) -> str:
    """A method with what decides about its memory: 'osft 0.25'."""
    text = options.method
    if options.method == LORA:
        text += f", rank {options.lora_r}" + (", protected" if options.lora_protect else "")
    if options.protects:
        text += f" {options.unfreeze_rank_ratio:g}"
    return text + (", rest frozen" if options.method == OSFT and not options.train_unfactored else "")


def memory() -> str:
    rows = []
    for shape, options, measured in measured_memory():
        planned = plan_memory(common.config(shape).to_dict(), options).total_gib
        names = [shape, method_text(options), f"{options.max_seq_len:,}"]
        numbers = [f"{measured:.2f}", f"{planned:.2f}", f"{100 * (planned / measured - 1):+.1f} %"]
        rows.append([*names, f"{options.max_tokens_per_gpu:,}", *numbers])
    return table(["shape", "method", "sequence", "tokens at once", "measured GiB", "planned GiB", "plan"], rows)


def picture() -> str:
    """Where an 8B model's memory goes, for several ratios, as SVG."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "osft"
    from matplotlib.figure import Figure

    ratios = (0.1, 0.25, 0.4, 0.5)
    config = common.config("granite-3.2-8b").to_dict()
    plans = [plan_memory(config, TrainingOptions(unfreeze_rank_ratio=r, train_dtype="bfloat16")) for r in ratios]
    parts = {
        "frozen factors": [plan.frozen_gib for plan in plans],
        "trained weights with their moments": [plan.trained_gib for plan in plans],
        "gradients": [plan.gradients_gib for plan in plans],
        "activations": [plan.activations_gib for plan in plans],
        "unusable between them": [plan.needed_gib - plan.total_gib for plan in plans],
    }
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    axes = figure.add_subplot()
    left = [0.0] * len(ratios)
    for (name, values), colour in zip(
        parts.items(), ("#355c7d", "#6c8ebf", "#f2a65a", "#c06c84", "#cccccc"), strict=True
    ):
        axes.barh([f"{ratio:g}" for ratio in ratios], values, left=left, label=name, color=colour)
        left = [before + value for before, value in zip(left, values, strict=True)]
    offered = load_settings().gpu.memory_gib
    axes.axvline(offered, color="black", linestyle="--")
    axes.text(offered + 0.4, -0.3, "L40S", va="bottom")
    axes.set_xlabel("GiB, Granite-3.2-8B, 2,048 tokens at once")
    axes.set_ylabel("unfreeze_rank_ratio")
    axes.set_xlim(0, max(left) * 1.08)
    axes.invert_yaxis()
    figure.legend(loc="outside upper center", ncols=3, frameon=False)
    drawn = io.StringIO()
    figure.savefig(drawn, format="svg", metadata={"Date": None})
    return drawn.getvalue()
