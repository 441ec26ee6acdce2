"""What files of weights say of themselves, and whether it is the model that config.json describes. Reads headers alone.

A file begins with the length of its header in 8 bytes, and the header: JSON with type, shape and place of each tensor.

    {"model.norm.weight": {"dtype": "BF16", "shape": [4096], "data_offsets": [0, 8192]}, "__metadata__": {...}}
"""

import dataclasses
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from components.models.shapes import EMBEDDING, OUTPUT, Shapes, is_tied
from components.shared.problems import Checks, Problems, list_some, problem, quote
from components.shared.storage import READ_BYTES, read_json

# Safetensors only: pickles run code when they are read. One file, or those that the index names; others
# (consolidated.safetensors, adapters) hold the same or something else in another form. The one file goes first, as in
# transformers and in the training.
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
POINTER = b"version https://git-lfs"  # what a clone without Git LFS has in a file's place
DTYPE_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}  # of the formats that can be trained
OTHER_BYTES = {"I64": 8, "U64": 8, "C64": 8, "I32": 4, "U32": 4, "I16": 2, "U16": 2, "I8": 1, "U8": 1, "BOOL": 1}
BUFFER = ".rotary_emb.inv_freq"  # in older files; computed when the model is built
PREFIX_BYTES, MAX_HEADER_BYTES = 8, 1 << 24  # a header of 10,000 tensors has less than 2 MiB
FETCH = "fetch the model again; if it stays, its author's files are broken: tell them, or take another model"
FULL_PRECISION = "name the model's version in bfloat16, float16 or float32"


@dataclasses.dataclass(frozen=True)
class Tensor:
    """What a header says of a tensor."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    """Its first byte in the file."""
    end: int


Header = dict[str, Tensor]


def weight_files(folder: Path) -> list[Path]:
    """The files that hold a model's weights, in their order; some folders have others with the same in another form."""
    if (folder / WEIGHTS).exists():
        return [folder / WEIGHTS]
    index = folder / INDEX
    names = set(read_json(index)["weight_map"].values()) if index.exists() else set()
    return [folder / name for name in sorted(names)]


def weights_of(folder: Path) -> dict[str, Path]:
    """The weights of a model folder by name, in the order of the files, each with its file.

    Without what does not count: the copy that some files hold of a tied output layer, and buffers.
    """
    tied = is_tied(read_json(folder / "config.json"))
    found: dict[str, Path] = {}
    for path in weight_files(folder):
        header = read_header(path, path.stat().st_size, str(path))
        found |= {name: path for name in header if not (name.endswith(BUFFER) or (tied and name == OUTPUT))}
    return found


def header_bytes(path: Path) -> int:
    """How many bytes of a file its header takes, as its first ones say."""
    with path.open("rb") as file:
        return PREFIX_BYTES + int.from_bytes(file.read(PREFIX_BYTES), "little")


def read_header(path: Path, size: int, where: str) -> Header:
    """The tensors of a file of weights in the order of their bytes.

    Args:
        size: of the whole file, of which the path may hold the beginning only.

    Raises:
        Problems: when it is no whole safetensors file.
    """
    with path.open("rb") as file:
        beginning = file.read(PREFIX_BYTES)
        length = int.from_bytes(beginning, "little")
        content = file.read(min(length, MAX_HEADER_BYTES))
    if (beginning + content).startswith(POINTER):
        raise pointer_problem(path.name, where)
    try:
        if size < PREFIX_BYTES or length > min(size - PREFIX_BYTES, MAX_HEADER_BYTES):
            raise ValueError(f"its header would have {length} of {size} bytes")
        return _parse(content, size)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise problem(
            f"{path.name} is cut or no safetensors file: {quote(error)}",
            where=where,
            rule="its header describes every byte of it, and each tensor once",
            remedy=FETCH,
        ) from None


def pointer_problem(name: str, where: str) -> Problems:
    return problem(
        f"{name} is a pointer of Git LFS, not the file",
        where=where,
        rule="a model's files are there themselves",
        remedy="in the clone that the folder came from: git lfs pull",
    )


def _parse(content: bytes, size: int) -> Header:
    tensors: Header = {}
    first = PREFIX_BYTES + len(content)
    for name, value in json.loads(content, object_pairs_hook=_without_repetition).items():
        if name == "__metadata__":
            continue
        shape, (start, end) = tuple(value["shape"]), value["data_offsets"]
        if not all(type(number) is int and number >= 0 for number in (*shape, start, end)):
            raise ValueError(f"{name} has the shape {shape} at {start}")
        tensors[name] = Tensor(str(value["dtype"]), shape, first + start, first + end)
    ordered = dict(sorted(tensors.items(), key=lambda item: (item[1].start, item[1].end)))
    place = first
    for name, tensor in ordered.items():
        width = (DTYPE_BYTES | OTHER_BYTES).get(tensor.dtype)
        if tensor.start != place or (width and tensor.end - place != width * math.prod(tensor.shape)):
            raise ValueError(f"{name} does not lie where the tensor before it ends, or has another length")
        place = tensor.end
    if place != size:
        raise ValueError(f"it has {size} bytes, its header describes {place}")
    return ordered


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if repeated := [name for name, count in Counter(name for name, _ in pairs).items() if count > 1]:
        raise ValueError(f"{repeated[0]} is there more than once")
    return dict(pairs)


def check_headers(
    headers: Mapping[str, Header], weight_map: Mapping[str, str] | None, config: Mapping[str, Any], where: str
) -> None:
    """Make sure that files hold the weights of the model that config.json describes, each once.

    Args:
        headers: of each file, by its name.
        weight_map: the index's; None for a single file.
        config: as `check_config` accepts it.

    Raises:
        Problems: naming what is missing, foreign, misshapen, doubled, or of another format.
    """
    checks = Checks()
    for file, header in headers.items() if weight_map is not None else ():
        named = {name for name, place in weight_map.items() if place == file} if weight_map else set()
        if named != header.keys():
            differing = list_some(map(quote, sorted(named ^ header.keys())))
            what = f"{file} holds other weights than the index says: {differing}"
            checks.add(what, where=f"{where}/{INDEX}", rule="the index names the file of each weight", remedy=FETCH)
    count = Counter(name for header in headers.values() for name in header)
    tensors = {
        name: tensor for header in headers.values() for name, tensor in header.items() if not name.endswith(BUFFER)
    }
    if codes := [f"{name} in {tensor.dtype}" for name, tensor in tensors.items() if tensor.dtype not in DTYPE_BYTES]:
        checks.add(
            f"{len(codes)} weights are of a quantized model: {list_some(codes, 3)}",
            where=where,
            rule=f"weights to train are numbers ({', '.join(DTYPE_BYTES)}), not codes of them",
            remedy=FULL_PRECISION,
        )
        checks.raise_if_any()
    expected = Shapes.of(config).tensors()
    missing = expected.keys() - tensors.keys() - ({OUTPUT} if is_tied(config) else set())
    shaped = [
        f"{name} {list(tensors[name].shape)} instead of {list(shape)}"
        for name, shape in expected.items()
        if name in tensors and tensors[name].shape != shape
    ]
    for names, what in (
        ([name for name, times in count.items() if times > 1], "are there more than once"),
        (sorted(missing), "are missing"),
        (sorted(tensors.keys() - expected.keys()), "are none of this model"),
        (shaped, "have another shape"),
    ):
        if names:
            checks.add(
                f"{len(names)} weights {what}: {list_some(names, 3)}",
                where=where,
                rule="the files hold every weight of the model that config.json describes, each once, under "
                "transformers' names",
                remedy="save the model with transformers' save_pretrained, or " + FETCH,
            )
    checks.raise_if_any()


def check_copies(folder: Path, headers: Mapping[str, Header], where: str) -> None:
    """Make sure that what files hold as a tied model's output layer is a copy of the embedding.

    Raises:
        Problems: when it is another matrix: transformers would compute with it.
    """
    config = read_json(folder / "config.json")
    places = {name: (folder / file, header[name]) for file, header in headers.items() for name in header}
    if not is_tied(config) or OUTPUT not in places or _same(places[OUTPUT], places[EMBEDDING]):
        return
    raise problem(
        f"{OUTPUT} is another matrix than {EMBEDDING}",
        where=where,
        rule="in a model with tie_word_embeddings both are one; an equal copy is left out",
        remedy="set tie_word_embeddings to false in its config.json if the output layer is its own, or " + FETCH,
    )


def _same(one: tuple[Path, Tensor], other: tuple[Path, Tensor]) -> bool:
    if one[1].dtype != other[1].dtype or one[1].shape != other[1].shape:
        return False
    return all(a == b for a, b in zip(_bytes(*one), _bytes(*other), strict=True))


def _bytes(path: Path, tensor: Tensor) -> Iterable[bytes]:
    with path.open("rb") as file:
        for place in range(tensor.start, tensor.end, READ_BYTES):
            file.seek(place)
            yield file.read(min(READ_BYTES, tensor.end - place))
