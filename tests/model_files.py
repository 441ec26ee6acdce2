"""The smallest files that make a model: accepted by every check of a snapshot, and of any length."""

import json
from pathlib import Path

import numpy
from safetensors.numpy import save

from components.models.shapes import Shapes

EMBEDDING, LAYER = "model.embed_tokens.weight", "model.layers.0.mlp.up_proj.weight"
SIZES = {"hidden_size": 2, "intermediate_size": 4, "num_attention_heads": 1, "num_hidden_layers": 1, "vocab_size": 3}
CONFIG = {"model_type": "llama", **SIZES}
END = "<|end|>"
TOKENIZER = {
    "version": "1.0",
    "added_tokens": [
        {"id": 1, "content": END, "special": True}
        | dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    ],
    "model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"},
}
SMALL = {
    "config.json": json.dumps(CONFIG).encode(),
    "tokenizer.json": json.dumps(TOKENIZER).encode(),
    "tokenizer_config.json": json.dumps(
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "eos_token": END,
            "chat_template": "{% for message in messages %}{{ message.content }}" + END + "{% endfor %}",
        }
    ).encode(),
}
OTHERS = {
    "README.md": b"---\nlicense: apache-2.0\nbase_model: org/base\n---\n# A model",
    "pytorch_model.bin": b"pickle" * 100,
    "modeling_custom.py": b"import os",
    ".gitattributes": b"*.safetensors filter=lfs",
    "onnx/model.onnx": b"onnx",
    "original/model.safetensors": b"other",
}
"""What repositories hold besides."""


def _tensors() -> dict[str, numpy.ndarray]:
    """All of the model's weights, by name."""
    return {name: numpy.ones(shape, "float32") for name, shape in Shapes.of(CONFIG).tensors().items()}


def _filling(number: int, filling: bytes) -> dict[str, numpy.ndarray]:
    """A buffer as older files carry them, which may be of any length."""
    return {f"model.layers.{number}.self_attn.rotary_emb.inv_freq": numpy.frombuffer(filling, "uint8")}


def weights(filling: bytes = b"") -> bytes:
    """All of the model's weights in one file, and a tensor that makes it longer."""
    return save(_tensors() | _filling(0, filling))


def shards(filling: bytes = b"", count: int = 2) -> dict[str, bytes]:
    """The same weights in several files, each with the filling, and their index; layers in the last."""
    names = [f"model-{number:05d}-of-{count:05d}.safetensors" for number in range(1, count + 1)]
    held = {name: _filling(number, filling) for number, name in enumerate(names)}
    for name, tensor in _tensors().items():
        held[names[-1] if ".layers." in name else names[0]][name] = tensor
    index = {"weight_map": {name: file for file, tensors in held.items() for name in tensors}}
    return {
        **{file: save(tensors) for file, tensors in held.items()},
        "model.safetensors.index.json": json.dumps(index).encode(),
    }


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder
