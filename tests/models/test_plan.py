"""The plan counts what the training will hold, and refuses what cannot work."""

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import common
from benchmarks.tables import measured_memory
from components.data.samples import Sample, packs
from components.format_chat.core import format_chat
from components.ingest_sdg.core import ingest_sdg
from components.plan_training.core import TrainingPlan, plan_training, volume_bytes, what_fits
from components.run.training_options import TrainingOptions
from components.shared.problems import Problems
from components.shared.storage import read_json
from components.shared.workspace import GIB
from components.snapshot_model.core import snapshot_model
from components.training.factors import factored_layers
from components.training.loading import load
from components.training.loss import PackLoss
from components.training.memory import plan_memory
from components.training.optimizer import Optimizer
from tests.run_records import hand_on
from tests.tiny_model import write_tiny_model


def plan(
    tmp_path: Path,
    model: Path,
    gpu_memory_gib: float = 0.0,
    gpus: int = 1,
    further: tuple[dict[str, Any], dict[str, Any]] = ({}, {}),
    **options: Any,
) -> TrainingPlan:
    tmp_path.mkdir(exist_ok=True)
    data = tmp_path / "data.csv"
    data.write_text(
        "question,response,faithfulness_judgment\nWho?,The heron.,YES\nWhat?,A sash.,YES\n", encoding="utf-8"
    )
    asked = tmp_path / "gap.csv"
    asked.write_text("question,reference\nWhich bird?,heron\n", encoding="utf-8")
    ingest_sdg(
        data=str(data),
        questions=str(asked),
        retention_questions=str(asked),
        output=tmp_path / "records",
        review=tmp_path / "review.html",
        options={},
    )
    format_chat(records=tmp_path / "records", system_prompt="Be brief.", output=tmp_path / "dataset")
    snapshot = snapshot_model(model=str(model), revision="main", workspace=tmp_path / "workspace")
    return plan_training(
        dataset=tmp_path / "dataset",
        snapshot=hand_on(snapshot.path, tmp_path / "workspace", "snapshot.json"),
        workspace=tmp_path / "workspace",
        options=options,
        further_options=further[0],
        evaluation={"closed_min": 1},
        further_evaluation=further[1],
        gpus=gpus,
        gpu_memory_gib=gpu_memory_gib,
        gpu_product="",
        publish_as="",
        registry="",
        snapshot_seconds=0.0,
        output=tmp_path / "plan.json",
        page=tmp_path / "plan.html",
    )


def held_gib(folder: Path, options: TrainingOptions) -> tuple[float, float, float]:
    """What a training really holds: frozen factors, trained weights with their moments, gradients."""
    dtype = getattr(torch, options.train_dtype)
    model = load(folder, options, torch.device("cpu"), dtype, "sdpa")
    optimizer, pack_loss = Optimizer(model, options, dtype), PackLoss(model)
    labels = list(range(20))
    for pack in packs([Sample(labels, labels)], 64):
        pack_loss(pack, 19).backward()
    frozen = [buffer for layer in factored_layers(model).values() for buffer in layer.buffers()]
    copies = [*optimizer.large.values(), optimizer.computed] if dtype != torch.float32 else []
    assert optimizer.vector.grad is not None
    trained = [*optimizer.state().values(), optimizer.vector.grad, *copies]
    gradients = [layer.low.grad for layer in factored_layers(model).values()]
    gradients += [parameter.grad for parameter in optimizer.large.values()]
    assert all(gradient is not None for gradient in gradients)
    return tuple(sum(t.nbytes for t in tensors) / GIB for tensors in (frozen, trained, gradients))  # type: ignore[return-value, union-attr]


@pytest.mark.parametrize("train_dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("ratio", [0.1, 0.25, 0.5, 1.0])
@pytest.mark.parametrize("tied", [True, False])
def test_the_plan_counts_the_bytes_that_the_training_holds(
    tmp_path: Path, ratio: float, train_dtype: str, tied: bool
) -> None:
    sizes = {"hidden_size": 256, "intermediate_size": 768, "num_key_value_heads": 4, "tie_word_embeddings": tied}
    folder = write_tiny_model(tmp_path, dtype=torch.bfloat16, **sizes)
    options = TrainingOptions(unfreeze_rank_ratio=ratio, train_dtype=train_dtype)

    planned = plan_memory(read_json(folder / "config.json"), options)

    held = held_gib(folder, options)
    assert held[0] > 0 or ratio == 1.0
    assert (planned.frozen_gib, planned.trained_gib, planned.gradients_gib) == pytest.approx(held, rel=0.01)
    assert planned.activations_gib > 0
    parts = planned.frozen_gib + planned.trained_gib + planned.gradients_gib + planned.activations_gib
    assert planned.total_gib == pytest.approx(parts)


def test_the_plan_is_near_what_was_measured_on_a_gpu() -> None:
    for shape, options, measured in measured_memory():
        planned = plan_memory(common.config(shape).to_dict(), options)

        assert 0.97 * measured < planned.total_gib < 1.08 * measured, (shape, options)
        assert measured < planned.needed_gib


def test_volume_must_hold_two_checkpoints_or_one_beside_the_result() -> None:
    options = TrainingOptions(train_dtype="bfloat16")
    large = plan_memory(common.config("granite-3.2-8b").to_dict(), options)
    checkpoint = large.trained_gib * GIB

    assert volume_bytes(16_340_000_000, large) == pytest.approx(16.34e9 + checkpoint, rel=1e-6)
    assert volume_bytes(16_340_000_000, large) == pytest.approx(28.7e9, rel=0.03)
    assert volume_bytes(1000, large) == pytest.approx(2 * checkpoint, rel=1e-6)


def test_volume_too_small_for_the_training_is_refused_before_a_gpu_is_asked_for(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = plan(tmp_path, tiny_model)
    needed = volume_bytes(made.model["bytes"], made.memory)
    # What is free is the test's: to fill a volume would take one of its own.
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=needed - 1))

    with pytest.raises(Problems, match="the workspace is too small"):
        plan(tmp_path, tiny_model)

    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=needed))
    assert plan(tmp_path, tiny_model).run_key == made.run_key


def test_memory_is_planned_without_loading_torch() -> None:
    code = "import sys, components.training.memory; sys.exit('torch' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


LLAMA_8B = {
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "tie_word_embeddings": False,
}


@pytest.mark.parametrize("share", [0.99, 0.9, 0.8, 0.5, 0.1])
@pytest.mark.parametrize("options", [{}, {"unfreeze_rank_ratio": 0.9}, {"max_seq_len": 5000}])
@pytest.mark.parametrize("gpus", [1, 4])
def test_what_is_named_as_fitting_fits_and_the_next_larger_does_not(
    share: float, options: dict[str, Any], gpus: int
) -> None:
    asked = TrainingOptions(train_dtype="bfloat16", max_tokens_per_gpu=32768, **options)
    gpu = share * plan_memory(LLAMA_8B, asked, gpus).needed_gib

    def fits(**changes: Any) -> bool:
        return plan_memory(LLAMA_8B, dataclasses.replace(asked, **changes), gpus).needed_gib <= gpu

    said = what_fits(LLAMA_8B, asked, gpus, gpu)

    tokens = re.search(r"max_tokens_per_gpu to (\d+) or less", said)
    ratio = re.search(r"unfreeze_rank_ratio to ([\d.]+) or less", said)
    assert "take a smaller model or a larger GPU" in said
    if tokens is None:
        assert not fits(max_tokens_per_gpu=asked.max_seq_len)
    else:
        assert fits(max_tokens_per_gpu=int(tokens[1]))
        assert not fits(max_tokens_per_gpu=(int(tokens[1]) // 256 + 1) * 256)
    if ratio is None:
        assert not fits(unfreeze_rank_ratio=0.01)
    else:
        assert float(ratio[1]) < asked.unfreeze_rank_ratio
        assert fits(unfreeze_rank_ratio=float(ratio[1]))
        assert not fits(unfreeze_rank_ratio=round(float(ratio[1]) + 0.01, 2))
    assert share < 0.9 or tokens is not None


def test_a_plan_says_what_will_be_done(tiny_model: Path, tmp_path: Path) -> None:
    made = plan(tmp_path, tiny_model, num_epochs=3, effective_batch_size=1)

    assert made.samples == 2
    assert made.steps == 6
    assert made.anything_to_do
    assert json.loads((tmp_path / "plan.json").read_text())["run_key"] == made.run_key
    assert made.run_key in (tmp_path / "plan.html").read_text()


def test_models_that_a_run_uses_again_count_as_just_changed(tiny_model: Path, tmp_path: Path) -> None:
    key = plan(tmp_path, tiny_model).run_key
    (base,) = (tmp_path / "workspace").glob("models/*/*/snapshot.json")
    adapted = tmp_path / "workspace" / "adapted" / key / "training_report.json"
    adapted.parent.mkdir(parents=True)
    adapted.write_text("{}", encoding="utf-8")
    for marker in (base, adapted):
        os.utime(marker, (0, 0))

    assert plan(tmp_path, tiny_model).trained

    assert all(time.time() - marker.stat().st_mtime < 60 for marker in (base, adapted))


def test_the_run_key_changes_with_everything_that_changes_the_result(tiny_model: Path, tmp_path: Path) -> None:
    keys = []
    for name, options in (("first", {}), ("again", {}), ("seed", {"seed": 1}), ("ratio", {"unfreeze_rank_ratio": 0.5})):
        (tmp_path / name).mkdir()
        keys.append(plan(tmp_path / name, tiny_model, **options).run_key)

    assert keys[0] == keys[1]
    assert len(set(keys)) == 3


def test_what_does_not_fit_the_gpu_is_refused_with_the_change_that_helps(tiny_model: Path, tmp_path: Path) -> None:
    options = {"max_tokens_per_gpu": 8192, "max_seq_len": 256}
    config = read_json(tiny_model / "config.json")
    needed = plan_memory(config, TrainingOptions(**options).on("cuda")).needed_gib

    with pytest.raises(Problems) as caught:
        plan(tmp_path, tiny_model, gpu_memory_gib=0.9 * needed, **options)

    assert "GiB of GPU memory, the GPU has" in str(caught.value)
    assert "remedy: set max_tokens_per_gpu to" in str(caught.value)
    assert not (tmp_path / "plan.json").exists()

    (helps,) = re.findall(r"max_tokens_per_gpu to (\d+)", str(caught.value))
    (tmp_path / "again").mkdir()
    made = plan(
        tmp_path / "again", tiny_model, gpu_memory_gib=0.9 * needed, **options | {"max_tokens_per_gpu": int(helps)}
    )
    assert made.memory.needed_gib <= 0.9 * needed


def test_samples_too_long_and_a_gpu_too_small_are_one_error(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(Problems) as caught:
        plan(tmp_path, tiny_model, gpu_memory_gib=1e-6, max_seq_len=16, max_tokens_per_gpu=16)

    assert "2 problems" in str(caught.value)
    assert "2 of 2 samples are longer" in str(caught.value)


def test_with_several_gpus_what_mini_trainer_would_drop_or_ignore_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    longest = plan(tmp_path / "one", tiny_model).longest_sample

    with pytest.raises(Problems) as caught:
        plan(tmp_path / "two", tiny_model, 44.0, gpus=2, max_seq_len=longest, train_dtype="bfloat16")

    said = str(caught.value)
    assert "1 of 2 samples would be dropped" in said or "2 of 2 samples would be dropped" in said
    assert "train_dtype is 'bfloat16'" in said
    assert "gpu.count = 1" in said


def test_further_options_that_are_parameters_are_refused(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(Problems) as error:
        plan(tmp_path, tiny_model, num_epochs=5, further=({"num_epochs": 3, "warmup_steps": 1}, {"closed_min": 2}))

    assert [problem.remedy for problem in error.value.problems] == [
        "set the parameter num_epochs",
        "set the parameter closed_min",
    ]


def test_another_trainer_is_another_run(tiny_model: Path, tmp_path: Path) -> None:
    one = plan(tmp_path / "one", tiny_model, 44.0)
    two = plan(tmp_path / "two", tiny_model, 44.0, gpus=2)

    assert one.run_key != two.run_key
    assert (one.gpus, two.gpus) == (1, 2)
    assert one.options["train_dtype"] == "bfloat16"


def test_the_plan_counts_a_training_of_some_matrices_only(tmp_path: Path) -> None:
    sizes = {"hidden_size": 256, "intermediate_size": 768, "num_key_value_heads": 4}
    folder = write_tiny_model(tmp_path, dtype=torch.bfloat16, **sizes)
    options = TrainingOptions(target_patterns=("q_proj", "layers.1.mlp"), train_dtype="bfloat16")

    planned = plan_memory(read_json(folder / "config.json"), options)

    assert (planned.frozen_gib, planned.trained_gib, planned.gradients_gib) == pytest.approx(
        held_gib(folder, options), rel=0.01
    )


def test_matrices_that_no_pattern_names_are_trained_whole_and_take_more_memory() -> None:
    default = plan_memory(LLAMA_8B, TrainingOptions(train_dtype="bfloat16"))
    some = plan_memory(LLAMA_8B, TrainingOptions(train_dtype="bfloat16", target_patterns=("q_proj",)))

    assert some.needed_gib > 1.4 * default.needed_gib


def test_the_patterns_are_decided_in_the_plan_and_part_of_its_key(tiny_model: Path, tmp_path: Path) -> None:
    every = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    keys = {plan(tmp_path / "default", tiny_model).run_key}

    assert set(plan(tmp_path / "again", tiny_model).options["target_patterns"]) == {
        *(f"self_attn.{name}" for name in every[:4]),
        *(f"mlp.{name}" for name in every[4:]),
    }
    keys.add(plan(tmp_path / "some", tiny_model, target_patterns=["q_proj"]).run_key)
    assert len(keys) == 2


def test_what_cannot_be_trained_as_asked_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    short = shutil.copytree(tiny_model, tmp_path / "short")
    config = read_json(short / "config.json") | {"max_position_embeddings": 16}
    (short / "config.json").write_text(json.dumps(config), encoding="utf-8")

    with pytest.raises(Problems) as caught:
        plan(tmp_path / "run", short, target_patterns=["q_proj", "qq_proj"])

    said = str(caught.value)
    assert "2 problems" in said
    assert "'qq_proj' is not part of any matrix' name" in said
    assert "2 of 2 samples have more tokens than the model can read" in said
    assert "max_position_embeddings = 16" in said


def test_the_longest_sample_allowed_changes_no_key(tiny_model: Path, tmp_path: Path) -> None:
    one, other = (plan(tmp_path / str(most), tiny_model, max_seq_len=most) for most in (512, 1024))

    assert one.run_key == other.run_key


def test_the_page_says_what_the_log_says_when_only_publishing_is_left(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = plan(tmp_path, tiny_model)
    adapted, run = (tmp_path / "workspace" / part / made.run_key for part in ("adapted", "runs"))
    for folder in (adapted, run):
        folder.mkdir(parents=True)
    (adapted / "training_report.json").write_text("{}", encoding="utf-8")
    summary = {"evaluation_key": made.evaluation_key, "good_enough": True}
    (run / "summary.json").write_text(json.dumps(summary), encoding="utf-8")

    plan(tmp_path, tiny_model)

    verdict = f"already trained and evaluated: run {made.run_key}; to do: publish as {made.publish['name']}"
    assert verdict in capsys.readouterr().out
    assert f'<p class="verdict">{verdict}</p>' in (tmp_path / "plan.html").read_text(encoding="utf-8")
