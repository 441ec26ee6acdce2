"""A training that was stopped goes on to the same bits; a checkpoint that is not whole is named and not used."""

import json
import os
import resource
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from training_hub import TrainingHubCallback

from components.data import chat
from components.shared.problems import Problems
from components.shared.storage import read_json, read_jsonl, write_jsonl
from components.training import checkpoints as module
from components.training.backend import TERMINATED, TrainingResult
from components.training.checkpoints import MANIFEST, Checkpoints
from tests.tiny_model import train_tiny_model, write_tiny_model

STEPS = 6
STATE = "state-00001.safetensors"
MIDWAY = 3


class Terminate(TrainingHubCallback):
    """As Kubernetes ends a pod."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, context: Any) -> None:
        if context.step == self.step:
            os.kill(os.getpid(), signal.SIGTERM)


def stop_at(step: int, model: Path, output: Path, **options: Any) -> Path:
    """Train until SIGTERM; gives the folder of checkpoints."""
    with pytest.raises(SystemExit) as ended:
        train_tiny_model(model, output, callbacks=Terminate(step), **options)
    assert ended.value.code == TERMINATED == 143
    return output / "checkpoints"


def same_bits(one: TrainingResult, other: TrainingResult) -> bool:
    weights, others = (load_file(result.model_path / "model.safetensors") for result in (one, other))
    assert sorted(weights) == sorted(others)
    return all(torch.equal(weights[name], others[name]) for name in weights)


@pytest.fixture(scope="module")
def undisturbed(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainingResult:
    return train_tiny_model(tiny_model, tmp_path_factory.mktemp("undisturbed"))


@pytest.fixture(scope="module")
def stopped_once(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("stopped")
    stop_at(MIDWAY, tiny_model, output)
    return output


@pytest.fixture
def stopped(stopped_once: Path, tmp_path: Path) -> Path:
    """The output of a training that was stopped midway."""
    return shutil.copytree(stopped_once, tmp_path / "stopped")


@pytest.mark.parametrize("train_dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("steps", [[1], [3], [2, 5]])
def test_a_resumed_training_has_the_bits_of_an_undisturbed_one(
    tmp_path: Path, train_dtype: str, steps: list[int]
) -> None:
    base = write_tiny_model(tmp_path / "base", dtype=torch.bfloat16, hidden_size=256, intermediate_size=512)
    options = {"train_dtype": train_dtype, "unfreeze_rank_ratio": 0.5, "learning_rate": 1e-4, "weight_decay": 0.01}
    whole = train_tiny_model(base, tmp_path / "whole", **options)
    pieces = tmp_path / "pieces"
    for step in steps:
        stop_at(step, base, pieces, **options)
        assert not (pieces / "hf_format").exists()

    resumed = train_tiny_model(base, pieces, **options)

    state_names = {name.split("/")[1] for name in first_state(tmp_path / "other", base, options)}
    assert ("codes" in state_names) == (train_dtype == "bfloat16")  # the compact form was resumed
    assert resumed.resumed_at == steps[-1]
    assert whole.resumed_at == 0
    assert same_bits(whole, resumed)
    assert [line["step"] for line in read_jsonl(pieces / "metrics.jsonl")] == [*range(1, STEPS + 1)]
    assert [step.loss for step in resumed.steps] == [step.loss for step in whole.steps]
    assert not (pieces / "checkpoints").exists()


def first_state(output: Path, base: Path, options: dict[str, Any]) -> dict[str, Tensor]:
    (folder,) = stop_at(1, base, output, **options).iterdir()
    return load_file(folder / STATE)


def truncate(folder: Path) -> None:
    with (folder / STATE).open("r+b") as file:
        file.truncate((folder / STATE).stat().st_size - 100)


def flip(folder: Path) -> None:
    content = bytearray((folder / STATE).read_bytes())
    content[-100] ^= 1
    (folder / STATE).write_bytes(content)


def lose_state(folder: Path) -> None:
    (folder / STATE).unlink()


def lose_manifest(folder: Path) -> None:
    (folder / MANIFEST).unlink()


def cut_manifest(folder: Path) -> None:
    content = (folder / MANIFEST).read_bytes()
    (folder / MANIFEST).write_bytes(content[: len(content) // 2])


def change_manifest(old: str, new: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        text = (folder / MANIFEST).read_text(encoding="utf-8")
        assert old in text
        (folder / MANIFEST).write_text(text.replace(old, new), encoding="utf-8")

    return damage


DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "truncated": (truncate, f"{STATE} has "),
    "flipped bit": (flip, f"{STATE} has another content than was written"),
    "lost state": (lose_state, f"{STATE} is missing"),
    "lost manifest": (lose_manifest, f"{MANIFEST} cannot be read"),
    "cut manifest": (cut_manifest, f"{MANIFEST} cannot be read"),
    "manifest of bytes": (lambda folder: (folder / MANIFEST).write_bytes(b"\xff\x00"), f"{MANIFEST} cannot be read"),
    "manifest without files": (change_manifest('"files"', '"fimes"'), f"{MANIFEST} cannot be read"),
    "manifest without identity": (change_manifest('"identity"', '"identitx"'), f"{MANIFEST} has another content"),
    "manifest without history": (change_manifest('"history"', '"hisuory"'), f"{MANIFEST} has another content"),
    "manifest without digest": (change_manifest('"sha256"', '"sha257"'), f"{MANIFEST} cannot be read"),
    "manifest of another step": (change_manifest('"step": 3', '"step": 2'), f"{MANIFEST} has another content"),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_checkpoint_is_named_and_training_starts_over(
    undisturbed: TrainingResult, tiny_model: Path, stopped: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    damage, said = DAMAGES[kind]
    (folder,) = (stopped / "checkpoints").iterdir()
    damage(folder)

    result = train_tiny_model(tiny_model, stopped)

    assert f"checkpoint {folder} is damaged and not used: {said}" in capsys.readouterr().out
    assert result.resumed_at == 0
    assert same_bits(undisturbed, result)
    assert [line["step"] for line in read_jsonl(stopped / "metrics.jsonl")] == [*range(1, STEPS + 1)]


def test_an_older_whole_checkpoint_is_used_when_the_newest_is_damaged_and_that_one_is_written_anew(
    undisturbed: TrainingResult, tiny_model: Path, tmp_path: Path
) -> None:
    output = tmp_path / "run"
    folder = stop_at(2, tiny_model, output)
    shutil.copytree(folder, tmp_path / "kept")
    stop_at(4, tiny_model, output)
    assert [path.name for path in folder.iterdir()] == ["step-00000004"]
    shutil.copytree(tmp_path / "kept", folder, dirs_exist_ok=True)  # a kill before the older one was removed
    flip(folder / "step-00000004")

    stop_at(4, tiny_model, output)

    assert len(read_jsonl(output / "metrics.jsonl")) == 4
    result = train_tiny_model(tiny_model, output)
    assert result.resumed_at == 4
    assert same_bits(undisturbed, result)


def test_remains_of_a_killed_write_are_not_read_and_go_with_the_next_one(tiny_model: Path, stopped: Path) -> None:
    folder = stopped / "checkpoints"
    shutil.copytree(folder / "step-00000003", folder / ".tmp-step-00000009-abc")

    stop_at(5, tiny_model, stopped)

    assert [line["step"] for line in read_jsonl(stopped / "metrics.jsonl")] == [*range(1, 6)]
    assert [path.name for path in folder.iterdir()] == ["step-00000005"]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"learning_rate": 2e-2}, "learning_rate 0.01, now 0.02"),
        ({"seed": 2}, "seed 1, now 2"),
        ({"num_epochs": 3}, "num_epochs 2, now 3"),
        ({"lr_scheduler": "linear", "beta1": 0.8}, "beta1 0.9, now 0.8, lr_scheduler 'cosine', now 'linear'"),
        ({"train_dtype": "bfloat16"}, "train_dtype 'float32', now 'bfloat16'"),
        ({"samples": 8}, "data '"),
    ],
)
def test_a_checkpoint_of_other_options_or_data_is_refused_with_what_differs(
    tiny_model: Path, stopped: Path, options: dict[str, Any], named: str
) -> None:
    with pytest.raises(Problems, match="the checkpoint is of another training: ") as caught:
        train_tiny_model(tiny_model, stopped, **options)

    assert f"another training: {named}" in str(caught.value)
    assert not (stopped / "hf_format").exists()


def test_a_checkpoint_of_another_base_model_is_refused(stopped: Path, tmp_path: Path) -> None:
    other = write_tiny_model(tmp_path / "other", initializer_range=0.2)

    with pytest.raises(Problems, match="the checkpoint is of another training: model '"):
        train_tiny_model(other, stopped)


def test_the_time_between_checkpoints_may_change(tiny_model: Path, stopped: Path) -> None:
    assert train_tiny_model(tiny_model, stopped, checkpoint_minutes=0).resumed_at == MIDWAY


def test_a_finished_training_is_not_repeated(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = train_tiny_model(tiny_model, tmp_path)
    written = (first.model_path / "model.safetensors").stat().st_mtime_ns
    capsys.readouterr()

    again = train_tiny_model(tiny_model, tmp_path)

    out = capsys.readouterr().out
    assert f"already trained: {first.model_path}" in out
    assert "step 1/" not in out
    assert (again.model_path / "model.safetensors").stat().st_mtime_ns == written
    assert again.steps == first.steps
    assert again.model_path == first.model_path
    assert again.trainable_parameters == first.trainable_parameters


@pytest.mark.parametrize("options", [{"learning_rate": 2e-2}, {"seed": 2}, {"unfreeze_rank_ratio": 0.5}])
def test_another_training_in_the_folder_of_a_finished_one_is_refused(
    tiny_model: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    first = train_tiny_model(tiny_model, tmp_path)
    before = (first.model_path / "model.safetensors").read_bytes()

    with pytest.raises(Problems, match="a model of another training"):
        train_tiny_model(tiny_model, tmp_path, **options)

    assert (first.model_path / "model.safetensors").read_bytes() == before


def test_other_rows_of_the_same_number_are_another_training(tiny_model: Path, stopped: Path) -> None:
    import training_hub

    data = stopped / "other.jsonl"
    write_jsonl(data, [chat.training_row("Be brief.", f"Who is {n}?", "The heron.") for n in range(7)])

    with pytest.raises(Problems, match="another training: data '"):
        training_hub.osft(
            model_path=str(tiny_model),
            data_path=str(data),
            ckpt_output_dir=str(stopped),
            backend="single-device",
            unfreeze_rank_ratio=0.25,
            effective_batch_size=3,
            max_tokens_per_gpu=256,
            max_seq_len=128,
            learning_rate=1e-2,
            num_epochs=2,
            seed=1,
        )


def state(step: int) -> dict[str, Tensor]:
    return {"w/value": torch.full((1 << 18,), float(step)), "w/first": torch.arange(10) * step}


def writer(folder: Path, minutes: float = 0) -> Checkpoints:
    return Checkpoints(folder, lambda: {"seed": 1}, minutes)


def test_a_checkpoint_holds_the_state_of_its_moment(tmp_path: Path) -> None:
    checkpoints = writer(tmp_path / "checkpoints")
    changing = state(1)

    checkpoints.write(1, changing, [{"step": 1, "loss": 0.1}])
    changing["w/value"].fill_(9)
    checkpoints.finish()
    found = checkpoints.latest()

    assert found is not None
    assert found.step == 1
    assert found.history == [{"step": 1, "loss": 0.1}]
    assert found.state.keys() == changing.keys()
    assert all(torch.equal(found.state[name], tensor) for name, tensor in state(1).items())


def test_a_large_state_is_spread_over_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_FILE", 100)
    checkpoints = writer(tmp_path / "checkpoints")
    wanted = {f"w{n}/value": torch.full((20,), float(n)) for n in range(5)}

    checkpoints.write(1, wanted, [])
    checkpoints.finish()
    found = checkpoints.latest()

    assert len(read_json(tmp_path / "checkpoints" / "step-00000001" / MANIFEST)["files"]) == 5
    assert found is not None
    assert found.state.keys() == wanted.keys()
    assert all(torch.equal(found.state[name], tensor) for name, tensor in wanted.items())


@pytest.mark.parametrize(("minutes", "due"), [(0.0, True), (1e-9, True), (10.0, False)])
def test_a_checkpoint_is_due_by_time(tmp_path: Path, minutes: float, due: bool) -> None:
    assert writer(tmp_path, minutes).due() == due


def test_there_is_no_checkpoint_where_none_was_written(tmp_path: Path) -> None:
    assert writer(tmp_path / "checkpoints").latest() is None


@contextmanager
def full_disk(folder: Path) -> Iterator[None]:
    """No file may be larger than 64 KiB: it fails as on a full disk, and for root too."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def file_in_the_way(folder: Path) -> Iterator[None]:
    (folder / "step-00000002").write_text("mine", encoding="utf-8")
    yield


@pytest.mark.parametrize("failure", [full_disk, file_in_the_way])
def test_a_checkpoint_that_cannot_be_written_is_said_and_the_one_before_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], failure: Callable[[Path], Any]
) -> None:
    folder = tmp_path / "checkpoints"
    checkpoints = writer(folder)
    checkpoints.write(1, state(1), [])
    checkpoints.finish()

    with failure(folder):
        checkpoints.write(2, state(2), [])
        checkpoints.finish()

    assert "no checkpoint was written, the one before stays" in capsys.readouterr().out
    found = checkpoints.latest()
    assert found is not None
    assert found.step == 1
    checkpoints.write(3, state(3), [])
    checkpoints.finish()
    found = checkpoints.latest()
    assert found is not None
    assert found.step == 3
    assert not list(folder.glob(".tmp-*"))


def test_a_training_whose_checkpoints_cannot_be_written_ends_with_the_same_bits(
    undisturbed: TrainingResult, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "checkpoints").write_text("mine", encoding="utf-8")

    result = train_tiny_model(tiny_model, tmp_path, checkpoint_minutes=0)

    assert "no checkpoint was written" in capsys.readouterr().out
    assert same_bits(undisturbed, result)
    assert (tmp_path / "checkpoints").read_text(encoding="utf-8") == "mine"


def test_checkpoints_do_not_change_the_result(
    undisturbed: TrainingResult, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = train_tiny_model(tiny_model, tmp_path, checkpoint_minutes=0)

    assert "checkpoint of step 1 written in" in capsys.readouterr().out
    assert same_bits(undisturbed, result)
    assert json.loads((result.model_path / "training_result.json").read_text(encoding="utf-8"))["resumed_at"] == 0


def test_checkpoints_that_a_kill_left_beside_the_result_go_with_the_next_attempt(
    tiny_model: Path, tmp_path: Path
) -> None:
    folder = stop_at(MIDWAY, tiny_model, tmp_path / "run")
    shutil.copytree(folder, tmp_path / "kept")
    done = train_tiny_model(tiny_model, tmp_path / "run")
    shutil.copytree(tmp_path / "kept", folder)

    again = train_tiny_model(tiny_model, tmp_path / "run")

    assert again.model_path == done.model_path
    assert not folder.exists()
