"""Reading data files for ``mtgpt contracts check``."""

from __future__ import annotations

import gzip

import polars as pl
import pytest

from mtgpt.contracts.datafile import read_chunks
from mtgpt.errors import FeedError


def test_csv_values_stay_texts_and_rows_are_counted(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("spot_id,value\n007,1.5\n008,\n", encoding="utf-8")
    (frame,) = read_chunks(path)
    assert frame.to_dicts() == [
        {"__row": 0, "spot_id": "007", "value": "1.5"},
        {"__row": 1, "spot_id": "008", "value": None},
    ]


def test_rows_are_counted_over_the_chunks(tmp_path):
    path = tmp_path / "a.parquet"
    pl.DataFrame({"value": range(10)}).write_parquet(path)
    frames = list(read_chunks(path, rows=4))
    assert max(frame.height for frame in frames) <= 4
    assert pl.concat(frames)["__row"].to_list() == list(range(10))


def test_compressed_csv_and_jsonl_are_read(tmp_path):
    csv, jsonl = tmp_path / "a.csv.gz", tmp_path / "a.jsonl.gz"
    csv.write_bytes(gzip.compress(b"value\n1\n2\n"))
    jsonl.write_bytes(gzip.compress(b'{"value": 1}\n\n{"value": 2}\n'))
    assert pl.concat(read_chunks(csv))["value"].to_list() == ["1", "2"]
    assert pl.concat(read_chunks(jsonl, rows=1))["value"].to_list() == [1, 2]


def test_json_values_of_mixed_types_become_texts(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1, "b": 1, "c": [1]}\n{"a": "x", "b": 2.5, "d": null}\n', encoding="utf-8")
    (frame,) = read_chunks(path)
    assert frame["a"].to_list() == ["1", "x"]
    assert frame["b"].to_list() == [1.0, 2.5]
    assert frame["c"].to_list() == ["[1]", None]
    assert frame["d"].dtype == pl.Null


def test_a_line_that_is_no_object_is_a_faulty_row(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"value": 1}\n{"value":\n[1]\n', encoding="utf-8")
    (frame,) = read_chunks(path)
    assert frame["__fault"].to_list() == [None, "json", "json"]
    assert frame["__message"][1] == 'the line is no JSON object: got {"value":'


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.txt", b"x", "The kind of file is not known"),
        ("a.csv", b"", "The file is empty"),
        ("a.parquet", b"PAR1 no", "cannot be read as parquet"),
        ("a.jsonl.gz", gzip.compress(b'{"value": 1}\n' * 1000)[:-20], "cannot be read as jsonl.gz"),
        ("a.csv.gz", gzip.compress(b"value\n" + b"1234567\n" * 1000)[:-20], "cannot be read as csv.gz"),
        ("a.csv", b"a,b\n1,2,3\n", "cannot be read as csv"),
        ("a.jsonl", b'{"value": "\xff"}\n', "cannot be read as jsonl"),
    ],
)
def test_a_broken_file_is_refused_with_one_sentence(tmp_path, name, content, says):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(FeedError, match=says) as caught:
        list(read_chunks(path))
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_refused_with_one_sentence(tmp_path):
    with pytest.raises(FeedError, match="No such file"):
        list(read_chunks(tmp_path / "nowhere.csv"))
