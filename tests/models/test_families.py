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
from components.models.configuration import TRAINABLE_TYPES
from components.run.training_options import TrainingOptions
from components.shared.storage import write_jsonl
from components.training import loop
from components.training.attention import attention_for
from components.training.backend import NAME, TrainingResult
from components.training.loading import load
from components.training.loss import PackLoss
from components.training.optimizer import Optimizer
from components.training.saving import save
from tests.tiny_model import write_tokenizer

LAYERS = 2
WINDOW = 16  # tokens; samples are longer
SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 72,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.1,
}
GRANITE = {
    "embedding_multiplier": 3.0,
    "attention_multiplier": 0.25,
    "residual_multiplier": 0.6,
    "logits_scaling": 2.5,
}
GEMMA2 = {
    "head_dim": 16,
    "query_pre_attn_scalar": 24,
    "sliding_window": WINDOW,
    "attn_logit_softcapping": 3.0,
    "final_logit_softcapping": 5.0,
}
GEMMA3 = {
    "head_dim": 16,
    "query_pre_attn_scalar": 24,
    "sliding_window": WINDOW,
    "layer_types": ["sliding_attention", "full_attention"],
}
TIED, UNTIED = {"tie_word_embeddings": True}, {"tie_word_embeddings": False}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", UNTIED),
    "llama, tied, biases": ("llama", TIED | {"attention_bias": True, "mlp_bias": True}),
    # Large enough for the compact form that the trained weights of a bfloat16 training have.
    "llama, wide": ("llama", TIED | {"hidden_size": 256, "intermediate_size": 1024, "num_attention_heads": 8}),
    "granite": ("granite", UNTIED | GRANITE),
    "granite, tied, biases": ("granite", TIED | GRANITE | {"attention_bias": True, "mlp_bias": True}),
    "qwen2": ("qwen2", UNTIED),
    "qwen2, tied": ("qwen2", TIED),
    "qwen3": ("qwen3", UNTIED | {"head_dim": 16}),
    "qwen3, tied, biases": ("qwen3", TIED | {"attention_bias": True}),
    "mistral": ("mistral", UNTIED | {"head_dim": 16, "sliding_window": WINDOW}),
    "phi3": ("phi3", UNTIED | {"sliding_window": WINDOW}),
    "phi3, tied": ("phi3", TIED | {"num_key_value_heads": None}),
    "gemma": ("gemma", TIED | {"head_dim": 16, "attention_bias": True}),
    "gemma2": ("gemma2", TIED | GEMMA2),
    "gemma2, untied, without caps": (
        "gemma2",
        UNTIED | GEMMA2 | {"attn_logit_softcapping": None, "final_logit_softcapping": None},
    ),
    "gemma3": ("gemma3_text", TIED | GEMMA3),
    "gemma3, biases": ("gemma3_text", TIED | GEMMA3 | {"attention_bias": True}),
}
ROWS = [
    chat.training_row("" if n % 2 else "Be brief.", f"What is {n}?", f"It is {n * n}, said the heron.")
    for n in range(5)
]
OPTIONS: dict[str, Any] = {
    "effective_batch_size": 3,
    "max_tokens_per_gpu": 256,
    "max_seq_len": 128,
    "learning_rate": 5e-3,
    "num_epochs": 2,
    "seed": 1,
}


def write_model(folder: Path, family: str, changes: dict[str, Any]) -> Path:
    """A random model in which nothing is 0 or 1 by chance: biases and norms as random as the matrices."""
    tokenizer = write_tokenizer(folder)
    special = {
        "vocab_size": len(tokenizer) + 1,  # odd, and larger than the tokenizer's, as most are
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **(SIZES | special | changes)))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=MODELS.values(), ids=MODELS)
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder of each family."""
    return write_model(tmp_path_factory.mktemp("family") / "base", *request.param)


def train(base: Path, output: Path, train_dtype: str) -> TrainingResult:
    output.mkdir()
    data = output / "train.jsonl"
    write_jsonl(data, ROWS)
    return training_hub.osft(
        model_path=str(base),
        data_path=str(data),
        ckpt_output_dir=str(output),
        backend=NAME,
        unfreeze_rank_ratio=0.25,
        train_dtype=train_dtype,
        **OPTIONS,
    )


def saved_types(folder: Path) -> dict[str, torch.dtype]:
    return {name: weight.dtype for name, weight in load_file(folder / "model.safetensors").items()}


def test_every_trainable_family_is_tried() -> None:
    assert {family for family, _ in MODELS.values()} == set(TRAINABLE_TYPES)


def test_a_trained_family_loads_in_plain_transformers_and_generates(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
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


@pytest.mark.parametrize(
    "method",
    [{}, {"train_unfactored": False}, {"method": "lora_sft"}],
    ids=["all weights", "factored ones", "adapters"],
)
def test_the_saved_model_computes_what_the_trained_one_did(base: Path, tmp_path: Path, method: dict[str, Any]) -> None:
    device = torch.device("cpu")
    options = TrainingOptions(train_dtype="float32", **OPTIONS, **method)
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
    if method:  # what is neither factored nor has an adapter is frozen
        assert set(unchanged) == {name for name in start if not (".layers." in name and name.endswith("proj.weight"))}
    else:
        # A bias of the keys adds the same to all scores of a query, which changes no attention, unless norms follow.
        assert all(name.endswith("k_proj.bias") for name in unchanged)


def test_weights_in_several_files_are_trained_and_copies_in_another_form_are_left_alone(tmp_path: Path) -> None:
    base, folder = write_model(tmp_path / "base", *MODELS["llama"]), tmp_path / "sharded"
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
