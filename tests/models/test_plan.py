"""The plan counts what the training will hold, and refuses what cannot work."""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig, AutoModelForCausalLM

from components.format_chat.core import format_chat
from components.ingest_sdg.core import ingest_sdg
from components.plan_training.core import TrainingPlan, plan_training
from components.plan_training.memory import plan_memory
from components.problems import Problems
from components.snapshot_model.core import snapshot_model
from components.train_osft.backend import target_patterns
from components.train_osft.factors import factored_layers, factorize, target_names
from components.train_osft.options import TrainingOptions


def plan(tmp_path: Path, model: Path, gpu_memory_gib: float = 0.0, **options: Any) -> TrainingPlan:
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
    )
    format_chat(records=tmp_path / "records", system_prompt="Be brief.", output=tmp_path / "dataset")
    snapshot = snapshot_model(model=str(model), revision="main", workspace=tmp_path / "workspace")
    return plan_training(
        dataset=tmp_path / "dataset",
        snapshot=snapshot.path,
        workspace=tmp_path / "workspace",
        options=options,
        gpu_memory_gib=gpu_memory_gib,
        snapshot_seconds=0.0,
        output=tmp_path / "plan.json",
        page=tmp_path / "plan.html",
    )


@pytest.mark.parametrize("ratio", [0.1, 0.25, 0.5, 1.0])
def test_the_plan_counts_the_entries_that_the_training_holds(tiny_model: Path, ratio: float) -> None:
    options = TrainingOptions(unfreeze_rank_ratio=ratio)
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    list(factorize(model, target_names(model, target_patterns(model, options)), ratio))

    planned = plan_memory(AutoConfig.from_pretrained(tiny_model), options)

    assert planned.trained_entries == sum(p.numel() for p in model.parameters())
    assert planned.frozen_entries == sum(
        buffer.numel() for layer in factored_layers(model).values() for buffer in layer.buffers()
    )


def test_a_plan_says_what_will_be_done(tiny_model: Path, tmp_path: Path) -> None:
    made = plan(tmp_path, tiny_model, num_epochs=3, effective_batch_size=1)

    assert made.samples == 2
    assert made.steps == 6
    assert made.anything_to_do
    assert json.loads((tmp_path / "plan.json").read_text())["run_key"] == made.run_key
    assert made.run_key in (tmp_path / "plan.html").read_text()


def test_the_run_key_changes_with_everything_that_changes_the_result(tiny_model: Path, tmp_path: Path) -> None:
    keys = []
    for name, options in (("first", {}), ("again", {}), ("seed", {"seed": 1}), ("ratio", {"unfreeze_rank_ratio": 0.5})):
        (tmp_path / name).mkdir()
        keys.append(plan(tmp_path / name, tiny_model, **options).run_key)

    assert keys[0] == keys[1]
    assert len(set(keys)) == 3


def test_what_does_not_fit_the_gpu_is_refused_with_the_change_that_helps(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(Problems, match=r"(?s)GiB of GPU memory, the GPU has 0\.01.*lower unfreeze_rank_ratio"):
        plan(tmp_path, tiny_model, gpu_memory_gib=0.01)

    assert not (tmp_path / "plan.json").exists()


def test_samples_too_long_and_a_gpu_too_small_are_one_error(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(Problems) as caught:
        plan(tmp_path, tiny_model, gpu_memory_gib=1e-6, max_seq_len=16, max_tokens_per_gpu=16)

    assert "2 problems" in str(caught.value)
    assert "2 of 2 samples are longer" in str(caught.value)
