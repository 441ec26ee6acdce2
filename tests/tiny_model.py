"""A language model of a few thousand parameters in a real model folder: what the tests train and ask."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import yaml
from safetensors.torch import load_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from components.data import chat
from components.shared.storage import write_jsonl

if TYPE_CHECKING:
    from components.training.backend import TrainingResult


TEMPLATES = yaml.safe_load((Path(__file__).parent / "templates.yaml").read_text(encoding="utf-8"))
TINY_OPTIONS: dict[str, Any] = {
    "unfreeze_rank_ratio": 0.25, "effective_batch_size": 3, "max_tokens_per_gpu": 256, "max_seq_len": 128,
    "learning_rate": 1e-2, "num_epochs": 2, "seed": 1,
}  # fmt: skip
WORDS = "What is the colour of a master's sash? The system assistant user answers: crimson, heron, twelve."


def write_tokenizer(folder: Path, template: str = "chatml") -> PreTrainedTokenizerFast:
    """A byte-level tokenizer of 300 tokens with a chat template."""
    chosen = {"begin": "<|begin|>", "end": "<|im_end|>", "marks": ["<|im_start|>"], **TEMPLATES[template]}
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=list(dict.fromkeys(["<|unk|>", chosen["begin"], chosen["end"], *chosen["marks"]])),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([WORDS] * 3, trainer)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<|unk|>",
        bos_token=chosen["begin"],
        eos_token=chosen["end"],
        pad_token=chosen["end"],
        chat_template="".join(chosen["text"]),
    ).save_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder)


def write_tiny_model(
    folder: Path, template: str = "chatml", dtype: torch.dtype = torch.float32, **changes: Any
) -> Path:
    """A Llama of two layers with random weights, always the same ones.

    Args:
        changes: other values of its configuration.
    """
    tokenizer = write_tokenizer(folder, template)
    torch.manual_seed(0)
    values: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 80,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 1024,
        "tie_word_embeddings": True,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "initializer_range": 0.1,
    }
    LlamaForCausalLM(LlamaConfig(**(values | changes))).to(dtype).save_pretrained(folder)
    return folder


def train_tiny_model(
    model: Path, output: Path, samples: int = 7, system_prompt: str = "Be brief.", **options: Any
) -> "TrainingResult":
    """`training_hub.osft` with the project's backend on a few rows, for six steps unless options say otherwise."""
    import training_hub

    from components.training.backend import NAME

    output.mkdir(parents=True, exist_ok=True)
    data = output / "train.jsonl"
    write_jsonl(data, [chat.training_row(system_prompt, f"What is {n}?", f"It is {n * n}.") for n in range(samples)])
    return training_hub.osft(  # type: ignore[no-any-return]
        model_path=str(model),
        data_path=str(data),
        ckpt_output_dir=str(output),
        backend=NAME,
        **(TINY_OPTIONS | options),
    )


def same_bits(one: "TrainingResult", other: "TrainingResult") -> bool:
    """Whether two trainings made the same model, to the bit."""
    weights, others = (load_file(result.model_path / "model.safetensors") for result in (one, other))
    assert weights.keys() == others.keys()
    return all(torch.equal(weights[name], others[name]) for name in weights)
