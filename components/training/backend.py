"""`training_hub.osft(..., backend="single-device")`, or lora_sft or sft: in one process, on one GPU or on the CPU.

    import components.training.backend  # registers it
    training_hub.osft(model_path=..., data_path=..., ckpt_output_dir=..., backend="single-device", ...)

Writes `<ckpt_output_dir>/hf_format/samples_<n>/`, a plain Hugging Face folder where the stock backend has it,
`<ckpt_output_dir>/metrics.jsonl` with a line per optimizer step, and `<ckpt_output_dir>/checkpoints/` while it trains.
The same call resumes a training that was killed, and does nothing when it is finished. With more GPUs use the stock
backend of osft, mini-trainer.
"""

import contextlib
import dataclasses
import functools
import gc
import json
import os
import shlex
import shutil
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from training_hub import AlgorithmRegistry, Backend

from components.data.packs import Packing, packing
from components.data.samples import Sample, tokenize_rows
from components.models.headers import weight_files
from components.run.run_key import TRAINER_VERSION
from components.run.training_options import DROP, METHODS, TrainingOptions
from components.shared import progress
from components.shared.problems import problem
from components.shared.progress import duration
from components.shared.storage import from_dict, read_json, read_jsonl, sha256_of_file, sha256_of_json, write_text
from components.shared.workspace import METRICS, SNAPSHOT_MANIFEST
from components.training import loop
from components.training.arguments import NAME, PATHS, parse_options
from components.training.attention import attention_for
from components.training.callbacks import CallbackCaller
from components.training.checkpoints import Checkpoints
from components.training.loading import enable_checkpointing, load
from components.training.loss import PackLoss
from components.training.norms import fuse_norms
from components.training.optimizer import Optimizer
from components.training.saving import RESULT, save

if TYPE_CHECKING:
    from training_hub import TrainingHubCallback

# Read by torch when it first takes GPU memory: its segments can grow, so that less of it is lost to fragmentation.
os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")

TERMINATED = 128 + signal.SIGTERM  # the exit code of a process that a signal ended


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """What training_hub's functions return with this backend, and `several_gpus.train` with mini-trainer."""

    model_path: Path
    """The adapted model, a plain Hugging Face folder."""
    steps: list[loop.StepMetrics]
    samples: int
    loss_tokens_per_epoch: int
    train_dtype: str
    device: str
    training_seconds: float
    """Of the last piece, when the training was resumed."""
    saving_seconds: float
    factored_matrices: int = 0
    trainable_parameters: int = 0
    resumed_at: int = 0
    """The step whose checkpoint the training was resumed from; 0 for a training in one piece."""
    loading_seconds: float = 0.0
    """Reading and decomposing the base model."""
    checkpoint_pause_seconds: float = 0.0
    """The longest time that a checkpoint held up the training."""
    peak_memory_gib: float = 0.0
    """Most GPU memory allocated; 0 on the CPU."""


class SingleDeviceBackend(Backend):
    """The project's backend; see the module's text."""

    def __init__(self, method: str) -> None:
        """
        Args:
            method: training_hub's function whose backend it is.
        """
        self.method = method

    def execute_training(self, algorithm_params: dict[str, Any]) -> TrainingResult:
        """Train as training_hub's function was asked to; resume where the same training was killed.

        Raises:
            Problems: for unknown or unsupported options, data that does not fit them, a model that cannot be trained,
                a folder that holds another training, and a loss that is NaN or infinite, or diverges.
            SystemExit: with code 143 after SIGTERM, when a checkpoint is written.
        """
        options = parse_options(algorithm_params, self.method)
        model_path, data_path, output = (Path(algorithm_params[name]) for name in PATHS)
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(model_path, trust_remote_code=False)
        rows = read_jsonl(data_path)
        unmask = bool(algorithm_params.get("unmask_messages"))
        drops = options.control_tokens == DROP
        samples = list(tokenize_rows(rows, tokenizer, options.max_seq_len, str(data_path), unmask, drops))
        # A digest of the rows: tokens change from day to day where a chat template states the date.
        digest = sha256_of_json([rows, unmask])[:16]
        return run(model_path, samples, digest, options, output, algorithm_params.get("callbacks") or [])


def run(
    model_path: Path,
    samples: list[Sample],
    data_digest: str,
    options: TrainingOptions,
    output: Path,
    callbacks: "Iterable[TrainingHubCallback] | TrainingHubCallback" = (),
) -> TrainingResult:
    """Load, train and save; logs what it does."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    options = options.on(device.type)
    worker = ThreadPoolExecutor(1)  # hashing a large model's files takes as long as reading them
    identity = worker.submit(training_identity, model_path, data_digest, options)
    worker.shutdown(wait=False)
    final = output / "hf_format" / f"samples_{len(samples) * options.num_epochs}"
    checkpoints = Checkpoints(output / "checkpoints", identity.result, options.checkpoint_minutes)
    if final.exists():
        found = _read_result(final, identity.result())
        checkpoints.remove()  # of a training that was killed after it saved its result
        return found
    for unfinished in output.glob("*/.tmp-*"):  # what a killed training was writing; who trains here holds the lease
        shutil.rmtree(unfinished, ignore_errors=True)
    checkpoint = checkpoints.latest()

    started = time.monotonic()
    progress.log(f"loading {model_path} on {device_name(device)} in {options.train_dtype}")
    pack_loss, optimizer = _load(model_path, options, device, max(len(sample.tokens) for sample in samples))
    if device.type == "cuda":
        checkpoints.reserve(optimizer.state())
    gc.freeze()  # what is there by now stays: collections during the training need not walk it
    loading_seconds = time.monotonic() - started
    done = f"read the model and decomposed {len(optimizer.layers)} matrices" if optimizer.layers else "read the model"
    progress.log(f"{done} in {duration(loading_seconds)}")

    history: list[loop.StepMetrics] = []
    if checkpoint is not None:
        optimizer.load(checkpoint.state)
        history = [from_dict(loop.StepMetrics, line) for line in checkpoint.history]
        progress.log(f"resumed after step {checkpoint.step} from its checkpoint")
        checkpoint = None  # as large as the next one's copy
    resumed_at = len(history)
    batches = (batch for _, batch in loop.batches(samples, options))
    progress.log(packing_line(packing(batches, options.max_tokens_per_gpu)))
    output.mkdir(parents=True, exist_ok=True)
    hooks = CallbackCaller(callbacks, output)
    hooks.begin(history[-1] if history else None)
    started = time.monotonic()
    # A new file in the old one's place: another process that trains the same and was taken for dead writes to its own.
    write_text(output / METRICS, "".join(map(metrics_line, history)))
    with (output / METRICS).open("a", encoding="utf-8") as log, _catch_sigterm() as terminated:

        def on_step(metrics: loop.StepMetrics) -> bool:
            log.write(metrics_line(metrics))
            log.flush()
            pace = (time.monotonic() - started) / (metrics.step - resumed_at)
            progress.log(step_line(metrics, pace * (metrics.steps - metrics.step)))
            hooks.step(metrics)
            if metrics.step < metrics.steps and (checkpoints.due() or hooks.control.should_save or terminated.is_set()):
                hooks.control.should_save = False
                checkpoints.write(metrics.step, optimizer.state(), [dataclasses.asdict(line) for line in history])
            return not (terminated.is_set() or hooks.control.should_training_stop)

        loop.train(pack_loss, optimizer, samples, options, history, hooks.step_begins, on_step)
        checkpoints.close()
        if terminated.is_set() and len(history) < history[-1].steps:
            progress.log(f"terminated after step {history[-1].step}; run it again to continue from there")
            raise SystemExit(TERMINATED)
    training_seconds = time.monotonic() - started
    started = time.monotonic()
    progress.log(f"saving the adapted model to {final}")
    result = TrainingResult(
        model_path=final,
        steps=history,
        samples=len(samples),
        loss_tokens_per_epoch=sum(sample.loss_tokens for sample in samples),
        train_dtype=options.train_dtype,
        device=device_name(device),
        training_seconds=training_seconds,
        saving_seconds=0.0,
        factored_matrices=len(optimizer.layers),
        trainable_parameters=sum(weight.shape.numel() for weight in optimizer.weights.values()),
        resumed_at=resumed_at,
        loading_seconds=loading_seconds,
        checkpoint_pause_seconds=checkpoints.longest_pause_seconds,
        peak_memory_gib=torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else 0.0,
    )
    saved = {"identity": identity.result(), **dataclasses.asdict(result), "model_path": str(final)}
    save(pack_loss.model, optimizer, model_path, final, options.seed, {RESULT: saved})
    checkpoints.remove()
    hooks.end()
    return dataclasses.replace(result, saving_seconds=time.monotonic() - started)


def _load(
    model_path: Path, options: TrainingOptions, device: torch.device, longest_sample: int
) -> tuple[PackLoss, Optimizer]:
    """The model, ready to be trained."""
    from transformers import AutoConfig

    torch.manual_seed(options.seed)
    dtype = getattr(torch, options.train_dtype)
    config = AutoConfig.from_pretrained(model_path, trust_remote_code=False)
    model = load(model_path, options, device, dtype, attention_for(config, device, dtype, longest_sample))
    optimizer = Optimizer(model, options, dtype)
    if device.type == "cuda":
        if dtype == torch.bfloat16:
            fuse_norms(model)
        enable_checkpointing(model, options)
        torch.cuda.empty_cache()  # what decomposing needed, in sizes that training does not
    return PackLoss(model), optimizer


def training_identity(model_path: Path, data_digest: str, options: TrainingOptions) -> dict[str, Any]:
    """What makes two trainings the same: JSON values by name."""
    manifest = model_path / SNAPSHOT_MANIFEST
    if manifest.exists():
        model = read_json(manifest)["files"]
    else:
        model = {path.name: sha256_of_file(path) for path in [*weight_files(model_path), model_path / "config.json"]}
    identity = {
        "trainer": TRAINER_VERSION,
        "model": sha256_of_json(model)[:16],
        "data": data_digest,
        **options.determining(gpus=1),
    }
    return json.loads(json.dumps(identity))


def _read_result(final: Path, identity: dict[str, Any]) -> TrainingResult:
    saved = read_json(final / RESULT) if (final / RESULT).exists() else {"identity": {}}
    if saved.pop("identity") != identity:
        raise problem(
            f"there is a model of another training in {final}",
            where="ckpt_output_dir",
            rule="a finished training is neither repeated nor overwritten",
            remedy=f"remove that folder: rm -r {shlex.quote(str(final))}",
        )
    progress.log(f"already trained: {final}")
    return from_dict(TrainingResult, {**saved, "model_path": final})


@contextlib.contextmanager
def _catch_sigterm() -> Iterator[threading.Event]:
    """An event that SIGTERM sets instead of ending the process; only a main thread can have it."""
    terminated = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield terminated
        return
    before = signal.signal(signal.SIGTERM, lambda number, frame: terminated.set())
    try:
        yield terminated
    finally:
        signal.signal(signal.SIGTERM, before)


def metrics_line(metrics: loop.StepMetrics) -> str:
    """A line of metrics.jsonl."""
    return json.dumps(dataclasses.asdict(metrics)) + "\n"


def device_name(device: torch.device) -> str:
    """'NVIDIA L40S', or the CPU with its threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU ({torch.get_num_threads()} threads)"


def packing_line(made: Packing) -> str:
    """How full the packs are, as a line of text."""
    return (
        f"{made.tokens:,} tokens to compute in {made.packs:,} packs, which fill {made.fill:.0%} of "
        f"max_tokens_per_gpu = {made.max_tokens:,}; none is padding (padded samples: {made.padding_avoided:,} more)"
    )


def step_line(metrics: loop.StepMetrics, seconds_left: float) -> str:
    """A step as a line of text."""
    memory = f", {metrics.peak_memory_gib:.1f} GiB" if metrics.peak_memory_gib else ""
    return (
        f"step {metrics.step}/{metrics.steps}, epoch {metrics.epoch}, loss {metrics.loss:.4f}, "
        f"lr {metrics.learning_rate:.2e}, gradient {metrics.gradient_norm:.2f}, "
        f"{metrics.tokens_per_second:.0f} tokens/s{memory}, {duration(seconds_left)} left"
    )


for method in METHODS:
    AlgorithmRegistry.register_backend(method, NAME, functools.partial(SingleDeviceBackend, method))
