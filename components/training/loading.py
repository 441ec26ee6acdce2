"""The base model from its files into the form it is trained in; OSFT decomposes from the first matrix on that is read.

The model is built without memory for its weights. A thread reads them in the order of the files and puts them on the
device, a few ahead; each matrix to decompose is factored as it arrives, and everything else becomes an ordinary weight.
"""

import contextlib
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from components.models.headers import weight_files, weights_of
from components.models.shapes import default_patterns, frozen_rank
from components.run.training_options import LORA, OSFT, TrainingOptions
from components.shared import progress
from components.shared.problems import list_some, problem
from components.training.adapters import Protection, add_adapters
from components.training.factors import OSFTLinear, decompose, factorize, target_names

if TYPE_CHECKING:
    from transformers import PreTrainedModel

DROPOUTS = ("attention_dropout", "embd_pdrop", "hidden_dropout", "resid_pdrop")  # in transformers' configurations
READ_AHEAD = 4  # weights
WORKERS = 2  # of the GPU: one matrix' decomposition leaves gaps that another's fills


def load(
    model_path: Path, options: TrainingOptions, device: torch.device, dtype: torch.dtype, attention: str
) -> "PreTrainedModel":
    """A causal language model, its target matrices factored or with adapters, and frozen what is not to be trained.

    Args:
        model_path: a plain Hugging Face folder with safetensors.
        dtype: to compute in.
        attention: a name of transformers' attention implementations.

    Raises:
        Problems: when the files lack a weight of the model, or one holds NaN or infinity.
    """
    model = skeleton(model_path, dtype, attention)
    patterns = default_patterns(model.config.model_type) if options.targets is None else options.targets
    targets = set(target_names(model, patterns, options.unfreeze_rank_ratio)) if options.protects else set()
    missing = {name for name, _ in model.named_parameters()}
    total = len(missing)
    if device.type == "cuda":
        torch.linalg.eigh(torch.eye(2, device=device))  # torch loads its linear algebra once, not from two threads

    def factor(layer: str, weight: Tensor) -> tuple[str, OSFTLinear | Protection]:
        factored: OSFTLinear | Protection
        if options.method == OSFT:
            factored = factorize(layer, weight, options.unfreeze_rank_ratio, dtype)
            factored.start = factored.start.cpu()
        else:
            frozen = frozen_rank(tuple(weight.shape), options.unfreeze_rank_ratio)
            factored = Protection(decompose(weight), frozen, dtype)
        _finish_stream(device)
        return layer, factored

    def weights() -> Iterator[tuple[str, OSFTLinear | Protection]]:
        decomposing: deque[Future[tuple[str, OSFTLinear | Protection]]] = deque()
        with ThreadPoolExecutor(WORKERS, initializer=_own_stream, initargs=(device,)) as workers:
            for name, weight in _read_ahead(model_path, device):
                if name not in missing:
                    continue  # of no use to this architecture
                missing.remove(name)
                if not torch.isfinite(weight).all():
                    raise problem(
                        f"{name} holds values that are NaN or infinite",
                        where=f"the model's files in {model_path}",
                        rule="every weight is finite: a single NaN makes every loss NaN",
                        remedy="download the model again from where it came from",
                    )
                module, _, kind = name.rpartition(".")
                is_target = kind == "weight" and module in targets
                if not is_target or options.method == LORA:
                    model.get_submodule(module).register_parameter(kind, nn.Parameter(weight.to(dtype)))
                    _finish_stream(device)  # the memory of what was converted goes back to the reading thread
                if is_target and device.type == "cpu":
                    yield factor(module, weight)  # here: in another thread a decomposition has one core to itself
                elif is_target:
                    decomposing.append(workers.submit(factor, module, weight))
                del weight
                while len(decomposing) > WORKERS:
                    yield decomposing.popleft().result()
            while decomposing:
                yield decomposing.popleft().result()

    work = "reading and decomposing matrices" if targets else "reading"
    protections = {}
    for name, factored in progress.track(weights(), len(targets), work):
        if isinstance(factored, Protection):
            protections[name] = factored
            continue
        factored.bias = model.get_submodule(name).bias  # type: ignore[assignment]
        model.set_submodule(name, factored)
    if missing:
        raise problem(
            f"{len(missing)} of {total} weights are missing: {list_some(sorted(missing))}",
            where=f"the model's files in {model_path}",
            rule="the files hold every weight of the architecture that config.json names, under transformers' names",
            remedy="download the model again, or save it with transformers' save_pretrained",
        )
    model.tie_weights()
    for module in model.modules():
        for name, buffer in module.named_buffers(recurse=False):
            module.register_buffer(name, buffer.to(device), persistent=name not in module._non_persistent_buffers_set)
    if options.method == LORA:
        add_adapters(model, patterns, options, protections)
    elif not options.trains_rest:
        model.requires_grad_(False)
    if not options.trains_rest:
        # Layers are computed again for their gradients only if what comes in has one.
        model.get_input_embeddings().register_forward_hook(lambda module, inputs, output: output.requires_grad_())
    return model.eval()


def skeleton(model_path: Path, dtype: torch.dtype, attention: str) -> "PreTrainedModel":
    """The model that config.json describes, its weights without memory, its buffers on the CPU.

    Dropout is off: a training that was killed could not repeat it.
    """
    from accelerate import init_empty_weights
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(model_path, trust_remote_code=False)
    for name in DROPOUTS:
        if hasattr(config, name):
            setattr(config, name, 0.0)
    with init_empty_weights(include_buffers=False):
        model = AutoModelForCausalLM.from_config(
            config, dtype=dtype, attn_implementation=attention, trust_remote_code=False
        )
    model.tie_weights()
    return model


@contextlib.contextmanager
def open_weights(folder: Path) -> Iterator[dict[str, Any]]:
    """The weights of a model folder by name, in the order of the files, each with the open file that holds it."""
    from safetensors import safe_open

    with contextlib.ExitStack() as stack:
        files = {path: stack.enter_context(safe_open(path, framework="pt")) for path in weight_files(folder)}
        yield {name: files[path] for name, path in weights_of(folder).items()}


def _read_ahead(folder: Path, device: torch.device) -> Iterator[tuple[str, Tensor]]:
    """The weights in the order of the files, read in a thread of their own, a few ahead of their use."""

    def read(file: Any, name: str) -> tuple[str, Tensor]:
        weight = file.get_tensor(name).to(device)
        _finish_stream(device)
        return name, weight

    reading: deque[Future[tuple[str, Tensor]]] = deque()
    with (
        open_weights(folder) as weights,
        ThreadPoolExecutor(1, initializer=_own_stream, initargs=(device,)) as reader,
    ):
        for name, file in weights.items():
            reading.append(reader.submit(read, file, name))
            if len(reading) > READ_AHEAD:
                yield reading.popleft().result()
        while reading:
            yield reading.popleft().result()


def _own_stream(device: torch.device) -> None:
    """Let this thread work on the GPU beside what others do there. A stream each: it has workspaces of its own."""
    if device.type == "cuda":
        torch.cuda.set_stream(torch.cuda.Stream(device))


def _finish_stream(device: torch.device) -> None:
    """Wait until what this thread asked of the GPU is done and may be used by others."""
    if device.type == "cuda":
        torch.cuda.current_stream(device).synchronize()


def enable_checkpointing(model: "PreTrainedModel", options: TrainingOptions) -> None:
    """Let each layer be computed again for its gradients, for less memory."""
    # The reentrant form has fewer hooks; dropout must leave out the same in the second computation.
    model.gradient_checkpointing_enable({"use_reentrant": True, "preserve_rng_state": options.lora_dropout > 0})
