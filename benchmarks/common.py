"""What the benchmarks share: random models in real models' exact shapes, data, and results with their origin."""

import json
import platform
import random
import shutil
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from components.data import chat
from components.shared.storage import read_json

RESULTS = Path(__file__).parent / "results"
GIB = 2**30
PACKAGES = ("torch", "transformers", "peft", "training-hub", "safetensors", "rhai-innovation-mini-trainer")

# From the models' config.json.
SHAPES: dict[str, dict[str, Any]] = {
    "granite-3.2-8b": {
        "vocab_size": 49155, "hidden_size": 4096, "intermediate_size": 12800, "num_hidden_layers": 40,
        "num_attention_heads": 32, "num_key_value_heads": 8, "embedding_multiplier": 12.0, "logits_scaling": 16.0,
        "residual_multiplier": 0.22, "attention_multiplier": 0.0078125,
    },
    "granite-3.3-2b": {
        "vocab_size": 49159, "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 40,
        "num_attention_heads": 32, "num_key_value_heads": 8, "embedding_multiplier": 12.0, "logits_scaling": 8.0,
        "residual_multiplier": 0.22, "attention_multiplier": 0.015625,
    },
    "smollm2-135m": {
        "vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
        "num_attention_heads": 9, "num_key_value_heads": 3,
    },
}  # fmt: skip


def config(shape: str, layers: int | None = None) -> Any:
    """The transformers configuration of a shape; with fewer layers when asked."""
    from transformers import GraniteConfig, LlamaConfig

    values = SHAPES[shape] | ({"num_hidden_layers": layers} if layers else {})
    kind = GraniteConfig if shape.startswith("granite") else LlamaConfig
    return kind(**values, max_position_embeddings=8192, tie_word_embeddings=True, rms_norm_eps=1e-5, dtype="bfloat16")


def write_model(folder: Path, tokenizer: Path, shape: str, layers: int | None = None, vocabulary: int = 0) -> Path:
    """A model with random weights as a bfloat16 Hugging Face folder, with a real tokenizer.

    Args:
        vocabulary: of the tokenizer, where it may be larger than the shape's.
    """
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        shaped = config(shape, layers)
        shaped.vocab_size = max(shaped.vocab_size, vocabulary)
        model = AutoModelForCausalLM.from_config(shaped, dtype=torch.bfloat16)
    torch.set_default_dtype(torch.float32)
    model.save_pretrained(folder, max_shard_size="5GB")
    for path in tokenizer.iterdir():
        if "token" in path.name or path.suffix == ".jinja":
            shutil.copyfile(path, folder / path.name)
    del model
    torch.cuda.empty_cache()
    return folder


def write_data(path: Path, tokenizer: Path, samples: int, tokens: int) -> Path:
    """Chat rows about the kite guild, each of nearly `tokens` tokens and never more."""
    import csv

    from transformers import AutoTokenizer

    from components.data.samples import tokenize

    rows = Path(__file__).parent.parent / "examples" / "kite-guild" / "sdg_output.csv"
    with rows.open(encoding="utf-8", newline="") as file:
        sentences = [row["response"].strip() for row in csv.DictReader(file) if row["response"].strip()]
    counter = AutoTokenizer.from_pretrained(tokenizer)
    choice = random.Random(0)  # noqa: S311 - data
    with path.open("w", encoding="utf-8") as out:
        for number in range(samples):
            answer = ""
            while True:
                longer = f"{answer} {choice.choice(sentences)}".strip()
                row = chat.training_row("You know the guild.", f"What is written on page {number}?", longer)
                if len(tokenize(row["messages"], counter).tokens) > tokens and answer:
                    break
                answer, last = longer, row
            out.write(json.dumps(last) + "\n")
    return path


def cap_memory(gib: float) -> None:
    """Let this process have no more GPU memory than an L40S would give it."""
    torch.cuda.set_per_process_memory_fraction(gib * GIB / torch.cuda.get_device_properties(0).total_memory)


def _version(package: str) -> str | None:
    """None where it is not installed: a machine with a GPU need not have all that the project uses."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def origin() -> dict[str, Any]:
    """This machine and the versions of what measures."""
    gpu = torch.cuda.is_available()
    return {
        "device": torch.cuda.get_device_name() if gpu else platform.processor() or platform.machine(),
        "device_memory_gib": torch.cuda.get_device_properties(0).total_memory / GIB if gpu else None,
        "python": platform.python_version(),
        "versions": {package: _version(package) for package in PACKAGES},
    }


def write_result(
    name: str,
    result: dict[str, Any],
    arguments: str = " TOKENIZER_FOLDER WORK_FOLDER",
    program: str = "",
    measured_on: dict[str, Any] | None = None,
) -> None:
    """Write a benchmark's result with the device, the versions and the command that gave it.

    Args:
        program: that made it, where the result is not named after it.
        measured_on: the `origin` of what was measured, where that was another machine or at another time.
    """
    command = f"python -m benchmarks.{program or name}{arguments}"
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    whole = {"origin": {"command": command, **(measured_on or origin())}, **result}
    path.write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")
    print(path.read_text(encoding="utf-8"))


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def result(name: str) -> dict[str, Any]:
    """What a benchmark has written."""
    return dict(read_json(RESULTS / f"{name}.json"))
