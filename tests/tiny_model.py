"""A language model of a few thousand parameters in a real model folder: what the tests train and ask."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

# The chat templates of three families, reduced to what they do with a system, a user and an assistant message.
TEMPLATES = {
    "chatml": (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    ),
    "granite": (
        "{% for m in messages %}<|start_of_role|>{{ m.role }}<|end_of_role|>{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|start_of_role|>assistant<|end_of_role|>{% endif %}"
    ),
    "llama": (
        "<|begin|>{% for m in messages %}<|role|>{{ m.role }}<|/role|>\n\n{{ m.content | trim }}<|im_end|>{% endfor %}"
        "{% if add_generation_prompt %}<|role|>assistant<|/role|>\n\n{% endif %}"
    ),
}
SPECIAL_TOKENS = [
    "<|unk|>", "<|begin|>", "<|im_end|>", "<|im_start|>",
    "<|start_of_role|>", "<|end_of_role|>", "<|role|>", "<|/role|>",
]  # fmt: skip
WORDS = "What is the colour of a master's sash? The system assistant user answers: crimson, heron, twelve."


def write_tokenizer(folder: Path, template: str = "chatml") -> PreTrainedTokenizerFast:
    """A byte-level tokenizer of 300 tokens with a chat template."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([WORDS] * 3, trainer)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<|unk|>",
        bos_token="<|begin|>",
        eos_token="<|im_end|>",
        pad_token="<|im_end|>",
        chat_template=TEMPLATES[template],
    ).save_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder)


def write_tiny_model(folder: Path, template: str = "chatml", dtype: torch.dtype = torch.float32) -> Path:
    """A Llama of two layers with random weights, always the same ones."""
    tokenizer = write_tokenizer(folder, template)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=80,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.1,
    )
    LlamaForCausalLM(config).to(dtype).save_pretrained(folder)
    return folder
