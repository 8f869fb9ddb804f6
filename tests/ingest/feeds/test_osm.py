from __future__ import annotations

import random
import struct
import zlib
from typing import TYPE_CHECKING

import polars as pl
import pytest

from mtgpt.errors import FeedError, SourceRefused
from mtgpt.ingest.feeds.osm import adapter as osm
from mtgpt.ingest.feeds.osm import blobs as osm_blobs
from mtgpt.ingest.feeds.osm.blobs import survey
from mtgpt.ingest.feeds.osm.tags import is_drivable, lanes, max_speed_km_h, oneway, shown
from tests.ingest.feed_files import judged, read
from tests.ingest.osm_files import NODES, write_pbf

if TYPE_CHECKING:
    from pathlib import Path

STREET = {"highway": "residential"}


def roads(folder: Path, ways, nodes=NODES, *, ways_first=False, **options) -> pl.DataFrame:
    return read("osm", write_pbf(folder / "city.osm.pbf", ways, nodes, ways_first=ways_first), **options)["road"]


def good(frame: pl.DataFrame, *columns: str) -> list[tuple]:
    verdict = judged("road", frame.with_columns(source_id=pl.lit("streets")))
    assert not verdict.bad.height
    return verdict.good.sort("road_id").select(*columns).rows()


def test_ways_are_cut_where_they_meet_and_nowhere_else(tmp_path):
    frame = roads(tmp_path, [(10, [1, 2, 3, 4], STREET), (11, [5, 2, 6], STREET)])
    assert good(frame, "road_id", "from_node", "to_node", "geometry") == [
        ("10/0", "1", "2", "LINESTRING (16 48, 16.001 48)"),
        ("10/1", "2", "4", "LINESTRING (16.001 48, 16.002 48, 16.003 48)"),
        ("11/0", "5", "2", "LINESTRING (16.001 48.001, 16.001 48)"),
        ("11/1", "2", "6", "LINESTRING (16.001 48, 16.001 47.999)"),
    ]


def test_lengths_are_those_on_the_ellipsoid(tmp_path):
    (east, north) = good(roads(tmp_path, [(10, [1, 2], STREET), (11, [2, 5], STREET)]), "length_m")
    assert east == (pytest.approx(74.63, abs=0.01),)
    assert north == (pytest.approx(111.19, abs=0.01),)


def test_a_way_that_meets_itself_is_cut_there(tmp_path):
    loop = roads(tmp_path, [(10, [1, 2, 3, 7, 2, 6], STREET)])
    assert good(loop, "from_node", "to_node") == [("1", "2"), ("2", "2"), ("2", "6")]
    ring = roads(tmp_path, [(10, [2, 3, 7, 5, 2], STREET | {"junction": "roundabout"})])
    assert good(ring, "from_node", "to_node", "oneway") == [("2", "2", "forward")]


def test_a_node_that_stands_twice_in_a_row_is_no_junction(tmp_path):
    assert good(roads(tmp_path, [(10, [1, 2, 2, 3], STREET)]), "from_node", "to_node") == [("1", "3")]


def test_only_drivable_classes_are_kept_and_others_are_no_junctions(tmp_path):
    ways = [
        (10, [1, 2, 3], STREET), (11, [5, 2, 6], {"highway": "footway"}), (12, [3, 4], {"highway": "service"}),
        (13, [3, 7], STREET | {"access": "private"}), (14, [7, 8], {"building": "yes"}),
    ]  # fmt: skip
    assert good(roads(tmp_path, ways), "road_id") == [("10/0",)]
    assert good(roads(tmp_path, ways, classes=["service"]), "road_id") == [("12/0",)]
    assert good(roads(tmp_path, ways, private=True), "road_id") == [("10/0",), ("13/0",)]


def test_tags_become_columns(tmp_path):
    tags = {
        "highway": "primary", "name": "Ring\nroad\x1b ", "ref": "B1", "oneway": "-1", "lanes": "3", "maxspeed": "30 mph",
    }  # fmt: skip
    row = good(roads(tmp_path, [(10, [1, 2], tags)]), "kind", "name", "ref", "oneway", "lanes", "max_speed_km_h")
    assert row == [("primary", "Ring road", "B1", "backward", 3.0, pytest.approx(48.28))]


def test_a_box_keeps_the_pieces_that_touch_it(tmp_path):
    ways = [(10, [1, 2, 3, 4], STREET), (11, [5, 2, 6], STREET)]
    assert good(roads(tmp_path, ways, bbox=[16.0015, 47.9995, 16.01, 48.0005]), "road_id") == [("10/1",)]
    assert "road" not in read("osm", write_pbf(tmp_path / "b.osm.pbf", ways), bbox=[0, 0, 1, 1])
    with pytest.raises(ValueError, match="bbox as west, south, east, north"):
        roads(tmp_path, ways, bbox=[16.1, 48.0, 16.0, 48.1])


def test_a_way_is_cut_where_the_extract_ends_and_marked_where_nothing_of_it_is_there(tmp_path):
    nodes = {at: place for at, place in NODES.items() if at in (1, 2, 4, 7)}
    frame = roads(tmp_path, [(10, [1, 2, 3, 4], STREET), (11, [5, 6], STREET), (12, [3, 7], STREET)], nodes)
    verdict = judged("road", frame.with_columns(source_id=pl.lit("streets")))
    assert verdict.good.select("road_id", "from_node", "to_node").rows() == [("10/0", "1", "2")]
    assert sorted(verdict.bad.select("row", "rule_id").rows()) == [(1, "place_unknown"), (2, "place_unknown")]


def test_ids_as_large_as_they_can_be_take_no_more_memory(tmp_path):
    far = {2**62: (16.0, 48.0), 2**61: (16.1, 48.0), 5: (16.2, 48.0)}
    assert good(roads(tmp_path, [(2**60, [2**62, 2**61, 5], STREET)], far), "from_node", "to_node") == [
        (str(2**62), "5")
    ]


@pytest.mark.parametrize(
    ("tags", "direction"),
    [
        ({}, "both"), ({"oneway": "yes"}, "forward"), ({"oneway": "1"}, "forward"), ({"oneway": "-1"}, "backward"),
        ({"oneway": "reverse"}, "backward"), ({"oneway": "no"}, "both"), ({"oneway": "reversible"}, "both"),
        ({"junction": "roundabout"}, "forward"), ({"junction": "circular"}, "forward"),
        ({"highway": "motorway"}, "forward"), ({"highway": "motorway", "oneway": "no"}, "both"),
        ({"oneway": "🚗"}, "both"),
    ],
)  # fmt: skip
def test_the_direction_of_travel_is_written_or_implied(tags, direction):
    assert oneway({"highway": "primary"} | tags) == direction


@pytest.mark.parametrize(
    ("written", "km_h"),
    [
        ("50", 50), ("50 km/h", 50), ("30 mph", 48.28), ("30mph", 48.28), ("7.5", 7.5), ("walk", 7), ("none", None),
        ("signals", None), ("BR:urban", None), ("DE:zone30", 30), ("IT:zone:20", 20), ("", None), ("0", None), ("999", None),
        ("-50", None), ("1e9", None), ("50;30", None), ("50 furlongs", None), ("٥٠", None), ("NaN", None),
    ],
)  # fmt: skip
def test_speed_limits_are_read_where_they_are_plain(written, km_h):
    assert max_speed_km_h({"maxspeed": written}) == km_h


@pytest.mark.parametrize(
    ("written", "count"), [("2", 2), ("1.5", 1.5), ("2;3", None), ("", None), ("0", None), ("999", None)]
)
def test_lanes_are_read_where_they_are_plain(written, count):
    assert lanes({"lanes": written}) == count


@pytest.mark.parametrize(
    ("tags", "drivable"),
    [
        ({}, True), ({"access": "private"}, False), ({"access": "no"}, False), ({"access": "no", "bus": "yes"}, True),
        ({"motor_vehicle": "no"}, False), ({"motor_vehicle": "no", "psv": "designated"}, True),
        ({"access": "destination"}, True), ({"area": "yes"}, False),
    ],
)  # fmt: skip
def test_closed_roads_are_not_drivable_but_busways_are(tags, drivable):
    assert is_drivable(tags) is drivable


def test_names_are_shown_without_control_characters_and_cut():
    assert shown("a\x00\n\u202eb" + "c" * 900, 10) == "a bccccccc"
    assert shown("\x00 ", 10) is None


def blob(kind: bytes, raw: bytes, *, packed: bytes | None = None, size: int | None = None, length: int | None = None):
    body = b"\x10" + varint(len(raw) if size is None else size)
    body += b"\x1a" + varint(len(packed or zlib.compress(raw))) + (packed or zlib.compress(raw))
    head = b"\x0a" + varint(len(kind)) + kind + b"\x18" + varint(len(body) if length is None else length)
    return struct.pack(">I", len(head)) + head + body


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out) + bytes([value])


HEAD = blob(b"OSMHeader", b"\x22\x0eOsmSchema-V0.6")


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "the file is empty"),
        (b"<osm version='0.6'/>", "not an OpenStreetMap PBF"),
        (b"\x1f\x8b" + b"\0" * 50, "not an OpenStreetMap PBF"),
        (b"\0\0\0\x05abcde" * 10, "not an OpenStreetMap PBF|damaged map data"),
        (HEAD[:-3], "the map is cut off"),
        (HEAD + b"\0\0", "damaged map data"),
        (HEAD + blob(b"OSMData", b"\0" * 100, size=99), "a blob is not as long as it says"),
        (HEAD + blob(b"OSMData", b"", size=33 << 20), "a blob of 34603008 bytes"),
        (HEAD + blob(b"OSMData", b"", length=40 << 20), "a blob without a header"),
        (HEAD + blob(b"OSMData", b"x", packed=b"not zlib"), "damaged map data"),
        (HEAD + blob(b"OSMData", b"\x12\xff\x7fabc"), "longer than its message"),
        (HEAD + blob(b"OSMData", b"\xff" * 20), "damaged map data"),
        (HEAD + blob(b"OSMData", b"\x0a\x00"), "no road in the map"),
        (HEAD, "no road in the map"),
    ],
)
def test_what_is_no_map_is_one_sentence(tmp_path, data, what):
    path = tmp_path / "city.osm.pbf"
    path.write_bytes(data)
    with pytest.raises(FeedError, match=what):
        read("osm", path)


def test_ways_before_their_nodes_say_how_to_sort_them(tmp_path):
    with pytest.raises(FeedError, match=r"no road has a place.*osmium sort"):
        roads(tmp_path, [(10, [1, 2], STREET)], ways_first=True)


def test_more_than_a_city_has_is_refused_before_it_is_read(tmp_path, monkeypatch):
    path = write_pbf(tmp_path / "city.osm.pbf", [(at, [1, 2], STREET) for at in range(50)])
    found = survey(path, path.name, most_nodes=8, most_ways=50)
    assert (found.nodes, found.ways) == (8, 50)
    for caps in ({"most_nodes": 7, "most_ways": 50}, {"most_nodes": 8, "most_ways": 49}):
        with pytest.raises(SourceRefused, match=r"the map is too large.*osmium extract"):
            survey(path, path.name, **caps)
    monkeypatch.setattr(osm_blobs, "_MOST_EXPANDED", 10)
    with pytest.raises(SourceRefused, match="the map is too large"):
        survey(path, path.name, most_nodes=8, most_ways=50)
    monkeypatch.setattr(osm_blobs, "_MOST_EXPANDED", 1 << 30)
    for cap, what in (
        ("_MOST_REFERENCES", "the roads are too many"), ("_MOST_WAYS", "the map is too large"),
        ("_MOST_BYTES", "the map is too large"),
    ):  # fmt: skip
        monkeypatch.setattr(osm, cap, 5)
        with pytest.raises(SourceRefused, match=what):
            read("osm", path)


def test_a_map_cut_off_or_changed_anywhere_is_refused_in_a_sentence_or_read(tmp_path):
    chance = random.Random(7)
    whole = write_pbf(
        tmp_path / "whole.osm.pbf", [(at, [1, 2, 3, 4, 7, 8], STREET | {"name": f"Street {at}"}) for at in range(40)]
    ).read_bytes()
    path = tmp_path / "city.osm.pbf"
    refused = 0
    for turn in range(240):
        data = bytearray(whole)
        if turn % 2:
            del data[chance.randrange(1, len(whole)) :]
        else:
            for _ in range(chance.choice((1, 3, 10))):
                data[chance.randrange(len(data))] = chance.randrange(256)
        path.write_bytes(data)
        try:
            read("osm", path)
        except (FeedError, SourceRefused):
            refused += 1
        else:
            # Only the header and the compressed bytes' own padding may change without a trace.
            assert not turn % 2, f"cut at {len(data)} of {len(whole)}"
    assert refused > 200


@pytest.mark.real_data
@pytest.mark.parametrize(("name", "pieces", "kilometres"), [("poa", 13_033, 1411), ("spo", 6_434, 638)])
def test_real_extracts_are_read_without_a_bad_row(real_data, name, pieces, kilometres):
    frame = read("osm", real_data / "osm" / f"{name}_osm.pbf")["road"]
    verdict = judged("road", frame.with_columns(source_id=pl.lit("streets")))
    assert (verdict.good.height, verdict.bad.height, verdict.duplicates) == (pieces, 0, 0)
    assert verdict.good["length_m"].sum() / 1000 == pytest.approx(kilometres, abs=1)
