from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime

import polars as pl
import pytest

from mtgpt.errors import FeedError, SourceRefused
from mtgpt.ingest.feeds.pems.stations import corridor
from mtgpt.ingest.guard import table_file
from tests.ingest.feed_files import judged, read

ZONE = "America/Los_Angeles"
LANES = ",10,50,.05,60.1,1" * 3 + "," * 25
META = """ID\tFwy\tDir\tDistrict\tCounty\tCity\tState_PM\tAbs_PM\tLatitude\tLongitude\tLength\tType\tLanes\tName\tUser_ID_1
715898\t5\tN\t7\t37\t40032\t.71\t117.28\t33.880183\t-118.021787\t.430\tML\t3\tPHOEBE\t1
715900\t101\tS\t7\t37\t40032\t.71\t117.28\t33.9\t-118.1\t\tHV\t1\tMAIN\t2
715901\t60\tE\t7\t37\t\t\t\t\t\t\tOR\t2\t\t3
"""


def record(time="05/01/2012 00:00:00", station="715898", *, observed="100", flow="84", occupancy=".0312", speed="64.5",
           lane_type="ML", lanes=LANES):  # fmt: skip
    return f"{time},{station},7,5,N,{lane_type},.43,30,{observed},{flow},{occupancy},{speed}{lanes}\n"


def station_feed(folder, text: str | bytes, *, meta: str | bytes | None = None, zone=ZONE, **options):
    path = folder / "d07_text_station_5min_2012_05_01.txt"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    files = {}
    if meta is not None:
        files["stations"] = folder / "d07_text_meta_2012_05_01.txt"
        files["stations"].write_bytes(meta.encode() if isinstance(meta, str) else meta)
    return read("pems", path, zone=zone, files=files, **options)


def values(frame):
    return {row["variable"]: row["value"] for row in judged("observation", frame).good.to_dicts()}


def test_flow_is_hourly_speed_in_km_h_and_time_in_utc(tmp_path):
    frame = station_feed(tmp_path, record())["observation"]
    assert values(frame) == {
        "flow": 84 * 12, "occupancy": pytest.approx(0.0312), "speed": pytest.approx(64.5 * 1.609344),
    }  # fmt: skip
    assert frame.select("spot_id", "time_start", "interval_s", "quality").unique().rows() == [
        ("715898", datetime(2012, 5, 1, 7, tzinfo=UTC), 300, 1.0)
    ]


def test_what_pems_filled_in_has_quality_zero_or_is_left_out(tmp_path):
    text = record() + record(station="715899", observed="0") + record(station="715900", observed="33")
    quality = station_feed(tmp_path, text)["observation"].select("spot_id", "quality").unique().sort("spot_id")
    assert quality["quality"].to_list() == [1.0, 0.0, pytest.approx(0.33)]
    dropped = station_feed(tmp_path, text, filled="drop", least_observed=0.5)["observation"]
    assert dropped["spot_id"].unique().to_list() == ["715898"]


def test_what_was_not_measured_has_no_row(tmp_path):
    assert values(station_feed(tmp_path, record(flow="", speed=""))["observation"]).keys() == {"occupancy"}


def test_lane_types_are_chosen_in_records_and_stations_alike(tmp_path):
    text = record() + record(station="715900", lane_type="HV") + record(station="715901", lane_type="OR")
    frames = station_feed(tmp_path, text, meta=META, lane_types=["HV", "OR"])
    assert sorted(frames["observation"]["spot_id"].unique()) == ["715900", "715901"]
    assert sorted(frames["spot"]["spot_id"]) == ["715900", "715901"]


def test_stations_are_detectors_with_their_corridor(tmp_path):
    verdict = judged("spot", station_feed(tmp_path, record(), meta=META)["spot"])
    assert not verdict.bad.height
    first, second, third = verdict.good.sort("spot_id").to_dicts()
    assert (first["kind"], first["mode"], first["name"], first["lon"], first["lat"]) == (
        "detector", "road", "PHOEBE", -118.021787, 33.880183,
    )  # fmt: skip
    assert json.loads(first["attributes"]) == {
        "corridor": "I-5 N", "freeway": "5", "direction": "N", "lane_type": "ML", "county": "37", "lanes": 3.0,
        "postmile_mi": 117.28, "length_m": 692.0,
    }  # fmt: skip
    assert json.loads(second["attributes"])["corridor"] == "US-101 S"
    assert (third["lon"], third["name"], json.loads(third["attributes"])["corridor"]) == (None, None, "SR-60 E")


def test_without_a_list_of_stations_the_records_tell_which_there_are(tmp_path):
    spots = station_feed(tmp_path, record() + record(station="715899") + record())["spot"]
    assert spots["spot_id"].to_list() == ["715898", "715899"]
    assert json.loads(spots["attributes"][0])["corridor"] == "I-5 N"


@pytest.mark.parametrize(
    ("freeway", "name"),
    [
        ("5", "I-5 N"),
        ("101", "US-101 N"),
        ("60", "SR-60 N"),
        ("110", "I-110 N"),
        ("I5", "I5 N"),
        ("", "N"),
        ("²", "² N"),
    ],
)
def test_a_freeway_is_called_what_drivers_call_it(freeway, name):
    assert corridor(freeway, "N") == name


def clock(stamps, stations=("1", "2", "3")):
    return "".join(record(f"{stamp}:00", station) for stamp in stamps for station in stations)


def hours(frame):
    once = frame.filter((pl.col("variable") == "flow") & (pl.col("spot_id") == "2"))
    return once["time_start"].dt.strftime("%d %H:%M").to_list()


def test_the_hour_that_comes_twice_in_autumn_is_told_apart_across_pieces(tmp_path, monkeypatch):
    text = clock(f"11/04/2012 {hour}:{minute}" for hour in ("00", "01", "01", "02") for minute in ("00", "30"))
    expected = ["04 07:00", "04 07:30", "04 08:00", "04 08:30", "04 09:00", "04 09:30", "04 10:00", "04 10:30"]
    assert hours(station_feed(tmp_path, text)["observation"]) == expected
    monkeypatch.setattr(table_file, "_PIECE_BYTES", 333)
    assert hours(station_feed(tmp_path, text)["observation"]) == expected


def test_the_hour_that_is_skipped_in_spring_is_marked(tmp_path):
    text = clock(["03/11/2012 01:55", "03/11/2012 02:00", "03/11/2012 03:00"])
    verdict = judged("observation", station_feed(tmp_path, text)["observation"])
    assert verdict.by_rule() == {"time_does_not_exist": 3}
    assert verdict.good["time_start"].unique().sort().dt.strftime("%H:%M").to_list() == ["09:55", "10:00"]


def test_a_file_that_comes_in_pieces_gives_the_same_rows(tmp_path, monkeypatch):
    text = clock(f"05/01/2012 {hour:02d}:{minute:02d}" for hour in range(4) for minute in range(0, 60, 5))
    whole = station_feed(tmp_path, text)["observation"].sort("__row", "variable")
    monkeypatch.setattr(table_file, "_PIECE_BYTES", 1000)
    assert station_feed(tmp_path, text)["observation"].sort("__row", "variable").equals(whole)


def test_a_broken_line_costs_its_own_row_only(tmp_path):
    lines = [
        record(),
        record()[:40] + "\n",  # cut off inside
        "13/45/2012 99:00:00" + record()[19:],
        record(flow="8x"),
        record().strip() + ",1\n",  # a cell too many
        record(station=""),
        "\n",
        record(station="715899").rstrip("\n")[:-1],  # the last line of a download that broke off
    ]
    verdict = judged("observation", station_feed(tmp_path, "".join(lines))["observation"])
    bad = verdict.bad.select("row", "rule_id").unique().sort("row", "rule_id").rows()
    assert bad == [
        (1, "line_width"), (2, "time_unreadable"), (3, "number_unreadable"), (4, "line_width"),
        (5, "spot_id.required"), (6, "line_width"),
    ]  # fmt: skip
    assert verdict.good["spot_id"].unique().to_list() == ["715898"]


def test_absurd_numbers_and_stray_years_are_the_contract_s_to_refuse(tmp_path):
    text = record(speed="NaN") + record(station="2", flow="1e30") + record(station="3", occupancy="-1") + record(
        "05/01/2212 00:00:00", "4") + record("05/01/1912 00:00:00", "5")  # fmt: skip
    verdict = judged("observation", station_feed(tmp_path, text)["observation"])
    assert verdict.by_rule() == {
        "value.finite": 1, "value.variable_range": 2, "time_start.not_future": 3, "time_start.range": 3,
    }  # fmt: skip
    assert set(verdict.good["spot_id"]) == {"715898", "2", "3"}


def test_a_name_that_is_not_utf_8_costs_its_own_station(tmp_path):
    meta = META.encode().replace(b"PHOEBE", b"CA\xd1ADA").replace(b"33.9\t", b"north\t")
    verdict = judged("spot", station_feed(tmp_path, record(), meta=meta + b"715902\t5\n")["spot"])
    assert sorted(verdict.bad.select("row", "rule_id").rows()) == [
        (0, "text_unreadable"), (1, "number_unreadable"), (3, "line_width"),
    ]  # fmt: skip
    assert verdict.good["spot_id"].to_list() == ["715901"]


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "the file is empty"),
        (b"\n\n\n", "not a record of PeMS"),
        (b"Timestamp,Station,Flow\n1,2,3\n", "not a record of PeMS's five-minute stations"),
        (b"<html>Please log in</html>", "a web page"),
        (b"\x00\x01\x02\x03" * 100, "binary data"),
        (record().encode("utf-16"), "UTF-16"),
        (gzip.compress(record().encode() * 100)[:-30], "truncated"),
    ],
)
def test_what_is_no_pems_file_is_one_sentence(tmp_path, data, what):
    with pytest.raises(FeedError, match=what):
        station_feed(tmp_path, data)


@pytest.mark.parametrize(
    ("meta", "what"),
    [
        ("", "is empty"),
        ("ID\tFwy\n", "is empty"),
        ("ID\tFwy\n1\t5\n", "columns are missing"),
        (META.replace("\t", ","), "columns are missing"),
        (b"\x1f\x8bjunk", "damaged gzip"),
    ],
)
def test_what_is_no_list_of_stations_is_one_sentence(tmp_path, meta, what):
    with pytest.raises(FeedError, match=what):
        station_feed(tmp_path, record(), meta=meta)


def test_a_line_that_never_ends_is_refused_before_it_fills_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(table_file, "_LONGEST_LINE", 1 << 20)
    with pytest.raises(FeedError, match="a line never ends"):
        station_feed(tmp_path, record().rstrip("\n") + "," * (20 << 20))


def test_a_bomb_is_refused(tmp_path):
    with pytest.raises(SourceRefused):
        station_feed(tmp_path, gzip.compress(record().encode() * 400_000, compresslevel=9))
