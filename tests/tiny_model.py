"""A language model of a few thousand parameters in a real model folder: what the tests train and ask."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from components.data import chat
from components.shared.storage import write_jsonl

if TYPE_CHECKING:
    from components.training.backend import TrainingResult


@dataclasses.dataclass(frozen=True, kw_only=True)
class Template:
    """A chat template that does with messages what a family's does, in other words."""

    text: str
    begin: str = "<|begin|>"
    """The tokenizer's bos token."""
    end: str = "<|im_end|>"
    """Its eos token."""
    marks: tuple[str, ...] = ("<|im_start|>",)
    """The other special tokens of the template."""


CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEMPLATES = {
    "chatml": Template(text=CHATML),
    # A system message is always there; without one it is the default.
    "qwen2.5": Template(
        text="{% if messages[0].role != 'system' %}<|im_start|>system\nAnswer the questions.<|im_end|>\n{% endif %}"
        + CHATML
    ),
    # Thinking, also an empty one, is shown in turns after the last question only.
    "qwen3": Template(
        text="{% set ns = namespace(asked=0) %}"
        "{% for m in messages %}{% if m.role == 'user' %}{% set ns.asked = loop.index0 %}{% endif %}{% endfor %}"
        "{% for m in messages %}<|im_start|>{{ m.role }}\n"
        "{% if m.role != 'assistant' %}{{ m.content }}"
        "{% else %}{% set words, thought = m.content, '' %}{% if '</think>' in m.content %}"
        "{% set thought, words = m.content.split('<think>')[-1].split('</think>') %}{% endif %}"
        "{% if loop.index0 > ns.asked and (loop.last or thought) %}"
        "<think>\n{{ thought.strip('\n') }}\n</think>\n\n{{ words.lstrip('\n') }}"
        "{% else %}{{ words.lstrip('\n') if thought else words }}{% endif %}{% endif %}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n"
        "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif %}",
        marks=("<|im_start|>", "<think>", "</think>"),
    ),
    # A system message is always there, headed by dates; all words are trimmed.
    "llama3": Template(
        text="{{ bos_token }}<|start_header_id|>system<|end_header_id|>\n\nKnown until: December 2023\n"
        "Today: {{ strftime_now('%d %b %Y') }}\n\n"
        "{% if messages[0].role == 'system' %}{{ messages[0].content | trim }}{% endif %}<|eot_id|>"
        "{% for m in messages if m.role != 'system' %}"
        "<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n{{ m.content | trim }}<|eot_id|>{% endfor %}"
        "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}",
        begin="<|begin_of_text|>",
        end="<|eot_id|>",
        marks=("<|start_header_id|>", "<|end_header_id|>"),
    ),
    # Without a system message a dated default.
    "granite3": Template(
        text="{% if messages[0].role == 'system' %}{% set system = messages[0].content %}{% set rest = messages[1:] %}"
        "{% else %}{% set rest = messages %}"
        "{% set system = 'Known until: April 2024.\nToday: ' + strftime_now('%B %d, %Y') + '.\nBe helpful.' %}"
        "{% endif %}<|start_of_role|>system<|end_of_role|>{{ system }}<|end_of_text|>\n"
        "{% for m in rest %}<|start_of_role|>{{ m.role }}<|end_of_role|>{{ m.content }}<|end_of_text|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|start_of_role|>assistant<|end_of_role|>{% endif %}",
        begin="<|end_of_text|>",
        end="<|end_of_text|>",
        marks=("<|start_of_role|>", "<|end_of_role|>"),
    ),
    # Thinks where it is told to, and not otherwise.
    "granite3.2": Template(
        text="{% if thinking %}<|start_of_role|>system<|end_of_role|>Think first.<|end_of_text|>\n{% endif %}"
        "{% for m in messages %}<|start_of_role|>{{ m.role }}<|end_of_role|>{{ m.content }}<|end_of_text|>\n"
        "{% endfor %}{% if add_generation_prompt %}<|start_of_role|>assistant<|end_of_role|>{% endif %}",
        begin="<|end_of_text|>",
        end="<|end_of_text|>",
        marks=("<|start_of_role|>", "<|end_of_role|>"),
    ),
    # A turn's end is another token than the sequence's, which comes once.
    "phi3": Template(
        text="{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>\n{% else %}{{ eos_token }}{% endif %}",
        end="<|endoftext|>",
        marks=("<|end|>", "<|system|>", "<|user|>", "<|assistant|>"),
    ),
    # The sequence's end never comes; there is no system message; the assistant has another name.
    "gemma": Template(
        text="{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('No system role') }}{% endif %}"
        "{% for m in messages %}<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n"
        "{{ m.content | trim }}<end_of_turn>\n{% endfor %}"
        "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}",
        begin="<bos>",
        end="<eos>",
        marks=("<start_of_turn>", "<end_of_turn>"),
    ),
    # The system message stands in the last question, if that is the last message: not where an answer follows.
    "mistral": Template(
        text="{{ bos_token }}{% set system = messages[0].content if messages[0].role == 'system' else '' %}"
        "{% for m in messages if m.role != 'system' %}"
        "{% if m.role == 'assistant' %} {{ m.content | trim }}{{ eos_token }}"
        "{% else %}[INST] {% if loop.last and system %}{{ system }}\n\n{% endif %}{{ m.content }}[/INST]{% endif %}"
        "{% endfor %}",
        begin="<s>",
        end="</s>",
        marks=("[INST]", "[/INST]"),
    ),
}
WORDS = "What is the colour of a master's sash? The system assistant user answers: crimson, heron, twelve."


def write_tokenizer(folder: Path, template: str = "chatml") -> PreTrainedTokenizerFast:
    """A byte-level tokenizer of 300 tokens with a chat template."""
    chosen = TEMPLATES[template]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=list(dict.fromkeys(["<|unk|>", chosen.begin, chosen.end, *chosen.marks])),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([WORDS] * 3, trainer)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<|unk|>",
        bos_token=chosen.begin,
        eos_token=chosen.end,
        pad_token=chosen.end,
        chat_template=chosen.text,
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
    model: Path, output: Path, samples: int = 7, system_prompt: str = "Be brief.", method: str = "osft", **options: Any
) -> "TrainingResult":
    """training_hub's function with the project's backend on a few rows, for six steps unless options say otherwise."""
    import training_hub

    from components.training.backend import NAME

    output.mkdir(parents=True, exist_ok=True)
    data = output / "train.jsonl"
    write_jsonl(data, [chat.training_row(system_prompt, f"What is {n}?", f"It is {n * n}.") for n in range(samples)])
    arguments: dict[str, Any] = {
        "effective_batch_size": 3,
        "max_tokens_per_gpu": 256,
        "max_seq_len": 128,
        "learning_rate": 1e-2,
        "num_epochs": 2,
        "seed": 1,
    }
    if method == "osft":
        arguments["unfreeze_rank_ratio"] = 0.25
    return getattr(training_hub, method)(  # type: ignore[no-any-return]
        model_path=str(model),
        data_path=str(data),
        ckpt_output_dir=str(output),
        backend=NAME,
        **(arguments | options),
    )


def same_bits(one: "TrainingResult", other: "TrainingResult") -> bool:
    """Whether two trainings made the same model, to the bit."""
    weights, others = (load_file(result.model_path / "model.safetensors") for result in (one, other))
    assert weights.keys() == others.keys()
    return all(torch.equal(weights[name], others[name]) for name in weights)
