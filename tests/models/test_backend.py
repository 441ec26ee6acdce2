"""`training_hub.osft(backend="single-device")`: options honoured or refused by name, results that repeat."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import training_hub
from safetensors.torch import load_file
from training_hub import TrainingHubCallback
from transformers import AutoModelForCausalLM, AutoTokenizer

from components import chat
from components.problems import Problems
from components.train_osft.backend import NAME, TrainingResult
from tests.tiny_model import write_tiny_model

SAMPLES = 7


class Recorder(TrainingHubCallback):
    def __init__(self) -> None:
        self.events: list[tuple[str, int, float | None]] = []

    def on_train_begin(self, context: Any) -> None:
        self.events.append(("begin", context.step, context.loss))

    def on_step_end(self, context: Any) -> None:
        self.events.append(("step", context.step, context.loss))

    def on_train_end(self, context: Any) -> None:
        self.events.append(("end", context.step, context.loss))


class Failing(TrainingHubCallback):
    def on_step_end(self, context: Any) -> None:
        raise RuntimeError("a callback of the user fails")


def osft(model: Path, output: Path, **options: Any) -> TrainingResult:
    output.mkdir(parents=True, exist_ok=True)
    data = output / "train.jsonl"
    rows = [chat.training_row("Be brief.", f"What is {n}?", f"It is {n * n}.") for n in range(SAMPLES)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    arguments: dict[str, Any] = {
        "unfreeze_rank_ratio": 0.25,
        "effective_batch_size": 3,
        "max_tokens_per_gpu": 256,
        "max_seq_len": 128,
        "learning_rate": 1e-2,
        "num_epochs": 2,
        "seed": 1,
    }
    return training_hub.osft(
        model_path=str(model),
        data_path=str(data),
        ckpt_output_dir=str(output),
        backend=NAME,
        **(arguments | options),
    )


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def test_the_result_is_a_plain_model_folder_that_learnt(tiny_model: Path, tmp_path: Path) -> None:
    result = osft(tiny_model, tmp_path)

    assert [step.step for step in result.steps] == [1, 2, 3, 4, 5, 6]  # 7 samples by 3, twice
    assert result.steps[-1].loss < result.steps[0].loss
    model = AutoModelForCausalLM.from_pretrained(result.model_path)
    assert model.config.architectures == ["LlamaForCausalLM"]
    assert model.config.tie_word_embeddings
    assert AutoTokenizer.from_pretrained(result.model_path).chat_template
    assert sorted(weights(result.model_path)) == sorted(weights(tiny_model))
    logged = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["loss"] for line in logged] == [step.loss for step in result.steps]


def test_the_same_seed_gives_the_same_bits_and_another_one_does_not(tiny_model: Path, tmp_path: Path) -> None:
    first, again, other = (
        weights(osft(tiny_model, tmp_path / name, seed=seed).model_path)
        for name, seed in (("first", 1), ("again", 1), ("other", 2))
    )

    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_splitting_a_step_into_packs_changes_nothing_but_rounding(tiny_model: Path, tmp_path: Path) -> None:
    whole = osft(tiny_model, tmp_path / "whole", max_tokens_per_gpu=1000)
    split = osft(tiny_model, tmp_path / "split", max_tokens_per_gpu=128)

    for one, other in zip(whole.steps, split.steps, strict=True):
        assert other.loss == pytest.approx(one.loss, rel=1e-4)


def test_the_model_is_saved_in_the_number_format_of_its_base(tmp_path: Path) -> None:
    base = write_tiny_model(tmp_path / "base", dtype=torch.bfloat16)

    adapted = osft(base, tmp_path / "out").model_path

    assert {tensor.dtype for tensor in weights(adapted).values()} == {torch.bfloat16}
    assert AutoModelForCausalLM.from_pretrained(adapted, dtype="auto").dtype == torch.bfloat16


def test_callbacks_are_called_and_a_failing_one_does_not_stop_the_training(tiny_model: Path, tmp_path: Path) -> None:
    recorder = Recorder()

    result = osft(tiny_model, tmp_path, callbacks=[Failing(), recorder])

    steps = [("step", step.step, step.loss) for step in result.steps]
    assert recorder.events == [("begin", 0, None), *steps, ("end", 6, result.steps[-1].loss)]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"learning_rte": 1e-3}, r"learning_rte .*did you mean learning_rate"),
        ({"osft_memory_efficient_init": True}, "osft_memory_efficient_init"),
        ({"use_liger": True}, "use_liger"),
        ({"is_pretraining": True, "block_size": 16}, "is_pretraining"),
        ({"wandb_project": "x"}, "wandb_project"),
        ({"nproc_per_node": 2}, "one process on one device"),
        ({"save_final_checkpoint": False}, "only result"),
        ({"max_seq_len": 8}, "max_seq_len is '8'"),
        ({"max_seq_len": 32}, "7 of 7 samples are longer"),
        ({"unfreeze_rank_ratio": 0.0}, "unfreeze_rank_ratio is '0.0'"),
    ],
)
def test_what_is_not_honoured_is_refused_by_name(
    tiny_model: Path, tmp_path: Path, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(Problems, match=said):
        osft(tiny_model, tmp_path, **options)

    assert not (tmp_path / "hf_format").exists()
