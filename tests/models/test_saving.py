"""The adapted model's folder: the trained weights to the last bit that its format has, everything else the base's."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from components.data import chat
from components.data.samples import tokenize
from components.models.folder import INDEX
from components.run.training_options import TrainingOptions
from components.shared.workspace import SNAPSHOT_MANIFEST
from components.training import loop, saving
from components.training.factors import factored_layers
from components.training.loading import load
from components.training.loss import PackLoss
from components.training.optimizer import Optimizer
from components.training.saving import round_stochastically, save
from tests.tiny_model import write_tiny_model

ANSWERS = ("It is crimson.", "The heron.", "Twelve")


@dataclasses.dataclass
class Trained:
    base: Path
    loss: PackLoss
    optimizer: Optimizer
    seen: set[int]
    """Tokens of the training data."""

    def save(self, final: Path, seed: int = 1, **records: Any) -> Path:
        save(self.loss.model, self.optimizer, self.base, final, seed, records)
        return final

    def saved(self, final: Path, seed: int = 1) -> dict[str, Tensor]:
        return load_file(self.save(final, seed) / "model.safetensors")


def train(base: Path, dtype: torch.dtype = torch.float32, learning_rate: float = 1e-2) -> Trained:
    options = TrainingOptions(learning_rate=learning_rate, num_epochs=2, effective_batch_size=2)
    model = load(base, options, torch.device("cpu"), dtype, "sdpa")
    optimizer, pack_loss = Optimizer(model, options, dtype), PackLoss(model)
    tokenizer = AutoTokenizer.from_pretrained(base)
    samples = [tokenize(chat.training_row("Be brief.", "What?", text)["messages"], tokenizer) for text in ANSWERS]
    loop.train(pack_loss, optimizer, samples, options, [], lambda epoch: None, lambda metrics: True)
    return Trained(base, pack_loss, optimizer, {token for sample in samples for token in sample.tokens})


@pytest.fixture(scope="module")
def trained(tiny_model):
    return train(tiny_model)


def bits(tensor: Tensor) -> Tensor:
    return tensor.view(torch.int16)


def test_rounding_leaves_what_bfloat16_has():
    every = torch.arange(-(1 << 15), 1 << 15).to(torch.int16).view(torch.bfloat16)
    finite = every[torch.isfinite(every)]
    assert len(finite) == 65536 - 2 * 128

    for seed in range(3):
        assert torch.equal(bits(round_stochastically(finite.float(), torch.bfloat16, seed)), bits(finite))


def test_rounding_is_right_in_the_mean():
    draws = 1 << 14
    values = torch.tensor([1.001, -1.001, 3.14159, 1e-3, -7e-9, 0.9999, 123456.0, 1.0 + 2.0**-15])
    spacing = 2 ** torch.floor(torch.log2(values.abs())).double() * 2.0**-7

    rounded = round_stochastically(values[:, None].expand(-1, draws), torch.bfloat16, seed=5).double()

    assert ((rounded - values[:, None].double()).abs() < spacing[:, None]).all()
    assert ((rounded.mean(1) - values.double()).abs() < 4 * 0.5 * spacing / draws**0.5).all()


def test_a_change_far_below_the_spacing_survives_in_the_mean_and_is_lost_to_the_nearest():
    base = torch.ones(1 << 20)
    change = 2.0**-7 / 100  # a hundredth of the distance from 1 to the next number

    kept = round_stochastically(base + change, torch.bfloat16, seed=1).double().mean() - 1

    assert float(kept) == pytest.approx(change, rel=0.05)
    assert torch.equal((base + change).bfloat16().float(), base)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_other_formats_are_rounded_to_the_nearest(dtype):
    values = torch.randn(100, generator=torch.Generator().manual_seed(0))

    assert torch.equal(round_stochastically(values, dtype, seed=1), values.to(dtype))


def test_the_model_is_saved_in_the_number_format_of_its_base_and_as_it_was_trained(tmp_path):
    """In bfloat16 the mean of many roundings is the trained weight."""
    base = write_tiny_model(tmp_path / "base", dtype=torch.bfloat16)
    trained = train(base, learning_rate=1e-4)
    name = "model.layers.0.mlp.up_proj.weight"
    before = load_file(base / "model.safetensors")[name]
    layer = factored_layers(trained.loss.model)[name.removesuffix(".weight")]
    exact = layer.frozen_weight(before) + layer.trained_part()

    first = trained.saved(tmp_path / "first")
    assert {tensor.dtype for tensor in first.values()} == {torch.bfloat16}
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "first", dtype="auto").dtype == torch.bfloat16
    saved = [trained.saved(tmp_path / str(seed), seed)[name].double() for seed in range(32)]

    change = exact.double() - before.double()
    spacing = before.double().abs() * 2.0**-7
    assert (change.abs() < spacing / 4).double().mean() > 0.5  # most of it would be lost to the nearest
    assert ((torch.stack(saved) - exact.double()).abs() <= spacing * 1.01 + 1e-12).all()
    kept = torch.stack(saved).mean(0) - before.double()
    assert float((kept * change).sum() / change.norm() ** 2) == pytest.approx(1, abs=0.05)
    nearest = exact.bfloat16().double() - before.double()
    assert abs(float((nearest * change).sum() / change.norm() ** 2) - 1) > 0.1


def test_the_same_seed_rounds_the_same_way_and_another_does_not(tmp_path):
    trained = train(write_tiny_model(tmp_path / "base", dtype=torch.bfloat16))

    one, again, other = (trained.saved(tmp_path / name, seed) for name, seed in (("1", 1), ("2", 1), ("3", 2)))

    assert all(torch.equal(one[name], again[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_a_large_model_is_spread_over_files_with_an_index(trained, tmp_path, monkeypatch):
    whole = trained.saved(tmp_path / "whole")
    monkeypatch.setattr(saving, "MAX_FILE", 40_000)

    folder = trained.save(tmp_path / "spread")

    files = sorted(path.name for path in folder.glob("*.safetensors"))
    index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    assert len(files) > 2
    assert files[0] == f"model-00001-of-{len(files):05d}.safetensors"
    assert sorted(set(index["weight_map"].values())) == files
    parts = {file: load_file(folder / file) for file in files}
    assert {name: file for file in files for name in parts[file]} == index["weight_map"]
    assert all(sum(t.nbytes for t in part.values()) <= 40_000 or len(part) == 1 for part in parts.values())
    spread = {name: tensor for part in parts.values() for name, tensor in part.items()}
    assert spread.keys() == whole.keys()
    assert all(torch.equal(spread[name], whole[name]) for name in whole)
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert torch.equal(model.get_parameter("model.norm.weight"), whole["model.norm.weight"])


def test_a_base_model_in_several_files_is_saved_in_one_when_it_fits(trained, tmp_path, monkeypatch):
    base = tmp_path / "base"
    shutil.copytree(trained.base, base)
    (base / "model.safetensors").unlink()
    AutoModelForCausalLM.from_pretrained(trained.base).save_pretrained(base, max_shard_size="40KB")
    assert (base / INDEX).exists()

    folder = dataclasses.replace(trained, base=base).save(tmp_path / "final")

    assert [path.name for path in folder.glob("*.safetensors*")] == ["model.safetensors"]
    saved, whole = load_file(folder / "model.safetensors"), trained.saved(tmp_path / "whole")
    torch.testing.assert_close(saved, whole, rtol=1e-4, atol=1e-6)  # products depend on where a file's tensor lies


def test_a_tied_last_layer_is_not_written_even_if_the_base_holds_it_twice(trained, tmp_path):
    base = shutil.copytree(trained.base, tmp_path / "base")
    weights = load_file(base / "model.safetensors")
    assert "lm_head.weight" not in weights
    save_file(
        weights | {"lm_head.weight": weights["model.embed_tokens.weight"].clone()},
        base / "model.safetensors",
        metadata={"format": "pt"},
    )

    folder = train(base).save(tmp_path / "final")

    saved = load_file(folder / "model.safetensors")
    assert saved.keys() == weights.keys()
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert torch.equal(model.get_output_embeddings().weight, saved["model.embed_tokens.weight"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_embeddings_of_tokens_that_were_not_seen_keep_their_bits(tmp_path, dtype):
    base = write_tiny_model(
        tmp_path / "base", dtype=torch.bfloat16, hidden_size=256, intermediate_size=64, tie_word_embeddings=False
    )
    trained = train(base, dtype)
    before = load_file(base / "model.safetensors")["model.embed_tokens.weight"]

    after = trained.saved(tmp_path / "final")["model.embed_tokens.weight"]

    unseen = [token for token in range(len(before)) if token not in trained.seen]
    assert len(unseen) > 100
    assert torch.equal(bits(after[unseen]), bits(before[unseen]))
    seen = trained.seen - {trained.loss.model.config.pad_token_id}  # torch gives padding no gradient
    assert not any(torch.equal(after[token], before[token]) for token in seen)


def test_configuration_tokenizer_and_template_are_the_bases_and_its_manifest_is_not(trained, tmp_path):
    base = shutil.copytree(trained.base, tmp_path / "base")
    for name in (SNAPSHOT_MANIFEST, INDEX, "README.md", "pytorch_model.bin"):
        (base / name).write_text("{}", encoding="utf-8")
    copied = {path.name for path in base.iterdir() if path.suffix in (".json", ".jinja")} - {SNAPSHOT_MANIFEST, INDEX}
    assert {"config.json", "generation_config.json", "tokenizer.json", "chat_template.jinja"} <= copied

    folder = dataclasses.replace(trained, base=base).save(tmp_path / "final", **{"record.json": {"loss": 1.5}})

    assert {path.name for path in folder.iterdir()} == copied | {"model.safetensors", "record.json"}
    assert all((folder / name).read_bytes() == (base / name).read_bytes() for name in copied)
    assert json.loads((folder / "record.json").read_text(encoding="utf-8")) == {"loss": 1.5}
    template = AutoTokenizer.from_pretrained(base).chat_template
    assert AutoTokenizer.from_pretrained(folder).chat_template == template


def test_nothing_is_left_when_a_model_cannot_be_saved(trained, tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        trained.save(tmp_path / "final", **{"record.json": float("nan")})

    assert list(tmp_path.iterdir()) == []
