"""What feeds do to csv files, and what is still read of them."""

from __future__ import annotations

import random

import pytest

from mtgpt.errors import FeedError, SourceRefused
from mtgpt.ingest.feeds.gtfs import tables as gtfs_tables
from mtgpt.ingest.feeds.gtfs.tables import TABLES, GtfsZip
from mtgpt.ingest.guard.archive import zip_folder
from tests.ingest.gtfs_files import gtfs

HEADER = "stop_id,stop_name,stop_lat,stop_lon\n"


def stops(tmp_path, text: str | bytes) -> list[tuple]:
    with zip_folder(gtfs(tmp_path, stops=text), "feed.zip", TABLES) as folder:
        table = GtfsZip(folder, "feed.zip").table("stops.txt")
    return table.select("stop_id", "stop_name", "stop_lat", "__row").rows()


def test_a_mark_at_the_beginning_and_spaces_around_names_and_values_do_not_count(tmp_path):
    data = "\ufeff stop_id , stop_name,Stop_Lat ,stop_lon\r\n a , Main St ,1,2\r\n".encode()
    assert stops(tmp_path, data) == [("a", "Main St", "1", 0)]


def test_quoted_fields_may_hold_commas_quotes_and_line_ends(tmp_path):
    text = HEADER + '"a","A ""b"", c\nd",1,2\n"b","",1,2\n'
    assert stops(tmp_path, text) == [("a", 'A "b", c\nd', "1", 0), ("b", None, "1", 1)]


def test_pieces_are_cut_between_records_never_inside_a_quoted_line_end(tmp_path, monkeypatch):
    text = HEADER + "".join(f's{i},"name\n{i}\n\n",{i},2\n' for i in range(300))
    for size in (11, 64, 1000):
        monkeypatch.setattr(gtfs_tables, "_PIECE_BYTES", size)
        rows = stops(tmp_path, text)
        assert [row[0] for row in rows] == [f"s{i}" for i in range(300)]
        assert [row[3] for row in rows] == list(range(300))


def test_blank_short_and_long_lines_cost_nothing_but_themselves(tmp_path):
    text = HEADER + "a,A,1,2\n\n\r\nb\nc,C,1,2,3,4\n,,,\nd,D,1,2"
    assert stops(tmp_path, text) == [("a", "A", "1", 0), ("b", None, None, 3), ("c", "C", "1", 4), ("d", "D", "1", 6)]


def test_a_quote_inside_an_open_field_is_a_character(tmp_path):
    assert stops(tmp_path, HEADER + 'a,12" pipe,1,2\nb,B,1,2\n')[0][:2] == ("a", '12" pipe')


def test_columns_may_stand_in_any_order_twice_or_without_a_name(tmp_path):
    text = "stop_lat,stop_name,,stop_name,stop_id,stop_lon\n1,A,x,B,a,2\n"
    assert stops(tmp_path, text) == [("a", "A", "1", 0)]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "first line is empty"),
        ("stop_name,stop_lat\nA,1\n", "expected stop_id"),
        (HEADER + 'a,"A,1,2\nb,B,1,2\n', "never closed"),
        (HEADER.encode("utf-16"), "UTF-16"),
        ("<!DOCTYPE html><html></html>", "a web page"),
        (b"\x00\x01\x02\x03\x04", "binary"),
        (HEADER + '"' + random.Random(0).randbytes(1_500_000).hex(), "never closed"),
    ],
)
def test_what_is_no_table_is_refused_in_a_sentence(tmp_path, text, what):
    with pytest.raises(FeedError, match=what) as caught:
        stops(tmp_path, text)
    assert "stops.txt" in caught.value.sentence()


def test_a_table_that_is_too_long_is_refused(tmp_path, monkeypatch):
    monkeypatch.setitem(TABLES, "stops.txt", gtfs_tables.Table(required=("stop_id",), most_rows=2))  # type: ignore[arg-type]
    with pytest.raises(FeedError, match="too long"):
        stops(tmp_path, "stop_id\na\nb\nc\n")


def test_raw_rows_are_those_of_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(gtfs_tables, "_PIECE_BYTES", 40)
    path = gtfs(tmp_path, stops="x, stop_id,stop_name\n1, a ,A\n2,b,B\n3,c,C\n")
    with zip_folder(path, "feed.zip", TABLES) as folder:
        feed = GtfsZip(folder, "feed.zip")
        (wanted,) = (feed.table("stops.txt")["__row"].filter([True, False, True]),)
        raw = [row for piece in feed.raw_rows("stops.txt", wanted) for row in piece.rows()]
    assert raw == [("1", " a ", "A", 0), ("3", "c", "C", 2)]


def test_other_files_of_the_zip_are_never_opened(tmp_path):
    path = gtfs(tmp_path, secret="x")
    with zip_folder(path, "feed.zip", TABLES) as folder:
        assert "secret.txt" not in folder.files
        with pytest.raises(KeyError):
            folder.open("secret.txt")


def test_the_files_may_lie_in_one_folder_but_not_in_two(tmp_path):
    path = gtfs(tmp_path, **{"feed/agency": "x"})
    with pytest.raises(SourceRefused, match="several folders"), zip_folder(path, "feed.zip", TABLES):
        pass
