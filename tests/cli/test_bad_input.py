"""Whatever a feed sends: one clear sentence or rows put aside, nothing lost, and the mended feed lands afterwards."""

from __future__ import annotations

import gzip
import io
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import polars as pl
import pytest

from mtgpt.lake.lake import Lake
from mtgpt.settings import settings
from tests.cli.broken_feeds import GRID, KINDS, PACKED, STATIONS, TEXTS, feed, h5, node_link, npz, taxi_parquet
from tests.cli.command_line import Feed, assert_whole

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("home")


def _is_refused(broken: Feed, words: str, data: bytes | None = None, **changes: Any) -> None:
    batch, sentence = broken.ingest(data, **changes)
    assert batch is None
    assert words in sentence
    assert assert_whole(Lake.open(settings().lake)).height == 0


def _mended(broken: Feed, *, batches: int) -> None:
    batch, _ = broken.ingest()
    assert batch is not None
    assert batch["status"] == "committed"
    assert assert_whole(Lake.open(settings().lake)).height == batches


@pytest.mark.parametrize("kind", KINDS)
def test_a_sound_feed_of_each_kind_lands_whole(kind: str, tmp_path: Path) -> None:
    batch, _ = feed(kind, tmp_path / "feed").ingest()
    assert batch is not None
    assert (batch["status"], batch["rows_quarantined"]) == ("committed", 0)


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_file_is_refused_and_the_mended_one_lands(kind: str, tmp_path: Path) -> None:
    broken = feed(kind, tmp_path / "feed")
    _is_refused(broken, "the file is empty", b"")
    _mended(broken, batches=1)


@pytest.mark.parametrize("kind", KINDS)
def test_binary_garbage_and_web_pages_are_refused(kind: str, tmp_path: Path) -> None:
    broken = feed(kind, tmp_path / "feed")
    _is_refused(broken, broken.name, np.random.default_rng(1).bytes(4000))
    _is_refused(broken, broken.name, b"<!DOCTYPE html><html><body>404</body></html>\n")


@pytest.mark.parametrize("kind", PACKED)
def test_a_packed_file_that_was_cut_off_is_refused_and_the_whole_one_lands(kind: str, tmp_path: Path) -> None:
    broken = feed(kind, tmp_path / "feed")
    _is_refused(broken, broken.name, broken.good[: len(broken.good) * 7 // 10])
    _is_refused(broken, broken.name, broken.good[:-1])
    _mended(broken, batches=1)


@pytest.mark.parametrize("kind", TEXTS)
def test_text_in_another_encoding_is_refused_by_name(kind: str, tmp_path: Path) -> None:
    broken = feed(kind, tmp_path / "feed")
    _is_refused(broken, "got UTF-16, expected UTF-8", broken.good.decode().encode("utf-16"))
    _is_refused(broken, "got UTF-16, expected UTF-8", broken.good.decode().encode("utf-16-le"))


@pytest.mark.parametrize("kind", TEXTS)
def test_old_line_ends_are_refused_and_those_of_windows_and_a_byte_order_mark_are_not(
    kind: str, tmp_path: Path
) -> None:
    broken = feed(kind, tmp_path / "feed")
    _is_refused(broken, "carriage return", broken.good.replace(b"\n", b"\r"))
    batch, sentence = broken.ingest(b"\xef\xbb\xbf" + broken.good.replace(b"\n", b"\r\n"))
    assert sentence == ""
    assert batch is not None
    assert batch["rows_quarantined"] == 0


@pytest.mark.parametrize("kind", TEXTS)
def test_a_header_without_rows_is_refused(kind: str, tmp_path: Path) -> None:
    broken = feed(kind, tmp_path / "feed")
    lines = 2 if kind == "scats.csv" else 1
    header = b"\n".join(broken.good.split(b"\n")[:lines])
    _is_refused(broken, "no ", header)
    _is_refused(broken, "no ", header + b"\n")


@pytest.mark.parametrize("kind", TEXTS)
def test_a_line_cut_off_at_the_end_is_one_bad_row_or_named(kind: str, tmp_path: Path) -> None:
    broken = feed(kind, tmp_path / "feed")
    last = broken.good.rstrip(b"\n").rfind(b"\n") + 1
    batch, sentence = broken.ingest(broken.good[: last + 4])
    if batch is None:
        assert "line" in sentence
        assert "is not as long as the first" in sentence
    else:
        assert batch["rows_quarantined"] == 1
    _mended(broken, batches=1 if batch is None else 2)


@pytest.mark.parametrize("kind", TEXTS)
def test_a_quote_that_is_never_closed_names_its_line(kind: str, tmp_path: Path) -> None:
    broken = feed(kind, tmp_path / "feed")
    lines = broken.good.split(b"\n")
    lines[5] = lines[5].replace(b",", b',"', 1) if b'"' not in lines[5] else lines[5].replace(b'"', b"", 1)
    _is_refused(broken, "line 6", b"\n".join(lines))


@pytest.mark.parametrize("kind", [kind for kind in TEXTS if kind != "bikes_old"])
def test_lines_that_came_twice_count_as_duplicates_and_a_header_in_the_middle_is_one_bad_line(
    kind: str, tmp_path: Path
) -> None:
    broken = feed(kind, tmp_path / "feed")
    once, _ = broken.ingest()
    batch, sentence = broken.ingest(broken.good + broken.good)
    assert (sentence, once is None) == ("", False)
    ledger = assert_whole(Lake.open(settings().lake))
    assert batch is not None
    assert once is not None
    if batch["status"] == "committed":
        # All of it was there already.
        assert batch["rows_good"] == 0
        assert batch["rows_quarantined"] > 0
    assert ledger.height == 2
    spots = Lake.open(settings().lake).scan("spot").collect()["spot_id"].to_list()
    assert not [spot for spot in spots if "station" in spot or "SCATS" in spot or spot == "-1"]


@pytest.mark.parametrize("kind", ["bikes_old", "bikes_new"])
def test_a_station_name_in_latin_1_costs_its_row_and_makes_no_station(kind: str, tmp_path: Path) -> None:
    broken = feed(kind, tmp_path / "feed")
    batch, _ = broken.ingest(broken.good.replace(b"Exchange", b"Exch\xe4nge", 1))
    assert batch is not None
    assert batch["rows_quarantined"] == 1
    refused = Lake.open(settings().lake).quarantine()
    assert refused["rule_id"].to_list() == ["text_unreadable"]
    assert set(Lake.open(settings().lake).scan("spot").collect()["spot_id"]) == {"exchange-place", "harborside-north"}


def test_ids_in_latin_1_are_refused_with_their_line(tmp_path: Path) -> None:
    broken = feed("csv", tmp_path / "feed")
    _is_refused(broken, "byte 0xe4 in line 1", broken.good.replace(b"d0", b"d\xe4"))
    listed = feed("npz", tmp_path / "listed")
    _is_refused(listed, "byte 0xe4 in line 1", ids=b"d\xe4,d1,d2,d3,d4")


@pytest.mark.parametrize(
    ("cell", "bad"),
    [("abc", 1), ("-7", 1), ("inf", 1), ("1e39", 1), ("1e400", 1), ("999999", 1), ("NaN", 0), ("", 0), (" 50 ", 0)],
)
def test_a_number_that_cannot_be_costs_one_row_and_a_missing_one_none(cell: str, bad: int, tmp_path: Path) -> None:
    broken = feed("csv", tmp_path / "feed")
    lines = broken.good.decode().split("\n")
    lines[9] = ",".join([lines[9].split(",")[0], cell, *lines[9].split(",")[2:]])
    batch, _ = broken.ingest("\n".join(lines).encode())
    assert batch is not None
    assert (batch["status"], batch["rows_quarantined"]) == ("committed", bad)


@pytest.mark.parametrize(
    ("time", "bad"),
    [
        ("2024-03-31 02:30:00", 5),
        ("2024-10-27 02:30:00", 0),
        ("0001-01-01 00:00:00", 5),
        ("9999-12-31 23:55:00", 5),
        ("2099-01-01 00:00:00", 5),
        ("24:00", 5),
        ("", 5),
    ],
)
def test_a_time_that_cannot_be_costs_its_line_and_the_repeated_hour_nothing(
    time: str, bad: int, tmp_path: Path
) -> None:
    broken = feed("csv", tmp_path / "feed")
    lines = broken.good.decode().split("\n")
    lines[9] = ",".join([time, *lines[9].split(",")[1:]])
    batch, _ = broken.ingest("\n".join(lines).encode())
    assert batch is not None
    assert (batch["status"], batch["rows_quarantined"]) == ("committed", bad)


@pytest.mark.parametrize(
    ("column", "words"),
    [
        (pl.lit(1_583_020_800_000_000).alias("lpep_pickup_datetime"), "start"),
        (pl.col("lpep_pickup_datetime").dt.date(), "start"),
        (pl.col("lpep_pickup_datetime").dt.replace_time_zone("UTC"), "without a zone"),
        (pl.lit([1]).alias("PULocationID"), "PULocationID"),
        (pl.struct(a=1).alias("trip_distance"), "trip_distance"),
        (pl.lit(b"1").alias("trip_distance"), "trip_distance"),
    ],
)
def test_a_parquet_column_of_another_type_is_named(column: pl.Expr, words: str, tmp_path: Path) -> None:
    broken = feed("tlc.parquet", tmp_path / "feed")
    batch, sentence = broken.ingest(taxi_parquet(column))
    assert batch is None
    assert words in sentence
    _mended(broken, batches=1)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"data": np.array([{"a": 1}, 2], dtype=object)}, "Python objects"),
        ({"data": np.array([["a", "b"]])}, "not numbers"),
        ({"data": GRID[:, 0]}, "not a grid"),
        ({"data": GRID[:0]}, "not a grid"),
        ({"data": GRID[:, :4]}, "differ in width (got 4 columns, expected 5 ids)"),
        ({"a": GRID, "b": GRID}, "several arrays"),
        ({"data": np.stack([GRID] * 3, axis=-1)}, "got 3 channels"),
    ],
)
def test_an_npz_that_is_no_grid_of_these_places_is_refused(arrays: Any, words: str, tmp_path: Path) -> None:
    _is_refused(feed("npz", tmp_path / "feed"), words, npz(**arrays))


def test_an_hdf5_file_that_leads_nowhere_or_is_damaged_inside_is_refused(tmp_path: Path) -> None:
    broken = feed("h5", tmp_path / "feed")
    _is_refused(broken, "not there", h5(data=h5py.SoftLink("/nowhere")))
    _is_refused(broken, "another file", h5(data=h5py.ExternalLink("other.h5", "x")))
    _is_refused(broken, "holds no object", h5())
    _is_refused(broken, "not numbers", h5(data=h5py.Empty("f8")))
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        file.create_dataset("data", data=np.random.default_rng(2).random((400, 5)), compression="gzip")
    data = stream.getvalue()
    _is_refused(broken, "damaged", data[:-3000] + b"\xff" * 1000 + data[-2000:])


@pytest.mark.parametrize(
    "change", [{"v": 5}, {"v": ["x"] * 60}, {"v": [10**400] * 60}, {"x": "east"}, {"weight": "far"}]
)
def test_a_json_with_other_things_than_numbers_is_refused(change: dict[str, Any], tmp_path: Path) -> None:
    _is_refused(feed("json", tmp_path / "feed"), "s.json", node_link(**change))


@pytest.mark.parametrize(
    ("adjacency", "words"),
    [
        (b"0,1,0\n1,0,1\n0,1,0\n", "got 3 × 3, expected 5 × 5"),
        (b"0,1,0,0\n" * 4, "got 4 × 4, expected 5 × 5"),
        (b"0,1,0,0,0\n0,1\n", "row 2 is not as long"),
        (b"0,1," + b"1" * 200_000 + b"\n", "field larger"),
        (b"a,b,c,d,e\n" * 5, "not a matrix of numbers"),
        (bytes(range(256)), "binary data"),
        (b"", "the file is empty"),
    ],
)
def test_an_adjacency_that_does_not_fit_its_matrix_is_refused(adjacency: bytes, words: str, tmp_path: Path) -> None:
    broken = feed("csv", tmp_path / "feed")
    _is_refused(broken, words, adjacency=adjacency)
    _mended(broken, batches=1)


@pytest.mark.parametrize(
    ("stations", "words"),
    [
        (STATIONS + "0,1,2,3,4\n", "stands twice"),
        (STATIONS.replace("\n1,", "\n,"), "without an id"),
        (STATIONS.replace("\n1,", "\n7,"), "not those of the station list"),
        (STATIONS.split("\n", maxsplit=1)[0], "no rows"),
    ],
)
def test_a_station_list_that_does_not_fit_is_refused(stations: str, words: str, tmp_path: Path) -> None:
    _is_refused(feed("charged", tmp_path / "feed"), words, stations=stations.encode())


def test_a_gzip_inside_a_gzip_is_called_what_it_is(tmp_path: Path) -> None:
    broken = feed("tlc.csv.gz", tmp_path / "feed")
    _is_refused(broken, "binary data", gzip.compress(broken.good))
