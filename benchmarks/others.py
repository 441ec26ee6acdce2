"""Does each implementation of OSFT keep its promise? PEFT's OSFConfig, mini-trainer and this project's, audited alike.

    python -m benchmarks.others MODEL_FOLDER WORK_FOLDER

The same model, samples, order, ratio, learning rate and AdamW; all in float32 and saved so, that no rounding hides
anything. PEFT trains as its documentation says, with torch's AdamW, and once more with plain SGD. What was trained
already is not trained again.
"""

import sys
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from mini_trainer.osft_utils import create_osft_model_class, optim_wrapper
from peft import OSFConfig, get_peft_model
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

from benchmarks import common, methods
from components.data.samples import Sample, tokenize_rows
from components.evaluate.audit import audit, default_patterns
from components.run.training_options import TrainingOptions
from components.shared.storage import read_json, read_jsonl
from components.training import backend, loop

ROWS = 32
OPTIONS = TrainingOptions(
    num_epochs=1, learning_rate=1e-4, unfreeze_rank_ratio=0.25, lr_scheduler="constant", train_dtype="float32"
)
SGD_RATE = 0.1


def main() -> None:
    model, work = map(Path, sys.argv[1:])
    methods.prepare(work)
    tokenizer = AutoTokenizer.from_pretrained(model)
    rows = read_jsonl(work / "train.jsonl")[:ROWS]
    samples = list(tokenize_rows(rows, tokenizer, OPTIONS.max_seq_len, "train.jsonl", False))
    ours = backend.run(model, samples, "others", OPTIONS, work / "this").model_path
    with_mini_trainer(model, samples, work / "mini-trainer")
    with_peft(model, samples, work / "peft-adamw", adamw=True)
    with_peft(model, samples, work / "peft-sgd", adamw=False)
    trained = {
        "this project": ours,
        "mini-trainer": work / "mini-trainer",
        "PEFT, AdamW": work / "peft-adamw",
        "PEFT, SGD": work / "peft-sgd",
    }
    result: dict[str, Any] = {
        "model": model.name,
        "layers": read_json(model / "config.json")["num_hidden_layers"],
        "steps": OPTIONS.steps(len(samples)),
        "options": OPTIONS.as_json(),
        "implementations": {name: audited(model, folder) for name, folder in trained.items()},
    }
    common.write_result("others", result, " MODEL_FOLDER WORK_FOLDER")


def audited(base: Path, adapted: Path) -> dict[str, Any]:
    found = audit(base, adapted, OPTIONS.unfreeze_rank_ratio, default_patterns(base))
    shares = sorted(matrix.protected_change_ratio for matrix in found.matrices if matrix.protected)
    changes = [matrix.relative_change for matrix in found.matrices if matrix.protected]
    return {
        "word": found.word,
        "matrices": len(shares),
        "protected_change_ratio": found.protected_change_ratio,
        "rounding_ratio": found.rounding_ratio,
        "lowest": shares[0],
        "median": shares[len(shares) // 2],
        "highest": shares[-1],
        "mean_relative_change": sum(changes) / len(changes),
    }


def with_peft(model_path: Path, samples: list[Sample], folder: Path, adamw: bool) -> None:
    if folder.exists():
        return
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(model_path, dtype=torch.float32),
        OSFConfig(target_modules="all-linear", effective_rank=1 - OPTIONS.unfreeze_rank_ratio),
    )
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = (
        torch.optim.AdamW(parameters, lr=OPTIONS.learning_rate, betas=(0.9, 0.95), weight_decay=0.0)
        if adamw
        else torch.optim.SGD(parameters, lr=SGD_RATE)
    )
    run_steps(model, samples, parameters, optimizer)
    model.merge_and_unload().save_pretrained(folder)


def with_mini_trainer(model_path: Path, samples: list[Sample], folder: Path) -> None:
    if folder.exists():
        return
    model = create_osft_model_class(LlamaForCausalLM).from_pretrained(
        str(model_path), fsdp2_lazy_init=False, initialize_osft=False, rank_ratio=1 - OPTIONS.unfreeze_rank_ratio,
        dtype=torch.float32,
    )  # fmt: skip
    model.reinitialize_osft(decompose_existing_weights=True)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    adamw = torch.optim.AdamW(parameters, lr=OPTIONS.learning_rate, betas=(0.9, 0.95), weight_decay=0.0)
    run_steps(model, samples, parameters, optim_wrapper(adamw, model))
    weights = model.prepare_state_dict_for_save(model.state_dict())
    plain = LlamaForCausalLM.from_pretrained(model_path, dtype=torch.float32)
    plain.load_state_dict(weights, strict=False)
    plain.save_pretrained(folder)


def run_steps(
    model: nn.Module, samples: list[Sample], parameters: list[torch.Tensor], optimizer: torch.optim.Optimizer
) -> None:
    model.train()
    for _, batch in loop.batches(samples, OPTIONS):
        loss_tokens = sum(sample.loss_tokens for sample in batch)
        total = 0.0
        for sample in batch:
            logits = model(input_ids=torch.tensor([sample.tokens])).logits[0, :-1]
            loss = F.cross_entropy(logits, torch.tensor(sample.labels[1:]), reduction="sum") / loss_tokens
            loss.backward()
            total += float(loss)
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        print(f"loss {total:.3f}", flush=True)


if __name__ == "__main__":
    main()
