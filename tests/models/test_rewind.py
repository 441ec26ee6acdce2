"""Part of the way back from an adapted model to its base: computed while reading, in memory as in a folder."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from components.evaluate import audit
from components.run.findings import KEPT
from components.training.rewind import move_between, save_between, weights_between
from tests.tiny_model import train_tiny_model, write_tiny_model

DTYPES = [torch.float32, torch.bfloat16]


@pytest.fixture(scope="module", params=DTYPES, ids=str)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A base model and one adapted from it."""
    folder = tmp_path_factory.mktemp("pair")
    base = write_tiny_model(folder / "base", dtype=request.param)
    return base, train_tiny_model(base, folder / "run", train_unfactored=False).model_path


def read(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


@pytest.mark.parametrize(("share", "end"), [(0.0, 0), (1.0, 1)])
def test_both_ends_of_the_way_are_the_models_to_the_bit(pair: tuple[Path, Path], share: float, end: int) -> None:
    for seed in range(3):
        found = dict(weights_between(*pair, share, seed, "cpu"))
        expected = read(pair[end])
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_halfway_the_mean_is_half_the_change_and_the_number_format_is_kept(pair: tuple[Path, Path]) -> None:
    start, end = map(read, pair)
    name = "model.layers.0.mlp.up_proj.weight"
    draws = [dict(weights_between(*pair, 0.5, seed, "cpu"))[name] for seed in range(64)]

    assert draws[0].dtype == start[name].dtype
    change, half = end[name].double() - start[name].double(), torch.stack(draws).double().mean(0) - start[name].double()
    assert float((half * change).sum() / change.norm() ** 2) == pytest.approx(0.5, abs=0.01)


def test_what_is_tried_in_memory_is_what_is_written_and_neither_model_is_touched(
    pair: tuple[Path, Path], tmp_path: Path
) -> None:
    base, adapted = pair
    before = [(folder / "model.safetensors").read_bytes() for folder in pair]
    model = AutoModelForCausalLM.from_pretrained(adapted, dtype="auto")

    move_between(model, base, adapted, 0.3, seed=1)
    save_between(base, adapted, 0.3, 1, "cpu", tmp_path / "between", {"record.json": {"share": 0.3}})

    written = AutoModelForCausalLM.from_pretrained(tmp_path / "between", dtype="auto")
    for (name, one), (_, other) in zip(model.named_parameters(), written.named_parameters(), strict=True):
        assert torch.equal(one, other), name
    tokens = torch.arange(9)[None]
    assert not torch.equal(
        model(tokens).logits, AutoModelForCausalLM.from_pretrained(adapted, dtype="auto")(tokens).logits
    )
    assert (tmp_path / "between" / "record.json").exists()
    assert [(folder / "model.safetensors").read_bytes() for folder in pair] == before


def test_what_was_kept_stays_kept_on_the_way(pair: tuple[Path, Path], tmp_path: Path) -> None:
    save_between(*pair, 0.5, 1, "cpu", tmp_path / "between", {})

    assert audit.audit(pair[0], tmp_path / "between", 0.25, audit.default_patterns(pair[0])).word == KEPT


def test_a_tied_layer_that_the_base_holds_twice_is_read_once(tmp_path: Path) -> None:
    base = write_tiny_model(tmp_path / "base")
    adapted = train_tiny_model(base, tmp_path / "run").model_path
    weights = read(base)
    twice = weights | {"lm_head.weight": weights["model.embed_tokens.weight"].clone()}
    save_file(twice, base / "model.safetensors", metadata={"format": "pt"})

    save_between(base, adapted, 1.0, 1, "cpu", tmp_path / "between", {})

    assert read(tmp_path / "between").keys() == read(adapted).keys()
