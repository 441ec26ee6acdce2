"""`training_hub.osft(..., backend="single-device")`: OSFT in one process, on one GPU or on the CPU.

    import components.train_osft.backend  # registers it
    training_hub.osft(model_path=..., data_path=..., ckpt_output_dir=..., backend="single-device", ...)

Writes `<ckpt_output_dir>/hf_format/samples_<n>/`, a plain Hugging Face folder where the stock backend has it, and
`<ckpt_output_dir>/metrics.jsonl` with a line per optimizer step. With more GPUs use the stock backend, mini-trainer.
"""

import dataclasses
import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from training_hub import AlgorithmRegistry, Backend

from components import progress
from components.problems import Checks, quote, suggest
from components.storage import publish_folder
from components.train_osft import loop
from components.train_osft.callbacks import CallbackCaller
from components.train_osft.factors import factored_layers, factorize, plain_state_dict, target_names
from components.train_osft.options import TrainingOptions
from components.train_osft.samples import Sample, tokenize_rows

if TYPE_CHECKING:
    from training_hub import TrainingHubCallback
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

NAME = "single-device"

PATHS = ("model_path", "data_path", "ckpt_output_dir")
# Options of training_hub.osft that this backend honours beside TrainingOptions.
HONOURED = ("unmask_messages", "callbacks", "save_final_checkpoint")
# One process on one device: these say what holds anyway.
HARMLESS = {"nproc_per_node": (1, "auto", "gpu"), "nnodes": (1,), "node_rank": (0,), "use_processed_dataset": (False,)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """What `training_hub.osft` returns with this backend."""

    model_path: Path
    """The adapted model, a plain Hugging Face folder."""
    steps: list[loop.StepMetrics]
    samples: int
    loss_tokens_per_epoch: int
    factored_matrices: int
    trainable_parameters: int
    decomposition_seconds: float
    training_seconds: float
    device: str


class SingleDeviceBackend(Backend):
    """The project's OSFT backend; see the module's text."""

    def execute_training(self, algorithm_params: dict[str, Any]) -> TrainingResult:
        """Train as `training_hub.osft` was asked to.

        Raises:
            Problems: for unknown or unsupported options, and data that does not fit them.
        """
        options, paths, honoured = split_options(algorithm_params)
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(paths["model_path"])
        with Path(paths["data_path"]).open(encoding="utf-8") as file:
            rows = [json.loads(line) for line in file]
        samples = tokenize_rows(
            rows, tokenizer, options.max_seq_len, paths["data_path"], bool(honoured.get("unmask_messages"))
        )
        return run(
            Path(paths["model_path"]),
            tokenizer,
            samples,
            options,
            Path(paths["ckpt_output_dir"]),
            honoured.get("callbacks") or [],
        )


def split_options(params: dict[str, Any]) -> tuple[TrainingOptions, dict[str, str], dict[str, Any]]:
    """Sort the arguments of `training_hub.osft` into options, paths and what else is honoured.

    Raises:
        Problems: naming every option that is unknown here, or known and not honoured; none is dropped silently.
    """
    checks = Checks()
    option_names = [field.name for field in dataclasses.fields(TrainingOptions)]
    known = {*option_names, *PATHS, *HONOURED, *HARMLESS}
    options = {}
    for name, value in params.items():
        if value is None or (value is False and name not in option_names):
            continue  # not asked for
        if name in option_names:
            options[name] = value
        elif name not in known:
            checks.add(
                f"option {name} = {quote(value)} is not honoured by the backend {NAME}{suggest(name, known)}",
                where="training_hub.osft",
                rule=f"it honours {', '.join(sorted(known))}",
                remedy="correct the name, leave the option out, or use backend='mini-trainer'",
            )
        elif name in HARMLESS and value not in HARMLESS[name]:
            checks.add(
                f"option {name} = {quote(value)} is not honoured by the backend {NAME}",
                where="training_hub.osft",
                rule=f"this backend is one process on one device: {name} can only be {HARMLESS[name][0]!r}",
                remedy="leave the option out, or use backend='mini-trainer', which spreads over GPUs",
            )
    if params.get("save_final_checkpoint") is False:
        checks.add(
            "save_final_checkpoint is False",
            where="training_hub.osft",
            rule="the adapted model is this backend's only result",
            remedy="leave the option out",
        )
    try:
        parsed = TrainingOptions.from_mapping(options)
    except ValueError as error:
        checks.collect(error)  # type: ignore[arg-type]
    checks.raise_if_any()
    return parsed, {name: str(params[name]) for name in PATHS}, {name: params.get(name) for name in HONOURED}


def run(
    model_path: Path,
    tokenizer: "PreTrainedTokenizerBase",
    samples: list[Sample],
    options: TrainingOptions,
    output: Path,
    callbacks: Iterable["TrainingHubCallback"] = (),
) -> TrainingResult:
    """Load, decompose, train and save; says what it does."""
    from transformers import AutoModelForCausalLM

    torch.manual_seed(options.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    progress.say(f"loading {model_path} on {device_name(device)}")
    model = AutoModelForCausalLM.from_pretrained(model_path, dtype=torch.float32, device_map=device)
    names = target_names(model, target_patterns(model, options))
    started = time.monotonic()
    for _ in progress.track(factorize(model, names, options.unfreeze_rank_ratio), len(names), "decomposing matrices"):
        pass
    decomposition_seconds = time.monotonic() - started
    factors = factored_layers(model)
    progress.say(f"decomposed {len(factors)} matrices in {progress.duration(decomposition_seconds)}")

    output.mkdir(parents=True, exist_ok=True)
    hooks = CallbackCaller(callbacks, output)
    hooks.begin()
    started = time.monotonic()
    with (output / "metrics.jsonl").open("w", encoding="utf-8") as log:

        def on_step(metrics: loop.StepMetrics) -> None:
            log.write(json.dumps(dataclasses.asdict(metrics)) + "\n")
            log.flush()
            left = (time.monotonic() - started) / metrics.step * (metrics.steps - metrics.step)
            progress.say(step_line(metrics, left))
            hooks.step(metrics)

        steps = loop.train(model, samples, options, on_step)
    training_seconds = time.monotonic() - started
    final = output / "hf_format" / f"samples_{len(samples) * options.num_epochs}"
    progress.say(f"saving the adapted model to {final}")
    save(model, tokenizer, saved_dtype(model_path), final)
    hooks.end()
    return TrainingResult(
        model_path=final,
        steps=steps,
        samples=len(samples),
        loss_tokens_per_epoch=sum(sample.loss_tokens for sample in samples),
        factored_matrices=len(factors),
        trainable_parameters=sum(p.numel() for p in model.parameters() if p.requires_grad),
        decomposition_seconds=decomposition_seconds,
        training_seconds=training_seconds,
        device=device_name(device),
    )


def target_patterns(model: "PreTrainedModel", options: TrainingOptions) -> tuple[str, ...]:
    """Which weights to decompose: the user's patterns, or mini_trainer's for the model's class."""
    from mini_trainer.osft_utils import get_model_patterns

    return options.target_patterns or tuple(get_model_patterns(type(model)))


def saved_dtype(model_path: Path) -> torch.dtype:
    """The number format of the base model's files; the adapted model is saved in the same one."""
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(model_path).dtype or torch.float32


def save(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", dtype: torch.dtype, final: Path) -> None:
    """Write the model as a plain Hugging Face folder, complete or not at all."""
    state = plain_state_dict(model, dtype)
    if model.config.tie_word_embeddings:
        state.pop("lm_head.weight", None)  # the same tensor as the embedding
    with publish_folder(final) as folder:
        model.save_pretrained(folder, state_dict=state)
        model.config.dtype = dtype  # save_pretrained states the format of the model in memory
        model.config.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def device_name(device: torch.device) -> str:
    """'NVIDIA L40S', or the CPU with its threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU ({torch.get_num_threads()} threads)"


def step_line(metrics: loop.StepMetrics, seconds_left: float) -> str:
    """A step as a line of text."""
    memory = f", {metrics.peak_memory_gib:.1f} GiB" if metrics.peak_memory_gib else ""
    return (
        f"step {metrics.step}/{metrics.steps}, epoch {metrics.epoch}, loss {metrics.loss:.4f}, "
        f"lr {metrics.learning_rate:.2e}, gradient {metrics.gradient_norm:.2f}, "
        f"{metrics.tokens_per_second:.0f} tokens/s{memory}, {progress.duration(seconds_left)} left"
    )


AlgorithmRegistry.register_backend("osft", NAME, SingleDeviceBackend)
