"""The factored layer: the same function, frozen where it promised."""

import pytest
import torch
from mini_trainer.osft_utils import auto_generate_target_osft_config
from torch import nn

from components.train_osft.factors import (
    OSFTLinear,
    decompose,
    factored_layers,
    factorize,
    frozen_rank,
    plain_state_dict,
    target_names,
)


@pytest.mark.parametrize(("rows", "columns"), [(12, 12), (20, 8), (8, 20)])
@pytest.mark.parametrize("bias", [True, False])
def test_a_factored_layer_computes_what_the_linear_one_did(rows: int, columns: int, bias: bool) -> None:
    torch.manual_seed(0)
    linear = nn.Linear(columns, rows, bias=bias)
    x = torch.randn(3, 5, columns)
    expected = linear(x)

    layer = OSFTLinear(linear, 5, *decompose(linear.weight))

    torch.testing.assert_close(layer(x), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(layer.weight(), linear.weight, rtol=0, atol=1e-7)


@pytest.mark.parametrize(("rows", "columns"), [(12, 8), (8, 12), (8, 8), (20, 20)])
def test_projection_leaves_only_what_is_orthogonal_to_the_frozen_directions(rows: int, columns: int) -> None:
    torch.manual_seed(0)
    linear = nn.Linear(columns, rows, bias=False)
    U, S, Vh = decompose(linear.weight)
    layer = OSFTLinear(linear, 5, U, S, Vh)
    U_high, V_high = U[:, :5], Vh[:5]
    free = min(rows, columns) - 5
    with torch.no_grad():
        layer.U_low += torch.randn_like(layer.U_low)
        layer.V_low += torch.randn_like(layer.V_low)
    layer.U_low.grad, layer.V_low.grad = torch.randn_like(layer.U_low), torch.randn_like(layer.V_low)
    inside = layer.U_low.detach().clone()

    layer.project_factors()
    layer.project_gradients()

    for u, v in ((layer.U_low, layer.V_low), (layer.U_low.grad, layer.V_low.grad)):
        torch.testing.assert_close(U_high.T @ u, torch.zeros(5, free), rtol=0, atol=1e-5)
        torch.testing.assert_close(v @ V_high.T, torch.zeros(free, 5), rtol=0, atol=1e-5)
    removed = inside - layer.U_low
    torch.testing.assert_close(U_high @ (U_high.T @ removed), removed, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("ratio", [0.01, 0.1, 0.25, 1 / 3, 0.5, 0.9, 1.0])
def test_frozen_rank_is_that_of_the_stock_backend(ratio: float) -> None:
    model = nn.ModuleDict({f"q_proj{n}": nn.Linear(n, 37, bias=False) for n in (3, 10, 36, 64)})
    stock = auto_generate_target_osft_config(model, target_patterns=["q_proj"], rank_ratio=1 - ratio)

    assert stock == {name: frozen_rank(tuple(p.shape), ratio) for name, p in model.named_parameters()}


def test_a_factorized_model_saves_under_the_names_it_had() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8), nn.Linear(8, 4, bias=False))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    names = target_names(model, ("0.", "2."))

    assert list(factorize(model, names, 0.5)) == ["0", "2"]

    assert list(factored_layers(model)) == ["0", "2"]
    after = plain_state_dict(model, torch.float32)
    assert sorted(after) == sorted(before)
    for name, tensor in before.items():
        torch.testing.assert_close(after[name], tensor, rtol=1e-4, atol=1e-5)


def test_a_matrix_of_which_nothing_is_frozen_stays_as_it_is() -> None:
    model = nn.Sequential(nn.Linear(8, 8))

    list(factorize(model, ["0"], 1.0))

    assert type(model[0]) is nn.Linear
