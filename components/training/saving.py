"""The adapted model as a plain Hugging Face folder, matrix by matrix: neither GPU nor host ever holds all of it.

Each weight is the base model's weight plus its change, and the sum is rounded to the base model's number format
stochastically: most changes are smaller than half the distance between two bfloat16 numbers, and rounded to the nearest
they would be gone. Everything else in the folder (configuration, tokenizer, chat template) is the base model's.
"""

import shutil
import zlib
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from components.models.headers import INDEX, WEIGHTS
from components.models.stops import save_stop_tokens
from components.shared import progress
from components.shared.storage import flush, publish_folder, write_json, write_text
from components.shared.workspace import SNAPSHOT_MANIFEST, TRAINING_REPORT
from components.training.adapters import ADAPTER, A, B, adapted_layers
from components.training.factors import factored_layers
from components.training.loading import open_weights
from components.training.optimizer import Optimizer
from components.training.weights import trained_weight

MAX_FILE = 2 << 30  # bytes of one file of weights; as many again wait to be written
WRITERS = 2
RESULT = "training_result.json"
RECORDS = (INDEX, SNAPSHOT_MANIFEST, TRAINING_REPORT, RESULT)  # about the base model's own files
COPIED = (".json", ".jinja", ".txt", ".model", ".tiktoken")  # what a model folder has besides its weights


def save(model: nn.Module, optimizer: Optimizer, base: Path, final: Path, seed: int, records: dict[str, Any]) -> None:
    """Write the trained model, complete or not at all.

    Args:
        model: the model as it was loaded and trained.
        optimizer: its optimizer.
        base: the base model's folder.
        final: the folder to make.
        seed: decides the noise of stochastic rounding.
        records: JSON values to write beside the model, by file name.
    """
    write_folder(base, _adapted_weights(model, optimizer, base, seed), final, records)


def write_folder(base: Path, weights: Iterator[tuple[str, Tensor]], final: Path, records: dict[str, Any]) -> None:
    """Write a model with other weights than its base, complete or not at all.

    Args:
        weights: those of the base model by name, in the order of its files.
        records: what to write beside them, by file name: a text as it is, all else as JSON.
    """
    files = list(_files(base))
    total = sum(len(names) for _, names in files)
    adapted = progress.track(weights, total, "saving weights")
    with publish_folder(final) as folder:
        for path in base.iterdir():
            if path.suffix in COPIED and path.name not in RECORDS:
                shutil.copyfile(path, folder / path.name)
        save_stop_tokens(folder)
        pending: list[Future[None]] = []
        with ThreadPoolExecutor(WRITERS) as writers:
            for file, names in files:
                tensors = {name: tensor for name, tensor in (next(adapted) for _ in names)}
                while len(pending) >= WRITERS:
                    pending.pop(0).result()
                pending.append(writers.submit(_write, tensors, folder / file))
                del tensors
            for writing in pending:
                writing.result()
        for name, value in records.items():
            write_text(folder / name, value) if isinstance(value, str) else write_json(folder / name, value)
        if len(files) > 1:
            size = sum((folder / file).stat().st_size for file, _ in files)
            weight_map = {name: file for file, names in files for name in names}
            index = {"metadata": {"total_size": size}, "weight_map": weight_map}
            write_json(folder / INDEX, index)


def _files(base: Path) -> Iterator[tuple[str, list[str]]]:
    """File names with the names of the weights in each, in the order of the base model's files."""
    groups: list[list[str]] = [[]]
    size = 0
    with open_weights(base) as weights:
        for name, file in weights.items():
            view = file.get_slice(name)
            length = torch.Size(view.get_shape()).numel() * _bytes(view.get_dtype())
            if groups[-1] and size + length > MAX_FILE:
                groups.append([])
                size = 0
            groups[-1].append(name)
            size += length
    if len(groups) == 1:
        yield WEIGHTS, groups[0]
        return
    for number, names in enumerate(groups, 1):
        yield f"model-{number:05d}-of-{len(groups):05d}.safetensors", names


def _bytes(dtype: str) -> int:
    return int("".join(filter(str.isdigit, dtype.split("_")[0])) or 8) // 8  # 'BF16', 'F32', 'BOOL'


def _write(tensors: dict[str, Tensor], path: Path) -> None:
    save_file(tensors, path, metadata={"format": "pt"})
    flush(path)  # here, where it runs while the next file is computed


@torch.no_grad()
def _adapted_weights(model: nn.Module, optimizer: Optimizer, base: Path, seed: int) -> Iterator[tuple[str, Tensor]]:
    layers = {f"{name}.weight": layer for name, layer in factored_layers(model).items()}
    scalings = {f"{name}.weight": layer.scaling[ADAPTER] for name, layer in adapted_layers(model).items()}
    with open_weights(base) as weights:
        for name, file in weights.items():
            before = file.get_tensor(name)
            if name in layers:
                layer = layers[name]
                after = layer.frozen_weight(before.to(layer.U_high.device)) + layer.trained_part()
            elif name in scalings:
                layer_name = name.removesuffix(".weight")
                a, b = (optimizer.small[f"{layer_name}.{factor}"] for factor in (A, B))
                after = torch.addmm(before.to(a), b, a, alpha=scalings[name])
            elif (trained := optimizer.value(name)) is not None:
                start = before.to(trained.device).float()
                # What it began as is not quite the base model's, where its form rounds; its change is what counts.
                began = trained_weight(name, start.clone(), optimizer.dtype).values(torch.float32)
                after = start + (trained - began)
            else:  # frozen
                yield name, before
                continue
            yield name, round_named(after, before.dtype, seed, name).cpu()


def round_named(values: Tensor, dtype: torch.dtype, seed: int, name: str) -> Tensor:
    """`round_stochastically` with noise that the weight's name decides as well."""
    return round_stochastically(values, dtype, zlib.crc32(f"{seed}/{name}".encode()))


def round_stochastically(values: Tensor, dtype: torch.dtype, seed: int) -> Tensor:
    """Float32 to another format; to bfloat16 up or down with the probability that keeps the mean."""
    if dtype != torch.bfloat16:
        return values.to(dtype)
    generator = torch.Generator(values.device).manual_seed(seed)
    noise = torch.randint(1 << 16, values.shape, dtype=torch.int32, device=values.device, generator=generator)
    return ((values.contiguous().view(torch.int32) + noise) & -65536).view(torch.float32).to(torch.bfloat16)
