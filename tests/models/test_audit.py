"""Planted changes: where a change of weights lies is what the audit says; and models that are no pair are refused."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from components.evaluate import audit
from components.evaluate.pair import check_pair, check_same_language
from components.run.findings import BROKEN, IN_DOUBT, KEPT, MatrixAudit
from components.shared.problems import Problems
from components.shared.storage import read_json, write_json
from components.training.factors import decompose, frozen_rank
from components.training.saving import round_stochastically
from tests.tiny_model import write_tiny_model

RATIO = 0.25
MATRIX = "model.layers.0.mlp.up_proj.weight"


def edited(model: Path, folder: Path, change: dict[str, torch.Tensor]) -> Path:
    """A copy of a model with something added to some of its tensors."""
    shutil.copytree(model, folder)
    weights = load_file(folder / "model.safetensors")
    save_file(
        {name: tensor + change[name] if name in change else tensor for name, tensor in weights.items()},
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )
    return folder


def test_identical_models_have_no_change(tiny_model: Path) -> None:
    found = audit.audit(tiny_model, tiny_model, RATIO, audit.default_patterns(tiny_model))

    audits = found.matrices
    assert sorted(a.name for a in audits) == sorted(load_file(tiny_model / "model.safetensors"))
    assert {a.relative_change for a in audits} == {0.0}
    assert sum(a.protected for a in audits) == 14  # seven matrices in each of two layers
    assert not any(a.protected for a in audits if "layers" not in a.name)  # embeddings and norms
    assert (found.identical, found.protected_change_ratio, found.word, found.worst) == (True, 0.0, KEPT, "")


@pytest.mark.parametrize(("place", "share"), [("protected", 1.0), ("free", 0.0), ("between", 1.0), ("half", 0.5**0.5)])
def test_a_change_is_found_where_it_was_planted(tiny_model: Path, tmp_path: Path, place: str, share: float) -> None:
    weight = load_file(tiny_model / "model.safetensors")[MATRIX]
    U, _, Vh = decompose(weight)
    k = frozen_rank(tuple(weight.shape), RATIO)
    strong, weak = torch.outer(U[:, 0], Vh[0]), torch.outer(U[:, k], Vh[k])
    planted = {
        "protected": strong,
        "free": weak,
        "between": torch.outer(U[:, 0], Vh[k]),  # from a free direction into a protected one
        "half": strong + weak,
    }[place]
    adapted = edited(tiny_model, tmp_path / "adapted", {MATRIX: 0.1 * planted})

    found = audit.audit(tiny_model, adapted, RATIO, audit.default_patterns(tiny_model))
    audits = {a.name: a for a in found.matrices}

    assert audits[MATRIX].protected_change_ratio == pytest.approx(share, abs=1e-3)
    assert audits[MATRIX].relative_change == pytest.approx(float(0.1 * planted.norm() / weight.norm()), rel=1e-3)
    assert found.protected_change_ratio == pytest.approx(share, abs=1e-3)
    assert (found.word, found.worst) == ((BROKEN, MATRIX) if share else (KEPT, found.worst))
    assert found.unprotected_share == 0.0
    assert [name for name, a in audits.items() if a.relative_change > 0] == [MATRIX]


@pytest.mark.parametrize("size", [3e-5, 3e-4, 3e-3, 3e-2])
def test_what_rounding_puts_into_protected_directions_is_estimated(size: float) -> None:
    torch.manual_seed(0)
    base = torch.randn(256, 384).mul_(0.02).to(torch.bfloat16)
    U, _, Vh = decompose(base)
    k = frozen_rank(tuple(base.shape), RATIO)
    free = torch.randn_like(base, dtype=torch.float32).mul_(size)
    free -= U[:, :k] @ (U[:, :k].T @ free)
    free -= (free @ Vh[:k].T) @ Vh[:k]  # in free directions only
    saved = round_stochastically(base.float() + free, torch.bfloat16, seed=1)
    error = saved.float() - base.float() - free

    assert audit.rounding_norm(saved, saved.float() - base.float()) == pytest.approx(float(error.norm()), rel=0.25)


def test_a_kept_promise_saved_in_bfloat16_shows_no_more_than_rounding(tmp_path: Path) -> None:
    base = write_tiny_model(tmp_path / "base", dtype=torch.bfloat16, hidden_size=64, intermediate_size=160)
    weight = load_file(base / "model.safetensors")[MATRIX].float()
    U, _, Vh = decompose(weight)
    k = frozen_rank(tuple(weight.shape), RATIO)
    adapted = tmp_path / "adapted"
    shutil.copytree(base, adapted)
    weights = load_file(base / "model.safetensors")
    kept = torch.outer(U[:, k], Vh[k]) + torch.outer(U[:, k + 1], Vh[k + 1])
    weights[MATRIX] = round_stochastically(weight + 0.05 * kept, torch.bfloat16, seed=1)
    save_file(weights, adapted / "model.safetensors", metadata={"format": "pt"})

    whole = audit.audit(base, adapted, RATIO, audit.default_patterns(base))

    found = {a.name: a for a in whole.matrices}[MATRIX]
    assert found.protected_change_ratio > 0.05
    assert found.protected_change_ratio == pytest.approx(found.rounding_ratio, rel=0.3)
    assert whole.word == KEPT


def matrix(
    name: str, share: float, rounding: float = 0.0, norm: float = 1.0, protected: bool = True, change: float = 0.01
) -> MatrixAudit:
    return MatrixAudit(
        name=name, protected=protected, relative_change=change, protected_change_ratio=share, rounding_ratio=rounding,
        change_norm=norm,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("matrices", "word", "worst"),
    [
        ([matrix("a", 0.0004), matrix("b", 0.0002)], KEPT, "a"),
        ([matrix("a", 0.30, 0.28), matrix("b", 0.20, 0.21)], KEPT, ""),  # rounding accounts for it
        ([matrix("a", 0.02, change=1e-5), matrix("b", 0.01, change=1e-5)], KEPT, ""),  # float32's own
        ([matrix("a", 0.02), matrix("b", 0.03)], IN_DOUBT, "b"),
        ([matrix("a", 0.0), matrix("b", 0.9, norm=0.005)], IN_DOUBT, "b"),  # one small matrix of many
        ([matrix("a", 0.31), matrix("b", 0.08)], BROKEN, "a"),
        ([matrix("a", 0.0, protected=False)], "", ""),
    ],
)
def test_the_audit_says_a_word_and_names_the_worst_matrix(matrices: list[MatrixAudit], word: str, worst: str) -> None:
    found = audit.sum_up(matrices, RATIO)

    assert (found.word, found.worst) == (word, worst)


def test_the_share_of_the_change_that_no_method_protects_is_said() -> None:
    found = audit.sum_up([matrix("a", 0.0, norm=3.0), matrix("embeddings", 0.0, norm=4.0, protected=False)], RATIO)

    assert found.unprotected_share == pytest.approx(16 / 25)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_end_the_audit_and_are_named(
    tiny_model: Path, tmp_path: Path, value: float
) -> None:
    weight = load_file(tiny_model / "model.safetensors")[MATRIX]
    adapted = edited(tiny_model, tmp_path / "adapted", {MATRIX: torch.full_like(weight, value)})

    with pytest.raises(Problems, match=f"the adapted model has NaN or infinite weights in {MATRIX}"):
        audit.audit(tiny_model, adapted, RATIO, audit.default_patterns(tiny_model))


def test_a_model_folder_that_names_no_architecture_is_audited(tiny_model: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    config = read_json(folder / "config.json")
    del config["architectures"]
    write_json(folder / "config.json", config)

    assert audit.default_patterns(folder) == audit.default_patterns(tiny_model)


@pytest.mark.parametrize("pattern", ["model", "weight", "e"])
def test_embeddings_are_no_matrices_that_the_audit_calls_protected(tiny_model: Path, pattern: str) -> None:
    found = audit.audit(tiny_model, tiny_model, RATIO, (pattern,))
    protected = {a.name for a in found.matrices if a.protected}

    assert len(protected) == 14


def test_models_that_are_no_pair_are_refused_with_all_that_is_wrong(tiny_model: Path, tmp_path: Path) -> None:
    other = write_tiny_model(tmp_path / "other", hidden_size=48)
    with pytest.raises(Problems, match="both have in different shapes"):
        check_pair(tiny_model, other)

    deeper = write_tiny_model(tmp_path / "deeper", num_hidden_layers=3)
    with pytest.raises(Problems, match=r"only the adapted model has model\.layers\.2"):
        check_pair(tiny_model, deeper)

    cut = tmp_path / "cut"
    shutil.copytree(tiny_model, cut)
    weights = (cut / "model.safetensors").read_bytes()
    (cut / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(Problems, match="is cut or no safetensors file"):
        check_pair(tiny_model, cut)

    (cut / "model.safetensors").unlink()
    (cut / "tokenizer.json").unlink()
    with pytest.raises(Problems, match=r"lacks a tokenizer.*weights"):
        check_pair(tiny_model, cut)


def changed(model: Path, folder: Path, name: str, change: dict[str, object]) -> Path:
    """A copy of a model with other values in one of its JSON files."""
    shutil.copytree(model, folder)
    write_json(folder / name, read_json(folder / name) | change)
    return folder


@pytest.mark.parametrize(
    ("name", "change", "difference"),
    [
        ("generation_config.json", {"eos_token_id": 7}, "end tokens"),
        ("tokenizer_config.json", {"bos_token": "<|begin of all|>"}, "tokenizer"),
    ],
)
def test_models_that_are_asked_or_end_in_another_way_are_no_pair(
    tiny_model: Path, tmp_path: Path, name: str, change: dict[str, object], difference: str
) -> None:
    other = changed(tiny_model, tmp_path / "other", name, change)

    with pytest.raises(Problems, match=f"the models have not the same {difference}"):
        check_same_language(tiny_model, other, accept=False)
    assert difference in check_same_language(tiny_model, other, accept=True)
    assert check_same_language(tiny_model, tiny_model, accept=False) == []


def test_models_with_two_chat_templates_are_no_pair(tiny_model: Path, tmp_path: Path) -> None:
    other = shutil.copytree(tiny_model, tmp_path / "other")
    template = other / "chat_template.jinja"
    template.write_text(template.read_text(encoding="utf-8").replace("\n", " ").replace("\\n", " "), encoding="utf-8")

    with pytest.raises(Problems, match="the models have not the same chat template"):
        check_same_language(tiny_model, other, accept=False)
