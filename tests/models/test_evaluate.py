"""Planted truths: what is known by construction is what the evaluation says."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from components import chat
from components.evaluate import audit
from components.evaluate.answering import answer, load
from components.evaluate.choices import choose
from components.evaluate.core import mcnemar_p
from components.train_osft.factors import decompose, frozen_rank
from components.train_osft.samples import tokenize

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
    audits = audit.audit(tiny_model, tiny_model, RATIO, audit.default_patterns(tiny_model))

    assert sorted(a.name for a in audits) == sorted(load_file(tiny_model / "model.safetensors"))
    assert {a.relative_change for a in audits} == {0.0}
    assert sum(a.protected for a in audits) == 14  # seven matrices in each of two layers
    assert audit.overall(audits) == 0.0


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

    audits = {a.name: a for a in audit.audit(tiny_model, adapted, RATIO, audit.default_patterns(tiny_model))}

    assert audits[MATRIX].protected_change_ratio == pytest.approx(share, abs=1e-3)
    assert audits[MATRIX].relative_change == pytest.approx(float(0.1 * planted.norm() / weight.norm()), rel=1e-3)
    assert audit.overall(list(audits.values())) == pytest.approx(share, abs=1e-3)
    assert [name for name, a in audits.items() if a.relative_change > 0] == [MATRIX]


def test_embeddings_are_listed_as_not_protected(tiny_model: Path) -> None:
    audits = {a.name: a for a in audit.audit(tiny_model, tiny_model, RATIO, audit.default_patterns(tiny_model))}

    assert not audits["model.embed_tokens.weight"].protected
    assert not audits["model.norm.weight"].protected


def test_answers_in_batches_are_those_one_by_one(tiny_model: Path) -> None:
    model, tokenizer = load(tiny_model)
    questions = ["What?", "What is the colour of a master's sash, and who answers?", "The heron", "Twelve?" * 9]

    together = answer(model, tokenizer, "Be brief.", questions, "tiny")

    assert together == [answer(model, tokenizer, "Be brief.", [question], "tiny")[0] for question in questions]
    assert len(set(together)) > 1


def test_the_chosen_statement_is_the_one_with_the_least_loss(tiny_model: Path) -> None:
    model, tokenizer = load(tiny_model)
    questions = [("What?", ["It is crimson.", "The heron.", "Twelve"]), ("Who?", ["a", "The master's sash answers."])]

    def loss(question: str, statement: str) -> float:
        sample = tokenize(chat.training_row("Be brief.", question, statement)["messages"], tokenizer)
        labels = torch.tensor([sample.labels])
        return model(input_ids=torch.tensor([sample.tokens]), labels=labels).loss.item()

    expected = [min(range(len(s)), key=[loss(question, one) for one in s].__getitem__) for question, s in questions]
    assert choose(model, tokenizer, "Be brief.", questions, "tiny") == expected


@pytest.mark.parametrize(
    ("closed", "regressed", "p"),
    [(0, 0, 1.0), (1, 0, 1.0), (5, 0, 0.0625), (0, 5, 0.0625), (6, 0, 0.03125), (3, 3, 1.0), (8, 1, 0.0390625)],
)
def test_mcnemar_p_is_the_exact_binomial_one(closed: int, regressed: int, p: float) -> None:
    assert mcnemar_p(closed, regressed) == pytest.approx(p)
