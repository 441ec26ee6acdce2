"""Models that answer as they are told to, and the evaluation of two of them."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from components.data import chat
from components.data.packs import packs
from components.data.samples import tokenize
from components.evaluate import asking
from components.evaluate.answering import load
from components.evaluate.pairwise import Inputs, evaluate_models
from components.run.evaluation import Evaluation
from components.run.evaluation_options import EvaluationOptions


def taught(model: Path, folder: Path, answers: dict[str, str]) -> Path:
    """A copy of a model that answers questions as it is told to, word by word."""
    network, tokenizer = load(model)
    rows = [chat.training_row("Be brief.", question, text) for question, text in answers.items()]
    (pack,) = packs([tokenize(row["messages"], tokenizer) for row in rows], 1 << 14)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=0.0)
    for _ in range(1000):
        output = network(
            input_ids=pack.input_ids,
            position_ids=pack.position_ids,
            logits_to_keep=pack.loss_positions,
            use_cache=False,
        )
        loss = torch.nn.functional.cross_entropy(output.logits[0], pack.targets)
        if loss < 0.01:
            break
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    else:
        raise AssertionError(f"it has not learnt its answers: loss {float(loss):.3f}")
    shutil.copytree(model, folder)
    network.save_pretrained(folder)
    return folder


def evaluate_planted(base: Path, adapted: Path, **changes: Any) -> Evaluation:
    """The evaluation of two models, with a short text in place of the ordinary prose."""
    options = changes.pop("options", EvaluationOptions(max_answer_tokens=16, grader="rules"))
    inputs: dict[str, Any] = {
        "start": base, "system_prompt": "Be brief.", "earlier": [], "held_out": [], "unfreeze_rank_ratio": 0.25,
        "target_patterns": None, "promised": True, "judge": None, "kept": None, "rewound": None, "seed": 1,
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asking, "general_text", lambda: "The heron stands in the lake.")
        return evaluate_models(Inputs(base=base, adapted=adapted, **inputs | changes), options)
