"""Which texts nearly say the same: MinHash signatures and locality-sensitive hashing.

A text is the set of its pieces of PIECE bytes. Two texts are as similar as the share of all their pieces that both have
(Jaccard). Signatures estimate it without comparing every text with every other: only those are compared that agree in a
whole band of their signatures. Sketches: rensa's R-MinHash; bands: Leskovec, Rajaraman, Ullman, Mining of Massive
Datasets, 3.4.
"""

import re
from collections.abc import Iterator, Sequence

import numpy as np
from rensa import RMinHash

PIECE = 8
SIGNATURE = 64
SEED = 1
RECALL = 0.99  # of the pairs at the threshold are found, at least
NUMBERS = re.compile(r"\d+")

Array = np.ndarray


def signatures(texts: Sequence[str]) -> Array:
    """Signatures, one row of SIGNATURE numbers for each text."""
    if not texts:
        return np.empty((0, SIGNATURE), np.uint32)
    separator = b"\n" * PIECE
    encoded = [text.encode() + separator for text in texts]
    content = np.frombuffer(b"".join(encoded), np.uint8)
    ends = np.cumsum([len(text) for text in encoded])
    starts = np.concatenate(([0], ends[:-1]))
    # Every position's next PIECE bytes as one number. What begins in a separator reaches into the next text: in its
    # place stands the text's first piece once more, which changes no set.
    pieces = np.empty(len(content), np.uint64)
    pieces[: 1 - PIECE] = np.ndarray((len(content) - PIECE + 1,), "<u8", content, strides=(1,))
    pieces *= np.uint64(0x9E3779B97F4A7C15)
    pieces ^= pieces >> np.uint64(29)
    pieces[(ends[:, None] - 1 - np.arange(PIECE)).ravel()] = np.repeat(pieces[starts], PIECE)
    offsets = np.concatenate(([0], ends)).astype(np.uint64)
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(pieces, offsets, SIGNATURE, SEED)
    return np.array(matrix.to_rows(), np.uint32).reshape(len(texts), SIGNATURE)


def candidates(signed: Array, order: Array, threshold: float, apart: Array | None = None) -> Array:
    """Pairs of rows that may be as similar as `threshold`, as an array of two columns.

    In each band, all that agree are paired with the one of them that comes first in `order`, not with each other: a
    thousand similar texts give a thousand pairs and not half a million.

    Args:
        signed: signatures.
        order: a number for each row.
        threshold: similarity.
        apart: a number for each row; only rows with the same one are paired.
    """
    found = [np.empty((0, 2), np.int64)]
    for key in band_keys(signed, threshold, apart):
        sorted_rows = np.lexsort((order, key))
        keys = key[sorted_rows]
        first = np.concatenate(([True], keys[1:] != keys[:-1]))[: len(keys)]
        leader = sorted_rows[first][np.cumsum(first) - 1]
        pairs = np.stack([leader, sorted_rows], axis=1)[~first]
        alike = [
            (signed[part[:, 0]] == signed[part[:, 1]]).mean(axis=1) >= threshold - 0.15
            for part in np.array_split(pairs, len(pairs) // 100_000 + 1)
        ]
        found.append(pairs[np.concatenate(alike)])
    return np.unique(np.concatenate(found), axis=0)


def band_keys(signed: Array, threshold: float, apart: Array | None = None) -> Iterator[Array]:
    """For each band a number for each row; it is the same where the rows agree in the whole band."""
    bands, length = shape(threshold)
    for band in range(bands):
        key = np.zeros(len(signed), np.uint64) if apart is None else apart.copy()
        for column in range(band * length, (band + 1) * length):
            key = (key ^ signed[:, column]) * np.uint64(0x9E3779B97F4A7C15)
            key ^= key >> np.uint64(32)
        yield key


def shape(threshold: float) -> tuple[int, int]:
    """How many bands, of how many numbers each: the longest that find RECALL of the pairs at the threshold."""
    for length in range(SIGNATURE, 0, -1):
        bands = SIGNATURE // length
        if 1 - (1 - threshold**length) ** bands >= RECALL:
            return bands, length
    raise AssertionError(threshold)


def similarity(one: str, other: str) -> float:
    """The Jaccard similarity of two texts."""
    first, second = _pieces(one), _pieces(other)
    return len(first & second) / len(first | second)


def numbers_of(text: str) -> str:
    """The numbers of a text: texts that differ in one say different things, however similar they are."""
    return ",".join(NUMBERS.findall(text))


def groups(size: int, pairs: Array) -> Array:
    """For each of `size` rows the smallest row that pairs connect it with."""
    if not len(pairs):
        return np.arange(size)
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    links = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=(size, size))
    count, labels = connected_components(links, directed=False)
    first = np.full(count, size)
    np.minimum.at(first, labels, np.arange(size))
    return first[labels]


def _pieces(text: str) -> set[bytes]:
    content = text.encode() + b"\n" * PIECE
    return {content[start : start + PIECE] for start in range(len(content) - PIECE)}
