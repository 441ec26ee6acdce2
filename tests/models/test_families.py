"""Every family that may be trained is: from its files, through the backend, to files that plain transformers reads."""

from pathlib import Path
from typing import Any

import pytest
import torch
import training_hub
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from components.data import chat
from components.data.samples import tokenize_rows
from components.models.folder import TRAINABLE_TYPES
from components.run.training_options import TrainingOptions
from components.shared.storage import write_jsonl
from components.training import loop
from components.training.attention import attention_for
from components.training.backend import NAME, TrainingResult
from components.training.loading import load
from components.training.loss import PackLoss
from components.training.optimizer import Optimizer
from components.training.saving import save
from tests.tables import table
from tests.tiny_model import TINY_OPTIONS, write_tokenizer

SIZES, MODELS = table("families", "sizes"), table("families", "models")
ROWS = [
    chat.training_row("" if n % 2 else "Be brief.", f"What is {n}?", f"It is {n * n}, said the heron.")
    for n in range(5)
]
OPTIONS: dict[str, Any] = TINY_OPTIONS | {"learning_rate": 5e-3}


def family_of(name: str) -> str:
    return name.partition(",")[0]


def write_model(folder: Path, name: str) -> Path:
    """A random model in which nothing is 0 or 1 by chance: biases and norms as random as the matrices."""
    tokenizer = write_tokenizer(folder)
    special = {
        "vocab_size": len(tokenizer) + 1,  # odd, and larger than the tokenizer's, as most are
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family_of(name), **SIZES | special | MODELS[name]))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=MODELS)
def base(request, tmp_path_factory):
    """A model folder of each family."""
    return write_model(tmp_path_factory.mktemp("family") / "base", request.param)


def train(base: Path, output: Path, train_dtype: str) -> TrainingResult:
    output.mkdir()
    data = output / "train.jsonl"
    write_jsonl(data, ROWS)
    return training_hub.osft(
        model_path=str(base),
        data_path=str(data),
        ckpt_output_dir=str(output),
        backend=NAME,
        train_dtype=train_dtype,
        **OPTIONS,
    )


def saved_types(folder: Path) -> dict[str, torch.dtype]:
    return {name: weight.dtype for name, weight in load_file(folder / "model.safetensors").items()}


def test_every_trainable_family_is_tried():
    assert {*map(family_of, MODELS)} == {*TRAINABLE_TYPES}


def test_a_trained_family_loads_in_plain_transformers_and_generates(base, tmp_path, capsys):
    for train_dtype in ("float32", "bfloat16"):
        result = train(base, tmp_path / train_dtype, train_dtype)

        tokens = sum(step.tokens for step in result.steps)
        assert f"{tokens} tokens to compute in 4 packs" in capsys.readouterr().out
        assert result.steps[-1].loss < result.steps[0].loss - 0.05
        model, report = AutoModelForCausalLM.from_pretrained(result.model_path, output_loading_info=True)
        assert not any(report.values())
        assert saved_types(result.model_path) == saved_types(base)
        assert (result.model_path / "config.json").read_bytes() == (base / "config.json").read_bytes()
        tokenizer = AutoTokenizer.from_pretrained(result.model_path)
        asked = tokenizer.apply_chat_template(
            ROWS[0]["messages"][:-1], add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        answer = model.generate(**asked, max_new_tokens=4, min_new_tokens=4, do_sample=False)
        assert answer.shape[1] == asked["input_ids"].shape[1] + 4


def test_the_saved_model_computes_what_the_trained_one_did(base, tmp_path):
    device = torch.device("cpu")
    options = TrainingOptions(train_dtype="float32", **OPTIONS)
    samples = list(tokenize_rows(ROWS, AutoTokenizer.from_pretrained(base), options.max_seq_len, "rows"))
    longest = max(samples, key=lambda sample: len(sample.tokens))
    attention = attention_for(AutoConfig.from_pretrained(base), device, torch.float32, len(longest.tokens))
    model = load(base, options, device, torch.float32, attention)
    optimizer, pack_loss = Optimizer(model, options, torch.float32), PackLoss(model)
    tokens = torch.tensor([longest.tokens])
    plain = AutoModelForCausalLM.from_pretrained(base)

    with torch.no_grad():
        before = model(input_ids=tokens).logits
        torch.testing.assert_close(before, plain(input_ids=tokens).logits, rtol=1e-4, atol=1e-4)
    history: list[loop.StepMetrics] = []
    loop.train(pack_loss, optimizer, samples, options, history, lambda epoch: None, lambda metrics: True)
    save(model, optimizer, base, tmp_path / "saved", options.seed, {})

    saved = AutoModelForCausalLM.from_pretrained(tmp_path / "saved")
    with torch.no_grad():
        after = model(input_ids=tokens).logits
        torch.testing.assert_close(saved(input_ids=tokens).logits, after, rtol=1e-4, atol=1e-4)
    assert (after - before).abs().max() > 0.05
    start, end = dict(plain.named_parameters()), dict(saved.named_parameters())
    unchanged = [name for name in start if torch.equal(start[name], end[name])]
    # A bias of the keys adds the same to all scores of a query, which changes no attention, unless norms follow.
    assert all(name.endswith("k_proj.bias") for name in unchanged)


def test_weights_in_several_files_are_trained_and_copies_in_another_form_are_left_alone(tmp_path):
    base, folder = write_model(tmp_path / "base", "llama"), tmp_path / "sharded"
    write_tokenizer(folder)
    AutoModelForCausalLM.from_pretrained(base).save_pretrained(folder, max_shard_size="40KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 2
    foreign = {"layers.0.attention.wq.weight": torch.zeros(8, 8), "model.norm.weight": torch.zeros(32)}
    save_file(foreign, folder / "consolidated.safetensors")

    adapted, expected = (train(model, tmp_path / f"of {model.name}", "float32").model_path for model in (folder, base))

    ours, theirs = load_file(adapted / "model.safetensors"), load_file(expected / "model.safetensors")
    assert sorted(ours) == sorted(theirs)
    for name, weight in theirs.items():
        torch.testing.assert_close(ours[name], weight, rtol=1e-4, atol=1e-4)
    assert not (adapted / "model.safetensors.index.json").exists()
