"""Which texts nearly say the same: MinHash signatures and locality-sensitive hashing.

A text is the set of its pieces of PIECE bytes. Two texts are as similar as the share of all their pieces that both have
(Jaccard). Signatures estimate it without comparing every text with every other: only those are compared that agree in a
whole band of their signatures. Sketches: rensa's R-MinHash; bands: Leskovec, Rajaraman, Ullman, Mining of Massive
Datasets, 3.4.
"""

import re
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from rensa import RMinHash

from components.shared import progress

PIECE = 8
SIGNATURE = 64
SEED = 1
RECALL = 0.99  # of the pairs at the threshold agree in a band, at least
ROUNDS = 4  # in which rows that agree in a band get another row to be compared with
GROUP_MARGIN = 0.15  # by which an estimate may miss what rows are grouped from
NUMBERS_AND_NEGATIONS = re.compile(
    r"\d+|\b(?:not|no|never|none|nor|neither|nobody|nothing|nowhere|cannot|without|unless|except)\b|n['’]t\b"
)

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
    """Pairs of rows that may be as similar as `threshold`, as an array of two columns; only rows with the same number
    in `apart` are paired.

    In each band, all that agree are paired with the one of them that comes first in `order`, not with each other: a
    thousand similar texts give a thousand pairs and not half a million."""
    found = [np.empty((0, 2), np.int64)]
    for key in band_keys(signed, threshold, apart):
        sorted_rows = np.lexsort((order, key))
        first, leaders = _leaders(key[sorted_rows], sorted_rows)
        pairs = np.stack([leaders, sorted_rows], axis=1)[~first]
        found.append(pairs[estimates(signed, pairs) >= threshold - GROUP_MARGIN])
    return np.unique(np.concatenate(found), axis=0)


def duplicates(
    signed: Array, order: Array, threshold: float, apart: Array, text_of: Callable[[int], str]
) -> dict[int, int]:
    """Rows that need not stay, each with a row that stays and is as similar as `threshold`.

    Rows that agree in a band, and in `apart`, are compared with the first of them in `order`. Those that are left
    have another round with the first of these, when the first one was like any of them or is gone itself; otherwise
    what they agree in is a common passage, and comparing each with each would take hours. A row that another one
    goes for stays."""
    rank = np.empty(len(signed), np.int64)
    by_rank = np.argsort(order, kind="stable")
    rank[by_rank] = np.arange(len(signed))
    least = threshold - 3 * (threshold * (1 - threshold) / SIGNATURE) ** 0.5
    keys, rows = _agreeing(signed, threshold, apart)
    gone: dict[int, int] = {}
    compared = np.empty(0, np.int64)
    for number in range(1, ROUNDS + 1):
        by_key = np.lexsort((rank[rows], keys))
        keys, rows = keys[by_key], rows[by_key]
        first, leaders = _leaders(keys, rows)
        new = np.setdiff1d(rank[leaders[~first]] * len(signed) + rows[~first], compared)
        compared = np.concatenate([compared, new])
        pairs = np.stack([by_rank[new // len(signed)], new % len(signed)], axis=1)
        pairs = pairs[estimates(signed, pairs) >= least]
        _compare(pairs, threshold, text_of, gone, f"near duplicates, round {number} of {ROUNDS}: pair")
        away, taken = (np.fromiter(some, np.int64, len(gone)) for some in (gone.keys(), gone.values()))
        left = ~first & ~np.isin(rows, away) & np.isin(leaders, np.concatenate([away, taken]))
        keys, rows = keys[left], rows[left]
    return gone


def _compare(pairs: Array, threshold: float, text_of: Callable[[int], str], gone: dict[int, int], what: str) -> None:
    """Add rows to those that are gone; the pairs are in the order of their first rows."""
    leader, pieces = -1, np.empty(0, np.uint64)
    staying = set(gone.values())
    for one, other in progress.track(pairs.tolist(), len(pairs), what):
        if one in gone or other in gone or other in staying:
            continue
        if one != leader:
            leader, pieces = one, _pieces(text_of(one))
        if _share(pieces, _pieces(text_of(other))) >= threshold:
            gone[other] = one
            staying.add(one)


def _agreeing(signed: Array, threshold: float, apart: Array) -> tuple[Array, Array]:
    """Keys of bands that several rows have, and those rows."""
    found: list[tuple[Array, Array]] = [(np.empty(0, np.uint64), np.empty(0, np.int64))]
    for band, key in enumerate(band_keys(signed, threshold, apart)):
        rows = np.argsort(key, kind="stable")
        same = key[rows][1:] == key[rows][:-1]
        several = np.append(same, False) | np.insert(same, 0, False) if len(rows) else np.empty(0, bool)
        rows = rows[several]
        found.append((key[rows] + np.uint64(band), rows))
    keys, rows = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return keys, rows


def _leaders(keys: Array, rows: Array) -> tuple[Array, Array]:
    """Of rows with equal keys side by side: whether each is the first of its key, and the first of its key."""
    first = np.concatenate(([True], keys[1:] != keys[:-1]))[: len(keys)]
    return first, rows[first][np.cumsum(first) - 1]


def estimates(signed: Array, pairs: Array) -> Array:
    """The similarities of pairs of rows, as their signatures estimate them."""
    parts = np.array_split(pairs, len(pairs) // 100_000 + 1)
    return np.concatenate([(signed[part[:, 0]] == signed[part[:, 1]]).mean(axis=1) for part in parts])


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
    return _share(_pieces(one), _pieces(other))


def _share(first: Array, second: Array) -> float:
    places = np.minimum(np.searchsorted(first, second), len(first) - 1)
    both = int(np.count_nonzero(first[places] == second))
    return both / (len(first) + len(second) - both)


def numbers_and_negations(text: str) -> str:
    """Those of a casefolded text: texts that differ in one say different things, however similar they are."""
    return ",".join(NUMBERS_AND_NEGATIONS.findall(text))


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


def _pieces(text: str) -> Array:
    """The different pieces, sorted."""
    content = text.encode() + b"\n" * PIECE
    pieces = np.sort(np.ndarray((len(content) - PIECE,), "<u8", content, strides=(1,)))
    return pieces[np.append(True, pieces[1:] != pieces[:-1])]  # np.unique takes several times as long
