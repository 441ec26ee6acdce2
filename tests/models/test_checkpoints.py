"""A resumed training ends with the bits of an undisturbed one; another training's checkpoint is refused."""

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from training_hub import TrainingHubCallback

from components.shared.problems import Problems
from components.shared.storage import read_json, read_jsonl
from components.training.backend import TERMINATED
from tests.tables import table
from tests.tiny_model import same_bits, train_tiny_model, write_tiny_model

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


@pytest.fixture(scope="module")
def stopped_once(tiny_model, tmp_path_factory):
    output = tmp_path_factory.mktemp("stopped")
    stop_at(MIDWAY, tiny_model, output)
    return output


@pytest.fixture
def stopped(stopped_once, tmp_path):
    """The output of a training that was stopped midway."""
    return shutil.copytree(stopped_once, tmp_path / "stopped")


@pytest.mark.parametrize("train_dtype", ["float32", "bfloat16"])
def test_a_resumed_training_has_the_bits_of_an_undisturbed_one(tmp_path, train_dtype):
    sizes = {"hidden_size": 256, "intermediate_size": 256, "num_hidden_layers": 1}
    base = write_tiny_model(tmp_path / "base", dtype=torch.bfloat16, **sizes)
    options = {"train_dtype": train_dtype, "unfreeze_rank_ratio": 0.5, "learning_rate": 1e-4, "weight_decay": 0.01}
    whole = train_tiny_model(base, tmp_path / "whole", **options)
    assert whole.resumed_at == 0

    for steps in ([1], [2, 5]):
        pieces = tmp_path / f"stopped at {steps}"
        for step in steps:
            (folder,) = stop_at(step, base, pieces, **options).iterdir()
            parts = {name.split("/")[1] for name in load_file(folder / STATE)}
            assert ("codes" in parts) == (train_dtype == "bfloat16")  # the compact form is what is resumed
            assert not (pieces / "hf_format").exists()

        resumed = train_tiny_model(base, pieces, **options)

        assert resumed.resumed_at == steps[-1]
        assert same_bits(whole, resumed)
        assert [line["step"] for line in read_jsonl(pieces / "metrics.jsonl")] == [*range(1, STEPS + 1)]
        assert [step.loss for step in resumed.steps] == [step.loss for step in whole.steps]
        assert not (pieces / "checkpoints").exists()


def flip(folder: Path) -> None:
    content = bytearray((folder / STATE).read_bytes())
    content[-100] ^= 1
    (folder / STATE).write_bytes(content)


def test_training_starts_over_when_the_only_checkpoint_is_damaged(tiny_result, tiny_model, stopped, capsys):
    (folder,) = (stopped / "checkpoints").iterdir()
    flip(folder)

    result = train_tiny_model(tiny_model, stopped)

    assert f"checkpoint {folder} is damaged and not used" in capsys.readouterr().out
    assert result.resumed_at == 0
    assert same_bits(tiny_result, result)
    assert [line["step"] for line in read_jsonl(stopped / "metrics.jsonl")] == [*range(1, STEPS + 1)]


def test_an_older_whole_checkpoint_is_used_when_the_newest_is_damaged_and_that_one_is_written_anew(
    tiny_result, tiny_model, stopped, tmp_path
):
    folder = stopped / "checkpoints"
    shutil.copytree(folder, tmp_path / "kept")
    stop_at(5, tiny_model, stopped)
    assert [path.name for path in folder.iterdir()] == ["step-00000005"]
    shutil.copytree(tmp_path / "kept", folder, dirs_exist_ok=True)  # a kill before the older one was removed
    flip(folder / "step-00000005")

    stop_at(5, tiny_model, stopped)

    assert len(read_jsonl(stopped / "metrics.jsonl")) == 5
    result = train_tiny_model(tiny_model, stopped)
    assert result.resumed_at == 5
    assert same_bits(tiny_result, result)


def test_remains_of_a_killed_write_are_not_read_and_go_with_the_next_one(tiny_model, stopped):
    folder = stopped / "checkpoints"
    shutil.copytree(folder / "step-00000003", folder / ".tmp-step-00000009-abc")

    stop_at(5, tiny_model, stopped)

    assert [line["step"] for line in read_jsonl(stopped / "metrics.jsonl")] == [*range(1, 6)]
    assert [path.name for path in folder.iterdir()] == ["step-00000005"]


@pytest.mark.parametrize(("options", "named"), table("checkpoints", "others"))
def test_a_checkpoint_of_other_options_or_data_is_refused_with_what_differs(tiny_model, stopped, options, named):
    with pytest.raises(Problems, match="the checkpoint is another training's: ") as caught:
        train_tiny_model(tiny_model, stopped, **options)

    assert f"another training's: {named}" in str(caught.value)
    assert not (stopped / "hf_format").exists()


def test_a_checkpoint_of_another_base_model_is_refused(stopped, tmp_path):
    other = write_tiny_model(tmp_path / "other", initializer_range=0.2)

    with pytest.raises(Problems, match="the checkpoint is another training's: model '"):
        train_tiny_model(other, stopped)


def test_checkpoints_change_nothing_and_their_interval_may_change(tiny_result, tiny_model, stopped, capsys):
    result = train_tiny_model(tiny_model, stopped, checkpoint_minutes=0)

    assert "checkpoint of step 4 written in" in capsys.readouterr().out
    assert result.resumed_at == MIDWAY
    assert same_bits(tiny_result, result)
    assert read_json(result.model_path / "training_result.json")["resumed_at"] == MIDWAY


@pytest.fixture
def finished(tiny_result, tmp_path):
    """The output of a finished training, with checkpoints that a kill left beside the result."""
    output = shutil.copytree(tiny_result.model_path.parents[1], tmp_path / "finished")
    (output / "checkpoints" / "step-00000003").mkdir(parents=True)
    return output


def test_a_finished_training_is_not_repeated_and_left_over_checkpoints_are_removed(
    tiny_result, tiny_model, finished, capsys
):
    again = train_tiny_model(tiny_model, finished)

    out = capsys.readouterr().out
    assert f"already trained: {again.model_path}" in out
    assert "step 1/" not in out
    assert again.model_path.is_relative_to(finished)
    assert again.steps == tiny_result.steps
    assert again.trainable_parameters == tiny_result.trainable_parameters
    assert not (finished / "checkpoints").exists()


@pytest.mark.parametrize("options", [{"learning_rate": 2e-2}, {"seed": 2}, {"unfreeze_rank_ratio": 0.5}])
def test_another_training_in_the_folder_of_a_finished_one_is_refused(tiny_result, tiny_model, finished, options):
    with pytest.raises(Problems, match="a model of another training"):
        train_tiny_model(tiny_model, finished, **options)

    (kept,) = finished.glob("hf_format/*/model.safetensors")
    assert kept.read_bytes() == (tiny_result.model_path / "model.safetensors").read_bytes()


def test_a_training_whose_checkpoints_cannot_be_written_ends_with_the_same_bits(
    tiny_result, tiny_model, tmp_path, capsys
):
    (tmp_path / "checkpoints").write_text("mine", encoding="utf-8")

    result = train_tiny_model(tiny_model, tmp_path, checkpoint_minutes=0)

    assert "no checkpoint was written" in capsys.readouterr().out
    assert same_bits(tiny_result, result)
    assert (tmp_path / "checkpoints").read_text(encoding="utf-8") == "mine"
