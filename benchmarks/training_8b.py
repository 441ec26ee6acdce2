"""OSFT of a model in Granite-3.2-8B's exact shape in 44 GiB of GPU memory, through training_hub's functions.

    python -m benchmarks.training_8b TOKENIZER_FOLDER WORK_FOLDER [LAYERS]
    python -m benchmarks.training_8b TOKENIZER_FOLDER WORK_FOLDER methods

Reading alone, decomposing alone, then whole trainings at 2,048 and 8,192 tokens a step, and one that is terminated and
resumed. With `methods`: OSFT with the rest frozen, LoRA and protected LoRA at the same two sizes, in methods_8b.json.
The weights are random: what is measured does not depend on them.
"""

import gc
import itertools
import json
import os
import resource
import shutil
import signal
import statistics
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import training_hub
from safetensors import safe_open
from torch.profiler import ProfilerActivity, profile
from training_hub import TrainingHubCallback

from benchmarks import common
from components.models.headers import weight_files
from components.shared.storage import sha256_of_file, write_json
from components.training import backend
from components.training.factors import decompose

CAP_GIB = 44.0
OPTIONS = {"max_seq_len": 1024, "learning_rate": 5e-6}
RATIO = {"unfreeze_rank_ratio": 0.25}
METHODS: dict[str, dict[str, Any]] = {
    "osft, rest frozen": {**RATIO, "train_unfactored": False},
    "lora_sft": {"method": "lora_sft"},
    "lora_sft, protected": {**RATIO, "method": "lora_sft", "lora_protect": True},
}
SIZES: dict[str, dict[str, Any]] = {  # of a step
    "2048": {"effective_batch_size": 4, "max_tokens_per_gpu": 2048},
    "8192": {"effective_batch_size": 16, "max_tokens_per_gpu": 8192},
}

KERNELS = {  # parts of kernels' names; the first that fits counts, for attention's names name its products as well
    "attention": ("flash", "fmha", "sdpa"),
    "matrix products": ("nvjet", "gemm", "cutlass::"),
    "optimizer and trained factors (kernels.cu)": ("direction", "step", "values"),
}


class Clock(TrainingHubCallback):
    """When each step ended, and what one of them did on the GPU."""

    def __init__(self, terminate_at: int = 0, profile_at: int = 0) -> None:
        self.started, self.terminate_at, self.profile_at = time.monotonic(), terminate_at, profile_at
        self.ends: list[float] = []
        self.gpu_seconds: dict[str, float] = {}
        self.profiler = profile(activities=[ProfilerActivity.CUDA])

    def on_step_begin(self, context: Any) -> None:
        if context.step == self.profile_at - 1:
            self.profiler.start()

    def on_step_end(self, context: Any) -> None:
        self.ends.append(time.monotonic() - self.started)
        if context.step == self.profile_at:
            torch.cuda.synchronize()
            self.profiler.stop()
            for event in self.profiler.key_averages():
                kinds = (kind for kind, parts in KERNELS.items() if any(part in event.key for part in parts))
                kind = next(kinds, "everything else")
                self.gpu_seconds[kind] = self.gpu_seconds.get(kind, 0) + event.self_device_time_total / 1e6
        if context.step == self.terminate_at:
            os.kill(os.getpid(), signal.SIGTERM)


def ceilings() -> dict[str, float]:
    """What this GPU reaches: one large matrix product in bfloat16, and copying."""
    one, other = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    memory = torch.empty(1 << 30, dtype=torch.uint8, device="cuda")

    def seconds(work: Callable[[], object], times: int = 20) -> float:
        work()
        torch.cuda.synchronize()
        started = time.monotonic()
        for _ in range(times):
            work()
        torch.cuda.synchronize()
        return (time.monotonic() - started) / times

    return {
        "bfloat16_tflops": 2 * 8192**3 / seconds(lambda: one @ other) / 1e12,
        "copy_tb_per_second": 2 * memory.numel() / seconds(memory.clone) / 1e12,
    }


class HostMemory:
    """The most memory that this process has to itself on the host (files mapped into it do not count)."""

    def __init__(self) -> None:
        self.before_gib = self.peak_gib = self.now_gib()
        self.stopped = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def now_gib(self) -> float:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 2**20

    def _watch(self) -> None:
        while not self.stopped.wait(0.2):
            self.peak_gib = max(self.peak_gib, self.now_gib())


def forget_files(folder: Path) -> None:
    """Let the next reading come from the disk."""
    for path in folder.iterdir():
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def weights(model: Path) -> Any:
    for path in weight_files(model):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - not a dictionary
                yield name, file.get_tensor(name).cuda()


def reading(model: Path) -> float:
    forget_files(model)
    started = time.monotonic()
    for _ in weights(model):
        pass
    torch.cuda.synchronize()
    return time.monotonic() - started


def decomposing(model: Path) -> dict[str, Any]:
    decompose(torch.eye(64, device="cuda"))
    seconds, errors, orthogonality = [], [], []
    for name, weight in weights(model):
        if "proj" not in name:
            continue
        torch.cuda.synchronize()
        started = time.monotonic()
        U, S, Vh = decompose(weight)
        torch.cuda.synchronize()
        seconds.append(time.monotonic() - started)
        errors.append(float(((U * S) @ Vh - weight.float()).norm() / weight.float().norm()))
        if len(errors) % 20 == 1:
            k = 3 * len(S) // 4
            orthogonality.append(float((U[:, :k].T @ U[:, :k] - torch.eye(k, device="cuda")).norm() / k**0.5))
    return {
        "matrices": len(seconds),
        "seconds": sum(seconds),
        "largest_relative_error": max(errors),
        "orthogonality_of_frozen_directions": max(orthogonality),
    }


def training(
    name: str, model: Path, data: Path, work: Path, clock: Clock, method: str = "osft", **options: Any
) -> dict[str, Any]:
    options = OPTIONS | (RATIO if method == "osft" else {}) | options
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    host = HostMemory()
    result = getattr(training_hub, method)(
        model_path=str(model), data_path=str(data), ckpt_output_dir=str(work / name), backend="single-device",
        callbacks=[clock], **options,
    )  # fmt: skip
    host.stopped.set()
    ends = clock.ends[:-1] if clock.profile_at else clock.ends  # the profiled step is the last one
    durations = [after - before for before, after in itertools.pairwise(ends)]
    tokens = statistics.mean(step.tokens for step in result.steps)
    return {
        "options": options | ({} if method == "osft" else {"method": method}),
        "steps": len(result.steps),
        "tokens_per_step": tokens,
        "start_to_first_step_seconds": clock.ends[0],
        "loading_seconds": result.loading_seconds,
        "step_seconds": durations,
        "gpu_seconds_of_a_step": clock.gpu_seconds,
        "tokens_per_second_median": tokens / statistics.median(durations),
        "tokens_per_second_mean": tokens / statistics.mean(durations),
        "saving_seconds": result.saving_seconds,
        "checkpoint_pause_seconds": result.checkpoint_pause_seconds,
        "peak_memory_gib": result.peak_memory_gib,
        "peak_reserved_gib": torch.cuda.max_memory_reserved() / common.GIB,
        "peak_host_memory_gib": host.peak_gib,
        "host_memory_before_gib": host.before_gib,
        "resumed_at": result.resumed_at,
        "losses": [step.loss for step in result.steps],
    }


def measure_methods(model: Path, tokenizer: Path, work: Path) -> None:
    """The other methods, 12 steps each."""
    common.cap_memory(CAP_GIB)
    rows = []
    for name, options in METHODS.items():
        for tokens, size in SIZES.items():
            data = common.write_data(work / f"{tokens}.jsonl", tokenizer, 12 * size["effective_batch_size"], 510)
            measured = training("methods", model, data, work, Clock(), num_epochs=1, **size, **options)
            rows.append({"name": name, **measured})
            print(json.dumps({**rows[-1], "losses": [], "step_seconds": []}), flush=True)
            shutil.rmtree(work / "methods")
    arguments = " TOKENIZER_FOLDER WORK_FOLDER methods"
    result = {"shape": "granite-3.2-8b", "cap_gib": CAP_GIB, "rows": rows}
    common.write_result("methods_8b", result, arguments, "training_8b")


def main() -> None:
    tokenizer, work = Path(sys.argv[1]), Path(sys.argv[2])
    methods_only = sys.argv[3:] == ["methods"]
    layers = int(sys.argv[3]) if len(sys.argv) > 3 and not methods_only else None
    work.mkdir(parents=True, exist_ok=True)
    model = common.write_model(work / "model", tokenizer, "granite-3.2-8b", layers)
    # As snapshot_model leaves it: hashes that need not be made again.
    files = {path.name: {"bytes": path.stat().st_size, "sha256": ""} for path in sorted(model.iterdir())}
    write_json(model / "snapshot.json", {"files": files})
    if methods_only:
        measure_methods(model, tokenizer, work)
        return
    size = sum(path.stat().st_size for path in weight_files(model)) / common.GIB
    common.cap_memory(CAP_GIB)
    result: dict[str, Any] = {"shape": "granite-3.2-8b", "layers": layers or 40, "model_gib": size, "cap_gib": CAP_GIB}
    result["ceilings"] = ceilings()
    torch.cuda.empty_cache()
    result["reading_alone_seconds"] = reading(model)
    result["decomposing_alone"] = decomposing(model)
    print(json.dumps(result), flush=True)

    forget_files(model)
    small = common.write_data(work / "2048.jsonl", tokenizer, 60, 510)
    options = SIZES["2048"] | {"num_epochs": 4}
    result["at_2048_tokens"] = training(
        "2048", model, small, work, Clock(profile_at=60), **options, checkpoint_minutes=0.6
    )
    print(json.dumps({**result["at_2048_tokens"], "losses": [], "step_seconds": []}), flush=True)
    shutil.rmtree(work / "2048")
    large = common.write_data(work / "8192.jsonl", tokenizer, 160, 510)
    options = SIZES["8192"] | {"num_epochs": 1}
    result["at_8192_tokens"] = training("8192", model, large, work, Clock(profile_at=10), **options)
    print(json.dumps({**result["at_8192_tokens"], "losses": [], "step_seconds": []}), flush=True)
    shutil.rmtree(work / "8192")

    part = common.write_model(work / "part", tokenizer, "granite-3.2-8b", 2)
    options = SIZES["2048"] | {"num_epochs": 2}
    whole = training("whole", part, small, work, Clock(), **options)
    try:
        training("pieces", part, small, work, Clock(terminate_at=12), **options)
    except SystemExit as stopped:
        print("terminated with", stopped.code, flush=True)
    pieces = training("pieces", part, small, work, Clock(), **options)
    result["resumed_on_the_gpu"] = {
        "layers": 2,
        "resumed_at": pieces["resumed_at"],
        "largest_difference_of_losses": max(
            abs(one - other) for one, other in zip(whole["losses"], pieces["losses"], strict=True)
        ),
        "same_weights": sha256_of_file(work / "whole/hf_format/samples_120/model.safetensors")
        == sha256_of_file(work / "pieces/hf_format/samples_120/model.safetensors"),
    }
    result["peak_host_memory_with_mapped_files_gib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    result["backend"] = backend.NAME
    common.write_result("training_8b", result)


if __name__ == "__main__":
    main()
