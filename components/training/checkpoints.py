"""Checkpoints: what a killed training is resumed from, written while it trains and complete or absent.

    <folder>/step-00000120/state-00001.safetensors ...   every trained weight with its moments
    <folder>/step-00000120/checkpoint.json               step, whose training it is, each file with size and sha256

Training stands still while the state is copied to the host; a thread writes the copy. The checkpoint before stays until
the next one is complete. What is not in it (the frozen factors, the data's order, the noise of rounding) is made again
from the base model and the seed.
"""

import dataclasses
import os
import shlex
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from components.shared import progress
from components.shared.problems import list_some, problem
from components.shared.storage import publish_folder, read_json, sha256_of_file, sha256_of_json, write_json
from components.training.memory import MIN_CHECKPOINT_SECONDS, checkpoint_seconds

MANIFEST = "checkpoint.json"
MAX_FILE = 256 << 20  # bytes: a file's write holds Python's lock, training must not notice
READERS = 4


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was read and found whole."""

    step: int
    state: dict[str, Tensor]
    history: list[dict[str, Any]]
    """The metrics of each step up to it."""


class Checkpoints:
    """The checkpoints of one training."""

    def __init__(self, folder: Path, identity: Callable[[], Mapping[str, Any]], minutes: float | None) -> None:
        """
        Args:
            folder: where they lie; is made when the first one is written.
            identity: gives JSON values that say whose training it is; a checkpoint with others is never loaded.
            minutes: time between two; None for as often as their measured cost allows.
        """
        self.folder, self.identity, self.minutes = folder, identity, minutes
        self.seconds = MIN_CHECKPOINT_SECONDS if minutes is None else minutes * 60
        self.last_written = time.monotonic()
        self.writer: threading.Thread | None = None
        self.error: BaseException | None = None
        self.host: dict[str, Tensor] = {}
        self.longest_pause_seconds = 0.0

    def due(self) -> bool:
        """Whether it is time for one, and the previous one is written."""
        writing = self.writer is not None and self.writer.is_alive()
        return not writing and time.monotonic() - self.last_written >= self.seconds

    def reserve(self, state: Mapping[str, Tensor]) -> None:
        """Take the host's memory for copies beforehand: pages that are first touched are several times slower."""
        if not any(tensor.is_cuda for tensor in state.values()):
            return
        self.host = {name: torch.empty_like(tensor, device="cpu") for name, tensor in state.items()}
        self.writer = threading.Thread(target=lambda: [tensor.zero_() for tensor in self.host.values()], daemon=True)
        self.writer.start()

    def write(self, step: int, state: Mapping[str, Tensor], history: list[dict[str, Any]]) -> None:
        """Copy the state to the host and begin to write it."""
        self.finish()
        started = time.monotonic()
        on_gpu = any(tensor.is_cuda for tensor in state.values())
        for name, tensor in state.items():
            if name in self.host:
                self.host[name].copy_(tensor)
            else:
                self.host[name] = tensor.to("cpu", copy=True)
        pause = time.monotonic() - started
        self.longest_pause_seconds = max(self.longest_pause_seconds, pause)
        self.last_written = time.monotonic()
        self.writer = threading.Thread(target=self._write, args=(step, history, pause, on_gpu))
        self.writer.start()

    def finish(self) -> None:
        """Wait until what was begun is written."""
        if self.writer is not None:
            self.writer.join()
            self.writer = None
        if self.error is not None:
            progress.log(f"no checkpoint was written, the previous one is kept and training continues: {self.error}")
            self.error = None

    def close(self) -> None:
        """Wait until what was begun is written, and give the host's memory back."""
        self.finish()
        self.host.clear()

    def _write(self, step: int, history: list[dict[str, Any]], pause: float, on_gpu: bool) -> None:
        started, busy = time.monotonic(), time.thread_time()
        final = self.folder / f"step-{step:08d}"
        shutil.rmtree(final, ignore_errors=True)  # damaged, or the training would have been resumed from it
        try:
            with publish_folder(final) as folder:
                files = {}
                for number, names in enumerate(_groups(self.host), 1):
                    file = folder / f"state-{number:05d}.safetensors"
                    save_file({name: self.host[name] for name in names}, file)
                    files[file.name] = {"bytes": file.stat().st_size, "sha256": sha256_of_file(file)}
                manifest = {"step": step, "identity": self.identity(), "files": files, "history": history}
                write_json(folder / MANIFEST, manifest | {"sha256": sha256_of_json(manifest)})
        except (OSError, SafetensorError) as error:  # a full disk must not end a training; logged by `finish`
            self.error = error
            return
        for old in self.folder.glob("step-*"):
            if old != final:
                shutil.rmtree(old, ignore_errors=True)
        writing = time.monotonic() - started
        message = f"checkpoint of step {step} written in {progress.duration(writing)}"
        if self.minutes is None:
            # Beside a GPU the host has time; on a processor the writer takes it from the training.
            cost = pause if on_gpu else pause + (time.thread_time() - busy) / (os.cpu_count() or 1)
            self.seconds = checkpoint_seconds(cost, writing)
            message += f", the next one in {progress.duration(self.seconds)}"
        progress.log(message)

    def latest(self) -> Checkpoint | None:
        """The newest whole checkpoint; damaged ones are named and left alone until the next one is written.

        Raises:
            Problems: when it is another training's.
        """
        for folder in sorted(self.folder.glob("step-*"), reverse=True):
            damage = _damage(folder)
            if damage:
                progress.log(f"checkpoint {folder} is damaged and not used: {damage}")
                continue
            manifest = read_json(folder / MANIFEST)
            self._check_identity(folder, manifest["identity"])
            state: dict[str, Tensor] = {}
            for name in manifest["files"]:
                state |= load_file(folder / name)
            return Checkpoint(manifest["step"], state, manifest["history"])
        return None

    def remove(self) -> None:
        """Remove all of them: the training is done."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _check_identity(self, folder: Path, identity: Mapping[str, Any]) -> None:
        ours = self.identity()
        different = sorted(name for name in {*ours, *identity} if ours.get(name) != identity.get(name))
        if different:
            shown = (f"{name} {identity.get(name)!r}, now {ours.get(name)!r}" for name in different)
            raise problem(
                f"the checkpoint is another training's: {list_some(shown)}",
                where=str(folder),
                rule="a training is resumed from a checkpoint of the same model, data and options",
                remedy=f"remove this checkpoint: rm -r {shlex.quote(str(folder))}",
            )


def _groups(state: Mapping[str, Tensor]) -> list[list[str]]:
    groups: list[list[str]] = [[]]
    size = 0
    for name, tensor in state.items():
        if groups[-1] and size + tensor.nbytes > MAX_FILE:
            groups.append([])
            size = 0
        groups[-1].append(name)
        size += tensor.nbytes
    return groups


def _damage(folder: Path) -> str:
    """What is wrong with a checkpoint's files, or nothing."""
    try:
        manifest = read_json(folder / MANIFEST)
        digest, files = manifest.pop("sha256"), manifest["files"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"{MANIFEST} cannot be read ({error!r})"
    if digest != sha256_of_json(manifest):
        return f"{MANIFEST} differs from what was written"

    def check(name: str) -> str:
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        size = path.stat().st_size
        if size != files[name]["bytes"]:
            return f"{name} has {size} bytes, not {files[name]['bytes']}"
        if sha256_of_file(path) != files[name]["sha256"]:
            return f"{name} differs from what was written"
        return ""

    with ThreadPoolExecutor(READERS) as readers:
        return list_some(filter(None, readers.map(check, files)))
