"""The loss of packs: what transformers and torch compute from all the logits of each sample alone."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from components.data.packs import packs
from components.data.samples import IGNORED, Sample
from components.shared.problems import Problems
from components.training import loss as loss_module
from components.training.attention import attention_for
from components.training.loss import PackLoss
from tests.tables import table

VOCABULARY = 101
LENGTHS = (5, 23, 2, 14, 9)
SIZES: dict[str, Any] = table("loss", "sizes")
WINDOW = 4  # shorter than most samples
MODELS: dict[str, tuple[str, dict[str, Any]]] = table("loss", "models")


def built(family: str, **changes: Any) -> PreTrainedModel:
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **(SIZES | changes))
    attention = attention_for(config, torch.device("cpu"), torch.float32, max(LENGTHS))
    return AutoModelForCausalLM.from_config(config, attn_implementation=attention)


def made_samples() -> list[Sample]:
    """Random tokens, of which some carry a loss: the first of some samples too, which nothing predicts."""
    generator = torch.Generator().manual_seed(1)
    samples = []
    for length in LENGTHS:
        tokens = torch.randint(VOCABULARY, (length,), generator=generator)
        kept = torch.rand(length, generator=generator) < 0.6
        kept[-1] = True
        samples.append(Sample(tokens.tolist(), torch.where(kept, tokens, IGNORED).tolist()))
    return samples


def gradients(model: PreTrainedModel) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(("family", "changes"), MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("max_tokens", [sum(LENGTHS), 25])
def test_loss_and_gradients_of_packs_are_the_sums_of_the_samples_alone(family, changes, max_tokens):
    model, samples = built(family, **changes), made_samples()
    total = sum(sample.loss_tokens for sample in samples)
    expected = torch.zeros(())
    for sample in samples:
        logits = model(input_ids=torch.tensor([sample.tokens])).logits[0, :-1]
        loss = F.cross_entropy(logits, torch.tensor(sample.labels[1:]), reduction="sum") / total
        loss.backward()
        expected += loss.detach()
    alone = gradients(model)
    model.zero_grad()

    pack_loss, computed = PackLoss(model), torch.zeros(())
    for pack in packs(samples, max_tokens):
        loss = pack_loss(pack, total)
        loss.backward()
        computed += loss.detach()

    torch.testing.assert_close(computed, expected, rtol=1e-6, atol=0)
    packed = gradients(model)
    assert sorted(packed) == sorted(alone) == sorted(name for name, _ in model.named_parameters())
    for name, gradient in alone.items():
        assert (packed[name] - gradient).norm() <= 2e-6 * gradient.norm(), name


@pytest.mark.parametrize(("family", "changes"), MODELS.values(), ids=MODELS)
def test_what_a_sample_loses_does_not_depend_on_what_precedes_it(family, changes):
    pack_loss, (*others, last) = PackLoss(built(family, **changes)), made_samples()
    with torch.no_grad():
        (alone,) = packs([last], 100)
        (packed,) = packs([*others, last], 100)
        (changed,) = packs([*(Sample(sample.tokens[::-1], sample.labels) for sample in others), last], 100)

        hidden = [pack_loss.hidden(pack)[-len(last.tokens) :] for pack in (alone, packed, changed)]

    torch.testing.assert_close(hidden[1], hidden[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(hidden[2], hidden[1], rtol=0, atol=0)


@pytest.mark.parametrize("shape", [{}, {"logits_scaling": 0.25}, {"final_logit_softcapping": 2.0}], ids=str)
@pytest.mark.parametrize(
    ("dtype", "vocabulary", "tolerance"),
    [
        (torch.float32, 101, 1e-6),
        (torch.float32, 104, 1e-6),
        (torch.bfloat16, 104, 1e-2),
        (torch.bfloat16, 101, 1e-2),  # rows are padded to a multiple of 8
        (torch.bfloat16, 97, 1e-2),
    ],
)
@pytest.mark.parametrize("at_once", [1 << 26, 7 * 101, 1])
def test_the_last_layers_loss_and_gradients_are_those_of_all_logits_at_once(
    monkeypatch, shape, dtype, vocabulary, tolerance, at_once
):
    monkeypatch.setattr(loss_module, "LOGITS_AT_ONCE", at_once)
    family = "granite" if "logits_scaling" in shape else "gemma2" if shape else "llama"
    model = built(family, **shape, vocab_size=vocabulary, tie_word_embeddings=False).to(dtype)
    pack_loss = PackLoss(model)
    targets = torch.randint(vocabulary, (29,))
    targets[0] = vocabulary - 1
    inputs = torch.randn(29, SIZES["hidden_size"]).to(dtype)

    def of(pieces: bool) -> tuple[Tensor, ...]:
        hidden = inputs.clone().requires_grad_()
        model.zero_grad()
        if pieces:
            loss = loss_module._HeadLoss.apply(hidden, pack_loss.head.weight, pack_loss, targets, 29)
        else:
            logits = F.linear(hidden, pack_loss.head.weight).float() / shape.get("logits_scaling", 1.0)
            if cap := shape.get("final_logit_softcapping"):
                logits = cap * torch.tanh(logits / cap)
            loss = F.cross_entropy(logits, targets)
        loss.backward()
        assert hidden.grad is not None
        assert pack_loss.head.weight.grad is not None
        return loss.detach(), hidden.grad, pack_loss.head.weight.grad

    for ours, theirs in zip(of(pieces=True), of(pieces=False), strict=True):
        assert ours.shape == theirs.shape
        assert (ours.float() - theirs.float()).norm() <= tolerance * theirs.float().norm()


def test_a_pack_without_anything_to_learn_has_no_loss():
    model = built("llama")
    (pack,) = packs([Sample([1, 2, 3], [IGNORED] * 3)], 100)

    loss = PackLoss(model)(pack, 1)
    loss.backward()

    assert loss.item() == 0
    assert all(not gradient.any() for gradient in gradients(model).values())


@pytest.mark.parametrize(("family", "changes"), table("loss", "refused"))
def test_a_model_whose_logits_are_something_else_is_refused(family, changes):
    with pytest.raises(Problems, match=r"logits of .*ForCausalLM are not those of a linear layer"):
        PackLoss(built(family, **changes))


def test_large_logits_in_bfloat16_are_not_taken_for_something_else(tiny_model):
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.bfloat16)
    with torch.no_grad():
        model.model.norm.weight.mul_(50)

    assert PackLoss(model).vocabulary == model.config.vocab_size


def test_a_loss_cannot_be_scaled_behind_its_back():
    (pack,) = packs(made_samples(), 4096)
    loss = PackLoss(built("llama"))(pack, 1)
    with pytest.raises(AssertionError, match="divisor"):
        (loss * 0.5).backward()  # type: ignore[no-untyped-call]
