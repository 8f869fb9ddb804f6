# ruff: noqa: DTZ001 - a feed's local times are naive

from __future__ import annotations

from datetime import datetime

import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from mtgpt.ingest.rows.trip_key import siphash, trip_keys

MASK = (1 << 64) - 1


def reference_siphash(key: bytes, message: bytes) -> int:
    """SipHash-2-4 straight from the paper, one message of bytes at a time."""

    def rotate(value: int, bits: int) -> int:
        return (value << bits | value >> (64 - bits)) & MASK

    k0, k1 = (int.from_bytes(key[at : at + 8], "little") for at in (0, 8))
    v = [k0 ^ 0x736F6D6570736575, k1 ^ 0x646F72616E646F6D, k0 ^ 0x6C7967656E657261, k1 ^ 0x7465646279746573]

    def rounds(count: int) -> None:
        for _ in range(count):
            v[0] = (v[0] + v[1]) & MASK
            v[1] = rotate(v[1], 13) ^ v[0]
            v[0] = rotate(v[0], 32)
            v[2] = (v[2] + v[3]) & MASK
            v[3] = rotate(v[3], 16) ^ v[2]
            v[0] = (v[0] + v[3]) & MASK
            v[3] = rotate(v[3], 21) ^ v[0]
            v[2] = (v[2] + v[1]) & MASK
            v[1] = rotate(v[1], 17) ^ v[2]
            v[2] = rotate(v[2], 32)

    padded = message + bytes(7 - len(message) % 8) + bytes([len(message) % 256])
    for at in range(0, len(padded), 8):
        word = int.from_bytes(padded[at : at + 8], "little")
        v[3] ^= word
        rounds(2)
        v[0] ^= word
    v[2] ^= 0xFF
    rounds(4)
    return v[0] ^ v[1] ^ v[2] ^ v[3]


def test_the_reference_gives_the_vector_of_the_paper():
    assert reference_siphash(bytes(range(16)), bytes(range(15))) == 0xA129CA6149BE45E5


@given(key=st.binary(min_size=16, max_size=16), words=st.lists(st.integers(0, MASK), min_size=1, max_size=40))
def test_the_vectorised_hash_is_siphash(key: bytes, words: list[int]):
    message = b"".join(word.to_bytes(8, "little") for word in words)
    columns = [np.array([word, word ^ 1], dtype=np.uint64) for word in words]
    assert int(siphash(key, columns)[0]) == reference_siphash(key, message)


def test_the_same_facts_give_the_same_key_in_every_release():
    frame = pl.DataFrame(
        {"start": [datetime(2020, 3, 1, 0, 20, 18)], "zone": [41], "distance": [8.24], "ride": ["121DD7DD23CB1335"]}
    )
    # A change here makes every trip of every lake a new trip.
    assert trip_keys(frame, salt=b"mtgpt-open-data", domain="tlc").to_list() == ["59913b149f864118"]


def test_salt_and_domain_change_every_key():
    frame = pl.DataFrame({"ride": ["a", "b", "c"]})
    keys = [set(trip_keys(frame, salt=salt, domain=domain)) for salt, domain in ((b"1", "x"), (b"2", "x"), (b"1", "y"))]
    assert len(set.union(*keys)) == 9


rows = st.tuples(
    st.none() | st.integers(-(2**40), 2**40), st.none() | st.floats(allow_nan=False), st.none() | st.text(max_size=20)
)


@given(st.lists(rows, min_size=2, max_size=20, unique=True))
def test_different_facts_give_different_keys(facts: list):
    frame = pl.DataFrame(facts, schema={"a": pl.Int64, "b": pl.Float64, "c": pl.String}, orient="row")
    assert trip_keys(frame, salt=b"s", domain="d").n_unique() == frame.n_unique()


@given(st.lists(rows, min_size=1, max_size=20), st.integers(0, 19))
def test_a_key_does_not_depend_on_the_other_rows(facts: list, at: int):
    frame = pl.DataFrame(facts, schema={"a": pl.Int64, "b": pl.Float64, "c": pl.String}, orient="row")
    at %= frame.height
    assert trip_keys(frame[at], salt=b"s", domain="d")[0] == trip_keys(frame, salt=b"s", domain="d")[at]
