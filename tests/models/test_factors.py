"""The factored layer: the same function, frozen where it promised."""

import pytest
import torch
from mini_trainer.osft_utils import auto_generate_target_osft_config
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from components.run.training_options import TrainingOptions
from components.shared.problems import Problems
from components.training.factors import OSFTLinear, decompose, frozen_rank, target_names
from components.training.loading import load
from components.training.weights import CompactWeight, Float32Weight
from tests.tables import table

CPU = torch.device("cpu")
SHAPES = [(12, 12), (20, 8), (8, 20), (33, 7), (7, 33)]
FROZEN = 5
LARGE, LARGE_FROZEN = (384, 256), 128  # its trained factors have enough entries to be kept compactly


def random_weight(rows: int, columns: int) -> Tensor:
    torch.manual_seed(rows * 100 + columns)
    return torch.randn(rows, columns) / columns**0.5


def difference(ours: Tensor, theirs: Tensor) -> float:
    """Relative to theirs, in norm."""
    ours, theirs = ours.detach().float(), theirs.detach().float()
    return float((ours - theirs).norm() / theirs.norm())


@pytest.mark.parametrize(("rows", "columns"), SHAPES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
@pytest.mark.parametrize("bias", [True, False])
def test_a_factored_layer_computes_what_the_linear_one_did(rows, columns, dtype, tolerance, bias):
    weight = random_weight(rows, columns)
    layer = OSFTLinear("layer", decompose(weight), FROZEN, dtype)
    shift = torch.randn(rows) if bias else torch.zeros(rows)
    layer.bias = nn.Parameter(shift.to(dtype)) if bias else None
    x = torch.randn(3, 6, columns, dtype=dtype).requires_grad_()
    dense_x = x.detach().float().requires_grad_()
    dy = torch.randn(3, 6, rows)

    y = layer(x)
    y.backward(dy.to(dtype))
    dense_y = dense_x @ weight.T + shift
    dense_y.backward(dy.to(dtype).float())

    assert y.dtype == dtype
    assert y.shape == dense_y.shape
    assert difference(y, dense_y) < tolerance
    assert x.grad is not None
    assert dense_x.grad is not None
    assert difference(x.grad, dense_x.grad) < tolerance
    assert not bias or difference(layer.bias.grad, dy.sum((0, 1))) < tolerance  # type: ignore[union-attr, arg-type]


@pytest.mark.parametrize(
    ("rows", "columns", "frozen", "dtype", "tolerance"),
    [
        *((*shape, FROZEN, torch.float32, 1e-5) for shape in SHAPES),
        *((*shape, FROZEN, torch.bfloat16, 0.1) for shape in SHAPES),  # sums of few products
        (*LARGE, LARGE_FROZEN, torch.bfloat16, 2e-2),
    ],
)
def test_gradients_of_the_trained_factors_are_those_of_the_formula_added_up_over_passes(
    rows, columns, frozen, dtype, tolerance
):
    weight = random_weight(rows, columns)
    U, S, Vh = decompose(weight)
    layer = OSFTLinear("layer", (U, S, Vh), frozen, dtype)
    high = (U[:, :frozen] * S[:frozen]) @ Vh[:frozen]
    u, v = (part.clone().requires_grad_() for part in layer.split(layer.low.values(torch.float32)))
    s = S[frozen:].clone().requires_grad_()
    xs = [torch.randn(1, 9, columns, dtype=dtype), torch.randn(2, 5, columns, dtype=dtype)]
    dys = [torch.randn(*x.shape[:-1], rows, dtype=dtype) for x in xs]

    for x, dy in zip(xs, dys, strict=True):
        layer(x.requires_grad_()).backward(dy)
        dense = x.detach().float() @ (high + (u.T * s) @ v).T
        dense.backward(dy.float())

    assert isinstance(layer.low, CompactWeight if (rows, columns) == LARGE else Float32Weight)
    layer.finish_gradients()
    assert layer.low.grad is not None
    du, dv = layer.split(layer.low.grad)
    for ours, theirs in ((du, u.grad), (dv, v.grad), (layer.S_grad, s.grad)):
        assert theirs is not None
        assert difference(ours, theirs) < tolerance


@pytest.mark.parametrize(("rows", "columns"), SHAPES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_projection_leaves_only_what_is_orthogonal_to_the_frozen_directions(rows, columns, dtype, tolerance):
    U, S, Vh = decompose(random_weight(rows, columns))
    layer = OSFTLinear("layer", (U, S, Vh), FROZEN, dtype)
    U_high, V_high = U[:, :FROZEN], Vh[:FROZEN]
    change = torch.randn(layer.low.shape, dtype=dtype)
    before = change.clone().float()

    layer.project(change)

    after = change.float()
    for high, part, whole in ((U_high.T, *pair(layer, after, before, 0)), (V_high, *pair(layer, after, before, 1))):
        assert (part @ high.T).norm() < tolerance * whole.norm()
        expected = whole - (whole @ high.T) @ high
        assert (part - expected).norm() < tolerance * whole.norm()


def pair(layer: OSFTLinear, after: Tensor, before: Tensor, side: int) -> tuple[Tensor, Tensor]:
    return layer.split(after)[side], layer.split(before)[side]


@pytest.mark.parametrize(("rows", "columns"), [*SHAPES, LARGE])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_frozen_and_trained_part_together_are_the_base_weight(rows, columns, dtype):
    weight = random_weight(rows, columns)
    frozen = min(rows, columns) // 2
    U, S, Vh = decompose(weight)
    layer = OSFTLinear("layer", (U, S, Vh), frozen, dtype)

    # Float32 factors are exact in both modes; the compact form of large ones is some 1e-5 off.
    assert difference(layer.frozen_weight(weight) + layer.trained_part(), weight) < 1e-4
    assert difference(layer.frozen_weight(weight), (U[:, :frozen] * S[:frozen]) @ Vh[:frozen]) < 1e-4


def test_a_matrix_of_deficient_rank_has_a_finite_layer():
    weight = torch.zeros(10, 8)
    weight[0, 0] = 1.0
    layer = OSFTLinear("layer", decompose(weight), FROZEN, torch.float32)
    change = torch.randn(layer.low.shape)

    layer.project(change)

    assert torch.isfinite(change).all()
    torch.testing.assert_close(layer(torch.eye(8)), weight.T)


@pytest.mark.parametrize("ratio", [0.01, 0.1, 0.25, 1 / 3, 0.5, 0.9, 1.0])
def test_frozen_rank_is_that_of_the_stock_backend(ratio):
    model = nn.ModuleDict({f"q_proj{n}": nn.Linear(n, 37, bias=False) for n in (3, 10, 36, 64)})
    stock = auto_generate_target_osft_config(model, target_patterns=["q_proj"], rank_ratio=1 - ratio)

    assert stock == {name: frozen_rank(tuple(p.shape), ratio) for name, p in model.named_parameters()}


@pytest.mark.parametrize(("patterns", "ratio", "targets"), table("factors", "targets"))
def test_targets_are_the_linear_layers_of_the_patterns_of_which_something_stays_frozen(patterns, ratio, targets):
    layer = {"q_proj": nn.Linear(8, 8), "norm": nn.LayerNorm(8), "v_proj": nn.Linear(40, 40), "gate": nn.Linear(8, 9)}
    layers = nn.ModuleDict({"layers": nn.ModuleList([nn.ModuleDict(layer)])})
    model = nn.ModuleDict({"model": layers, "head": nn.Linear(8, 9)})

    assert target_names(model, patterns, ratio) == [f"model.layers.0.{name}" for name in targets]


@pytest.mark.parametrize("missing", ["model.norm.weight", "model.layers.1.mlp.up_proj.weight"])
def test_a_model_folder_that_lacks_a_weight_is_refused_with_its_name(tiny_model, tmp_path, missing):
    weights = load_file(tiny_model / "model.safetensors")
    del weights[missing]
    (tmp_path / "config.json").write_bytes((tiny_model / "config.json").read_bytes())
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})

    with pytest.raises(Problems, match=f"1 of .* weights are missing: {missing}"):
        load(tmp_path, TrainingOptions(), CPU, torch.float32, "sdpa")
