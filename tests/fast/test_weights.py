"""Weights in four bytes an entry follow those in float32, and lose nothing in the mean."""

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

from components.training.weights import (
    BLOCK,
    MAX_CODE,
    CompactWeight,
    Float32Weight,
    TrainedWeight,
    Update,
    decode_first,
    decode_second,
    encode_first,
    encode_second,
    random_bits,
)

STEPS = 100
SHAPES = [(1,), (7, 33), (255,), (256,), (257,), (3, 5, 7), (4, 256), (1000,)]
DRAWS = 4096


def update(step: int = 1, **changes: Any) -> Update:
    values: dict[str, Any] = {
        "learning_rate": 1e-2,
        "gradient_scale": 1.0,
        "beta1": 0.9,
        "beta2": 0.95,
        "eps": 1e-8,
        "weight_decay": 0.0,
        "seed": 42,
    }
    return Update(step=step, **(values | changes))


def train(weight: TrainedWeight, gradients: list[Tensor], **changes: Any) -> None:
    for number, gradient in enumerate(gradients, 1):
        step = update(number, **changes)
        weight.step(weight.direction(gradient.clone(), step), step)


def random_gradients(shape: tuple[int, ...], steps: int, seed: int = 0) -> list[Tensor]:
    """As a training has them: of all sizes, each with a direction of its own under noise of its own size."""
    generator = torch.Generator().manual_seed(seed)
    size = torch.exp(torch.randn(shape, generator=generator)) * 1e-3
    lasting = torch.randn(shape, generator=generator)
    return [size * (lasting + torch.randn(shape, generator=generator)) for _ in range(steps)]


def random_value(shape: tuple[int, ...]) -> Tensor:
    return 0.02 * torch.randn(shape, generator=torch.Generator().manual_seed(1))


def spacing_of(weight: CompactWeight) -> Tensor:
    """The distance between two values of each entry's block."""
    return (weight.scales / MAX_CODE).repeat_interleave(BLOCK)[: weight.entries].view(weight.shape)


@pytest.mark.parametrize("learning_rate", [5e-6, 1e-4])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_a_compact_weight_goes_where_a_float32_one_goes(learning_rate, weight_decay):
    shape = (100, 300)
    gradients = random_gradients(shape, STEPS)
    compact, plain = CompactWeight("w", random_value(shape)), Float32Weight("w", random_value(shape))
    start = compact.values(torch.float32)

    train(compact, gradients, learning_rate=learning_rate, weight_decay=weight_decay)
    train(plain, gradients, learning_rate=learning_rate, weight_decay=weight_decay)

    moved, wanted = compact.values(torch.float32) - start, plain.value - random_value(shape)
    assert wanted.norm() > learning_rate * STEPS * 0.1 * wanted.numel() ** 0.5
    assert (moved * wanted).sum() / (moved.norm() * wanted.norm()) > 0.995
    assert float((moved * wanted).sum() / wanted.norm() ** 2) == pytest.approx(1, abs=0.02)


def test_bfloat16_would_lose_the_steps_that_a_compact_weight_keeps():
    """What the format is for: without it the same steps come to nothing."""
    shape = (100, 300)
    gradients = random_gradients(shape, STEPS)
    rounded = random_value(shape).bfloat16()
    start = rounded.clone()
    plain = Float32Weight("w", random_value(shape))

    for number, gradient in enumerate(gradients, 1):
        step = update(number, learning_rate=5e-6)
        rounded -= 5e-6 * plain.direction(gradient.clone(), step)
        plain.step(plain.direction(gradient.clone(), step), step)

    moved, wanted = rounded.float() - start.float(), plain.value - random_value(shape)
    assert float((moved * wanted).sum() / wanted.norm() ** 2) < 0.5


@pytest.mark.parametrize("shape", SHAPES)
def test_any_shape_is_kept_to_half_a_spacing_and_trained(shape):
    value = random_value(shape)
    compact, plain = CompactWeight("w", value.clone()), Float32Weight("w", value.clone())

    assert compact.values(torch.float32).shape == value.shape
    assert ((compact.values(torch.float32) - value).abs() <= 0.5001 * spacing_of(compact)).all()

    gradients = random_gradients(shape, 20)
    train(compact, gradients)
    train(plain, gradients)

    assert compact.values(torch.bfloat16).dtype == torch.bfloat16
    assert (compact.values(torch.float32) - plain.value).norm() < 0.1 * (plain.value - value).norm()


def test_rows_of_zeros_stay_zero_until_they_are_trained():
    value = random_value((3, BLOCK))
    value[1] = 0
    compact, plain = CompactWeight("w", value.clone()), Float32Weight("w", value.clone())

    assert not compact.values(torch.float32)[1].any()

    gradients = random_gradients((3, BLOCK), 20)
    train(compact, gradients)
    train(plain, gradients)

    assert torch.isfinite(compact.values(torch.float32)).all()
    missed = compact.values(torch.float32)[1] - plain.value[1]
    assert missed.norm() < 0.1 * plain.value[1].norm()


def test_a_block_without_gradient_keeps_its_bits():
    compact = CompactWeight("w", random_value((3, BLOCK)))
    before = {name: tensor.clone() for name, tensor in compact.state().items()}
    gradients = random_gradients((3, BLOCK), 5)
    for gradient in gradients:
        gradient[1] = 0

    train(compact, gradients)

    after = compact.state()
    assert all(torch.equal(after[name][1], before[name][1]) for name in after)
    assert not any(torch.equal(after[name][0], before[name][0]) for name in after)


@pytest.mark.parametrize(("decode", "encode"), [(decode_first, encode_first), (decode_second, encode_second)])
def test_every_code_is_the_code_of_what_it_stands_for(decode, encode):
    codes = torch.arange(256).to(torch.uint8)
    codes = codes[codes != 128] if decode is decode_first else codes  # there is one 0 only

    for noise in (0, 0x7FFF, 0xFFFF):
        assert torch.equal(encode(decode(codes), torch.full(codes.shape, noise)), codes)
    assert float(decode(codes).abs().max()) == 1.0


def test_a_second_moment_never_stands_for_zero():
    assert (decode_second(torch.arange(256).to(torch.uint8)) > 0).all()
    tiny = torch.tensor([0.0, 1e-38, 2.0**-40, 2.0**-32])

    assert (decode_second(encode_second(tiny, torch.zeros(4, dtype=torch.int64))) > 0).all()


@pytest.mark.parametrize(
    ("decode", "encode", "values"),
    [
        (decode_first, encode_first, [1e-6, -1e-6, 2.0**-16, 1.9e-5, 1e-4, -0.03, 0.3, -0.77, 0.999, 1.0, 0.0]),
        (decode_second, encode_second, [1e-9, 3e-7, 1e-5, 0.003, 0.3, 0.77, 0.999, 1.0]),
    ],
)
def test_moments_are_rounded_to_a_neighbour_and_right_in_the_mean(decode, encode, values):
    exact = torch.tensor(values)[:, None].expand(-1, DRAWS).contiguous()
    noise = random_bits(3, exact.numel()).view_as(exact) & 0xFFFF
    stands_for = decode(encode(exact, noise)).double()

    spacing = (exact.abs() / 8).clamp_min(2.0**-16 * 1.25 if decode is decode_first else 0).double()
    assert ((stands_for - exact).abs() <= spacing).all()
    error = (stands_for.mean(1) - exact[:, 0].double()).abs()
    assert (error <= 4 * spacing[:, 0] * 0.5 / DRAWS**0.5).all(), error / spacing[:, 0]


def test_values_are_rounded_to_a_neighbour_and_right_in_the_mean():
    value = random_value((BLOCK,))
    direction = torch.randn(BLOCK, generator=torch.Generator().manual_seed(2))
    start = CompactWeight("w", value).values(torch.float32).double()
    total = torch.zeros(BLOCK, dtype=torch.float64)
    largest = torch.zeros(BLOCK, dtype=torch.float64)
    for seed in range(DRAWS // 4):
        compact = CompactWeight("w", value)
        compact.step(direction, update(learning_rate=3e-7, seed=seed))
        moved = compact.values(torch.float32).double() - start + 3e-7 * direction.double()
        total += moved
        largest = torch.maximum(largest, moved.abs())
        spacing = spacing_of(compact).double()

    assert (3e-7 * direction.abs() < spacing / 2).float().mean() > 0.9  # rounded to the nearest, most would be lost
    assert (largest <= 1.01 * spacing).all()
    assert (total.abs() / (DRAWS // 4) <= 5 * 0.5 * spacing / (DRAWS // 4) ** 0.5).all()


@pytest.mark.parametrize(
    ("name", "changes", "same"), [("w", {}, True), ("w", {"seed": 43}, False), ("other", {}, False)]
)
def test_the_noise_is_decided_by_seed_and_name(name, changes, same):
    gradients = random_gradients((4, BLOCK), 3)
    one, other = CompactWeight("w", random_value((4, BLOCK))), CompactWeight(name, random_value((4, BLOCK)))

    train(one, gradients)
    train(other, gradients, **changes)

    for part, tensor in one.state().items():
        if part in ("codes", "first", "second"):
            assert torch.equal(tensor, other.state()[part]) == same, part


def test_every_step_has_noise_of_its_own():
    seeds = {
        dataclasses.replace(update(), step=step).noise_seed("w", what)
        for step in range(1, 101)
        for what in ("moments", "value")
    }

    assert len(seeds) == 200


@pytest.mark.skipif(not torch.cuda.is_available(), reason="the kernels run on CUDA only")
@pytest.mark.parametrize("shape", [(7, 33), (255,), (300, 1000)])
def test_the_kernels_compute_what_the_functions_compute(shape):
    reference, on_gpu = CompactWeight("w", random_value(shape)), CompactWeight("w", random_value(shape).cuda())
    start = reference.values(torch.float32)

    for number, gradient in enumerate(random_gradients(shape, 20), 1):
        step = update(number, learning_rate=1e-3, gradient_scale=0.7, weight_decay=0.1)
        gradient = gradient.bfloat16()
        expected = reference.direction(gradient.clone(), step)
        direction = on_gpu.direction(gradient.cuda(), step)
        assert (direction.cpu().float() - expected.float()).norm() < 1e-2 * expected.float().norm()
        reference.step(expected, step)
        on_gpu.step(expected.cuda(), step)

    for part, tensor in on_gpu.state().items():
        # Single codes may differ by one where the last bit of a product decides a rounding.
        difference = (tensor.cpu().float() - reference.state()[part].float()).abs()
        assert (difference > 1e-3 * reference.state()[part].float().abs()).float().mean() < 1e-2, part
    moved = reference.values(torch.float32) - start
    assert (on_gpu.values(torch.float32).cpu() - reference.values(torch.float32)).norm() < 1e-2 * moved.norm()
    assert torch.equal(on_gpu.values(torch.bfloat16), on_gpu.values(torch.float32).bfloat16())
