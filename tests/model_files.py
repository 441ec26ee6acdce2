"""The smallest files that make a model: accepted by every check of a snapshot, and of any length."""

import json
from pathlib import Path

import numpy
from safetensors.numpy import save

EMBEDDING, LAYER = "model.embed_tokens.weight", "model.layers.0.mlp.up_proj.weight"
SIZES = {"hidden_size": 2, "intermediate_size": 4, "num_attention_heads": 1, "num_hidden_layers": 1, "vocab_size": 3}
CONFIG = {"model_type": "llama", **SIZES}
TOKENIZER = {"version": "1.0", "model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}}
SMALL = {
    "config.json": json.dumps(CONFIG).encode(),
    "tokenizer.json": json.dumps(TOKENIZER).encode(),
    "tokenizer_config.json": b'{"chat_template": "{{ messages }}"}',
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


def weights(filling: bytes = b"") -> bytes:
    """All of the model's weights in one file, and a tensor that makes it longer."""
    embedding, layer = numpy.zeros((3, 2), "float32"), numpy.ones((4, 2), "float32")
    return save({EMBEDDING: embedding, LAYER: layer, "filling": numpy.frombuffer(filling, "uint8")})


def shards(filling: bytes = b"", count: int = 2) -> dict[str, bytes]:
    """The same weights in several files, each with the filling, and their index."""
    names = [f"model-{number:05d}-of-{count:05d}.safetensors" for number in range(1, count + 1)]
    tensors = {name: {f"filling.{name}": numpy.frombuffer(filling, "uint8")} for name in names}
    tensors[names[0]][EMBEDDING] = numpy.zeros((3, 2), "float32")
    tensors[names[-1]][LAYER] = numpy.ones((4, 2), "float32")
    index = {"weight_map": {name: file for file, named in tensors.items() for name in named}}
    return {
        **{file: save(named) for file, named in tensors.items()},
        "model.safetensors.index.json": json.dumps(index).encode(),
    }


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder
