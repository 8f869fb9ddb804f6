"""Trip keys: a keyed hash over a trip's own facts, the same on every machine and in every release.

The key must tell trips apart, come out the same when the same file is read again years later, and not be computable
without the salt. ``polars.Expr.hash`` promises no stability between releases; ``hashlib`` has to be called once a row
(0.5 s for 400,000 rows). So this is SipHash-2-4 (Aumasson and Bernstein, 2012), a keyed pseudo-random function whose
three operations on 64-bit words numpy does for all rows at once (0.1 s). BLAKE2b draws its 128-bit key from the salt.

A message is one 64-bit word per column (of a text, the SipHash of its length and padded bytes), and last a word whose
bits say which columns are null.
"""

from __future__ import annotations

import hashlib

import numpy as np
import polars as pl
import pyarrow as pa

# "somepseudorandomlygeneratedbytes", section 2.1 of the paper.
_INITIAL = np.array([0x736F6D6570736575, 0x646F72616E646F6D, 0x6C7967656E657261, 0x7465646279746573], dtype=np.uint64)
# So many rows at once that their state stays in the processor's cache: twice as fast as all rows at once.
_BLOCK = 32_768


def trip_keys(frame: pl.DataFrame, *, salt: bytes, domain: str) -> pl.Series:
    """A key of 16 hexadecimal digits for each row.

    Args:
        frame: The facts that make a trip that trip, at most 63 columns: numbers, datetimes, texts.
        salt: Secret of the installation.
        domain: Name of the feed family; the same facts in another family give another key.

    Returns:
        Texts [n].
    """
    key = hashlib.blake2b(
        salt, digest_size=16, person=hashlib.blake2b(domain.encode(), digest_size=16).digest()
    ).digest()
    words: list[np.ndarray] = []
    nulls = np.zeros(frame.height, dtype=np.uint64)
    for index, column in enumerate(frame.iter_columns()):
        if column.null_count():
            nulls |= column.is_null().to_numpy().astype(np.uint64) << np.uint64(index)
        words.append(_word(key, column))
    return _hexadecimal(siphash(key, [*words, nulls]))


def siphash(key: bytes, words: list[np.ndarray]) -> np.ndarray:
    """SipHash-2-4 of n messages of the same length.

    Args:
        key: 16 bytes.
        words: The messages' little-endian 64-bit words, each uint64 [n].

    Returns:
        uint64 [n].
    """
    out = np.empty(len(words[0]), dtype=np.uint64)
    for first in range(0, len(out), _BLOCK):
        block = slice(first, first + _BLOCK)
        out[block] = _siphash_block(key, [word[block] for word in words])
    return out


def _siphash_block(key: bytes, words: list[np.ndarray]) -> np.ndarray:
    low, high = np.frombuffer(key, dtype="<u8")
    starts = (_INITIAL[0] ^ low, _INITIAL[1] ^ high, _INITIAL[2] ^ low, _INITIAL[3] ^ high)
    v0, v1, v2, v3 = (np.full(words[0].shape, start, dtype=np.uint64) for start in starts)
    last = np.full(words[0].shape, ((len(words) * 8) % 256) << 56, dtype=np.uint64)
    for word in (*words, last):
        v3 ^= word
        for _ in range(2):
            _round(v0, v1, v2, v3)
        v0 ^= word
    v2 ^= np.uint64(0xFF)
    for _ in range(4):
        _round(v0, v1, v2, v3)
    return v0 ^ v1 ^ v2 ^ v3


def _round(v0: np.ndarray, v1: np.ndarray, v2: np.ndarray, v3: np.ndarray) -> None:
    v0 += v1
    v2 += v3
    _rotate(v1, 13)
    _rotate(v3, 16)
    v1 ^= v0
    v3 ^= v2
    _rotate(v0, 32)
    v2 += v1
    v0 += v3
    _rotate(v1, 17)
    _rotate(v3, 21)
    v1 ^= v2
    v3 ^= v0
    _rotate(v2, 32)


def _rotate(value: np.ndarray, bits: int) -> None:
    carried = value >> np.uint64(64 - bits)
    value <<= np.uint64(bits)
    value |= carried


def _word(key: bytes, column: pl.Series) -> np.ndarray:
    if column.dtype == pl.String:
        return _text_digests(key, column)
    if column.dtype.is_float():
        # Adding zero turns -0.0 into 0.0: equal numbers must give equal keys.
        return (column.cast(pl.Float64).fill_null(0.0).to_numpy() + 0.0).view(np.uint64)
    return column.to_physical().cast(pl.Int64).fill_null(0).to_numpy().view(np.uint64)


def _text_digests(key: bytes, column: pl.Series) -> np.ndarray:
    """One word per text; texts of as many words are hashed together, so that a text's digest is its own affair."""
    text = column.fill_null("").to_frame().to_arrow().column(0).combine_chunks().cast(pa.large_string())
    _, offset_bytes, data = text.buffers()
    offsets = np.frombuffer(offset_bytes, dtype=np.int64)[text.offset : text.offset + len(text) + 1]
    lengths = np.diff(offsets)
    raw = np.frombuffer(data or b"", dtype=np.uint8)
    digests = np.empty(len(text), dtype=np.uint64)
    sizes = -(-lengths // 8)
    for size in np.unique(sizes):
        rows = np.flatnonzero(sizes == size)
        at = np.arange(8 * size)
        words = [lengths[rows].astype(np.uint64)]
        if size:
            padded = raw[np.minimum(offsets[rows, None] + at, len(raw) - 1)]
            padded[at >= lengths[rows, None]] = 0
            words += list(np.ascontiguousarray(padded).view("<u8").T.copy())
        digests[rows] = siphash(key, words)
    return digests


def _hexadecimal(values: np.ndarray) -> pl.Series:
    # Two digits at a time, as one 16-bit word.
    pairs = np.frombuffer("".join(f"{byte:02x}" for byte in range(256)).encode(), dtype=np.uint16)
    text = pairs.take(values.astype(">u8").view(np.uint8))
    offsets = np.arange(len(values) + 1, dtype=np.int64) * 16
    array = pa.LargeStringArray.from_buffers(len(values), pa.py_buffer(offsets), pa.py_buffer(text))
    return pl.Series("trip_key", array)
